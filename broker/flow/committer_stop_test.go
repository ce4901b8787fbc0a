package flow

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
)

// Where it cannot be learnt what has been withdrawn by now, nothing is answered.
// Before the decision there is none; after it, it stands, and the error says which.
func TestCommitterCannotLearn(t *testing.T) {
	s := newLookups(t)
	s.do("open case p1", "consent 310149942 loan p2")
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 municipality=4601\n")
	s.drain(s.ctx)
	found := s.found("p1")
	s.stop()

	w := &stall{key: kmsg.ListOffsets} // by which control is asked where it ends
	cfg := s.kafka
	cfg.Dial = w.dial
	faulty, err := kafka.Open(s.ctx, cfg, s.log, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faulty.Close() })
	sound := s.engine
	s.engine = faulty
	control := s.openControl()
	s.engine = sound
	b := s.newBroker(control, "7")
	c := b.Committer()
	defer c.Close()

	// Another who waits for the same turn is told the same, whatever they ask.
	questions := []Question{{Subscription: "case", Subject: s.subject("p1"), Found: found}, {Subscription: "case", Subject: s.subject("p2"), Unread: true}}
	stands := func() []broker.Decision { t.Helper(); return s.singles(broker.LookupDecision) }
	fails := func(when string, want error, says string) {
		t.Helper()
		c.patience = time.Second
		a, err := c.Decide(s.ctx, questions)
		c.patience = turnPatience
		_, held := errors.AsType[*HeldError](err)
		switch {
		case err == nil || a != nil:
			t.Errorf("%s: answered %+v, %v", when, a, err)
		case held != (want == nil) || want != nil && !errors.Is(err, want):
			t.Errorf("%s: %v, want %v", when, err, want)
		case !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "could not be learnt"):
			t.Errorf("%s: %q does not say %q", when, err, says)
		}
		w.on.Store(false)
		c.written = nil
	}

	w.on.Store(true)
	fails("before the decision", nil, "nothing is decided just now")
	if n := len(stands()); n != 0 {
		t.Fatalf("before the decision: %d stand in the log", n)
	}

	c.written = func() { w.on.Store(true) }
	fails("after the decision", ErrUnanswered, "the decision stands in the log")
	first := stands()
	if len(first) != 2 || first[0].Outcome.Permit == first[1].Outcome.Permit {
		t.Fatalf("after the decision there stand %+v", first)
	}
	if n := len(s.singles(broker.DoorDecision)); n != 0 {
		t.Errorf("%d decisions at a door: it was not learnt that anything ended", n)
	}

	// What was withdrawn meanwhile is found when they ask again, and by a decision anew.
	s.do("end case p1")
	a, err := c.Decide(s.ctx, questions)
	if err != nil || said(&a[0]) != "no_open_case" || len(a[0].Records) != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	all := stands()
	if len(all) != 4 || all[2].ID == first[0].ID || all[2].ID == first[1].ID {
		t.Errorf("a repeat is no decision of its own: %+v", all)
	}
	// A door is answered as little: what it holds is neither handed over nor written off.
	w.on.Store(true)
	c.patience = time.Second
	if out, err := (&asked{held: []Held{{}}}).try(s, c); err == nil {
		t.Errorf("a door was told %v", out)
	}
	w.on.Store(false)
}

// try asks for what a door withholds.
func (a *asked) try(s *lookups, c *Committer) ([]*broker.Outcome, error) {
	err := c.ask(s.ctx, a)
	return a.outcomes, err
}

// An instance that falls between the decision and the answer leaves a decision by which
// nothing was handed over. The next decides anew, and both count under the ceiling.
func TestCommitterStopsBetween(t *testing.T) {
	s := newLookups(t)
	s.begin()
	s.run([]string{"publish"}, "id=e1 person=p1 municipality=0301\n")
	s.drain(s.ctx)
	questions := func() []Question {
		return []Question{{Subscription: "all", Subject: s.subject("p1"), Found: s.found("p1")}}
	}
	q := questions()
	s.c.written = func() { s.c.cancel() } // as if the process were gone
	if a, err := s.c.Decide(s.ctx, q); a != nil || !errors.Is(err, ErrUnanswered) {
		t.Fatalf("%+v, %v", a, err)
	}
	first := s.singles(broker.LookupDecision)
	if len(first) != 1 || !first[0].Outcome.Permit {
		t.Fatalf("there stand %+v", first)
	}
	s.c.Close()
	s.stop()

	s.begin()
	// Of six, the stream has had one and the fallen one had one. Each repeat costs one.
	for i := range 5 {
		a := s.decide(questions()...)
		want := "permit"
		if i == 4 {
			want = "ceiling_reached"
		}
		if said(&a[0]) != want || a[0].Decision == first[0].ID {
			t.Errorf("repeat %d: %s by %v, want %s by a decision of its own", i+1, said(&a[0]), a[0].Decision, want)
		}
	}
	if n := len(s.singles(broker.LookupDecision)); n != 6 {
		t.Errorf("%d decisions, want 6", n)
	}

	// A stop in good order lets the turn that is under way end, and begins no other.
	closed := make(chan struct{})
	q = questions()
	s.c.written = func() {
		s.c.written = nil
		go func() { s.c.Close(); close(closed) }()
	}
	if a, err := s.c.Decide(s.ctx, q); err != nil || said(&a[0]) != "ceiling_reached" {
		t.Errorf("under way as it stops: %+v, %v", a, err)
	}
	<-closed
	if a, err := s.c.Decide(s.ctx, q); a != nil || !errors.Is(err, errCommitterClosed) {
		t.Errorf("after it has stopped: %+v, %v", a, err)
	}
	s.stop()
	s.checkAll()
}
