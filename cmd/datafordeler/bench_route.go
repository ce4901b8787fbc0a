package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// benchResult is what --json prints: medians over the rounds, in records a
// second, and their ratios.
type benchResult struct {
	Raw             float64 `json:"raw_rps"`
	Governed        float64 `json:"governed_rps"`
	Ratio           float64 `json:"ratio"` // governed to raw
	Naive           float64 `json:"naive_rps"`
	GovernedVsNaive float64 `json:"governed_vs_naive"`
	// Cost is what a record takes of a processor, in microseconds, in this process:
	// with the embedded engine the engine too. Less than the rates it depends on
	// what else the machine does.
	RawCost       float64      `json:"raw_cpu_us"`
	GovernedCost  float64      `json:"governed_cpu_us"`
	Rounds        []benchRound `json:"rounds"`
	Records       int          `json:"records"`
	NaiveRecords  int          `json:"naive_records"`
	RecordBytes   int64        `json:"record_bytes"` // an average payload
	Subscriptions int          `json:"subscriptions"`
	Fanout        int          `json:"fanout"`
	ConsentShare  float64      `json:"consent_share"`
	machine
	Sessions int      `json:"sessions"` // of each way: members of its group
	Ways     []string `json:"ways"`
	// Bytes is what stands in the topics after one round of each, before
	// compression: source, raw, deliveries, decisions.
	Bytes   map[string]bench.Size `json:"bytes"`
	Seconds float64               `json:"seconds"`
}

type benchRound struct {
	Raw             float64 `json:"raw_rps"`
	Governed        float64 `json:"governed_rps"`
	Naive           float64 `json:"naive_rps"`
	Ratio           float64 `json:"ratio"`
	GovernedVsNaive float64 `json:"governed_vs_naive"`
	Transactions    int64   `json:"governed_transactions"`
	RawTransactions int64   `json:"raw_transactions"`
	RawCost         float64 `json:"raw_cpu_us"`
	GovernedCost    float64 `json:"governed_cpu_us"`
	RawBusy         float64 `json:"raw_busy_cpus"` // how many processors were at work
	GovernedBusy    float64 `json:"governed_busy_cpus"`
}

