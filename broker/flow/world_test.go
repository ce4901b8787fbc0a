package flow

import (
	"log/slog"
	"testing"
	"time"

	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// What a new world keeps of the last is what has not changed, and nothing else: a
// policy decides for nothing after another was activated, and a dataset that is
// declared anew has its schemas read anew, and its attributes found at their new
// places, or shielding would ask for the wrong one.
func TestWorldKeepsWhatHasNotChanged(t *testing.T) {
	st := registry.New()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	fold := func(events []registry.Event, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if ok, err := st.Fold(e); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
	}
	docs, err := registry.Load("testdata/registry.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := registry.NewPlan(st, docs, "test", now)
	if err != nil {
		t.Fatal(err)
	}
	fold(plan.Events, nil)
	activate := func(b policy.Bundle) {
		fold(st.Link(now, "test", registry.ActivatePolicy(registry.Policy{Digest: b.Digest(), Modules: b.Modules})))
	}
	b := builder{topics: kafka.Defaults().Topics(), limits: intake.Defaults(), log: slog.New(slog.DiscardHandler)}
	build := func(old *world) *world {
		t.Helper()
		w, err := b.build(st, old)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	activate(policy.Embedded())
	first := build(nil)

	same := build(first)
	for terms, r := range same.routes {
		if first.routes[terms] != r {
			t.Errorf("%s: nothing has changed, and it was made anew", terms.Subscription.ID)
		}
	}
	if len(same.fresh) > 0 {
		t.Errorf("%d subscriptions are to be compiled again", len(same.fresh))
	}

	activate(lenient(t))
	second := build(same)
	for terms, r := range second.routes {
		if old := same.routes[terms]; old != nil && r.prepared == old.prepared {
			t.Errorf("%s is decided for by the policy before", terms.Subscription.ID)
		}
	}

	d := *st.Datasets()[0]
	d.Attributes = append(d.Attributes[1:2:2], d.Attributes[0])
	change, err := registry.Put(d)
	if err != nil {
		t.Fatal(err)
	}
	fold(st.Link(now, "test", change))
	third := build(second)
	if third.datasets[d.ID] == second.datasets[d.ID] {
		t.Error("records are held to the dataset as it was declared before")
	}
	for terms, r := range third.routes {
		for _, old := range second.routes {
			if r.projection == old.projection {
				t.Errorf("%s: attributes are looked for at their places before", terms.Subscription.ID)
			}
		}
	}
}
