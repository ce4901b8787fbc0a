package policy

import (
	"context"
	"testing"
)

// BenchmarkDecide is one full evaluation, without a memo.
func BenchmarkDecide(b *testing.B) {
	p := prepare(b, embeddedEngine(b), sample())
	f := sampleFacts()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Decide(context.Background(), f, nil); err != nil {
			b.Fatal(err)
		}
	}
}
