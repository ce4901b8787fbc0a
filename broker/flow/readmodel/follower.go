package readmodel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/store"
)

// Options say which log fills which read model.
type Options struct {
	// DSN names the read model, as for store.Open.
	DSN     string
	Engine  *kafka.Engine
	Topics  kafka.Topics
	Control *flow.Control
	Log     *slog.Logger
}

// Follower keeps a read model filled, or stands by while another does.
type Follower struct {
	Options
	metrics *metrics

	mu      sync.Mutex      // guards all below
	applied map[int32]int64 // how far the log is in the read model, markers included; nil before a session
	ends    map[int32]int64 // where the log was last seen to end
	newest  time.Time       // of the decisions in the read model, the latest that this one applied
	level   time.Time       // when it last held all
	err     error           // why it is not being filled, or nil
	failed  int             // times that it failed
	changed chan struct{}   // closed and replaced when anything above changes
}

// New makes a follower; Run makes it follow.
func New(o Options) *Follower {
	f := &Follower{Options: o, changed: make(chan struct{})}
	f.metrics = newMetrics(f)
	return f
}

// standBy is how often one that stands by looks whether its turn has come, and how
// often the end of the log is looked up.
const standBy = time.Second

// Run follows until ctx ends. Whatever fails is logged when it begins to fail, and
// tried again, at first soon and then every ten seconds.
func (f *Follower) Run(ctx context.Context) {
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		f.watch(watching)
	}()
	defer func() { stop(); <-watched }()
	const most = 10 * time.Second
	wait := 100 * time.Millisecond
	for failing := false; ; {
		begun := time.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > 2*most { // it had gone well
			wait, failing = 100*time.Millisecond, false
		}
		pause := standBy
		if !errors.Is(err, store.ErrClaimed) {
			f.metrics.errors.Inc()
			if !failing {
				f.Log.Error("the read model is not being filled: searches will lag until it is; deliveries go on", "err", err)
			}
			failing = true
			pause, wait = wait, min(2*wait, most)
		}
		f.update(func() {
			f.err, f.failed = err, f.failed+1
			if errors.Is(err, store.ErrClaimed) {
				f.applied = nil // another goes on from there: how far, this one does not know
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// session opens the read model and fills it until something fails.
func (f *Follower) session(ctx context.Context) (err error) {
	claim, err := store.TakeClaim(ctx, f.DSN)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, claim.Release()) }()
	s, err := store.Open(ctx, f.DSN)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	in, err := openFeed(ctx, &f.Options, s, nil)
	if err != nil {
		return err
	}
	defer in.close()
	f.metrics.filling.Set(1)
	defer f.metrics.filling.Set(0)
	f.update(func() { f.applied = maps.Clone(in.from) })
	for {
		if err := in.next(ctx); err != nil {
			return err
		}
		if err := claim.Check(ctx); err != nil {
			return err
		}
		n := in.decisions
		if err := in.apply(ctx); err != nil {
			return err
		}
		f.metrics.decisions.Add(float64(n))
		f.update(func() {
			f.err, f.newest = nil, in.newest
			for p := range f.applied {
				f.applied[p] = in.read(p)
			}
		})
	}
}

func (f *Follower) update(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	if f.lagLocked() == 0 && f.applied != nil && f.ends != nil {
		f.level = time.Now()
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// watch looks up where the log ends.
func (f *Follower) watch(ctx context.Context) {
	adm, err := f.Engine.Admin()
	if err != nil {
		return // the session fails too, and says so
	}
	defer adm.Close()
	topic := f.Topics.Decisions()
	for {
		if ends, err := kafka.CommittedEnds(ctx, adm, topic); err == nil {
			f.update(func() { f.ends = ends[topic] })
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(standBy):
		}
	}
}

// lagLocked is how many places of the log are not in the read model. Where another
// instance fills it, this one does not know.
func (f *Follower) lagLocked() (lag int64) {
	if f.applied == nil {
		return 0
	}
	for p, end := range f.ends {
		lag += max(0, end-f.applied[p])
	}
	return lag
}

// lag is how far behind the log the read model is: in places of the log, which are
// records of decisions and the markers of transactions; and since when.
func (f *Follower) lag() (places int64, behind time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if places = f.lagLocked(); places == 0 {
		return 0, 0
	}
	// What it holds ends at the newest decision applied. After an idle hour that
	// is old, and it was level until a moment ago.
	since := f.level
	if f.newest.After(since) {
		since = f.newest
	}
	if since.IsZero() {
		return places, 0
	}
	return places, max(0, time.Since(since))
}

// CaughtUp waits until the read model holds all that is committed now. When ctx
// ends first, the error says why it is not filled, if that is known.
func (f *Follower) CaughtUp(ctx context.Context) error {
	adm, err := f.Engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	topic := f.Topics.Decisions()
	ends, err := kafka.CommittedEnds(ctx, adm, topic)
	if err != nil {
		return err
	}
	for {
		f.mu.Lock()
		behind, err, changed := int64(0), f.err, f.changed
		for p, end := range ends[topic] {
			behind += max(0, end-f.applied[p])
		}
		f.mu.Unlock()
		switch {
		case behind == 0:
			return nil
		case errors.Is(err, ErrOtherLog): // no waiting mends that
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the read model is %d places of the log behind: %w", behind, ctx.Err()), err)
		}
	}
}
