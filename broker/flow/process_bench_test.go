package flow

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// processBench is one partition's part of a transaction, without Kafka.
type processBench struct {
	b       *Broker
	in      *instant
	work    *work
	records []*kgo.Record
	offset  int64
	engine  *policy.Engine
}

const processRecords = 5_000

func newProcessBench(b *testing.B, s bench.Scenario) *processBench {
	s.Records, s.Seed = processRecords, 1
	ring := keys.NewTest(1)
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	st := registry.New()
	fold := func(events []registry.Event, err error) {
		for _, e := range events {
			if accepted, foldErr := st.Fold(e); foldErr != nil || !accepted {
				b.Fatal(accepted, foldErr)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	active := policy.Embedded()
	fold(st.Link(now, "bench", registry.ActivatePolicy(registry.Policy{Digest: active.Digest(), Modules: active.Modules})))
	docs, err := s.Documents()
	if err != nil {
		b.Fatal(err)
	}
	plan, err := registry.NewPlan(st, docs, "bench", now)
	if err != nil {
		b.Fatal(err)
	}
	fold(plan.Events, nil)
	fold(st.Link(now, "bench", s.Consents(ring, 0, s.Records)...))

	log := slog.New(slog.DiscardHandler)
	limits := intake.Defaults()
	limits.Window = processRecords - 1 // so that the same records are no repeats in the next transaction
	x := &processBench{b: New(Options{Config: Defaults(), Kafka: kafka.Defaults(), Intake: limits, Hasher: ring, Log: log})}
	x.b.deliveryBuckets.Store(16)
	x.b.decisionPartitions.Store(6)
	builder := builder{topics: x.b.topics, limits: limits, log: log}
	w, err := builder.build(st, nil)
	if err != nil {
		b.Fatal(err)
	}
	x.engine = builder.engine
	for _, r := range w.fresh {
		if err := r.prepared.Compile(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	x.in = &instant{world: w, state: st, revision: st.Revision(), now: now}
	if x.in.period, err = ring.Period(now); err != nil {
		b.Fatal(err)
	}
	messages, _ := s.Messages(x.b.topics.Source(string(bench.Dataset)), 0, s.Records)
	for _, m := range messages {
		r := &kgo.Record{Topic: m.Topic, Value: m.Value, Timestamp: now}
		for _, k := range slices.Sorted(maps.Keys(m.Headers)) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(m.Headers[k])})
		}
		x.records = append(x.records, r)
	}
	x.work = &work{part: &partition{topic: messages[0].Topic, dataset: bench.Dataset, topicID: broker.Digest{1}, window: intake.NewWindow(limits)}}
	return x
}

// transaction processes all records once, commits what that remembers, and
// releases the rest.
func (x *processBench) transaction(b *testing.B) {
	for _, r := range x.records {
		r.Offset = x.offset
		x.offset++
	}
	x.work.records = append(x.work.records[:0], x.records...)
	if err := x.work.process(context.Background(), x.b, x.in); err != nil {
		b.Fatal(err)
	}
	if x.work.tally.repeated > 0 || len(x.work.tally.rejected) > 0 {
		b.Fatal("repeated or rejected: ", x.work.tally)
	}
	x.work.part.window.Commit()
	x.work.part.next = x.work.end()
	x.work.part.usage = maps.Clone(x.work.batch.Usage())
	x.work.release()
}

// BenchmarkProcess is the whole of a record but Kafka, a transaction of 5,000 at
// a time. The ns/op is of a transaction; ns/record is what to read.
func BenchmarkProcess(b *testing.B) {
	for _, c := range []struct {
		name string
		s    bench.Scenario
	}{
		{"statute", bench.Scenario{Subscriptions: 357, Fanout: 1}},
		{"statute/one", bench.Scenario{Subscriptions: 1, Fanout: 1}},
		{"statute/fanout=10", bench.Scenario{Subscriptions: 3570, Fanout: 10}},
		{"consent", bench.Scenario{Subscriptions: 357, Fanout: 1, ConsentShare: 1}},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := newProcessBench(b, c.s)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				x.transaction(b)
				n += processRecords
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
		})
	}
}
