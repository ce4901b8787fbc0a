package evidence

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/mod/sumdb/note"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger"
	"datafordeler/broker/ledger/witness"
	"datafordeler/broker/registry"
)

// rig is an engine with the topics that evidence rests on, and who writes to
// them: decisions as the broker encodes them, and control events.
type rig struct {
	t      *testing.T
	cfg    kafka.Config
	engine *kafka.Engine
	topics kafka.Topics
	client *kgo.Client
	key    *Key
	policy *ledger.Policy
	log    *slog.Logger

	witnesses []Witness
	need      int

	mu    sync.Mutex
	state *registry.State
	next  map[int32]int64 // of the source's partitions
	now   time.Time
	said  strings.Builder // what was logged
}

const origin = "log.example/test"

func newRig(t *testing.T) *rig {
	t.Helper()
	cfg := kafka.Defaults()
	cfg.Data, cfg.SourcePartitions = filepath.Join(t.TempDir(), "data"), 3
	return rigOn(t, cfg)
}

func rigOn(t *testing.T, cfg kafka.Config) *rig {
	t.Helper()
	r := &rig{t: t, cfg: cfg, state: registry.New(), next: map[int32]int64{}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	r.topics = r.cfg.Topics()
	r.log = slog.New(slog.NewTextHandler(r, nil))
	var err error
	if r.engine, err = kafka.Open(t.Context(), r.cfg, r.log, kafka.Own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.engine.Close() })
	if err := r.engine.EnsureTopics(t.Context(), r.cfg.ControlSpec(), r.cfg.DecisionsSpec(), r.cfg.LedgerSpec(), r.cfg.CheckpointsSpec(), r.cfg.SourceSpec("d")); err != nil {
		t.Fatal(err)
	}
	if r.client, err = r.engine.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.Close)
	r.useKey(filepath.Join(t.TempDir(), "ledger.key"))
	return r
}

func (r *rig) useKey(path string) {
	r.t.Helper()
	key, _, err := OpenKey(path, origin)
	if err != nil {
		r.t.Fatal(err)
	}
	log, err := note.NewVerifier(key.Public())
	if err != nil {
		r.t.Fatal(err)
	}
	r.key, r.policy = key, &ledger.Policy{Origin: origin, Log: log}
}

// Write keeps what is logged, and shows it where the test fails.
func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.Write(b)
	if r.t.Context().Err() == nil {
		r.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func (r *rig) logged(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.said.String(), text)
}

func (r *rig) produce(topic string, partition int32, value []byte) int64 {
	r.t.Helper()
	rec := &kgo.Record{Topic: topic, Partition: partition, Value: value}
	if err := r.client.ProduceSync(r.t.Context(), rec).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
	return rec.Offset
}

// event writes a control event that is accepted.
func (r *rig) event() {
	r.t.Helper()
	r.mu.Lock()
	put, err := registry.Put(broker.Organisation{Number: "964338531", Name: fmt.Sprintf("Name %d", r.state.Revision())})
	if err != nil {
		r.t.Fatal(err)
	}
	events, err := r.state.Link(r.now, "test", put)
	if err == nil {
		_, err = r.state.Fold(events[0])
	}
	r.mu.Unlock()
	if err != nil {
		r.t.Fatal(err)
	}
	value, err := registry.Encode(events[0])
	if err != nil {
		r.t.Fatal(err)
	}
	r.produce(r.topics.Control(), 0, value)
}

// encode makes a record of decisions over the next offsets of a partition, without
// writing it.
func (r *rig) encode(partition int32, first int64, records int, rev broker.Revision) []byte {
	r.t.Helper()
	var b deliver.Batch
	b.Reset(deliver.BatchHeader{Kind: "stream", Dataset: "d", TopicID: broker.Digest{7}, Partition: partition, First: first,
		Time: r.now, Revision: rev, Policy: "sha256:0", Period: "2026-11", Limits: deliver.Limits{RecordBytes: 1, Depth: 1, Window: 1, WindowMillis: 1, DeliveryBytes: 1}})
	permit := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"h1"}}
	deny := &broker.Outcome{Reasons: []broker.Reason{"no_case"}}
	var terms [2]broker.Terms
	for i := range terms {
		terms[i].Subscription.ID = broker.SubscriptionID(fmt.Sprintf("s%d", i))
		terms[i].Agreement.ID = broker.AgreementID(fmt.Sprintf("a%d", i))
		terms[i].Agreement.Package = broker.PackageRef{ID: "p", Version: 1}
	}
	for i := range int64(records) {
		at := first + i
		switch at % 5 {
		case 3:
			b.Reject(at)
		case 4:
			b.Add(deliver.Row{Offset: at}, nil)
		default:
			b.Add(deliver.Row{Offset: at, Event: broker.EventHash{byte(at), byte(partition), 1}, Subject: broker.Pseudonym{byte(at), 2}}, []deliver.Decision{
				{Terms: &terms[0], Outcome: permit, Fields: []broker.Pointer{"/a", "/b"}}, {Terms: &terms[1], Outcome: deny}})
		}
	}
	out := b.Finish(first + int64(records) - 1)
	if len(out) != 1 {
		r.t.Fatalf("%d records of decisions", len(out))
	}
	return out[0]
}

