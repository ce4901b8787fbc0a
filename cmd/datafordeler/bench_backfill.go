package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/registry"
	"datafordeler/providers"
)

// backfillResult is what bench backfill --json prints: how late live deliveries are
// while nothing else is done, and while a subscription gets all that was published
// before it was declared.
type backfillResult struct {
	Records int           `json:"records"` // published earlier
	Idle    latencyResult `json:"idle"`
	Beside  latencyResult `json:"beside"`
	Ratio   float64       `json:"p99_ratio"` // beside to idle
	// Left is how many were still to come when the second measurement ended; where
	// none were, some of it saw no backfill.
	Left     int64   `json:"left_at_the_end"`
	PerSec   int     `json:"backfill_limit_rps"`
	Backfill float64 `json:"backfill_rps"` // in the second measurement
	Seconds  float64 `json:"backfill_seconds"`
	// Decided is how many decisions of backfill stand in the log at the end.
	Decided int64 `json:"decided"`
}

func benchBackfill(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench backfill")
	var f benchFlags
	f.declare(fs, 1_000_000)
	rate := fs.Int("rate", 1_000, "")
	seconds := fs.Float64("seconds", 20, "")
	limit := fs.Int("backfill-rate", flow.Defaults().Backfill.RecordsPerSecond, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *rate < 1 || *rate > 1_000_000 || *limit < 1 || *limit > 1_000_000:
		return usagef("rate: %d, backfill-rate: %d; give 1 to 1,000,000 records a second", *rate, *limit)
	case !(*seconds > 0 && *seconds <= 3600):
		return usagef("seconds: %v is outside 0 to 3,600", *seconds)
	}
	if err := f.check(); err != nil {
		return err
	}
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	r.node.cfg.Flow.Backfill.RecordsPerSecond = *limit
	defer r.progress.watch(func() string { return "published " + thousands(r.progress.count.Load()) })()
	if err := r.publish(ctx, 0, f.scenario.Records); err != nil {
		return err
	}
	b, stop := r.governed(ctx, "backfill")
	res, err := r.backfillBeside(ctx, b, *rate, *seconds)
	if stopErr := stop(); stopErr != nil {
		err = stopErr
	}
	if err != nil {
		return err
	}
	res.PerSec = *limit
	r.progress.end()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	fmt.Fprintf(std.out, "%22s %10s %10s %10s %10s\n", "live, ms", "p50", "p95", "p99", "max")
	for _, row := range []struct {
		name string
		l    latencyResult
	}{{"alone", res.Idle}, {"beside backfill", res.Beside}} {
		fmt.Fprintf(std.out, "%22s %10.1f %10.1f %10.1f %10.1f\n", row.name, row.l.P50, row.l.P95, row.l.P99, row.l.Max)
		if !row.l.Kept {
			fmt.Fprintln(std.out, "THE RATE WAS NOT KEPT: try a lower --rate, or a machine with less else to do.")
		}
	}
	if res.Left == 0 {
		fmt.Fprintln(std.out, "backfill had ended before the second measurement: give fewer --seconds, a lower --backfill-rate or more --records")
	}
	_, err = fmt.Fprintf(std.out, "p99 beside backfill is %.2f times the p99 alone; backfill of %s records at %s/s (limit %s/s), %s decided once each in %.0f s; live %s/s of %d bytes; %s engine, %d CPUs, %s\n",
		res.Ratio, thousands(int64(res.Records)), thousands(int64(res.Backfill)), thousands(int64(res.PerSec)), thousands(res.Decided), res.Seconds,
		thousands(int64(*rate)), res.Idle.RecordBytes, res.Idle.Engine, res.Idle.CPUs, res.Idle.Go)
	return err
}

