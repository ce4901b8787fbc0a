package catalogue

import (
	"encoding/json"
	"testing"

	"datafordeler/broker"
)

// What is derived is described as what it is, beside the provider's fields.
func TestDerivedIsDescribed(t *testing.T) {
	b, err := json.Marshal(payload(&broker.RightsPackage{Derivations: []broker.Derivation{
		{V: 1, Target: "/baand", Title: "Bånd", Op: broker.Sum, Value: "/a", Bands: []broker.Band{{Name: "lav", Below: "1"}, {Name: "høy"}}},
		{V: 1, Target: "/flere", Title: "Flere", Rows: "/r", Op: broker.Count, Above: "1"},
		{V: 1, Target: "/antall", Title: "Antall", Rows: "/r", Op: broker.Count},
		{V: 1, Target: "/sum", Title: "Sum", Op: broker.Sum, Value: "/a"},
		{V: 1, Target: "/siste", Title: "Siste", Rows: "/r", Op: broker.Latest, Value: "/a", By: "/d"},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Properties map[string]property `json:"properties"`
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"baand": "string", "flere": "boolean", "antall": "integer", "sum": "string", "siste": ""} {
		if p, ok := got.Properties[name]; !ok || p.Type != want || p.Description == "" || len(p.Enum) != map[bool]int{true: 2}[name == "baand"] {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
