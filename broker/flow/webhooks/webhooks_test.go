package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"datafordeler/broker/kafka"
)

const partitions = 6

// rig is an engine, on which instances share a topic.
type rig struct {
	t      *testing.T
	engine *kafka.Engine
	cfg    kafka.Config

	mu      sync.Mutex
	owners  map[int32][]string // who sends for a partition now
	most    int                // at once for one
	stopped error
	changed chan struct{}
}

func newRig(t *testing.T) *rig {
	cfg := kafka.Defaults()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	e, err := kafka.Open(t.Context(), cfg, slog.New(slog.DiscardHandler), kafka.Own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return &rig{t: t, engine: e, cfg: cfg, owners: map[int32][]string{}, changed: make(chan struct{})}
}

// instance folds, and owns what it is given.
type instance struct {
	*rig
	name   string
	seen   []string
	imaged int    // partitions whose claim is committed
	bad    string // a value that it cannot read
	log    *Log
}

func (i *instance) Fold(partition int32, offset int64, value []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if string(value) == i.bad {
		return errors.New("it cannot be read")
	}
	i.seen = append(i.seen, fmt.Sprintf("%d@%d %s", partition, offset, value))
	i.wake()
	return nil
}

func (r *rig) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (i *instance) Own(ctx context.Context, partition int32, image func(int64)) {
	i.mu.Lock()
	i.owners[partition] = append(i.owners[partition], i.name)
	i.most = max(i.most, len(i.owners[partition]))
	i.mu.Unlock()
	at, err := i.log.Append(ctx, partition, []byte("claim of "+i.name))
	if err == nil {
		image(at)
	}
	i.mu.Lock()
	i.imaged++
	i.wake()
	i.mu.Unlock()
	<-ctx.Done()
	i.mu.Lock()
	i.owners[partition] = slices.DeleteFunc(i.owners[partition], func(n string) bool { return n == i.name })
	i.wake()
	i.mu.Unlock()
}

func (r *rig) start(name string) (i *instance, end func() error) {
	r.t.Helper()
	spec := r.cfg.WebhooksSpec()
	spec.Partitions = partitions
	l, err := Open(r.t.Context(), Options{Engine: r.engine, Spec: spec, Group: "g", Session: 6 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	i = &instance{rig: r, name: name, log: l, bad: "bad"}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := l.Run(ctx, i)
		r.mu.Lock()
		r.stopped = errors.Join(r.stopped, err)
		r.wake()
		r.mu.Unlock()
		ended <- err
	}()
	end = sync.OnceValue(func() error {
		stop()
		err := <-ended
		l.Close()
		return err
	})
	r.t.Cleanup(func() { _ = end() })
	return i, end
}

// await waits until something is so. The test's deadline is the only clock.
func (r *rig) await(what string, is func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	for {
		r.mu.Lock()
		ok, changed := is(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.t.Fatalf("it never came to: %s; owners %v; %v", what, r.owners, r.stopped)
		}
	}
}

func (r *rig) owns(name string) (n int) {
	for _, all := range r.owners {
		if slices.Contains(all, name) {
			n++
		}
	}
	return n
}

// Instances share the partitions, no two have the same at once, and what one leaves
// another takes up.
func TestShare(t *testing.T) {
	r := newRig(t)
	a, endA := r.start("a")
	r.await("a has all", func() bool { return r.owns("a") == partitions })
	_, endB := r.start("b")
	r.await("they share", func() bool { return r.owns("a") == partitions/2 && r.owns("b") == partitions/2 })
	if err := endA(); err != nil {
		t.Error(err)
	}
	r.await("b has all", func() bool { return r.owns("b") == partitions })
	if err := endB(); err != nil {
		t.Error(err)
	}
	if r.most != 1 {
		t.Errorf("%d sent for one partition at once", r.most)
	}
	_ = a
}

// A start reads from the last image on, and all instances what any of them writes.
func TestFold(t *testing.T) {
	r := newRig(t)
	a, endA := r.start("a")
	r.await("a has all", func() bool { return r.owns("a") == partitions })
	for n := range 3 {
		if _, err := a.log.Append(t.Context(), 0, fmt.Appendf(nil, "old %d", n), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	r.await("a folds", func() bool { return slices.Contains(a.seen, "0@6 x") })
	if err := endA(); err != nil {
		t.Fatal(err)
	}
	b, endB := r.start("b")
	r.await("b claims", func() bool { return b.imaged == partitions && slices.Contains(b.seen, "0@7 claim of b") })
	if !slices.Contains(b.seen, "0@1 old 0") || !slices.Contains(b.seen, "0@0 claim of a") {
		t.Errorf("b does not know what a wrote since its image: %v", b.seen)
	}
	if err := endB(); err != nil {
		t.Fatal(err)
	}
	c, _ := r.start("c")
	r.await("c claims", func() bool { return slices.Contains(c.seen, "0@8 claim of c") })
	if slices.Contains(c.seen, "0@1 old 0") || !slices.Contains(c.seen, "0@7 claim of b") {
		t.Errorf("c reads more, or less, than from the last image on: %v", c.seen)
	}
}

// What cannot be read ends the sending, rather than being passed over.
func TestUnreadableStops(t *testing.T) {
	r := newRig(t)
	a, end := r.start("a")
	r.await("a has all", func() bool { return r.owns("a") == partitions })
	if _, err := a.log.Append(t.Context(), 1, []byte("bad")); err != nil {
		t.Fatal(err)
	}
	r.await("nothing is sent", func() bool { return r.owns("a") == 0 })
	if err := end(); err == nil {
		t.Error("it ends without an error")
	}
}
