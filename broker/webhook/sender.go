package webhook

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/broker/webhook/scheme"
)

// Control is the registry, as it is folded here.
type Control interface {
	View(func(*registry.State))
	Append(ctx context.Context, plan func(*registry.State) ([]registry.Event, error)) (broker.Revision, error)
	Latest(ctx context.Context) (broker.Revision, error)
	Changed() <-chan struct{}
}

// Journal is the topic webhooks.
type Journal interface {
	// Append writes records of one partition, durably and in order, and returns the
	// offset of the last. After an error some may stand there.
	Append(ctx context.Context, partition int32, values ...[]byte) (last int64, err error)
}

// Keys makes the keys that a mailbox's messages are signed with.
type Keys interface {
	Webhook(use string, m broker.MailboxID, generation int) []byte
}

// Options are what a Sender needs.
type Options struct {
	Config  Config
	Guard   *Guard // nil: of the configuration
	Log     *slog.Logger
	Control Control
	Journal Journal
	Keys    Keys
	Door    web.Doorkeeper
	// Deliveries is the log that is sent from.
	Deliveries web.Deliveries
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Transport calls endpoints in tests; nil is the guard's.
	Transport http.RoundTripper
}

// Sender sends deliveries to the endpoints of mailboxes, and is the owners' hand on
// them. Its methods may be called from several goroutines.
type Sender struct {
	Options
	metrics metrics
	book    *book
	client  *http.Client
	out     chan *message.Message // to the router
	now     func() time.Time
	lot     func() float64

	mu      sync.Mutex // guards what follows
	holding map[broker.MailboxID]int
}

// New makes a sender. It sends nothing before Run and Own.
func New(o Options) *Sender {
	if o.Guard == nil {
		o.Guard = NewGuard(o.Config)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sender{Options: o, book: newBook(), client: o.Guard.Client(o.Config.Timeout), out: make(chan *message.Message), now: o.Now, lot: mathrand.Float64,
		holding: map[broker.MailboxID]int{}}
	if o.Transport != nil {
		s.client.Transport = o.Transport
	}
	s.metrics = newMetrics(s)
	return s
}

// Fold takes the next record of a partition of the topic webhooks, on every instance.
// An error is that this instance must send nothing.
func (s *Sender) Fold(partition int32, offset int64, value []byte) error {
	return s.book.fold(partition, offset, value)
}

// What a handler's error means to the router and the queue.
var (
	errAgain     = errors.New("to be tried again")
	errExhausted = errors.New("tried as often as it is")
)

// poisonTopic is a name for Watermill: the publisher knows where the poison is.
const poisonTopic = "poison"

// Run is Watermill's router: it takes messages from the mailboxes' queues, which are
// its subscriber, hands each to send in a goroutine of its own, and those that were
// tried often enough to the poison, which is its publisher. It ends with ctx.
func (s *Sender) Run(ctx context.Context) error {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: s.Config.Timeout + 5*time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	router.AddMiddleware(poisonQueue(poisoner{s}))
	router.AddConsumerHandler("webhooks", "deliveries", source{s}, s.send)
	return router.Run(ctx)
}

// poisonQueue is the middleware that publishes what was tried as often as is done;
// once that is durable, the message counts as handled. (Watermill's own would bring two
// modules for what this does in a few lines.)
func poisonQueue(to message.Publisher) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			out, err := handle(m)
			if errors.Is(err, errExhausted) {
				err = to.Publish(poisonTopic, m)
			}
			return out, err
		}
	}
}

// source is the router's subscriber: the queues of all mailboxes that are this
// instance's. What is sent on is what may be sent now.
type source struct{ s *Sender }

