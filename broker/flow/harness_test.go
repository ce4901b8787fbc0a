package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/policy"
	"datafordeler/providers/synthetic"
)

// harness is an embedded engine with a control fold, and a broker that can be
// started and stopped on it.
type harness struct {
	t       *testing.T
	ctx     context.Context
	cfg     Config
	kafka   kafka.Config
	limits  intake.Limits
	topics  kafka.Topics
	engine  *kafka.Engine
	control *Control
	ring    *keys.Ring
	people  *synthetic.Generator
	client  *kgo.Client
	log     *slog.Logger
	// evidence is what the next broker is made with.
	evidence  Evidence
	positions Positions
	names     map[broker.EventHash]string

	mu   sync.Mutex
	now  time.Time
	step time.Duration // that each reading moves the clock

	broker *Broker
	cancel context.CancelFunc
	ended  chan error
}

// newHarness is on an engine of its own, or on what edit makes of its configuration.
func newHarness(t *testing.T, edit ...func(*kafka.Config)) *harness {
	h := &harness{
		t: t, ctx: t.Context(), cfg: Defaults(), kafka: kafka.Defaults(), limits: intake.Defaults(),
		ring: keys.NewTest(1), people: synthetic.New(synthetic.Config{People: 1000, Seed: 1}),
		names: map[broker.EventHash]string{}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	h.kafka.Data = t.TempDir()
	h.kafka.DeliveryBuckets = 2
	for _, e := range edit {
		e(&h.kafka)
	}
	h.topics = h.kafka.Topics()
	var err error
	if h.engine, err = kafka.Open(h.ctx, h.kafka, h.log, kafka.Own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.engine.Close() })
	if err := h.engine.EnsureTopics(h.ctx, h.kafka.ControlSpec()); err != nil {
		t.Fatal(err)
	}
	h.control = h.openControl()
	if h.client, err = h.engine.NewClient(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.client.Close)
	return h
}

// testWriter logs to the test, and holds its tongue when the test has ended.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func (h *harness) openControl() *Control {
	// Not the test's context: the fold must outlive it until Cleanup.
	c, err := OpenControl(context.Background(), h.engine, h.topics, h.log)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	return c
}

func (h *harness) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(h.step)
	return h.now
}

func (h *harness) setClock(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = t
}

// newBroker is an instance that is not running.
func (h *harness) newBroker(control *Control, slot string) *Broker {
	cfg := h.cfg
	cfg.Slot = slot
	return New(Options{Config: cfg, Kafka: h.kafka, Intake: h.limits, Engine: h.engine, Hasher: h.ring, Control: control, Log: h.log, Now: h.clock, Evidence: h.evidence, Positions: h.positions})
}

func (h *harness) start() {
	h.broker = h.newBroker(h.control, "0")
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.ended = cancel, make(chan error, 1)
	b, ended := h.broker, h.ended
	go func() { ended <- b.Run(ctx) }()
	h.t.Cleanup(cancel)
}

// stop ends the broker cleanly.
func (h *harness) stop() {
	if h.broker == nil {
		return
	}
	h.cancel()
	if err := <-h.ended; err != nil {
		h.t.Errorf("the broker ended with: %v", err)
	}
	h.broker = nil
}

