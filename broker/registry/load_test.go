package registry

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"datafordeler/broker"
)

func TestLoadReadsFilesAndDirectories(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	org := "kind: organisation\nnumber: 974761076\nname: a\n"
	a := put("d/a.yaml", "# only a comment\n---\n"+org+"---\n")
	put("d/b.yml", org)
	put("d/c.json", "{}")
	put("d/below/d.yaml", "not read: 1")
	empty := put("e/readme.txt", "")
	docs, err := Load(filepath.Join(dir, "d"), a)
	if err != nil || len(docs) != 2 || docs[0].File != a || docs[0].Line != 3 || docs[0].ID() != "974761076" {
		t.Errorf("%+v, %v; want two organisations, the first at line 3", docs, err)
	}
	for name, paths := range map[string][]string{
		"no path":             nil,
		"nothing there":       {filepath.Join(dir, "nowhere")},
		"no declaration":      {filepath.Dir(empty)},
		"a schema as a file":  {put("f.yaml", "kind: dataset\nschemas: [{version: 1, file: d}]\n")},
		"a schema not JSON":   {put("g.yaml", "kind: dataset\nschemas: [{version: 1, file: f.yaml}]\n")},
		"two files at fault":  {put("h.yaml", "kind: a"), put("i.yaml", "kind: b")},
		"a schema from above": {put("d/j.yaml", "kind: dataset\nschemas: [{version: 1, file: ../f.yaml}]\n")},
	} {
		_, err := Load(paths...)
		if err == nil {
			t.Errorf("%s: loaded", name)
			continue
		}
		for _, p := range paths {
			if !strings.Contains(err.Error(), p) {
				t.Errorf("%s: %q does not name %s", name, err, p)
			}
		}
	}
}

// A pointer reaches what the schema declares, by whatever of JSON Schema declares
// it, in every draft.
func TestSchemaReaches(t *testing.T) {
	for _, c := range []struct{ schema, reached, lacked string }{
		{`{"properties":{"a":{"properties":{"b":{}}}}}`, "/a /a/b", "/b /a/c /a/b/c"},
		{`{"type":"array","items":{"properties":{"a":{"type":"array","items":{"type":"array","items":{"properties":{"b":{}}}}}}}}`, "/a /a/b", "/0/a /b"},
		{`{"$schema":"http://json-schema.org/draft-04/schema#","definitions":{"x":{"properties":{"b":{}}}},"properties":{"a":{"$ref":"#/definitions/x"}}}`, "/a/b", "/a/c /definitions/x"},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"properties":{"a":{}}}],"additionalItems":{"properties":{"b":{}}}}`, "/a /b", "/c"},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"a":{"properties":{"b":{}}},"c":["d"]}}`, "/b", "/d /a"},
		{`{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,"properties":{"n":{},"c":{"$recursiveRef":"#"}}}`, "/n /c/c/c/n", "/c/m"},
		{`{"$dynamicAnchor":"x","properties":{"n":{},"c":{"$dynamicRef":"#x"}}}`, "/c/c/n", "/c/m"},
		{`{"prefixItems":[{"properties":{"a":{}}}],"items":{"properties":{"b":{}}},"contains":{"properties":{"c":{}}}}`, "/a /b /c", "/d"},
		{`{"allOf":[{"properties":{"a":{}}}],"anyOf":[{"properties":{"b":{}}}],"oneOf":[{"properties":{"c":{}}}],"if":{"properties":{"d":{}}},"then":{"properties":{"e":{}}},"else":{"properties":{"f":{}}},"dependentSchemas":{"x":{"properties":{"g":{}}}}}`, "/a /b /c /d /e /f /g", "/x /h"},
		{`{"not":{"properties":{"a":{}}}}`, "", "/a"},
		{`{"patternProperties":{"^x-":{"properties":{"a":{}}}},"additionalProperties":{"properties":{"b":{}}}}`, "/x-1/a /y/b", "/x-1/b /y/a"},
		{`{"additionalProperties":true}`, "/any", "/any/deeper"},
		{`{"additionalProperties":false,"properties":{"a":false,"b":true}}`, "/b", "/a /c /b/c"},
		{`{}`, "", "/a"},
		{`{"$defs":{"x":{"$ref":"#/$defs/y"},"y":{"$ref":"#/$defs/x"}},"$ref":"#/$defs/x"}`, "", "/a"},
		{`{"$defs":{"p":{"properties":{"k":{"type":"array","items":{"$ref":"#/$defs/p"}},"n":{}}}},"$ref":"#/$defs/p"}`, "/k/k/k/k/n", "/k/m"},
		{`{"properties":{"a/b":{"properties":{"~":{}}}}}`, "/a~1b/~0", "/a/b"},
	} {
		s, err := compile(&broker.Schema{Document: json.RawMessage(c.schema)})
		if err != nil {
			t.Errorf("%s: %v", c.schema, err)
			continue
		}
		for _, p := range strings.Fields(c.reached) {
			if !reaches(s, broker.Pointer(p)) {
				t.Errorf("%s: does not reach %s", c.schema, p)
			}
		}
		for _, p := range strings.Fields(c.lacked) {
			if reaches(s, broker.Pointer(p)) {
				t.Errorf("%s: reaches %s", c.schema, p)
			}
		}
	}
}

// A country on board: 10,000 subscriptions plan and resolve in a blink.
func BenchmarkPlan10000Subscriptions(b *testing.B) {
	docs := must(Load("testdata/base.yaml"))
	var y strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&y, `---
kind: agreement
id: a%[1]d
provider: "974761076"
consumer: "964338531"
dataset: inntekt
package: {id: liten, version: 1}
purpose: p%[1]d
bases: [lov]
responsibility: {}
cost: {}
corrections: deliver
status: active
valid: {}
---
kind: subscription
id: s%[1]d
agreement: a%[1]d
mailbox: bergen
scope: {kind: all}
`, i)
	}
	more, faults := read("more.yaml", []byte("kind: mailbox\nid: bergen\norganisation: \"964338531\"\nclient: fagsystem\nchannel: feed\n"+y.String()))
	if len(faults) > 0 {
		b.Fatal(faults)
	}
	docs = append(docs, more...)
	for b.Loop() {
		s := New()
		p := must(NewPlan(s, docs, "bench", now))
		for _, e := range p.Events {
			must(s.Fold(e))
		}
		if len(s.AllTerms()) != 10_000 {
			b.Fatal(len(s.AllTerms()))
		}
	}
}
