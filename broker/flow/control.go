package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// Control is the fold of the control topic, kept current, and the way to
// append to it. Every instance folds all of it in the same order.
type Control struct {
	engine *kafka.Engine
	topic  string
	reader *kafka.Reader
	adm    *kadm.Client
	log    *slog.Logger

	mu     sync.RWMutex    // guards all below
	state  *registry.State // written by follow alone
	next   int64           // offset after the last one folded
	fate   map[int64]bool  // offset → accepted, of the latest fateKept events
	passed map[int64]bool  // offset → refused, of all events that were not accepted
	last   int64           // offset of the last event that was accepted; -1 before any
	// imaged and imagedAt are the revision and the next offset of the latest image.
	imaged   broker.Revision
	imagedAt int64
	changed  chan struct{} // closed and replaced at each fold
	err      error         // why folding stopped; the instance must stop too
	writer   *kgo.Client   // kept for the next append; nil before the first, and after an error
	closed   bool

	ends     *kafka.Ends // of the control topic
	commands commands    // one appends at a time: rivals in one process need not lose to each other
	id       string      // transactional, of the writer
	done     chan struct{}
}

// fateKept bounds how many events back an appender can learn its event's fate.
const fateKept = 200_000

// OpenControl folds the control topic up to its present end, and goes on
// folding until ctx ends. The topic must exist.
func OpenControl(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, log *slog.Logger) (*Control, error) {
	return OpenControlFrom(ctx, engine, topics, log, "")
}

