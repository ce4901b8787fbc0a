package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow/bench"
	"datafordeler/policy"
)

// decideResult is what bench decide --json prints. Times are the processor's for
// one decision, medians over the parts.
type decideResult struct {
	Full float64 `json:"full_ns"`
	// Compiled is of the cases that have a compiled form.
	Compiled float64 `json:"compiled_ns"`
	// Fallback is the share of cases that full evaluation decides, because the
	// compiler does not know what their policy asks.
	Fallback float64 `json:"fallback_share"`
	Cases    int     `json:"cases"`
	// Faster is how many times.
	Faster         float64 `json:"times_faster"`
	Permitted      float64 `json:"permitted_share"`
	FullAllocs     float64 `json:"full_allocs"` // for each decision
	CompiledAllocs float64 `json:"compiled_allocs"`
	Compile        float64 `json:"compile_us"` // of one subscription's policy, a mean
	Seed           uint64  `json:"seed"`
	CPUs           int     `json:"cpus"`
	Go             string  `json:"go"`
	Seconds        float64 `json:"seconds"`
}

const (
	decideParts = 20  // measured in turn, full and compiled
	decideAgain = 100 // times that a part is decided by the compiled form, which is fast
)

func benchDecide(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench decide")
	n := fs.Int("cases", 10_000, "")
	seed := fs.Uint64("seed", 1, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *n < decideParts || *n > 10_000_000 {
		return usagef("cases: %d is outside %d to 10,000,000", *n, decideParts)
	}
	begun := time.Now()
	out := std.out
	if *asJSON {
		out = io.Discard
	}
	pr := newProgress(std.err)
	defer pr.watch(func() string {
		return fmt.Sprintf("decided %s of %s cases", thousands(pr.count.Load()), thousands(int64(*n)))
	})()
	res := decideResult{Cases: *n, Seed: *seed, CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version()}
	terms, cases, err := bench.Cases(*seed, *n)
	if err != nil {
		return err
	}
	engine, err := policy.Compile(policy.Embedded())
	if err != nil {
		return err
	}
	prepared := make([]*policy.Prepared, len(terms))
	compiling := processorTime()
	for i, t := range terms {
		if prepared[i], err = engine.Prepare(t); err == nil {
			err = prepared[i].Compile(ctx)
		}
		if err != nil {
			return err
		}
	}
	res.Compile = float64((processorTime() - compiling).Microseconds()) / float64(len(terms))

	var full, compiled, fullAllocs, compiledAllocs []float64
	var first *bench.Case // that the two answer differently
	fallback, permitted := 0, 0
	answers := make([]*broker.Outcome, 0, *n/decideParts+1)
	// In parts, each by the one and by the other, so that what else the machine
	// does falls on both.
	for part := range slices.Chunk(cases, (*n+decideParts-1)/decideParts) {
		if err := ctx.Err(); err != nil {
			return err
		}
		answers = answers[:0]
		ns, allocs, err := decideAll(part, 1, func(c *bench.Case) error {
			o, err := prepared[c.Terms].DecideFull(ctx, &c.Facts)
			answers = append(answers, o)
			return err
		})
		if err != nil {
			return err
		}
		full, fullAllocs = append(full, ns), append(fullAllocs, allocs)
		var fast []bench.Case
		for i := range part {
			c := &part[i]
			o, err := prepared[c.Terms].Decide(ctx, &c.Facts, nil)
			if err != nil {
				return err
			}
			if !same(o, answers[i]) && first == nil {
				first = c
			}
			if o.Permit {
				permitted++
			}
			if prepared[c.Terms].State() == policy.Compiled {
				fast = append(fast, *c)
			} else {
				fallback++
			}
		}
		if len(fast) > 0 {
			if ns, allocs, err = decideAll(fast, decideAgain, func(c *bench.Case) error {
				_, err := prepared[c.Terms].Decide(ctx, &c.Facts, nil)
				return err
			}); err != nil {
				return err
			}
			compiled, compiledAllocs = append(compiled, ns), append(compiledAllocs, allocs)
		}
		pr.count.Add(int64(len(part)))
	}
	if first != nil {
		return fmt.Errorf("seed %d: the compiled policy answers otherwise than the full one under terms %d for %+v: please report it", *seed, first.Terms, first.Facts)
	}
	res.Full, res.Compiled = middle(full), middle(compiled)
	res.FullAllocs, res.CompiledAllocs = middle(fullAllocs), middle(compiledAllocs)
	res.Faster = over(res.Full, res.Compiled)
	res.Fallback, res.Permitted = float64(fallback)/float64(*n), float64(permitted)/float64(*n)
	res.Seconds = time.Since(begun).Seconds()
	pr.end()
	if *asJSON {
		return json.NewEncoder(std.out).Encode(res)
	}
	fmt.Fprintf(out, "%10s %14s %16s\n", "", "ns/decision", "allocs/decision")
	fmt.Fprintf(out, "%10s %14s %16.1f\n", "full", thousands(int64(res.Full)), res.FullAllocs)
	fmt.Fprintf(out, "%10s %14.1f %16.1f\n", "compiled", res.Compiled, res.CompiledAllocs)
	_, err = fmt.Fprintf(out, "compiled is %s times faster; %.2f of the cases fall back to full; the same answers and reasons for all %s cases (seed %d), %.0f %% permitted; to compile one subscription's policy takes %.0f µs; %d CPUs, %s, %.0f s\n",
		thousands(int64(res.Faster)), res.Fallback, thousands(int64(*n)), *seed, 100*res.Permitted, res.Compile, res.CPUs, res.Go, res.Seconds)
	return err
}

// same compares two answers, reasons and bases in order.
func same(a, b *broker.Outcome) bool {
	return a == b || a != nil && b != nil && a.Permit == b.Permit && slices.Equal(a.Reasons, b.Reasons) && slices.Equal(a.Bases, b.Bases)
}

// decideAll is the processor time and the allocations of one decision, over all
// cases so many times.
func decideAll(cases []bench.Case, times int, decide func(*bench.Case) error) (ns, allocs float64, err error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := processorTime()
	for range times {
		for i := range cases {
			if err := decide(&cases[i]); err != nil {
				return 0, 0, err
			}
		}
	}
	took := processorTime() - begun
	runtime.ReadMemStats(&after)
	n := float64(times * len(cases))
	return float64(took) / n, float64(after.Mallocs-before.Mallocs) / n, nil
}

func middle(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
