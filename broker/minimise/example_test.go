package minimise_test

import (
	"fmt"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/minimise"
)

// One record under one package, for a person whose address is open and for one
// whose address is graded.
func Example() {
	dataset := &broker.Dataset{ID: "inntekt", Attributes: []broker.Attribute{{Name: "protected", Extension: "protected"}}}
	projection, err := minimise.Compile(&broker.RightsPackage{
		ID: "foreldrebetaling", Version: 1, Dataset: "inntekt",
		Fields: []broker.Pointer{"/maaned", "/arbeidsgiver", "/inntekt/beloep"},
		Shielding: &broker.Shielding{
			When:   broker.Condition{Attribute: "protected", In: []string{"true"}},
			Remove: []broker.Pointer{"/arbeidsgiver"},
		},
	}, dataset)
	if err != nil {
		fmt.Println(err)
		return
	}
	var doc jsondoc.Doc
	record := `{"inntekt": [{"beloep": 48250.00, "type": "loenn"}, {"type": "gave"}], "arbeidsgiver": "310149942", "maaned": "2026-10"}`
	if err := doc.Parse([]byte(record), 64); err != nil {
		fmt.Println(err)
		return
	}
	for _, protected := range []string{"false", "true"} {
		out, shielded, err := projection.Append(nil, &doc, []string{protected})
		fmt.Println(string(out), shielded, err)
		fmt.Println(projection.Fields(shielded))
	}
	// Output:
	// {"maaned":"2026-10","arbeidsgiver":"310149942","inntekt":[{"beloep":48250.00}]} false <nil>
	// [/maaned /arbeidsgiver /inntekt/beloep]
	// {"skjermet":true,"maaned":"2026-10","inntekt":[{"beloep":48250.00}]} true <nil>
	// [/skjermet /maaned /inntekt/beloep]
}
