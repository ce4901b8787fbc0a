package registry

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// apply plans and folds, and fails the test on any fault.
func apply(t testing.TB, s *State, docs []Document) *Plan {
	t.Helper()
	p, err := NewPlan(s, docs, "test", now)
	if err != nil {
		t.Fatalf("plan:\n%v", err)
	}
	fold(t, s, p.Events...)
	return p
}

// fold folds events as they would be read back, and wants all of them accepted.
func fold(t testing.TB, s *State, events ...Event) {
	t.Helper()
	for _, e := range events {
		b, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if e, err = Decode(b); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(e); err != nil {
			t.Fatalf("event %d, %s: %v", e.Seq, e.Type, err)
		}
		if ok, err := s.Fold(e); !ok || err != nil {
			t.Fatalf("event %d, %s: accepted %v, %v", e.Seq, e.Type, ok, err)
		}
	}
}

const demoDir = "../../deploy/demo"

func demo(t testing.TB) *State {
	t.Helper()
	docs, err := Load(demoDir)
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	s := New()
	apply(t, s, docs)
	return s
}

// The demo's declarations have no fault, and show all the cases that the demo is
// to show.
func TestDemoShowsItsCases(t *testing.T) {
	s := demo(t)
	if p := apply(t, s, must(Load(demoDir))); len(p.Events) != 0 {
		t.Errorf("applied again, it would change:\n%s", p)
	}
	in := func(i broker.Interval) bool { return i.Contains(now) }
	for name, is := range map[string]func(*broker.Terms) bool{
		"by statute for people with an open case": func(x *broker.Terms) bool {
			for _, b := range x.Bases {
				if b.RequiresCase && b.Type == broker.Lov && in(b.Valid) && x.Subscription.Scope.Kind == broker.ScopeListed {
					return true
				}
			}
			return false
		},
		"by consent": func(x *broker.Terms) bool {
			return len(x.Bases) == 1 && x.Bases[0].Type == broker.Samtykke && x.Subscription.Scope.Kind == broker.ScopeListed
		},
		"property tax by municipality": func(x *broker.Terms) bool {
			return x.Dataset.ID == "eiendomsskatt" && x.Subscription.Scope.Attribute == "municipality"
		},
		"no legal basis":        func(x *broker.Terms) bool { return len(x.Bases) == 0 },
		"statute not in force":  func(x *broker.Terms) bool { return len(x.Bases) == 1 && x.Bases[0].Valid.From.After(now) },
		"cost cover missing":    func(x *broker.Terms) bool { return x.Agreement.Cost.Model == "" },
		"a ceiling":             func(x *broker.Terms) bool { return x.Agreement.Cost.Ceiling == 40 },
		"supplier, undelegated": func(x *broker.Terms) bool { return x.Agreement.Supplier != "" && len(x.Delegations) == 0 },
		"supplier, delegated":   func(x *broker.Terms) bool { return x.Agreement.Supplier != "" && len(x.Delegations) == 1 },
		"income shielded": func(x *broker.Terms) bool {
			return x.Dataset.ID == "inntekt" && x.Package.Shielding != nil && x.Package.Shielding.When.Holds("true") && !x.Package.Shielding.When.Holds("false")
		},
		"property shielded": func(x *broker.Terms) bool {
			return x.Dataset.ID == "eiendomsskatt" && x.Package.Shielding != nil && x.Subscription.Scope.Kind == broker.ScopeAll
		},
	} {
		found := false
		for _, x := range s.AllTerms() {
			found = found || is(x)
		}
		if !found {
			t.Errorf("no subscription shows: %s", name)
		}
	}
	// What may be denied for one reason must not be deniable for another, or
	// the demo's table shows the wrong case.
	for _, x := range s.AllTerms() {
		a := &x.Agreement
		if a.Status != broker.Active || !in(a.Valid) || a.Provider != x.Dataset.Owner ||
			a.Responsibility.ProviderController == "" || a.Responsibility.ConsumerController == "" ||
			(a.Cost.Model != "" && a.Cost.Model != broker.Free && a.Cost.Payer == "") {
			t.Errorf("subscription %s would be denied for more than it is to show", x.Subscription.ID)
		}
	}
}

