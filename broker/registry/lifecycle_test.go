package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

const (
	skatt broker.OrgNumber = "974761076"
	by1   broker.OrgNumber = "964338531" // Bergen
)

// regimeBase is base.yaml and regime.yaml: a dataset whose agreements come about by
// steps, with four eyes.
func regimeBase(t testing.TB) (*State, []Event) {
	s := New()
	p := apply(t, s, must(Load("testdata/base.yaml")))
	q := apply(t, s, must(Load("testdata/regime.yaml")))
	return s, append(p.Events, q.Events...)
}

var (
	concepts   = map[broker.Pointer]string{"/person": "https://begrep.example/person", "/sum": "https://begrep.example/sum"}
	wholeTerms = broker.Agreement{ID: "x", Provider: skatt, Consumer: by1, Dataset: "barn", Package: broker.PackageRef{ID: "sum", Version: 1}, Purpose: "foreldrebetaling",
		Bases: []broker.LegalBasisID{"barnelov"}, Responsibility: broker.Responsibility{ProviderController: skatt, ConsumerController: by1},
		Cost: broker.Cost{Model: broker.PerRecord, Payer: by1}, Corrections: broker.DeliverCorrections, Status: broker.Proposed, Valid: broker.Interval{To: now.Add(1000 * time.Hour)}}
)

// walker takes steps on agreement x, and keeps the log.
type walker struct {
	t   testing.TB
	s   *State
	log []Event
	at  time.Time
}

func (w *walker) take(v broker.AgreementStep) (refused error) {
	v.Agreement = "x"
	if v.Number == 0 {
		v.Number = w.s.NextStep("x")
	}
	if v.On.IsZero() && v.Terms == nil {
		v.On = w.s.StepDigest("x", v.Step)
	}
	return w.change(TakeStep(v))
}

func (w *walker) change(c Change) (refused error) {
	e := must(w.s.Link(w.at, "test", c))[0]
	e = must(Decode(must(Encode(e))))
	refused = w.s.Check(e)
	accepted, err := w.s.Fold(e)
	if err != nil || accepted != (refused == nil) {
		panic(fmt.Sprint(accepted, refused, err))
	}
	if accepted {
		w.log = append(w.log, e)
	}
	return refused
}

// oracle is what must have been done for an activation, told from the steps alone:
// without digests, and without Missing.
func oracle(steps []Stepped, s *State) (lacks []string) {
	want := func(ok bool, what string) {
		if !ok {
			lacks = append(lacks, what)
		}
	}
	offer, mapped := -1, -1
	var terms, inForce broker.Agreement
	assessed := map[broker.Side]*Stepped{}
	covered := map[broker.Cost][]broker.OrgNumber{}
	last := map[string]int{} // step and organisation → where it was last taken
	for i := range steps {
		v := &steps[i]
		switch v.Step {
		case broker.StepProposed, broker.StepAmended:
			terms, offer = *v.Terms, i
		case broker.StepRenewed:
			terms, offer = inForce, i
			terms.Valid.To = v.Until
		case broker.StepActivated:
			inForce = terms
		case broker.StepDeclined:
			terms = inForce
		case broker.StepAssessed:
			if len(terms.Bases) > 0 { // what was assessed of the same terms before counts
				assessed[v.Assessment.Side] = v
			}
		case broker.StepCost:
			covered[terms.Cost] = append(covered[terms.Cost], v.Organisation)
		case broker.StepMapped:
			mapped = i
		}
		last[string(v.Step)+string(v.Organisation)] = i + 1
	}
	if offer < 0 || mapped < 0 {
		return []string{"an offer and a mapping"}
	}
	for _, side := range []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality, broker.Compatibility} {
		want(assessed[side] != nil && assessed[side].Assessment.Holds, "assessed "+string(side))
	}
	for f, c := range concepts {
		want(slices.ContainsFunc(steps[mapped].Mapping, func(m broker.FieldMeaning) bool { return m.Field == f && m.Concept == c }), "mapped "+string(f))
	}
	other := skatt
	if steps[mapped].Organisation == skatt {
		other = by1
	}
	approved, now := false, []broker.FieldMeaning(nil)
	for _, v := range steps { // the same content, approved before, is approved
		if v.Step == broker.StepMapped {
			now = v.Mapping
		}
		approved = approved || v.Step == broker.StepMapping && v.Organisation == other && slices.Equal(now, steps[mapped].Mapping)
	}
	want(approved, "mapping approved")
	want(last[string(broker.StepPackage)+string(skatt)] > 0, "package approved")
	payer := terms.Cost.Payer
	if payer == "" {
		payer = skatt
	}
	want(terms.Cost.Model != "" && slices.Contains(covered[terms.Cost], payer), "cost covered")
	for _, n := range []broker.OrgNumber{skatt, by1} {
		at := last[string(broker.StepAccepted)+string(n)] - 1
		want(at > offer, "accepted by "+string(n))
		// With four eyes, some acceptance of it is by another function than the offer's.
		want(steps[offer].Organisation != n || slices.ContainsFunc(steps[offer+1:], func(v Stepped) bool {
			return v.Step == broker.StepAccepted && v.Organisation == n && !strings.EqualFold(v.By, steps[offer].By)
		}), "four eyes of "+string(n))
	}
	want(terms.Responsibility.ProviderController != "" && terms.Responsibility.ConsumerController != "", "controllers")
	want(len(terms.Bases) > 0, "a basis")
	return lacks
}

