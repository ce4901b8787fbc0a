package consumers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
)

// MailboxTopic is the name of a mailbox's own topic, for mailboxes that receive
// by Kafka.
func MailboxTopic(prefix string, m broker.MailboxID) string { return prefix + "mailbox." + string(m) }

// DeliveriesTopic is the name of the topic that other mailboxes share. Whoever
// may read it may read them all, so its ACL is for the broker's own doors and
// for operators.
func DeliveriesTopic(prefix string) string { return prefix + "deliveries" }

// begin finds the topic and where to go on, and returns where the end is now,
// by partition. Kafka may be away meanwhile: with Follow it waits.
func (r *Receiver) begin(ctx context.Context, adm *kadm.Client) (map[int32]int64, error) {
	began := time.Now()
	for away := false; ; {
		attempt, cancel := context.WithTimeout(ctx, r.cfg.Patience)
		targets, err := r.locate(attempt, adm)
		expired := attempt.Err() != nil
		cancel()
		switch {
		case err == nil:
			if away {
				r.cfg.Notify(KafkaBack)
			}
			return targets, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !expired && !passing(err):
			return nil, err
		case time.Since(began) < r.cfg.Patience:
		case !r.cfg.Follow:
			return nil, fmt.Errorf("Kafka at %v did not answer within %v (is it running, and is the address right?): %w", r.cfg.Brokers, r.cfg.Patience, err)
		case !away:
			away = true
			r.cfg.Notify(KafkaAway)
		}
		select { // the client has its own pauses; this is for errors that come at once
		case <-time.After(fetchWait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// passing errors are the network's and those that Kafka calls retriable.
func passing(err error) bool {
	var gone *GoneError
	if errors.As(err, &gone) || errors.Is(err, ErrNoMailbox) || errors.Is(err, errCheckpoint) {
		return false
	}
	var code *kerr.Error
	if errors.As(err, &code) {
		return code.Retriable
	}
	return true
}

// errCheckpoint: it is not for this mailbox, or cannot be read.
var errCheckpoint = errors.New("consumers: the checkpoint cannot be used")

func (r *Receiver) locate(ctx context.Context, adm *kadm.Client) (map[int32]int64, error) {
	own, shared := MailboxTopic(r.cfg.Prefix, r.cfg.Mailbox), DeliveriesTopic(r.cfg.Prefix)
	details, err := describe(ctx, adm, own, shared)
	if err != nil {
		return nil, err
	}
	topic, partitions, err := choose(details, own, shared, r.cfg.Mailbox)
	if err != nil {
		return nil, err
	}
	starts, err := r.list(ctx, partitions, topic, adm.ListStartOffsets)
	if err != nil {
		return nil, err
	}
	// Where committed reading ends: below the first open transaction.
	ends, err := r.list(ctx, partitions, topic, adm.ListCommittedOffsets)
	if err != nil {
		return nil, err
	}
	topicID := details[topic].ID
	next := r.next
	if next == nil {
		r.topic, r.own, r.topicID = topic, topic == own, topicID
		if next, err = r.first(ctx, adm, partitions, starts, ends); err != nil {
			return nil, err
		}
	} else if topic != r.topic || topicID != r.topicID {
		p := partitions[0]
		return nil, &GoneError{Position{r.topic, p, next[p]}, starts[p], ends[p], fmt.Sprintf("topic %q was made anew, or took the place of %q", topic, r.topic)}
	}
	for _, p := range partitions {
		if _, ok := next[p]; !ok {
			next[p] = starts[p] // a partition that is new
		}
		if at := next[p]; at < starts[p] {
			return nil, &GoneError{Position{topic, p, at}, starts[p], ends[p], "deliveries were deleted by retention before they were handled"}
		}
	}
	r.next = next
	return ends, nil
}

// describe asks for the mailbox's own topic, and only where that is not to be had
// for the shared one: a login for one mailbox may not see the other.
func describe(ctx context.Context, adm *kadm.Client, names ...string) (kadm.TopicDetails, error) {
	details := kadm.TopicDetails{}
	for _, name := range names {
		found, err := adm.ListTopics(ctx, name)
		switch {
		case errors.Is(err, kerr.TopicAuthorizationFailed): // one such fails the whole answer
			details[name] = kadm.TopicDetail{Topic: name, Err: kerr.TopicAuthorizationFailed}
		case err != nil:
			return nil, err
		default:
			details[name] = found[name]
		}
		if d := details[name]; d.Err == nil && len(d.Partitions) > 0 {
			break
		}
	}
	return details, nil
}

// choose picks the mailbox's own topic if there is one, else its partition of
// the shared one.
func choose(details kadm.TopicDetails, own, shared string, m broker.MailboxID) (string, []int32, error) {
	var denied error
	for _, name := range []string{own, shared} {
		d, asked := details[name]
		switch {
		case !asked:
		case d.Err == nil && len(d.Partitions) > 0:
			if name == shared {
				return name, []int32{broker.Bucket(m, int32(len(d.Partitions)))}, nil
			}
			return name, d.Partitions.Numbers(), nil
		case errors.Is(d.Err, kerr.UnknownTopicOrPartition):
		case errors.Is(d.Err, kerr.TopicAuthorizationFailed):
			denied = d.Err
		case d.Err != nil:
			return "", nil, fmt.Errorf("topic %q: %w", name, d.Err)
		}
	}
	text := fmt.Sprintf("%q: neither topic %q nor %q is there; is the mailbox registered (datafordeler registry get mailbox), and the prefix right?", m, own, shared)
	if denied != nil {
		return "", nil, fmt.Errorf("%w: %s This client may not see all topics: %w", ErrNoMailbox, text, denied)
	}
	return "", nil, fmt.Errorf("%w: %s", ErrNoMailbox, text)
}

// first is where a Receiver begins.
func (r *Receiver) first(ctx context.Context, adm *kadm.Client, partitions []int32, starts, ends map[int32]int64) (map[int32]int64, error) {
	next := map[int32]int64{}
	switch r.cfg.From.at {
	case atCheckpoint:
		if r.cfg.Checkpoints == nil {
			break
		}
		c, err := r.cfg.Checkpoints.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errCheckpoint, err)
		}
		if c == nil {
			break
		}
		switch {
		case c.Version != checkpointVersion:
			return nil, fmt.Errorf("%w: it has version %d, and this client knows %d", errCheckpoint, c.Version, checkpointVersion)
		case c.Mailbox != r.cfg.Mailbox:
			return nil, fmt.Errorf("%w: it is of mailbox %q, not %q; give each mailbox its own", errCheckpoint, c.Mailbox, r.cfg.Mailbox)
		case c.Topic != r.topic || c.TopicID != r.topicID.String():
			p := partitions[0]
			return nil, &GoneError{Position{c.Topic, p, c.Next[p]}, starts[p], ends[p], fmt.Sprintf("the checkpoint is of topic %q as it was before; %q was made since", c.Topic, r.topic)}
		}
		r.window = newWindow(r.cfg.Window, c.Recent)
		for _, p := range partitions {
			if at, ok := c.Next[p]; ok {
				next[p] = at
			}
			if next[p] > ends[p] {
				// Committed reading never goes back, so the log was cut.
				return nil, &GoneError{Position{r.topic, p, next[p]}, starts[p], ends[p], "the checkpoint is past the end, so Kafka lost records that it had acknowledged"}
			}
		}
	case atBeginning:
	case atEnd:
		for p, end := range ends {
			next[p] = end
		}
	case atTime:
		at, err := r.list(ctx, partitions, r.topic, func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, r.cfg.From.time.UnixMilli(), topics...)
		})
		if err != nil {
			return nil, err
		}
		for p, o := range at {
			next[p] = min(o, ends[p])
		}
	}
	return next, nil
}

