package flow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// ready is a harness with the scenarios' registry and an active policy.
func ready(t *testing.T) *scenario {
	t.Helper()
	s := newScenario(t)
	if _, err := s.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	s.activatePolicy()
	return s
}

// expectStop runs a broker that must end by itself, with an error that tells.
func (h *harness) expectStop(words ...string) {
	h.t.Helper()
	h.start()
	select {
	case err := <-h.ended:
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				h.t.Errorf("ended with %v; want %q in it", err, w)
			}
		}
	case <-time.After(time.Minute):
		h.t.Fatal("the broker went on")
	}
	h.broker = nil
}

// A topic that was deleted and made again holds other records under old offsets.
func TestRecreatedTopicStops(t *testing.T) {
	t.Parallel()
	s := ready(t)
	s.start()
	s.publishLine("id=e1 person=p1")
	s.drain(s.ctx)
	s.stop()
	adm := kadm.NewClient(s.client)
	if _, err := adm.DeleteTopic(s.ctx, s.topics.Source("d")); err != nil {
		t.Fatal(err)
	}
	spec := s.kafka.SourceSpec("d")
	spec.Partitions = 2
	if err := s.engine.EnsureTopics(s.ctx, spec); err != nil {
		t.Fatal(err)
	}
	// Deleting a topic also deletes the group's offsets for it on some
	// clusters; put back what one that keeps them would hold. A new client,
	// since the old one remembers the old topic.
	fresh, err := s.engine.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: s.topics.Source("d"), Partition: 0, At: 0,
		Metadata: metadata{revision: 1, topic: broker.Digest{1}, decisions: -1}.String(), LeaderEpoch: -1})
	if err := fresh.CommitAllOffsets(s.ctx, s.cfg.Group, offsets); err != nil {
		t.Fatal(err)
	}
	s.expectStop("deleted and made again")
}

