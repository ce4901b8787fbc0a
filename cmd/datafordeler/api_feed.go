package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// addFeeds adds the feeds of mailboxes to the API.
func (d *doors) addFeeds() (more []prometheus.Collector, end func(), err error) {
	ctx := d.node.life
	if err := d.broker.EnsureTopics(ctx); err != nil {
		return nil, nil, err
	}
	tail, err := d.node.engine.Tail(ctx, d.node.cfg.Topics().Deliveries(), kafka.TailOptions{KeyHeader: "ce_mailbox"})
	if err != nil {
		return nil, nil, err
	}
	d.log = &deliveries{tail}
	feeds := d.server.RegisterFeeds(web.FeedOptions{
		Deliveries: d.log,
		Door:       &doorkeeper{d.broker.Doorkeeper()},
		Mailbox:    d.node.mailbox,
		Frozen:     d.node.frozenMailbox,
	})
	return feeds.Collectors(), tail.Close, nil
}

func (n *node) frozenMailbox(m broker.MailboxID) (why string) {
	n.control.View(func(st *registry.State) {
		for _, f := range st.FrozenBy(registry.FreezeMailbox, string(m)) {
			why = f.Why
		}
	})
	return why
}

func (n *node) mailbox(m broker.MailboxID) (found *broker.Mailbox) {
	n.control.View(func(st *registry.State) { found = st.Mailbox(m) })
	return found
}

// deliveries is the log that feeds read: one tail of it for all of them.
type deliveries struct{ tail *kafka.Tail }

func (l *deliveries) Topic() [16]byte { return l.tail.ID() }

func (l *deliveries) Partition(m broker.MailboxID) int32 {
	return broker.Bucket(m, l.tail.Partitions())
}

// Read picks one mailbox's deliveries out of its bucket.
func (l *deliveries) Read(ctx context.Context, m broker.MailboxID, from int64, most, bytes int, wait time.Duration) (ds []web.Delivery, next int64, more bool, err error) {
	records, next, more, err := l.tail.ReadKey(ctx, l.Partition(m), string(m), from, most, bytes, wait)
	if err != nil {
		return nil, next, false, offsetError(err)
	}
	if len(records) == 0 {
		return nil, next, more, nil
	}
	ds = make([]web.Delivery, len(records))
	for i, r := range records {
		d := web.Delivery{Offset: r.Offset, Value: r.Value, Headers: make([]web.Header, len(r.Headers))}
		for k := range r.Headers {
			d.Headers[k] = web.Header(r.Headers[k])
		}
		ds[i] = d
	}
	return ds, next, more, nil
}

// offsetError is the log's word for what a cursor asks too much of.
func offsetError(err error) error {
	if gone, ok := errors.AsType[*kafka.GoneError](err); ok {
		return &web.OffsetError{Newer: gone.End >= 0 && gone.Offset > gone.End}
	}
	return err
}

// Bounds and After are asked by who has no cursor yet.
func (l *deliveries) Bounds(ctx context.Context, m broker.MailboxID) (oldest, next int64, err error) {
	return l.tail.Bounds(ctx, l.Partition(m))
}

func (l *deliveries) After(ctx context.Context, m broker.MailboxID, at time.Time) (int64, error) {
	return l.tail.After(ctx, l.Partition(m), at)
}

// doorkeeper puts deliveries to policy again. What cannot be read is withheld.
type doorkeeper struct{ keeper *flow.Doorkeeper }

func (k *doorkeeper) Admit(ctx context.Context, m broker.MailboxID, ds []web.Delivery) ([]bool, error) {
	held := make([]flow.Held, len(ds))
	decisions := make([]broker.DecisionID, len(ds))
	for i := range ds {
		held[i], decisions[i] = heldOf(&ds[i])
		held[i].Mailbox = m
	}
	outcomes, err := k.keeper.Admit(ctx, held, decisions)
	if err != nil {
		return nil, heldBack(err)
	}
	permits := make([]bool, len(ds))
	for i, o := range outcomes {
		permits[i] = o != nil && o.Permit
	}
	return permits, nil
}

// heldOf reads what the law rests on from a delivery's headers. Where one is missing
// or damaged, what comes out names no subscription, and policy denies that.
func heldOf(d *web.Delivery) (h flow.Held, decision broker.DecisionID) {
	known := false
	for _, x := range d.Headers {
		switch x.Key {
		case "ce_subscription":
			h.Subscription = broker.SubscriptionID(x.Value)
		case "ce_agreement":
			h.Agreement = broker.AgreementID(x.Value)
		case "ce_dataset":
			h.Dataset = broker.DatasetID(x.Value)
		case "ce_decision":
			decision, _ = broker.ParseDigest(string(x.Value)) // for the log
		case "ce_recordkind":
			switch string(x.Value) {
			case broker.Original.String():
				h.Kind = broker.Original
			case broker.Correction.String():
				h.Kind = broker.Correction
			case broker.Retraction.String():
				h.Kind = broker.Retraction
			default:
				return flow.Held{}, decision
			}
		case deliver.DeniedHeader:
			h.Told = string(x.Value) == "true"
		case deliver.DoorHeader:
			var err error
			if h.Door, err = deliver.ReadDoor(x.Value); err != nil {
				return flow.Held{}, decision
			}
			known = true
		}
	}
	if !known {
		return flow.Held{}, decision
	}
	return h, decision
}