// list asks for one offset of each partition, and wants all of them.
func (r *Receiver) list(ctx context.Context, partitions []int32, topic string, ask func(context.Context, ...string) (kadm.ListedOffsets, error)) (map[int32]int64, error) {
	listed, err := ask(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := map[int32]int64{}
	for _, p := range partitions {
		o, ok := listed.Lookup(topic, p)
		if !ok {
			return nil, fmt.Errorf("topic %q: Kafka did not tell the offsets of partition %d: %w", topic, p, kerr.LeaderNotAvailable)
		}
		if o.Err != nil {
			return nil, fmt.Errorf("topic %q, partition %d: %w", topic, p, o.Err)
		}
		out[p] = o.Offset
	}
	return out, nil
}

// leaders are the brokers that hold the partitions whose end was not reached,
// or nil where there is no reason to ask.
func (r *Receiver) leaders(ctx context.Context, adm *kadm.Client, l *link, targets map[int32]int64) []int32 {
	if !l.idle() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	details, err := adm.ListTopics(ctx, r.topic)
	if err != nil {
		return nil
	}
	var leaders []int32
	for p, end := range targets {
		if d, ok := details[r.topic].Partitions[p]; r.next[p] < end {
			if !ok || d.Err != nil || d.Leader < 0 {
				return nil
			}
			leaders = append(leaders, d.Leader)
		}
	}
	return leaders
}

// link watches the connections. Where the last records before the end belong to
// transactions that were given up while another is still open, no marker shows
// that the end is reached. What shows it is that Kafka has nothing to send:
// several answers in a row, from each leader, too small to hold what a
// transaction wrote and that the client then left out.
type link struct {
	mu    sync.Mutex
	heard time.Time
	empty map[int32]int // small answers to fetches in a row, by broker
}

const (
	fetchKey    = 1    // Kafka's API key of Fetch
	smallAnswer = 4096 // bytes
	quietAfter  = 3    // the last of them was asked for when the others had been worked through
)

func newLink() *link { return &link{heard: time.Now(), empty: map[int32]int{}} }

// OnBrokerRead is called by franz-go for each answer.
func (l *link) OnBrokerRead(broker kgo.BrokerMetadata, key int16, size int, _, _ time.Duration, err error) {
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
	if key == fetchKey {
		if size < smallAnswer {
			l.empty[broker.NodeID]++
		} else {
			l.empty[broker.NodeID] = 0
		}
	}
}

// alive is called when records were handled: time spent on them is not Kafka's
// silence, and there may be more.
func (l *link) alive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
	clear(l.empty)
}

func (l *link) silence() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.heard)
}

func (l *link) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.empty {
		if n >= quietAfter {
			return true
		}
	}
	return false
}

func (l *link) quiet(leaders []int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range leaders {
		if l.empty[b] < quietAfter {
			return false
		}
	}
	return len(leaders) > 0
}