// What stands beside a municipality's number in the demo is that municipality's,
// and the files say what is fictitious.
func TestDemoNamesWhatIsReal(t *testing.T) {
	for _, f := range []string{"organisations.yaml", "agreements.yaml"} {
		b, err := os.ReadFile(demoDir + "/" + f)
		if err != nil || !strings.Contains(string(b), "FICTITIOUS") {
			t.Errorf("%s does not say that the agreements are fictitious (%v)", f, err)
		}
	}
	b, err := os.ReadFile("../../providers/synthetic/municipalities.tsv")
	if err != nil {
		t.Fatal(err)
	}
	number, name := map[string]string{}, map[string]string{} // by organisation number
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 4 {
			number[f[2]], name[f[2]] = f[0], f[1]
		}
	}
	s, seen := demo(t), 0
	for _, o := range s.Organisations() {
		if n := name[string(o.Number)]; n != "" && o.Name != n+" kommune" {
			t.Errorf("organisation %s is called %s, and is %s kommune", o.Number, o.Name, n)
		}
	}
	for _, x := range s.AllTerms() {
		if x.Subscription.Scope.Attribute == "municipality" {
			seen++
			if want := number[string(x.Consumer.Number)]; len(x.Subscription.Scope.Values) != 1 || x.Subscription.Scope.Values[0] != want {
				t.Errorf("subscription %s receives for %v; %s is %s", x.Subscription.ID, x.Subscription.Scope.Values, x.Consumer.Name, want)
			}
		}
	}
	if seen == 0 {
		t.Error("no subscription by municipality")
	}
}

// Applied at once or in several goes, in any cut of the order in which things rest
// on one another, declarations come to the same terms; and then nothing is left.
func TestAppliedInPartsIsAppliedAtOnce(t *testing.T) {
	docs := append(must(Load("testdata/base.yaml")), bergen(t)...)
	slices.SortStableFunc(docs, func(a, b Document) int { return a.Kind.rank() - b.Kind.rank() })
	whole, _ := base(t)
	want := raw(whole.AllTerms())
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		from := 0
		for left := rapid.IntRange(0, 2).Draw(t, "cuts"); from < len(docs); left-- {
			to := len(docs)
			if left > 0 {
				to = rapid.IntRange(from+1, len(docs)).Draw(t, "to")
			}
			p, err := NewPlan(s, docs[from:to], "test", now)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Events {
				if ok, err := s.Fold(e); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			from = to
			if rapid.Bool().Draw(t, "read") {
				s.AllTerms()
			}
		}
		if !bytes.Equal(raw(s.AllTerms()), want) {
			t.Fatal("other terms than all at once")
		}
		if p, err := NewPlan(s, docs, "test", now); err != nil || len(p.Events) > 0 {
			t.Fatalf("something is left: %v %v", p, err)
		}
	})
}

// Readers who share the owner's lock may resolve terms at the same time.
func TestReadersShare(t *testing.T) {
	s := demo(t)
	fold(t, s, must(s.Link(now, "test", GiveConsent(broker.Consent{ID: "c", Subject: subjectNamed("a"), Consumer: "310149942", Dataset: "inntekt", Purpose: "boliglaan"}),
		must(Put(*s.Organisation("974761076")))))...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if n := len(s.AllTerms()); n != 12 {
				t.Errorf("%d terms", n)
			}
			if l := s.Listed(nil, "inntekt", subjectNamed("a")); len(l) != 1 {
				t.Errorf("listed %v", l)
			}
		})
	}
	wg.Wait()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func raw(v any) json.RawMessage { return must(json.Marshal(v)) }