func anyStep(t *rapid.T, s *State) broker.AgreementStep {
	v := broker.AgreementStep{
		Step:         rapid.SampledFrom(broker.Steps).Draw(t, "step"),
		Organisation: rapid.SampledFrom([]broker.OrgNumber{skatt, by1, skatt, by1, "940493021"}).Draw(t, "org"),
		By:           rapid.SampledFrom([]string{"Avtaler", "avtaler", "Jus", "Ledelsen"}).Draw(t, "by"),
	}
	if rapid.IntRange(0, 19).Draw(t, "stale") == 0 {
		v.Number = max(s.NextStep("x")-1, 1)
	}
	h := stepRules[v.Step]
	if h.terms {
		a := wholeTerms
		a.Cost.Ceiling = rapid.Int64Range(0, 1).Draw(t, "ceiling")
		switch rapid.IntRange(0, 7).Draw(t, "terms") {
		case 0:
			a.Cost = broker.Cost{}
		case 1:
			a.Cost = broker.Cost{Model: broker.Free}
		case 2:
			a.Responsibility.ConsumerController = ""
		case 3:
			a.Bases = nil
		}
		v.Terms = &a
	}
	if h.until {
		v.Until = now.Add(time.Duration(rapid.IntRange(-1, 9).Draw(t, "until")) * 500 * time.Hour)
	}
	if h.why {
		v.Why = "derfor"
	}
	if h.assessment {
		side := rapid.SampledFrom(assessable).Draw(t, "side")
		v.Assessment = &broker.SideAssessment{Side: side, Basis: "barnelov", Holds: rapid.IntRange(0, 4).Draw(t, "holds") > 0, Note: "n"}
		if side == broker.Compatibility {
			v.Assessment.Basis = ""
		}
	}
	if h.mapping {
		for _, f := range []broker.Pointer{"/person", "/sum"} {
			if k := rapid.IntRange(0, 5).Draw(t, "map"); k > 0 {
				m := broker.FieldMeaning{Field: f, Concept: concepts[f]}
				if k == 1 {
					m.Concept += "/annet"
				}
				v.Mapping = append(v.Mapping, m)
			}
		}
	}
	return v
}

// Whatever steps are tried, an agreement is activated only with everything in place;
// what is in force changes by activation, renewal of it and nothing else; and who folds the
// log again comes to the same.
func TestNothingIsActivatedWithSomethingMissing(t *testing.T) {
	activated := 0
	rapid.Check(t, func(t *rapid.T) {
		s, log := regimeBase(nopT{})
		w := &walker{s: s, log: log, at: now}
		var inForce *broker.Agreement
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			w.at = w.at.Add(time.Minute)
			before := s.Lifecycle("x")
			v := anyStep(t, s)
			// Now and then what is advised is done, so that activation is reached.
			advised := rapid.IntRange(0, 2).Draw(t, "advised") > 0
			var err error
			if advised && s.Agreement("x") != nil {
				lacks := s.Missing("x", w.at)
				if len(lacks) > 0 {
					v = follow(t, s, lacks[rapid.IntRange(0, len(lacks)-1).Draw(t, "which")])
				} else {
					v = broker.AgreementStep{Step: broker.StepActivated, Organisation: skatt, By: "Ledelsen"}
				}
			}
			err = w.take(v)
			if err != nil {
				if s.Lifecycle("x") != before {
					t.Fatal("a refused step left something")
				}
				continue
			}
			l, a := s.Lifecycle("x"), s.Agreement("x")
			if v.Number != 0 && v.Number != len(l.Steps) {
				t.Fatalf("step %d was taken as number %d", v.Number, len(l.Steps))
			}
			switch v.Step {
			case broker.StepActivated:
				activated++
				if l.Offer != nil {
					t.Fatal("what was activated is still an offer")
				}
				if lacks := oracle(before.Steps, s); len(lacks) > 0 {
					t.Fatalf("activated without %v", lacks)
				}
				want := *before.Offer
				want.Status = a.Status
				if !equal(want, *a) || a.Status != broker.Active && len(l.Suspended) == 0 {
					t.Fatalf("activated %+v, which was not the offer %+v", *a, want)
				}
				inForce = a
			default:
				if a.Status == broker.Active && inForce == nil {
					t.Fatalf("active by %s", v.Step)
				}
				if inForce != nil {
					now := *a
					now.Status = inForce.Status
					if !equal(now, *inForce) {
						t.Fatalf("the step %s changed what is in force", v.Step)
					}
				}
			}
			if (a.Status == broker.Active) == (len(l.Suspended) > 0) && a.Status != broker.Proposed && a.Status != broker.Accepted && a.Status != broker.Ended {
				t.Fatalf("%s, suspended by %v", a.Status, l.Suspended)
			}
		}
		again := New()
		for _, e := range w.log {
			if ok, err := again.Fold(e); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		if again.Hash() != s.Hash() {
			t.Fatal("folding the log again gives another state")
		}
	})
	if activated == 0 {
		t.Error("nothing was ever activated: the test shows nothing")
	}
}

