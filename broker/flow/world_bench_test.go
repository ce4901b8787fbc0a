package flow

import (
	"strconv"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/registry"
)

// BenchmarkAgreementChange is the time from the event that changes an agreement
// to its compiled form in force: fold, world, policy.
func BenchmarkAgreementChange(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			x := newProcessBench(b, bench.Scenario{Subscriptions: n, Fanout: 1})
			st, w := x.in.state, x.in.world
			builder := builder{topics: x.b.topics, limits: x.b.limits, log: x.b.log, engine: x.engine}
			changes := 0
			id := st.AllTerms()[0].Agreement.ID
			at := x.in.now
			for b.Loop() {
				var a broker.Agreement
				for _, have := range st.Agreements() {
					if have.ID == id {
						a = *have
					}
				}
				a.Valid.To = at.AddDate(10, 0, changes)
				changes++
				change, err := registry.Put(a)
				if err != nil {
					b.Fatal(err)
				}
				events, err := st.Link(at, "bench", change)
				if err != nil {
					b.Fatal(err)
				}
				if ok, err := st.Fold(events[0]); !ok || err != nil {
					b.Fatal(ok, err)
				}
				if w, err = builder.build(st, w); err != nil {
					b.Fatal(err)
				}
				if len(w.fresh) != 1 {
					b.Fatalf("%d subscriptions are new", len(w.fresh))
				}
				if err := w.fresh[0].prepared.Compile(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/change")
		})
	}
}
