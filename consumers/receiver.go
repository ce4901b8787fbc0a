package consumers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
)

// ErrNoMailbox: neither the mailbox's own topic nor the shared one is there, or
// this client may not read them.
var ErrNoMailbox = errors.New("no such mailbox")

// ErrStop, returned by a handler, counts the delivery as handled and lets
// Receive return nil.
var ErrStop = errors.New("stop receiving")

// GoneError is a position that Kafka can no longer serve: deliveries were
// deleted by retention before they were handled, or the topic was made anew.
// Like HTTP's 410, it says where reading can resume; what lies between has to
// be ordered again from the broker.
type GoneError struct {
	Wanted   Position
	Earliest int64 // the oldest offset that is kept
	Latest   int64 // the offset after the newest
	Reason   string
}

// Error says what is gone, and how to go on.
func (e *GoneError) Error() string {
	if e.Wanted.Topic == feedTopic {
		return "cannot go on from the checkpoint: " + e.Reason
	}
	return fmt.Sprintf("cannot go on from %s: %s; deliveries from offset %d up to %d are there: begin anew (FromBeginning, --from beginning), and order what is missing again", e.Wanted, e.Reason, e.Earliest, e.Latest)
}

// HandlerError is a delivery that the handler did not take. The next Receive
// begins with it.
type HandlerError struct {
	ID       broker.DeliveryID
	Position Position
	Err      error
}

// Error names the delivery and gives the handler's words.
func (e *HandlerError) Error() string {
	return fmt.Sprintf("delivery %s at %s was not handled: %v", e.ID, e.Position, e.Err)
}

// Unwrap gives the handler's error.
func (e *HandlerError) Unwrap() error { return e.Err }

// Stats counts messages since New.
type Stats struct {
	Handled int64 // deliveries that the handler took
	Repeats int64 // dropped: handled before
	Retries int64 // attempts after the first
	Dead    int64 // put with the dead letters; of Handled
	Others  int64 // other mailboxes' messages on the shared topic
}

// Receiver reads one mailbox. Its methods may be called from any goroutine, but
// only one Receive may be under way.
type Receiver struct {
	cfg     Config
	running atomic.Bool

	handled, repeats, others, retries, dead atomic.Int64

	// The rest belongs to the Receive under way.
	topic    string
	own      bool // the mailbox's own topic, rather than the shared one
	topicID  kadm.TopicID
	cursor   string          // where to go on in a feed
	next     map[int32]int64 // where to go on; nil until the first Receive found out
	window   *window
	unsaved  int // deliveries since the last checkpoint
	advanced int // messages of any kind since then
}

// New checks the configuration. It does not connect: Receive does.
func New(cfg Config) (*Receiver, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("consumers: %w", err)
	}
	return &Receiver{cfg: cfg, window: newWindow(cfg.Window, nil)}, nil
}

// Stats tells the counts so far.
func (r *Receiver) Stats() Stats {
	return Stats{r.handled.Load(), r.repeats.Load(), r.retries.Load(), r.dead.Load(), r.others.Load()}
}

