package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker"
)

// reader puts one YAML document into the struct of its kind, and remembers on
// which line each value stands. It reads by the field's type, not by what YAML
// takes the text for: 0301 is the text "0301" where text is wanted, and "no" is
// not false.
type reader struct {
	doc    Document
	faults Faults
}

func (r *reader) fault(n *yaml.Node, what, remedy string) {
	r.faults = append(r.faults, Fault{r.doc.File, n.Line, what, remedy})
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	intervalType = reflect.TypeFor[broker.Interval]()
	rawType      = reflect.TypeFor[json.RawMessage]()
	digestType   = reflect.TypeFor[broker.Digest]()
	schemaType   = reflect.TypeFor[broker.Schema]()
	tableType    = reflect.TypeFor[broker.TruthTable]()
)

// value reads n into v, whose place in the document is path.
func (r *reader) value(n *yaml.Node, v reflect.Value, path string) {
	if path != "" {
		r.doc.lines[path] = n.Line
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.fault(n, "anchors and aliases are not read", "write the value out where it is used")
		return
	}
	switch v.Type() {
	case timeType:
		r.time(n, v)
		return
	case digestType:
		s, ok := r.scalar(n, path)
		d, err := broker.ParseDigest(s)
		if ok && err != nil {
			r.fault(n, path+" is not a digest", "want 32 hexadecimal characters, or leave it out")
		}
		v.Set(reflect.ValueOf(d))
		return
	case rawType:
		var b bytes.Buffer
		r.json(n, &b)
		v.SetBytes(b.Bytes())
		return
	case intervalType:
		r.interval(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.String:
		if s, ok := r.scalar(n, path); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		s, ok := r.scalar(n, path)
		if ok && s != "true" && s != "false" {
			r.fault(n, fmt.Sprintf("%s is %q", path, s), "want true or false")
		}
		v.SetBool(s == "true")
	case reflect.Int, reflect.Int32, reflect.Int64:
		s, ok := r.scalar(n, path)
		if !ok {
			return
		}
		i, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			r.fault(n, fmt.Sprintf("%s is %q", path, s), "want a whole number")
			return
		}
		v.SetInt(i)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.value(n, v.Elem(), path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			r.fault(n, path+" is not a list", "write it as [a, b], or one a line after '- '")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			r.value(c, v.Index(i), join(path, strconv.Itoa(i)))
		}
	case reflect.Map:
		r.mapping(n, v, path)
	case reflect.Struct:
		r.object(n, v, path)
	default:
		panic(fmt.Sprintf("registry: a declaration cannot hold %s", v.Type())) // no struct of broker does
	}
}

func (r *reader) scalar(n *yaml.Node, path string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		r.fault(n, path+" has no value", "give one, or leave the key out where it may be")
		return "", false
	}
	return n.Value, true
}

func (r *reader) time(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		r.fault(n, "a time is written as text", "want 2026-01-31 or 2026-01-31T12:00:00Z")
		return
	}
	t, err := broker.ParseTime(n.Value)
	if err != nil {
		r.fault(n, err.Error(), "")
		return
	}
	v.Set(reflect.ValueOf(t))
}

func (r *reader) interval(n *yaml.Node, v reflect.Value, path string) {
	var i struct {
		From time.Time `json:"from,omitempty"`
		To   time.Time `json:"to,omitempty"`
	}
	r.object(n, reflect.ValueOf(&i).Elem(), path)
	v.Set(reflect.ValueOf(broker.Interval{From: i.From, To: i.To}))
}

func (r *reader) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, path+" is not a mapping", "write it as key: value, one a line")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			r.fault(k, "a key of "+path+" is not text", "")
			continue
		}
		key := reflect.ValueOf(k.Value).Convert(v.Type().Key())
		if v.MapIndex(key).IsValid() {
			r.fault(k, fmt.Sprintf("%q stands twice in %s", k.Value, path), "keep one")
			continue
		}
		val := reflect.New(v.Type().Elem()).Elem()
		r.value(n.Content[i+1], val, join(path, k.Value))
		v.SetMapIndex(key, val)
	}
}

