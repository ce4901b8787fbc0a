package policy

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"datafordeler/broker"
)

// many is terms of 7 legal bases: four for all sides, of them one per case, one
// bound to a period and one by consent; and three for one side each.
func many() *broker.Terms {
	t := sample()
	all := []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality}
	var bases []broker.LegalBasis
	for i := range 7 {
		sides := all
		if i >= 4 {
			sides = all[i-4 : i-3]
		}
		b := statute(broker.LegalBasisID(fmt.Sprint("basis-", i)), sides...)
		b.Valid.From = b.Valid.From.AddDate(i%3, 0, 0)
		bases = append(bases, b)
	}
	bases[1].RequiresCase = true
	bases[2].About = &broker.AboutBound{Attribute: "period", From: "2026-01", To: "2026-12"}
	bases[3].Type = broker.Samtykke
	use(t, bases...)
	return t
}

func benchCases() map[string]struct {
	terms *broker.Terms
	facts *broker.Facts
} {
	type bench = struct {
		terms *broker.Terms
		facts *broker.Facts
	}
	consent := demoLike()["3 consent"]
	consented := sampleFacts()
	consented.Consents = []broker.Consent{{ID: "c", Consumer: consumer, Dataset: "inntekt", Purpose: "sosialhjelp", Valid: between("2026-01-01", "2027-01-01")}}
	return map[string]bench{
		"statute":         {sample(), sampleFacts()},
		"consent-missing": {consent, sampleFacts()},
		"consent-given":   {consent, consented},
		"7-bases":         {many(), consented},
		"20-bases":        {manyBases()["20 mixed"], consented},
	}
}

// BenchmarkCompiled is one decision by the compiled form.
func BenchmarkCompiled(b *testing.B) {
	e := embeddedEngine(b)
	for name, c := range benchCases() {
		p := prepare(b, e, c.terms)
		if err := p.Compile(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			defer cpu(b)()
			for b.Loop() {
				if _, err := p.Decide(b.Context(), c.facts, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFull is the same by full evaluation.
func BenchmarkFull(b *testing.B) {
	e := embeddedEngine(b)
	for name, c := range benchCases() {
		p := prepare(b, e, c.terms)
		b.Run(name, func(b *testing.B) {
			defer cpu(b)()
			for b.Loop() {
				if _, err := p.DecideFull(b.Context(), c.facts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCompile is one agreement's compiled form, where its shape is new, and
// where another agreement has it.
func BenchmarkCompile(b *testing.B) {
	for name, c := range benchCases() {
		for _, fresh := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/new=%v", name, fresh), func(b *testing.B) {
				e := embeddedEngine(b)
				defer cpu(b)()
				for b.Loop() {
					if fresh {
						e.shapes.byKey = nil
					}
					if err := prepare(b, e, c.terms).Compile(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkCompileMany is 10,000 agreements, each with names, parties and times of
// its own, from terms to compiled forms: what a cold start costs.
func BenchmarkCompileMany(b *testing.B) {
	const n = 10_000
	for name, of := range map[string]func(int) *broker.Terms{
		"alike": alike,
		"demo-like": func(i int) *broker.Terms {
			t := alike(i)
			kinds := demoLike()
			like := kinds[slices.Sorted(maps.Keys(kinds))[i%len(kinds)]]
			for j := range like.Bases { // its bases, for this one's purpose
				like.Bases[j].Purposes = []broker.Purpose{t.Agreement.Purpose}
				like.Bases[j].Valid.From = like.Bases[j].Valid.From.Add(time.Duration(i) * time.Second)
			}
			t.Bases, t.Agreement.Bases = like.Bases, like.Agreement.Bases
			t.Agreement.Cost, t.Agreement.Corrections = like.Agreement.Cost, like.Agreement.Corrections
			return t
		},
	} {
		b.Run(name, func(b *testing.B) {
			all := make([]*broker.Terms, n)
			for i := range all {
				all[i] = of(i)
			}
			shapes := 0
			for b.Loop() {
				e := embeddedEngine(b)
				begun := time.Now()
				for i := range all {
					if err := prepare(b, e, all[i]).Compile(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(time.Since(begun).Microseconds())/n, "µs/agreement")
				shapes = len(e.shapes.byKey)
			}
			b.ReportMetric(float64(shapes), "shapes")
		})
	}
}
