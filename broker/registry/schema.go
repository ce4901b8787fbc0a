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
