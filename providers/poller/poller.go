// Package poller publishes from a register that has a list of events with rising
// sequence numbers, {"sekvensnummer": …}, and the documents elsewhere: it reads the
// list page by page, makes an event of each entry, publishes them, and then notes how
// far it came.
//
//	p, err := poller.New(poller.Config{
//		List:       poller.HTTPList{URL: "https://register.example/hendelser", Token: token}.Page,
//		Event:      func(ctx context.Context, e poller.Entry) (*providers.Event, error) { … },
//		Publisher:  publisher,
//		Checkpoint: poller.File("/var/lib/payroll/checkpoint.json"),
//	})
//	err = p.Run(ctx)
//
// # What is promised
//
// Each entry is published at least once: the checkpoint is written when all of a page
// is durable. After a crash a page is published again; an event whose document has
// not changed since gets the same id, and the broker drops it.
//
// Each page begins with the entry that the checkpoint names. So it shows when the
// list does not go on where it ended: entries were removed in between ([ErrGap]), the
// list was cut or restored from an older copy ([ErrBackwards]), or its numbers stand
// for other entries now ([ErrChanged]). The poller stops then, because only people
// can say what was missed. Numbers that are left out are no gap: such lists have them.
package poller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"datafordeler/providers"
)

// The list does not go on where it ended.
var (
	ErrGap       = errors.New("the list does not hold the entry that was read last: entries after it may be gone too")
	ErrBackwards = errors.New("the list ends before what was read already, or its numbers do not rise")
	ErrChanged   = errors.New("the entry that was read last has other content now: the list is another")
)

// Entry is one line of the list.
type Entry struct {
	Seq int64
	// Raw is the entry as the list has it, JSON.
	Raw json.RawMessage
}

// Checkpoint is how far the list was published.
type Checkpoint struct {
	Seq int64 `json:"sequence"`
	// Digest is of the entry with that number. Empty: not compared.
	Digest string `json:"digest,omitempty"`
}

// Store keeps a checkpoint. Save returns when it is durable. One poller uses it.
type Store interface {
	// Load gives the zero Checkpoint where none was saved.
	Load(context.Context) (Checkpoint, error)
	Save(context.Context, Checkpoint) error
}

// Publisher is what providers.Publisher does.
type Publisher interface {
	Publish(context.Context, ...providers.Event) error
}

// Config is a poller's. List, Event, Publisher and Checkpoint are required.
type Config struct {
	// List gives entries from a number on, that one included, in their order, at most
	// so many. No entries: there are none yet.
	List func(ctx context.Context, from int64, limit int) ([]Entry, error)
	// Event makes an event of an entry, fetching its document where that is
	// elsewhere. Nil and no error: there is nothing to publish. Leave its ID empty,
	// and it follows from number and content. It is called concurrently.
	Event func(context.Context, Entry) (*providers.Event, error)
	// Publisher publishes.
	Publisher Publisher
	// Checkpoint keeps how far it came.
	Checkpoint Store
	// Rejected is told of an entry whose event can never be published, by what it
	// is. Nil as its answer goes on without that event. Nil Rejected stops.
	Rejected func(context.Context, Entry, error) error
	// From is where to begin where there is no checkpoint yet, default 1.
	From int64
	// Page is the most entries read at once, default 1,000.
	Page int
	// Parallel is how many entries are made into events at once, default 4.
	Parallel int
	// Interval is how often a list without news is asked, default 30 s.
	Interval time.Duration
	// Log gets what people should know of. Nothing in it is from an entry.
	Log *slog.Logger
}

// Stats are counters since the poller was made, but Seq.
type Stats struct {
	Seq       int64 // the last number that is published
	Published int64
	Skipped   int64 // entries of which there was nothing to publish
	Rejected  int64
	Failures  int64 // rounds that failed and were tried again
}

// Poller follows one list.
type Poller struct {
	c  Config
	at Checkpoint

	loaded                                      bool
	seq, published, skipped, rejected, failures atomic.Int64
}

