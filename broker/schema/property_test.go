package schema

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// The library's verdict on anything: random schemas of every draft and random
// documents, made of so few names and values that they meet.

var (
	someNames   = []string{"a", "b", "foo", "bar/baz", "x-1", "et langt navn 1", "et langt navn 2", "æ", ""}
	someStrings = []string{"", "a", "b", "foo", "æøå", "😀😀", "2026-02-28", "2026-02-30", "12:00:00Z", "2026-02-28T12:00:00.5+01:00", "a@b.no", "https://a.no/b", "127.0.0.1",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "12345678901", "a\nb", "^(", "P1D"}
	someNumbers = []json.Number{"0", "-0", "0.0", "1", "1.0", "1e0", "-1", "2", "3", "0.1", "0.3", "1.5", "100", "1e2", "12345678901234567890", "1234567890123456789012.5",
		"0.000000000000000000001", "999999999999999999", "-999999999999999999.0", "1e30", "4.5e-3"}
	somePatterns = []string{"^a", "o+$", "^[a-z]*$", "^[0-9]{11}$", "æ", "^.{2}$", "^x-", "\\bfoo\\b", ""}
	someFormats  = append([]string{"unheard-of", "idn-email"}, formats...)
)

type gen struct {
	t     *rapid.T
	draft int
	// marks has every other schema ask something of what is unevaluated.
	marks bool
}

func (g *gen) chance(of int) bool { return rapid.IntRange(1, of).Draw(g.t, "chance") == 1 }
func (g *gen) small(max int) int  { return rapid.IntRange(0, max).Draw(g.t, "n") }
func pick[T any](g *gen, from []T) T {
	return rapid.SampledFrom(from).Draw(g.t, "pick")
}

func (g *gen) value(depth int) any {
	switch k := g.small(9); {
	case k == 0:
		return nil
	case k == 1:
		return g.chance(2)
	case k <= 3:
		return pick(g, someNumbers)
	case k <= 5 || depth == 0:
		return pick(g, someStrings)
	case k == 6:
		out := []any{}
		n := g.small(4)
		if g.chance(10) {
			n = 25
		}
		for range n {
			out = append(out, g.value(depth-1))
		}
		return out
	default:
		out := map[string]any{}
		for range g.small(5) {
			out[pick(g, someNames)] = g.value(depth - 1)
		}
		return out
	}
}

func (g *gen) schemas(depth int) []any {
	var out []any
	for range 1 + g.small(2) {
		out = append(out, g.schema(depth))
	}
	return out
}

