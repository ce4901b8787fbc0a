package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

var update = flag.Bool("update", false, "rewrite generated files")

// allowedBuiltins is what rules about agreements need: comparison, membership,
// sets and arrays. No network, clock, chance, environment, tracing or printing.
var allowedBuiltins = []string{
	"and", "array.concat", "array.slice", "assign", "count", "eq", "equal", "gt", "gte",
	"internal.member_2", "internal.member_3", "intersection", "lt", "lte", "max", "min",
	"minus", "neq", "object.get", "object.keys", "object.union", "object.union_n", "or", "plus",
	"startswith", "endswith", "union",
}

// capabilities.json is this OPA's own declaration of just those built-ins.
func TestCapabilitiesAreThisVersionsOwn(t *testing.T) {
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool { return !slices.Contains(allowedBuiltins, b.Name) })
	caps.AllowNet = []string{}
	want, err := json.MarshalIndent(struct {
		Builtins []*ast.Builtin `json:"builtins"`
		Features []string       `json:"features"`
		AllowNet []string       `json:"allow_net"`
	}{caps.Builtins, []string{ast.FeatureRegoV1}, caps.AllowNet}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("capabilities.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, _ := os.ReadFile("capabilities.json"); !bytes.Equal(have, want) {
		t.Fatal("capabilities.json is not this OPA's declaration of the allowed built-ins; look at what changed, then: go test ./policy -run Capabilities -update")
	}
	if len(caps.Builtins) != len(allowedBuiltins) {
		t.Fatalf("%d of %d allowed built-ins exist", len(caps.Builtins), len(allowedBuiltins))
	}
}
