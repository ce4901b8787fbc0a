package flow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// queued keeps commands waiting behind one that stands still, so that they are taken
// together, in this order.
type queued struct {
	h    *harness
	c    *Control
	t    *testing.T
	wait sync.WaitGroup
	gate chan struct{}
	errs []error
	revs []broker.Revision
	n    int
}

func newQueued(t *testing.T) *queued {
	h := newHarness(t)
	if _, err := h.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	q := &queued{h: h, c: h.control, t: t, gate: make(chan struct{}), errs: make([]error, 100), revs: make([]broker.Revision, 100)}
	entered := make(chan struct{})
	q.wait.Go(func() {
		_, _ = q.c.Append(t.Context(), func(*registry.State) ([]registry.Event, error) {
			close(entered)
			<-q.gate
			return nil, nil
		})
	})
	<-entered
	return q
}

func (q *queued) add(ctx context.Context, plan func(*registry.State) []registry.Change) (i int) {
	q.t.Helper()
	i = q.n
	q.n++
	q.wait.Go(func() {
		q.revs[i], q.errs[i] = q.c.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
			changes := plan(st)
			if len(changes) == 0 {
				return nil, nil
			}
			return st.Link(q.h.clock(), "test", changes...)
		})
	})
	for { // until it waits
		q.c.commands.mu.Lock()
		n := len(q.c.commands.waiting)
		q.c.commands.mu.Unlock()
		if n == q.n {
			return i
		}
		runtime.Gosched()
	}
}

func (q *queued) give(id string, subject int) int {
	q.t.Helper()
	return q.add(q.t.Context(), func(*registry.State) []registry.Change { return []registry.Change{q.consent(id, subject)} })
}

func (q *queued) consent(id string, subject int) registry.Change {
	return registry.GiveConsent(broker.Consent{ID: broker.ConsentID(id), Subject: q.h.ring.Subject(broker.Person, fmt.Sprint("nobody ", subject)),
		Consumer: "310149942", Dataset: "d", Purpose: "loan", Valid: broker.Interval{From: q.h.clock()}})
}

// run lets them go, and returns the offsets of what was accepted in the control topic,
// by revision.
func (q *queued) run() map[broker.Revision]int64 {
	q.t.Helper()
	close(q.gate)
	q.wait.Wait()
	at := map[broker.Revision]int64{}
	if err := q.c.Log(q.t.Context(), func(offset int64, e registry.Event, accepted bool) error {
		if accepted {
			at[e.Seq] = offset
		}
		return nil
	}); err != nil {
		q.t.Fatal(err)
	}
	return at
}

func (q *queued) ok(is ...int) {
	q.t.Helper()
	for _, i := range is {
		if q.errs[i] != nil {
			q.t.Errorf("command %d: %v", i, q.errs[i])
		}
	}
}

// Commands on different subjects share a transaction: their events stand next to each
// other, with no marker in between.
func TestCommandsShareAnAppend(t *testing.T) {
	q := newQueued(t)
	for i := range 20 {
		q.give(fmt.Sprint("c", i), i)
	}
	at := q.run()
	for i := range 20 {
		q.ok(i)
		if q.revs[i] != q.revs[0]+broker.Revision(i) || at[q.revs[i]] != at[q.revs[0]]+int64(i) {
			t.Errorf("command %d has revision %d at offset %d; the first %d at %d", i, q.revs[i], at[q.revs[i]], q.revs[0], at[q.revs[0]])
		}
	}
	for i := range 20 {
		q.c.View(func(st *registry.State) {
			if _, ok := st.Consent(broker.ConsentID(fmt.Sprint("c", i))); !ok {
				t.Errorf("consent c%d is not there", i)
			}
		})
	}
}

// A second command on a subject sees what the first did.
func TestCommandsOnOneSubject(t *testing.T) {
	q := newQueued(t)
	q.give("c0", 0)
	seen := false
	q.add(t.Context(), func(st *registry.State) []registry.Change {
		if _, seen = st.Consent("c0"); seen {
			return nil
		}
		return []registry.Change{q.consent("c1", 0)}
	})
	q.run()
	q.ok(0, 1)
	if !seen || q.revs[1] != q.revs[0] {
		t.Errorf("seen %v; revisions %v", seen, q.revs[:2])
	}
}

