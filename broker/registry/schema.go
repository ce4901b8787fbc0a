package registry

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// schemaURL is what a schema is compiled as, and schemaDepth how deep it may
// nest. Both, and what compile sets, are as intake has them: a schema that was
// registered and that intake cannot use would stop every instance.
const (
	schemaURL   = "https://schema.invalid/"
	schemaDepth = 1_000
)

// compile compiles a schema version. References reach within the document only:
// a schema that fetched something would mean something else tomorrow.
func compile(s *broker.Schema) (*jsonschema.Schema, error) {
	var strict jsondoc.Doc
	if err := strict.Parse(s.Document, schemaDepth); err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(s.Document))
	if err != nil {
		return nil, err
	}
	switch doc.(type) {
	case map[string]any, bool:
	default:
		return nil, errors.New("a JSON Schema is an object, or true or false")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(nothing{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, err
	}
	return c.Compile(schemaURL)
}

// nothing loads nothing.
type nothing struct{}

func (nothing) Load(string) (any, error) {
	return nil, errors.New("a schema refers within itself only: copy what it needs into $defs")
}

// reaches reports whether the schema declares a place that the pointer leads to:
// by a member's name, through references, alternatives and conditions, and
// through every array on the way, as broker.Pointer does. A schema that merely
// does not forbid a member has not declared it; one that says
// additionalProperties: true, or gives them a schema, has.
func reaches(s *jsonschema.Schema, p broker.Pointer) bool {
	tokens, err := p.Tokens()
	if err != nil {
		return false
	}
	w := walk{seen: map[step]bool{}}
	return w.from(s, tokens)
}

type walk struct{ seen map[step]bool }

// step is a schema and how many tokens are left; to meet it again is to go in a
// circle of references.
type step struct {
	schema *jsonschema.Schema
	left   int
}

func (w *walk) from(s *jsonschema.Schema, tokens []string) bool {
	if s == nil || w.seen[step{s, len(tokens)}] {
		return false
	}
	w.seen[step{s, len(tokens)}] = true
	if s.Bool != nil && !*s.Bool {
		return false
	}
	if len(tokens) == 0 {
		return true
	}
	if w.member(s, tokens) {
		return true
	}
	// Where the record follows any of these, it may have what they declare.
	next := []*jsonschema.Schema{s.Ref, s.RecursiveRef, s.If, s.Then, s.Else, s.Items2020, s.UnevaluatedItems, s.Contains}
	if s.DynamicRef != nil {
		next = append(next, s.DynamicRef.Ref)
	}
	next = append(next, s.AllOf...)
	next = append(next, s.AnyOf...)
	next = append(next, s.OneOf...)
	next = append(next, s.PrefixItems...)
	for _, d := range s.DependentSchemas {
		next = append(next, d)
	}
	for _, d := range s.Dependencies {
		if d, ok := d.(*jsonschema.Schema); ok {
			next = append(next, d)
		}
	}
	for _, items := range []any{s.Items, s.AdditionalItems} {
		switch v := items.(type) {
		case *jsonschema.Schema:
			next = append(next, v)
		case []*jsonschema.Schema:
			next = append(next, v...)
		}
	}
	for _, n := range next {
		if w.from(n, tokens) {
			return true
		}
	}
	return false
}

// member follows the first token as the name of an object's member.
func (w *walk) member(s *jsonschema.Schema, tokens []string) bool {
	name, rest := tokens[0], tokens[1:]
	named := false
	if p, ok := s.Properties[name]; ok {
		named = true
		if w.from(p, rest) {
			return true
		}
	}
	for re, p := range s.PatternProperties {
		if re.MatchString(name) {
			named = true
			if w.from(p, rest) {
				return true
			}
		}
	}
	if named {
		return false
	}
	switch v := s.AdditionalProperties.(type) {
	case bool:
		return v && len(rest) == 0
	case *jsonschema.Schema:
		return w.from(v, rest)
	}
	return w.from(s.UnevaluatedProperties, rest)
}

// schemaFault shortens the library's report to what a reader needs.
func schemaFault(err error) string {
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		err = invalid.Err
	}
	s := strings.TrimSpace(err.Error())
	if i := strings.Index(s, "\n"); i >= 0 && strings.HasPrefix(s, "jsonschema validation failed") {
		s = strings.TrimSpace(s[i+1:])
	}
	s = strings.Join(strings.Fields(strings.ReplaceAll(s, schemaURL, "")), " ")
	return fmt.Sprintf("schema does not compile: %s", s)
}
