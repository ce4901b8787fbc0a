package flow

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
)

// Binding is how far a revision has come.
type Binding struct {
	Revision broker.Revision
	Binds    bool
	// All are the source partitions there are, Waiting those in which it does not bind
	// yet, and Pending those of them on which a transaction stands open.
	All, Waiting, Pending int
}

// Binder waits for revisions to bind, for all who wait at once: while anybody does, one
// goroutine looks at the barrier, and what it sees answers all. What waits goes on being
// looked after when its caller has given up, so that the time it took is known.
type Binder struct {
	barrier Barrier
	metrics binderMetrics
	life    context.Context
	stop    context.CancelFunc

	mu      sync.Mutex // guards all below
	waiting []*binding
	running bool
	seen    shown
	bound   broker.Revision // all up to this bind: what has bound stays so
	ended   chan struct{}   // closed when the goroutine has ended
}

// binding is one who waits. err is set before done closes.
type binding struct {
	revision broker.Revision
	kind     string
	begun    time.Time
	done     chan struct{}
	took     time.Duration
	err      error
}

type binderMetrics struct {
	seconds *prometheus.HistogramVec
	waiting prometheus.GaugeFunc
}

const (
	// bindEvery is how often the barrier is looked at: the log has no call that waits.
	bindEvery = 5 * time.Millisecond
	// bindSlowly is how often, when the oldest has waited for long.
	bindSlowly = 250 * time.Millisecond
	// bindPatience is how long a revision is looked after. The state of a change can be
	// asked for afterwards; only its time is not known then.
	bindPatience = 10 * time.Minute
	// bindMost is how many may wait.
	bindMost = 50_000
)

// ErrBinderFull says that too many wait. The change stands, and binds without being waited for.
var ErrBinderFull = errors.New("too many changes wait to bind; this one is recorded")

// NewBinder makes one. Its barrier's client is the caller's to close, after Close.
func NewBinder(b Barrier) *Binder {
	x := &Binder{barrier: b, seen: shown{}}
	x.life, x.stop = context.WithCancel(context.Background())
	x.metrics = binderMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "datafordeler", Name: "binding_seconds",
			Help:    "Seconds from when a command's change was handed over to be appended until it bound: until no delivery that relied on the old state could commit on any instance.",
			Buckets: []float64{.01, .02, .03, .05, .075, .1, .15, .2, .3, .5, 1, 2, 5, 10, 30, 60}}, []string{"kind"}),
		waiting: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "datafordeler", Name: "bindings_waiting",
			Help: "Changes that commands made and that do not bind yet, as this instance knows."}, func() float64 {
			x.mu.Lock()
			defer x.mu.Unlock()
			return float64(len(x.waiting))
		}),
	}
	return x
}

// Collectors are for main to register.
func (x *Binder) Collectors() []prometheus.Collector {
	return []prometheus.Collector{x.metrics.seconds, x.metrics.waiting}
}

// Close lets nobody wait any more.
func (x *Binder) Close() {
	x.stop()
	x.mu.Lock()
	ended := x.ended
	x.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// Await returns when rev binds, and how long that took since begun; or with ctx's error
// when that ends first. kind labels the metric: one of a closed set.
func (x *Binder) Await(ctx context.Context, rev broker.Revision, kind string, begun time.Time) (took time.Duration, err error) {
	w, err := x.watch(rev, kind, begun)
	if err != nil {
		return 0, err
	}
	select {
	case <-w.done:
		return w.took, w.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (x *Binder) watch(rev broker.Revision, kind string, begun time.Time) (*binding, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.life.Err() != nil:
		return nil, errors.New("the instance stops")
	case len(x.waiting) >= bindMost:
		return nil, ErrBinderFull
	}
	w := &binding{revision: rev, kind: kind, begun: begun, done: make(chan struct{})}
	if rev <= x.bound {
		x.settle(w, nil)
		return w, nil
	}
	x.waiting = append(x.waiting, w)
	if !x.running {
		x.running, x.ended = true, make(chan struct{})
		go x.look(x.ended)
	}
	return w, nil
}

// settle ends one's wait. The lock is held.
func (x *Binder) settle(w *binding, err error) {
	w.err = err
	if err == nil {
		w.took = time.Since(w.begun)
		x.metrics.seconds.WithLabelValues(w.kind).Observe(w.took.Seconds())
	}
	close(w.done)
}

// look is the goroutine that looks at the barrier, while anybody waits.
func (x *Binder) look(ended chan struct{}) {
	defer close(ended)
	for {
		// Nothing is bound at a revision that is later than what was known before the look.
		known := x.barrier.Control.Revision()
		all, err := x.barrier.survey(x.life)
		x.mu.Lock()
		if err == nil {
			_, low := x.seen.see(all, 0)
			if len(all) == 0 {
				low = known // there is nothing to deliver from
			}
			x.bound = max(x.bound, min(low, known))
		}
		now := time.Now()
		oldest := now
		x.waiting = slices.DeleteFunc(x.waiting, func(w *binding) bool {
			switch {
			case w.revision <= x.bound:
				x.settle(w, nil)
			case x.life.Err() != nil:
				x.settle(w, errors.New("the instance stops"))
			case now.Sub(w.begun) > bindPatience:
				x.settle(w, context.DeadlineExceeded)
			default:
				if w.begun.Before(oldest) {
					oldest = w.begun
				}
				return false
			}
			return true
		})
		if len(x.waiting) == 0 {
			x.running = false
			x.mu.Unlock()
			return
		}
		x.mu.Unlock()
		every := bindEvery
		if err != nil || now.Sub(oldest) > 5*time.Second {
			every = bindSlowly
		}
		select {
		case <-time.After(every):
		case <-x.life.Done():
		}
	}
}

// State says how far a revision has come, without waiting. It rests on what is committed
// alone, so that any instance can be asked, after any restart.
func (x *Binder) State(ctx context.Context, rev broker.Revision) (Binding, error) {
	out := Binding{Revision: rev}
	all, err := x.barrier.survey(ctx)
	if err != nil {
		return out, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	unbound, _ := x.seen.see(all, rev)
	out.All = len(all)
	if len(unbound) == 0 {
		x.bound = max(x.bound, rev)
	}
	if out.Binds = rev <= x.bound; out.Binds { // a dataset that came later does not unbind it
		return out, nil
	}
	out.Waiting = len(unbound)
	for _, u := range unbound {
		if u.Pending {
			out.Pending++
		}
	}
	return out, nil
}
