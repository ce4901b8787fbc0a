package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/providers/synthetic"
)

// What Read says yes to is what the two passes say yes to, with the same tape
// and the same hits. Where it says no there is nothing to hold it to, but for
// TestReadReads: it has to say yes to what it is made for.

// twoPasses is what Read stands for.
func twoPasses(s *Schema, r *Run, doc *jsondoc.Doc, data []byte, maxDepth int) error {
	if err := doc.Parse(data, maxDepth); err != nil {
		return err
	}
	for i := range doc.Nodes() {
		if doc.Node(i).Kind == jsondoc.Number && !Reasonable(doc.Bytes(i)) {
			return errors.New("beyond reason")
		}
	}
	return s.Validate(r, doc)
}

// readAgrees holds Read to the two passes, and says whether it said yes. The
// Run is the caller's: it may have learnt from anything.
func readAgrees(t rapid.TB, s *Schema, r *Run, doc *jsondoc.Doc, data []byte, maxDepth int) bool {
	t.Helper()
	for i := range r.reader.learnt {
		r.reader.learnt[i].skip = 0
	}
	if !s.Read(r, doc, data, maxDepth) {
		if doc.Len() > 0 || doc.Data() != nil || len(r.Hits()) > 0 {
			t.Fatalf("after a no there are %d nodes and %d hits", doc.Len(), len(r.Hits()))
		}
		return false
	}
	var want jsondoc.Doc
	var run Run
	if err := twoPasses(s, &run, &want, data, maxDepth); err != nil {
		t.Fatalf("read in one pass, but in two: %v\n%s\nlimit %d", err, data, maxDepth)
	}
	if !slices.Equal(doc.Nodes(), want.Nodes()) {
		t.Fatalf("%s\nis read as %+v\nwant       %+v", data, doc.Nodes(), want.Nodes())
	}
	if &doc.Data()[0] != &data[0] || len(doc.Data()) != len(data) {
		t.Fatal("the document's data are not those that were given")
	}
	for i := range doc.Nodes() {
		if !bytes.Equal(doc.Name(i), want.Name(i)) {
			t.Fatalf("%s\nnode %d is named %q, want %q", data, i, doc.Name(i), want.Name(i))
		}
	}
	if !slices.Equal(r.Hits(), run.Hits()) {
		t.Fatalf("%s\nwatched: %v, want %v", data, r.Hits(), run.Hits())
	}
	return true
}

// text writes a value with its members in any order and in some style.
func (g *gen) text(b []byte, v any) []byte {
	style := rapid.IntRange(0, 5).Draw(g.t, "style")
	space := func() {
		switch {
		case style == 1:
			b = append(b, ' ')
		case style == 2:
			b = append(b, pick(g, []string{"", " ", "\n\t", "\r\n"})...)
		}
	}
	quote := func(s string) {
		if rapid.IntRange(0, 19).Draw(g.t, "ascii") > 0 {
			q, _ := json.Marshal(s)
			b = append(b, q...)
			return
		}
		b = append(b, '"')
		for _, c := range s {
			if c > 0xFFFF {
				b = append(b, string(c)...)
			} else {
				b = fmt.Appendf(b, `\u%04x`, c)
			}
		}
		b = append(b, '"')
	}
	var write func(v any)
	write = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			names := sorted(v)
			if rapid.Bool().Draw(g.t, "shuffle") {
				names = rapid.Permutation(names).Draw(g.t, "order")
			}
			b = append(b, '{')
			for i, name := range names {
				if i > 0 {
					b = append(b, ',')
				}
				space()
				quote(name)
				if style == 2 {
					space()
				}
				b = append(b, ':')
				space()
				write(v[name])
			}
			space()
			b = append(b, '}')
		case []any:
			b = append(b, '[')
			for i, e := range v {
				if i > 0 {
					b = append(b, ',')
				}
				space()
				write(e)
			}
			space()
			b = append(b, ']')
		case string:
			quote(v)
		default:
			out, _ := json.Marshal(v)
			b = append(b, out...)
		}
		if style == 2 {
			space()
		}
	}
	write(v)
	return b
}

