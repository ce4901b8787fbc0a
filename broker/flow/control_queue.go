package flow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable/check"
)

// commands are those that wait to append. One goroutine takes them in the order in which
// they came, and lets those share a transaction that say something of different subjects:
// a million citizens who change their minds need not wait for a commit each.
type commands struct {
	mu      sync.Mutex
	waiting []*command
	running bool
}

// command is one try of an append.
type command struct {
	ctx    context.Context
	plan   func(*registry.State) ([]registry.Event, error)
	events []registry.Event
	done   chan effect // has room for it
}

// effect is what became of a command. Not done is that another writer came first.
type effect struct {
	rev  broker.Revision
	done bool
	err  error
}

// sharedMost bounds how many commands share an append: their plans run while nothing is
// folded.
const sharedMost = 256

// sharedEvents bounds how many events one of them may have.
const sharedEvents = 16

// attempt is one try of an append; not done is that another writer came first.
func (c *Control) attempt(ctx context.Context, plan func(*registry.State) ([]registry.Event, error)) (rev broker.Revision, done bool, err error) {
	cmd := &command{ctx: ctx, plan: plan, done: make(chan effect, 1)}
	q := &c.commands
	q.mu.Lock()
	q.waiting = append(q.waiting, cmd)
	if !q.running {
		q.running = true
		go c.command()
	}
	q.mu.Unlock()
	// Whoever stops listening is told so by the goroutine, once it no longer uses plan.
	o := <-cmd.done
	return o.rev, o.done, o.err
}

// command takes the commands, as long as there are any.
func (c *Control) command() {
	var waiting []*command
	for {
		q := &c.commands
		q.mu.Lock()
		waiting = append(waiting, q.waiting...)
		q.waiting = nil
		if len(waiting) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		waiting = c.round(waiting)
	}
}

// round appends for the first of those who wait, and for those who can share it. It
// returns the others, in their order.
func (c *Control) round(waiting []*command) (rest []*command) {
	group, judge, rest := c.choose(waiting)
	if len(group) == 0 {
		return rest
	}
	ctx, cancel := together(group)
	defer cancel()
	if judge != nil { // it may take seconds, while folding goes on: whoever overtakes makes these events lose
		if err := judge(ctx); err != nil {
			settle(group, effect{c.Revision(), true, err})
			return rest
		}
	}
	var events []registry.Event
	for _, cmd := range group {
		if len(events) > 0 {
			registry.Relink(&events[len(events)-1], cmd.events)
		}
		events = append(events, cmd.events...)
	}
	offsets, err := c.write(ctx, events)
	if err != nil {
		settle(group, effect{0, true, err})
		return rest
	}
	last := offsets[len(offsets)-1]
	if err := c.await(ctx, func() bool { return c.next > last }); err != nil {
		settle(group, effect{0, true, fmt.Errorf("the change was written at offset %d of %s, but was not seen folded: %w: %w", last, c.topic, ErrMaybeRecorded, err)})
		return rest
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i, cmd := range group {
		n := len(cmd.events)
		if i == len(group)-1 { // all that a command appended stands, or it is asked again
			n = len(offsets)
		}
		cmd.done <- effect{cmd.events[len(cmd.events)-1].Seq, c.fate[offsets[n-1]], nil}
		offsets = offsets[n:]
	}
	return rest
}

// choose asks the plans, settles what needs no append, and picks those that share the
// next. What a plan finds when it is asked must be so when its events' turn comes: the
// events of the others in its group are of other subjects, and of nothing but subjects,
// so that they change nothing that it may have looked at. Should one of them be refused
// after all, it and those behind it lose, and are asked again.
func (c *Control) choose(waiting []*command) (group []*command, judge func(context.Context) error, rest []*command) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	taken := map[broker.SubjectKey]bool{}
	for i, cmd := range waiting {
		if len(group) == sharedMost {
			return group, nil, append(rest, waiting[i:]...)
		}
		if err := cmd.ctx.Err(); err != nil {
			cmd.done <- effect{0, true, err}
			continue
		}
		rev := c.state.Revision()
		events, err := cmd.plan(c.state)
		var refused *registry.RefusedError
		if err == nil && len(events) > 0 && errors.As(c.state.Check(events[0]), &refused) { // it would be refused by every instance, and again
			err = refused
		}
		if err != nil || len(events) == 0 {
			cmd.done <- effect{rev, true, err}
			continue
		}
		cmd.events = events
		about, shares := c.state.Concerns(events)
		shares = shares && len(events) <= sharedEvents
		for _, k := range about {
			shares = shares && !taken[k]
		}
		switch {
		case shares:
			for _, k := range about {
				taken[k] = true
			}
			group = append(group, cmd)
		case len(group) == 0:
			if judge, err = check.Guard(c.state, events); err != nil {
				cmd.done <- effect{rev, true, err}
				continue
			}
			return []*command{cmd}, judge, append(rest, waiting[i+1:]...)
		default: // its turn comes first in the next round
			rest = append(rest, cmd)
		}
	}
	return group, nil, rest
}

// settle tells all of a group the same.
func settle(group []*command, o effect) {
	for _, cmd := range group {
		cmd.done <- o
	}
}

// together ends when nobody of the group listens any more.
func together(group []*command) (context.Context, context.CancelFunc) {
	if len(group) == 1 {
		return context.WithCancel(group[0].ctx)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var left atomic.Int64
	left.Store(int64(len(group)))
	stops := make([]func() bool, len(group))
	for i, cmd := range group {
		stops[i] = context.AfterFunc(cmd.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
