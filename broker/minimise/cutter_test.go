package minimise

import (
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker/jsondoc"
	"datafordeler/broker/schema"
	"datafordeler/providers/synthetic"
)

// numbers gives names their numbers, as a schema's reader does: unescaped ones,
// and of reader 2's not "b", which it does not know.
func numbers(doc *jsondoc.Doc, by uint64) {
	doc.NamedBy(by)
	for i := range doc.Len() {
		if n := doc.Node(i); n.NameEnd != 0 && !n.NameEscaped {
			n.Member = uint8(1 + slices.Index(pool, string(doc.Name(i))))
			if by == 2 && string(doc.Name(i)) == "b" {
				n.Member = 0
			}
		}
	}
}

// likewise is a record of the same shape with other values, and most names that
// may be spelled without escapes spelled so.
func likewise(t *rapid.T, doc *jsondoc.Doc) string {
	var out []byte
	at := 0
	escaped := rapid.IntRange(0, 9).Draw(t, "escaped") == 0
	for i := range doc.Len() {
		n := doc.Node(i)
		if n.NameEscaped && !escaped {
			out = append(append(out, doc.Data()[at:n.NameStart-1]...), quote(string(doc.Name(i)))...)
			at = int(n.NameEnd) + 1
		}
		if n.Kind <= jsondoc.Array {
			continue
		}
		out = append(out, doc.Data()[at:n.Start]...)
		out = append(out, rapid.SampledFrom([]string{"1", `""`, "null", "true", `"\u0041 and more than the thirty-two bytes that are copied at once"`}).Draw(t, "other")...)
		at = int(n.End)
	}
	return string(append(out, doc.Data()[at:]...))
}

// cutAgrees holds a cutter to Append.
func cutAgrees(t rapid.TB, c *Cutter, p *Projection, doc *jsondoc.Doc, attributes []string, room int) {
	t.Helper()
	want, wantShielded, wantErr := p.Append([]byte("before"), doc, attributes)
	dst := append(make([]byte, 0, 6+room), "before"...)
	out, shielded, err := c.Append(p, dst, doc, attributes)
	if string(out) != string(want) || shielded != wantShielded || err != wantErr {
		t.Fatalf("%s\n got %s %t %v\nwant %s %t %v", doc.Data(), out, shielded, err, want, wantShielded, wantErr)
	}
}

// TestCutter: whatever came before, a cutter cuts as Append does.
func TestCutter(t *testing.T) {
	learnt := 0
	rapid.Check(t, func(t *rapid.T) {
		var c Cutter
		type use struct {
			p          *Projection
			record     string
			by         uint64
			protection string
		}
		var uses []use
		for range 2 {
			p, o, protection := drawProjection(t)
			if rapid.Bool().Draw(t, "only values") {
				p = p.OnlyValues()
			}
			record, _ := twins{t, o}.value(nil, 4)
			by := uint64(rapid.IntRange(1, 2).Draw(t, "by"))
			uses = append(uses, use{p, record.a, by, protection}, use{p, record.b, by, "nei"})
		}
		for range 12 {
			u := rapid.SampledFrom(uses).Draw(t, "use")
			var doc jsondoc.Doc
			if err := doc.Parse([]byte(u.record), 100); err != nil {
				t.Fatal(err)
			}
			if err := doc.Parse([]byte(likewise(t, &doc)), 100); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "numbers") > 0 {
				numbers(&doc, u.by)
			}
			cutAgrees(t, &c, u.p, &doc, []string{"0301", u.protection}, rapid.SampledFrom([]int{0, 10, 40, 4096}).Draw(t, "room"))
		}
		for i := range c.plans {
			learnt += min(1, len(c.plans[i].shape))
		}
	})
	if learnt == 0 {
		t.Error("nothing was ever learnt")
	}
}

