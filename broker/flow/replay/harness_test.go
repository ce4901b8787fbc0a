package replay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/policy"
	"datafordeler/providers/synthetic"
)

// history is a broker's past on the embedded engine, made by the broker itself.
type history struct {
	t       testing.TB // of the subtest under way
	ctx     context.Context
	kafka   kafka.Config
	limits  intake.Limits
	topics  kafka.Topics
	engine  *kafka.Engine
	control *flow.Control
	ring    *keys.Ring
	people  *synthetic.Generator
	client  *kgo.Client
	adm     *kadm.Client
	broker  *flow.Broker
	log     *slog.Logger

	compiled map[*broker.Dataset]*intake.Dataset // what longWay has met

	mu  sync.Mutex
	now time.Time
}

// newHistory is without backfill, which comes when it comes; edit may have it.
func newHistory(t testing.TB, limits intake.Limits, edit ...func(*history, *flow.Options)) *history {
	h := &history{t: t, ctx: context.Background(), kafka: kafka.Defaults(), limits: limits, ring: keys.NewTest(1),
		people: synthetic.New(synthetic.Config{People: 500, Seed: 7}), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		log: slog.New(slog.DiscardHandler)}
	h.kafka.Data = t.TempDir()
	h.kafka.DeliveryBuckets = 2
	h.topics = h.kafka.Topics()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.engine, err = kafka.Open(h.ctx, h.kafka, h.log, kafka.Own)
	must(err)
	t.Cleanup(func() { h.engine.Close() })
	must(h.engine.EnsureTopics(h.ctx, h.kafka.ControlSpec(), h.kafka.DecisionsSpec(), h.kafka.DeliveriesSpec()))
	h.control, err = flow.OpenControl(h.ctx, h.engine, h.topics, h.log)
	must(err)
	t.Cleanup(h.control.Close)
	h.client, err = h.engine.NewClient()
	must(err)
	t.Cleanup(h.client.Close)
	h.adm = kadm.NewClient(h.client)
	h.activate(policy.Embedded())
	h.apply("../testdata/registry.yaml")
	cfg := flow.Defaults()
	cfg.Backfill.RecordsPerSecond = 0
	o := flow.Options{Config: cfg, Kafka: h.kafka, Intake: h.limits, Engine: h.engine, Hasher: h.ring,
		Control: h.control, Log: h.log, Now: h.clock}
	for _, e := range edit {
		e(h, &o)
	}
	h.broker = flow.New(o)
	ctx, cancel := context.WithCancel(h.ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.broker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the broker ended with: %v", err)
		}
	})
	return h
}

func (h *history) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *history) pass(d time.Duration) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
	return h.now
}

func (h *history) change(changes ...registry.Change) {
	h.t.Helper()
	if _, err := h.control.Append(h.ctx, func(st *registry.State) ([]registry.Event, error) {
		return st.Link(h.clock(), "test", changes...)
	}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) activate(b policy.Bundle) {
	h.t.Helper()
	h.change(registry.ActivatePolicy(registry.Policy{Digest: b.Digest(), Modules: b.Modules}))
}

func (h *history) apply(paths ...string) {
	h.t.Helper()
	docs, err := registry.Load(paths...)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err = h.control.Append(h.ctx, func(st *registry.State) ([]registry.Event, error) {
		p, err := registry.NewPlan(st, docs, "test", h.clock())
		if err != nil {
			return nil, err
		}
		return p.Events, nil
	}); err != nil {
		h.t.Fatal(err)
	}
	var specs []kafka.TopicSpec
	h.control.View(func(st *registry.State) { specs = flow.RegistryTopics(h.kafka, st) })
	if err := h.engine.EnsureTopics(h.ctx, specs...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) subject(person int) broker.SubjectKey {
	return h.ring.Subject(broker.Person, h.people.Person(person).ID)
}

// record is one of the small dataset.
func (h *history) record(id string, person, amount int, municipality string, protected bool) *kgo.Record {
	r := &kgo.Record{Topic: h.topics.Source("d"), Key: []byte(h.people.Person(person).ID),
		Value: fmt.Appendf(nil, `{"person":%q,"amount":%d,"address":{"street":"Storgata %d"}}`, h.people.Person(person).ID, amount, person)}
	for _, kv := range [][2]string{{"ce_specversion", "1.0"}, {"ce_id", id}, {"ce_source", "/s"}, {"ce_type", "t"},
		{"content-type", "application/json"}, {"ce_municipality", municipality}, {"ce_protected", fmt.Sprint(protected)}} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: kv[0], Value: []byte(kv[1])})
	}
	return r
}

// income is one of the demonstration's.
func (h *history) income(e synthetic.Event) *kgo.Record {
	return &kgo.Record{Topic: h.topics.Source("inntekt"), Key: e.Key, Value: e.AppendStructured(nil),
		Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}}
}

