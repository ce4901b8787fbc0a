package positions

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	index "datafordeler/broker/store/positions"
	"datafordeler/deploy/demo"
	"datafordeler/providers/synthetic"
)

const (
	dataset    = "inntekt"
	partitions = 3
)

// rig is an engine with the demonstration's registry, a provider, and a writer of
// decisions. What it decided it also puts into an index by itself, without the log.
type rig struct {
	t       *testing.T
	cfg     kafka.Config
	engine  *kafka.Engine
	client  *kgo.Client
	adm     *kadm.Client
	control *flow.Control
	rev     broker.Revision
	ring    *keys.Ring
	people  *synthetic.Generator
	now     time.Time
	topicID broker.Digest
	opts    Options

	log    map[int32][]synthetic.Event // what was published
	next   map[int32]int64             // what is decided
	wanted *index.Index
	held   int // records in it

	mu   sync.Mutex
	said strings.Builder
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, cfg: kafka.Defaults(), ring: keys.NewTest(1), people: synthetic.New(synthetic.Config{People: 8, Seed: 3}),
		now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), log: map[int32][]synthetic.Event{}, next: map[int32]int64{}}
	r.cfg.Data, r.cfg.SourcePartitions = filepath.Join(t.TempDir(), "data"), partitions
	var err error
	if r.wanted, err = index.Open(t.Context(), filepath.Join(t.TempDir(), "wanted.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.wanted.Close() })
	r.up()
	t.Cleanup(r.down)
	declared := filepath.Join(t.TempDir(), "registry")
	if err := os.CopyFS(declared, demo.Files); err != nil {
		t.Fatal(err)
	}
	docs, err := registry.Load(declared)
	if err != nil {
		t.Fatal(err)
	}
	r.rev, err = r.control.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
		plan, err := registry.NewPlan(st, docs, "test", r.now)
		if err != nil {
			return nil, err
		}
		return plan.Events, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// up opens the engine on its data.
func (r *rig) up() {
	r.t.Helper()
	ctx := r.t.Context()
	log := slog.New(slog.NewTextHandler(r, nil))
	var err error
	if r.engine, err = kafka.Open(ctx, r.cfg, slog.New(slog.DiscardHandler), kafka.Own); err != nil {
		r.t.Fatal(err)
	}
	if err := r.engine.EnsureTopics(ctx, r.cfg.ControlSpec(), r.cfg.DecisionsSpec(), r.cfg.SourceSpec(dataset)); err != nil {
		r.t.Fatal(err)
	}
	if r.client, err = r.engine.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		r.t.Fatal(err)
	}
	if r.adm, err = r.engine.Admin(); err != nil {
		r.t.Fatal(err)
	}
	if r.control, err = flow.OpenControl(ctx, r.engine, r.cfg.Topics(), log); err != nil {
		r.t.Fatal(err)
	}
	r.look()
	if r.opts.Path == "" {
		r.opts.Path = filepath.Join(r.t.TempDir(), "positions.db")
	}
	r.opts = Options{Path: r.opts.Path, Engine: r.engine, Topics: r.cfg.Topics(), Control: r.control, Hasher: r.ring, Log: log}
}

func (r *rig) look() {
	r.t.Helper()
	ids, err := kafka.TopicIDs(r.t.Context(), r.adm, r.source())
	if err != nil {
		r.t.Fatal(err)
	}
	r.topicID = broker.Digest(ids[r.source()])
}

func (r *rig) source() string { return r.cfg.Topics().Source(dataset) }

func (r *rig) down() {
	r.control.Close()
	r.adm.Close()
	r.client.Close()
	r.engine.Close()
}

// Write keeps what is logged.
func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(b)
}

func (r *rig) logged(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.said.String(), text)
}

// produce writes to the log.
func (r *rig) produce(records ...*kgo.Record) {
	r.t.Helper()
	if err := r.client.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// publish is what the provider does.
func (r *rig) publish(partition int32, events ...synthetic.Event) {
	r.t.Helper()
	var out []*kgo.Record
	for _, e := range events {
		out = append(out, &kgo.Record{Topic: r.source(), Partition: partition, Key: e.Key, Value: e.AppendStructured(nil),
			Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}})
		r.log[partition] = append(r.log[partition], e)
	}
	r.produce(out...)
}

// decide decides on the next records of a partition, each rejected whose index among
// them is named.
func (r *rig) decide(partition int32, records int, rejected ...int) {
	r.t.Helper()
	r.produce(r.decision(partition, records, rejected...))
}

