package policy

import (
	"encoding/json"

	"github.com/open-policy-agent/opa/v1/ast"
)

type fataler interface{ Fatal(...any) }

// jsonOf writes a value with its keys in order.
func jsonOf(t fataler, v any) string {
	if term, ok := v.(ast.Value); ok {
		plain, err := ast.JSON(term)
		if err != nil {
			t.Fatal(err)
		}
		v = plain
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