// Receive hands over deliveries, one at a time, until the end is reached (nil;
// never with Follow), the handler returns ErrStop (nil) or another error (a
// *HandlerError), the context ends (its error), or something is wrong. Then it
// can be called again, and goes on where it stopped.
func (r *Receiver) Receive(ctx context.Context, handler func(context.Context, Delivery) error) (err error) {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("consumers: Receive is under way already")
	}
	defer r.running.Store(false)
	if r.cfg.URL != "" {
		return r.receiveFeed(ctx, handler)
	}

	link := newLink()
	admin, err := kgo.NewClient(append(r.cfg.options(), kgo.WithHooks(link))...)
	if err != nil {
		return fmt.Errorf("consumers: %w", err)
	}
	defer admin.Close()
	adm := kadm.NewClient(admin)
	targets, err := r.begin(ctx, adm)
	if err != nil {
		return err
	}
	// Whatever ends the reading, what was handled is not to come again.
	defer func() {
		if serr := r.save(ctx); serr != nil && (err == nil || errors.Is(err, ctx.Err())) {
			err = serr
		}
	}()

	offsets := map[int32]kgo.Offset{}
	for p, at := range r.next {
		offsets[p] = kgo.NewOffset().At(at)
	}
	client, err := kgo.NewClient(append(r.cfg.options(),
		kgo.WithHooks(link),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: offsets}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // a gap is an error, never a silent jump
		kgo.KeepControlRecords(),                    // they show how far reading has come
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxBytes(16<<20),
	)...)
	if err != nil {
		return fmt.Errorf("consumers: %w", err)
	}
	defer client.Close()

	caughtUp, away := false, false
	for {
		if !caughtUp && (r.reached(targets) || link.quiet(r.leaders(ctx, adm, link, targets))) {
			caughtUp = true
			if err := r.save(ctx); err != nil {
				return err
			}
			r.cfg.Notify(CaughtUp)
			if !r.cfg.Follow {
				return nil
			}
		}
		poll, cancel := context.WithTimeout(ctx, pollWait)
		fetches := client.PollRecords(poll, maxPoll)
		cancel()
		if err := r.failure(ctx, adm, fetches); err != nil {
			return err
		}
		if n := fetches.NumRecords(); n > 0 {
			if err := r.handle(ctx, fetches, handler); err != nil {
				if errors.Is(err, ErrStop) {
					return nil
				}
				return err
			}
			link.alive()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fetches.NumRecords() == 0 {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
		silent := link.silence() > r.cfg.Patience
		switch {
		case silent && !r.cfg.Follow:
			return fmt.Errorf("Kafka at %v has not answered for %v (is it running, and is the address right?)", r.cfg.Brokers, r.cfg.Patience)
		case silent && !away:
			r.cfg.Notify(KafkaAway)
		case !silent && away:
			r.cfg.Notify(KafkaBack)
		}
		away = silent
	}
}

const (
	fetchWait = 500 * time.Millisecond // how long Kafka holds a request at the end
	pollWait  = time.Second
	maxPoll   = 2000
)

// reached tells whether everything that was there at the beginning is behind.
func (r *Receiver) reached(targets map[int32]int64) bool {
	for p, end := range targets {
		if r.next[p] < end {
			return false
		}
	}
	return true
}

// handle hands over what was fetched. Each partition's records are in order.
func (r *Receiver) handle(ctx context.Context, fetches kgo.Fetches, handler func(context.Context, Delivery) error) error {
	for it := fetches.RecordIter(); !it.Done(); {
		rec := it.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !rec.Attrs.IsControl() {
			if err := r.take(ctx, rec, handler); err != nil {
				return err
			}
		}
		r.next[rec.Partition] = rec.Offset + 1
		r.advanced++
		if r.unsaved >= r.cfg.CheckpointEvery || r.advanced >= othersPerCheckpoint {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// othersPerCheckpoint bounds how much of other mailboxes' is read again.
const othersPerCheckpoint = 50_000

func (r *Receiver) take(ctx context.Context, rec *kgo.Record, handler func(context.Context, Delivery) error) error {
	pos := Position{rec.Topic, rec.Partition, rec.Offset}
	whose, err := mailboxOf(rec.Headers)
	switch {
	case err != nil:
		return &MessageError{pos, err}
	case whose != r.cfg.Mailbox && r.own:
		return &MessageError{pos, errors.New("it is addressed to another mailbox than its topic is for")}
	case whose != r.cfg.Mailbox:
		r.others.Add(1)
		return nil
	}
	d, err := parse(rec.Headers, rec.Value)
	if err != nil {
		return &MessageError{pos, err}
	}
	d.Position = pos
	if r.window.has(d.ID) {
		r.repeats.Add(1)
		return nil
	}
	if err = r.hand(ctx, d, handler); err != nil && !errors.Is(err, ErrStop) {
		return err
	}
	r.handled.Add(1)
	r.window.add(d.ID)
	r.unsaved++
	if err != nil {
		r.next[rec.Partition] = rec.Offset + 1
		r.advanced++
	}
	return err
}

// save keeps a checkpoint where there is something new. It works also when the
// context has ended: that is when it matters.
func (r *Receiver) save(ctx context.Context) error {
	if r.cfg.Checkpoints == nil || r.advanced == 0 || r.next == nil && r.cfg.URL == "" {
		return nil
	}
	c := &Checkpoint{Version: checkpointVersion, Mailbox: r.cfg.Mailbox, Topic: r.topic, TopicID: r.topicID.String(),
		Next: r.next, Recent: r.window.recent()}
	if r.cfg.URL != "" {
		c.Topic, c.TopicID, c.Cursor = feedTopic, "", r.cursor
	}
	if err := r.cfg.Checkpoints.Save(context.WithoutCancel(ctx), c); err != nil {
		return fmt.Errorf("consumers: the checkpoint could not be kept, so what was handled since the last one may come again: %w", err)
	}
	r.unsaved, r.advanced = 0, 0
	return nil
}

// failure is the first of the fetches' errors that waiting does not mend.
func (r *Receiver) failure(ctx context.Context, adm *kadm.Client, fetches kgo.Fetches) error {
	for _, fe := range fetches.Errors() {
		var loss *kgo.ErrDataLoss
		at := Position{fe.Topic, fe.Partition, r.next[fe.Partition]}
		switch err := fe.Err; {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		case errors.Is(err, kerr.OffsetOutOfRange):
			return r.gone(ctx, adm, at, "the offset is out of range, so deliveries were deleted before they were handled")
		case errors.As(err, &loss):
			return r.gone(ctx, adm, at, "Kafka lost records that it had acknowledged")
		case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID):
			return fmt.Errorf("%w: topic %q is not there any more: %w", ErrNoMailbox, fe.Topic, err)
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			return fmt.Errorf("%w: this client may not read topic %q: %w", ErrNoMailbox, fe.Topic, err)
		case kerr.IsRetriable(err), kgo.IsRetryableBrokerErr(err):
			// It goes on trying; for how long, silence decides.
		default:
			return fmt.Errorf("reading %s: %w", at, err)
		}
	}
	return nil
}

func (r *Receiver) gone(ctx context.Context, adm *kadm.Client, at Position, reason string) error {
	e := &GoneError{Wanted: at, Earliest: -1, Latest: -1, Reason: reason}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Patience)
	defer cancel()
	if o, ok := lookup(adm.ListStartOffsets(ctx, at.Topic))[at.Partition]; ok {
		e.Earliest = o
	}
	if o, ok := lookup(adm.ListCommittedOffsets(ctx, at.Topic))[at.Partition]; ok {
		e.Latest = o
	}
	return e
}

// lookup is what could be listed, by partition.
func lookup(listed kadm.ListedOffsets, err error) map[int32]int64 {
	out := map[int32]int64{}
	if err != nil {
		return out
	}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			out[o.Partition] = o.Offset
		}
	})
	return out
}
