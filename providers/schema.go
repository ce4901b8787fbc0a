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

// lookup reads a string or number at a path of member names, going into arrays: the
// first that is not empty, as the broker does. Where there is none it is empty:
// whether the payload must have a subject is for the broker to say.
func lookup(data []byte, path []string) string {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	value, _ := seek(dec, path)
	return value
}

// seek reads the next value: to its end, unless it finds something in it.
func seek(dec *json.Decoder, path []string) (found string, err error) {
	t, err := dec.Token()
	if err != nil {
		return "", err
	}
	switch t := t.(type) {
	case json.Delim:
		for dec.More() {
			below := path
			if t == '{' {
				name, err := dec.Token()
				if err != nil {
					return "", err
				}
				if len(path) == 0 || name != path[0] {
					var skip json.RawMessage
					if err := dec.Decode(&skip); err != nil {
						return "", err
					}
					continue
				}
				below = path[1:]
			}
			if found, err = seek(dec, below); found != "" || err != nil {
				return found, err
			}
		}
		_, err = dec.Token() // its end
		return "", err
	case string:
		found = t
	case json.Number:
		found = t.String()
	}
	if len(path) > 0 {
		found = ""
	}
	return found, nil
}
