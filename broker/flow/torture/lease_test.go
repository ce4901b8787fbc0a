package torture_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/broker/registry"
	"datafordeler/providers/synthetic"
)

// How long a withdrawal takes under a publisher that goes as fast as it can, on
// two instances with two sessions each, while every agreement has a ceiling, and
// how many leases come in between. Nothing is timed but for the log; what is
// held is that no ceiling is exceeded (by the audit of other tests) and that
// every withdrawal gets through.
func TestBarrierTimeToBindWithCeilings(t *testing.T) {
	rnd, seed := newRand(t)
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	r.manySessions()
	g := synthetic.New(synthetic.Config{People: 100_000, Seed: seed})
	control, barrier := r.follow()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if _, err := control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		var docs []registry.Document
		for _, a := range st.Agreements() {
			b := *a
			b.Cost.Model, b.Cost.Payer, b.Cost.Ceiling = broker.PerRecord, b.Consumer, 20_000
			docs = append(docs, registry.Document{File: "torture", Kind: registry.KindAgreement, Body: &b})
		}
		plan, err := registry.NewPlan(st, docs, "torture", time.Now())
		if err != nil {
			return nil, err
		}
		return plan.Events, nil
	}); err != nil {
		t.Fatal(err)
	}
	for slot := range 2 {
		r.serve(slot, r.config)
	}
	p := r.publisher()
	stop, stopped := make(chan struct{}), make(chan error, 1)
	n := 0
	go func() {
		for {
			var items []item
			for range 1000 {
				items = append(items, item{"inntekt", g.Income(nil, n), false})
				n++
			}
			if err := p.send(ctx, items); err != nil {
				stopped <- err
				return
			}
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
		}
	}()
	running := slices.Clone(r.instances)
	if !until(time.Minute, func() bool {
		return !slices.ContainsFunc(running, func(i *instance) bool { return i.transactions() < 3 })
	}) {
		t.Fatal("not all instances are at work")
	}
	counted, changes := func() (leases, appends int) {
		last := time.Time{}
		if err := control.Log(ctx, func(_ int64, e registry.Event, accepted bool) error {
			if e.Type == registry.BudgetLeased {
				if leases++; !e.At.Equal(last) { // one append has one time
					appends++
				}
				last = e.At
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return leases, appends
	}, 2
	l0, a0 := counted()
	var accepted, bound []time.Duration
	from := time.Now()
	for range 40 {
		if changes%3 == 2 {
			changes++ // no agreements: they make the instances compile anew
		}
		begun := time.Now()
		rev := r.change(ctx, control, rnd, &changes)
		accepted = append(accepted, time.Since(begun))
		if err := barrier.Await(ctx, rev); err != nil {
			t.Fatal(err)
		}
		bound = append(bound, time.Since(begun))
	}
	took := time.Since(from)
	l1, a1 := counted()
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	for what, all := range map[string][]time.Duration{"accepted": accepted, "bound": bound} {
		slices.Sort(all)
		t.Logf("%s: median %v, 90th percentile %v, longest %v of %d", what, all[len(all)/2].Round(time.Millisecond),
			all[len(all)*9/10].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all))
	}
	t.Logf("%d lease events in %d appends within %v: %.1f and %.1f a second, rejected ones included; %d records published",
		l1-l0, a1-a0, took.Round(time.Millisecond), float64(l1-l0)/took.Seconds(), float64(a1-a0)/took.Seconds(), n)
	r.drain(2 * time.Minute)
}