// splinters are what is put into documents to break them, or nearly.
var splinters = []string{
	"", ",", ":", "\"", "\\", "{", "}", "[", "]", " ", "\n", "\x00", "\x1f", "\x7f", "\x80", "\xff", "æ", "\xc3", "0", "00", "-", "-0", "1", ".", ".0", ".5", "e1", "E+400", "123456789012345678", "1e999",
	"true", "false", "null", "nul", "\\u0061", "\\n", "\\ud800", "/", "\"a\"", "\"\"", "[]", "{}", ",\"a\":1", "\"x\":{},", "\"\\u0062eloep\":1,", "\"beloep\":1,", "\"b\":[1,{}],",
}

// broken is a document with one thing or a few changed.
func broken(t *rapid.T, data []byte) []byte {
	data = slices.Clone(data)
	for range rapid.IntRange(1, 2).Draw(t, "changes") {
		at := rapid.IntRange(0, len(data)).Draw(t, "at")
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0: // a byte
			if at < len(data) {
				data[at] = byte(rapid.IntRange(0, 255).Draw(t, "byte"))
			}
		case 1: // less of it
			data = data[:at]
		case 2: // a part again
			to := min(len(data), at+rapid.IntRange(1, 40).Draw(t, "length"))
			data = slices.Insert(data, at, slices.Clone(data[at:to])...)
		case 3: // a part less
			data = slices.Delete(data, at, min(len(data), at+rapid.IntRange(1, 40).Draw(t, "length")))
		default: // something put in, or in place of as much
			s := rapid.SampledFrom(splinters).Draw(t, "splinter")
			if rapid.Bool().Draw(t, "replace") {
				data = slices.Delete(data, at, min(len(data), at+len(s)))
			}
			data = slices.Insert(data, at, []byte(s)...)
		}
	}
	return data
}

func TestReadRandomSchemas(t *testing.T) {
	var yes, valid, no, brokenYes int
	var r Run // one for all schemas
	var doc jsondoc.Doc
	for range 5 {
		rapid.Check(t, func(t *rapid.T) {
			g := &gen{t, rapid.SampledFrom([]int{4, 6, 7, 2019, 2020}).Draw(t, "draft"), false}
			s := map[string]any{}
			if v, ok := g.schema(3).(map[string]any); ok {
				s = v
			}
			// Most schemas have properties, and most of those say of what kind.
			if !g.chance(4) {
				m := map[string]any{}
				for _, name := range someNames {
					if !g.chance(4) {
						m[name] = g.schema(2)
					}
				}
				s["properties"] = m
			}
			defs := map[string]any{"a": g.schema(2), "b": g.schema(2), "c": g.schema(1)}
			s["$schema"], s["definitions"], s["$defs"] = uris[g.draft], defs, defs
			sch, err := Compile(parsed(t, s), watched)
			if err != nil {
				t.Skip(err)
			}
			for range 12 {
				data := g.text(nil, g.value(4))
				if len(data) > 500 {
					continue
				}
				depth := pick(g, []int{100, 100, 100, 2, 1})
				err := twoPasses(sch, new(Run), new(jsondoc.Doc), data, depth)
				if err == nil {
					valid++
				} else {
					no++
				}
				if readAgrees(t, sch, &r, &doc, data, depth) {
					yes++
				}
				if readAgrees(t, sch, &r, &doc, broken(t, data), depth) {
					brokenYes++
				}
			}
		})
	}
	t.Logf("%d documents valid, %d of them read; %d not valid; %d read when broken", valid, yes, no, brokenYes)
	if yes < valid/4 || brokenYes == 0 {
		t.Error("hardly anything was read: the test shows nothing")
	}
}

type demoSchema struct {
	*Schema
	record func(g *synthetic.Generator, i int) []byte
}