// Two who choose the same name cannot both have it. Those behind them lose nothing.
func TestCommandsThatCollide(t *testing.T) {
	q := newQueued(t)
	q.give("same", 0)
	q.give("same", 1)
	q.give("c2", 2)
	q.give("c3", 3)
	q.run()
	q.ok(0, 2, 3)
	var refused *registry.RefusedError
	if !errors.As(q.errs[1], &refused) {
		t.Errorf("the second: %v", q.errs[1])
	}
	if slices.Min(q.revs[2:4]) <= q.revs[0] || q.revs[2] == q.revs[3] {
		t.Errorf("revisions %v", q.revs[:4])
	}
}

// What changes more than subjects has an append of its own, on a state with all that
// came before, and is not overtaken for ever.
func TestCommandsApart(t *testing.T) {
	q := newQueued(t)
	org, err := registry.Put(broker.Organisation{Number: "958935420", Name: "Oslo"})
	if err != nil {
		t.Fatal(err)
	}
	q.give("c0", 0)
	q.give("c1", 1)
	var structure bool
	q.add(t.Context(), func(st *registry.State) []registry.Change {
		_, structure = st.Consent("c1")
		return []registry.Change{org}
	})
	q.give("c3", 3)
	at := q.run()
	q.ok(0, 1, 2, 3)
	if !structure || at[q.revs[2]] == at[q.revs[1]]+1 || q.revs[2] <= q.revs[1] {
		t.Errorf("seen %v; revisions %v, offsets %v", structure, q.revs[:4], at)
	}
}

// Who hangs up takes nobody along.
func TestCommandHungUp(t *testing.T) {
	q := newQueued(t)
	ctx, cancel := context.WithCancel(t.Context())
	q.give("c0", 0)
	q.add(ctx, func(*registry.State) []registry.Change {
		cancel() // while it is asked: it will be written
		return []registry.Change{q.consent("c1", 1)}
	})
	gone, hung := context.WithCancel(t.Context())
	q.add(gone, func(*registry.State) []registry.Change { return []registry.Change{q.consent("c2", 2)} })
	hung()
	q.run()
	q.ok(0, 1)
	if !errors.Is(q.errs[2], context.Canceled) {
		t.Errorf("who had hung up before: %v", q.errs[2])
	}
	q.c.View(func(st *registry.State) {
		if _, ok := st.Consent("c2"); ok {
			t.Error("c2 was written")
		}
	})
}

// Two instances, many writers, few names: each command that was said to be done stands
// in the log, once and in one piece, and what was refused does not.
func TestCommandsTogether(t *testing.T) {
	h := newHarness(t)
	if _, err := h.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	q := &queued{h: h}
	instances := []*Control{h.control, h.openControl()}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var (
		mu   sync.Mutex
		said = map[string]broker.Revision{} // by actor: who is told that it is done
		wait sync.WaitGroup
	)
	for w := range 16 {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range 25 {
				actor, two := fmt.Sprintf("w%d-%d", w, i), rnd.IntN(4) == 0
				id, subject := fmt.Sprintf("c%d", rnd.IntN(150)), rnd.IntN(12)
				rev, err := instances[w%2].Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
					changes := []registry.Change{q.consent(id, subject)}
					if two {
						changes = append(changes, registry.WithdrawConsent(broker.ConsentID(id), h.clock()))
					}
					return st.Link(h.clock(), actor, changes...)
				})
				var refused *registry.RefusedError
				switch {
				case err == nil:
					mu.Lock()
					said[actor] = rev
					mu.Unlock()
				case !errors.As(err, &refused):
					t.Errorf("worker %d: %v", w, err)
				}
			}
		})
	}
	wait.Wait()
	if err := h.control.Await(t.Context(), slices.Max(slices.Collect(maps.Values(said)))); err != nil {
		t.Fatal(err)
	}
	last, events := map[string]broker.Revision{}, map[string]int{} // by actor, in the log
	if err := h.control.Log(t.Context(), func(_ int64, e registry.Event, accepted bool) error {
		if accepted && e.Actor[0] == 'w' {
			last[e.Actor] = e.Seq
			if e.Type == registry.ConsentGiven {
				events[e.Actor]++
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(last, said) {
		t.Errorf("said to be done, by their last revision:\n%v\nin the log:\n%v", said, last)
	}
	for actor, n := range events {
		if n != 1 {
			t.Errorf("%s gave %d consents", actor, n)
		}
	}
}