// nopT lets the fixtures of tests be used in a property.
type nopT struct{ testing.TB }

func (nopT) Helper() {}
func (nopT) Fatal(args ...any) {
	panic(fmt.Sprint(args...))
}
func (nopT) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (nopT) Errorf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// follow does what a lack says, by whom it says.
func follow(t interface{ Fatalf(string, ...any) }, s *State, l Lack) broker.AgreementStep {
	v := broker.AgreementStep{Organisation: l.By, By: "Ledelsen"}
	if l.By == "" {
		v.Organisation = by1
	}
	if o := s.Lifecycle("x"); o.Offered > 0 && strings.EqualFold(o.Steps[o.Offered-1].By, v.By) {
		v.By = "Jus"
	}
	for _, side := range assessable {
		if strings.Contains(l.Do, doAssess(side)) {
			v.Step, v.Assessment = broker.StepAssessed, &broker.SideAssessment{Side: side, Basis: "barnelov", Holds: true, Note: "n"}
			if side == broker.Compatibility {
				v.Assessment.Basis = ""
			}
			return v
		}
	}
	switch {
	case strings.Contains(l.Do, "step amended"):
		a := wholeTerms
		v.Step, v.Terms = broker.StepAmended, &a
	case strings.Contains(l.Do, "step mapped"):
		v.Step = broker.StepMapped
		for _, f := range []broker.Pointer{"/person", "/sum"} {
			v.Mapping = append(v.Mapping, broker.FieldMeaning{Field: f, Concept: concepts[f]})
		}
	case strings.Contains(l.Do, "mapping-approved"):
		v.Step = broker.StepMapping
	case strings.Contains(l.Do, "accepted"):
		v.Step = broker.StepAccepted
	case strings.Contains(l.Do, "cost-covered"):
		v.Step = broker.StepCost
	case strings.Contains(l.Do, "package-approved"):
		v.Step = broker.StepPackage
	default:
		t.Fatalf("nothing to do about %+v", l)
	}
	return v
}

// From wherever random steps led, doing what is said to be missing, by whom it is said,
// leads to an active agreement: the list is whole, and each of its lines can be acted on.
func TestWhatIsMissingCanBeDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, log := regimeBase(nopT{})
		w := &walker{s: s, log: log, at: now}
		first := broker.AgreementStep{Step: broker.StepProposed, Organisation: by1, By: "Avtaler", Terms: &wholeTerms}
		if err := w.take(first); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			_ = w.take(anyStep(t, s))
		}
		if a := s.Agreement("x"); a.Status == broker.Ended || s.Lifecycle("x").Offer == nil {
			return // declined, ended, or in force already
		}
		for range 40 {
			lacks := s.Missing("x", w.at)
			if len(lacks) == 0 {
				break
			}
			if err := w.take(follow(t, s, lacks[0])); err != nil {
				t.Fatalf("%+v: %v", lacks[0], err)
			}
		}
		if err := w.take(broker.AgreementStep{Step: broker.StepActivated, Organisation: by1, By: "Avtaler"}); err != nil {
			t.Fatal(err)
		}
	})
}