// over is a ratio, 0 where a way was left out.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func benchRoute(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench route")
	var f benchFlags
	f.declare(fs, 200_000)
	rounds := fs.Int("rounds", 3, "")
	naiveRecords := fs.Int("naive-records", 0, "")
	profile := fs.String("cpuprofile", "", "")
	which := fs.String("ways", "raw,governed,naive", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *rounds < 3 {
		return usagef("rounds: %d is too few for a median: give 3 or more", *rounds)
	}
	chosen := strings.Split(*which, ",")
	for i, w := range chosen {
		if chosen[i] = strings.TrimSpace(w); !slices.Contains([]string{"raw", "governed", "naive"}, chosen[i]) {
			return usagef("ways: %q is none: write some of raw,governed,naive", w)
		}
	}
	if err := f.check(); err != nil {
		return err
	}
	if f.scenario.Records < 50_000 {
		return usagef("records: %d go through in a few transactions, which measures little: give 50,000 or more", f.scenario.Records)
	}
	if *naiveRecords == 0 {
		*naiveRecords = max(20_000, f.scenario.Records/10)
	}
	*naiveRecords = min(*naiveRecords, f.scenario.Records)
	begun := time.Now()
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	step := "publishing"
	defer r.progress.watch(func() string {
		return fmt.Sprintf("%s · %s of %s records", step, thousands(r.progress.count.Load()), thousands(int64(f.scenario.Records)))
	})()
	if err := r.publish(ctx, 0, f.scenario.Records); err != nil {
		return err
	}
	ways, err := r.ways(ctx, int64(*naiveRecords), chosen)
	if err != nil {
		return err
	}
	res := benchResult{Records: f.scenario.Records, NaiveRecords: *naiveRecords, RecordBytes: r.bytes / int64(f.scenario.Records), Subscriptions: f.scenario.Subscriptions,
		Fanout: f.scenario.Fanout, ConsentShare: f.scenario.ConsentShare, machine: r.machine(), Sessions: ways.copy.Sessions, Ways: chosen}
	// Each round as it is known: a long run that is ended has told what it saw.
	fmt.Fprintf(r.out, "%8s %12s %12s %12s %14s %16s %10s %10s\n", "", "raw/s", "governed/s", "naive/s", "governed/raw", "governed/naive", "raw µs", "gov. µs")
	row := func(name string, b benchRound) {
		r.progress.end()
		fmt.Fprintf(r.out, "%8s %12s %12s %12s %14.3f %16.1f %10.2f %10.2f\n", name, thousands(int64(b.Raw)), thousands(int64(b.Governed)), thousands(int64(b.Naive)), b.Ratio, b.GovernedVsNaive, b.RawCost, b.GovernedCost)
	}
	for i := range *rounds {
		if err := ways.fresh(ctx); err != nil {
			return err
		}
		var round benchRound
		for _, w := range []struct {
			name             string
			rate, cost, busy *float64
			run              func(context.Context, string, *bench.Progress) error
		}{
			{"raw", &round.Raw, &round.RawCost, &round.RawBusy, func(ctx context.Context, group string, p *bench.Progress) (err error) {
				round.RawTransactions, err = ways.raw(ctx, group, p)
				return err
			}},
			{"governed", &round.Governed, &round.GovernedCost, &round.GovernedBusy, func(ctx context.Context, group string, p *bench.Progress) (err error) {
				round.Transactions, err = ways.governed(ctx, group, p)
				return err
			}},
			{"naive", &round.Naive, new(float64), new(float64), ways.naive},
		} {
			if !slices.Contains(chosen, w.name) {
				continue
			}
			step = fmt.Sprintf("round %d of %d, %s", i+1, *rounds, w.name)
			r.progress.count.Store(0)
			runtime.GC() // one way's garbage is not to be collected on another's time
			p := bench.Progress{Processor: processorTime}
			if err := w.run(ctx, w.name+"-"+strconv.Itoa(i), &p); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
			*w.rate, *w.cost, *w.busy = p.Rate(), p.Cost(), p.Busy()
		}
		round.Ratio, round.GovernedVsNaive = over(round.Governed, round.Raw), over(round.Governed, round.Naive)
		if i == 0 {
			step = "reading back what was written"
			if res.Bytes, err = ways.sizes(ctx); err != nil {
				return err
			}
		}
		res.Rounds = append(res.Rounds, round)
		row("round "+strconv.Itoa(i+1), round)
	}
	if *profile != "" {
		step = "profiling governed"
		if err := ways.profile(ctx, *profile); err != nil {
			return err
		}
	}
	res.Raw = median(res.Rounds, func(b benchRound) float64 { return b.Raw })
	res.Governed = median(res.Rounds, func(b benchRound) float64 { return b.Governed })
	res.RawCost = median(res.Rounds, func(b benchRound) float64 { return b.RawCost })
	res.GovernedCost = median(res.Rounds, func(b benchRound) float64 { return b.GovernedCost })
	res.Naive = median(res.Rounds, func(b benchRound) float64 { return b.Naive })
	res.Ratio, res.GovernedVsNaive = over(res.Governed, res.Raw), over(res.Governed, res.Naive)
	res.Seconds = time.Since(begun).Seconds()
	r.progress.end()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	row("median", benchRound{Raw: res.Raw, Governed: res.Governed, Naive: res.Naive, Ratio: res.Ratio, GovernedVsNaive: res.GovernedVsNaive, RawCost: res.RawCost, GovernedCost: res.GovernedCost})
	fmt.Fprintf(std.out, "bytes for each record read: %s\n", sizesText(res))
	_, err = fmt.Fprintf(std.out, "%s records of %d bytes, %s subscriptions, fan-out %d, consent share %.2f; %s engine, %d sessions, %d CPUs, %s, %.0f s\n",
		thousands(int64(res.Records)), res.RecordBytes, thousands(int64(res.Subscriptions)), res.Fanout, res.ConsentShare, res.Engine, res.Sessions, res.CPUs, res.Go, res.Seconds)
	return err
}