func (r *benchRun) backfillBeside(ctx context.Context, b *flow.Broker, rate int, seconds float64) (res backfillResult, err error) {
	res.Records = r.scenario.Records
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go r.permitsOnly(ctx, b, cancel)
	if err := r.await(ctx, b, int64(r.scenario.Records), func(int64) {}); err != nil {
		return res, err
	}
	if res.Idle, err = r.latencyNow(ctx, b, "idle", rate, seconds); err != nil {
		return res, err
	}
	begun := time.Now()
	if err := r.startEarlier(ctx); err != nil {
		return res, err
	}
	if err := r.backfilling(ctx, func(left int64, done bool) bool { return left > 0 || done }); err != nil {
		return res, err
	}
	measured, at := time.Now(), b.Totals()
	if res.Beside, err = r.latencyNow(ctx, b, "beside", rate, seconds); err != nil {
		return res, err
	}
	after := b.Totals()
	res.Backfill = float64(backfilled(after)-backfilled(at)-(after.Records-at.Records)) / time.Since(measured).Seconds()
	if err := r.backfilling(ctx, func(left int64, done bool) bool { res.Left = left; return true }); err != nil {
		return res, err
	}
	if err := r.backfilling(ctx, func(_ int64, done bool) bool { return done }); err != nil {
		return res, err
	}
	res.Seconds = time.Since(begun).Seconds()
	res.Ratio = over(res.Beside.P99, res.Idle.P99)
	seen := map[broker.DecisionID]bool{}
	err = flow.Decisions(ctx, r.node.engine, r.node.cfg.Topics(), func(_ *deliver.BatchHeader, d *broker.Decision) error {
		if d.Kind != broker.BackfillDecision {
			return nil
		}
		if seen[d.ID] {
			return fmt.Errorf("decision %v stands twice", d.ID)
		}
		seen[d.ID] = true
		return nil
	})
	res.Decided = int64(len(seen))
	if err == nil && res.Decided < int64(res.Records) {
		err = fmt.Errorf("%d of %d earlier records were decided", res.Decided, res.Records)
	}
	return res, err
}

// backfilled is what the subscription that begins earlier was given, live or not.
func backfilled(t flow.Totals) (n int64) {
	for _, s := range t.Subscriptions {
		if s.ID == earlier {
			n = s.Permitted
		}
	}
	return n
}

const earlier = "bench-earlier"

// startEarlier declares a subscription to all, with a topic of its own, from long ago.
func (r *benchRun) startEarlier(ctx context.Context) error {
	if _, err := r.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		var like *broker.Agreement
		for _, a := range st.Agreements() {
			if len(a.Bases) == 2 { // in statute
				like = a
				break
			}
		}
		if like == nil {
			return nil, errors.New("no agreement in statute: give a lower --consent-share")
		}
		a := *like
		a.ID = earlier
		a.Package = broker.PackageRef{}
		for _, p := range st.Packages() {
			if len(p.Filter) == 0 {
				a.Package = p.Ref()
			}
		}
		var changes []registry.Change
		for _, thing := range []any{
			broker.Mailbox{ID: earlier, Organisation: a.Consumer, Client: "bench", Channel: broker.KafkaChannel}, a,
			broker.Subscription{ID: earlier, Agreement: earlier, Mailbox: earlier, Scope: broker.Scope{Kind: broker.ScopeAll},
				Start: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			c, err := registry.Put(thing)
			if err != nil {
				return nil, err
			}
			changes = append(changes, c)
		}
		if err := r.node.engine.EnsureTopics(ctx, r.node.cfg.MailboxSpec(earlier)); err != nil {
			return nil, err
		}
		return st.Link(time.Now(), "bench", changes...)
	}); err != nil {
		return err
	}
	return r.node.ensureTopics(ctx)
}

// backfilling waits until enough is said of what is left.
func (r *benchRun) backfilling(ctx context.Context, enough func(left int64, done bool) bool) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := flow.BackfillLeft(ctx, r.node.engine, r.node.cfg.Topics(), r.prefix+"backfill", r.node.control)
		if err != nil {
			return err
		}
		left, done, pending := int64(0), true, false
		for _, p := range list {
			left, done, pending = left+max(0, p.Left), done && p.Done(), pending || p.Pending
		}
		if !pending && enough(left, done) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// latencyNow is latency beside what was published and delivered before.
func (r *benchRun) latencyNow(ctx context.Context, b *flow.Broker, name string, rate int, seconds float64) (res latencyResult, err error) {
	warm := 2 * rate
	total := warm + max(1, int(seconds*float64(rate)))
	res = latencyResult{Rate: rate, Subscriptions: r.scenario.Subscriptions, Fanout: r.scenario.Fanout, machine: r.machine(), Seconds: seconds}
	topics := r.node.cfg.Topics()
	pool, subjects := r.scenario.Messages(topics.Source(string(bench.Dataset)), 0, min(r.scenario.Records, latencyPool))
	keys := make([][]byte, len(pool))
	for i, m := range pool {
		keys[i] = providers.HashKey(bench.Dataset, subjects[i])
		res.RecordBytes += int64(len(m.Value))
	}
	res.RecordBytes /= int64(len(pool))
	begun := b.Records()
	var readable atomic.Int64
	l := bench.Latency{
		Engine: r.node.engine, Deliveries: topics.Deliveries(), Pool: pool, Keys: keys, Fanout: r.scenario.Fanout, Name: name, Later: true,
		Rate: rate, Settling: settling, Warmup: warm, Records: total, Linger: time.Millisecond, Patience: patience,
		Published: &r.progress.count, Readable: &readable,
		Settled: func(ctx context.Context) error { return r.await(ctx, b, begun+settling, func(int64) {}) },
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
