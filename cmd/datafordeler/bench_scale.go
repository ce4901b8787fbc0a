package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/match"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// scaleResult is what bench scale --json prints.
type scaleResult struct {
	Points []scalePoint `json:"points"`
	// Ratio is the last point's cost for a record to the first one's.
	Ratio        float64 `json:"ratio"`
	Records      int     `json:"records"`
	RecordBytes  int64   `json:"record_bytes"`
	Fanout       int     `json:"fanout"`
	ConsentShare float64 `json:"consent_share"`
	CPUs         int     `json:"cpus"`
	Go           string  `json:"go"`
	Seconds      float64 `json:"seconds"`
}

// scalePoint is the processor time of one record, in the pass that took the least.
type scalePoint struct {
	Subscriptions int `json:"subscriptions"`
	// Record is all of it but Kafka: intake, match, policy, minimise, encode.
	Record float64 `json:"ns_per_record"`
	// Match is finding the subscriptions alone.
	Match float64 `json:"match_ns"`
	// Ready is how long it took from the registry's state until the first record
	// could be decided, by the clock: index, policies and all.
	Ready float64 `json:"ready_s"`
	// Heap is what the state and what is compiled of it hold, after a collection.
	Heap int64 `json:"heap_bytes"`
}

const scalePasses = 5