// OpenControlFrom is OpenControl, from the image in a file where there is one that is
// good; see [Control.KeepImage]. "" is none.
func OpenControlFrom(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, log *slog.Logger, image string) (*Control, error) {
	adm, err := engine.Admin()
	if err != nil {
		return nil, err
	}
	ends, err := kafka.CommittedEnds(ctx, adm, topics.Control())
	if err != nil {
		adm.Close()
		return nil, fmt.Errorf("reading where topic %s ends: %w", topics.Control(), err)
	}
	c := &Control{
		engine: engine, topic: topics.Control(), adm: adm, log: log,
		state: registry.New(), last: -1, fate: map[int64]bool{}, passed: map[int64]bool{}, changed: make(chan struct{}),
		done: make(chan struct{}), id: newWriterID(),
	}
	if image != "" {
		if err := c.begin(ctx, image, ends[c.topic][0]); err != nil {
			c.aside(image, err)
		}
	}
	if c.reader, err = engine.Reader([]kafka.Span{{Topic: c.topic, From: c.next, To: kafka.Follow}}, kgo.FetchMaxWait(time.Second)); err != nil {
		adm.Close()
		return nil, err
	}
	c.ends = kafka.NewEnds(engine, c.topic)
	go c.follow(ctx)
	if err := c.await(ctx, func() bool { return c.next >= ends[c.topic][0] }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close stops folding and appending.
func (c *Control) Close() {
	c.reader.Close()
	<-c.done
	c.ends.Close()
	c.adm.Close()
	c.mu.Lock()
	writer := c.writer
	c.writer, c.closed = nil, true
	c.mu.Unlock()
	if writer != nil {
		writer.Close()
	}
}

// Err is why folding stopped, or nil.
func (c *Control) Err() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.err
}

// View calls fn with the state. It stays as it is until fn returns; fn keeps
// nothing of it but what is documented as shared and read-only.
func (c *Control) View(fn func(*registry.State)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	fn(c.state)
}

// Revision is the revision folded.
func (c *Control) Revision() broker.Revision {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.Revision()
}

// Changed is closed at the next fold.
func (c *Control) Changed() <-chan struct{} {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changed
}

// Await returns when the revision has been folded.
func (c *Control) Await(ctx context.Context, rev broker.Revision) error {
	return c.await(ctx, func() bool { return c.state.Revision() >= rev })
}

func (c *Control) await(ctx context.Context, ready func() bool) error {
	for {
		c.mu.RLock()
		ok, err, changed := ready(), c.err, c.changed
		c.mu.RUnlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow is the goroutine that folds. It ends when ctx does, when the client
// closes, or at an event that it must not skip.
func (c *Control) follow(ctx context.Context) {
	defer close(c.done)
	for {
		records, err := c.reader.Poll(ctx, 0)
		if ctx.Err() != nil {
			err = errors.New("the control reader was closed")
		}
		c.mu.Lock()
		for _, r := range records {
			if err == nil {
				err = c.fold(r)
			}
			if err == nil {
				c.next = r.Offset + 1
			}
		}
		if err == nil {
			c.next = c.reader.Next(c.topic, 0) // over markers, too
		}
		c.err = err
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *Control) fold(r *kgo.Record) error {
	ev, err := registry.Decode(r.Value)
	if err != nil {
		return fmt.Errorf("control event at offset %d: %w", r.Offset, err)
	}
	lost := ev.On != c.state.Revision() || ev.Prev != c.state.Head()
	accepted, err := c.state.Fold(ev)
	if err != nil {
		return fmt.Errorf("control event at offset %d: %w", r.Offset, err)
	}
	if accepted {
		c.last = r.Offset
	} else {
		c.passed[r.Offset] = !lost
	}
	c.fate[r.Offset] = accepted
	delete(c.fate, r.Offset-fateKept)
	return nil
}

// Fate says what became of the event at an offset, once it is folded. One that is
// neither accepted nor refused had lost to another writer.
func (c *Control) Fate(ctx context.Context, offset int64) (accepted, refused bool, err error) {
	err = c.await(ctx, func() bool { return c.next > offset })
	c.mu.RLock()
	defer c.mu.RUnlock()
	refused, passed := c.passed[offset]
	return !passed, refused, err
}

// ErrConflict is another writer's event having come first, too many times.
var ErrConflict = errors.New("the registry kept changing while this change was being made; try again")

// ErrMaybeRecorded says that a change may have been recorded, and that nobody could tell.
var ErrMaybeRecorded = errors.New("it may have been recorded; the same command again is harmless")

// Append makes events from the state and appends them in one transaction, which they may
// share with those of other callers. Each names the revision that it was validated on;
// when another writer came first, all of them lose, and plan is asked again on the new
// state. It returns the revision after the events, folded here. No events is no change.
// *registry.RefusedError is that the first of them says what cannot be: trying again would
// change nothing. A plan whose events are of subjects only must have looked, of what is
// known of subjects, at those subjects only.
func (c *Control) Append(ctx context.Context, plan func(*registry.State) ([]registry.Event, error)) (broker.Revision, error) {
	for try, begun := 0, time.Now(); time.Since(begun) < appendPatience; try++ {
		// At once, while rivals may be leases, which make way. Rivals that lost
		// together again and again must not come again together.
		if try > 2 {
			if err := appendPause(ctx, 0, min(try, 20)*5); err != nil {
				return 0, err
			}
		}
		if rev, done, err := c.attempt(ctx, plan); done {
			return rev, err
		}
	}
	return 0, ErrConflict
}

// appendLease is Append for what makes way for others: in this process between
// any two attempts, and for those elsewhere by coming again later.
func (c *Control) appendLease(ctx context.Context, plan func(*registry.State) ([]registry.Event, error)) (broker.Revision, error) {
	for try, begun := 0, time.Now(); time.Since(begun) < appendPatience; try++ {
		if try > 0 {
			if err := appendPause(ctx, 20, min(try, 10)*20); err != nil {
				return 0, err
			}
		}
		if rev, done, err := c.attempt(ctx, plan); done {
			return rev, err
		}
	}
	return 0, ErrConflict
}

// appendPatience is how long an append goes on losing.
const appendPatience = time.Minute

// appendPause waits for some milliseconds, up to spread more than least.
func appendPause(ctx context.Context, least, spread int) error {
	select {
	case <-time.After(time.Duration(least+mathrand.IntN(1+spread)) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return errors.Join(ErrConflict, ctx.Err())
	}
}

// Log calls fn for each event in the control topic as it stands now, with
// whether it was accepted, by folding it anew.
func (c *Control) Log(ctx context.Context, fn func(offset int64, e registry.Event, accepted bool) error) error {
	c.mu.RLock()
	end := c.next
	c.mu.RUnlock()
	state := registry.New()
	return c.engine.Each(ctx, kafka.Span{Topic: c.topic, To: end}, func(r *kgo.Record) error {
		e, err := registry.Decode(r.Value)
		if err != nil {
			return err
		}
		accepted, err := state.Fold(e)
		if err != nil {
			return err
		}
		return fn(r.Offset, e, accepted)
	})
}
