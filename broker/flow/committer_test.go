package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// lookups is a scenario whose subscriptions may be looked up under.
type lookups struct {
	*scenario
	text string
	c    *Committer
}

func newLookups(t *testing.T) *lookups {
	s := &lookups{scenario: newScenario(t)}
	text, err := os.ReadFile("testdata/registry.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.text = strings.ReplaceAll(string(text), "kind: subscription\n", "kind: subscription\nlookup: true\n")
	s.declare()
	s.activatePolicy()
	return s
}

func (s *lookups) declare(replace ...string) {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "registry.yaml")
	if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(s.text)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.apply(path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *lookups) do(lines ...string) {
	for _, l := range lines {
		s.run(strings.Fields(l), "")
	}
}

// begin runs a broker, with its committer.
func (s *lookups) begin() {
	s.start()
	s.c = s.broker.Committer()
	s.t.Cleanup(s.c.Close)
}

func (s *lookups) subject(name string) broker.SubjectKey {
	return s.ring.Subject(broker.Person, s.scenario.person(name))
}

// found are a person's records as the source has them, the newest first.
func (s *lookups) found(person string) []*Found {
	s.t.Helper()
	return s.foundBy(s.c, person)
}

// foundBy reads them for one instance's committer.
func (s *lookups) foundBy(c *Committer, person string) (all []*Found) {
	s.t.Helper()
	ids, err := s.engine.Admin()
	if err != nil {
		s.t.Fatal(err)
	}
	defer ids.Close()
	topic := s.topics.Source("d")
	known, err := kafka.TopicIDs(s.ctx, ids, topic)
	if err != nil {
		s.t.Fatal(err)
	}
	err = each(s.ctx, s.engine, topic, func(r *kgo.Record) error {
		f, err := c.Accept("d", &intake.Message{Position: broker.Position{Dataset: "d", TopicID: known[topic], Partition: r.Partition, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value})
		if err != nil {
			return err
		}
		if f.rec.Subject == s.subject(person) {
			all = append([]*Found{f}, all...)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// singles are all decisions of some kind in the log.
func (h *harness) singles(kind broker.DecisionKind) (all []broker.Decision) {
	h.t.Helper()
	err := each(context.Background(), h.engine, h.topics.Decisions(), func(r *kgo.Record) error {
		if !deliver.IsSingles(r.Value) {
			return nil
		}
		if err := h.noPerson(r); err != nil {
			return err
		}
		_, err := deliver.DecodeSingles(r.Value, func(d *broker.Decision) error {
			if d.Kind == kind {
				all = append(all, *d)
			}
			return nil
		})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (s *lookups) decide(questions ...Question) []Answer {
	s.t.Helper()
	answers, err := s.c.Decide(s.ctx, questions)
	if err != nil {
		s.t.Fatal(err)
	}
	return answers
}

// said is an answer in a word.
func said(a *Answer) string {
	switch {
	case a.Again:
		return "again"
	case a.Nothing:
		return "nothing"
	case len(a.Records) > 0:
		return "permit"
	case a.Outcome != nil:
		return string(a.Outcome.Reasons[0])
	}
	return "?"
}

func TestCommitter(t *testing.T) {
	s := newLookups(t)
	s.do("open case p1", "consent 310149942 loan p2")
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 municipality=4601 amount=11\nid=e2 person=p1 municipality=4601 amount=12\nid=e3 person=p2 amount=13\n")
	s.drain(s.ctx)

	answers := s.decide(
		Question{Subscription: "case", Subject: s.subject("p1"), Found: s.found("p1")},
		Question{Subscription: "case", Subject: s.subject("p2"), Unread: true},
		Question{Subscription: "loan", Subject: s.subject("p2"), Found: s.found("p2")},
		Question{Subscription: "loan", Subject: s.subject("p1"), Unread: true},
	)
	for i, want := range []string{"permit", "no_open_case", "permit", "consent_missing"} {
		if got := said(&answers[i]); got != want {
			t.Errorf("question %d: %s, want %s", i, got, want)
		}
	}
	if n := len(answers[0].Records); n != 2 || !strings.Contains(string(answers[0].Records[0].Data), `"amount":12`) || strings.Contains(string(answers[0].Records[0].Data), "secret") {
		t.Errorf("%d records: %s", n, answers[0].Records[0].Data)
	}
	all := s.singles(broker.LookupDecision)
	if len(all) != 5 {
		t.Fatalf("%d decisions, want 5", len(all))
	}
	byID := map[broker.DecisionID]*broker.Decision{}
	for i := range all {
		byID[all[i].ID] = &all[i]
	}
	for i := range answers {
		if d := byID[answers[i].Decision]; d == nil || d.Outcome.Permit != answers[i].Outcome.Permit || d.Subject.IsZero() || d.Revision != answers[i].Revision {
			t.Errorf("question %d: its decision is %+v", i, d)
		}
		for _, r := range answers[i].Records {
			if d := byID[r.Decision]; d == nil || d.Delivery != r.Delivery || d.Position.Offset < 0 {
				t.Errorf("question %d: a record's decision is %+v", i, d)
			}
		}
	}
	// Nobody need read on whom there is no case; and whoever has one is told that
	// there is nothing.
	if refused, err := s.c.Refused(s.ctx, "case", s.subject("p3")); err != nil || !refused {
		t.Error(refused, err)
	}
	s.do("open case p3")
	if refused, err := s.c.Refused(s.ctx, "case", s.subject("p3")); err != nil || refused {
		t.Error(refused, err)
	}
	if a := s.decide(Question{Subscription: "case", Subject: s.subject("p3"), Unread: true}); said(&a[0]) != "again" {
		t.Errorf("a case was opened since it was seen to be refused, and the answer is %s", said(&a[0]))
	}
	if a := s.decide(Question{Subscription: "case", Subject: s.subject("p3")}); said(&a[0]) != "nothing" {
		t.Errorf("nothing is there, and the answer is %s", said(&a[0]))
	}
	// A record that does not concern the subscription is as none.
	s.run([]string{"publish"}, "id=e4 person=p3 municipality=0301\n")
	s.drain(s.ctx)
	// What is about another is never answered, and nobody else hears of it.
	var others sync.WaitGroup
	others.Go(func() {
		if a := s.decide(Question{Subscription: "loan", Subject: s.subject("p2"), Found: s.found("p2")}); said(&a[0]) != "permit" {
			t.Errorf("another was answered %s", said(&a[0]))
		}
	})
	if a, err := s.c.Decide(s.ctx, []Question{{Subscription: "case", Subject: s.subject("p1"), Found: s.found("p2")}}); !errors.Is(err, errOtherSubject) {
		t.Errorf("%+v, %v", a, err)
	}
	others.Wait()
	s.stop()
	s.singles(broker.DoorDecision)
}

// What is withdrawn between the decision and the answer is not handed over, and says
// so in the log; what is withdrawn by the same hand for another is.
func TestCommitterWithdrawnBetween(t *testing.T) {
	s := newLookups(t)
	s.do("open case p1", "consent 310149942 loan p2", "open case p3")
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 municipality=4601\nid=e2 person=p2\n")
	s.drain(s.ctx)
	ask := func() []Answer {
		return s.decide(Question{Subscription: "case", Subject: s.subject("p1"), Found: s.found("p1")},
			Question{Subscription: "loan", Subject: s.subject("p2"), Found: s.found("p2")},
			Question{Subscription: "case", Subject: s.subject("p3")})
	}
	s.c.written = func() {
		s.c.written = nil
		s.do("withdraw p2", "end case p3")
	}
	answers := ask()
	for i, want := range []string{"permit", "consent_withdrawn", "no_open_case"} {
		if got := said(&answers[i]); got != want {
			t.Errorf("withdrawn after the decision: question %d: %s, want %s", i, got, want)
		}
	}
	doors := s.singles(broker.DoorDecision)
	if len(doors) != 1 || doors[0].Subscription != "loan" || doors[0].ID != answers[1].Decision || doors[0].Outcome.Reasons[0] != "consent_withdrawn" {
		t.Fatalf("at the door: %+v", doors)
	}
	lookedUp := s.singles(broker.LookupDecision)
	if len(lookedUp) != 4 || lookedUp[3].ID != answers[2].Decision || lookedUp[3].Outcome.Permit {
		t.Errorf("%d lookups; the last %+v", len(lookedUp), lookedUp[len(lookedUp)-1])
	}
	// Withdrawn before: denied at once, and no door.
	answers = ask()
	for i, want := range []string{"permit", "consent_withdrawn", "no_open_case"} {
		if got := said(&answers[i]); got != want {
			t.Errorf("withdrawn before: question %d: %s, want %s", i, got, want)
		}
	}
	if n := len(s.singles(broker.DoorDecision)); n != 1 {
		t.Errorf("%d decisions at the door", n)
	}
	// What ends by the clock while it is written ends too.
	s.change(registry.GiveConsent(broker.Consent{ID: "short", Subject: s.subject("p4"), Consumer: "310149942", Dataset: "d", Purpose: "loan",
		Valid: broker.Interval{From: s.clock().Add(-time.Hour), To: s.clock().Add(10 * time.Second)}}))
	s.run([]string{"publish"}, "id=e4 person=p4\n")
	s.drain(s.ctx)
	q := Question{Subscription: "loan", Subject: s.subject("p4"), Found: s.found("p4")}
	if a := s.decide(q); said(&a[0]) != "permit" {
		t.Fatalf("before its end: %s", said(&a[0]))
	}
	s.c.written = func() {
		s.c.written = nil
		s.setClock(time.Date(2026, 11, 22, 12, 0, 11, 0, time.UTC))
	}
	if a := s.decide(q); said(&a[0]) != "consent_expired" {
		t.Errorf("ended while it was written: %s", said(&a[0]))
	}
	s.stop()
}

// lateEvidence says that evidence is late.
type lateEvidence struct {
	mu   sync.Mutex
	late error
	told int
}

func (e *lateEvidence) Late() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.late
}
func (e *lateEvidence) Decided(int32, int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told++
}

func TestCommitterHeld(t *testing.T) {
	s := newLookups(t)
	evidence := &lateEvidence{}
	s.evidence = evidence
	s.do("open case p1")
	s.begin()
	q := Question{Subscription: "case", Subject: s.subject("p1")}
	s.decide(q)
	if evidence.told != 1 {
		t.Errorf("evidence was told %d times", evidence.told)
	}
	evidence.mu.Lock()
	evidence.late = errors.New("no head for 5 minutes")
	evidence.mu.Unlock()
	a, err := s.c.Decide(s.ctx, []Question{q})
	if _, held := errors.AsType[*HeldError](err); !held || a != nil {
		t.Errorf("%+v, %v", a, err)
	}
	if n := len(s.singles(broker.LookupDecision)); n != 1 {
		t.Errorf("%d decisions", n)
	}
	evidence.mu.Lock()
	evidence.late = nil
	evidence.mu.Unlock()
	s.decide(q)
	s.stop()
	s.c.Close()
	if _, err := s.c.Decide(s.ctx, []Question{q}); err == nil {
		t.Error("answered after it was closed")
	}
}

// The wire is cut at writes, before and after they are carried out; and at the
// questions where control ends. What is answered stands in the log.
func TestCommitterFaultyWire(t *testing.T) {
	s := newLookups(t)
	s.do("open case p1", "consent 310149942 loan p2")
	w := &wire{rng: rand.New(rand.NewPCG(7, 1)), hit: map[int16]int{}, keys: map[int16]bool{kmsg.Produce.Int16(): true, kmsg.ListOffsets.Int16(): true}}
	cfg := s.kafka
	cfg.Dial = w.dial
	faulty, err := kafka.Open(s.ctx, cfg, s.log, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faulty.Close() })
	sound := s.engine
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 municipality=4601\nid=e2 person=p2\n")
	s.drain(s.ctx)
	found := s.found("p1")
	s.stop()
	s.engine = faulty
	b := s.newBroker(s.control, "7")
	s.engine = sound
	c := b.Committer()
	defer c.Close()
	w.mu.Lock()
	w.left = 30
	w.mu.Unlock()
	answered := map[broker.DecisionID]bool{}
	failed := 0
	for range 60 {
		ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
		a, err := c.Decide(ctx, []Question{{Subscription: "case", Subject: s.subject("p1"), Found: found}})
		cancel()
		if err != nil {
			failed++
			continue
		}
		answered[a[0].Records[0].Decision] = true
	}
	all := map[broker.DecisionID]bool{}
	for _, d := range s.singles(broker.LookupDecision) {
		if all[d.ID] {
			t.Errorf("%v stands twice", d.ID)
		}
		all[d.ID] = true
	}
	for id := range answered {
		if !all[id] {
			t.Errorf("%v was answered, and stands nowhere", id)
		}
	}
	t.Logf("%d answered, %d failed, %d decisions, faults %v", len(answered), failed, len(all), w.hit)
}

// A write whose answer is lost is no answer, and its decision stands all the same; the
// next is decided anew, under another lease.
func TestCommitterInDoubt(t *testing.T) {
	s := newLookups(t)
	s.do("open case p1")
	w := &stall{key: kmsg.Produce}
	cfg := s.kafka
	cfg.Dial = w.dial
	faulty, err := kafka.Open(s.ctx, cfg, s.log, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faulty.Close() })
	sound := s.engine
	s.engine = faulty
	b := s.newBroker(s.control, "7")
	s.engine = sound
	c := b.Committer()
	defer c.Close()
	q := []Question{{Subscription: "case", Subject: s.subject("p1")}}
	if _, err := c.Decide(s.ctx, q); err != nil {
		t.Fatal(err)
	}
	lease := c.lease
	w.on.Store(true)
	c.patience = time.Second
	if a, err := c.Decide(s.ctx, q); !errors.Is(err, ErrInDoubt) || a != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	w.on.Store(false)
	c.patience = turnPatience
	a, err := c.Decide(s.ctx, q)
	if err != nil || !a[0].Nothing {
		t.Fatalf("%+v, %v", a, err)
	}
	if c.lease == lease {
		t.Error("the lease goes on, and what was used of it is not known")
	}
	if n := len(s.singles(broker.LookupDecision)); n != 3 {
		t.Errorf("%d decisions stand, of which two were answered", n)
	}
}

// stall makes connections that lose the answers to writes, or to what it says, while
// it is on.
type stall struct {
	on  atomic.Bool
	key kmsg.Key
}

func (w *stall) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &stalledConn{Conn: c, wire: w}, nil
}

type stalledConn struct {
	net.Conn
	wire *stall
	lost atomic.Bool
}

func (c *stalledConn) Write(b []byte) (int, error) {
	if len(b) >= 6 && int16(binary.BigEndian.Uint16(b[4:])) == c.wire.key.Int16() && c.wire.on.Load() {
		c.lost.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *stalledConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b) // the answer came, so it was carried out
	if c.lost.Load() {
		c.Conn.Close()
		return 0, errWire
	}
	return n, err
}

// lookups and the stream together never exceed a ceiling, and a denial for it comes
// only when nothing is left to lease.
func TestCommitterCeiling(t *testing.T) {
	s := newLookups(t)
	const ceiling = 40
	s.declare("ceiling: 6", "ceiling: 40")
	s.begin()
	s.run([]string{"publish"}, "id=e0 person=p1 municipality=0301\n")
	s.drain(s.ctx)
	found := s.found("p1")
	var g sync.WaitGroup
	var mu sync.Mutex
	permits, denials := 0, 0
	for range 4 {
		g.Go(func() {
			for range 8 {
				f := *found[0]
				a, err := s.c.Decide(s.ctx, []Question{{Subscription: "all", Subject: s.subject("p1"), Found: []*Found{&f}}})
				mu.Lock()
				switch {
				case err != nil:
					t.Error(err)
				case said(&a[0]) == "permit":
					permits++
				case said(&a[0]) == "ceiling_reached":
					denials++
				default:
					t.Error(said(&a[0]))
				}
				mu.Unlock()
			}
		})
	}
	var lines strings.Builder
	for i := range 30 {
		lines.WriteString("id=s" + string(rune('A'+i)) + " person=p" + string(rune('1'+i%8)) + " municipality=0301\n")
	}
	s.run([]string{"publish"}, lines.String())
	g.Wait()
	s.drain(s.ctx)
	s.control.View(func(st *registry.State) {
		if left := st.Unleased("all"); denials > 0 && left > 0 {
			t.Errorf("%d were denied, and %d of the ceiling were left to lease", denials, left)
		}
	})
	used := permits
	err := each(s.ctx, s.engine, s.topics.Decisions(), func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			return nil
		}
		_, err := deliver.Decode(r.Value, func(d *broker.Decision) error {
			if d.Outcome.Permit && d.Agreement == "all" {
				used++
			}
			return nil
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if used > ceiling || used < ceiling/2 {
		t.Errorf("%d were handed over or delivered under a ceiling of %d (%d of them looked up, %d denied)", used, ceiling, permits, denials)
	}
	t.Logf("%d of %d, %d of them looked up, %d denied", used, ceiling, permits, denials)
	s.stop()
}

// What is withheld at a door stands in the log, once for as long as it is withheld
// for the same reasons.
func TestDoorIsWritten(t *testing.T) {
	s := newLookups(t)
	s.declare("channel: kafka", "channel: feed")
	s.do("open case p1", "consent 310149942 loan p2")
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 municipality=4601\nid=e2 person=p2\n")
	s.drain(s.ctx)
	held := s.heldFrom()
	keeper := s.broker.Doorkeeper()
	admit := func() (permits int) {
		t.Helper()
		out, err := keeper.Admit(s.ctx, held, make([]broker.DecisionID, len(held)))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Permit {
				permits++
			}
		}
		return permits
	}
	if n := admit(); n != 3 || len(s.singles(broker.DoorDecision)) != 0 {
		t.Fatalf("%d of %d", n, len(held))
	}
	s.do("withdraw p2")
	for range 3 {
		if n := admit(); n != 2 {
			t.Errorf("%d of %d", n, len(held))
		}
	}
	doors := s.singles(broker.DoorDecision)
	if len(doors) != 1 || doors[0].Subscription != "loan" || doors[0].Outcome.Reasons[0] != "consent_withdrawn" || doors[0].Subject.IsZero() || doors[0].Agreement != "loan" {
		t.Fatalf("%+v", doors)
	}
	s.declare("channel: kafka", "channel: feed", "corrections: deliver\nstatus: active", "corrections: deliver\nstatus: suspended")
	admit()
	admit()
	if doors := s.singles(broker.DoorDecision); len(doors) != 3 {
		t.Errorf("%d decisions, want another for each new reason: %+v", len(doors), doors)
	}
	// What cannot be written is not withheld in silence.
	s.declare("channel: kafka", "channel: feed", "corrections: refuse\nstatus: active", "corrections: refuse\nstatus: suspended")
	s.c.Close()
	if out, err := keeper.Admit(s.ctx, held, make([]broker.DecisionID, len(held))); err == nil {
		t.Errorf("withheld, and written nowhere: %v", out)
	}
	s.stop()
}
