package flow

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// Drain returns when every record published so far has been decided and
// committed, by whichever instance, and what this one committed of it stands in
// Totals.
func (b *Broker) Drain(ctx context.Context) error {
	adm, err := b.engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	tick := time.NewTicker(10 * time.Millisecond) // the log has no call that waits
	defer tick.Stop()
	for {
		lag, err := b.Lag(ctx, adm)
		if err != nil {
			return err
		}
		if lag == 0 {
			// The last commit is visible a moment before it is counted.
			b.counting.Lock()
			defer b.counting.Unlock()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Handed is how many committed deliveries stand in all mailboxes.
type Handed struct {
	Deliveries int64
	Notices    int64 // of what is denied: they are not among the deliveries
}

// Delivered counts the committed deliveries that stand in all mailboxes, by
// reading them.
func (b *Broker) Delivered(ctx context.Context) (n Handed, err error) {
	topics := map[string]bool{b.topics.Deliveries(): true}
	b.control.View(func(st *registry.State) {
		for _, m := range st.Mailboxes() {
			if m.Channel == broker.KafkaChannel {
				topics[b.topics.Mailbox(string(m.ID))] = true
			}
		}
	})
	for topic := range topics {
		err := each(ctx, b.engine, topic, func(r *kgo.Record) error {
			if slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == deliver.DeniedHeader }) {
				n.Notices++
			} else {
				n.Deliveries++
			}
			return nil
		})
		if err != nil {
			return Handed{}, err
		}
	}
	return n, nil
}

// Decisions calls fn for every committed decision, partition by partition.
// header is shared by the decisions of one record of decisions; it is nil for
// single decisions, which no range accounts for.
func Decisions(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, fn func(h *deliver.BatchHeader, d *broker.Decision) error) error {
	return each(ctx, engine, topics.Decisions(), func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			_, err := deliver.DecodeSingles(r.Value, func(d *broker.Decision) error { return fn(nil, d) })
			return err
		}
		h, _, err := deliver.DecodeHeader(r.Value)
		if err != nil {
			return err
		}
		_, err = deliver.Decode(r.Value, func(d *broker.Decision) error { return fn(&h, d) })
		return err
	})
}

// each calls fn for every committed record of a topic, as it ends now.
func each(ctx context.Context, engine *kafka.Engine, topic string, fn func(*kgo.Record) error) error {
	adm, err := engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	spans, err := kafka.Spans(ctx, adm, topic)
	if err != nil {
		return err
	}
	for _, span := range spans {
		if err := engine.Each(ctx, span, fn); err != nil {
			return err
		}
	}
	return nil
}