// New checks the configuration.
func New(c Config) (*Poller, error) {
	if c.List == nil || c.Event == nil || c.Publisher == nil || c.Checkpoint == nil {
		return nil, errors.New("poller: List, Event, Publisher and Checkpoint are all needed")
	}
	if c.From == 0 {
		c.From = 1
	}
	if c.Page == 0 {
		c.Page = 1000
	}
	if c.Parallel == 0 {
		c.Parallel = 4
	}
	if c.Interval == 0 {
		c.Interval = 30 * time.Second
	}
	if c.Page < 2 || c.Parallel < 1 || c.Interval < 0 || c.From < 0 {
		return nil, errors.New("poller: Page is at least 2, Parallel at least 1; From and Interval are not below 0")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Poller{c: c}, nil
}

// Stats reads the counters.
func (p *Poller) Stats() Stats {
	return Stats{p.seq.Load(), p.published.Load(), p.skipped.Load(), p.rejected.Load(), p.failures.Load()}
}

// Run follows the list until ctx ends, which is no error, or until the list does not
// go on where it ended. Other failures it rides out, with growing waits.
func (p *Poller) Run(ctx context.Context) error {
	for failures := 0; ; {
		more, err := p.Poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := p.c.Interval
		var stop *stopError
		switch {
		case errors.Is(err, ErrGap), errors.Is(err, ErrBackwards), errors.Is(err, ErrChanged), errors.As(err, &stop):
			return err
		case err != nil:
			failures++
			p.failures.Add(1)
			bound := min(time.Second<<min(failures, 9), 5*time.Minute)
			wait = bound/2 + rand.N(bound/2+1)
			p.c.Log.Warn("the list could not be published; it is tried again", "after", p.at.Seq, "failures", failures, "wait", wait, "err", err)
		case more:
			failures, wait = 0, 0
		default:
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// stopError is one after which Run does not go on.
type stopError struct{ error }

func (e *stopError) Unwrap() error { return e.error }

// Poll publishes one page, and notes it. more says that there may be another.
func (p *Poller) Poll(ctx context.Context) (more bool, err error) {
	if !p.loaded {
		if p.at, err = p.c.Checkpoint.Load(ctx); err != nil {
			return false, fmt.Errorf("poller: checkpoint: %w", err)
		}
		p.loaded = true
		p.seq.Store(p.at.Seq)
	}
	from := p.at.Seq
	if from == 0 {
		from = p.c.From
	}
	page, err := p.c.List(ctx, from, p.c.Page)
	if err != nil {
		return false, fmt.Errorf("poller: the list from %d: %w", from, err)
	}
	full := len(page) >= p.c.Page
	fresh, err := p.continues(page)
	if err != nil || len(fresh) == 0 {
		return false, err
	}
	if err := p.publish(ctx, fresh); err != nil {
		return false, err
	}
	last := fresh[len(fresh)-1]
	next := Checkpoint{Seq: last.Seq, Digest: digest(last.Raw)}
	// Were the program to end here, the page would be published again.
	if err := p.c.Checkpoint.Save(ctx, next); err != nil {
		return false, fmt.Errorf("poller: checkpoint: %w", err)
	}
	p.at = next
	p.seq.Store(next.Seq)
	return full, nil
}

// continues holds a page to the checkpoint, and gives what is new in it.
func (p *Poller) continues(page []Entry) ([]Entry, error) {
	for i := 1; i < len(page); i++ {
		if page[i].Seq <= page[i-1].Seq {
			return nil, fmt.Errorf("poller: after %d comes %d: %w", page[i-1].Seq, page[i].Seq, ErrBackwards)
		}
	}
	if p.at.Seq == 0 {
		return page, nil
	}
	switch {
	case len(page) == 0:
		return nil, fmt.Errorf("poller: nothing from %d on: %w", p.at.Seq, ErrBackwards)
	case page[0].Seq < p.at.Seq:
		return nil, fmt.Errorf("poller: asked from %d, it begins at %d: %w", p.at.Seq, page[0].Seq, ErrBackwards)
	case page[0].Seq > p.at.Seq:
		return nil, fmt.Errorf("poller: %d is followed by %d: %w; when it is known what is missing, save a checkpoint of %d", p.at.Seq, page[0].Seq, ErrGap, page[0].Seq)
	case p.at.Digest != "" && digest(page[0].Raw) != p.at.Digest:
		return nil, fmt.Errorf("poller: %d: %w", p.at.Seq, ErrChanged)
	}
	return page[1:], nil
}

func (p *Poller) publish(ctx context.Context, fresh []Entry) error {
	made := make([]*providers.Event, len(fresh))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(p.c.Parallel)
	for i, e := range fresh {
		group.Go(func() (err error) {
			if made[i], err = p.c.Event(inner, e); err != nil {
				return fmt.Errorf("poller: entry %d: %w", e.Seq, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var events []providers.Event
	var of []Entry
	for i, e := range made {
		if e == nil {
			p.skipped.Add(1)
			continue
		}
		one := *e
		if _, has := one.Extensions["sequence"]; !has {
			more := map[string]string{"sequence": strconv.FormatInt(fresh[i].Seq, 10)}
			for k, v := range one.Extensions {
				more[k] = v
			}
			one.Extensions = more
		}
		events, of = append(events, one), append(of, fresh[i])
	}
	for len(events) > 0 {
		err := p.c.Publisher.Publish(ctx, events...)
		failures, known := providers.Failures(err)
		if !known {
			return err
		}
		bad := map[int]error{}
		var passing error
		for _, f := range failures {
			if providers.Permanent(f.Err) {
				bad[f.Index] = f.Err
			} else {
				passing = err
			}
		}
		// Without those that can never be taken the others are sent again: what is
		// durable already is a repeat, under the same id.
		var left []providers.Event
		var leftOf []Entry
		for i := range events {
			why, is := bad[i]
			if !is {
				left, leftOf = append(left, events[i]), append(leftOf, of[i])
				continue
			}
			if p.c.Rejected == nil {
				return &stopError{fmt.Errorf("poller: entry %d can never be published as it is: %w", of[i].Seq, why)}
			}
			if err := p.c.Rejected(ctx, of[i], why); err != nil {
				return &stopError{fmt.Errorf("poller: entry %d: %w", of[i].Seq, err)}
			}
			p.rejected.Add(1)
		}
		if passing != nil {
			return passing
		}
		var told *providers.Error
		if err == nil || !errors.As(err, &told) || !told.Refused {
			p.published.Add(int64(len(left)))
			return nil
		}
		events, of = left, leftOf // nothing was sent because of the bad ones
	}
	return nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}