// Subscribe hands messages over until ctx ends.
func (x source) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		for {
			select {
			case m := <-x.s.out:
				select {
				case out <- m:
				case <-ctx.Done():
					m.Nack()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Close has nothing to close: Subscribe ends with its ctx.
func (source) Close() error { return nil }

// poisoner is the router's publisher of what was tried in vain.
type poisoner struct{ s *Sender }

// Publish writes down that deliveries lie with the poison. It returns when that is
// durable; until then they are not through.
func (p poisoner) Publish(_ string, messages ...*message.Message) error {
	for _, m := range messages {
		f := flightOf(m)
		entry := &Poisoned{ID: f.it.ID, Offset: f.it.Offset, Lane: broker.Digest(f.it.Lane), Tries: f.it.Tries + 1, First: f.it.First, At: f.at, Why: f.result.why}
		if entry.First.IsZero() {
			entry.First = f.at
		}
		last, err := p.s.appendAt(m.Context(), f.run.partition, record{Kind: kindPoison, Writer: f.run.writer, Mailbox: f.run.mailbox, AsOf: p.s.book.asOf(f.run.partition), Poison: entry})
		if err == nil {
			err = p.s.awaitFold(m.Context(), f.run.partition, last)
		}
		if err != nil {
			return err
		}
		p.s.metrics.poisoned.Inc()
		p.s.Log.Warn("a delivery was put with the poison of its mailbox: its owner may replay or drop it", "mailbox", f.run.mailbox, "delivery", f.it.ID, "tries", entry.Tries, "why", entry.Why)
	}
	return nil
}

// Close has nothing to close.
func (poisoner) Close() error { return nil }

// append writes records, with their version and time.
func (s *Sender) append(ctx context.Context, partition int32, records ...record) error {
	_, err := s.appendAt(ctx, partition, records...)
	return err
}

func (s *Sender) appendAt(ctx context.Context, partition int32, records ...record) (int64, error) {
	values := make([][]byte, len(records))
	for i := range records {
		records[i].V, records[i].At = recordVersion, s.now().UTC()
		var err error
		if values[i], err = json.Marshal(&records[i]); err != nil {
			return 0, err
		}
	}
	return s.Journal.Append(ctx, partition, values...)
}

// awaitFold returns when a partition is folded up to an offset.
func (s *Sender) awaitFold(ctx context.Context, partition int32, offset int64) error {
	for {
		changed := s.book.wait()
		if s.book.asOf(partition) >= offset {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flight is one attempt, in a message's context.
type flight struct {
	run    *run
	it     *item
	now    endpoint
	at     time.Time // when it ended
	result attempt
	door   bool // it was withheld
	lost   bool // it is kept no more
	tried  bool // the endpoint was asked
}

type flightKey struct{}

func flightOf(m *message.Message) *flight {
	f, _ := m.Context().Value(flightKey{}).(*flight)
	return f
}

// endpoint is a mailbox's webhook at a moment, as far as sending needs it.
type endpoint struct {
	url      string
	revision broker.Revision // that set it
	proven   time.Time
	keys     []scheme.Key // the newest first
}

// endpoint is where a mailbox is to be sent to; why says why nowhere.
func (s *Sender) endpoint(m broker.MailboxID) (e endpoint, why string) {
	s.Control.View(func(st *registry.State) {
		box := st.Mailbox(m)
		w, ok := st.Webhook(m)
		switch {
		case box == nil || box.Channel != broker.Webhook || !ok:
			why = StatusNone
		case box.Suspended:
			why = StatusSuspended
		case len(st.FrozenBy(registry.FreezeMailbox, string(m))) > 0:
			why = StatusFrozen
		case !w.Stopped.IsZero():
			why = StatusStopped
		case w.Proven.IsZero():
			why = StatusUnproven
		default:
			e = endpoint{url: w.URL, revision: w.Endpoint, proven: w.Proven, keys: s.keysOf(&w)}
		}
	})
	return e, why
}

// keysOf are the keys that sign now: two while a rotation overlaps.
func (s *Sender) keysOf(w *registry.WebhookState) []scheme.Key {
	keys := []scheme.Key{s.key(w.Mailbox, w.Generation)}
	if w.Previous > 0 && s.now().Before(w.Overlap) {
		keys = append(keys, s.key(w.Mailbox, w.Previous))
	}
	return keys
}

// send is the router's handler: one attempt. Its error is errAgain or errExhausted,
// or none where the delivery is through.
func (s *Sender) send(m *message.Message) error {
	f := flightOf(m)
	ctx := m.Context()
	defer func() { f.at = s.now() }()
	d := f.it.body
	if d == nil {
		var err error
		if d, err = f.read(ctx); err != nil {
			s.Log.Warn("a delivery could not be read again, and will be tried later", "mailbox", f.run.mailbox, "delivery", f.it.ID, "err", err)
			return errAgain
		}
		if d == nil {
			f.lost = true
			s.metrics.expired.Inc()
			s.Log.Error("a delivery was never taken by its endpoint, and is kept no more", "mailbox", f.run.mailbox, "delivery", f.it.ID)
			return nil
		}
	}
	permits, err := s.Door.Admit(ctx, f.run.mailbox, []web.Delivery{*d})
	if err == nil && len(permits) != 1 {
		err = errors.New("the door did not answer for the delivery")
	}
	if err != nil {
		s.Log.Warn("whether a delivery may still be sent could not be asked: it is not", "mailbox", f.run.mailbox, "delivery", f.it.ID, "err", err)
		return errAgain
	}
	if !permits[0] {
		f.door = true
		s.metrics.withheld.Inc()
		return nil
	}
	// After the door, which has asked for the newest of the registry.
	now, why := s.endpoint(f.run.mailbox)
	if why != "" || now.revision != f.now.revision {
		return errAgain
	}
	f.tried = true
	begun := s.now()
	f.result, _ = post(ctx, s.client, now.url, "application/cloudevents+json", f.it.ID.String(), web.AppendEvent(nil, d), begun, now.keys)
	if ctx.Err() != nil { // it is another instance's now, or this one stops
		f.tried = false
		return errAgain
	}
	s.metrics.attempts.WithLabelValues(string(f.result.outcome)).Inc()
	s.metrics.seconds.Observe(s.now().Sub(begun).Seconds())
	switch {
	case f.result.outcome == Accepted:
		return nil
	case f.result.outcome == Gone:
		s.stop(ctx, f.run.mailbox, now.revision, f.result.why)
		return errAgain
	case f.it.Tries+1 >= s.Config.Attempts && s.book.poisonCount(f.run.mailbox) < s.Config.Poison:
		return fmt.Errorf("%w: %s", errExhausted, f.result.why)
	}
	return errAgain
}

// read fetches the body of a delivery that has waited; nil where it is kept no more.
func (f *flight) read(ctx context.Context) (*web.Delivery, error) {
	ds, _, _, err := f.run.sender.Deliveries.Read(ctx, f.run.mailbox, f.it.Offset, 1, 1, 0)
	var gone *web.OffsetError
	if errors.As(err, &gone) && !gone.Newer {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(ds) == 0 {
		return nil, errors.New("the log did not give it")
	}
	if id, _ := identify(&ds[0]); ds[0].Offset != f.it.Offset || id != f.it.ID {
		return nil, nil // the log was made anew, or cut
	}
	return &ds[0], nil
}

// stop takes an endpoint out of use that wants no more.
func (s *Sender) stop(ctx context.Context, m broker.MailboxID, at broker.Revision, why string) {
	_, err := s.Control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		w, ok := st.Webhook(m)
		if !ok || w.Endpoint != at || w.Proven.IsZero() {
			return nil, nil
		}
		return st.Link(s.now(), "datafordeler/webhooks", registry.StopWebhook(m, at, why))
	})
	if err != nil {
		s.Log.Warn("an endpoint that wants no more could not be taken out of use", "mailbox", m, "err", err)
		return
	}
	s.Log.Warn("an endpoint was taken out of use: "+why, "mailbox", m)
}

// newWriter names one time of owning a partition.
func newWriter() string { return rand.Text() }
