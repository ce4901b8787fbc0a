package policy

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/policy/cases"
)

// raceDetector: it makes everything some ten times slower.
var raceDetector bool

// casesAndSeed is how many cases to try: what is normal, a tenth of it under the
// race detector or with -short, and fifty times it in
// the longer hunts. Both may be set from outside:
//
//	DATAFORDELER_TORTURE=1 go test ./policy -run ExactlyFull -timeout 3h
//	DATAFORDELER_SEED=7 DATAFORDELER_CASES=500 go test ./policy -run ExactlyFull
func casesAndSeed(t *testing.T, normally int) (n int, seed uint64) {
	t.Helper()
	n, seed = normally, uint64(time.Now().UnixNano())
	if os.Getenv("DATAFORDELER_TORTURE") != "" {
		n *= 50
	}
	if testing.Short() || raceDetector {
		n /= 10
	}
	if v := os.Getenv("DATAFORDELER_CASES"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	if v := os.Getenv("DATAFORDELER_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return n, seed
}

// said is all of an outcome, or that there is none.
func said(o *broker.Outcome, err error) string {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%#v", *o)
}

// The compiled form gives the outcome, the reasons and the bases of full
// evaluation, and the very same pointer.
func TestCompiledIsExactlyFull(t *testing.T) {
	n, seed := casesAndSeed(t, 20_000)
	t.Logf("%d cases, DATAFORDELER_SEED=%d", n, seed)
	e := embeddedEngine(t)
	const batch = 50 // facts for each terms
	var done, permits atomic.Int64
	begun := time.Now()
	t.Run("all", func(t *testing.T) {
		const lanes = 2
		for lane := range lanes {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for i := lane; i < n/batch; i += lanes {
					s := cases.New(seed + uint64(i))
					p := prepare(t, e, s.Terms())
					if err := p.Compile(t.Context()); err != nil {
						t.Fatalf("DATAFORDELER_SEED=%d, terms %d: %v", seed, i, err)
					}
					for j := range batch {
						f := s.Facts(p.Terms())
						want, wantErr := p.DecideFull(context.Background(), f)
						have, haveErr := p.Decide(context.Background(), f, nil)
						if said(have, haveErr) != said(want, wantErr) || have != want {
							t.Fatalf("DATAFORDELER_SEED=%d, terms %d, facts %d:\ncompiled %s %p %v\nfull     %s %p %v\n%+v\n%s", seed, i, j,
								said(have, haveErr), have, haveErr, said(want, wantErr), want, wantErr, *f, written(p.Form()))
						}
						if have != nil && have.Permit {
							permits.Add(1)
						}
					}
					if k := done.Add(batch); k%50_000 == 0 {
						fmt.Fprintf(os.Stderr, "%d cases after %s, seed %d\n", k, time.Since(begun).Round(time.Second), seed)
					}
				}
			})
		}
	})
	t.Logf("%d cases, %d permits, %d shapes, %s", done.Load(), permits.Load(), len(e.shapes.byKey), time.Since(begun).Round(time.Second))
	if permits.Load() == 0 || permits.Load() == done.Load() {
		t.Error("only one answer was met; the generators are off")
	}
}

// written is a form for people.
func written(f Form) string {
	var b strings.Builder
	fmt.Fprintln(&b, f)
	for _, r := range slices.Concat(f.Requirements, f.Bases) {
		fmt.Fprintln(&b, " ", r.Of, r.Holds)
		for _, a := range r.Alternatives {
			fmt.Fprintln(&b, "    ", strings.Join(a, "; "))
		}
	}
	return b.String()
}

// FuzzCompiled looks for a policy, terms and facts that the compiled form answers
// otherwise. Policy 0 is the embedded one.
func FuzzCompiled(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(uint64(0), seed, seed)
		f.Add(seed, seed, seed)
	}
	embedded, err := Compile(Embedded())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, policy, terms, facts uint64) {
		e := embedded
		if policy != 0 {
			var err error
			if e, err = Compile(randomPolicy(cases.New(policy))); err != nil {
				t.Skip()
			}
		}
		p := prepare(t, e, cases.New(terms).Terms())
		_ = p.Compile(t.Context())
		for s, i := cases.New(facts), 0; i < 5; i++ {
			f := s.Facts(p.Terms())
			want, wantErr := p.DecideFull(t.Context(), f)
			have, haveErr := p.Decide(t.Context(), f, nil)
			if said(have, haveErr) != said(want, wantErr) || have != want {
				t.Fatalf("compiled %s %v\nfull     %s %v\n%s", said(have, haveErr), haveErr, said(want, wantErr), wantErr, written(p.Form()))
			}
		}
	})
}
