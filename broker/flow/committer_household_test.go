package flow

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// householdText is a rule across subjects over the small dataset, put to use by case.
const householdText = `
---
kind: package
id: house
version: 1
dataset: d
title: Om husholdningens beløp er under grensen
fields: []
shielding: {when: {attribute: protected, notIn: ["false"]}, remove: [/amount]}
household:
  v: 1
  most: 3
  each:
    - {v: 1, target: /mine, title: Beløpet, op: sum, value: /amount}
  answers:
    - {v: 1, target: /below, title: Samlet under 100, op: sum, value: /mine, below: "100"}
  tests:
    - {name: under, records: [{amount: 99}], want: {below: true}}
    - {name: på grensen, records: [{amount: 60}, {amount: 40}], want: {below: false}}
    - {name: en ukjent, records: [{amount: 60}, null], fails: /below}
assessment: {by: juridisk, at: 2026-01-01, review: 2030-01-01}
---
kind: agreement
id: house
provider: "974761076"
consumer: "958935420"
dataset: d
package: {id: house, version: 1}
purpose: house-work
bases: [case-statute]
responsibility: {providerController: "974761076", consumerController: "958935420"}
cost: {model: per-record, payer: "958935420", ceiling: 5}
corrections: deliver
status: active
valid: {from: 2020-01-01}
---
kind: subscription
id: house
agreement: house
lookup: true
scope: {kind: listed}
`

func newHouseholds(t *testing.T) *lookups {
	s := newLookups(t)
	s.text = strings.Replace(s.text, "purposes: [case-work]\n", "purposes: [case-work, house-work]\n", 1) + householdText
	s.declare()
	return s
}

// ask asks about a household; those named with ! without looking for records.
func (s *lookups) household(n int, people ...string) (qs []Question) {
	for _, p := range people {
		name := strings.TrimPrefix(p, "!")
		q := Question{Subscription: "house", Subject: s.subject(name), Household: n, Unread: name != p}
		if !q.Unread {
			if q.Found = s.found(name); len(q.Found) > 1 {
				q.Found = q.Found[:1]
			}
		}
		qs = append(qs, q)
	}
	return qs
}

// reasons are the outcomes of answers, in words.
func reasons(answers []Answer) string {
	var out []string
	for i := range answers {
		switch a := &answers[i]; {
		case a.Again:
			out = append(out, "again")
		case a.Outcome.Permit:
			out = append(out, "permit")
		default:
			out = append(out, string(a.Outcome.Reasons[0]))
		}
	}
	return strings.Join(out, " ")
}

