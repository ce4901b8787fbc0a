package schema

import (
	"os"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/providers/synthetic"
)

// BenchmarkRead is parsing and validation of 256 synthetic income records, 760
// bytes on average, apart and in one pass.
func BenchmarkRead(b *testing.B) {
	document, err := os.ReadFile("../../deploy/demo/schemas/income-1.json")
	if err != nil {
		b.Fatal(err)
	}
	var doc jsondoc.Doc
	if err := doc.Parse(document, 100); err != nil {
		b.Fatal(err)
	}
	s, err := Compile(&doc, []broker.Pointer{"/oppgaveInntektsmottaker/inntektsmottaker/personidentifikator", "/oppgaveInntektsmottaker/kalendermaaned"})
	if err != nil {
		b.Fatal(err)
	}
	g := synthetic.New(synthetic.Config{People: 256, Seed: 1})
	var records [256][]byte
	size, nodes := 0, 0
	for i := range records {
		records[i] = g.Income(nil, i).Data
		size += len(records[i])
		if doc.Parse(records[i], 64) != nil {
			b.Fatal("not JSON")
		}
		nodes += doc.Len()
	}
	run := func(name string, fn func(r *Run, doc *jsondoc.Doc, data []byte) bool) {
		b.Run(name, func(b *testing.B) {
			var r Run
			var doc jsondoc.Doc
			b.ReportAllocs()
			b.SetBytes(int64(size / len(records)))
			for i := 0; b.Loop(); i++ {
				if !fn(&r, &doc, records[i%len(records)]) {
					b.Fatal("not taken")
				}
			}
			b.ReportMetric(float64(nodes)/float64(len(records)), "nodes/record")
		})
	}
	run("parse", func(r *Run, doc *jsondoc.Doc, data []byte) bool { return doc.Parse(data, 64) == nil })
	run("both", func(r *Run, doc *jsondoc.Doc, data []byte) bool {
		return doc.Parse(data, 64) == nil && s.Validate(r, doc) == nil
	})
	run("fused", func(r *Run, doc *jsondoc.Doc, data []byte) bool { return s.Read(r, doc, data, 64) })
}
