package intake

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/schema"
	"datafordeler/providers/synthetic"
)

// TestReadTellsTheSame: whether a payload was read in one pass or in two, a
// record and a rejection are the same to the letter.
func TestReadTellsTheSame(t *testing.T) {
	d := compileDataset(t, incomeDataset(t))
	g := synthetic.New(synthetic.Config{People: 500, Seed: 4, GiantBytes: 20_000})
	var warm jsondoc.Doc
	var rec broker.Record
	for i := range 5 { // what comes is then known
		if r := d.Accept(binaryMode(g.Income(nil, i)), hasher, &rec, &warm); r != nil {
			t.Fatal(r)
		}
	}
	accepted, refused := 0, map[broker.RejectionCode]int{}
	compare := func(t rapid.TB, e synthetic.Event) {
		got := d.Accept(binaryMode(e), hasher, &rec, &warm)
		var doc jsondoc.Doc
		var run schema.Run
		var want *broker.Rejection
		if err := doc.Parse(e.Data, d.limits.MaxDepth); err != nil {
			want = rejectParse(err, d.limits.MaxDepth, d.known, "")
		} else {
			want = d.validate(d.current, &run, &doc)
		}
		switch {
		case got == nil && want == nil:
			accepted++
			read := slices.Clone(warm.Nodes())
			for i := range read {
				read[i].Member = 0 // Parse does not tell it
			}
			if !slices.Equal(read, doc.Nodes()) {
				t.Fatalf("%s\nthe documents differ", e.Data)
			}
		case got != nil && want == nil && got.Code != broker.RejectSchema && got.Code != broker.RejectMalformedJSON && got.Code != broker.RejectDuplicateName:
			refused[got.Code]++ // for what comes after: its subject, its attributes
		case got == nil || want == nil || *got != *want:
			t.Fatalf("%s\ntold %v\nwant %v", e.Data, got, want)
		default:
			refused[got.Code]++
		}
	}
	for i := range 100 {
		for _, f := range synthetic.Faults() {
			if f != synthetic.UnknownSchemaVersion {
				compare(t, g.Invalid(f, i))
			}
		}
	}
	for range 20 {
		rapid.Check(t, func(t *rapid.T) {
			e := g.Income(nil, rapid.IntRange(0, 499).Draw(t, "person"))
			compare(t, e)
			at := rapid.IntRange(0, len(e.Data)-1).Draw(t, "at")
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				e.Data[at] = byte(rapid.IntRange(0, 255).Draw(t, "byte"))
			case 1:
				e.Data = e.Data[:at]
			case 2:
				s := rapid.SampledFrom([]string{" ", "0", "-", "\\u0030", ",", "æ", "\"", "1e400", "}", "[]"}).Draw(t, "with")
				e.Data = slices.Insert(e.Data, at, []byte(s)...)
			default:
				e.Data = slices.Delete(e.Data, at, min(len(e.Data), at+rapid.IntRange(1, 30).Draw(t, "length")))
			}
			compare(t, e)
		})
	}
	t.Logf("%d accepted, refused %v", accepted, refused)
}
