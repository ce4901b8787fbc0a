package readmodel

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/store/pgtest"
	"datafordeler/deploy/demo"
)

// rig is an engine with the demonstration's registry, and a writer of decisions
// under it.
type rig struct {
	t      *testing.T
	cfg    kafka.Config
	engine *kafka.Engine
	client *kgo.Client
	terms  []*broker.Terms
	rev    broker.Revision
	next   map[int32]int64
	single int64 // single decisions written
	now    time.Time
	opts   Options
	fresh  func() string // the name of a database that is not there yet

	mu   sync.Mutex
	said strings.Builder
}

// onBoth runs a test on both databases; newRig makes the rigs that it needs.
func onBoth(t *testing.T, test func(t *testing.T, newRig func() *rig)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, func() *rig { return newRig(t, onSQLite(t)) })
	})
	t.Run("postgres", func(t *testing.T) {
		test(t, func() *rig { return newRig(t, pgtest.Shared(t).DSN) })
	})
}

func onSQLite(t *testing.T) func() string {
	return func() string { return "sqlite:" + filepath.Join(t.TempDir(), "read.db") }
}

func newRig(t *testing.T, fresh func() string) *rig {
	t.Helper()
	r := &rig{t: t, cfg: kafka.Defaults(), next: map[int32]int64{}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), fresh: fresh}
	dir := t.TempDir()
	r.cfg.Data, r.cfg.SourcePartitions = filepath.Join(dir, "data"), 3
	log := slog.New(slog.NewTextHandler(r, nil))
	var err error
	if r.engine, err = kafka.Open(t.Context(), r.cfg, slog.New(slog.DiscardHandler), kafka.Own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.engine.Close() })
	if err := r.engine.EnsureTopics(t.Context(), r.cfg.ControlSpec(), r.cfg.DecisionsSpec()); err != nil {
		t.Fatal(err)
	}
	if r.client, err = r.engine.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.Close)
	control, err := flow.OpenControl(t.Context(), r.engine, r.cfg.Topics(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(control.Close)
	declared := filepath.Join(dir, "registry")
	if err := os.CopyFS(declared, demo.Files); err != nil {
		t.Fatal(err)
	}
	docs, err := registry.Load(declared)
	if err != nil {
		t.Fatal(err)
	}
	r.rev, err = control.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
		plan, err := registry.NewPlan(st, docs, "test", r.now)
		if err != nil {
			return nil, err
		}
		return plan.Events, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	control.View(func(st *registry.State) { r.terms = st.AllTerms() })
	r.opts = Options{DSN: fresh(), Engine: r.engine, Topics: r.cfg.Topics(), Control: control, Log: log}
	return r
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

// encode makes a record of decisions over the next offsets of a partition.
func (r *rig) encode(partition int32, records int, rev broker.Revision) []byte {
	r.t.Helper()
	first := r.next[partition]
	r.next[partition] += int64(records)
	r.now = r.now.Add(time.Millisecond)
	var b deliver.Batch
	b.Reset(deliver.BatchHeader{Kind: "stream", Dataset: r.terms[0].Dataset.ID, TopicID: broker.Digest{7}, Partition: partition, First: first,
		Time: r.now, Revision: rev, Policy: "sha256:0", Period: "2026-11", Limits: deliver.Limits{RecordBytes: 1, Depth: 1, Window: 1, WindowMillis: 1, DeliveryBytes: 1}})
	permit := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"h1"}}
	deny := &broker.Outcome{Reasons: []broker.Reason{"no_case"}}
	for i := range int64(records) {
		at := first + i
		switch at % 5 {
		case 3:
			b.Reject(at)
		case 4:
			b.Add(deliver.Row{Offset: at}, nil)
		default:
			b.Add(deliver.Row{Offset: at, Event: broker.EventHash{byte(at), byte(at >> 8), byte(partition), 1}, Subject: broker.Pseudonym{byte(at), 2}}, []deliver.Decision{
				{Terms: r.terms[0], Outcome: permit, Fields: []broker.Pointer{"/a", "/b"}}, {Terms: r.terms[1], Outcome: deny}})
		}
	}
	out := b.Finish(first + int64(records) - 1)
	if len(out) != 1 {
		r.t.Fatalf("%d records of decisions", len(out))
	}
	return out[0]
}

func (r *rig) write(partition int32, value []byte) {
	r.t.Helper()
	rec := &kgo.Record{Topic: r.cfg.Topics().Decisions(), Partition: partition, Value: value}
	if err := r.client.ProduceSync(r.t.Context(), rec).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) decide(partition int32, records int) {
	r.t.Helper()
	r.write(partition, r.encode(partition, records, r.rev))
}

// transaction writes records of decisions as the broker does: in a transaction,
// which ends one way or the other and leaves a marker.
func (r *rig) transaction(commit kgo.TransactionEndTry, partitions ...int32) {
	r.t.Helper()
	client, err := r.engine.NewClient(kgo.TransactionalID("test"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		r.t.Fatal(err)
	}
	for _, p := range partitions {
		before := r.next[p]
		rec := &kgo.Record{Topic: r.cfg.Topics().Decisions(), Partition: p, Value: r.encode(p, 7, r.rev)}
		if err := client.ProduceSync(r.t.Context(), rec).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
		if !commit {
			r.next[p] = before
		}
	}
	if err := client.EndTransaction(r.t.Context(), commit); err != nil {
		r.t.Fatal(err)
	}
}

// another is a read model beside the first.
func (r *rig) another() Options {
	o := r.opts
	o.DSN = r.fresh()
	return o
}

func (r *rig) rebuild(o Options) Content {
	r.t.Helper()
	c, err := Rebuild(r.t.Context(), o, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// decisionsOf is how many decisions so many records have.
func decisionsOf(records int64) (n int64) {
	for at := range records {
		if at%5 < 3 {
			n += 2
		}
	}
	return n
}

// withLog is the same read model with another log.
func (o Options) withLog(r *rig) Options {
	other := r.opts
	other.DSN = o.DSN
	return other
}
