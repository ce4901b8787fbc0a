package audit

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// Of one who was asked about together with others it is said that it was so, what of
// this one's record the answer went by, and under which rule.
func TestHouseholdIsExplained(t *testing.T) {
	st := registry.New()
	for _, x := range []any{
		broker.Organisation{Number: "974761076", Name: "Skatteetaten"},
		broker.Dataset{ID: "d", Owner: "974761076"},
		broker.RightsPackage{ID: "p", Version: 1, Dataset: "d", Fields: []broker.Pointer{}, Household: &broker.Household{V: 1, Most: 2,
			Each:    []broker.Derivation{{V: 1, Target: "/mine", Title: "Inntekt", Rows: "/inntekt", Op: broker.Sum, Value: "/beloep", Empty: "0"}},
			Answers: []broker.Derivation{{V: 1, Target: "/under", Title: "Under grensen", Op: broker.Sum, Value: "/mine", Below: "20000"}},
			Tests:   []broker.HouseholdTest{{Name: "ingen", Records: []json.RawMessage{[]byte("{}")}, Want: []byte(`{"under":true}`)}}}},
		broker.Agreement{ID: "g", Provider: "974761076", Consumer: "974761076", Dataset: "d", Package: broker.PackageRef{ID: "p", Version: 1}},
	} {
		c, err := registry.Put(x)
		if err != nil {
			t.Fatal(err)
		}
		events, err := st.Link(time.Unix(1, 0), "test", c)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := st.Fold(events[0]); err != nil || !ok {
			t.Fatalf("%T: %v, %v", x, ok, err)
		}
	}
	request := broker.Digest{1, 2, 3}
	x := &Explanation{state: st, decision: &broker.Decision{Kind: broker.LookupDecision, Event: broker.EventHash{1}, Request: broker.HouseholdRequest(request, 2), Agreement: "g",
		Fields: []broker.Pointer{"/under"}, Outcome: broker.Outcome{Permit: true}, Package: broker.PackageRef{ID: "p", Version: 1}}}
	if err := x.fill(); err != nil {
		t.Fatal(err)
	}
	if x.Household == nil || x.Household.Place != 2 || x.Household.Request != request || len(x.Derived) != 1 || !slices.Equal(x.Derived[0].From, []broker.Pointer{"/inntekt/beloep"}) {
		t.Fatalf("%+v, %+v", x.Household, x.Derived)
	}
	const rule = "sum(/mine) < 20000; ∀: /mine = sum(/inntekt/beloep); none: 0"
	for lang, want := range map[string]string{"nb": "en husholdning), denne som nummer 2", "nn": "ein hushald), denne som nummer 2", "en": "a household), this one as number 2"} {
		var b strings.Builder
		if err := x.Text(&b, lang); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want) || !strings.Contains(b.String(), request.String()[:30]) || strings.Count(b.String(), rule) != 1 {
			t.Errorf("%s:\n%s", lang, b.String())
		}
	}
	// What took a permit back stands by itself.
	x.decision.Request, x.Household = broker.HouseholdRequest(request, 0), nil
	if err := x.fill(); err != nil || x.Household != nil {
		t.Error(x.Household, err)
	}
}
