package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker/intake"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
)

const usable = `kind: organisation
number: "974761076"
name: Tilbyder
---
kind: dataset
id: d
title: Et datasett
owner: "974761076"
purpose: skattefastsetting
accessRights: NON_PUBLIC
current: "1"
schemas:
  - version: "1"
    file: schema.json
  - {version: "2", uri: "urn:2", document: {type: object, properties: {person: {type: string}}}}
subject: {kind: person, pointer: /person}
attributes:
  - {name: place, extension: place}
concepts: {}
---
kind: package
id: p
version: 1
dataset: d
title: En pakke
fields: [/person]
filter: []
shielding: {when: {attribute: place, notIn: ["x"]}, remove: [/person]}
assessment: {by: juridisk, at: 2026-01-01, review: 2030-01-01}
`

const usableSchema = `{"type":"object","properties":{"person":{"type":"string"},"skjermet":{"type":"boolean"}}}`

// What the registry takes, the stages can use: an instance that cannot compile
// what is registered stops, and so do all the others.
func TestRegisteredIsUsable(t *testing.T) {
	var many strings.Builder
	for i := range 20 {
		fmt.Fprintf(&many, "  - {name: n%d, extension: x%d, optional: true}\n", i, i)
	}
	for _, c := range []struct {
		name, old, new string
		schema         string
		taken          bool
	}{
		{name: "as it is", taken: true},
		{name: "the mark as a field", old: "fields: [/person]", new: "fields: [/person, /skjermet]"},
		{name: "below the mark", old: "fields: [/person]", new: "fields: [/person, /skjermet/x]"},
		{name: "a shielding that lists who is protected", old: "notIn: [", new: "in: ["},
		{name: "a shielding that spares what lacks the attribute", old: `notIn: ["x"]`, new: `notIn: ["x", ""]`},
		{name: "a field without a type", schema: `{"type":"object","properties":{"person":{}}}`},
		{name: "a field that is an object in one version", schema: `{"type":"object","properties":{"person":{"type":"object"}}}`},
		{name: "an extension that is CloudEvents'", old: "extension: place", new: "extension: subject"},
		{name: "an extension that is the broker's", old: "extension: place", new: "extension: retracts"},
		{name: "many extensions", old: "concepts: {}", new: many.String() + "concepts: {}"},
		{name: "a URI that is another version's name", old: `uri: "urn:2"`, new: `uri: "1"`},
		{name: "a URI that is the version's own name", old: `uri: "urn:2"`, new: `uri: "2"`},
		{name: "a name twice in a schema", schema: `{"type":"object","properties":{"person":{},"person":{"type":"string"}}}`},
		{name: "half a surrogate in a schema", schema: `{"properties":{"person":{"const":"\ud800"}}}`},
		{name: "a deep schema", schema: `{"properties":{"person":{"const":` + strings.Repeat("[", 1_000) + strings.Repeat("]", 1_000) + `}}}`},
		{name: "a reference outside", schema: `{"properties":{"person":{"$ref":"other.json"}}}`},
		{name: "a reference within", schema: `{"properties":{"person":{"$ref":"#/$defs/p"}},"$defs":{"p":{"type":"string"}}}`, taken: true},
		{name: "an unknown format", schema: `{"properties":{"person":{"type":"string","format":"iban"}}}`, taken: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			text, schema := usable, usableSchema
			if c.old != "" {
				text = strings.Replace(text, c.old, c.new, 1)
			}
			if c.schema != "" {
				schema = c.schema
			}
			write := func(name, content string) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			write("schema.json", schema)
			docs, err := registry.Load(write("in.yaml", text))
			if err != nil {
				t.Fatal(err)
			}
			s := registry.New()
			plan, err := registry.NewPlan(s, docs, "test", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
			if (err == nil) != c.taken {
				t.Fatalf("the plan: %v; taken should be %v", err, c.taken)
			}
			if err != nil {
				return
			}
			for _, e := range plan.Events {
				if ok, err := s.Fold(e); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
			for _, d := range s.Datasets() {
				if _, err := intake.Compile(d, intake.Defaults()); err != nil {
					t.Error(err)
				}
			}
			for _, p := range s.Packages() {
				if _, err := minimise.Compile(p, s.Dataset(p.Dataset)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
