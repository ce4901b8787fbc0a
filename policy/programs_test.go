package policy

import (
	"reflect"
	"testing"

	"datafordeler/broker"
)

// Subscriptions for which the same is left of the policy share it, and its answers;
// those that differ in anything that an answer shows or rests on do not.
func TestProgramsAreSharedWhereTheyAreTheSame(t *testing.T) {
	e := embeddedEngine(t)
	period := func(from string) func(*broker.Terms) {
		return func(t *broker.Terms) {
			t.Bases[0].About = &broker.AboutBound{Attribute: "period", From: from, To: "2026-12"}
		}
	}
	of := func(changes ...func(*broker.Terms)) *Prepared {
		terms := sample()
		for _, change := range changes {
			change(terms)
		}
		return compileNow(t, e, terms)
	}
	first := of(period("2026-01"))
	if p := of(period("2026-01"), func(t *broker.Terms) { t.Subscription.ID = "another" }); p.compiled.Load() != first.compiled.Load() {
		t.Error("another subscription under the same terms has a form of its own")
	}
	others := map[string]*Prepared{
		"a basis of another name": of(func(t *broker.Terms) {
			b := t.Bases[0]
			b.ID = "another"
			use(t, b)
		}, period("2026-01")),
		"another period":         of(period("2026-10")),
		"another end of a basis": of(period("2026-01"), func(t *broker.Terms) { t.Bases[0].Valid.To = noon }),
		"attributes the other way round": of(period("2026-01"), func(t *broker.Terms) {
			d := *t.Dataset
			d.Attributes = []broker.Attribute{d.Attributes[1], d.Attributes[0]}
			t.Dataset = &d
		}),
	}
	for name, p := range others {
		if p.compiled.Load() == first.compiled.Load() || p.compiled.Load().program == first.compiled.Load().program {
			t.Errorf("%s: it shares the program of terms that say something else", name)
		}
	}
	others["the first"] = first
	for range 2 { // the second time by what was kept
		for name, p := range others {
			for _, attributes := range [][]string{{"2026-09", "0301"}, {"2026-11", "0301"}, {"0301", "2026-11"}, {"2027-01", "2027-01"}} {
				f := sampleFacts()
				f.Attributes = attributes
				got, err := p.Decide(t.Context(), f, nil)
				if err != nil {
					t.Fatal(err)
				}
				want, err := p.DecideFull(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s, %v: %+v, in full %+v", name, attributes, got, want)
				}
				if got != want {
					t.Errorf("%s, %v: equal answers are two", name, attributes)
				}
			}
		}
	}
}
