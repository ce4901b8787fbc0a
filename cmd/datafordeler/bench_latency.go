package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"datafordeler/broker/flow"
	"datafordeler/broker/flow/bench"
	"datafordeler/providers"
)

// latencyResult is what bench latency --json prints. Times are from when a record
// was due to be published until a consumer could read its delivery, in
// milliseconds.
type latencyResult struct {
	Rate int     `json:"rate"` // records a second, as asked for
	P50  float64 `json:"p50_ms"`
	P95  float64 `json:"p95_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
	// Late is the same, to when the publisher really sent it: what of the above is
	// the publisher's own, at the 99th percentile.
	Late float64 `json:"publisher_late_p99_ms"`
	// Kept is whether the machine kept the rate. Where not, the times are of a queue
	// that grows, and say only that.
	Kept          bool  `json:"kept"`
	Records       int64 `json:"records"`
	Deliveries    int64 `json:"deliveries"`
	Repeats       int64 `json:"repeats"` // deliveries that came twice
	RecordBytes   int64 `json:"record_bytes"`
	Subscriptions int   `json:"subscriptions"`
	Fanout        int   `json:"fanout"`
	machine
	Seconds float64 `json:"seconds"` // of publishing, the warm-up left out
}

// keptWithin is how long after the last record was due its delivery must be there,
// at the latest, for the rate to have been kept.
const keptWithin = time.Second

// settling is how many records go through before the clock starts.
const settling = 500

// patience is how long what is behind is waited for.
const patience = time.Minute

// latencyPool is how many different payloads there are. Each record has an id of
// its own.
const latencyPool = 20_000

func benchLatency(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench latency")
	var f benchFlags
	f.declare(fs, latencyPool)
	rate := fs.Int("rate", 10_000, "")
	seconds := fs.Float64("seconds", 20, "")
	warmup := fs.Float64("warmup", 5, "")
	linger := fs.Duration("linger", time.Millisecond, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *rate < 1 || *rate > 1_000_000:
		return usagef("rate: %d is outside 1 to 1,000,000 records a second", *rate)
	case !(*seconds > 0 && *seconds <= 3600) || !(*warmup >= 0 && *warmup <= 600):
		return usagef("seconds: %v and warmup: %v are outside 0 to 3,600 and 0 to 600", *seconds, *warmup)
	case *linger < 0 || *linger > time.Second:
		return usagef("linger: %v is outside 0 to 1s", *linger)
	}
	if err := f.check(); err != nil {
		return err
	}
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	b, stop := r.governed(ctx, "latency")
	res, err := r.latency(ctx, b, *rate, *warmup, *seconds, *linger)
	if stopErr := stop(); stopErr != nil {
		err = stopErr // the reason for the other
	}
	if err != nil {
		return err
	}
	r.progress.end()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	fmt.Fprintf(std.out, "%10s %10s %10s %10s %10s %12s\n", "rate/s", "p50, ms", "p95, ms", "p99, ms", "max, ms", "deliveries")
	fmt.Fprintf(std.out, "%10s %10.1f %10.1f %10.1f %10.1f %12s\n", thousands(int64(res.Rate)), res.P50, res.P95, res.P99, res.Max, thousands(res.Deliveries))
	if !res.Kept {
		fmt.Fprintf(std.out, "THE RATE WAS NOT KEPT: a queue grew, and the times are those of waiting in it. Try a lower --rate, or a machine with less else to do.\n")
	}
	_, err = fmt.Fprintf(std.out, "publishing was late by %.1f ms at p99, which is counted above; records of %d bytes, %s subscriptions, fan-out %d; %s engine, %d CPUs, %s, %.0f s\n",
		res.Late, res.RecordBytes, thousands(int64(res.Subscriptions)), res.Fanout, res.Engine, res.CPUs, res.Go, res.Seconds)
	return err
}

func (r *benchRun) latency(ctx context.Context, b *flow.Broker, rate int, warmup, seconds float64, linger time.Duration) (res latencyResult, err error) {
	warm := int(warmup * float64(rate))
	total := warm + max(1, int(seconds*float64(rate)))
	res = latencyResult{Rate: rate, Subscriptions: r.scenario.Subscriptions, Fanout: r.scenario.Fanout, machine: r.machine(), Seconds: seconds}
	source := r.node.cfg.Topics().Source(string(bench.Dataset))
	pool, subjects := r.scenario.Messages(source, 0, r.scenario.Records)
	keys := make([][]byte, len(pool))
	for i, m := range pool {
		keys[i] = providers.HashKey(bench.Dataset, subjects[i])
		res.RecordBytes += int64(len(m.Value))
	}
	res.RecordBytes /= int64(len(pool))

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go r.permitsOnly(ctx, b, cancel)
	var readable atomic.Int64
	defer r.progress.watch(func() string {
		return fmt.Sprintf("published %s, readable %s deliveries", thousands(r.progress.count.Load()), thousands(readable.Load()))
	})()
	l := bench.Latency{
		Engine: r.node.engine, Deliveries: r.node.cfg.Topics().Deliveries(), Pool: pool, Keys: keys, Fanout: r.scenario.Fanout,
		Rate: rate, Settling: settling, Warmup: warm, Records: total, Linger: linger, Patience: patience,
		Published: &r.progress.count, Readable: &readable,
		Settled: func(ctx context.Context) error {
			if err := r.await(ctx, b, settling, func(int64) {}); err != nil {
				return err
			}
			for b.PoliciesPending() > 0 {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		},
	}
	seen, err := l.Run(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return res, err
	}
	took, late := seen.Took, seen.Late
	slices.Sort(took)
	slices.Sort(late)
	res.P50, res.P95, res.P99, res.Max = percentile(took, 0.50), percentile(took, 0.95), percentile(took, 0.99), percentile(took, 1)
	res.Late = percentile(late, 0.99)
	res.Kept = seen.Behind <= keptWithin
	res.Records, res.Deliveries, res.Repeats = int64(total-warm), int64(len(took)), seen.Repeats
	return res, nil
}

// permitsOnly gives up when the broker stops, or does something else than what is
// measured: then deliveries would be waited for that never come.
func (r *benchRun) permitsOnly(ctx context.Context, b *flow.Broker, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-b.Stopped():
			giveUp(errors.New("the broker stopped"))
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			if t := b.Totals(); len(t.Rejected) > 0 || len(t.Denied) > 0 {
				giveUp(fmt.Errorf("records were rejected %v, or denied %v", t.Rejected, t.Denied))
				return
			}
		}
	}
}

// percentile is of sorted nanoseconds, in milliseconds, by nearest rank.
func percentile(sorted []int64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(p*float64(len(sorted)))) - 1
	return float64(sorted[max(0, i)]) / 1e6
}