// publish writes records and waits until they are decided.
func (h *history) publish(rs ...*kgo.Record) {
	h.t.Helper()
	if err := h.client.ProduceSync(h.ctx, rs...).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
	defer cancel()
	if err := h.broker.Drain(ctx); err != nil {
		h.t.Fatal(err)
	}
}

// life is a history with everything in it that an answer may depend on: two
// policies, consents and cases that come and go, a ceiling, a suspension, a new
// version of a package, repeats, rejections, and records in nobody's scope.
func (h *history) life() {
	h.t.Helper()
	n := 0
	some := func(count int) {
		var rs []*kgo.Record
		for range count {
			n++
			rs = append(rs, h.record(fmt.Sprintf("e%d", n), n%11, n%5, []string{"0301", "4601", "5001"}[n%3], n%7 == 0))
		}
		h.publish(rs...)
	}
	some(20)
	h.change(
		registry.GiveConsent(broker.Consent{ID: "c1", Subject: h.subject(1), Consumer: "310149942", Dataset: "d", Purpose: "loan", Valid: broker.Interval{From: h.clock().Add(-time.Hour), To: h.clock().Add(time.Hour)}}),
		registry.GiveConsent(broker.Consent{ID: "c7", Subject: h.subject(7), Consumer: "310149942", Dataset: "d", Purpose: "loan", Valid: broker.Interval{From: h.clock().Add(-time.Hour)}}),
		registry.OpenCase(broker.Case{ID: "k2", Subscription: "case", Subject: h.subject(2), Open: broker.Interval{From: h.clock().Add(-time.Hour)}}),
		registry.OpenCase(broker.Case{ID: "k3", Subscription: "case", Subject: h.subject(3), Open: broker.Interval{From: h.clock().Add(-time.Hour)}}))
	some(40)
	// Repeats, and one id with another content; what is no JSON; no attribute.
	h.publish(h.record("e5", 5, 0, "5001", false), h.record("e5", 5, 4, "5001", false),
		&kgo.Record{Topic: h.topics.Source("d"), Value: []byte("{")}, h.record("none", 1, 1, "", false))
	h.pass(30 * time.Minute)
	h.change(registry.WithdrawConsent("c7", h.clock()), registry.EndCase("case", "k2", h.clock()))
	some(30)
	h.pass(time.Hour) // c1 has ended
	some(15)
	second := policy.Embedded()
	for path, text := range second.Modules {
		second.Modules[path] = text + "\n# second\n"
	}
	h.activate(second)
	some(15)
	h.applyText(strings.NewReplacer("status: active", "status: suspended").Replace(agreementText("case", "case-work", "case-statute", "")))
	some(15)
	h.apply("../../../deploy/demo")
	var rs []*kgo.Record
	for i := range 300 {
		rs = append(rs, h.income(h.people.Income(nil, i)))
		if i%10 == 0 {
			rs = append(rs, h.income(h.people.Repeat(i/2)), h.income(h.people.SameIDOtherContent(i)), h.income(h.people.Invalid(synthetic.Faults()[i/10%len(synthetic.Faults())], i)))
		}
		if i%40 == 39 {
			rs = append(rs, h.income(h.people.Correction(i)), h.income(h.people.Retraction(i-1)))
			h.publish(rs...)
			rs = nil
			h.pass(time.Minute)
		}
	}
	h.publish(rs...)
	h.pass(time.Minute)
	some(10)
}

func (h *history) applyText(text string) {
	h.t.Helper()
	h.apply(write(h.t, text))
}

// agreementText declares one of the small registry's agreements of the
// municipality; more is put at its end.
func agreementText(id, purpose, basis, more string) string {
	return fmt.Sprintf(`kind: agreement
id: %s
provider: "974761076"
consumer: "958935420"
dataset: d
package: {id: small, version: 1}
purpose: %s
bases: [%s]
responsibility: {providerController: "974761076", consumerController: "958935420"}
cost: {model: free}
corrections: deliver
status: active
valid: {from: 2020-01-01}
%s`, id, purpose, basis, more)
}

func (h *history) options() Options {
	return Options{Engine: h.engine, Topics: h.topics, Hasher: h.ring, Log: h.log}
}

func (h *history) replay(o Options) *Report {
	h.t.Helper()
	r, err := Run(h.ctx, o)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// decisions counts what stands in the log.
func (h *history) decisions() (n int64) {
	h.t.Helper()
	if err := flow.Decisions(h.ctx, h.engine, h.topics, func(*deliver.BatchHeader, *broker.Decision) error { n++; return nil }); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// same wants a report without a fault on everything in the log.
func (h *history) same(r *Report) {
	h.t.Helper()
	if r.Faults != 0 || len(r.Unchecked) != 0 {
		h.t.Fatalf("faults %d: %+v\nunchecked: %+v", r.Faults, r.FaultSamples, r.Unchecked)
	}
	if want := h.decisions(); r.Decisions != want || want == 0 {
		h.t.Fatalf("%d decisions were computed again, of %d", r.Decisions, want)
	}
}
