package intake

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/schema"
)

type declared struct {
	version string
	uri     string
	*schema.Schema
}

// SchemaForm says how records are held to one of a dataset's schemas.
type SchemaForm struct {
	Version string
	URI     string // what dataschema says, beside the version
	// Fallback is empty where the schema is compiled to run over the parsed
	// record. Otherwise the library validates, some twenty times slower, and
	// this is what it is needed for, with its place in the schema.
	Fallback string
	// Disputed counts records that the compiled form found invalid and the
	// library valid. They were rejected; any is a fault of the broker's.
	Disputed uint64
}

// SchemaForms lists the dataset's schemas in the order of their declaration.
func (d *Dataset) SchemaForms() []SchemaForm {
	forms := make([]SchemaForm, len(d.schemas))
	for i := range d.schemas {
		s := &d.schemas[i]
		forms[i] = SchemaForm{s.version, s.uri, s.Fallback(), s.Disputed()}
	}
	return forms
}

func (d *Dataset) compileSchemas(ds *broker.Dataset) error {
	if len(ds.Schemas) == 0 {
		return errors.New("no schema is declared")
	}
	taken := map[string]bool{}
	for _, s := range ds.Schemas {
		for _, name := range [...]string{s.Version, s.URI} {
			if name != "" && taken[name] {
				return fmt.Errorf("two schemas go by %q", name)
			}
			taken[name] = true
		}
		if s.Version == "" {
			return errors.New("a schema has no version")
		}
		var doc jsondoc.Doc
		if err := doc.Parse(s.Document, maxMaxDepth); err != nil {
			return fmt.Errorf("schema %s: %w", s.Version, err)
		}
		compiled, err := schema.Compile(&doc, d.watched)
		if err != nil {
			return fmt.Errorf("schema %s: %w", s.Version, err)
		}
		collectNames(schema.Generic(&doc, 0), d.known)
		d.schemas = append(d.schemas, declared{s.Version, s.URI, compiled})
	}
	if d.current = d.schema([]byte(ds.Current)); ds.Current == "" || d.current == nil || d.current.version != ds.Current {
		return fmt.Errorf("the current schema is %q, which is not declared", ds.Current)
	}
	return nil
}

// schema finds a version by what dataschema says; the current one where it
// says nothing.
func (d *Dataset) schema(name []byte) *declared {
	if len(name) == 0 {
		return d.current
	}
	for i := range d.schemas {
		if s := &d.schemas[i]; s.version == string(name) || (s.uri != "" && s.uri == string(name)) {
			return s
		}
	}
	return nil
}

// collectNames gathers the member names that a schema declares.
func collectNames(v any, into map[string]struct{}) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			if names, ok := below.(map[string]any); ok && key == "properties" {
				for name := range names {
					into[name] = struct{}{}
				}
			}
			collectNames(below, into)
		}
	case []any:
		for _, below := range v {
			collectNames(below, into)
		}
	}
}

// validate holds the payload to the schema, and leaves in r where the subject
// and the attributes are.
func (d *Dataset) validate(s *declared, r *schema.Run, doc *jsondoc.Doc) *broker.Rejection {
	nodes := doc.Nodes()
	for i := range nodes {
		n := &nodes[i]
		if n.Kind == jsondoc.Number && (n.Escaped || n.End-n.Start > 18) && !schema.Reasonable(doc.Bytes(i)) {
			return &broker.Rejection{Code: broker.RejectMalformedJSON, Pointer: safePointer(doc.AppendTokens(nil, i), d.known),
				Detail: "the number is beyond what JSON carries between systems: at most 100 characters and a magnitude of 1e±308 (RFC 7493, 2.2)"}
		}
	}
	err := s.Validate(r, doc)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	switch {
	case errors.As(err, &invalid):
		return d.rejectSchema(s, invalid, doc)
	case errors.Is(err, schema.ErrTangled):
		return rejectf(broker.RejectSchema, "the payload is not as schema %s wants; its parts refer to one another in too many ways for the place to be told", s.version)
	case errors.Is(err, schema.ErrDisputed):
		return reject(broker.RejectSchema, "the payload could not be held to the schema: two validators disagree; report this record's position to the operator")
	}
	return reject(broker.RejectSchema, "the payload could not be held to the schema: the validator failed; report this record's position to the operator")
}

