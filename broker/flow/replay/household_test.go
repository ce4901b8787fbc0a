package replay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
)

const houseText = `kind: package
id: house
version: 1
dataset: d
title: Om husholdningens beløp er under grensen
fields: []
shielding: {when: {attribute: protected, notIn: ["false"]}, remove: [/amount]}
household:
  v: 1
  most: 4
  missing: skip
  each: [{v: 1, target: /mine, title: Beløpet, op: sum, value: /amount}]
  answers: [{v: 1, target: /below, title: Samlet under 100, op: sum, value: /mine, below: "100"}]
  tests:
    - {name: under, records: [{amount: 99}], want: {below: true}}
    - {name: på grensen, records: [{amount: 60}, {amount: 40}, null], want: {below: false}}
assessment: {by: juridisk, at: 2026-01-01, review: 2030-01-01}
---
kind: subscription
id: house
agreement: house
lookup: true
scope: {kind: all}
---
`

// records are what lies in the source, by event.
func (h *history) messages() map[string]*intake.Message {
	h.t.Helper()
	topic := h.topics.Source("d")
	adm := kadm.NewClient(h.client)
	known, err := kafka.TopicIDs(h.ctx, adm, topic)
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]*intake.Message{}
	for _, span := range must(kafka.Spans(h.ctx, adm, topic)) {
		if err := h.engine.Each(h.ctx, span, func(r *kgo.Record) error {
			for _, x := range r.Headers {
				if x.Key == "ce_id" {
					out[string(x.Value)] = &intake.Message{Position: broker.Position{Dataset: "d", TopicID: known[topic], Partition: r.Partition, Offset: r.Offset},
						Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: append([]byte{}, r.Value...)}
				}
			}
			return nil
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	return out
}

// What was answered on several together is computed again together: who was permitted,
// who was denied for their own sake, and who because of them. A candidate changes the
// others with the one that it changes.
func TestHouseholds(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.endAll()
	house := strings.NewReplacer("id: small", "id: house", "cost: {model: free}", `cost: {model: per-record, payer: "958935420", ceiling: 6}`).Replace(agreementText("house", "all-work", "statute", ""))
	h.applyText(houseText + house)
	h.publish(h.record("e1", 1, 60, "4601", false), h.record("e2", 2, 39, "4601", false), h.record("e3", 3, 1, "4601", false),
		h.record("e4", 4, 1, "4601", true), h.record("e5", 5, 7, "4601", false))
	c := h.broker.Committer()
	t.Cleanup(c.Close)
	messages := h.messages()
	ask := func(want string, people ...int) {
		t.Helper()
		var qs []flow.Question
		household := 1
		for _, p := range people {
			if p == 0 { // the next household, of the same request
				household++
				continue
			}
			q := flow.Question{Subscription: "house", Subject: h.subject(p), Household: household}
			if m := messages[fmt.Sprintf("e%d", p)]; m != nil {
				q.Found = append(q.Found, must(c.Accept("d", m)))
			}
			qs = append(qs, q)
		}
		answers, err := c.Decide(h.ctx, qs)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range answers {
			word := "permit"
			if !a.Outcome.Permit {
				word = string(a.Outcome.Reasons[0])
			}
			got = append(got, word)
		}
		if s := strings.Join(got, " "); s != want {
			t.Fatalf("%v: %s, want %s", people, s, want)
		}
	}
	ask("permit permit", 1, 2)
	ask("permit permit permit", 3, 9, 5) // of 9 there is no record
	ask("household_unanswered derivation_failed household_unanswered", 1, 4, 3)
	ask("household_unanswered household_unanswered ceiling_reached", 1, 2, 3) // two are left
	ask("household_unanswered derivation_failed permit permit", 1, 4, 0, 1, 3)
	ask("ceiling_reached", 1)
	check := func(r *Report, without int64) {
		t.Helper()
		if r.Faults != 0 || len(r.Unchecked) != 1 || r.Unchecked[0].What != "not in the log" || r.Unchecked[0].Records != without {
			t.Fatalf("%d faults: %+v\n%+v", r.Faults, r.FaultSamples, r.Unchecked)
		}
	}
	r := h.replay(h.options())
	check(r, 1)
	if r.Singles["lookup"] != 15 {
		t.Errorf("%v decisions were computed again", r.Singles)
	}
	// Without shielding the protected one is answered for, and the others with him.
	o := h.options()
	o.Registry = h.documents(strings.Replace(strings.Replace(houseText[:strings.Index(houseText, "---")], "version: 1", "version: 2", 1), `shielding: {when: {attribute: protected, notIn: ["false"]}, remove: [/amount]}`+"\n", "", 1) +
		"---\n" + strings.NewReplacer("version: 1", "version: 2", "ceiling: 6", "ceiling: 60").Replace(house))
	r = h.replay(o)
	if r.Faults != 0 {
		t.Fatalf("%+v", r.FaultSamples)
	}
	got := map[string]int64{}
	for _, d := range r.Differences {
		got[strings.Join([]string{string(d.Subscription), d.Before, d.After, d.What}, " ")] += d.Count
	}
	if got["house derivation_failed permit "] != 2 || got["house household_unanswered permit "] != 5 || got["house ceiling_reached permit "] != 2 {
		t.Errorf("%v", got)
	}
	// One whose agreement is another's package is asked in another way.
	o.Registry = h.documents(strings.Replace(house, "id: house, version", "id: small, version", 1))
	if r = h.replay(o); r.Faults != 0 || len(r.Differences) == 0 {
		t.Errorf("%+v %+v", r.FaultSamples, r.Differences)
	}
}

// What was recorded and would not be computed is a fault, also where it is another
// member's outcome that does not fit.
func TestHouseholdFaults(t *testing.T) {
	a := func(o *broker.Outcome) *answer { return &answer{outcome: o} }
	j := &judge{}
	members := []member{{answer: a(denyDerivation)}, {answer: a(denyTooLarge)}, {lacks: true, decision: &broker.Decision{Outcome: broker.Outcome{Reasons: denyHousehold.Reasons}}}}
	j.settle(members)
	if members[0].answer.outcome != denyDerivation || members[1].answer.outcome != denyTooLarge {
		t.Error("a denial became another")
	}
	for _, c := range []struct {
		o    broker.Outcome
		want bool
	}{{broker.Outcome{Permit: true}, true}, {*denyHousehold, true}, {*denyDerivation, true}, {broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}, false}} {
		if mayBePermitted(&c.o) != c.want {
			t.Errorf("%+v", c.o)
		}
	}
}