// demo are the demo's schemas as its datasets watch them, with the records that
// the demo publishes.
func demo(t testing.TB) (out []demoSchema) {
	for name, watch := range map[string][]broker.Pointer{
		"income-1":   {"/oppgaveInntektsmottaker/inntektsmottaker/personidentifikator", "/oppgaveInntektsmottaker/kalendermaaned"},
		"property-1": {"/eier/personidentifikator", "/eiendomsopplysninger/kommunenummer", "/skattleggingsperiode"},
	} {
		b, err := os.ReadFile("../../deploy/demo/schemas/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var doc jsondoc.Doc
		if err := doc.Parse(b, 100); err != nil {
			t.Fatal(err)
		}
		s, err := Compile(&doc, watch)
		if err != nil {
			t.Fatal(err)
		}
		if name == "income-1" {
			out = append(out, demoSchema{s, func(g *synthetic.Generator, i int) []byte { return g.Income(nil, i).Data }})
		} else {
			out = append(out, demoSchema{s, func(g *synthetic.Generator, i int) []byte {
				if !g.Person(i).OwnsProperty {
					return nil
				}
				return g.Property(nil, i).Data
			}})
		}
	}
	slices.SortFunc(out, func(a, b demoSchema) int {
		return strings.Compare(a.root.object.names.entries[0].name, b.root.object.names.entries[0].name)
	})
	return out
}

// styles are other ways to write a document. The demo's is without spaces.
var styles = map[string]func(data []byte) []byte{
	"compact": func(data []byte) []byte { return data },
	"indented": func(data []byte) []byte {
		var b bytes.Buffer
		_ = json.Indent(&b, data, " ", "\t")
		return b.Bytes()
	},
	"spaced": func(data []byte) []byte { // no text of these has a comma or a colon
		return []byte(strings.NewReplacer(`":`, `": `, `,`, `, `).Replace(string(data)))
	},
	"ASCII": func(data []byte) []byte {
		var b []byte
		for _, c := range string(data) {
			if c < 0x80 {
				b = append(b, byte(c))
			} else {
				b = fmt.Appendf(b, `\u%04x`, c)
			}
		}
		return b
	},
}

// TestReadReads: the demo's records are read, however they are written, though
// two datasets' come in turns.
func TestReadReads(t *testing.T) {
	g := synthetic.New(synthetic.Config{People: 3000, Seed: 7})
	schemas := demo(t)
	for style, write := range styles {
		var r Run
		var doc jsondoc.Doc
		all, read := 0, 0
		for i := range 3000 {
			for _, s := range schemas {
				data := s.record(g, i)
				if len(data) == 0 {
					continue
				}
				all++
				if readAgrees(t, s.Schema, &r, &doc, write(data), 64) {
					read++
				}
			}
		}
		t.Logf("%s: of %d records %d are read", style, all, read)
		if read < all*999/1000 {
			t.Errorf("%s: of %d records only %d are read", style, all, read)
		}
	}
}

// TestReadBroken: records with something changed get the two passes' verdict.
func TestReadBroken(t *testing.T) {
	g := synthetic.New(synthetic.Config{People: 1000, Seed: 8})
	schemas := demo(t)
	var r Run
	var doc jsondoc.Doc
	read := 0
	for range 100 {
		rapid.Check(t, func(t *rapid.T) {
			i := rapid.IntRange(0, 999).Draw(t, "person")
			for j, s := range schemas {
				data := s.record(g, i)
				if len(data) == 0 {
					continue
				}
				for range 4 {
					if readAgrees(t, s.Schema, &r, &doc, broken(t, data), 64) {
						read++
					}
				}
				// And by another dataset's schema.
				readAgrees(t, schemas[1-j].Schema, &r, &doc, data, 64)
			}
		})
	}
	t.Logf("%d were still read", read)
}

// TestReadEveryByte puts each of some bytes in each place of a record, and cuts
// it off there.
func TestReadEveryByte(t *testing.T) {
	g := synthetic.New(synthetic.Config{People: 100, Seed: 9})
	var r Run
	var doc jsondoc.Doc
	for _, s := range demo(t) {
		i := 0
		for len(s.record(g, i)) == 0 {
			i++
		}
		whole := s.record(g, i)
		for at := range whole {
			readAgrees(t, s.Schema, &r, &doc, whole[:at:at], 64)
			for _, c := range []byte("\x00\x1f !\"+,-./019:;AZ[\\]az{}\x7f\x80\xff") {
				data := slices.Clone(whole)
				data[at] = c
				readAgrees(t, s.Schema, &r, &doc, data, 64)
			}
		}
	}
}

// TestReadInvalid: the faults that the demo publishes are not read.
func TestReadInvalid(t *testing.T) {
	g := synthetic.New(synthetic.Config{People: 100, Seed: 9, GiantBytes: 20_000})
	var r Run
	var doc jsondoc.Doc
	s := demo(t)[1].Schema
	for i := range 50 {
		for _, f := range synthetic.Faults() {
			readAgrees(t, s, &r, &doc, g.Invalid(f, i).Data, 64)
			if !readAgrees(t, s, &r, &doc, g.Income(nil, i).Data, 64) {
				t.Fatal("a record is not read after one with a fault")
			}
		}
	}
}

// TestReadLimits goes along the borders of what Read takes upon itself.
func TestReadLimits(t *testing.T) {
	type yes []string
	many := func(n int, format string) string {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf(format, i))
		}
		return strings.Join(parts, ",")
	}
	for schema, documents := range map[string]struct{ read, not yes }{
		`{"type":"object","properties":{"a":{"$ref":"#"}}}`: {
			yes{strings.Repeat(`{"a":`, 49) + `{}` + strings.Repeat(`}`, 49), `{}`, ` { } `, `{"a":{},"b":1}`},
			yes{strings.Repeat(`{"a":`, 50) + `{}` + strings.Repeat(`}`, 50), `{"a":{},"a":{}}`, `{"a":{},"b":1,"b":2}`, `{"\u0061":{}}`, `{},`, `{}{}`, `{`, `{"a":`, `{"a":{}`, `{"a":{},}`, `{,"a":{}}`},
		},
		`{"type":"array","items":{"type":"integer","minimum":-3,"exclusiveMaximum":7.5,"multipleOf":0.5}}`: {
			yes{`[-3,0,-0,7,7.0, 1.00 ]`, `[]`, `[ ]`, `[1.0000000000000000]`, `[6.50e0]`[:0] + `[1e0]`, `[70e-1]`},
			yes{`[-4]`, `[8]`, `[7.5]`, `[1.5]`, `[01]`, `[-]`, `[1.]`, `[.5]`, `[+1]`, `[1e]`, `[1,]`, `[,1]`, `[1 2]`, `[--1]`, `[-01]`, `[00]`, `[1e400]`, `[123456789012345678]`},
		},
		`{"type":"array","items":{"type":"integer","minimum":-999999999999999999,"maximum":99999999999999999}}`: {
			yes{`[-99999999999999999,99999999999999999,12345678,1234567,123456789,-12345678, 1234567 ]`, `[-999999999999999999]`},
			yes{`[-1000000000000000000]`, `[100000000000000000]`, `[9223372036854775808]`, `[18446744073709551616]`},
		},
		`{"type":"array","items":{"type":"number","exclusiveMinimum":-1.5,"maximum":2.25}}`: {
			yes{`[-1,-1.49,2,2.25,2.250]`},
			yes{`[-1.5]`, `[-2]`, `[3]`, `[2.26]`, `[2.250000000000001]`},
		},
		`{"type":"array","items":{"type":"string","pattern":"^[0-9]{9}[ -a]{2}$"}}`: {
			yes{`["123456789  ","000000000AZ"]`, `["12345678\u0039  "]`, `["123456789\" "]`},
			yes{`["12345678a  "]`, `["123456789\\"]`, `["123456789é"]`, `["123456789 "]`, `["/23456789  "]`, `[":23456789  "]`, "[\"12345678\xb9  \"]", "[\"\xb123456789  \"]"},
		},
		`{"type":"array","items":{"type":"string","pattern":"^(a|b[0-9])c?$","minLength":2}}`: {
			yes{`["ac","b1","b1c"]`}, yes{`["a"]`, `["b"]`, `["bc"]`, `["acc"]`},
		},
		`{"type":"array","items":{"type":["string","null"],"maxLength":3}}`: {
			yes{`["abc",null,"æøå","\u00e6øå","😀😀😀"]`}, yes{`["abcd"]`, `["æøåa"]`, `[nul]`, `[true]`, "[\"\xff\"]", "[\"\x1f\"]", "[\"12345678\xff1234567\"]", "[\"\xed\xa0\x80\"]", `["\ud800"]`},
		},
		`{"type":"array","items":{"enum":["a","bonus","et langt valg 1","et langt valg 2","\"","æ"]}}`: {
			yes{`["a","bonus","et langt valg 2","\"","æ","\u0061"]`}, yes{`["b"]`, `["et langt valg 3"]`, `[""]`, `["\""`, `["A"]`, `[1]`},
		},
		`{"type":"array","items":{"type":"boolean"}}`: {
			yes{`[true,false]`}, yes{`[tru]`, `[tru`, `[null]`, `[True]`, `["true"]`, `[truefalse]`, `[truE]`},
		},
		`{"type":"object","properties":{"a":{"type":"integer"},"b":{},"c":false},"required":["a","d"],"minProperties":3,"maxProperties":20,"dependentRequired":{"b":["e"]}}`: {
			yes{`{"a":1,"d":{"x":[1,{"y":null}]},"b":[],"e":1}`, `{"d":1,"a":1,"x":1}`, `{"a":1,"d":1,` + many(16, `"x%d":1`) + `}`},
			yes{`{"a":1,"d":1}`, `{"a":1,"d":1,"b":1}`, `{"a":1,"x":1,"y":1}`, `{"a":1,"d":1,"c":1}`, `{"a":1,"d":1,` + many(17, `"x%d":1`) + `}`, `{"a":1,"d":1,"x":1,"x":2}`,
				`{"a":1,"d":1,"x":1,"y":{"x":1},"x":2}`, "{\"a\":1,\"d\":1,\"\xff\":1}", `{"a":1,"d":1,` + many(19, `"x%d":1`) + `}`, `{"a":1,"d":1e999,"x":1}`, `{"a":1,"d":[{"q":1,"q":2}],"x":1}`},
		},
		`{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"string"},"allOf":[{"required":["z"]}],"not":{"required":["y"]}}`: {
			yes{`{"a":1,"z":"1"}`, `{"z":"","b":""}`}, yes{`{"a":1}`, `{"a":1,"z":1}`, `{"a":1,"z":"","y":""}`},
		},
		`{"type":"object","properties":{` + many(64, `"n%d":{"type":"integer"}`) + `},"additionalProperties":false}`: {
			yes{`{` + many(64, `"n%d":1`) + `}`}, yes{`{` + many(64, `"n%d":1`) + `,"n63":1}`, `{` + many(65, `"n%d":1`) + `}`},
		},
		`{"type":"object","properties":{"a\"b":{"type":"integer"},"":{"type":"integer"},"æ":{"type":"integer"}},"additionalProperties":false}`: {
			yes{`{"":1,"æ":2}`}, yes{`{"a\"b":1}`, `{"a":1}`, `{"\u00e6":1}`, `{"a"b":1}`},
		},
	} {
		s := mustCompile(t, schema)
		if s.guide == nil {
			t.Errorf("%s has no guide", schema)
			continue
		}
		var r Run
		var doc jsondoc.Doc
		for range 2 { // the second time it knows the order
			for _, data := range documents.read {
				if !readAgrees(t, s, &r, &doc, []byte(data), 50) {
					t.Errorf("%s: not read: %s", schema, data)
				}
			}
			for _, data := range documents.not {
				if readAgrees(t, s, &r, &doc, []byte(data), 50) {
					t.Errorf("%s: read: %s", schema, data)
				}
			}
		}
	}
}