// decide writes a record of decisions over the next offsets of a partition.
func (r *rig) decide(partition int32, records int) int64 {
	r.t.Helper()
	value := r.encode(partition, r.next[partition], records, r.revision())
	r.next[partition] += int64(records)
	return r.produce(r.topics.Decisions(), partition, value)
}

func (r *rig) revision() broker.Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Revision()
}

func (r *rig) open(stopAfter time.Duration) *Ledger {
	r.t.Helper()
	l, err := Open(r.t.Context(), r.engine, r.topics, r.policy, stopAfter, r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(l.Close)
	return l
}

// instance is one that follows the ledger and stands by to write it.
type instance struct {
	ledger *Ledger
	stop   func()
}

func (r *rig) start() *instance {
	r.t.Helper()
	l := r.open(time.Minute)
	cfg := Defaults()
	cfg.Origin, cfg.Every = origin, 20*time.Millisecond
	cfg.Witnesses, cfg.Need = r.witnesses, r.need
	s, err := NewSequencer(SequencerOptions{Config: cfg, Group: "test", Engine: r.engine, Topics: r.topics, Ledger: l, Key: r.key, Judge: r.judge(),
		Timeouts: Timeouts{Session: 6 * time.Second, Transaction: 10 * time.Second}, Log: r.log, Metrics: NewMetrics(l)})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			r.t.Errorf("sequencer: %v", err)
		}
	}()
	i := &instance{l, sync.OnceFunc(func() { cancel(); <-ended })}
	r.t.Cleanup(i.stop)
	return i
}

// covered waits until a head covers a record of decisions.
func (r *rig) covered(l *Ledger, partition int32, offset int64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := l.Covered(ctx, partition, offset); err != nil {
		r.t.Fatalf("decisions at %d/%d: %v", partition, offset, err)
	}
}

// verify reads everything back as an auditor does.
func (r *rig) verify() (*ledger.Report, error) {
	r.t.Helper()
	src, err := OpenSource(r.t.Context(), r.engine, r.topics)
	if err != nil {
		r.t.Fatal(err)
	}
	defer src.Close()
	return (&ledger.Verifier{Policy: r.policy}).Run(r.t.Context(), src)
}

// useWitnesses makes witnesses of this rig's ledger, of which need must cosign.
// Each is away while its switch says so.
func (r *rig) useWitnesses(n, need int) (away []*atomic.Bool) {
	r.t.Helper()
	for range n {
		secret, public, err := ledger.GenerateKey(fmt.Sprintf("witness%d.example", len(r.witnesses)), ledger.WitnessKey)
		if err != nil {
			r.t.Fatal(err)
		}
		path := filepath.Join(r.t.TempDir(), "state")
		if err := witness.CreateFile(path, public); err != nil {
			r.t.Fatal(err)
		}
		store, err := witness.OpenFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { store.Close() })
		w, err := witness.New(witness.Config{Key: secret, Store: store, Logs: []witness.Log{{Origin: origin, Keys: []note.Verifier{r.policy.Log}}}})
		if err != nil {
			r.t.Fatal(err)
		}
		handler, gone := w.Handler(), new(atomic.Bool)
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			if gone.Load() {
				http.Error(rw, "away", http.StatusServiceUnavailable)
				return
			}
			handler.ServeHTTP(rw, req)
		}))
		r.t.Cleanup(server.Close)
		away = append(away, gone)
		r.witnesses = append(r.witnesses, Witness{Key: public, URL: server.URL})
	}
	r.trust(need)
	return away
}

// trust makes the policy of the rig's witnesses.
func (r *rig) trust(need int) {
	r.t.Helper()
	r.need = need
	var err error
	if r.policy, err = Trust(Config{Origin: origin, Witnesses: r.witnesses, Need: need}, r.key.Public()); err != nil {
		r.t.Fatal(err)
	}
}

// says waits until something was logged.
func (r *rig) says(text string) {
	r.t.Helper()
	for !r.logged(text) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-r.t.Context().Done():
			r.t.Fatalf("nobody said %q", text)
		}
	}
}

// judge is the registry as an instance folds it.
func (r *rig) judge() Judge {
	r.t.Helper()
	control, err := flow.OpenControl(context.Background(), r.engine, r.topics, r.log) // not the test's context: its readers end before
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(control.Close)
	return control
}