func benchScale(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench scale")
	points := fs.String("points", "10,100,1000,10000,100000", "")
	s := bench.Scenario{Seed: 1}
	fs.IntVar(&s.Records, "records", 20_000, "")
	fs.IntVar(&s.Fanout, "fanout", 1, "")
	fs.Float64Var(&s.ConsentShare, "consent-share", 0, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	var sizes []int
	for p := range strings.SplitSeq(*points, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil {
			return usagef("points: %q is no number of subscriptions; write such as 10,1000,100000", p)
		}
		sizes = append(sizes, n)
		s.Subscriptions = n
		if err := s.Validate(); err != nil {
			return usageError{err}
		}
	}
	if len(sizes) < 2 || !slices.IsSorted(sizes) {
		return usagef("points: give two or more, the smallest first")
	}
	begun := time.Now()
	out := std.out
	if *asJSON {
		out = io.Discard
	}
	pr := newProgress(std.err)
	step := "making records"
	defer pr.watch(func() string { return step })()
	res := scaleResult{Records: s.Records, Fanout: s.Fanout, ConsentShare: s.ConsentShare, CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version()}
	fmt.Fprintf(out, "%14s %14s %14s %10s %10s\n", "subscriptions", "ns/record", "of it, match", "ready, s", "heap, MB")
	for _, n := range sizes {
		s.Subscriptions = n
		p, bytes, err := scaleAt(ctx, s, func(what string) { step = thousands(int64(n)) + " subscriptions: " + what })
		if err != nil {
			return fmt.Errorf("%d subscriptions: %w", n, err)
		}
		res.Points, res.RecordBytes = append(res.Points, p), bytes
		pr.end()
		fmt.Fprintf(out, "%14s %14s %14s %10.2f %10.1f\n", thousands(int64(n)), thousands(int64(p.Record)), thousands(int64(p.Match)), p.Ready, float64(p.Heap)/1e6)
	}
	res.Ratio = res.Points[len(res.Points)-1].Record / res.Points[0].Record
	res.Seconds = time.Since(begun).Seconds()
	pr.end()
	if *asJSON {
		return json.NewEncoder(std.out).Encode(res)
	}
	_, err := fmt.Fprintf(std.out, "a record at %s subscriptions costs %.2f of what it costs at %s; %s records of %d bytes, fan-out %d, consent share %.2f; %s, %.0f s\n",
		thousands(int64(sizes[len(sizes)-1])), res.Ratio, thousands(int64(sizes[0])), thousands(int64(s.Records)), res.RecordBytes, s.Fanout, s.ConsentShare, res.Go, res.Seconds)
	return err
}

// scaleAt measures one point. Nothing of it is left when it returns, so that no
// point pays for another's memory.
func scaleAt(ctx context.Context, s bench.Scenario, step func(string)) (p scalePoint, bytes int64, err error) {
	p.Subscriptions = s.Subscriptions
	ring := keys.NewTest(s.Seed) // nobody's keys: the records are synthetic
	before := measureMemory(0).Heap
	step("registering")
	st, err := scaleState(s, ring)
	if err != nil {
		return p, 0, err
	}
	cfg := defaultConfig()
	cfg.Intake.Window = s.Records
	step("compiling")
	ready := time.Now()
	x, err := flow.NewOffline(ctx, flow.Options{Config: cfg.Flow, Kafka: cfg.Config, Intake: cfg.Intake, Hasher: ring, Log: slog.New(slog.DiscardHandler)}, st, bench.Dataset)
	if err != nil {
		return p, 0, err
	}
	p.Ready = time.Since(ready).Seconds()
	p.Heap = int64(measureMemory(0).Heap) - int64(before)

	messages, _ := s.Messages(cfg.Topics().Source(string(bench.Dataset)), 0, s.Records)
	records := bench.Records(messages, time.Now())
	for _, m := range messages {
		bytes += int64(len(m.Value))
	}
	step("deciding")
	const transaction = 5_000
	p.Record, err = perRecord(ctx, s.Records, func() error {
		x.Forget()
		var decisions int64
		for part := range slices.Chunk(records, transaction) {
			n, err := x.Transaction(ctx, part)
			if err != nil {
				return err
			}
			decisions += n
		}
		if want := int64(s.Records) * int64(s.Fanout); decisions != want {
			return fmt.Errorf("%d decisions, want %d", decisions, want)
		}
		return nil
	})
	if err != nil {
		return p, 0, err
	}
	step("matching")
	p.Match, err = scaleMatch(ctx, s, st, ring, messages)
	return p, bytes / int64(s.Records), err
}

// scaleState folds the scenario's registry, and the policy.
func scaleState(s bench.Scenario, ring *keys.Ring) (*registry.State, error) {
	st := registry.New()
	fold := func(changes []registry.Change) error {
		events, err := st.Link(time.Now(), "bench", changes...)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := st.Check(e); err != nil {
				return err
			}
			if _, err := st.Fold(e); err != nil {
				return err
			}
		}
		return nil
	}
	active := policy.Embedded()
	changes, err := s.Changes()
	if err != nil {
		return nil, err
	}
	changes = append([]registry.Change{registry.ActivatePolicy(registry.Policy{Digest: active.Digest(), Modules: active.Modules})}, changes...)
	for part := range slices.Chunk(append(changes, s.Consents(ring, 0, s.Records)...), 10_000) {
		if err := fold(part); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func scaleMatch(ctx context.Context, s bench.Scenario, st *registry.State, ring *keys.Ring, messages []kafka.Raw) (float64, error) {
	ds, err := intake.Compile(st.Dataset(bench.Dataset), intake.Defaults())
	if err != nil {
		return 0, err
	}
	accepted := make([]broker.Record, len(messages))
	var doc jsondoc.Doc
	now := time.Now()
	for i, m := range messages {
		msg := intake.Message{Position: broker.Position{Dataset: bench.Dataset}, Value: m.Value, Timestamp: now}
		for k, v := range m.Headers {
			msg.Headers = append(msg.Headers, intake.Header{Key: k, Value: []byte(v)})
		}
		if rejected := ds.Accept(&msg, ring, &accepted[i], &doc); rejected != nil {
			return 0, rejected
		}
		accepted[i].Attributes = slices.Clone(accepted[i].Attributes)
	}
	index := match.New(st.AllTerms())
	var terms []int32
	return perRecord(ctx, s.Records, func() error {
		n := 0
		for i := range accepted {
			terms = index.Match(terms[:0], &accepted[i], st)
			n += len(terms)
		}
		if want := s.Records * s.Fanout; n != want {
			return fmt.Errorf("%d in scope, want %d", n, want)
		}
		return nil
	})
}

// perRecord is the processor time of n records, in nanoseconds a record: the least
// of some passes, since what else runs on the machine only adds to it. The first
// pass warms up.
func perRecord(ctx context.Context, n int, pass func() error) (float64, error) {
	least := math.Inf(1)
	for i := range scalePasses + 1 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		runtime.GC()
		begun := processorTime()
		if err := pass(); err != nil {
			return 0, err
		}
		if i > 0 {
			least = min(least, float64(processorTime()-begun)/float64(n))
		}
	}
	return least, nil
}
