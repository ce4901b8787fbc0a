package policy

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// cpu reports the processor time of an operation, which a busy machine does not
// lengthen as it does the time by the clock.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkDecide is one full evaluation, without a memo.
func BenchmarkDecide(b *testing.B) {
	p := prepare(b, embeddedEngine(b), sample())
	f := sampleFacts()
	defer cpu(b)()
	for b.Loop() {
		if _, err := p.Decide(context.Background(), f, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecideMemo is the same input again within a transaction.
func BenchmarkDecideMemo(b *testing.B) {
	p := prepare(b, embeddedEngine(b), sample())
	f := sampleFacts()
	var m Memo
	defer cpu(b)()
	for b.Loop() {
		if _, err := p.Decide(context.Background(), f, &m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecideDenied is a denial, which also works out its reasons.
func BenchmarkDecideDenied(b *testing.B) {
	p := prepare(b, embeddedEngine(b), demoLike()["3 consent"])
	f := sampleFacts()
	defer cpu(b)()
	for b.Loop() {
		if _, err := p.Decide(context.Background(), f, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrepare is the cost of one subscription's terms.
func BenchmarkPrepare(b *testing.B) {
	e := embeddedEngine(b)
	terms := sample()
	defer cpu(b)()
	for b.Loop() {
		if _, err := e.Prepare(terms); err != nil {
			b.Fatal(err)
		}
	}
}