// incomeDocs are read as intake reads them.
func incomeDocs(t testing.TB) (docs []jsondoc.Doc, size int64) {
	document, err := os.ReadFile("../../deploy/demo/schemas/income-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc jsondoc.Doc
	if err := doc.Parse(document, 100); err != nil {
		t.Fatal(err)
	}
	s, err := schema.Compile(&doc, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := synthetic.New(synthetic.Config{People: records, Seed: 1})
	docs = make([]jsondoc.Doc, records)
	var run schema.Run
	for i := range docs {
		data := g.Income(nil, i).Data
		if !s.Read(&run, &docs[i], data, 64) {
			t.Fatal("not read")
		}
		size += int64(len(data))
	}
	return docs, size / records
}

// TestCutterKnowsIncomes: what a schema's reader reads has numbers, is cut by what
// was learnt, as Append cuts it, and then nothing is allocated.
func TestCutterKnowsIncomes(t *testing.T) {
	docs, _ := incomeDocs(t)
	p := compile(t, incomePackage())
	var c Cutter
	known := 0
	for range 3 {
		known = 0
		for i := range docs {
			shape, hash := c.of(docs[i].Nodes())
			if c.plans != nil && slices.Equal(c.plans[hash>>(64-planBits)].shape, shape) {
				known++
			}
			cutAgrees(t, &c, p, &docs[i], []string{"0301", "nei"}, 4096)
		}
	}
	if known < len(docs)*8/10 {
		t.Errorf("of %d records %d are of a known shape", len(docs), known)
	}
	dst := make([]byte, 0, 64<<10)
	if n := testing.AllocsPerRun(10, func() {
		for i := range docs {
			dst, _, _ = c.Append(p, dst[:0], &docs[i], []string{"0301", "nei"})
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCutter(b *testing.B) {
	docs, size := incomeDocs(b)
	p := compile(b, incomePackage())
	attributes := []string{"0301", "nei"}
	dst := make([]byte, 0, 64<<10)
	b.Run("append", func(b *testing.B) {
		b.SetBytes(size)
		for i := 0; b.Loop(); i++ {
			dst, _, _ = p.Append(dst[:0], &docs[i%records], attributes)
		}
	})
	b.Run("cutter", func(b *testing.B) {
		b.SetBytes(size)
		var c Cutter
		for i := 0; b.Loop(); i++ {
			dst, _, _ = c.Append(p, dst[:0], &docs[i%records], attributes)
		}
	})
}

// TestCutterTellsApart: what was learnt of one record is not used for one that
// differs in nothing but what decides.
func TestCutterTellsApart(t *testing.T) {
	names := []string{"", "a", "b", "c"}
	swapped := []string{"", "b", "a", "c"}
	some := []string{"", "c"} // of the others it is not known which they are
	p := compile(t, protected(rights("/a"), false, "/a")).OnlyValues()
	for what, records := range map[string][2]struct {
		data       string
		by         uint64
		names      []string
		protection string
	}{
		"what the numbers mean": {{`{"a":1,"b":2}`, 1, names, "nei"}, {`{"b":1,"a":2}`, 2, swapped, "nei"}},
		"who numbered at all":   {{`{"a":1,"b":2}`, 1, names, "nei"}, {`{"b":1,"a":2}`, 0, swapped, "nei"}},
		"shielding":             {{`{"a":1,"b":2}`, 1, names, "nei"}, {`{"a":1,"b":2}`, 1, names, "ja"}},
		"a name not known":      {{`{"a":1,"c":2}`, 1, some, "nei"}, {`{"b":1,"c":2}`, 1, some, "nei"}},
		"a value for an object": {{`{"a":1}`, 1, names, "nei"}, {`{"a":{}}`, 1, names, "nei"}},
		"a value for a list":    {{`{"b":[{}],"a":1}`, 1, names, "nei"}, {`{"b":[1],"a":1}`, 1, names, "nei"}},
		"how it is nested":      {{`{"c":{"a":1},"b":2}`, 1, names, "nei"}, {`{"c":{},"a":1,"b":2}`, 1, names, "nei"}},
	} {
		var c Cutter
		for i, r := range records {
			for range 3 {
				var doc jsondoc.Doc
				if err := doc.Parse([]byte(r.data), 9); err != nil {
					t.Fatal(err)
				}
				doc.NamedBy(r.by)
				for i := range doc.Len() {
					doc.Node(i).Member = uint8(max(0, slices.Index(r.names, string(doc.Name(i)))))
				}
				want, _, wantErr := p.Append(nil, &doc, []string{"0301", r.protection})
				out, _, err := c.Append(p, nil, &doc, []string{"0301", r.protection})
				if string(out) != string(want) || err != wantErr {
					t.Errorf("%s, record %d: got %s %v, want %s %v", what, i, out, err, want, wantErr)
				}
			}
		}
	}
}