// Records that retention took before they were decided are not skipped in silence.
func TestLostRecordsStop(t *testing.T) {
	t.Parallel()
	s := ready(t)
	s.start()
	s.publishLine("id=e1 person=p1")
	s.drain(s.ctx)
	s.stop()
	for i := range 5 {
		s.publishLine(fmt.Sprintf("id=f%d person=p1", i))
	}
	adm := kadm.NewClient(s.client)
	ends, err := adm.ListEndOffsets(s.ctx, s.topics.Source("d"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteRecords(s.ctx, ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	s.expectStop("deleted by retention before they were decided", "Set the group's offset to")
}

// An instance that meets a control event which it does not know must not decide
// on half the rules.
func TestUnknownControlEventStops(t *testing.T) {
	t.Parallel()
	s := ready(t)
	s.produce(&kgo.Record{Topic: s.topics.Control(), Value: []byte(`{"v":99,"seq":1}`)})
	s.expectStop("control event at offset", "upgrade this instance")
}

func TestForeignMetadataStops(t *testing.T) {
	t.Parallel()
	s := ready(t)
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: s.topics.Source("d"), Partition: 0, At: 0, Metadata: "somebody else's", LeaderEpoch: -1})
	if err := kadm.NewClient(s.client).CommitAllOffsets(s.ctx, s.cfg.Group, offsets); err != nil {
		t.Fatal(err)
	}
	s.expectStop("offset metadata", "used by something else")
}

// A policy whose digest this version cannot vouch for is not evaluated.
func TestPolicyOfAnotherEvaluatorStops(t *testing.T) {
	t.Parallel()
	s := ready(t)
	var active *registry.Policy
	s.control.View(func(st *registry.State) { active = st.Policy() })
	s.change(registry.ActivatePolicy(registry.Policy{Digest: "sha256:" + strings.Repeat("0", 64), Modules: active.Modules}))
	s.publishLine("id=e1 person=p1")
	s.expectStop("digest", "activate the policy again")
}

// Without evidence nothing is delivered; with it again, nothing was lost.
func TestEvidenceHoldsDeliveries(t *testing.T) {
	t.Parallel()
	s := ready(t)
	e := &evidence{decided: map[int32]int64{}}
	e.missing.Store(true)
	s.evidence = e
	s.start()
	s.publishLine("id=e1 person=p1")
	for s.broker.Held() == "" {
		select {
		case <-s.broker.Stopped():
			t.Fatal("the broker stopped")
		case <-time.After(time.Millisecond):
		}
	}
	if !strings.Contains(s.broker.Held(), "no checkpoint for 60 s") {
		t.Errorf("held: %q", s.broker.Held())
	}
	if n := s.count(s.topics.Deliveries()) + s.count(s.topics.Decisions()); n != 0 {
		t.Fatalf("%d records were written while evidence was missing", n)
	}
	e.missing.Store(false)
	s.drain(s.ctx)
	s.stop()
	if len(e.decided) != 1 {
		t.Errorf("evidence was told of decisions in %d partitions, want 1", len(e.decided))
	}
	for partition, offset := range e.decided {
		span := kafka.Span{Topic: s.topics.Decisions(), Partition: partition, From: offset, To: offset + 1}
		if err := s.engine.Each(s.ctx, span, func(*kgo.Record) error { e.read++; return nil }); err != nil || e.read != 1 {
			t.Errorf("evidence was told of decisions at %d/%d, where %d stand: %v", partition, offset, e.read, err)
		}
	}
	if n := s.count(s.topics.Deliveries()); n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
	s.checkAll()
}

// evidence is an Evidence that a test holds back.
type evidence struct {
	missing atomic.Bool

	mu      sync.Mutex
	decided map[int32]int64 // partition of decisions → offset, as told last
	read    int
}

func (e *evidence) Late() error {
	if e.missing.Load() {
		return errors.New("no checkpoint for 60 s")
	}
	return nil
}

func (e *evidence) Decided(partition int32, offset int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.decided[partition] = offset
}

// A consent that ends between the decision and the commit carries no delivery:
// the transaction is aborted, and the record is decided again at the later time.
func TestValidityEndsBeforeCommit(t *testing.T) {
	t.Parallel()
	s := ready(t)
	now := s.clock()
	s.change(registry.GiveConsent(broker.Consent{ID: "short", Subject: s.ring.Subject(broker.Person, s.person("p2")),
		Consumer: "310149942", Dataset: "d", Purpose: "loan", Valid: broker.Interval{From: now.Add(-time.Hour), To: now.Add(10 * time.Second)}}))
	s.publishLine("id=e1 person=p2 municipality=4601")
	s.mu.Lock()
	s.step = 6 * time.Second // decided at +6 s, about to commit at +12 s
	s.mu.Unlock()
	s.start()
	s.drain(s.ctx)
	s.stop()
	if got := s.news(); got != "decision e1     loan  deny [consent_expired]\n" {
		t.Errorf("got %s", got)
	}
	s.checkAll()
}

// Whoever withdraws may have a clock that is ahead. What is recorded counts from
// when it is recorded.
func TestWithdrawalByAClockAhead(t *testing.T) {
	t.Parallel()
	s := ready(t)
	s.run([]string{"consent", "310149942", "loan", "p2"}, "")
	s.run([]string{"open", "case", "p1"}, "")
	s.start()
	at := s.clock().Add(20 * time.Second)
	if _, err := s.control.Append(s.ctx, func(st *registry.State) ([]registry.Event, error) {
		return st.Link(at, "elsewhere", registry.WithdrawConsent("consent-p2", at), registry.EndCase("case", "case-p1", at))
	}); err != nil {
		t.Fatal(err)
	}
	s.bind()
	s.publishLine("id=e1 person=p2 municipality=4601")
	s.publishLine("id=e2 person=p1 municipality=4601")
	s.drain(s.ctx)
	if got, want := s.news(), "decision e1     loan  deny [consent_withdrawn]\ndecision e2     case  deny [no_open_case]\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// Too far ahead to be borne: nothing is delivered, and it says why.
	at = s.clock().Add(time.Hour)
	if _, err := s.control.Append(s.ctx, func(st *registry.State) ([]registry.Event, error) {
		return st.Link(at, "elsewhere", registry.GiveConsent(broker.Consent{ID: "other", Subject: s.ring.Subject(broker.Person, s.person("p3")),
			Consumer: "310149942", Dataset: "d", Purpose: "loan"}))
	}); err != nil {
		t.Fatal(err)
	}
	s.publishLine("id=e3 person=p1")
	for !strings.Contains(s.broker.Held(), "set the clocks") {
		select {
		case <-s.broker.Stopped():
			t.Fatal("the broker stopped")
		case <-time.After(time.Millisecond):
		}
	}
	s.setClock(at) // it is mended
	s.drain(s.ctx)
	s.stop()
	s.checkAll()
}

// A record that is refused makes a small rejection, whatever it was: one that
// Kafka did not take would stop the stream for good.
func TestRejectionIsSmall(t *testing.T) {
	t.Parallel()
	s := ready(t)
	s.start()
	r := &kgo.Record{Topic: s.topics.Source("d"), Value: []byte("{")}
	for range 1800 {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_id", Value: []byte(strings.Repeat("i", 500))})
	}
	s.produce(r)
	s.publishLine("id=e1 person=p1")
	s.drain(s.ctx)
	s.stop()
	if n := s.count(s.topics.Rejected("d")); n != 1 {
		t.Errorf("%d rejections, want 1", n)
	}
	s.checkAll()
}

// What is too large to deliver is a denial with its name, not a stall.
func TestLargeDeliveryIsDenied(t *testing.T) {
	t.Parallel()
	s := ready(t)
	s.cfg.MaxDelivery = 1000
	s.start()
	s.publishLine(fmt.Sprintf(`id=e1 data={"person":%q,"amount":1,"address":{"street":"%s"}}`, s.person("p1"), strings.Repeat("a", 2000)))
	s.publishLine("id=e2 person=p2")
	s.drain(s.ctx)
	s.stop()
	got := s.news()
	for _, want := range []string{"e1     all   deny [delivery_too_large]", "e2     all   permit"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant %q", got, want)
		}
	}
	s.checkAll()
}

