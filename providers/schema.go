package providers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// schema checks payloads. It is safe for concurrent use.
type schema struct{ compiled *jsonschema.Schema }

// noLoader refuses references out of the document: what is checked must not
// depend on what a web server answers today.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %q; put what it refers to inside the schema ($defs)", url)
}

func compileSchema(document []byte) (*schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, fmt.Errorf("Schema: not JSON: %w", err)
	}
	const name = "urn:datafordeler:schema"
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(name, doc); err != nil {
		return nil, fmt.Errorf("Schema: %w", err)
	}
	compiled, err := c.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("Schema: %w", err)
	}
	return &schema{compiled}, nil
}

// check says where the payload breaks which rule. The library's own messages
// quote values, so none of their text is used.
func (s *schema) check(data []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%w: the payload is not JSON", ErrSchema)
	}
	err = s.compiled.Validate(doc)
	if err == nil {
		return nil
	}
	violation, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return fmt.Errorf("%w", ErrSchema)
	}
	var where []string
	leaves(violation, func(v *jsonschema.ValidationError) {
		if len(where) <= maxViolations {
			where = append(where, describe(v))
		}
	})
	if len(where) > maxViolations {
		where[maxViolations] = "…"
	}
	return fmt.Errorf("%w: %s", ErrSchema, strings.Join(where, ", "))
}

const maxViolations = 3

// describe tells the place, and the rule in the schema's own words.
func describe(v *jsonschema.ValidationError) string {
	at := "the record"
	if len(v.InstanceLocation) > 0 {
		at = "/" + strings.Join(v.InstanceLocation, "/")
	}
	if elevenDigits(at) {
		at = "a place whose name could be a person's number"
	}
	switch k := v.ErrorKind.(type) {
	case *kind.Required:
		return fmt.Sprintf("%s lacks %s", at, strings.Join(k.Missing, " and "))
	case *kind.Type:
		return fmt.Sprintf("%s is %s, want %s", at, k.Got, strings.Join(k.Want, " or "))
	case *kind.AdditionalProperties:
		if names := strings.Join(k.Properties, " or "); !elevenDigits(names) && len(names) < 200 {
			return fmt.Sprintf("%s may not have %s", at, names)
		}
	}
	return fmt.Sprintf("%s breaks %q", at, strings.Join(v.ErrorKind.KeywordPath(), "/"))
}

func leaves(v *jsonschema.ValidationError, visit func(*jsonschema.ValidationError)) {
	if len(v.Causes) == 0 {
		visit(v)
	}
	for _, cause := range v.Causes {
		leaves(cause, visit)
	}
}

// lookup reads a string or number at a path of member names, going into the
// first element of arrays. Where there is none it is empty: whether the payload
// must have a subject is for the broker to say.
func lookup(data []byte, path []string) string {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for {
		t, err := dec.Token()
		if err != nil {
			return ""
		}
		switch t := t.(type) {
		case json.Delim:
			switch t {
			case '[':
				if !dec.More() {
					return ""
				}
				continue // into the first element
			case '{':
				if len(path) == 0 || !seek(dec, path[0]) {
					return ""
				}
				path = path[1:]
			default:
				return ""
			}
		case string:
			if len(path) == 0 {
				return t
			}
			return ""
		case json.Number:
			if len(path) == 0 {
				return t.String()
			}
			return ""
		default:
			return ""
		}
	}
}

// seek moves to the value of a member of the object that dec is in.
func seek(dec *json.Decoder, name string) bool {
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		if t == name {
			return true
		}
		var skip json.RawMessage
		if dec.Decode(&skip) != nil {
			return false
		}
	}
	return false
}
