package registry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

func refusal(t *testing.T, s *State, c Change) string {
	t.Helper()
	err := s.Check(must(s.Link(now, "test", c))[0])
	if err == nil {
		return ""
	}
	return err.Error()
}

func do(t *testing.T, s *State, changes ...Change) {
	t.Helper()
	fold(t, s, must(s.Link(now, "test", changes...))...)
}

// Whoever is no more has no agreement in force, with nobody writing a word of it; and
// nothing passes to whoever took over.
func TestEndedParty(t *testing.T) {
	s, _ := base(t)
	const bergenOrg, other = "964338531", "940493021"
	if s.Terms("bergen").Agreement.Status != broker.Active {
		t.Fatal("bergen's agreement is not in force to begin with")
	}
	before, kept := s.Terms("bergen"), s.Structure()
	do(t, s, EndUnit(UnitEnd{Organisation: bergenOrg, On: now, Successor: other}))
	if s.Terms("bergen").Agreement.Status != broker.Ended || s.Structure() == kept {
		t.Error("its agreement is still in force")
	}
	if s.Agreement("bergen").Status != broker.Active || before.Agreement.Status != broker.Active {
		t.Error("what was declared has changed")
	}
	a := *s.Agreement("bergen")
	a.Cost.Ceiling = 50
	if r := refusal(t, s, must(Put(a))); !strings.Contains(r, "needs an agreement of its own") {
		t.Errorf("an agreement of who is no more: %q", r)
	}
	a.Status = broker.Ended
	if r := refusal(t, s, must(Put(a))); r != "" {
		t.Errorf("it cannot be ended: %s", r)
	}
	for _, terms := range s.AllTerms() {
		if terms.Agreement.Consumer == other && terms.Agreement.Status == broker.Active && before.Agreement.Consumer == other {
			t.Error("the successor has an agreement")
		}
	}
	for want, c := range map[string]Change{
		"has ended already":   EndUnit(UnitEnd{Organisation: bergenOrg, On: now}),
		"before: one of the":  EndUnit(UnitEnd{Organisation: other, On: now, Successor: bergenOrg}),
		"its own successor":   EndUnit(UnitEnd{Organisation: other, On: now, Successor: other}),
		"the day on which":    EndUnit(UnitEnd{Organisation: other}),
		"organisation:":       EndUnit(UnitEnd{Organisation: "123", On: now}),
		"successor:":          EndUnit(UnitEnd{Organisation: other, On: now, Successor: "123"}),
		"has not ended":       RestoreUnit(other),
		"a register is named": SyncUnits(UnitSync{Sequence: 1}),
		"counts its updates":  SyncUnits(UnitSync{Source: "x", Sequence: -1}),
		"eleven digits":       SyncUnits(UnitSync{Source: "12345678901", Sequence: 1}),
		"of a subject":        SucceedSubject(SubjectSuccession{Successor: subjectNamed("a")}),
		"nobody is recorded":  SucceedSubject(SubjectSuccession{Subject: subjectNamed("a")}),
	} {
		if r := refusal(t, s, c); !strings.Contains(r, want) {
			t.Errorf("%q, want %q", r, want)
		}
	}
	do(t, s, RestoreUnit(bergenOrg))
	if s.Terms("bergen").Agreement.Status != broker.Active {
		t.Error("what was a mistake is not mended")
	}
	do(t, s, SyncUnits(UnitSync{Source: "x", Sequence: 7}))
	if r := refusal(t, s, SyncUnits(UnitSync{Source: "x", Sequence: 6})); !strings.Contains(r, "does not go back") {
		t.Errorf("%q", r)
	}
	if f, ok := s.UnitsFollowed(); !ok || f.Sequence != 7 {
		t.Errorf("%+v", f)
	}
	// An end that is known with its successor later.
	do(t, s, EndUnit(UnitEnd{Organisation: bergenOrg, On: now}), EndUnit(UnitEnd{Organisation: bergenOrg, On: now, Successor: other}))
	if u, _ := s.Ended(bergenOrg); u.Successor != other || len(s.EndedUnits()) != 1 {
		t.Errorf("%+v", u)
	}
}

