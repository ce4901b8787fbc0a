package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker/flow"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/policy"
	"datafordeler/providers"
)

func benchCommand() command {
	return command{
		name:    "bench",
		summary: "measure throughput, latency, decisions, growth and memory",
		help: `Usage: datafordeler bench route   [--records N] [--ways raw,governed,naive] [flags]
       datafordeler bench latency [--rate N] [--seconds N] [flags]
       datafordeler bench backfill [--rate N] [--seconds N] [--backfill-rate N] [flags]
       datafordeler bench ledger  [--records N] [flags]
       datafordeler bench http    [--polls N] [--rate N] [--seconds N] [flags]
       datafordeler bench lookups [--rate N] [--seconds N] [--records N] [flags]
       datafordeler bench withdraw [--count N] [--rate N] [flags]
       datafordeler bench control [--consents N] [--rate N] [--events N] [flags]
       datafordeler bench decide  [--cases N] [--seed S] [--json]
       datafordeler bench scale   [--points N,N,…] [--records N] [--json]
       datafordeler bench sizing  [--records N] [--brokers A,B] [--json]
       datafordeler bench memory  [--records N] [--every N] [flags]

route measures, in turn in each round, on the same records:
  raw        a transactional copy that does nothing to a record: as many writes,
             to as many partitions, by as many sessions, in transactions of the
             same time and size
  governed   the broker at full function
  naive      OPA's Eval and generic maps for each record, in like transactions
and prints the medians, and what a record becomes in bytes. ledger routes without
and with the ledger written and signed beside, on the same machine, and verifies
it: decisions a second, and how long after the last one a head covers it. latency publishes at
a constant rate and measures until a consumer can read what was committed, from
when each record was due, whatever held it up. decide puts random cases to the
full and to the compiled policy, which must answer alike. scale measures what a
record costs, but for Kafka, as subscriptions that it does not concern grow.
sizing routes records of several sizes at several fan-outs, and fits what a
record costs a processor to them. http opens long polls, publishes, and measures
until each delivery has come; then it asks at a constant rate, and measures from
when each request was due: real HTTP over loopback, tokens checked by the gate, the
clients on the same processors. backfill measures as latency does, alone and while
a new subscription gets all that was published before it, and sees that each of
these records was decided once. withdraw ends cases over HTTP and measures until
each is answered as binding. control gives consents and withdraws them by commands
while records are routed, and starts on a long log of the registry, from its
beginning and from an image. memory routes a long stream and prints what the
process holds after each part of it, when garbage has been collected.

route, ledger, latency, backfill, withdraw, control and memory:
  --subscriptions N    how many are registered (1,000, and no fewer than fanout)
  --fanout F           how many of them each record is in scope of (1)
  --consent-share S    what share of the decisions stands on consent, 0 to 1 (0)
  --lines N            how often each income stands in its record, for larger
                       ones (1: about 760 bytes)
  --brokers A,B        an Apache Kafka; default is the embedded engine in a
                       directory that is removed. Topics get a prefix of the
                       run's own and are deleted afterwards
  --json               one JSON object instead of a table
  --verbose            log what the broker does on standard error
route only:
  --records N          how many records (200,000)
  --rounds N           at least 3 (3)
  --ways W,W           which of raw,governed,naive (all)
  --naive-records N    how many of the records the naive way goes through, since
                       it is slow (a tenth, and 20,000 or more)
  --cpuprofile FILE    profile one more round of governed, which does not count
ledger only:
  --records N          how many records (200,000)
  --rounds N           at least 3 (3)
latency only:
  --rate N             records a second (10,000)
  --seconds N          for how long (20), after --warmup N seconds (5)
  --linger D           how long the publisher gathers a batch (1ms)
  --records N          how many different payloads (20,000)
http only:
  --polls N            long polls that are open at once (1,000)
  --arriving N         records a second while they wait (200)
  --rate N             requests a second (10,000), over --connections N (64)
  --seconds N          of each part (10)
  --cpuprofile FILE    profile the requests
backfill only:
  --records N          published earlier (1,000,000)
  --rate N             live records a second (1,000), for --seconds N (20)
  --backfill-rate N    flow.backfill.records_per_second (5,000)
lookups only:
  --records N          published before (20,000)
  --rate N             questions a second (1,000), over --connections N (64), for --seconds N (10)
withdraw only:
  --count N            how many cases are opened and ended (200), over HTTP, idle
                       and while --rate N records a second are published (1,000)
control only:
  --consents N         how many are given and withdrawn (50,000), by --rate N commands
                       a second (5,000), beside --record-rate N records a second (1,000)
  --events N           how long the log of the registry is made (1,000,000); its last
                       twentieth is later than the image. 0 leaves this part out
decide only:
  --cases N            how many (10,000), drawn from --seed S (1)
scale only:
  --points N,N         numbers of subscriptions (10,100,1000,10000,100000)
  --records N          how many records, in transactions of 5,000 (20,000)
  --fanout F, --consent-share S as above
sizing only:
  --records N          how many at each of nine points (50,000)
  --subscriptions, --consent-share, --brokers, --json, --verbose as above
memory only:
  --records N          how many records (1,000,000)
  --every N            report after each N records (100,000)
  --window N           the window of repeats, for each of six partitions; memory
                       grows until it is full (as configured: 100,000)

Examples:
  datafordeler bench route --ways raw,governed
  datafordeler bench route --records 1000000 --fanout 10 --subscriptions 3570 --json
  datafordeler bench route --brokers localhost:9092 --consent-share 0.25
  datafordeler bench latency --rate 5000 --seconds 60
  datafordeler bench backfill --records 100000 --seconds 10
  datafordeler bench control --consents 1000000 --events 10000000
  datafordeler bench decide --cases 100000 --seed 7
  datafordeler bench scale --points 10,100000 --json
  datafordeler bench memory --records 2000000
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			if len(args) == 0 {
				return usagef("which? route, ledger, latency, http, lookups, backfill, withdraw, control, decide, scale, sizing or memory")
			}
			switch args[0] {
			case "route":
				return benchRoute(ctx, std, args[1:])
			case "backfill":
				return benchBackfill(ctx, std, args[1:])
			case "latency":
				return benchLatency(ctx, std, args[1:])
			case "decide":
				return benchDecide(ctx, std, args[1:])
			case "scale":
				return benchScale(ctx, std, args[1:])
			case "sizing":
				return benchSizing(ctx, std, args[1:])
			case "ledger":
				return benchLedger(ctx, std, args[1:])
			case "http":
				return benchHTTP(ctx, std, args[1:])
			case "lookups":
				return benchLookups(ctx, std, args[1:])
			case "withdraw":
				return benchWithdraw(ctx, std, args[1:])
			case "control":
				return benchControl(ctx, std, args[1:])
			case "memory":
				return benchMemory(ctx, std, args[1:])
			case "-h", "-help", "--help":
				return flag.ErrHelp
			}
			return usagef("no bench %q: route, ledger, latency, http, lookups, backfill, withdraw, control, decide, scale, sizing or memory", args[0])
		},
	}
}

// benchFlags are those that several have.
type benchFlags struct {
	scenario      bench.Scenario
	brokers       string
	window        int // of repeats; 0 is the configuration's
	json, verbose bool
}

func (f *benchFlags) declare(fs *flag.FlagSet, records int) {
	f.scenario.Seed = 1
	fs.IntVar(&f.scenario.Records, "records", records, "")
	fs.IntVar(&f.scenario.Subscriptions, "subscriptions", 0, "")
	fs.IntVar(&f.scenario.Fanout, "fanout", 1, "")
	fs.Float64Var(&f.scenario.ConsentShare, "consent-share", 0, "")
	fs.IntVar(&f.scenario.Lines, "lines", 1, "")
	fs.StringVar(&f.brokers, "brokers", "", "")
	fs.BoolVar(&f.json, "json", false, "")
	fs.BoolVar(&f.verbose, "verbose", false, "")
}

func (f *benchFlags) check() error {
	if f.scenario.Subscriptions == 0 {
		f.scenario.Subscriptions = max(1000, f.scenario.Fanout)
	}
	if err := f.scenario.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}

// benchRun is a broker with a scenario's registry, on an engine to itself.
type benchRun struct {
	benchFlags
	node     *node
	log      *slog.Logger
	out      io.Writer // steps
	progress *progress
	prefix   string
	bytes    int64 // of the payloads published
	closers  []func()
}

// open starts the engine and registers the scenario.
func (f benchFlags) open(ctx context.Context, std stdio) (r *benchRun, err error) {
	r = &benchRun{benchFlags: f, out: std.out, progress: newProgress(std.err),
		prefix: "bench-" + strconv.FormatInt(time.Now().UnixMilli(), 36) + "-" + strconv.Itoa(os.Getpid()) + "."}
	if f.json {
		r.out = io.Discard
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelDebug
	}
	r.log = slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: level}))
	dir, err := os.MkdirTemp("", "datafordeler-bench-")
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, func() { os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	cfg := dataConfig(filepath.Join(dir, "data"))
	cfg.Prefix = r.prefix
	if f.window != 0 {
		cfg.Intake.Window = f.window
	}
	if f.brokers != "" {
		cfg.Engine, cfg.Data, cfg.Listen, cfg.Brokers = kafka.EngineKafka, "", "", strings.Split(f.brokers, ",")
	}
	cfg.Keystore.Path = filepath.Join(dir, "bench.keys") // of people who do not exist: it goes with the directory
	if err := cfg.Validate(); err != nil {
		return nil, usageError{err}
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	r.closers = append(r.closers, end)
	if r.node, err = openNode(life, cfg, r.log, kafka.Own, true); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.node.close)
	if f.brokers != "" {
		r.closers = append(r.closers, func() {
			cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			if err := bench.Clean(cleaning, r.node.engine, r.prefix); err != nil {
				fmt.Fprintf(std.err, "datafordeler bench: topics %s* are left on %s: %v\n", r.prefix, f.brokers, err)
			}
		})
	}
	return r, r.register(ctx)
}

func (r *benchRun) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		r.closers[i]()
	}
}

// register puts the scenario in the control topic, as any other registry.
func (r *benchRun) register(ctx context.Context) error {
	if _, err := r.node.activatePolicy(ctx, "bench", policy.Embedded()); err != nil {
		return err
	}
	docs, err := r.scenario.Documents()
	if err != nil {
		return err
	}
	if _, _, err := r.node.apply(ctx, docs, "bench", false); err != nil {
		return err
	}
	if err := r.node.ensureTopics(ctx); err != nil {
		return err
	}
	const part = 20_000
	for from := 0; from < r.scenario.Records; from += part {
		changes := r.scenario.Consents(r.node.ring, from, from+part)
		if len(changes) == 0 {
			continue
		}
		if _, err := r.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
			return st.Link(time.Now(), "bench", changes...)
		}); err != nil {
			return err
		}
	}
	return nil
}

// publish writes the records [from, to) to the source.
func (r *benchRun) publish(ctx context.Context, from, to int) error {
	topic := r.node.cfg.Topics().Source(string(bench.Dataset))
	const part = 10_000
	for ; from < to; from += part {
		messages, subjects := r.scenario.Messages(topic, from, min(from+part, to))
		for i := range messages {
			messages[i].Key = providers.HashKey(bench.Dataset, subjects[i])
			r.bytes += int64(len(messages[i].Value))
		}
		if err := r.node.engine.Write(ctx, messages...); err != nil {
			return err
		}
		r.progress.count.Add(int64(len(messages)))
	}
	return nil
}

// governed starts a broker of a group of its own; stop ends it.
func (r *benchRun) governed(ctx context.Context, group string) (b *flow.Broker, stop func() error) {
	n := *r.node
	n.cfg.Flow.Group = r.prefix + group
	b = n.newBroker(nil)
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(running) }()
	return b, func() error { cancel(); return <-ended }
}

// await returns when a broker has committed n records; sample is told on the way.
// Where nothing is committed for a while it asks the group's offsets: a session
// that ended in doubt begins anew from what is committed, and the broker does not
// count what another session of its own committed.
func (r *benchRun) await(ctx context.Context, b *flow.Broker, n int64, sample func(int64)) error {
	adm, err := r.node.engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	const quiet = 10 * time.Second
	last, since := int64(-1), time.Now()
	for {
		at := b.Records()
		sample(at)
		if at >= n {
			return nil
		}
		if at != last {
			last, since = at, time.Now()
		} else if time.Since(since) > quiet {
			since = time.Now()
			if lag, err := b.Lag(ctx, adm); err != nil {
				return err
			} else if lag == 0 {
				return fmt.Errorf("all records are decided, but the broker counted %d of %d: a session ended in doubt and began anew; run again when the machine is less loaded (--verbose tells more)", at, n)
			}
			if held := b.Held(); held != "" {
				return errors.New(held)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.Stopped():
			return errors.New("the broker stopped")
		case <-tick.C:
		}
	}
}

// whole says whether a broker permitted all that it was to: a run that rejects or
// denies would be measuring something else.
func (r *benchRun) whole(t flow.Totals) error {
	want := int64(r.scenario.Records) * int64(r.scenario.Fanout)
	if t.Permitted != want || t.Decisions != want || len(t.Rejected) > 0 || t.Repeated > 0 {
		return fmt.Errorf("of %d decisions, %d were made and %d permitted; rejected %v, repeated %d, denied %v",
			want, t.Decisions, t.Permitted, t.Rejected, t.Repeated, t.Denied)
	}
	return nil
}

// machine is what a figure depends on.
type machine struct {
	Engine string `json:"engine"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
}

func (r *benchRun) machine() machine {
	m := machine{Engine: "Apache Kafka", CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version()}
	if r.node.engine.Embedded() {
		m.Engine = "embedded"
	}
	return m
}
