// Package webhooks is the log's half of sending webhooks: it folds the topic webhooks
// on every instance, writes to it, and shares its partitions among the instances of a
// group, so that each mailbox is sent by one of them. What is sent, and when, is
// broker/webhook's.
package webhooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// Sender is what sends. broker/webhook has one.
type Sender interface {
	// Fold takes the next record of a partition, all in order. After an error nothing
	// may be sent any more.
	Fold(partition int32, offset int64, value []byte) error
	// Own sends for a partition until ctx ends, and returns when nothing is under way.
	// It calls image with an offset that a start may read from.
	Own(ctx context.Context, partition int32, image func(offset int64))
}

// Options are what a Log needs.
type Options struct {
	Engine *kafka.Engine
	// Spec is the topic's; it has as many partitions as the topic of deliveries.
	Spec kafka.TopicSpec
	// Group is the broker's: the instances that share the sending are "<Group>-webhooks".
	Group string
	// Session is how long an instance may be silent before another takes its place.
	Session time.Duration
	Log     *slog.Logger
}

// Log is the topic webhooks, and the group that shares it.
type Log struct {
	Options
	producer *kgo.Client
}

// Open makes the topic where it is missing. The caller closes the Log.
func Open(ctx context.Context, o Options) (*Log, error) {
	if err := o.Engine.EnsureTopics(ctx, o.Spec); err != nil {
		return nil, err
	}
	producer, err := o.Engine.NewClient(
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(20*time.Second),
	)
	if err != nil {
		return nil, err
	}
	return &Log{o, producer}, nil
}

// Close ends it.
func (l *Log) Close() { l.producer.Close() }

// Append writes records of one partition, durably and in order, and returns the offset
// of the last. After an error some may stand there.
func (l *Log) Append(ctx context.Context, partition int32, values ...[]byte) (last int64, err error) {
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: l.Spec.Name, Partition: partition, Value: v}
	}
	results := l.producer.ProduceSync(ctx, records...)
	if err := results.FirstErr(); err != nil {
		return 0, fmt.Errorf("writing to %s: %w", l.Spec.Name, err)
	}
	for _, r := range results {
		last = max(last, r.Record.Offset)
	}
	return last, nil
}

func (l *Log) group() string { return l.Group + "-webhooks" }

// Run folds the topic into s and has it send for the partitions that are this
// instance's turn, until ctx ends. An error is that it cannot go on; what may pass is
// logged and tried again.
func (l *Log) Run(ctx context.Context, s Sender) error {
	from, err := l.begin(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var folding sync.WaitGroup
	folding.Go(func() {
		if err := l.follow(ctx, from, s); err != nil {
			stop(err)
		}
	})
	defer folding.Wait()
	err = l.share(ctx, s)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	stop(nil)
	return err
}

// begin is where each partition's fold begins: the last image that the group
// committed, or the oldest record.
func (l *Log) begin(ctx context.Context) ([]kafka.Span, error) {
	adm, err := l.Engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	starts, err := kafka.Starts(ctx, adm, l.Spec.Name)
	if err != nil {
		return nil, err
	}
	ends, err := kafka.CommittedEnds(ctx, adm, l.Spec.Name)
	if err != nil {
		return nil, err
	}
	committed, err := adm.FetchOffsetsForTopics(ctx, l.group(), l.Spec.Name)
	if err == nil {
		err = committed.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // nobody has sent yet
		return nil, fmt.Errorf("where %s was written anew last: %w", l.Spec.Name, err)
	}
	spans := make([]kafka.Span, 0, len(starts[l.Spec.Name]))
	for p, start := range starts[l.Spec.Name] {
		at := start
		if o, ok := committed.Lookup(l.Spec.Name, p); ok && o.At > start && o.At <= ends[l.Spec.Name][p] {
			at = o.At
		}
		spans = append(spans, kafka.Span{Topic: l.Spec.Name, Partition: p, From: at, To: kafka.Follow})
	}
	return spans, nil
}

// follow folds until ctx ends.
func (l *Log) follow(ctx context.Context, from []kafka.Span, s Sender) error {
	reader, err := l.Engine.Reader(from)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		records, err := reader.Poll(ctx, 0)
		for _, r := range records {
			if err := s.Fold(r.Partition, r.Offset, r.Value); err != nil {
				return err
			}
		}
		var gone *kafka.GoneError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &gone) || err == io.EOF:
			return fmt.Errorf("following %s: %w", l.Spec.Name, err)
		case err != nil:
			l.Log.Warn("how far mailboxes were sent cannot be read for now", "err", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// share is this instance's membership in the group.
func (l *Log) share(ctx context.Context, s Sender) error {
	turns := &turns{log: l, sender: s, ctx: ctx, on: map[int32]*turn{}}
	member, err := l.Engine.NewClient(
		kgo.ConsumerGroup(l.group()),
		kgo.ConsumeTopics(l.Spec.Name),
		kgo.DisableAutoCommit(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(l.Session),
		kgo.HeartbeatInterval(l.Session/4),
		kgo.OnPartitionsAssigned(func(_ context.Context, c *kgo.Client, got map[string][]int32) { turns.begin(c, got[l.Spec.Name]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { turns.end(gone[l.Spec.Name]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { turns.end(gone[l.Spec.Name]) }),
	)
	if err != nil {
		return err
	}
	member.PauseFetchTopics(l.Spec.Name) // it is there to be chosen: follow reads
	last := ""
	for ctx.Err() == nil {
		fetches := member.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			if said := e.Err.Error(); ctx.Err() == nil && said != last {
				l.Log.Warn("this instance cannot share in sending webhooks; where Kafka has access lists, allow the group", "group", l.group(), "err", e.Err)
				last = said
			}
		}
	}
	turns.end(turns.all())
	member.Close() // which leaves the group: another goes on at once
	return nil
}

// turns are the partitions that this instance sends for.
type turns struct {
	log    *Log
	sender Sender
	ctx    context.Context

	mu sync.Mutex
	on map[int32]*turn // guarded by mu
}

type turn struct {
	stop  context.CancelFunc
	ended chan struct{}
}

func (t *turns) begin(member *kgo.Client, partitions []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range partitions {
		if t.on[p] != nil || t.ctx.Err() != nil {
			continue
		}
		ctx, stop := context.WithCancel(t.ctx)
		x := &turn{stop, make(chan struct{})}
		t.on[p] = x
		go func() {
			defer close(x.ended)
			t.sender.Own(ctx, p, func(offset int64) { t.commit(ctx, member, p, offset) })
		}()
	}
}

// commit notes where a start may begin to read. It is no matter if it fails: a start
// reads more then.
func (t *turns) commit(ctx context.Context, member *kgo.Client, partition int32, offset int64) {
	member.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{t.log.Spec.Name: {partition: {Epoch: -1, Offset: offset}}}, nil)
}

func (t *turns) all() []int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.on))
}

// end stops what is sent for partitions, and waits until nothing is under way: the
// next one begins after it.
func (t *turns) end(partitions []int32) {
	t.mu.Lock()
	var ending []*turn
	for _, p := range partitions {
		if x := t.on[p]; x != nil {
			x.stop()
			ending = append(ending, x)
			delete(t.on, p)
		}
	}
	t.mu.Unlock()
	for _, x := range ending {
		<-x.ended
	}
}
