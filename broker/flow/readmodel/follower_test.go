package readmodel

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// start follows until stop is called.
func (r *rig) start(o Options) (f *Follower, stop func()) {
	r.t.Helper()
	f = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	r.t.Cleanup(stop)
	return f, stop
}

// failedTimes waits until it has failed so often.
func (f *Follower) failedTimes(n int) {
	for {
		f.mu.Lock()
		failed, changed := f.failed, f.changed
		f.mu.Unlock()
		if failed >= n {
			return
		}
		<-changed
	}
}

func (r *rig) caughtUp(f *Follower) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := f.CaughtUp(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) held(o Options) Content {
	r.t.Helper()
	c, _, err := Held(r.t.Context(), o.DSN)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// However it was filled, and wherever it was stopped, it holds what the log holds:
// no more, no less, as one that is made anew.
func TestStopsAndGoesOn(t *testing.T) {
	onBoth(t, func(t *testing.T, newRig func() *rig) {
		r := newRig()
		another := r.another()
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		draw := rand.New(rand.NewPCG(seed, 0))
		for range 12 {
			f, stop := r.start(r.opts)
			for range draw.IntN(5) {
				switch p := draw.Int32N(3); draw.IntN(5) {
				case 0:
					r.transaction(kgo.TryCommit, p, (p+1)%3)
				case 1:
					r.transaction(kgo.TryAbort, p)
				case 2:
					r.singles(p, broker.BackfillDecision+broker.DecisionKind(draw.IntN(3)), 1+draw.IntN(12))
				default:
					r.decide(p, 1+draw.IntN(40))
				}
			}
			if draw.IntN(2) == 0 {
				r.caughtUp(f)
			}
			stop()
			f, stop = r.start(r.opts)
			r.caughtUp(f)
			stop()
			want := r.rebuild(another)
			if got := r.held(r.opts); got != want {
				t.Fatalf("holds %+v; made anew %+v", got, want)
			}
			n := r.single
			for _, records := range r.next {
				n += decisionsOf(records)
			}
			if want.Decisions != n {
				t.Fatalf("%d decisions, of %d in the log", want.Decisions, n)
			}
		}
	})
}

// While one fills a read model, nobody else does, nor makes it anew; when it ends,
// the one that stood by goes on.
func TestOneFills(t *testing.T) {
	onBoth(t, func(t *testing.T, newRig func() *rig) {
		r := newRig()
		first, stop := r.start(r.opts)
		r.decide(0, 10)
		r.caughtUp(first)
		second, _ := r.start(r.opts)
		if _, err := Rebuild(t.Context(), r.opts, nil); !errors.Is(err, store.ErrClaimed) {
			t.Fatalf("made anew while it is filled: %v", err)
		}
		if got := r.held(r.opts); got.Decisions != 12 {
			t.Fatalf("%d decisions after that", got.Decisions)
		}
		r.decide(1, 10)
		r.caughtUp(first)
		stop()
		r.decide(2, 10)
		r.caughtUp(second)
		if got, want := r.held(r.opts), r.rebuild(r.another()); got != want {
			t.Errorf("holds %+v; made anew %+v", got, want)
		}
		if n := r.logged("not being filled"); n != 0 {
			t.Errorf("standing by was logged %d times as an error", n)
		}
	})
}

// A read model that cannot be opened is said once, tried again, and filled when it can be.
func TestTriesAgain(t *testing.T) {
	r := newRig(t, onSQLite(t))
	o := r.opts
	dir := filepath.Join(t.TempDir(), "folder")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	o.DSN = "sqlite:" + filepath.Join(dir, "read.db")
	f, _ := r.start(o)
	r.decide(0, 10)
	f.failedTimes(3)
	f.mu.Lock()
	why := f.err
	f.mu.Unlock()
	if why == nil || !strings.Contains(why.Error(), "folder") {
		t.Errorf("it says %v", why)
	}
	if n := r.logged("not being filled"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	r.caughtUp(f)
	if got := r.held(o); got.Decisions != 12 {
		t.Errorf("%d decisions", got.Decisions)
	}
}

// A decision under an agreement that this instance has not folded yet waits for it.
func TestWaitsForTheRegistry(t *testing.T) {
	onBoth(t, func(t *testing.T, newRig func() *rig) {
		r := newRig()
		r.write(0, r.encode(0, 5, r.rev+1))
		r.decide(1, 5)
		s, err := store.Open(t.Context(), r.opts.DSN)
		if err != nil {
			t.Fatal(err)
		}
		in, err := openFeed(t.Context(), &r.opts, s, nil)
		for err == nil && len(in.batches) < 2 {
			err = in.next(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := in.apply(ctx); err == nil || !strings.Contains(err.Error(), "waiting for revision") {
			t.Errorf("it does not wait for the revision that they name: %v", err)
		}
		in.close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f, _ := r.start(r.opts)
		_, err = r.opts.Control.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
			put, err := registry.Put(broker.Organisation{Number: "964338531", Name: "Prøve"})
			if err != nil {
				return nil, err
			}
			return st.Link(r.now, "test", put)
		})
		if err != nil {
			t.Fatal(err)
		}
		r.caughtUp(f)
		if got := r.held(r.opts); got.Decisions != 12 {
			t.Errorf("%d decisions", got.Decisions)
		}
	})
}

// A read model of another log is not filled further, and says what to do.
func TestAnotherLog(t *testing.T) {
	onBoth(t, func(t *testing.T, newRig func() *rig) {
		old, r := newRig(), newRig()
		old.decide(0, 5)
		old.decide(0, 5)
		old.rebuild(r.opts.withLog(old))
		r.now = r.now.Add(time.Hour)
		for range 3 {
			r.decide(0, 5)
		}
		f, stop := r.start(r.opts)
		f.failedTimes(1)
		stop()
		if !errors.Is(f.err, ErrOtherLog) {
			t.Errorf("%v", f.err)
		}
		if got := r.rebuild(r.opts); got.Decisions != 18 {
			t.Errorf("made anew, it holds %d decisions", got.Decisions)
		}
	})
}

// One that has read further than the log goes, or whose log begins after it, or has
// lost just what it holds, is not filled further either.
func TestLogIsShort(t *testing.T) {
	says := func(r *rig, o Options, text string) {
		t.Helper()
		f, stop := r.start(o)
		f.failedTimes(1)
		stop()
		if !errors.Is(f.err, ErrOtherLog) || !strings.Contains(f.err.Error(), text) {
			t.Errorf("%v, want %q", f.err, text)
		}
	}
	old, r := newRig(t, onSQLite(t)), newRig(t, onSQLite(t))
	for range 3 {
		old.decide(0, 5)
	}
	old.rebuild(r.opts.withLog(old))
	r.decide(0, 5)
	says(r, r.opts, "up to offset 3, and the topic ends at 1")
	// Nor does a comparison wait for what is not in the log.
	if _, err := Again(t.Context(), r.another(), map[int32]int64{0: 3}, nil); !errors.Is(err, ErrOtherLog) {
		t.Errorf("compared up to offset 3: %v", err)
	}

	adm := kadm.NewClient(old.client)
	for _, c := range []struct {
		begin int64
		says  string
	}{{3, "cannot be looked up"}, {4, "up to offset 3, and the topic begins at 4"}} {
		del := kadm.Offsets{}
		del.Add(kadm.Offset{Topic: old.cfg.Topics().Decisions(), At: c.begin})
		old.decide(0, 5)
		if _, err := adm.DeleteRecords(t.Context(), del); err != nil {
			t.Fatal(err)
		}
		says(old, r.opts.withLog(old), c.says)
	}
}

// Behind counts what is not in it yet.
func TestBehind(t *testing.T) {
	onBoth(t, func(t *testing.T, newRig func() *rig) {
		r := newRig()
		r.transaction(kgo.TryCommit, 0, 1)
		r.rebuild(r.opts)
		check := func(want int64) {
			t.Helper()
			s, err := store.Open(t.Context(), r.opts.DSN)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if n, exact, err := Behind(t.Context(), r.opts, s); n != want || !exact || err != nil {
				t.Errorf("behind by %d, %v, %v; want %d", n, exact, err, want)
			}
		}
		check(0) // though the marker lies behind what it read
		r.transaction(kgo.TryCommit, 0, 1)
		r.transaction(kgo.TryAbort, 2)
		check(2)
	})
}

// One that stands by has no lag, whatever it knew when it filled: an alarm on it
// would never end.
func TestNoLagWhileStandingBy(t *testing.T) {
	r := newRig(t, onSQLite(t))
	f, stop := r.start(r.opts)
	r.decide(0, 10)
	r.caughtUp(f)
	if places, _ := f.lag(); places != 0 {
		t.Errorf("level, %d places behind", places)
	}
	stop()
	claim, err := store.TakeClaim(t.Context(), r.opts.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Release()
	f.mu.Lock()
	f.ends[0] = f.applied[0] + 5
	f.mu.Unlock()
	if places, behind := f.lag(); places < 5 || behind <= 0 {
		t.Errorf("%d places behind, for %v", places, behind)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(ctx) }()
	f.failedTimes(1)
	r.decide(0, 10)
	if places, behind := f.lag(); places != 0 || behind != 0 {
		t.Errorf("another fills it, and this one is %d places behind, for %v", places, behind)
	}
	cancel()
	<-ended
}