func (g *gen) names(max int) []any {
	out := []any{}
	for range 1 + g.small(max) {
		if n := any(pick(g, someNames)); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (g *gen) mapped(of func() any) map[string]any {
	out := map[string]any{}
	for range 1 + g.small(3) {
		out[pick(g, someNames)] = of()
	}
	return out
}

// schema is a random schema; references lead to one of three definitions.
func (g *gen) schema(depth int) any {
	if g.draft > 4 && g.chance(8) {
		return g.chance(3)
	}
	s := map[string]any{}
	below := func() any { return g.schema(depth - 1) }
	if depth <= 0 {
		below = func() any {
			if g.draft > 4 {
				return true
			}
			return map[string]any{}
		}
	}
	defs := "definitions"
	if g.draft >= 2019 {
		defs = "$defs"
	}
	if g.marks && g.chance(2) {
		s[pick(g, []string{"unevaluatedProperties", "unevaluatedItems"})] = pick(g, []any{false, false, true, map[string]any{"type": "string"}})
	}
	for range 1 + g.small(3) {
		switch g.small(36) {
		case 0:
			s["type"] = pick(g, []any{"null", "boolean", "number", "integer", "string", "array", "object", []any{"integer", "string"}, []any{"number", "integer", "object"}})
		case 1:
			s["enum"] = []any{g.value(2), g.value(2), "enum's own"}
			if e := s["enum"].([]any); fmt.Sprint(e[0]) == fmt.Sprint(e[1]) {
				s["enum"] = e[:1]
			}
		case 2:
			s["const"] = g.value(2)
		case 3:
			s["minimum"] = pick(g, someNumbers)
		case 4:
			s["maximum"] = pick(g, someNumbers)
		case 5:
			if g.draft == 4 {
				s["minimum"], s["exclusiveMinimum"] = pick(g, someNumbers), g.chance(2)
			} else {
				s["exclusiveMinimum"] = pick(g, someNumbers)
			}
		case 6:
			if g.draft == 4 {
				s["maximum"], s["exclusiveMaximum"] = pick(g, someNumbers), g.chance(2)
			} else {
				s["exclusiveMaximum"] = pick(g, someNumbers)
			}
		case 7:
			s["multipleOf"] = pick(g, []json.Number{"1", "2", "0.1", "0.01", "1.5", "1e-7", "12345678901234567890", "3e20", "0.0000000000000000001"})
		case 8:
			s["minLength"] = g.small(4)
		case 9:
			s["maxLength"] = g.small(4)
		case 10:
			s["pattern"] = pick(g, somePatterns)
		case 11:
			s["format"] = pick(g, someFormats)
		case 12, 13, 14:
			s["properties"] = g.mapped(below)
		case 15:
			m := map[string]any{}
			for range 1 + g.small(2) {
				m[pick(g, somePatterns)] = below()
			}
			s["patternProperties"] = m
		case 16:
			s["additionalProperties"] = pick(g, []any{true, false, false})
			if g.chance(2) {
				s["additionalProperties"] = below()
			}
		case 17:
			s["propertyNames"] = below()
		case 18:
			s["required"] = g.names(3)
		case 19:
			s["minProperties"] = g.small(3)
		case 20:
			s["maxProperties"] = g.small(4)
		case 21:
			s["dependencies"] = g.mapped(func() any {
				if g.chance(2) {
					return g.names(2)
				}
				return below()
			})
		case 22:
			s["dependentRequired"] = g.mapped(func() any { return g.names(2) })
		case 23:
			s["dependentSchemas"] = g.mapped(below)
		case 24:
			s["items"] = below()
			if g.draft < 2020 && g.chance(2) {
				s["items"] = g.schemas(depth - 1)
			}
		case 25:
			s["additionalItems"] = below()
		case 26:
			s["prefixItems"] = g.schemas(depth - 1)
		case 27:
			s["contains"] = below()
			if g.chance(2) {
				s["minContains"] = g.small(3)
			}
			if g.chance(2) {
				s["maxContains"] = g.small(3)
			}
		case 28:
			s["uniqueItems"] = g.chance(2)
			s["minItems"] = g.small(3)
		case 29:
			s["maxItems"] = g.small(4)
		case 30:
			s["allOf"] = g.schemas(depth - 1)
		case 31:
			s["anyOf"] = g.schemas(depth - 1)
		case 32:
			s["oneOf"] = g.schemas(depth - 1)
		case 33:
			s["not"] = below()
		case 34:
			s["if"], s["then"] = below(), below()
			if g.chance(2) {
				s["else"] = below()
			}
		case 35:
			s["$ref"] = pick(g, []string{"#/" + defs + "/a", "#/" + defs + "/b", "#/" + defs + "/c", "#"})
		case 36:
			s[pick(g, []string{"unevaluatedProperties", "unevaluatedItems"})] = below()
		}
	}
	return s
}

var uris = map[int]string{
	4: "http://json-schema.org/draft-04/schema#", 6: "http://json-schema.org/draft-06/schema#", 7: "http://json-schema.org/draft-07/schema#",
	2019: "https://json-schema.org/draft/2019-09/schema", 2020: "https://json-schema.org/draft/2020-12/schema",
}

func parsed(t rapid.TB, v any) *jsondoc.Doc {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc := new(jsondoc.Doc)
	if err := doc.Parse(b, 1000); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return doc
}

// watched are paths that random documents have.
var watched = []broker.Pointer{"/a", "/a/b", "/foo", "/bar~1baz/a", "", "/a/a/a", "/foo"}

func TestRandomSchemas(t *testing.T) { randomSchemas(t, []int{4, 6, 7, 2019, 2020}, false) }

func TestRandomUnevaluated(t *testing.T) { randomSchemas(t, []int{2019, 2020}, true) }

func randomSchemas(t *testing.T, drafts []int, marks bool) {
	compiled, valid, invalid := 0, 0, 0
	for range 5 { // rapid's hundred are few for so many keywords
		rapid.Check(t, func(t *rapid.T) {
			g := &gen{t, rapid.SampledFrom(drafts).Draw(t, "draft"), marks}
			s, ok := g.schema(3).(map[string]any)
			if !ok {
				s = map[string]any{"not": map[string]any{"type": "object"}}
			}
			defs := map[string]any{"a": g.schema(2), "b": g.schema(2), "c": g.schema(1)}
			s["$schema"], s["definitions"], s["$defs"] = uris[g.draft], defs, defs
			document := parsed(t, s)
			sch, err := Compile(document, watched)
			if err != nil {
				t.Skip(err) // not a schema in this draft
			}
			if sch.Fallback() == "" {
				compiled++
			}
			for range 12 {
				doc := parsed(t, g.value(4))
				// A schema that leads to itself may take the library for ever.
				if doc.Len() > 60 {
					continue
				}
				if sch.library.Validate(Generic(doc, 0)) == nil {
					valid++
				} else {
					invalid++
				}
				agree(t, sch, doc, func() string { return fmt.Sprintf("schema %s\ndata %s", document.Data(), doc.Data()) })
				hitsAgree(t, sch, doc)
			}
		})
	}
	t.Logf("%d schemas were compiled, %d documents valid, %d invalid", compiled, valid, invalid)
}

// hitsAgree holds what a valid document's pass noted to what the paths lead to.
func hitsAgree(t rapid.TB, s *Schema, doc *jsondoc.Doc) {
	t.Helper()
	var r Run
	if s.Validate(&r, doc) != nil {
		return
	}
	got := make([][]int, len(watched))
	for _, h := range r.Hits() {
		got[h.Watch] = append(got[h.Watch], h.Node)
	}
	for w, p := range watched {
		tokens, err := p.Tokens()
		if err != nil {
			t.Fatal(err)
		}
		var want []int
		jsondoc.Path(tokens).Each(doc, func(i int) bool { want = append(want, i); return true })
		if !slices.Equal(got[w], want) {
			t.Errorf("%q leads to %v, want %v\n%s", p, got[w], want, doc.Data())
		}
	}
}

// TestNumbers holds the decimals to big.Rat.
func TestNumbers(t *testing.T) {
	number := rapid.Custom(func(t *rapid.T) string {
		return rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,22})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
	})
	near := rapid.Custom(func(t *rapid.T) string {
		return rapid.StringMatching(`-?[0-9](\.[0-9]0{0,3})?`).Draw(t, "near")
	})
	rapid.Check(t, func(t *rapid.T) {
		which := rapid.OneOf(number, near)
		a, b := which.Draw(t, "a"), which.Draw(t, "b")
		x, ok := parseNumber([]byte(a))
		if !ok {
			t.Fatalf("%s is not read", a)
		}
		ra, _ := new(big.Rat).SetString(a)
		rb, _ := new(big.Rat).SetString(b)
		if x.rational().Cmp(ra) != 0 {
			t.Fatalf("%s is read as %s", a, x.rational())
		}
		e := newExact(rb)
		if got, want := x.cmp(&e), ra.Cmp(rb); got != want {
			t.Fatalf("%s and %s compare as %d, want %d", a, b, got, want)
		}
		if got, want := x.integer(), ra.IsInt(); got != want {
			t.Fatalf("%s is an integer: %t", a, got)
		}
		if rb.Sign() > 0 {
			if got, want := x.multipleOf(&e), new(big.Rat).Quo(ra, rb).IsInt(); got != want {
				t.Fatalf("%s is a multiple of %s: %t", a, b, got)
			}
		}
	})
}

