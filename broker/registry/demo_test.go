package registry

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

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

// Names in the demo are those of the municipalities whose numbers they stand
// beside, and the file says what is fictitious.
func TestDemoSaysWhatIsFictitious(t *testing.T) {
	for _, f := range []string{"organisations.yaml", "agreements.yaml"} {
		b, err := os.ReadFile(demoDir + "/" + f)
		if err != nil || !strings.Contains(string(b), "FICTITIOUS") {
			t.Errorf("%s does not say that the agreements are fictitious (%v)", f, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func raw(v any) json.RawMessage { return must(json.Marshal(v)) }
