package positions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/store"
	index "datafordeler/broker/store/positions"
)

// Options say which log fills which index.
type Options struct {
	// Path is the index's file. It is this instance's alone.
	Path    string
	Engine  *kafka.Engine
	Topics  kafka.Topics
	Control *flow.Control
	// Hasher is the one that intake hashes with.
	Hasher intake.Hasher
	Log    *slog.Logger
}

// Follower keeps an index filled, and answers from it.
type Follower struct {
	Options
	metrics *metrics
	latest  *kafka.Ends // where the decisions end

	using sync.RWMutex // held for reading while the index is asked
	index *index.Index // nil where there is none open

	mu      sync.Mutex      // guards all below
	applied map[int32]int64 // how far the log is in the index, markers included; nil before a session
	ends    map[int32]int64 // where the log was last seen to end
	level   time.Time       // when it last held all
	err     error           // why it is not being filled, or nil
	failed  int             // times that it failed
	rebuilt int             // times that it was emptied
	changed chan struct{}   // closed and replaced when anything above changes
}

// New makes a follower; Run makes it follow.
func New(o Options) *Follower {
	f := &Follower{Options: o, latest: kafka.NewEnds(o.Engine, o.Topics.Decisions()), changed: make(chan struct{})}
	f.metrics = newMetrics(f)
	return f
}

// ErrClosed: the index is not open: it has not begun, or has failed and is being
// tried again.
var ErrClosed = errors.New("the index of positions is not open yet")

// Current returns the newest current records on a subject in a dataset, newest
// first, at most so many: see the index's. What was decided moments ago may be
// missing; after Latest it is not.
func (f *Follower) Current(ctx context.Context, dataset broker.DatasetID, subject broker.SubjectKey, bound index.Bound, most int) ([]index.Entry, error) {
	f.using.RLock()
	defer f.using.RUnlock()
	if f.index == nil {
		return nil, ErrClosed
	}
	return f.index.Current(ctx, dataset, subject, bound, most)
}

// Earlier follows a chain from an event back to its original: see the index's.
func (f *Follower) Earlier(ctx context.Context, dataset broker.DatasetID, subject broker.SubjectKey, of broker.EventHash) ([]index.Link, bool, error) {
	f.using.RLock()
	defer f.using.RUnlock()
	if f.index == nil {
		return nil, false, ErrClosed
	}
	return f.index.Earlier(ctx, dataset, subject, of)
}

// Next is the first offset of a source partition that is not in the index, 0 where
// it knows nothing of the partition.
func (f *Follower) Next(topicID broker.Digest, partition int32) int64 {
	f.using.RLock()
	defer f.using.RUnlock()
	if f.index == nil {
		return 0
	}
	return f.index.Next(topicID, partition)
}

// tick is how often the end of the log is looked up, for the metrics of lag.
const tick = time.Second

// Run follows until ctx ends. Whatever fails is logged when it begins to fail, and
// tried again, at first soon and then every ten seconds.
func (f *Follower) Run(ctx context.Context) {
	watching, stop := context.WithCancel(ctx)
	var watched sync.WaitGroup
	watched.Go(func() { f.watch(watching) })
	defer func() { stop(); watched.Wait(); f.latest.Close() }()
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
		f.metrics.errors.Inc()
		if !failing {
			f.Log.Error("the index of positions is not being filled: lookups and backfill wait until it is; routing goes on", "err", err)
		}
		failing = true
		f.update(func() { f.err, f.failed, f.applied = err, f.failed+1, nil })
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, most)
	}
}

// session opens the index and fills it until something fails.
func (f *Follower) session(ctx context.Context) (err error) {
	claim, err := store.TakeClaim(ctx, "sqlite:"+f.Path)
	if errors.Is(err, store.ErrClaimed) {
		return fmt.Errorf("another process has the index %s open: give each instance its own file", f.Path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, claim.Release()) }()
	in, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	f.use(in.index)
	defer f.use(nil) // before it is closed
	f.update(func() { f.applied = maps.Clone(in.from) })
	for {
		if err := in.next(ctx); err != nil {
			return err
		}
		n, err := in.apply(ctx)
		if err != nil {
			return err
		}
		f.metrics.records.Add(float64(n))
		f.update(func() {
			f.err = nil
			for p := range f.applied {
				f.applied[p] = in.read(p)
			}
		})
		if err := in.tidy(ctx); err != nil {
			return err
		}
	}
}

// use hands the index to those who ask; it returns when none asks another one.
func (f *Follower) use(x *index.Index) {
	f.using.Lock()
	f.index = x
	f.using.Unlock()
}

func (f *Follower) update(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	if f.applied != nil && f.ends != nil && f.lagLocked() == 0 {
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
		case <-time.After(tick):
		}
	}
}

func (f *Follower) lagLocked() (lag int64) {
	for p, end := range f.ends {
		lag += max(0, end-f.applied[p])
	}
	return lag
}

// lag is how far behind the log the index is: in places of the topic of decisions,
// which are its records and the markers of transactions; and since when.
func (f *Follower) lag() (places int64, behind time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if places = f.lagLocked(); places == 0 || f.level.IsZero() {
		return places, 0
	}
	return places, max(0, time.Since(f.level))
}
