// Package subscriber makes a mailbox part of a Watermill router: its deliveries are
// messages, over Kafka or HTTP, whichever the receiver is made for.
package subscriber

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"datafordeler/broker"
	"datafordeler/consumers"
)

// Metadata of each message, beside its UUID, which is the delivery's id, and its
// payload, which is the delivered fields.
const (
	Mailbox      = "mailbox"
	Subscription = "subscription"
	Agreement    = "agreement"
	Decision     = "decision"
	Dataset      = "dataset"
	Provider     = "provider"
	Type         = "type"
	Kind         = "recordkind"
	Of           = "of"       // of corrections and retractions
	Notice       = "notice"   // "true" where only that is told, and the payload is null
	Denied       = "denied"   // "true" on a notice that comes although the right to the data has ended
	Backfill     = "backfill" // "true" where it was published before the subscription was owed it
)

// Subscriber hands over one message at a time: the next comes when the one before
// was acknowledged, and one that was not comes again at once. It keeps checkpoints
// as its receiver's configuration says.
type Subscriber struct {
	config consumers.Config
	failed func(broker.MailboxID, error)

	mu     sync.Mutex
	closed bool // guarded by mu
	ends   []context.CancelFunc
	under  sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// New makes a subscriber. The topic that Watermill names is the mailbox; config's
// own Mailbox is left out. failed, which may be nil, is told why a subscription
// ended that nobody had ended.
func New(config consumers.Config, failed func(broker.MailboxID, error)) *Subscriber {
	config.Follow = true
	return &Subscriber{config: config, failed: failed}
}

// Subscribe begins to receive a mailbox, until ctx ends, Close, or a failure. Two
// subscriptions to one mailbox need a checkpoint store each.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	config := s.config
	config.Mailbox = broker.MailboxID(topic)
	r, err := consumers.New(config)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the subscriber was closed")
	}
	ctx, cancel := context.WithCancel(ctx)
	s.ends = append(s.ends, cancel)
	out := make(chan *message.Message)
	s.under.Go(func() {
		defer cancel()
		defer close(out)
		err := r.Receive(ctx, func(ctx context.Context, d consumers.Delivery) error { return hand(ctx, out, &d) })
		if err != nil && ctx.Err() == nil && s.failed != nil {
			s.failed(config.Mailbox, err)
		}
	})
	return out, nil
}

// hand offers a message until it is acknowledged.
func hand(ctx context.Context, out chan<- *message.Message, d *consumers.Delivery) error {
	for {
		m := message.NewMessage(d.ID.String(), d.Data)
		of, cancel := context.WithCancel(ctx)
		m.SetContext(of)
		m.Metadata = message.Metadata{
			Mailbox: string(d.Mailbox), Subscription: string(d.Subscription), Agreement: string(d.Agreement), Decision: d.Decision.String(),
			Dataset: string(d.Dataset), Provider: string(d.Provider), Type: d.Type, Kind: d.Kind.String(),
		}
		if !d.Of.IsZero() {
			m.Metadata.Set(Of, d.Of.String())
		}
		if d.Notice {
			m.Metadata.Set(Notice, "true")
		}
		if d.Denied {
			m.Metadata.Set(Denied, "true")
		}
		if d.Backfill {
			m.Metadata.Set(Backfill, "true")
		}
		select {
		case out <- m:
		case <-ctx.Done():
			cancel()
			return ctx.Err()
		}
		select {
		case <-m.Acked():
			cancel()
			return nil
		case <-m.Nacked():
			cancel()
		case <-ctx.Done():
			cancel()
			// It may have been acknowledged as the subscription ended.
			select {
			case <-m.Acked():
				return nil
			default:
				return ctx.Err()
			}
		}
	}
}

// Close ends all subscriptions, and returns when their checkpoints are kept.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, end := range s.ends {
		end()
	}
	s.mu.Unlock()
	s.under.Wait()
	return nil
}
