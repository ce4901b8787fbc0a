// Package schema holds JSON documents to JSON Schemas in one pass over the
// tape of package jsondoc, and notes on the way the nodes that some pointers
// lead to.
//
// What counts is what the library says, github.com/santhosh-tekuri/jsonschema:
// a schema is compiled from the library's own compiled form, in which drafts
// and references are resolved already, and every verdict is the library's. A
// schema that uses anything that is unknown here is left to the library whole;
// [Schema.Fallback] tells why.
//
// # Which errand, where
//
//   - what is known and what falls back: survey.go; how nodes are made: compile.go;
//   - how a value is held to a node: run.go, and equal.go for enum, const and
//     uniqueItems;
//   - how a document that looks like the one before it is parsed and held to its
//     schema at once: read.go, by what guide.go lays out;
//   - unevaluatedProperties and unevaluatedItems: evaluated.go;
//   - schemas that lead to one another in many ways: memo.go;
//   - numbers, exactly: number.go;
//   - patterns as tables: pattern.go; formats: format.go.
package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// Schema is a compiled JSON Schema. It may be used by any number of goroutines.
type Schema struct {
	library *jsonschema.Schema
	// root is the whole schema, or where it falls back what is watched alone.
	// nil asks and watches nothing.
	root     *node
	guide    *guide // nil where Read would gain nothing
	fallback string
	disputed atomic.Uint64
}

// noLoader refuses what is not in the schema itself.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s lies outside the schema: files and the network are not read; put what is referred to under $defs", url)
}

// location is a schema's address where it has no $id of its own.
const location = "https://schema.invalid/"

// Compile compiles a schema as its $schema says, 2020-12 where it says nothing.
// A $ref may lead within the schema, or to a JSON Schema meta-schema, never to a
// file or the network. Format is asserted in every draft. The pointers are
// watched: see [Run.Hits]. The document must be a whole one; it may not change
// during the call.
func Compile(document *jsondoc.Doc, watch []broker.Pointer) (*Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	if err := c.AddResource(location, Generic(document, 0)); err != nil {
		return nil, err
	}
	library, err := c.Compile(location)
	if err != nil {
		return nil, err
	}
	return compile(library, watch)
}

func compile(library *jsonschema.Schema, watch []broker.Pointer) (*Schema, error) {
	paths := make([]jsondoc.Path, len(watch))
	for i, p := range watch {
		tokens, err := p.Tokens()
		if err != nil {
			return nil, err
		}
		paths[i] = tokens
	}
	c := compiler{nodes: map[place]*node{}, patterns: map[string]*matcher{}}
	s := &Schema{library: library}
	if c.survey(library); c.reason == "" {
		s.root = c.compile(library, newTrail(paths))
		s.guide = newGuide(s.root)
	} else {
		s.fallback = c.reason
		s.root = c.compile(nil, newTrail(paths))
	}
	return s, nil
}

// Fallback is why the library holds documents to this schema, such as
// "$dynamicRef to a $dynamicAnchor at #/$defs/a"; empty where it is not needed.
func (s *Schema) Fallback() string { return s.fallback }

// Disputed counts the documents that this package found invalid and the
// library valid, which [ErrDisputed] refused. Any is a fault to be reported.
func (s *Schema) Disputed() uint64 { return s.disputed.Load() }

// What keeps a document from being called valid, beside the violations that
// the library names.
var (
	// ErrFailed: the validator met what it cannot handle.
	ErrFailed = errors.New("the validator failed")
	// ErrDisputed: the two validators disagree.
	ErrDisputed = errors.New("the validators disagree")
	// ErrTangled: the document is invalid, by a schema whose parts lead to one
	// another in so many ways that to name the violation could take for ever.
	ErrTangled = errors.New("the document is not as the schema wants")
)

// Validate holds a parsed document to the schema. nil is valid: then r.Hits are
// the watched nodes. Otherwise the error is the library's
// *jsonschema.ValidationError, which quotes values from the document, or
// one of ErrFailed, ErrDisputed and ErrTangled. Whoever calls has seen to it
// that all numbers are [Reasonable]; one that is not is ErrFailed.
//
// An invalid document costs what the library takes, since its words are wanted.
func (s *Schema) Validate(r *Run, doc *jsondoc.Doc) (err error) {
	defer func() {
		// Should a validator ever panic on a document, that one is refused: what
		// the panic says could hold a value.
		if recover() != nil {
			err = ErrFailed
		}
	}()
	if doc.Len() == 0 || s.library == nil {
		return ErrFailed
	}
	valid := s.holds(r, doc)
	switch {
	case r.failed:
		return ErrFailed
	case valid && s.fallback == "":
		return nil
	case r.tangled:
		return ErrTangled
	}
	if err := s.library.Validate(Generic(doc, 0)); err != nil || s.fallback != "" {
		return err
	}
	s.disputed.Add(1)
	return ErrDisputed
}

// holds is the pass over the tape.
func (s *Schema) holds(r *Run, doc *jsondoc.Doc) bool {
	r.reset(doc)
	valid := r.eval(s.root, 0)
	r.release()
	return valid
}

// Generic makes the values that the library takes of a node; numbers keep
// their digits.
func Generic(doc *jsondoc.Doc, i int) any {
	n := doc.Node(i)
	switch n.Kind {
	case jsondoc.Object:
		m := make(map[string]any, 8)
		for c := i + 1; c < int(n.Next); c = int(doc.Node(c).Next) {
			m[string(doc.Name(c))] = Generic(doc, c)
		}
		return m
	case jsondoc.Array:
		a := []any{}
		for c := i + 1; c < int(n.Next); c = int(doc.Node(c).Next) {
			a = append(a, Generic(doc, c))
		}
		return a
	case jsondoc.String:
		return string(doc.AppendText(nil, i))
	case jsondoc.Number:
		return json.Number(doc.Bytes(i))
	case jsondoc.True:
		return true
	case jsondoc.False:
		return false
	}
	return nil
}
