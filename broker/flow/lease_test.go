package flow

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

func foldChanges(t *rapid.T, st *registry.State, changes ...registry.Change) {
	events, err := st.Link(time.Unix(0, 0), "test", changes...)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if ok, err := st.Fold(e); err != nil || !ok {
			t.Fatalf("%s was not accepted: %v", e.Type, err)
		}
	}
}

// Partitions use a ceiling as they like, lease when they must and ahead of need,
// and then all but one fall silent. The ceiling is never exceeded; nobody who
// must wait is left short while anything is left; and when the one that goes on
// is denied, less than an eighth of the ceiling lies unused.
func TestLeasesAheadStrandLittle(t *testing.T) {
	docs, err := registry.Load("testdata/registry.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if d, ok := d.Body.(*broker.Dataset); ok {
			d.Partitions = 0 // as many as the configuration says
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		st := registry.New()
		plan, err := registry.NewPlan(st, docs, "test", time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range plan.Events {
			if _, err := st.Fold(e); err != nil {
				t.Fatal(err)
			}
		}
		var a broker.Agreement
		for _, g := range st.Agreements() {
			if g.Cost.Ceiling > 0 {
				a = *g
			}
		}
		ceiling := rapid.Int64Range(6, 100_000).Draw(t, "ceiling")
		a.Cost.Ceiling = ceiling
		put, err := registry.Put(a)
		if err != nil {
			t.Fatal(err)
		}
		foldChanges(t, st, put)

		b := &Broker{kafka: kafka.Config{SourcePartitions: rapid.Int32Range(1, 16).Draw(t, "partitions")}}
		parts := make([]*partition, b.partitionsOf(st, a.Dataset))
		for i := range parts {
			parts[i] = &partition{dataset: a.Dataset, number: int32(i), usage: map[broker.AgreementID]int64{}}
		}
		granted := func(p *partition) int64 { return st.Granted(a.ID, p.topicID, p.number) }
		asked, now := newLeaser(), time.Unix(0, 0)
		lease := func() {
			short, _ := asked.take()
			if changes := grants(st, short); len(changes) > 0 {
				foldChanges(t, st, changes...)
			}
			for _, s := range short {
				if g := st.Granted(a.ID, s.topicID, s.partition); g < s.want && st.Unleased(a.ID) > 0 {
					t.Fatalf("partition %d has %d and needs %d, though %d are left", s.partition, g, s.want, st.Unleased(a.ID))
				}
			}
		}
		transaction := func(p *partition, demand int64) (denied bool) {
			w := &work{part: p, demand: map[broker.AgreementID]int64{a.ID: demand}}
			if short := w.shortages(b, st, now, nil); len(short) > 0 {
				asked.ask(short, true)
				lease()
			}
			used := min(demand, granted(p)-p.usage[a.ID])
			if used < demand && st.Unleased(a.ID) > 0 {
				t.Fatalf("denied for the ceiling while %d are left", st.Unleased(a.ID))
			}
			usage := map[broker.AgreementID]int64{a.ID: p.usage[a.ID] + used}
			asked.ask(p.spend(b, st, now, usage, nil), false)
			p.usage = usage
			return used < demand
		}
		for range rapid.IntRange(0, 60).Draw(t, "transactions") {
			p := parts[rapid.IntRange(0, len(parts)-1).Draw(t, "partition")]
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, time.Minute}).Draw(t, "after"))
			transaction(p, rapid.Int64Range(1, 1+ceiling/20).Draw(t, "demand"))
			if rapid.Bool().Draw(t, "gathered") {
				lease()
			}
		}
		last := parts[rapid.IntRange(0, len(parts)-1).Draw(t, "last")]
		for !transaction(last, 1+ceiling/50) {
		}
		var used, unused int64
		for _, p := range parts {
			used += p.usage[a.ID]
			unused += granted(p) - p.usage[a.ID]
		}
		switch {
		case used > ceiling:
			t.Fatalf("%d delivered over a ceiling of %d", used, ceiling)
		case used+unused != ceiling:
			t.Fatalf("%d used and %d unused are not the ceiling of %d", used, unused, ceiling)
		case unused > ceiling/leaseShare:
			t.Fatalf("%d of %d lie unused", unused, ceiling)
		}
	})
}
