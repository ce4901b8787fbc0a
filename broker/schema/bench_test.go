package schema

import (
	"os"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/providers/synthetic"
)

// BenchmarkValidate holds 256 synthetic income records, 760 bytes on average,
// to the demo's schema: by the compiled form, with and without the pointers that
// intake watches, and by the library, with and without making its input.
func BenchmarkValidate(b *testing.B) {
	document, err := os.ReadFile("../../deploy/demo/schemas/income-1.json")
	if err != nil {
		b.Fatal(err)
	}
	var doc jsondoc.Doc
	if err := doc.Parse(document, 100); err != nil {
		b.Fatal(err)
	}
	g := synthetic.New(synthetic.Config{People: 256, Seed: 1})
	docs := make([]jsondoc.Doc, 256)
	values := make([]any, len(docs))
	for i := range docs {
		if err := docs[i].Parse(g.Income(nil, i).Data, 64); err != nil {
			b.Fatal(err)
		}
		values[i] = Generic(&docs[i], 0)
	}
	for name, watch := range map[string][]broker.Pointer{
		"compiled":         nil,
		"compiled/watched": {"/oppgaveInntektsmottaker/inntektsmottaker/personidentifikator", "/oppgaveInntektsmottaker/kalendermaaned"},
	} {
		s, err := Compile(&doc, watch)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var r Run
			for i := 0; b.Loop(); i++ {
				if s.Validate(&r, &docs[i%len(docs)]) != nil {
					b.Fatal("invalid")
				}
			}
		})
		if watch != nil {
			continue
		}
		b.Run("library", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.library.Validate(Generic(&docs[i%len(docs)], 0)) != nil {
					b.Fatal("invalid")
				}
			}
		})
		b.Run("library/alone", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.library.Validate(values[i%len(docs)]) != nil {
					b.Fatal("invalid")
				}
			}
		})
	}
}