// A step that was written on less than stands is refused, and the same terms acceded to
// by many give the same agreement, but for whose it is.
func TestAccessionsAreAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, log := regimeBase(nopT{})
		w := &walker{s: s, log: log, at: now}
		yes := func(side broker.Side, b broker.LegalBasisID) broker.SideAssessment {
			return broker.SideAssessment{Side: side, Basis: b, Holds: true, Note: "n"}
		}
		f := broker.Framework{ID: "f", Title: "F", Provider: skatt, Dataset: "barn", Package: broker.PackageRef{ID: "sum", Version: 1}, Purpose: "foreldrebetaling",
			Bases:       []broker.LegalBasisID{"barnelov"},
			Cost:        broker.Cost{Model: rapid.SampledFrom([]broker.CostModel{broker.Free, broker.PerRecord}).Draw(t, "model"), Ceiling: rapid.Int64Range(0, 9).Draw(t, "ceiling")},
			Corrections: broker.DeliverCorrections, Eligible: []string{"kommune"}, By: "Jus",
			Assessments: []broker.SideAssessment{yes(broker.Disclosure, "barnelov"), yes(broker.Collection, "barnelov"), yes(broker.Confidentiality, "barnelov"), yes(broker.Compatibility, "")},
			Mapping:     []broker.FieldMeaning{{Field: "/person", Concept: concepts["/person"]}, {Field: "/sum", Concept: concepts["/sum"]}}}
		if err := w.change(must(Put(f))); err != nil {
			t.Fatal(err)
		}
		for _, n := range []broker.OrgNumber{by1, "940493021"} {
			v := broker.Accession{Framework: "f", Agreement: broker.AgreementID("f-" + n), Organisation: n, By: "Ledelsen", On: s.FrameworkDigest(s.Framework("f"))}
			if rapid.Bool().Draw(t, "supplier") {
				v.Supplier = "313876144"
			}
			if err := w.change(Accede(v)); err != nil {
				t.Fatal(err)
			}
		}
		p := s.Parties("f")
		if len(p) != 2 || p[0].Terms != p[1].Terms || len(p[0].Deviations)+len(p[1].Deviations) > 0 {
			t.Fatalf("%+v", p)
		}
		// Terms that have a party do not change.
		f.Cost.Ceiling++
		if err := w.change(must(Put(f))); err == nil {
			t.Fatal("the terms of a framework with parties changed")
		}
		f.Cost.Ceiling--
		f.Closed = true
		if err := w.change(must(Put(f))); err != nil {
			t.Fatal(err)
		}
		// One that goes its own way by steps shows.
		a := *s.Agreement("f-964338531")
		a.Status, a.Corrections = broker.Proposed, broker.RefuseCorrections
		if err := w.change(must(Put(a))); err == nil {
			t.Fatal("a declaration changed what was acceded to")
		}
	})
}