// Instances come and go over one group while records are published: each record
// is decided once. Both instances are in this process, with a fold each.
func TestInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	s := ready(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s.cfg.MaxRecords = 25
	controls := []*Control{s.control, s.openControl()}
	type instance struct {
		cancel context.CancelFunc
		ended  chan error
	}
	var running [2]*instance
	start := func(i int) {
		b := s.newBroker(controls[i], fmt.Sprint(i))
		s.broker = b // any of them can tell the lag
		ctx, cancel := context.WithCancel(context.Background())
		in := &instance{cancel, make(chan error, 1)}
		go func() { in.ended <- b.Run(ctx) }()
		running[i] = in
	}
	stop := func(i int) {
		running[i].cancel()
		if err := <-running[i].ended; err != nil {
			t.Errorf("instance %d ended with: %v", i, err)
		}
		running[i] = nil
	}
	published := 0
	for range 12 {
		i := rng.IntN(2)
		if running[i] == nil {
			start(i)
		} else {
			stop(i)
		}
		for range 40 {
			s.publishLine(fmt.Sprintf("id=e%d person=p%d", published, rng.IntN(9)))
			published++
		}
		if rng.IntN(3) == 0 {
			s.change(registry.OpenCase(broker.Case{ID: broker.CaseID(fmt.Sprintf("c%d", published)), Subscription: "case",
				Subject: s.ring.Subject(broker.Person, s.person(fmt.Sprintf("p%d", rng.IntN(9)))), Open: broker.Interval{From: s.clock().Add(-time.Hour)}}))
		}
	}
	if running[0] == nil {
		start(0)
	}
	s.drain(s.ctx)
	for i := range running {
		if running[i] != nil {
			stop(i)
		}
	}
	s.broker = nil
	s.checkAll()
	var records int64
	if err := each(context.Background(), s.engine, s.topics.Decisions(), func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			return nil // on records that the stream decides too
		}
		h, _, err := deliver.DecodeHeader(r.Value)
		records += h.Records
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if records != int64(published) {
		t.Errorf("%d records decided, %d published", records, published)
	}
}

// An offset that was set back, by whomever, makes nothing be decided twice.
func TestOffsetSetBack(t *testing.T) {
	t.Parallel()
	s := ready(t)
	s.start()
	for i := range 6 {
		s.publishLine(fmt.Sprintf("id=e%d person=p%d", i, i))
	}
	s.drain(s.ctx)
	s.stop()
	adm := kadm.NewClient(s.client)
	committed, err := adm.FetchOffsets(s.ctx, s.cfg.Group)
	if err != nil {
		t.Fatal(err)
	}
	back := kadm.Offsets{}
	committed.Each(func(o kadm.OffsetResponse) {
		o.At = 0 // the metadata stays
		back.Add(o.Offset)
	})
	if err := adm.CommitAllOffsets(s.ctx, s.cfg.Group, back); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.publishLine("id=e7 person=p7")
	s.drain(s.ctx)
	s.stop()
	s.checkAll() // it fails on a range that begins anew
}

// A client that the group has dropped commits in nobody's name, which Kafka
// takes from anyone when the group is empty.
func TestCommitInNobodysName(t *testing.T) {
	for _, c := range []struct {
		member     string
		generation int32
		ok         bool
	}{{"m", 3, true}, {"m", 0, true}, {"", 3, false}, {"m", -1, false}, {"", -1, false}} {
		if err := asMember(c.member, c.generation); (err == nil) != c.ok || err != nil && !transient(err) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func (h *harness) count(topic string) int {
	n := 0
	if err := each(context.Background(), h.engine, topic, func(*kgo.Record) error { n++; return nil }); err != nil {
		h.t.Fatal(err)
	}
	return n
}

func TestMetadata(t *testing.T) {
	m := metadata{revision: 1<<63 + 5, topic: broker.Digest{1, 255}, decisions: -1}
	got, err := parseMetadata(m.String())
	if err != nil || got != m {
		t.Errorf("%q → %+v, %v", m, got, err)
	}
	if n := len(m.String()); n > 200 {
		t.Errorf("%d bytes; the group coordinator takes 4,096 a partition", n)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(metadata{revision: 7, decisions: 12}.String())
	f.Add("v1 r=1 t= d=")
	f.Add("v2 r=1")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMetadata(text)
		if err != nil {
			return
		}
		if again, err := parseMetadata(m.String()); err != nil || again != m {
			t.Fatalf("%q → %+v → %+v, %v", text, m, again, err)
		}
	})
}

// Kafka that cannot be reached is one clear error, in bounded time.
func TestKafkaGone(t *testing.T) {
	t.Parallel()
	cfg := kafka.Defaults()
	cfg.Engine, cfg.Brokers, cfg.Listen = kafka.EngineKafka, []string{"127.0.0.1:1"}, ""
	e, err := kafka.Open(t.Context(), cfg, nil, kafka.Own)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := e.Ready(ctx); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v; want the address that did not answer", err)
	}
}