func (h *harness) drain(ctx context.Context) {
	b := h.broker
	if b == nil {
		h.t.Fatal("decide: the broker is not running")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	go func() {
		select {
		case <-b.Stopped():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := b.Drain(ctx); err != nil {
		h.t.Fatalf("draining: %v (held: %q)", err, b.Held())
	}
}

func (h *harness) change(changes ...registry.Change) broker.Revision {
	rev, err := h.control.Append(h.ctx, func(st *registry.State) ([]registry.Event, error) {
		return st.Link(h.clock(), "test", changes...)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return rev
}

func (h *harness) apply(paths ...string) (*registry.Plan, error) {
	docs, err := registry.Load(paths...)
	if err != nil {
		return nil, err
	}
	var plan *registry.Plan
	_, err = h.control.Append(h.ctx, func(st *registry.State) ([]registry.Event, error) {
		var err error
		if plan, err = registry.NewPlan(st, docs, "test", h.clock()); err != nil {
			return nil, err
		}
		return plan.Events, nil
	})
	if err != nil {
		return nil, err
	}
	var specs []kafka.TopicSpec
	h.control.View(func(st *registry.State) { specs = RegistryTopics(h.kafka, st) })
	specs = append(specs, h.kafka.DecisionsSpec(), h.kafka.DeliveriesSpec())
	if err := h.engine.EnsureTopics(h.ctx, specs...); err != nil {
		h.t.Fatal(err)
	}
	return plan, nil
}

func (h *harness) activatePolicy() {
	b := policy.Embedded()
	h.change(registry.ActivatePolicy(registry.Policy{Digest: b.Digest(), Modules: b.Modules}))
}

// bind waits until the present revision binds everywhere.
func (h *harness) bind() {
	ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
	defer cancel()
	if err := h.barrier().Await(ctx, h.control.Revision()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) barrier() *Barrier {
	adm, err := h.engine.Admin()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(adm.Close)
	return &Barrier{Adm: adm, Control: h.control, Topics: h.topics, Group: h.cfg.Group}
}

func (h *harness) produce(rs ...*kgo.Record) {
	if err := h.client.ProduceSync(h.ctx, rs...).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
}

// checkAll audits the whole log: ranges without gap or overlap, counts that
// balance, each permit with exactly one delivery and the other way round, no
// ceiling exceeded, no person's number where none may stand.
func (h *harness) checkAll() {
	h.t.Helper()
	type source struct {
		topic     broker.Digest
		partition int32
	}
	next := map[source]int64{}
	permits := map[broker.DeliveryID]int{}
	perAgreement := map[broker.AgreementID]int64{}
	seen := map[broker.DecisionID]bool{}
	given := map[string]bool{} // a repeat under another key has the same delivery id
	ctx := context.Background()
	err := each(ctx, h.engine, h.topics.Decisions(), func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			_, err := deliver.DecodeSingles(r.Value, func(d *broker.Decision) error {
				// What a door withholds is written by each instance that is asked for it.
				if seen[d.ID] && d.Kind != broker.DoorDecision {
					return fmt.Errorf("single decision %v stands twice", d.ID)
				}
				seen[d.ID] = true
				if !d.Outcome.Permit || d.Event.IsZero() {
					return nil
				}
				if d.Kind == broker.NoticeDecision {
					if len(d.Fields) > 0 || d.Shielded || d.RecordKind == broker.Original {
						return fmt.Errorf("a notice with data: %+v", d)
					}
					permits[d.Delivery]++
					return nil
				}
				perAgreement[d.Agreement]++
				if d.Kind != broker.BackfillDecision {
					return nil // answered, and not delivered to a mailbox
				}
				permits[d.Delivery]++
				if k := fmt.Sprint(d.Position, d.Subscription); given[k] {
					return fmt.Errorf("the delivery of offset %d to %s was permitted before", d.Position.Offset, d.Subscription)
				} else {
					given[k] = true
				}
				return nil
			})
			return errors.Join(err, h.noPerson(r))
		}
		var inScope int64
		last := int64(-1)
		head, err := deliver.Decode(r.Value, func(d *broker.Decision) error {
			if seen[d.ID] {
				return fmt.Errorf("decision %v stands twice", d.ID)
			}
			seen[d.ID] = true
			if d.Position.Offset != last {
				inScope++
				last = d.Position.Offset
			}
			if !d.Outcome.Permit && d.Outcome.Reasons[0] == broker.ReasonPolicyError {
				return fmt.Errorf("a decision of offset %d was denied for a policy error", d.Position.Offset)
			}
			if d.Outcome.Permit {
				permits[d.Delivery]++
				perAgreement[d.Agreement]++
				if k := fmt.Sprint(d.Position, d.Subscription); given[k] {
					return fmt.Errorf("the delivery of offset %d to %s was permitted before", d.Position.Offset, d.Subscription)
				} else {
					given[k] = true
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		s := source{head.TopicID, head.Partition}
		if head.First != next[s] {
			return fmt.Errorf("source partition %d: a range begins at %d, want %d", s.partition, head.First, next[s])
		}
		next[s] = head.Last + 1
		if head.Records != head.Rejected+head.Repeated+head.OutOfScope+inScope {
			return fmt.Errorf("counts do not balance: %+v, %d in scope", head, inScope)
		}
		return h.noPerson(r)
	})
	if err != nil {
		h.t.Errorf("decisions: %v", err)
	}
	delivery := func(r *kgo.Record) error {
		id, err := broker.ParseDigest(headers(r)["ce_id"])
		if err != nil {
			return err
		}
		permits[id]--
		return nil
	}
	topics := []string{h.topics.Deliveries()}
	h.control.View(func(st *registry.State) {
		for _, m := range st.Mailboxes() {
			if m.Channel == broker.KafkaChannel {
				topics = append(topics, h.topics.Mailbox(string(m.ID)))
			}
		}
		for _, a := range st.Agreements() {
			if c := a.Cost.Ceiling; c > 0 && perAgreement[a.ID] > c {
				h.t.Errorf("agreement %s: %d deliveries over a ceiling of %d", a.ID, perAgreement[a.ID], c)
			}
		}
	})
	for _, topic := range topics {
		if err := each(ctx, h.engine, topic, delivery); err != nil {
			h.t.Errorf("%s: %v", topic, err)
		}
	}
	for id, n := range permits {
		if n != 0 {
			h.t.Errorf("delivery %v: permits less deliveries is %d, want 0", id, n)
		}
	}
	if err := each(ctx, h.engine, h.topics.Control(), h.noPerson); err != nil {
		h.t.Errorf("control: %v", err)
	}
	h.replay()
}

// noPerson fails where one of the generated identity numbers stands in a record.
func (h *harness) noPerson(r *kgo.Record) error {
	for i := range 20 {
		if strings.Contains(string(r.Value), h.people.Person(i).ID) {
			return fmt.Errorf("an identity number stands in %s/%d at offset %d", r.Topic, r.Partition, r.Offset)
		}
	}
	return nil
}