// TestReadFallback: what the library judges, and what has no guide, is not read.
func TestReadFallback(t *testing.T) {
	var r Run
	var doc jsondoc.Doc
	for _, s := range []*Schema{
		mustCompile(t, `{"$dynamicAnchor":"n","items":{"$dynamicRef":"#n"}}`), mustCompile(t, `{}`), mustCompile(t, `{"type":"string"}`),
		mustCompile(t, `{"patternProperties":{"^a":false}}`), new(Schema),
	} {
		if s.Read(&r, &doc, []byte(`{}`), 50) {
			t.Error("read")
		}
	}
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":"string","pattern":"^[0-9]$"}}}`)
	s.guide.root.members[0].step = nil // panics
	if s.Read(&r, &doc, []byte(`{"a":"1"}`), 50) || doc.Len() != 0 {
		t.Error("read in spite of a panic")
	}
}

// TestReadSkips: documents that are never as expected are not tried each time,
// and those that are again are read again.
func TestReadSkips(t *testing.T) {
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":"integer"}}}`)
	var r Run
	var doc jsondoc.Doc
	good, odd := []byte(`{"a":1}`), []byte(`{"\u0061":1}`)
	tried := 0
	for range 1000 {
		l := r.reader.of(s)
		if l.skip == 0 {
			tried++
		}
		if s.Read(&r, &doc, odd, 50) {
			t.Fatal("read")
		}
	}
	if tried > 40 || tried < 15 {
		t.Errorf("of 1000 documents %d were tried", tried)
	}
	waited := 0
	for !s.Read(&r, &doc, good, 50) {
		waited++
	}
	if waited > maxSkip {
		t.Errorf("%d good documents were not read", waited)
	}
	for range trials {
		if s.Read(&r, &doc, odd, 50) || !s.Read(&r, &doc, good, 50) {
			t.Error("skipped after a single miss")
		}
	}
}

