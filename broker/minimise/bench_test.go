package minimise

import (
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/providers/synthetic"
)

const records = 256

// incomePackage has the shape of what social assistance may have.
func incomePackage() *broker.RightsPackage {
	const at = "/oppgaveInntektsmottaker"
	p := rights(at+"/opplysningspliktigId", at+"/virksomhetId", at+"/kalendermaaned", at+"/inntektsmottaker/personidentifikator",
		at+"/inntekt/fordel", at+"/inntekt/beloep", at+"/inntekt/loennsinntekt/beskrivelse",
		at+"/inntekt/ytelseFraOffentlige/beskrivelse", at+"/inntekt/pensjonEllerTrygd/beskrivelse", at+"/forskuddstrekk/beloep")
	return protected(p, false, at+"/opplysningspliktigId", at+"/virksomhetId")
}

func income(b testing.TB) (docs []jsondoc.Doc, size int64) {
	g := synthetic.New(synthetic.Config{People: records, Seed: 1})
	docs = make([]jsondoc.Doc, records)
	for i := range docs {
		data := g.Income(nil, i).Data
		if err := docs[i].Parse(data, 64); err != nil {
			b.Fatal(err)
		}
		size += int64(len(data))
	}
	return docs, size / records
}

func BenchmarkAppend(b *testing.B) {
	docs, size := income(b)
	for name, p := range map[string]*Projection{
		"fields": compile(b, incomePackage()),
		"whole":  compile(b, rights("")),
	} {
		for protection, what := range map[string]string{"nei": "open", "ja": "shielded"} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.SetBytes(size)
				b.ReportAllocs()
				attributes := []string{"0301", protection}
				var dst []byte
				var err error
				for i := 0; b.Loop(); i++ {
					if dst, _, err = p.Append(dst[:0], &docs[i%records], attributes); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	docs, _ := income(t)
	p := compile(t, incomePackage())
	dst := make([]byte, 0, 64<<10)
	i := 0
	if n := testing.AllocsPerRun(records, func() {
		var err error
		if dst, _, err = p.Append(dst[:0], &docs[i%records], []string{"0301", "ja"}); err != nil {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}