// What was registered on a subject holds for whoever took it over, near and far, where
// the dataset says so; and for nobody else.
func TestSuccession(t *testing.T) {
	for _, follow := range []bool{true, false} {
		s, _ := base(t)
		d := *s.Dataset("inntekt")
		d.ID, d.Subject = "regnskap", broker.SubjectRule{Kind: broker.OrganisationSubject, Pointer: d.Subject.Pointer, Follow: follow}
		a := *s.Agreement("bergen")
		p := *s.Package(a.Package)
		p.Dataset, p.ID = d.ID, "regnskap"
		a.ID, a.Dataset, a.Package.ID = "regnskap", d.ID, p.ID
		sub := broker.Subscription{ID: "regnskap", Agreement: a.ID, Mailbox: "bergen", Scope: broker.Scope{Kind: broker.ScopeListed}}
		do(t, s, must(Put(d)))
		do(t, s, must(Put(p)))
		do(t, s, must(Put(a)))
		do(t, s, must(Put(sub)))
		x, y, z := subjectNamed("x"), subjectNamed("y"), subjectNamed("z")
		open := broker.Interval{From: now.Add(-time.Hour)}
		do(t, s, OpenCase(broker.Case{ID: "1", Subscription: "regnskap", Subject: x, Open: open}),
			GiveConsent(broker.Consent{ID: "k", Subject: x, Consumer: a.Consumer, Dataset: d.ID, Purpose: a.Purpose, Valid: open}),
			SucceedSubject(SubjectSuccession{Subject: x, Successor: y}), SucceedSubject(SubjectSuccession{Subject: y, Successor: z}))
		for _, k := range []broker.SubjectKey{y, z} {
			listed := slices.Contains(s.Listed(nil, d.ID, k), "regnskap")
			if listed != follow || (len(s.Cases(nil, "regnskap", k)) == 1) != follow || (len(s.Consents(nil, a.Consumer, d.ID, a.Purpose, k)) == 1) != follow {
				t.Errorf("follow %v: listed %v, cases %v", follow, listed, s.Cases(nil, "regnskap", k))
			}
		}
		if len(s.Cases(nil, "regnskap", x)) != 1 || len(s.Cases(nil, "regnskap", subjectNamed("w"))) != 0 {
			t.Error("the subject's own, or another's")
		}
		if r := refusal(t, s, SucceedSubject(SubjectSuccession{Subject: z, Successor: x})); !strings.Contains(r, "one of the two is wrong") {
			t.Errorf("%q", r)
		}
		if r := refusal(t, s, SucceedSubject(SubjectSuccession{Subject: x, Successor: y})); !strings.Contains(r, "recorded already") {
			t.Errorf("%q", r)
		}
		// The succession was wrong: another is said, and the first holds no more.
		w := subjectNamed("w")
		do(t, s, SucceedSubject(SubjectSuccession{Subject: x, Successor: w}))
		if got := len(s.Cases(nil, "regnskap", z)); got != 0 {
			t.Errorf("%d cases by a succession that was wrong", got)
		}
		if got := len(s.Cases(nil, "regnskap", w)); (got == 1) != follow {
			t.Errorf("%d cases by the one that is right", got)
		}
		if got, near := s.Successors(d.ID, x), s.Predecessors(d.ID, w); follow && (!slices.Equal(got, []broker.SubjectKey{w}) || !slices.Equal(near, []broker.SubjectKey{x})) || !follow && len(got)+len(near) > 0 {
			t.Errorf("follow %v: %v after, %v before", follow, got, near)
		}
		if got := s.Successors(d.ID, y); (len(got) == 1) != follow {
			t.Errorf("%v took over", got)
		}
		// There was no merger at all: nobody has what was the subject's.
		do(t, s, SucceedSubject(SubjectSuccession{Subject: x}))
		if got := s.Cases(nil, "regnskap", w); len(got) != 0 || len(s.Successors(d.ID, x)) != 0 {
			t.Errorf("%v by a merger that was none", got)
		}
		if _, known := s.Successor(x); known || retaken(t, s).Hash() != s.Hash() {
			t.Error("a merger that was none is still known, or an image is another state")
		}
		do(t, s, SucceedSubject(SubjectSuccession{Subject: x, Successor: w}))
		if retaken(t, s).Hash() != s.Hash() {
			t.Error("an image is another state")
		}
		// A case that ends, ends for whoever took over.
		do(t, s, EndCase("regnskap", "1", now))
		if got := s.Cases(nil, "regnskap", w); follow && (len(got) != 1 || !got[0].To.Equal(now)) {
			t.Errorf("%v", got)
		}
	}
	s, _ := base(t)
	d := *s.Dataset("inntekt")
	d.Subject.Follow = true
	if r := refusal(t, s, must(Put(d))); !strings.Contains(r, "follows no other") {
		t.Errorf("a person that follows another: %q", r)
	}
}

// What would be refused is known before anything is written.
func TestForesee(t *testing.T) {
	s := New()
	end := EndUnit(UnitEnd{Organisation: "964338531", On: now})
	if err := s.Foresee([]Change{end, RestoreUnit("964338531"), end}); err != nil {
		t.Error(err)
	}
	if err := s.Foresee([]Change{end, end}); err == nil {
		t.Error("twice ended")
	}
	if len(s.EndedUnits()) != 0 {
		t.Error("it was folded")
	}
}