// rejectSchema tells of one violation, the first by place and then by keyword,
// so that the same record gets the same answer. Of the library's words none
// are passed on: they quote values.
//
// A hostile record has as many violations as it has values. So they are told
// apart by what the library says of their place, and only the first one's is
// looked up in the document.
func (d *Dataset) rejectSchema(s *declared, err *jsonschema.ValidationError, doc *jsondoc.Doc) *broker.Rejection {
	var first *jsonschema.ValidationError
	var detail string // of the first, once it was needed to break a tie
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		switch e.ErrorKind.(type) {
		case *kind.AnyOf, *kind.OneOf, *kind.Not, *kind.Contains, *kind.MinContains, *kind.MaxContains, *kind.PropertyNames:
			// What lies below are the ways in which each alternative failed.
		default:
			if len(e.Causes) > 0 {
				for _, c := range e.Causes {
					walk(c)
				}
				return
			}
		}
		if first == nil {
			first = e
			return
		}
		switch order := comparePlaces(e.InstanceLocation, first.InstanceLocation); {
		case order < 0:
			first, detail = e, ""
		case order == 0:
			if detail == "" {
				detail = d.describeViolation(s, first)
			}
			if other := d.describeViolation(s, e); other < detail {
				first, detail = e, other
			}
		}
	}
	walk(err)
	return &broker.Rejection{
		Code:    broker.RejectSchema,
		Detail:  d.describeViolation(s, first),
		Pointer: safePointer(tokensOf(doc, first.InstanceLocation), d.known),
	}
}

// comparePlaces orders places in a document: what is above before what is
// below, and elements of an array by their number.
func comparePlaces(a, b []string) int {
	return slices.CompareFunc(a, b, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
}

// tokensOf tells names from indexes by the document itself.
func tokensOf(doc *jsondoc.Doc, location []string) []jsondoc.Token {
	var tokens []jsondoc.Token
	at := 0
	for _, name := range location {
		switch n := doc.Node(at); n.Kind {
		case jsondoc.Array:
			index, err := strconv.Atoi(name)
			if err != nil {
				return tokens
			}
			tokens = append(tokens, jsondoc.Token{Index: index})
			at++
			for range index {
				at = int(doc.Node(at).Next)
			}
		default:
			if at = doc.Find(at, name); at < 0 {
				return tokens
			}
			tokens = append(tokens, jsondoc.Token{Name: name, Index: -1})
		}
	}
	return tokens
}

// describeViolation says which keyword of the schema was not met, from the
// schema's own content and nothing of the record's.
func (d *Dataset) describeViolation(s *declared, e *jsonschema.ValidationError) string {
	var what string
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		what = "is " + k.Got + ", where the schema wants " + strings.Join(k.Want, " or ")
	case *kind.Required:
		what = "lacks " + quoted(k.Missing)
	case *kind.DependentRequired:
		what = "lacks " + quoted(k.Missing) + ", required with " + strconv.Quote(k.Prop)
	case *kind.Dependency:
		what = "lacks " + quoted(k.Missing) + ", required with " + strconv.Quote(k.Prop)
	case *kind.AdditionalProperties:
		what = fmt.Sprintf("has %d member(s) that the schema does not declare", len(k.Properties))
	case *kind.Enum:
		what = "is none of the values that the schema lists"
	case *kind.Const:
		what = "is not the value that the schema fixes"
	case *kind.Format:
		what = "is not of the format " + k.Want
	case *kind.Pattern:
		what = "does not match the pattern " + strconv.Quote(k.Want)
	case *kind.MinLength:
		what = fmt.Sprintf("is shorter than %d characters", k.Want)
	case *kind.MaxLength:
		what = fmt.Sprintf("is longer than %d characters", k.Want)
	case *kind.MinItems:
		what = fmt.Sprintf("has fewer than %d elements", k.Want)
	case *kind.MaxItems:
		what = fmt.Sprintf("has more than %d elements", k.Want)
	case *kind.Minimum:
		what = "is below the minimum"
	case *kind.Maximum:
		what = "is above the maximum"
	case *kind.ExclusiveMinimum:
		what = "is not above the exclusive minimum"
	case *kind.ExclusiveMaximum:
		what = "is not below the exclusive maximum"
	default:
		what = "is not allowed"
	}
	keyword := ""
	if path := e.ErrorKind.KeywordPath(); len(path) > 0 {
		keyword = "/" + path[0]
	}
	_, fragment, _ := strings.Cut(e.SchemaURL, "#")
	return fmt.Sprintf("%s (schema %s, #%s%s)", what, s.version, fragment, keyword)
}

func quoted(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	for i := range names {
		names[i] = strconv.Quote(names[i])
	}
	return strings.Join(names, ", ")
}