// What is approved is approved as it stands: when the law or the rights package changes, the
// steps that were on it count no more.
func TestStepsAreOnWhatStands(t *testing.T) {
	s, log := regimeBase(t)
	w := &walker{t: t, s: s, log: log, at: now}
	if err := w.take(broker.AgreementStep{Step: broker.StepProposed, Organisation: by1, By: "Avtaler", Terms: &wholeTerms}); err != nil {
		t.Fatal(err)
	}
	for lacks := s.Missing("x", now); len(lacks) > 0; lacks = s.Missing("x", now) {
		if err := w.take(broker.AgreementStep{Step: broker.StepActivated, Organisation: by1, By: "Avtaler"}); err == nil {
			t.Fatalf("activated without %v", lacks)
		}
		v := follow(t, s, lacks[0])
		v.Number = s.NextStep("x") - 1
		if err := w.take(v); err == nil {
			t.Fatal("a step was taken by whoever had not seen the last one")
		}
		v.Number = 0
		if err := w.take(v); err != nil {
			t.Fatal(err)
		}
	}
	if s.Agreement("x").Status != broker.Accepted {
		t.Fatalf("all is in place, and it is %s", s.Agreement("x").Status)
	}
	// The same offer made again is another offer: nobody has accepted that yet.
	again := wholeTerms
	if err := w.take(broker.AgreementStep{Step: broker.StepAmended, Organisation: by1, By: "Avtaler", Terms: &again}); err != nil {
		t.Fatal(err)
	}
	if l := s.Missing("x", now); len(l) != 2 || l[0].Code != "acceptance" || l[1].Code != "acceptance" {
		t.Errorf("the offer was made again, and missing is %v", l)
	}
	for lacks := s.Missing("x", now); len(lacks) > 0; lacks = s.Missing("x", now) {
		if err := w.take(follow(t, s, lacks[0])); err != nil {
			t.Fatal(err)
		}
	}
	// An objection counts, also by the function that made the offer, until it is met.
	collection := func(by string, holds bool) {
		t.Helper()
		v := broker.SideAssessment{Side: broker.Collection, Basis: "barnelov", Holds: holds, Note: "n"}
		if err := w.take(broker.AgreementStep{Step: broker.StepAssessed, Organisation: by1, By: by, Assessment: &v}); err != nil {
			t.Fatal(err)
		}
	}
	collection("Avtaler", false)
	if l := s.Missing("x", now); len(l) != 1 || !strings.Contains(l[0].What, "does not hold") {
		t.Errorf("an objection was made, and missing is %v", l)
	}
	collection("Jus", true)
	if l := s.Missing("x", now); len(l) != 0 {
		t.Errorf("the objection was met, and missing is %v", l)
	}
	b := *s.bases["barnelov"]
	b.Paragraph = "§ 9"
	if err := w.change(must(Put(b))); err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, l := range s.Missing("x", now) {
		codes = append(codes, l.Code)
		if l.Do == "" || l.What == "" {
			t.Errorf("%+v says not what to do", l)
		}
	}
	if want := "assessment assessment assessment compatibility acceptance acceptance"; strings.Join(codes, " ") != want {
		t.Errorf("missing %v, want %s", codes, want)
	}
	if err := w.take(broker.AgreementStep{Step: broker.StepActivated, Organisation: by1, By: "Avtaler"}); err == nil {
		t.Error("activated on a law that nobody assessed")
	}
	// A lapsed basis is missing; one that is to come is not.
	b.Paragraph, b.Valid = "", broker.Interval{From: now.Add(time.Hour)}
	if err := w.change(must(Put(b))); err != nil {
		t.Fatal(err)
	}
	has := func(at time.Time) bool {
		return slices.ContainsFunc(s.Missing("x", at), func(l Lack) bool { return l.Code == "basis" })
	}
	if has(now) {
		t.Error("a basis that is to come is missing")
	}
	b.Valid = broker.Interval{From: now.Add(-time.Hour), To: now.Add(time.Hour)}
	if err := w.change(must(Put(b))); err != nil {
		t.Fatal(err)
	}
	if has(now) || !has(now.Add(time.Hour)) {
		t.Error("a basis is missing from when it lapses on")
	}
}

// Where steps are asked for, no declaration makes an agreement active: not one that was
// declared as proposed, nor one that was proposed by a step. It may be suspended, go on,
// and end.
func TestDeclarationsTakeNoStep(t *testing.T) {
	for _, byStep := range []bool{false, true} {
		s, log := regimeBase(t)
		w := &walker{t: t, s: s, log: log, at: now}
		declare := func(status broker.AgreementStatus) error {
			a := wholeTerms
			a.Status = status
			return w.change(must(Put(a)))
		}
		refused := func(statuses ...broker.AgreementStatus) {
			t.Helper()
			for _, status := range statuses {
				if declare(status) == nil {
					t.Fatalf("declared as %s (proposed by a step: %v)", status, byStep)
				}
			}
		}
		accepted := func(statuses ...broker.AgreementStatus) {
			t.Helper()
			for _, status := range statuses {
				if err := declare(status); err != nil {
					t.Fatal(err)
				}
			}
		}
		refused(broker.Active, broker.Accepted, broker.Suspended)
		if byStep {
			if err := w.take(broker.AgreementStep{Step: broker.StepProposed, Organisation: by1, By: "Avtaler", Terms: &wholeTerms}); err != nil {
				t.Fatal(err)
			}
		} else {
			accepted(broker.Proposed)
		}
		refused(broker.Active, broker.Accepted, broker.Suspended)
		if !byStep {
			if err := w.take(broker.AgreementStep{Step: broker.StepProposed, Organisation: by1, By: "Avtaler", Terms: &wholeTerms}); err != nil {
				t.Fatal(err)
			}
		}
		for lacks := s.Missing("x", now); len(lacks) > 0; lacks = s.Missing("x", now) {
			if err := w.take(follow(t, s, lacks[0])); err != nil {
				t.Fatal(err)
			}
		}
		refused(broker.Active)
		if err := w.take(broker.AgreementStep{Step: broker.StepActivated, Organisation: by1, By: "Avtaler"}); err != nil {
			t.Fatal(err)
		}
		refused(broker.Proposed, broker.Accepted)
		accepted(broker.Suspended, broker.Active)
		if err := w.take(broker.AgreementStep{Step: broker.StepSuspended, Organisation: by1, By: "Avtaler", Why: "w"}); err != nil {
			t.Fatal(err)
		}
		refused(broker.Active) // a party's suspension is the party's to lift
		accepted(broker.Ended)
	}
}