// TestFormats: what is surely of a format is so to the library.
func TestFormats(t *testing.T) {
	shapes := map[string]string{
		"date":      `[0-9]{4}-[0-3][0-9]-[0-3][0-9]`,
		"time":      `[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,3})?(Z|z|[+-][0-2][0-9]:[0-6][0-9]|)`,
		"date-time": `[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,3})?(Z|z|[+-][0-2][0-9]:[0-6][0-9]|)`,
		"uuid":      `[0-9a-fA-Fg]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}[-:][0-9a-f]{12}`,
		"hostname":  `[a-zA-Z0-9-]{0,65}(\.[a-z0-9_-]{0,5}){0,3}`,
		"email":     `[a-z0-9._+@-]{0,66}@[a-z0-9.-]{0,9}`,
		"uri":       `(https?|ftp|)://[a-z0-9.:@-]{0,9}(/[a-zA-Z0-9/._~%?#-]{0,9})?`,
		"ipv4":      `[0-9]{1,3}(\.[0-2]?[0-9]{0,2}){2,4}`,
	}
	shapes["iri"], shapes["uri-reference"], shapes["iri-reference"] = shapes["uri"], shapes["uri"], shapes["uri"]
	sure := map[string]int{}
	var never []string // rapid is not to be asked again after a failure
	for _, name := range sorted(shapes) {
		f := libraryFormat(t, name)
		for range 20 { // of a hundred texts few are of a format, of ipv4 perhaps none
			if sure[name] > 5 {
				break
			}
			rapid.Check(t, func(t *rapid.T) {
				text := rapid.StringMatching(shapes[name]).Draw(t, "text")
				if rapid.IntRange(0, 3).Draw(t, "damage") == 0 && len(text) > 0 {
					at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
					text = text[:at] + rapid.SampledFrom([]string{"", "é", "-", ".", "0", ":", "/"}).Draw(t, "with") + text[at+1:]
				}
				if f.surely([]byte(text)) {
					sure[name]++
					if err := f.lib(text); err != nil {
						t.Fatalf("%q is surely a %s, but %v", text, name, err)
					}
				}
			})
		}
		if sure[name] == 0 {
			never = append(never, name)
		}
	}
	if len(never) > 0 {
		t.Errorf("nothing was surely a %v", never)
	}
}

