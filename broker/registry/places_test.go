package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

func compiled(t interface{ Fatal(...any) }, document string) *jsonschema.Schema {
	s, err := compile(&broker.Schema{Version: "1", Document: []byte(document)})
	if err != nil {
		t.Fatal(err, document)
	}
	return s
}

// TestLeaf: whether an object can stand at /a.
func TestLeaf(t *testing.T) {
	for document, want := range map[string]bool{
		`{"properties":{"a":{"type":"string"}}}`:                                                   true,
		`{"properties":{"a":{"type":["integer","null"]}}}`:                                         true,
		`{"properties":{"a":{"const":1}}}`:                                                         true,
		`{"properties":{"a":{"enum":["x",null,[1]]}}}`:                                             true,
		`{"properties":{"a":{"enum":["x",{}]}}}`:                                                   false,
		`{"properties":{"a":{}}}`:                                                                  false,
		`{"properties":{"a":true}}`:                                                                false,
		`{"properties":{"a":{"minLength":1}}}`:                                                     false,
		`{"properties":{"a":{"type":"object","additionalProperties":false}}}`:                      false,
		`{"properties":{"a":{"type":"array"}}}`:                                                    false,
		`{"properties":{"a":{"type":"array","items":{"type":"number"}}}}`:                          true,
		`{"properties":{"a":{"type":"array","items":{"type":"object"}}}}`:                          false,
		`{"properties":{"a":{"type":"array","items":{"type":"array","items":{"type":"string"}}}}}`: false,
		`{"properties":{"a":{"type":"array","prefixItems":[{"type":"string"}],"items":false}}}`:    true,
		`{"properties":{"a":{"type":"array","prefixItems":[{"type":"string"}]}}}`:                  false,
		`{"properties":{"a":{"type":"array","prefixItems":[{"type":"object"}],"items":false}}}`:    false,
		`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"type":"array","items":[{"type":"string"}],"additionalItems":false}}}`: true,
		`{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"type":"array","items":[{"type":"string"}]}}}`:                         false,
		`{"properties":{"a":{"$ref":"#/$defs/s"}},"$defs":{"s":{"type":"string"}}}`:                                                                     true,
		`{"properties":{"a":{"$ref":"#/$defs/s"}},"$defs":{"s":{"anyOf":[{"type":"string"},{"$ref":"#/$defs/s"}]}}}`:                                    false,
		`{"properties":{"a":{"allOf":[{"minLength":1},{"type":"string"}]}}}`:                                                                            true,
		`{"properties":{"a":{"allOf":[{"type":"array"},{"items":{"type":"string"}}]}}}`:                                                                 true,
		`{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]}}}`:                                                                            true,
		`{"properties":{"a":{"oneOf":[{"type":"string"},{"type":"object"}]}}}`:                                                                          false,
		`{"properties":{"a":{"if":{"type":"string"},"then":{"type":"string"},"else":{"type":"integer"}}}}`:                                              true,
		`{"properties":{"a":{"if":{"type":"string"},"then":{"type":"string"}}}}`:                                                                        false,
		// What is said elsewhere of the same place counts where it always holds.
		`{"properties":{"a":{}},"allOf":[{"properties":{"a":{"type":"string"}}}]}`:                  true,
		`{"properties":{"a":{}},"anyOf":[{"properties":{"a":{"type":"string"}}}]}`:                  false,
		`{"properties":{"a":{"type":"string"}},"if":{"properties":{"a":{"const":"x"}}}}`:            true,
		`{"if":{"properties":{"a":{"const":"x"}}}}`:                                                 false,
		`{"oneOf":[{"properties":{"a":{"type":"string"}}},{"properties":{"b":{}}}]}`:                true,
		`{"oneOf":[{"properties":{"a":{"type":"string"}}},{"properties":{"a":{"type":"object"}}}]}`: false,
		`{"patternProperties":{"^a":{"type":"string"}}}`:                                            true,
		`{"patternProperties":{"^a":{}}}`:                                                           false,
		`{"additionalProperties":{"type":"string"}}`:                                                true,
		`{"additionalProperties":true}`:                                                             false,
		// Through an array and directly are two places: one may be an object.
		`{"allOf":[{"properties":{"a":{"type":"string"}}},{"items":{"properties":{"a":{"type":"object"}}}}]}`: false,
	} {
		s := compiled(t, document)
		if !reaches(s, "/a") {
			t.Errorf("%s does not reach /a", document)
		}
		if got := isLeaf([]*jsonschema.Schema{s}, "/a"); got != want {
			t.Errorf("%s: leaf %v, want %v", document, got, want)
		}
	}
}

// A schema that refers to itself, by every road, ends.
func TestLeavesOfCircles(t *testing.T) {
	s := compiled(t, `{"$id":"https://x.invalid/","properties":{"a":{"$ref":"#"},"b":{"type":"string"}},"items":{"$ref":"#"},"anyOf":[{"$ref":"#/$defs/o"},{}],"$defs":{"o":{"allOf":[{"items":{"$ref":"#"}},{"properties":{"a":{"$ref":"#/$defs/o"}}}]}}}`)
	if isLeaf([]*jsonschema.Schema{s}, "/a/a/a/a/a") {
		t.Error("an object taken for a leaf")
	}
	if below, _ := leavesBelow([]*jsonschema.Schema{s}, "/a"); len(below) == 0 || below[len(below)-1] != "/a/b" {
		t.Errorf("leaves %v", below)
	}
}