func median(rounds []benchRound, of func(benchRound) float64) float64 {
	var all []float64
	for _, b := range rounds {
		all = append(all, of(b))
	}
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

// sizesText is what a record becomes, in bytes.
func sizesText(res benchResult) string {
	var out []string
	for _, topic := range []string{"source", "raw", "deliveries", "decisions"} {
		if s, ok := res.Bytes[topic]; ok {
			out = append(out, fmt.Sprintf("%s %.0f + %.0f of headers", topic, float64(s.Values)/float64(res.Records), float64(s.Headers)/float64(res.Records)))
		}
	}
	return strings.Join(out, "; ")
}

// ways are the three, ready to run.
type ways struct {
	r       *benchRun
	copy    bench.Copy
	obvious bench.Naive
	chosen  []string
	some    int64 // of the records, for the naive way
	target  string
	buckets int32
}

func (r *benchRun) ways(ctx context.Context, naive int64, chosen []string) (*ways, error) {
	cfg := r.node.cfg
	w := &ways{r: r, chosen: chosen, some: naive, target: cfg.Prefix + "raw", buckets: cfg.DeliveryBuckets}
	w.copy = bench.Copy{Engine: r.node.engine, Options: cfg.Flow.ClientOptions, Source: cfg.Topics().Source(string(bench.Dataset)),
		Sessions: cfg.Flow.SessionCount(), MaxRecords: cfg.Flow.MaxRecords, Time: cfg.Flow.TransactionTime, Records: int64(r.scenario.Records)}
	w.obvious = bench.Naive{Workers: runtime.GOMAXPROCS(0), Deliveries: cfg.Prefix + "naive", Decisions: cfg.Prefix + "naive-decisions",
		DeliveryParts: cfg.DeliveryBuckets, DecisionPart: cfg.SourcePartitions}
	engine, err := policy.Compile(policy.Embedded())
	if err != nil {
		return nil, err
	}
	if w.obvious.Generic, err = engine.Generic(ctx); err != nil {
		return nil, err
	}
	r.node.control.View(func(st *registry.State) { w.obvious.Terms = st.AllTerms() })
	w.obvious.Consents = func(t *broker.Terms, subject string) (all []broker.Consent) {
		key := r.node.ring.Subject(t.Dataset.Subject.Kind, subject)
		r.node.control.View(func(st *registry.State) {
			all = st.Consents(nil, t.Agreement.Consumer, t.Dataset.ID, t.Agreement.Purpose, key)
		})
		return all
	}
	return w, w.obvious.Prepare()
}

// fresh makes the targets anew, so that no round finds what another one left: a
// broker that finds decisions goes on after them, whatever its group says.
func (w *ways) fresh(ctx context.Context) error {
	cfg := w.r.node.cfg
	specs := []kafka.TopicSpec{cfg.DeliveriesSpec(), cfg.DecisionsSpec()}
	for name, partitions := range map[string]int32{w.target: w.buckets, w.obvious.Deliveries: w.buckets, w.obvious.Decisions: cfg.SourcePartitions} {
		s := cfg.DeliveriesSpec()
		s.Name, s.Partitions = name, partitions
		specs = append(specs, s)
	}
	var names []string
	for _, s := range specs {
		names = append(names, s.Name)
	}
	if err := bench.Delete(ctx, w.r.node.engine, names...); err != nil {
		return err
	}
	return w.r.node.engine.EnsureTopics(ctx, specs...)
}

// settledAfter is after what part of the records counting begins, for raw and
// governed alike: until then transactions find their size.
const settledAfter = 10

// run copies, and holds what was written to each, of every record. It counts from
// a record on.
func (w *ways) run(ctx context.Context, c bench.Copy, group string, p *bench.Progress, from, each int64) (transactions int64, err error) {
	c.Group = w.r.prefix + group
	c.Committed = func(n int64) {
		w.r.progress.count.Store(n)
		if n >= from {
			p.Committed(n)
		}
	}
	done, err := c.Run(ctx)
	if err == nil && done.Written != done.Read*each {
		err = fmt.Errorf("%d records written, %d expected", done.Written, done.Read*each)
	}
	return done.Transactions, err
}

func (w *ways) raw(ctx context.Context, group string, p *bench.Progress) (transactions int64, err error) {
	c := w.copy
	c.Transform = bench.Raw(w.target, w.buckets, w.r.scenario.Fanout)
	return w.run(ctx, c, group, p, c.Records/settledAfter, int64(w.r.scenario.Fanout))
}

func (w *ways) naive(ctx context.Context, group string, p *bench.Progress) error {
	c := w.copy
	// By one session: it computes partitions side by side, and ends part of the way.
	c.Sessions, c.Time = 1, 0
	c.Records, c.MaxRecords = w.some, min(c.MaxRecords, int(w.some))
	c.Begun, c.Transform = p.Begin, w.obvious.Transform
	_, err := w.run(ctx, c, group, p, 0, 2*int64(w.r.scenario.Fanout)) // a delivery and a decision
	return err
}

// sizes is what the ways have written, and the source.
func (w *ways) sizes(ctx context.Context) (map[string]bench.Size, error) {
	topics := w.r.node.cfg.Topics()
	read := map[string]string{"source": w.copy.Source}
	if slices.Contains(w.chosen, "raw") {
		read["raw"] = w.target
	}
	if slices.Contains(w.chosen, "governed") {
		read["deliveries"], read["decisions"] = topics.Deliveries(), topics.Decisions()
	}
	out := map[string]bench.Size{}
	for name, topic := range read {
		s, err := bench.TopicSize(ctx, w.r.node.engine, topic)
		if err != nil {
			return nil, err
		}
		out[name] = s
	}
	return out, nil
}

func (w *ways) governed(ctx context.Context, group string, p *bench.Progress) (transactions int64, err error) {
	b, stop := w.r.governed(ctx, group)
	all := int64(w.r.scenario.Records)
	counting := false
	err = w.r.await(ctx, b, all, func(n int64) {
		w.r.progress.count.Store(n)
		// Policies are compiled beside the first records; that is once, not throughput.
		if counting = counting || n >= all/settledAfter && (b.PoliciesPending() == 0 || n >= all/2); counting {
			p.Committed(n)
		}
	})
	if stopErr := stop(); err == nil || stopErr != nil {
		err = stopErr
	}
	if err != nil {
		return 0, err
	}
	t := b.Totals()
	return t.Transactions, w.r.whole(t)
}

func (w *ways) profile(ctx context.Context, file string) error {
	if err := w.fresh(ctx); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	// The label tells the broker's goroutines from the embedded engine's:
	// go tool pprof -tagfocus way=governed.
	pprof.Do(ctx, pprof.Labels("way", "governed"), func(ctx context.Context) {
		_, err = w.governed(ctx, "profile", new(bench.Progress))
	})
	pprof.StopCPUProfile()
	if err != nil {
		return err
	}
	return f.Close()
}
