package audit

import (
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// What was derived is said to be, from what and by which rule, in each language; what
// left as it stood is not.
func TestDerivedIsExplained(t *testing.T) {
	st := registry.New()
	for _, x := range []any{
		broker.Organisation{Number: "974761076", Name: "Skatteetaten"},
		broker.Dataset{ID: "d", Owner: "974761076"},
		broker.RightsPackage{ID: "p", Version: 1, Dataset: "d", Fields: []broker.Pointer{"/a"}, Derivations: []broker.Derivation{
			{V: 1, Target: "/under", Title: "Under grensen", Rows: "/inntekt", Op: broker.Sum, Value: "/beloep", Empty: "0", Below: "20000",
				Where: []broker.RowCondition{{Field: "/fordel", In: []string{"kontantytelse"}}}}},
			Tests: []broker.DerivationTest{{Name: "ingen", Record: []byte("{}"), Want: []byte(`{"under":true}`)}}},
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
	x := &Explanation{state: st, decision: &broker.Decision{Agreement: "g", Fields: []broker.Pointer{"/a", "/under"},
		Outcome: broker.Outcome{Permit: true}, Package: broker.PackageRef{ID: "p", Version: 1}}}
	if err := x.fill(); err != nil {
		t.Fatal(err)
	}
	if len(x.Derived) != 1 || x.Derived[0].Field != "/under" {
		t.Fatalf("%+v", x.Derived)
	}
	const rule = "sum(/inntekt[/fordel in (kontantytelse)]/beloep) < 20000; none: 0"
	for lang, want := range map[string]string{
		"nb": "Under grensen: avledet av /inntekt/beloep /inntekt/fordel, etter regelen " + rule,
		"nn": "Under grensen: utleidd av /inntekt/beloep /inntekt/fordel, etter regelen " + rule,
		"en": "Under grensen: derived from /inntekt/beloep /inntekt/fordel, by the rule " + rule,
	} {
		var b strings.Builder
		if err := x.Text(&b, lang); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "\n  /under\n    "+want+"\n") || strings.Count(b.String(), rule) != 1 {
			t.Errorf("%s:\n%s", lang, b.String())
		}
	}
}
