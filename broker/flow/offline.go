package flow

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/intake"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// Offline is what the broker does to the records of one source partition, without
// Kafka: it decides and encodes, and writes nothing anywhere. Benchmarks measure
// by it. It belongs to one goroutine.
type Offline struct {
	broker *Broker
	in     instant
	work   work
	part   *partition
	offset int64
}

// NewOffline compiles a state's world, the policies of all subscriptions
// included, for records of a dataset. Of o, Engine, Control and Evidence are not
// used; Now is read once.
func NewOffline(ctx context.Context, o Options, st *registry.State, ds broker.DatasetID) (*Offline, error) {
	b := New(o)
	b.deliveryBuckets.Store(o.Kafka.DeliveryBuckets)
	b.decisionPartitions.Store(o.Kafka.SourcePartitions)
	builder := builder{topics: b.topics, limits: b.limits, log: b.log}
	w, err := builder.build(st, nil)
	if err != nil {
		return nil, err
	}
	if w.datasets[ds] == nil {
		return nil, fmt.Errorf("dataset %s is not registered", ds)
	}
	for _, r := range w.routes {
		if r.prepared == nil {
			return nil, fmt.Errorf("policy could not be prepared for subscription %s", r.terms.Subscription.ID)
		}
		if err := r.prepared.Compile(ctx); err != nil {
			return nil, fmt.Errorf("compiling policy for subscription %s: %w", r.terms.Subscription.ID, err)
		}
	}
	x := &Offline{broker: b, in: instant{world: w, state: st, revision: st.Revision(), now: b.now()}}
	if x.in.period, err = b.hasher.Period(x.in.now); err != nil {
		return nil, err
	}
	x.part = &partition{topic: b.topics.Source(string(ds)), dataset: ds, topicID: broker.Digest{1}, window: intake.NewWindow(b.limits)}
	x.work.part = x.part
	return x, nil
}

// Forget empties the window of repeats, so that the same records may come again.
func (x *Offline) Forget() { x.part.window = intake.NewWindow(x.broker.limits) }

// Transaction computes the records as one transaction, sets their offsets, and
// remembers what a commit would. It returns how many decisions were made, all of
// them permits: a record that is rejected or denied is an error, since it would
// cost something else than what is measured.
func (x *Offline) Transaction(ctx context.Context, records []*kgo.Record) (decisions int64, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	for _, r := range records {
		r.Offset = x.offset
		x.offset++
	}
	w := &x.work
	w.records = append(w.records[:0], records...)
	defer w.slab.release() // not all of release: the records are the caller's
	if err := w.process(ctx, x.broker, &x.in); err != nil {
		return 0, err
	}
	x.part.window.Commit()
	x.part.next, x.part.usage = w.end(), w.batch.Usage()
	if w.tally.repeated > 0 || len(w.tally.rejected) > 0 {
		return 0, fmt.Errorf("%d records repeated, rejected %v", w.tally.repeated, w.tally.rejected)
	}
	for i := range w.tally.touched {
		s := &w.tally.touched[i]
		if len(s.denied) > 0 {
			return 0, errors.New("denied: " + string(s.denied[0].reason))
		}
		decisions += s.inScope
	}
	return decisions, nil
}

// PoliciesPending is how many subscriptions' policies are yet to be compiled: a
// measurement of what the broker does for good begins when there are none. It is 0
// before the first transaction, too.
func (b *Broker) PoliciesPending() int { return b.worlds.forms()[policy.Pending] }
