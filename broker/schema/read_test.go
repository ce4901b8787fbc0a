package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
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

// numbered is what each number was said to name.
var numbered sync.Map

// namedOnce holds a node's number to being one name's in all documents of a
// schema, and that name to being spelled without escapes.
func namedOnce(t rapid.TB, doc *jsondoc.Doc, i int) {
	t.Helper()
	n := doc.Node(i)
	if n.Member == 0 {
		return
	}
	type number struct {
		by uint64
		n  uint8
	}
	name := string(doc.Name(i))
	if was, ok := numbered.LoadOrStore(number{doc.Members(), n.Member}, name); ok && was != name || doc.Members() == 0 || n.NameEscaped || n.NameEnd == 0 {
		t.Fatalf("node %d, %+v: number %d of reader %d is %q, and was %q", i, *n, n.Member, doc.Members(), name, was)
	}
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
	read := slices.Clone(doc.Nodes())
	for i := range read {
		namedOnce(t, doc, i)
		read[i].Member = 0 // Parse does not tell it
	}
	if !slices.Equal(read, want.Nodes()) {
		t.Fatalf("%s\nis read as %+v\nwant       %+v", data, read, want.Nodes())
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