// Schemas that double at every step, and objects that all lead to each other, are
// gone through in bounds: without them this test would not end.
func TestLeavesOfTangles(t *testing.T) {
	double, tangle := &strings.Builder{}, &strings.Builder{}
	for i := range 64 {
		fmt.Fprintf(double, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	for i := range 16 {
		fmt.Fprintf(tangle, `"t%d":{"properties":{`, i)
		for j := range 16 {
			fmt.Fprintf(tangle, `"p%d":{"$ref":"#/$defs/t%d"},`, j, j)
		}
		tangle.WriteString(`"x":{"type":"object"}}},`)
	}
	s := compiled(t, `{"properties":{"a":{"$ref":"#/$defs/d0"},"b":{"$ref":"#/$defs/t0"}},"$defs":{`+double.String()+tangle.String()+`"d64":{"type":"string"}}}`)
	if !isLeaf([]*jsonschema.Schema{s}, "/a") {
		t.Error("a string is a leaf, however it is said")
	}
	if below, _ := leavesBelow([]*jsonschema.Schema{s}, "/b"); len(below) != 0 {
		t.Errorf("leaves %v", below)
	}
}

// TestLeafHoldsNoObject: whatever closed schema, whatever record that follows it:
// where isLeaf says so, no object leaves.
func TestLeafHoldsNoObject(t *testing.T) {
	leaves := 0
	rapid.Check(t, func(t *rapid.T) {
		document, err := json.Marshal(anySchema(t, 3))
		if err != nil {
			t.Fatal(err)
		}
		s := compiled(t, string(document))
		for range 8 {
			record := anyValue(t, 3)
			text, err := json.Marshal(record)
			if err != nil {
				t.Fatal(err)
			}
			instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if s.Validate(instance) != nil {
				continue
			}
			for _, p := range []broker.Pointer{"/a", "/b", "/a/a", "/a/b", "/b/a"} {
				if !reaches(s, p) || !isLeaf([]*jsonschema.Schema{s}, p) {
					continue
				}
				tokens, _ := p.Tokens() // they are right
				leaves++
				if holdsObject(record, tokens) {
					t.Fatalf("%s is a leaf of %s, and an object in %s", p, document, text)
				}
			}
		}
	})
	if leaves == 0 {
		t.Error("no record had a leaf: the test tests nothing")
	}
}

func holdsObject(v any, tokens []string) bool {
	switch v := v.(type) {
	case map[string]any:
		if len(tokens) == 0 {
			return true
		}
		m, ok := v[tokens[0]]
		return ok && holdsObject(m, tokens[1:])
	case []any:
		for _, e := range v {
			if holdsObject(e, tokens) {
				return true
			}
		}
	}
	return false
}

// anySchema says of every container what may stand in it: in an open object, or
// an alternative that does not speak of a member, anything may.
func anySchema(t *rapid.T, depth int) map[string]any {
	kinds := []string{"scalar", "scalar", "enum", "object", "array"}
	if depth > 0 {
		kinds = append(kinds, "object", "object", "allOf", "anyOf", "oneOf", "if")
	}
	if depth == 3 {
		kinds = []string{"object", "allOf", "anyOf", "if"}
	}
	sub := func() any {
		if depth == 0 {
			return map[string]any{"type": "integer"}
		}
		return anySchema(t, depth-1)
	}
	switch k := rapid.SampledFrom(kinds).Draw(t, "kind"); k {
	case "scalar":
		return map[string]any{"additionalProperties": false,
			"type": rapid.SampledFrom([]any{"integer", "string", []any{"integer", "null"}, []any{"string", "object"}}).Draw(t, "type")}
	case "enum":
		return map[string]any{"enum": []any{1, "x", map[string]any{"a": 1}}[rapid.IntRange(0, 2).Draw(t, "from"):]}
	case "object":
		return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{"a": sub(), "b": sub()}}
	case "array":
		return map[string]any{"type": "array", "items": sub()}
	case "if":
		return map[string]any{"if": sub(), "then": sub(), "else": sub()}
	default:
		return map[string]any{k: []any{sub(), sub()}}
	}
}

func anyValue(t *rapid.T, depth int) any {
	kinds := 2
	if depth > 0 {
		kinds = 7
	}
	switch n := rapid.IntRange(0, kinds).Draw(t, "value"); n {
	case 0:
		return 1
	case 1:
		return "x"
	case 2:
		return nil
	case 3:
		return []any{anyValue(t, depth-1)}
	default:
		o := map[string]any{}
		for i, name := range []string{"a", "b"} {
			if n&(1<<i) != 0 || n == 4 {
				o[name] = anyValue(t, depth-1)
			}
		}
		return o
	}
}