// TestHousehold: one answer on several, by their rule, with a decision for each; and
// where one may not be answered for, none of anybody, which counts against nothing.
func TestHousehold(t *testing.T) {
	s := newHouseholds(t)
	s.do("open house p1", "open house p2", "open house p3", "open house p4", "open house p6")
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 amount=60\nid=e2 person=p2 amount=39\nid=e3 person=p3 amount=1\nid=e4 person=p4 amount=1 protected=true\nid=e5 person=p5 amount=1\n")
	s.drain(s.ctx)
	used := 0
	for _, c := range []struct {
		people   []string
		want     string
		together string
	}{
		// Nobody is counted of whom nothing was said: all that is refused comes first.
		{[]string{"p1", "p4"}, "household_unanswered derivation_failed", ""},                       // p4 is protected
		{[]string{"p6", "p1"}, "derivation_failed household_unanswered", ""},                       // p6 has no record
		{[]string{"p6"}, "derivation_failed", ""},                                                  //
		{[]string{"p1", "p5", "p2"}, "household_unanswered no_open_case household_unanswered", ""}, // p5 has no case
		{[]string{"!p1", "!p5"}, "household_unanswered no_open_case", ""},                          // and nothing was read
		{[]string{"!p1", "!p2"}, "again again", ""},                                                // nobody is refused
		{[]string{"p1", "p2"}, "permit permit", `{"below":true}`},                                  // 99
		{[]string{"p3", "p1", "p2"}, "permit permit permit", `{"below":false}`},                    // 100
		{[]string{"p1"}, "ceiling_reached", ""},                                                    // five are counted
	} {
		before := len(s.singles(broker.LookupDecision))
		questions := s.household(1, c.people...)
		if len(c.people) == 3 { // with another household, which counts nothing
			questions = append(s.household(2, "p1", "p4"), questions...)
		}
		answers := s.decide(questions...)
		answers = answers[len(answers)-len(c.people):]
		if got := reasons(answers); got != c.want {
			t.Errorf("%v: %s, want %s", c.people, got, c.want)
		}
		all := s.singles(broker.LookupDecision)[before:]
		if c.want == "again again" {
			if len(all) > 0 {
				t.Errorf("%v: decided, and to be asked anew: %+v", c.people, all)
			}
			continue
		}
		all = slices.DeleteFunc(all, func(d broker.Decision) bool {
			of, _ := broker.HouseholdOf(d.Request)
			with, _ := broker.HouseholdOf(answers[0].Request)
			return of != with
		})
		if len(all) != len(c.people) {
			t.Fatalf("%v: %d decisions", c.people, len(all))
		}
		household, _ := broker.HouseholdOf(answers[0].Request)
		ids := map[broker.DecisionID]bool{}
		for i, a := range answers {
			if string(a.Together) != c.together || a.Records != nil || a.Refused != nil || a.Nothing {
				t.Errorf("%v: %d: %s, %+v", c.people, i, a.Together, a)
			}
			d := &all[slices.IndexFunc(all, func(d broker.Decision) bool { return d.ID == a.Decision })]
			if of, place := broker.HouseholdOf(d.Request); of != household || place != i+1 || ids[d.ID] {
				t.Errorf("%v: request %s of %d", c.people, d.Request, i)
			}
			ids[d.ID] = true
			if d.Outcome.Permit {
				used++
				if !slices.Equal(d.Fields, []broker.Pointer{"/below"}) || d.Delivery.IsZero() || d.Event.IsZero() {
					t.Errorf("%v: %+v", c.people, d)
				}
			} else if len(d.Fields) > 0 || d.Outcome.Reasons[0] != a.Outcome.Reasons[0] || d.Subject.IsZero() {
				t.Errorf("%v: %+v", c.people, d)
			}
		}
	}
	s.control.View(func(st *registry.State) {
		if left := st.Unleased("house"); used != 5 || left != 0 {
			t.Errorf("%d were answered, %d of the ceiling of 5 are left to lease", used, left)
		}
	})
	// A record by itself gives nothing, under whatever it is asked.
	alone := s.household(0, "p1")
	if a := s.decide(alone...); reasons(a) != "again" || a[0].Records != nil {
		t.Errorf("%+v", a)
	}
	// Households are of one subscription and different subjects.
	twice := s.household(1, "p1", "p1")
	other := s.household(1, "p1", "p2")
	other[1].Subscription = "case"
	for _, qs := range [][]Question{twice, other} {
		if _, err := s.c.Decide(s.ctx, qs); !errors.Is(err, errHousehold) {
			t.Error(err)
		}
	}
	s.stop()
	s.checkAll()
}

// TestHouseholdTold: who asks is told of a refusal what it knows itself, and of what a
// record says, or whether there is one, nothing.
func TestHouseholdTold(t *testing.T) {
	o := func(r ...broker.Reason) *broker.Outcome { return &broker.Outcome{Permit: len(r) == 0, Reasons: r} }
	for _, c := range []struct {
		outcome *broker.Outcome
		want    int
	}{{nil, 0}, {o(), 0}, {o("no_open_case", "record_outside_period"), 1}, {o("derivation_failed"), 0}, {o("household_unanswered"), 0},
		{o("record_outside_period", "corrections_not_agreed"), 0}, {o("ceiling_reached"), 0}, {o("consent_withdrawn"), 1}} {
		a := Answer{Outcome: c.outcome}
		if got := a.Told(); len(got) != c.want {
			t.Errorf("%+v: %v", c.outcome, got)
		}
	}
}

// TestHouseholdWithdrawnBetween: what is withdrawn for one while the decisions are
// written takes the answer on all back, each by a decision of its own.
func TestHouseholdWithdrawnBetween(t *testing.T) {
	s := newHouseholds(t)
	s.do("open house p1", "open house p2", "open house p3")
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 amount=60\nid=e2 person=p2 amount=39\nid=e3 person=p3 amount=1\n")
	s.drain(s.ctx)
	s.c.written = func() {
		s.c.written = nil
		s.do("end house p2")
	}
	answers := s.decide(append(s.household(1, "p1", "p2"), s.household(2, "p3")...)...)
	if got := reasons(answers); got != "household_unanswered no_open_case permit" {
		t.Error(got)
	}
	if answers[0].Together != nil || answers[1].Together != nil || string(answers[2].Together) != `{"below":true}` {
		t.Errorf("%s, %s, %s", answers[0].Together, answers[1].Together, answers[2].Together)
	}
	doors := s.singles(broker.DoorDecision)
	if len(doors) != 2 || doors[0].ID == doors[1].ID || doors[0].Outcome.Reasons[0] == doors[1].Outcome.Reasons[0] {
		t.Errorf("at the door: %+v", doors)
	}
	s.stop()
	s.checkAll()
}
