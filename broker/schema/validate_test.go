package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker/jsondoc"
)

func mustCompile(t *testing.T, document string) *Schema {
	t.Helper()
	var doc jsondoc.Doc
	if err := doc.Parse([]byte(document), 100); err != nil {
		t.Fatal(err)
	}
	s, err := Compile(&doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustParse(t *testing.T, document string) *jsondoc.Doc {
	t.Helper()
	doc := new(jsondoc.Doc)
	if err := doc.Parse([]byte(document), 100); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestFallback: what is not known is named, with its place, and judged by the
// library.
func TestFallback(t *testing.T) {
	for document, want := range map[string]string{
		`{"type":"object"}`: "",
		`{"$schema":"https://json-schema.org/draft/2019-09/schema","$recursiveAnchor":true,"properties":{"a":{"$recursiveRef":"#"}}}`: "$recursiveRef to a $recursiveAnchor at #/properties/a",
		`{"$dynamicAnchor":"n","items":{"$dynamicRef":"#n"}}`:                                                                         "$dynamicRef to a $dynamicAnchor at #/items",
		`{"$defs":{"n":{"$anchor":"n"}},"items":{"$dynamicRef":"#n"}}`:                                                                "",
		`{"properties":{"b~/c":{"allOf":[{"$ref":"#/properties/b~0~1c"}]}}}`:                                                          "a reference that leads back to itself without going into the value at #/properties/b~0~1c",
		`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`:                                                                     "$dynamicRef to a $dynamicAnchor at #/$defs",
		`{"$ref":"http://json-schema.org/draft-07/schema#"}`:                                                                          "",
		`{"format":"unheard-of"}`: "",
	} {
		s := mustCompile(t, document)
		got := s.Fallback()
		if got != want && (want == "" || len(got) < len(want) || got[:len("$dynamicRef")] != "$dynamicRef") {
			t.Errorf("%s falls back for %q, want %q", document, got, want)
		}
	}
}

// TestDisputed: where the two disagree the document is refused, and counted.
func TestDisputed(t *testing.T) {
	s := mustCompile(t, `{"type":"object"}`)
	s.root = &node{} // takes nothing
	var r Run
	if err := s.Validate(&r, mustParse(t, `{}`)); !errors.Is(err, ErrDisputed) || s.Disputed() != 1 {
		t.Errorf("%v, counted %d", err, s.Disputed())
	}
	var invalid *jsonschema.ValidationError
	if err := s.Validate(&r, mustParse(t, `[]`)); !errors.As(err, &invalid) || s.Disputed() != 1 {
		t.Errorf("%v, counted %d", err, s.Disputed())
	}
}

// TestFailsClosed: what cannot be judged is never valid.
func TestFailsClosed(t *testing.T) {
	var r Run
	for document, data := range map[string]string{
		`{"minimum":1}`:                       `1e999999999`,
		`{"not":{"minimum":1}}`:               `1e-999999999`,
		`{"anyOf":[{"const":2},{"const":3}]}`: `1e999999999`,
		`{"uniqueItems":true}`:                `[1e999999999, 2]`,
		`{"type":"integer"}`:                  `1e999999999`,
	} {
		if err := mustCompile(t, document).Validate(&r, mustParse(t, data)); !errors.Is(err, ErrFailed) {
			t.Errorf("%s and %s: %v", document, data, err)
		}
	}
	s := mustCompile(t, `{"type":"object"}`)
	if err := s.Validate(&r, new(jsondoc.Doc)); !errors.Is(err, ErrFailed) {
		t.Errorf("no document: %v", err)
	}
	if err := new(Schema).Validate(&r, mustParse(t, `{}`)); !errors.Is(err, ErrFailed) {
		t.Errorf("no schema: %v", err)
	}
	s.root.object = &object{patterns: []patterned{{}}} // panics
	if err := s.Validate(&r, mustParse(t, `{"a":1}`)); !errors.Is(err, ErrFailed) {
		t.Errorf("a panic: %v", err)
	}
}

// TestAllocates holds validation to no allocation, where strings have escapes,
// elements are to be unique and members are counted as evaluated, too.
func TestAllocates(t *testing.T) {
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":"string","minLength":2,"pattern":"^[a-zæ]+$","format":"date-time"},
		"b":{"uniqueItems":true,"contains":{"const":1.50}},"c":{"enum":["x","\u00e6"]}},
		"allOf":[{"properties":{"d":{"format":"uuid"}}}],"unevaluatedProperties":false,"required":["a"]}`)
	s.root.object.names.find([]byte("a")).child.texts.pattern = nil // its own text is no date
	doc := mustParse(t, `{"a":"2026-10-01T12:00:00Z","b":[1,1.5,"\u00e6",{"x":[1],"y":2},"b"],"c":"\u00e6","d":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}`)
	var r Run
	if n := testing.AllocsPerRun(100, func() {
		if err := s.Validate(&r, doc); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBesideRef: before 2019-09 what stands beside $ref is passed over, but for
// const, which the library reads.
func TestBesideRef(t *testing.T) {
	for _, beside := range []string{
		`"contains":false`, `"propertyNames":false`, `"if":true,"then":false`, `"const":{"a":1}`, `"properties":{"a":false}`, `"minProperties":9`, `"type":"null"`, `"not":{}`,
	} {
		for _, draft := range []string{"http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-06/schema#", "http://json-schema.org/draft-07/schema#",
			"https://json-schema.org/draft/2019-09/schema", "https://json-schema.org/draft/2020-12/schema"} {
			if strings.Contains(draft, "draft-04") { // which has no Boolean schemas
				beside = strings.NewReplacer(":false", `:{"not":{}}`, ":true", ":{}").Replace(beside)
			}
			s := mustCompile(t, `{"$schema":"`+draft+`","definitions":{"a":{"type":["object","array"],"minItems":1}},"$ref":"#/definitions/a",`+beside+`}`)
			for _, data := range []string{`{}`, `{"a":1}`, `{"a":2}`, `[]`, `[1]`, `null`} {
				agree(t, s, mustParse(t, data), func() string { return draft + " " + beside + " " + data })
			}
		}
	}
}

// TestNamesAskedApart: of one schema's answers for an object's names none is
// taken for another's.
func TestNamesAskedApart(t *testing.T) {
	s := mustCompile(t, `{"$defs":{"x":{"anyOf":[{"maxLength":1},{"pattern":"^k"}]}},"properties":{"a":{"$ref":"#/$defs/x"}},"propertyNames":{"$ref":"#/$defs/x"}}`)
	for _, data := range []string{`{"a":"b","k1":"","k2":1}`, `{"a":"b","k1":"","zz":1}`, `{"zz":1,"a":"b"}`, `{"a":"zz"}`} {
		agree(t, s, mustParse(t, data), func() string { return data })
	}
}

// TestNames: names of any length, that share their ends or nearly all.
func TestNames(t *testing.T) {
	var all []string
	for _, c := range []string{"a", "b", "æ"} {
		for n := range 40 {
			all = append(all, strings.Repeat(c, n), strings.Repeat(c, n)+"-", "12345678"+strings.Repeat(c, n)+"12345678", "12345678"+strings.Repeat(c, n)+"X"+strings.Repeat(c, n)+"12345678")
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for _, every := range []int{1, 2, 3, 50} {
		var names names
		in := map[string]bool{}
		for i := 0; i < len(all); i += every {
			names.add(all[i])
			in[all[i]] = true
		}
		names.build()
		for _, name := range all {
			if e := names.find([]byte(name)); (e != nil) != in[name] || e != nil && e.name != name {
				t.Errorf("of %d: %q is found as %v", len(in), name, e)
			}
		}
	}
	if new(names).find(nil) != nil {
		t.Error("nothing holds the empty name")
	}
}

// TestDays: each day that the calendar has is surely a date, and no other.
func TestDays(t *testing.T) {
	f := libraryFormat(t, "date")
	for _, year := range []int{1, 4, 1900, 2000, 2023, 2024, 2100, 9999} {
		for month := range 14 {
			for day := range 33 {
				text := fmt.Sprintf("%04d-%02d-%02d", year, month, day)
				if got, want := f.surely([]byte(text)), f.lib(text) == nil; got != want {
					t.Errorf("%s is a date: %t, want %t", text, got, want)
				}
			}
		}
	}
}

// TestWiped: a Run at rest holds nothing of the document.
func TestWiped(t *testing.T) {
	s := mustCompile(t, `{"items":{"type":"string","maxLength":12},"uniqueItems":true}`)
	var r Run
	for _, data := range []string{`["0182941311\u0032","0182941311\u0032"]`, `["0182941311\u0032","0182941311\u0033"]`} {
		_ = s.Validate(&r, mustParse(t, data))
		for _, b := range [][]byte{r.text, r.other} {
			if strings.Contains(string(b[:cap(b)]), "0182941311") {
				t.Errorf("%s is still there", b[:cap(b)])
			}
		}
		if r.doc != nil || r.data != nil || r.nodes != nil {
			t.Error("the document is still there")
		}
	}
}

// TestMemo holds the memo to a map.
func TestMemo(t *testing.T) {
	var m memo
	for range 3 {
		want := map[[2]uint64]bool{}
		for i := range uint64(5000) {
			node, value := uint32(i%7), i*i%1201
			got, ok := m.get(node, value)
			if answer, known := want[[2]uint64{uint64(node), value}]; ok != known || got != answer {
				t.Fatalf("node %d, value %d: %t %t, want %t %t", node, value, got, ok, answer, known)
			}
			answer := i%3 == 0
			m.put(node, value, answer)
			want[[2]uint64{uint64(node), value}] = answer
		}
		m.reset()
	}
}