// TestReadKeepsNothing: between documents a Run holds numbers of the schema's
// members, and the same ones whatever the values were.
func TestReadKeepsNothing(t *testing.T) {
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":"string","pattern":"^[0-9]{11}$"},"b":{"enum":["x","y"]},"c":{"type":["string","null"]}}}`)
	var first []*member
	for i, data := range []string{`{"a":"01829413112","b":"x","c":"0182941311\u0032","d":"01829413112"}`, `{"a":"01829413113","b":"y","c":null,"e":{"f":"01829413112"}}`} {
		var r Run
		var doc jsondoc.Doc
		if !s.Read(&r, &doc, []byte(data), 50) {
			t.Fatal("not read")
		}
		if r.doc != nil || r.data != nil || r.nodes != nil || strings.Contains(string(r.text[:cap(r.text)]), "018") {
			t.Error("the document is still there")
		}
		if i == 0 {
			first = r.reader.learnt[0].next
		} else if !slices.Equal(r.reader.learnt[0].next, first) {
			t.Errorf("learnt %v from one, %v from the other", first, r.reader.learnt[0].next)
		}
	}
}

// TestReadManySchemas: a Run knows a few schemas by heart and is right on all.
func TestReadManySchemas(t *testing.T) {
	var r Run
	var doc jsondoc.Doc
	var schemas []*Schema
	for i := range 3 * maxLearnt {
		schemas = append(schemas, mustCompile(t, fmt.Sprintf(`{"type":"object","properties":{"a":{"type":"integer","minimum":%d},"b%d":{}},"required":["b%d"]}`, i, i, i)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		i, j := random.IntN(len(schemas)), random.IntN(len(schemas))
		data := fmt.Appendf(nil, `{"a":%d,"b%d":1}`, j, j)
		if got, want := readAgrees(t, schemas[i], &r, &doc, data, 50), i == j; got != want {
			t.Fatalf("schema %d, %s: %t", i, data, got)
		}
	}
	if len(r.reader.learnt) > maxLearnt {
		t.Errorf("%d schemas are known", len(r.reader.learnt))
	}
}

func TestReadAllocates(t *testing.T) {
	g := synthetic.New(synthetic.Config{People: 100, Seed: 1})
	var r Run
	var doc jsondoc.Doc
	for _, s := range demo(t) {
		var records [][]byte
		for i := range 100 {
			if data := s.record(g, i); len(data) > 0 {
				records = append(records, data)
			}
		}
		i := 0
		if n := testing.AllocsPerRun(500, func() {
			if !s.Read(&r, &doc, records[i%len(records)], 64) {
				t.Fatal("not read")
			}
			i++
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// FuzzRead mutates documents against a handful of schemas; what was read before
// must not matter.
func FuzzRead(f *testing.F) {
	schemas := fuzzed(f)
	g := synthetic.New(synthetic.Config{People: 20, Seed: 3})
	for i := range 20 {
		f.Add(g.Income(nil, i).Data, uint8(0))
		if data := g.Property(nil, i).Data; len(data) > 0 {
			f.Add(data, uint8(1))
		}
	}
	warm := make([]Run, len(schemas))
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		if len(data) == 0 || len(data) > 8192 {
			return
		}
		i := int(which) % len(schemas)
		fresh := readAgrees(t, schemas[i], new(Run), new(jsondoc.Doc), data, 20)
		if readAgrees(t, schemas[i], &warm[i], new(jsondoc.Doc), data, 20) != fresh {
			t.Errorf("%s\nfresh: read %t, warm: %t", data, fresh, !fresh)
		}
	})
}