func libraryFormat(t *testing.T, name string) *format {
	doc := parsed(t, map[string]any{"format": name})
	s, err := Compile(doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := newFormat(s.library.Format)
	if !ok || f.surely == nil {
		t.Fatalf("the format %s is not known", name)
	}
	return f
}

// TestEveryFormatIsKnown: a release of the library with a new format shows here.
func TestEveryFormatIsKnown(t *testing.T) {
	for _, name := range formats {
		s, err := Compile(parsed(t, map[string]any{"format": name}), nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.library.Format == nil || s.Fallback() != "" {
			t.Errorf("%s: %q", name, s.Fallback())
		}
		if err := s.library.Format.Validate(12); err != nil {
			t.Errorf("%s is asked of numbers: %v", name, err)
		}
	}
}

// fuzzed are a handful of schemas; documents for them become seeds.
func fuzzed(f *testing.F) (schemas []*Schema) {
	add := func(document []byte) {
		var doc jsondoc.Doc
		if err := doc.Parse(document, 100); err != nil {
			f.Fatal(err)
		}
		s, err := Compile(&doc, watched)
		if err != nil {
			f.Fatal(err)
		}
		schemas = append(schemas, s)
	}
	for _, name := range []string{"income-1", "property-1"} {
		b, err := os.ReadFile("../../deploy/demo/schemas/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		add(b)
	}
	for _, document := range []string{
		`{"$ref":"http://json-schema.org/draft-07/schema#"}`,
		`{"type":["object","array"],"minProperties":1,"patternProperties":{"^a":{"multipleOf":0.01,"minimum":-1}},"additionalProperties":{"enum":[1,"1",[1,{"a":1.0}],null]},"uniqueItems":true,"contains":{"type":"integer"},"maxContains":2}`,
		`{"$defs":{"t":{"anyOf":[{"type":"string","format":"date-time"},{"type":"array","items":{"$ref":"#/$defs/t"}},{"properties":{"a":{"$ref":"#/$defs/t"}},"required":["a"],"propertyNames":{"maxLength":2,"pattern":"^[a-c]*$"}}]}},"$ref":"#/$defs/t"}`,
		`{"oneOf":[{"required":["a"]},{"required":["b"]},{"minItems":2}],"dependentRequired":{"a":["c"]},"if":{"required":["c"]},"then":{"properties":{"c":{"const":1e1}}},"else":{"not":{"required":["d"]}}}`,
	} {
		add([]byte(document))
	}
	for i, document := range []string{
		`{"oppgaveInntektsmottaker":[{"opplysningspliktigId":"974761076","virksomhetId":"974761076","kalendermaaned":"2026-10","inntektsmottaker":{"personidentifikator":"01829413112"},"inntekt":[{"fordel":"kontantytelse","utloeserArbeidsgiveravgift":true,"inngaarIGrunnlagForTrekk":true,"beloep":41000,"loennsinntekt":{"beskrivelse":"fastloenn","antall":1.5}}]}]}`,
		`{"skattleggingsperiode":2026,"formuesopplysninger":{"formuestype":"selveidBolig"}}`,
		`{"type":"object","properties":{"a":{"$ref":"#"},"b":{"enum":[1,2]}},"required":["a"],"pattern":"^a$"}`,
		`[1, 1.0, {"a":1,"b":[2]}, {"b":[2.0],"\u0061":1e0}, "\u00e6", "æ", 0.01, 12345678901234567890]`,
		`{"a":{"a":["2026-01-01T00:00:00Z",["x"]]}}`,
		`{"a":1,"c":10.0,"d":null}`,
	} {
		f.Add([]byte(document), uint8(i))
	}
	return schemas
}

// FuzzDocuments mutates documents against a handful of schemas.
func FuzzDocuments(f *testing.F) {
	schemas := fuzzed(f)
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		var doc jsondoc.Doc
		if len(data) > 4096 || doc.Parse(data, 20) != nil {
			return
		}
		for i, n := range doc.Nodes() {
			if n.Kind == jsondoc.Number && !Reasonable(doc.Bytes(i)) {
				return
			}
		}
		s := schemas[int(which)%len(schemas)]
		if s.Fallback() != "" {
			t.Fatal(s.Fallback())
		}
		agree(t, s, &doc, func() string { return fmt.Sprintf("schema %d, %s", which, data) })
		hitsAgree(t, s, &doc)
	})
}