func (r *rig) decision(partition int32, records int, rejected ...int) *kgo.Record {
	r.t.Helper()
	first := r.next[partition]
	r.next[partition] += int64(records)
	r.now = r.now.Add(time.Millisecond)
	var b deliver.Batch
	b.Reset(deliver.BatchHeader{Kind: "stream", Dataset: dataset, TopicID: r.topicID, Partition: partition, First: first,
		Time: r.now, Revision: r.rev, Policy: "sha256:0", Period: "2026-11", Limits: deliver.Limits{RecordBytes: 1, Depth: 1, Window: 1, WindowMillis: 1, DeliveryBytes: 1}})
	want := index.Batch{Dataset: dataset, TopicID: r.topicID, Partition: partition, Next: r.next[partition], At: r.now}
	for i := range records {
		at := first + int64(i)
		if contains(rejected, i) {
			b.Reject(at)
			continue
		}
		e := r.log[partition][at]
		rec := index.Record{Offset: at, Subject: r.ring.Subject(broker.Person, string(e.Key)), Event: r.ring.Event(dataset, e.Source, e.ID)}
		switch {
		case e.Supersedes != "":
			rec.Kind, rec.Of = broker.Correction, r.ring.Event(dataset, e.Source, e.Supersedes)
		case e.Retracts != "":
			rec.Kind, rec.Of = broker.Retraction, r.ring.Event(dataset, e.Source, e.Retracts)
		}
		want.Records = append(want.Records, rec)
		b.Add(deliver.Row{Offset: at, Event: rec.Event}, nil)
	}
	r.held += len(want.Records)
	if err := r.wanted.Apply(r.t.Context(), []index.Batch{want}); err != nil {
		r.t.Fatal(err)
	}
	out := b.Finish(r.next[partition] - 1)
	if len(out) != 1 {
		r.t.Fatalf("%d records of decisions", len(out))
	}
	return &kgo.Record{Topic: r.cfg.Topics().Decisions(), Partition: partition, Value: out[0]}
}

// gift is a single decision about the first record of partition 0.
func (r *rig) gift(kind broker.DecisionKind, event broker.EventHash, permit bool) []byte {
	r.t.Helper()
	h := deliver.SinglesHeader{Kind: kind, Time: r.now, Revision: r.rev, Policy: "sha256:0", Period: "2026-11"}
	row := deliver.Single{Position: broker.Position{Dataset: dataset, TopicID: r.topicID}, Event: event}
	d := deliver.Decision{Terms: &broker.Terms{}, Outcome: &broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}}
	d.Terms.Subscription.ID, d.Terms.Agreement.ID = "s", "a"
	g := index.Gift{Dataset: dataset, TopicID: r.topicID, Event: event, Subscription: "s", What: index.GivenBack}
	if permit {
		d.Outcome, d.Fields, g.What = &broker.Outcome{Permit: true}, []broker.Pointer{"/a"}, index.GivenData
	}
	if kind == broker.LookupDecision {
		row.Request = broker.Digest{9}
	}
	var x deliver.Singles
	x.Reset(h)
	x.Add(row, []deliver.Decision{d})
	if err := r.wanted.Apply(r.t.Context(), []index.Batch{{Gifts: []index.Gift{g}}}); err != nil {
		r.t.Fatal(err)
	}
	return x.Finish()[0]
}

func contains(list []int, n int) bool {
	for _, have := range list {
		if have == n {
			return true
		}
	}
	return false
}

// start follows until stop is called.
func (r *rig) start(o Options) (f *Follower, stop func()) {
	r.t.Helper()
	f = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	r.t.Cleanup(stop)
	return f, stop
}

func (r *rig) caughtUp(f *Follower) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := f.Latest(ctx); err != nil {
		r.t.Fatalf("%v\n%s", err, r.said.String())
	}
}

func digest(t *testing.T, x *index.Index) (string, int64) {
	t.Helper()
	d, n, err := x.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d, n
}

// same holds what a follower has filled to what was wanted.
func (r *rig) same(f *Follower) {
	r.t.Helper()
	r.caughtUp(f)
	f.using.RLock()
	defer f.using.RUnlock()
	got, n := digest(r.t, f.index)
	want, m := digest(r.t, r.wanted)
	if got != want {
		r.t.Fatalf("%d records %s; want %d records %s\n%v\n%v\n%s", n, got, m, want, f.index.Sources(), r.wanted.Sources(), r.said.String())
	}
}