// object reads the keys of a struct: all that it does not know are faults, and so
// is the absence of one that is not marked as optional.
func (r *reader) object(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, fmt.Sprintf("%s is not a mapping of fields", cmp.Or(path, "the declaration")), "write it as key: value, one a line")
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		if seen[k.Value] {
			r.fault(k, fmt.Sprintf("%q stands twice", k.Value), "keep one")
			continue
		}
		seen[k.Value] = true
		if v.Type() == schemaType && k.Value == "file" {
			r.schemaFile(val, v.Addr().Interface().(*broker.Schema), join(path, "document"))
			continue
		}
		if v.Type() == tableType && k.Value == "file" {
			r.tableFile(val, v.Addr().Interface().(*broker.TruthTable), join(path, "csv"))
			continue
		}
		f := slices.IndexFunc(fields, func(f field) bool { return f.name == k.Value })
		if f < 0 {
			r.fault(k, fmt.Sprintf("%q is not a field of %s", k.Value, r.what(path)), "want one of "+names(fields))
			continue
		}
		r.value(val, v.Field(fields[f].index), join(path, k.Value))
		if v.Type() == tableType && k.Value == "csv" {
			r.inlineTable(val, v.Addr().Interface().(*broker.TruthTable))
		}
	}
	if v.Type() == tableType {
		if seen["file"] && seen["csv"] {
			r.fault(n, "a truth table is given both as csv and as file", "keep one")
		}
		seen["csv"] = seen["csv"] || seen["file"]
	}
	if v.Type() == schemaType {
		if seen["file"] && seen["document"] {
			r.fault(n, "a schema is given both as document and as file", "keep one")
		}
		seen["document"] = seen["document"] || seen["file"]
	}
	lacks := slices.DeleteFunc(fields, func(f field) bool { return !f.required || seen[f.name] })
	if len(lacks) > 0 {
		r.fault(n, fmt.Sprintf("%s lacks %s", r.what(path), names(lacks)), "say each, if only that there is none: [] or {}")
	}
}

// what names a place in messages: "agreement", "agreement cost".
func (r *reader) what(path string) string {
	words := []string{string(r.doc.Kind)}
	for p := range strings.SplitSeq(path, "/") {
		if _, err := strconv.Atoi(p); err != nil && p != "" {
			words = append(words, p)
		}
	}
	return strings.Join(words, " ")
}

type field struct {
	name     string
	index    int
	required bool
}

func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		name, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out = append(out, field{name, i, opts != "omitempty" && opts != "omitzero"})
		}
	}
	return out
}

func names(fields []field) string {
	var s []string
	for _, f := range fields {
		s = append(s, f.name)
	}
	return strings.Join(s, ", ")
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "/" + key
}

// schemaFile reads a schema that lies beside the declarations.
func (r *reader) schemaFile(n *yaml.Node, s *broker.Schema, path string) {
	r.doc.lines[path] = n.Line
	name, ok := r.scalar(n, path)
	if !ok {
		return
	}
	if !filepath.IsLocal(name) {
		r.fault(n, fmt.Sprintf("schema file %q lies outside the declarations' directory", name), "put it beside or below the YAML file and name it relative to that")
		return
	}
	b, err := readFile(filepath.Join(filepath.Dir(r.doc.File), name))
	if err != nil {
		r.fault(n, "schema file cannot be read: "+err.Error(), "")
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		r.fault(n, fmt.Sprintf("schema file %s is not JSON: %v", name, err), "")
		return
	}
	s.Document = compact.Bytes()
}

// json writes a YAML value as JSON, keys in their order.
func (r *reader) json(n *yaml.Node, b *bytes.Buffer) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.fault(n, "anchors and aliases are not read", "write the value out where it is used")
		b.WriteString("null")
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || seen[k.Value] {
				r.fault(k, fmt.Sprintf("key %q stands twice, or is not text", k.Value), "keep one")
			}
			seen[k.Value] = true
			if i > 0 {
				b.WriteByte(',')
			}
			quote(b, k.Value)
			b.WriteByte(':')
			r.json(n.Content[i+1], b)
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			r.json(c, b)
		}
		b.WriteByte(']')
	default:
		r.jsonScalar(n, b)
	}
}

func (r *reader) jsonScalar(n *yaml.Node, b *bytes.Buffer) {
	switch n.ShortTag() {
	case "!!null", "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			r.fault(n, "value cannot be read: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
			b.WriteString("null")
			return
		}
		j, err := json.Marshal(v)
		if err != nil { // .inf, .nan
			r.fault(n, fmt.Sprintf("%s has no JSON", n.Value), "")
			j = []byte("null")
		}
		b.Write(j)
	default:
		quote(b, n.Value)
	}
}

func quote(b *bytes.Buffer, s string) {
	j, _ := json.Marshal(s) // a string always has JSON
	b.Write(j)
}
