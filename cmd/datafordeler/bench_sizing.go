package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"
)

// sizingResult is what bench sizing --json prints: what a record of S kB (1,000
// bytes) at fan-out F costs a processor, in microseconds, is about
//
//	us_each + us_kb·S + F·(us_each_delivery + us_kb_delivery·S)
//
// and cores for a million such records an hour are that divided by 3,600.
type sizingResult struct {
	Points []sizingPoint `json:"points"`
	sizing
	// Off is the largest relative difference between a point and the fit.
	Off           float64 `json:"largest_relative_error"`
	Subscriptions int     `json:"subscriptions"`
	ConsentShare  float64 `json:"consent_share"`
	machine
	Seconds float64 `json:"seconds"`
}

type sizing struct {
	Each        float64 `json:"us_each"`
	KB          float64 `json:"us_kb"`
	Delivery    float64 `json:"us_each_delivery"`
	DeliveryKB  float64 `json:"us_kb_delivery"`
	coefficient [4]float64
}

type sizingPoint struct {
	Fanout      int     `json:"fanout"`
	RecordBytes int64   `json:"record_bytes"`
	Micros      float64 `json:"us_per_record"` // processor time of this process
}

func benchSizing(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench sizing")
	var f benchFlags
	f.declare(fs, 50_000)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if f.scenario.Fanout != 1 || f.scenario.Lines != 1 {
		return usagef("sizing has its own fan-outs and sizes: leave --fanout and --lines out")
	}
	begun := time.Now()
	out := std.out
	if f.json {
		out = io.Discard
	}
	var res sizingResult
	fmt.Fprintf(out, "%8s %14s %14s\n", "fan-out", "bytes", "µs/record")
	for _, lines := range []int{1, 5, 15} {
		for _, fanout := range []int{1, 3, 10} {
			at := f
			at.scenario.Fanout, at.scenario.Lines = fanout, lines
			if err := at.check(); err != nil {
				return err
			}
			p, m, err := at.sizingPoint(ctx, std)
			if err != nil {
				return fmt.Errorf("fan-out %d, %d lines: %w", fanout, lines, err)
			}
			res.Points, res.machine, res.Subscriptions = append(res.Points, p), m, at.scenario.Subscriptions
			fmt.Fprintf(out, "%8d %14s %14.2f\n", p.Fanout, thousands(p.RecordBytes), p.Micros)
		}
	}
	res.ConsentShare = f.scenario.ConsentShare
	res.sizing = fitSizing(res.Points)
	for _, p := range res.Points {
		res.Off = max(res.Off, math.Abs(res.micros(p)-p.Micros)/p.Micros)
	}
	res.Seconds = time.Since(begun).Seconds()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	fmt.Fprintf(std.out, "µs for a record of S kB at fan-out F: %.2f + %.2f·S + F·(%.2f + %.2f·S), within %.0f %% of the points\n",
		res.Each, res.KB, res.Delivery, res.DeliveryKB, 100*res.Off)
	_, err := fmt.Fprintf(std.out, "cores for a million an hour are that divided by 3,600; %s subscriptions, consent share %.2f; %s engine%s, %d CPUs, %s, %.0f s\n",
		thousands(int64(res.Subscriptions)), res.ConsentShare, res.Engine, map[bool]string{true: ", which is in the figures"}[res.Engine == "embedded"], res.CPUs, res.Go, res.Seconds)
	return err
}

// sizingPoint routes the scenario once, and counts processor time from the first
// commit after policies are compiled, or from half of the records at the latest, to
// the last commit.
func (f benchFlags) sizingPoint(ctx context.Context, std stdio) (p sizingPoint, m machine, err error) {
	r, err := f.open(ctx, std)
	if err != nil {
		return p, m, err
	}
	defer r.close()
	defer r.progress.watch(func() string {
		return fmt.Sprintf("fan-out %d, %d lines · %s of %s records", f.scenario.Fanout, f.scenario.Lines, thousands(r.progress.count.Load()), thousands(int64(f.scenario.Records)))
	})()
	if err := r.publish(ctx, 0, f.scenario.Records); err != nil {
		return p, m, err
	}
	b, stop := r.governed(ctx, "sizing")
	var first, last int64
	var from, to time.Duration
	err = r.await(ctx, b, int64(f.scenario.Records), func(n int64) {
		r.progress.count.Store(n)
		if n == last || first == 0 && b.PoliciesPending() > 0 && n < int64(f.scenario.Records)/2 {
			return
		}
		if last, to = n, processorTime(); first == 0 {
			first, from = last, to
		}
	})
	if stopErr := stop(); err == nil || stopErr != nil {
		err = stopErr
	}
	if err == nil {
		err = r.whole(b.Totals())
	}
	if err == nil && last == first {
		err = fmt.Errorf("all went into one transaction: give more --records")
	}
	if err != nil {
		return p, m, err
	}
	return sizingPoint{Fanout: f.scenario.Fanout, RecordBytes: r.bytes / int64(f.scenario.Records),
		Micros: float64((to - from).Nanoseconds()) / 1e3 / float64(last-first)}, r.machine(), nil
}

// terms are what each coefficient is multiplied by.
func (p sizingPoint) terms() [4]float64 {
	size, fanout := float64(p.RecordBytes)/1e3, float64(p.Fanout)
	return [4]float64{1, size, fanout, fanout * size}
}

func (s sizing) micros(p sizingPoint) (sum float64) {
	for i, t := range p.terms() {
		sum += s.coefficient[i] * t
	}
	return sum
}

// fitSizing minimises the squares of the relative errors, so that small records
// count as much as large ones.
func fitSizing(points []sizingPoint) (s sizing) {
	var a [4][5]float64 // the normal equations
	for _, p := range points {
		t := p.terms()
		for i := range 4 {
			for j := range 4 {
				a[i][j] += t[i] * t[j] / (p.Micros * p.Micros)
			}
			a[i][4] += t[i] / p.Micros
		}
	}
	for i := range 4 {
		pivot := i
		for j := i + 1; j < 4; j++ {
			if math.Abs(a[j][i]) > math.Abs(a[pivot][i]) {
				pivot = j
			}
		}
		a[i], a[pivot] = a[pivot], a[i]
		for j := range 4 {
			if j == i {
				continue
			}
			by := a[j][i] / a[i][i]
			for k := i; k < 5; k++ {
				a[j][k] -= by * a[i][k]
			}
		}
	}
	for i := range 4 {
		s.coefficient[i] = a[i][4] / a[i][i]
	}
	s.Each, s.KB, s.Delivery, s.DeliveryKB = s.coefficient[0], s.coefficient[1], s.coefficient[2], s.coefficient[3]
	return s
}
