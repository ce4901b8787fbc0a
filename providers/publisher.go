package providers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/semaphore"
)

// Publisher publishes events to one dataset, over Kafka or over HTTP. It is safe for
// concurrent use; between concurrent calls there is no order.
type Publisher struct {
	cfg         Config
	topic       string
	subject     []string // Config.Subject, split; nil without
	schema      *schema  // nil without
	compression kafka.Compression
	client      *kafka.Client    // over Kafka
	transport   *kafka.Transport // over Kafka
	http        *httpDoor        // over HTTP; else nil
	pending     *semaphore.Weighted
	stats       counters

	mu      sync.Mutex
	closed  bool
	lanes   []*lane        // one for each partition; nil until the topic was seen
	calls   sync.WaitGroup // Publish calls under way
	sending sync.WaitGroup // lanes under way
}

// New checks the configuration. It does not connect: the first Publish does.
func New(cfg Config) (*Publisher, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("providers: %w", err)
	}
	p := &Publisher{cfg: cfg, topic: SourceTopic(cfg.Prefix, cfg.Dataset)}
	p.subject, _ = cfg.Subject.Tokens()
	p.compression, _ = compression(cfg.Compression)
	if len(cfg.Schema) > 0 {
		var err error
		if p.schema, err = compileSchema(cfg.Schema); err != nil {
			return nil, fmt.Errorf("providers: %w", err)
		}
	}
	p.pending = semaphore.NewWeighted(cfg.MaxPending)
	if cfg.URL != "" {
		p.http = newHTTPDoor(cfg)
		return p, nil
	}
	p.transport = &kafka.Transport{
		Dial:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ClientID:       cfg.ClientID,
		TLS:            cfg.TLS,
		MetadataTTL:    2 * time.Second, // how soon a moved partition is found
		MetadataTopics: []string{p.topic},
	}
	if cfg.SASL != nil {
		p.transport.SASL, _ = cfg.SASL.mechanism(cfg.TLS != nil)
	}
	p.client = &kafka.Client{Addr: kafka.TCP(cfg.Brokers...), Timeout: cfg.RequestTimeout, Transport: p.transport}
	return p, nil
}

// Publish returns nil when all events are durable, or an *Error. Unless all of
// them are well-formed, within the limits and admitted by the schema, none is
// sent. A cancelled context ends the waiting; what was handed over by then may
// still be written. The events' Data must not change until Publish returns,
// and, where it returns because the context ended, not after that either.
func (p *Publisher) Publish(ctx context.Context, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.calls.Add(1)
	p.mu.Unlock()
	defer p.calls.Done()

	deadline := time.Now().Add(p.cfg.Timeout)
	records, refused := p.prepareAll(events)
	if refused != nil {
		return p.counted(refused)
	}
	size := int64(0)
	for i := range records {
		size += int64(records[i].size)
	}
	room := min(size, p.cfg.MaxPending)
	if err := p.pending.Acquire(ctx, room); err != nil {
		return p.counted(allFailed(records, err))
	}
	p.stats.pending.Add(room)
	defer func() { p.stats.pending.Add(-room); p.pending.Release(room) }()
	lanes, err := p.connect(ctx, deadline)
	if err != nil {
		return p.counted(allFailed(records, err))
	}

	submissions, all := make([]*submission, len(lanes)), ordinals(len(lanes))
	for i := range records {
		r := &records[i]
		key := r.key
		if key == nil {
			key = []byte(r.id) // so that a repeat comes to where the first one is
		}
		n := partition(key, all)
		if submissions[n] == nil {
			submissions[n] = &submission{ctx: ctx, deadline: deadline, done: make(chan struct{})}
		}
		s := submissions[n]
		s.records = append(s.records, r)
		s.index = append(s.index, i)
	}
	for n, s := range submissions {
		if s != nil {
			p.submit(lanes[n], s)
		}
	}

	result := &Error{Total: len(events)}
	for _, s := range submissions {
		if s == nil {
			continue
		}
		select {
		case <-s.done:
			result.Failures = append(result.Failures, s.failures...)
		case <-ctx.Done():
			for i, r := range s.records {
				result.Failures = append(result.Failures, Failure{Index: s.index[i], Line: r.line, ID: r.id, Maybe: true, Err: ctx.Err()})
			}
		}
	}
	p.stats.bytes.Add(size)
	if len(result.Failures) == 0 {
		p.stats.published.Add(int64(len(events)))
		return nil
	}
	result.sort()
	return p.counted(result)
}

// Supersede publishes an event that corrects an earlier one of the same source, by
// that one's id. The event needs an id of its own, or none.
func (p *Publisher) Supersede(ctx context.Context, earlier string, e Event) error {
	e.Supersedes, e.Retracts = earlier, ""
	return p.change(ctx, earlier, e)
}

// Retract publishes that an earlier event of the same source no longer stands, by
// that one's id. The event carries the payload that it takes back, so that whoever
// got it can be found.
func (p *Publisher) Retract(ctx context.Context, earlier string, e Event) error {
	e.Retracts, e.Supersedes = earlier, ""
	return p.change(ctx, earlier, e)
}

func (p *Publisher) change(ctx context.Context, earlier string, e Event) error {
	if earlier == "" || earlier == e.ID {
		why := invalid{errors.New("name the id of the event concerned, which is not the event's own (see Publisher.ID)")}
		return p.counted(&Error{Refused: true, Total: 1, Failures: []Failure{{ID: e.ID, Err: why}}})
	}
	return p.Publish(ctx, e)
}

// Encoded is an event as it can be kept until it is published.
type Encoded struct {
	// Line is a CloudEvent in JSON, which ReadNDJSON reads back. It ends with a line
	// feed. Id, source, type and key stand in it, whatever the configuration says later.
	Line []byte
	// ID is the event's id.
	ID string
	// Order is the same for events that have to stay in order: a hash of the key, or
	// where there is none the id.
	Order string
}

// Encode checks an event as Publish does, and makes of it what an outbox keeps.
func (p *Publisher) Encode(e Event) (Encoded, error) {
	if e.Key == "" && p.subject != nil {
		e.Key = lookup(e.Data, p.subject)
	}
	r, _, err := p.prepare(&e, nil)
	if err != nil {
		return Encoded{}, err
	}
	r.about = e.Key
	out := Encoded{Line: r.appendLine(nil), ID: r.id, Order: r.id}
	if r.key != nil {
		out.Order = string(r.key)
	}
	return out, nil
}

// ID is the id under which an event is published: its own, or the one that follows
// from its content. Keep it to correct or retract the event later.
func (p *Publisher) ID(e Event) (string, error) {
	r, _, err := p.prepare(&e, nil)
	return r.id, err
}

// Check says what Publish would refuse, and sends nothing. Nil means that all
// events are well-formed, within the limits and admitted by the schema.
func (p *Publisher) Check(events ...Event) error {
	if _, refused := p.prepareAll(events); refused != nil {
		return refused
	}
	return nil
}

// Close waits for the calls under way, at most as long as Config.Timeout lets
// them take, and closes the connections.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.calls.Wait()
	p.sending.Wait()
	if p.http != nil {
		p.http.client.CloseIdleConnections()
		return nil
	}
	p.transport.CloseIdleConnections()
	return nil
}

// parallelFrom is the number of events from which preparing them is shared
// among processors: below it, starting the goroutines costs more.
const parallelFrom = 512

func (p *Publisher) prepareAll(events []Event) ([]record, *Error) {
	records := make([]record, len(events))
	failed := make([]error, len(events))
	some := func(from, to int) {
		slab := make([]kafka.Header, 0, (to-from)*8)
		for i := from; i < to; i++ {
			records[i], slab, failed[i] = p.prepare(&events[i], slab)
		}
	}
	if workers := runtime.GOMAXPROCS(0); len(events) < parallelFrom || workers == 1 {
		some(0, len(events))
	} else {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() { some(w*len(events)/workers, (w+1)*len(events)/workers) })
		}
		wg.Wait()
	}
	var refused *Error
	for i, err := range failed {
		if err == nil {
			continue
		}
		if refused == nil {
			refused = &Error{Refused: true, Total: len(events)}
		}
		refused.Failures = append(refused.Failures, Failure{Index: i, Line: events[i].line, ID: events[i].ID, Err: err})
	}
	return records, refused
}

// connect finds the topic's partitions. Their number is taken once: were it to
// grow, keys would move, and their order be lost.
func (p *Publisher) connect(ctx context.Context, deadline time.Time) ([]*lane, error) {
	p.mu.Lock()
	lanes := p.lanes
	p.mu.Unlock()
	if lanes != nil {
		return lanes, nil
	}
	if p.http != nil {
		return p.makeLanes(httpLanes), nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var last error
	for attempt := 0; ; attempt++ {
		n, err := p.partitions(ctx)
		if err == nil {
			return p.makeLanes(n), nil
		}
		if errors.Is(err, ErrUnknownDataset) || !retryable(err) {
			return nil, err
		}
		if ctx.Err() == nil || last == nil {
			last = err // what the network said, rather than that time is up
		}
		if !backoff(ctx.Done(), attempt, deadline, 0) {
			if ctx.Err() != nil && !time.Now().Before(deadline) || ctx.Err() == nil {
				return nil, fmt.Errorf("cannot reach Kafka at %v within %v (is it running, and is the address right?): %w", p.cfg.Brokers, p.cfg.Timeout, last)
			}
			return nil, ctx.Err()
		}
	}
}

func (p *Publisher) makeLanes(n int) []*lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lanes == nil {
		for i := range n {
			p.lanes = append(p.lanes, &lane{partition: i})
		}
	}
	return p.lanes
}

func (p *Publisher) partitions(ctx context.Context) (int, error) {
	m, err := p.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{p.topic}})
	if err != nil {
		return 0, err
	}
	for _, t := range m.Topics {
		switch {
		case t.Name != p.topic:
		case errors.Is(t.Error, kafka.UnknownTopicOrPartition), errors.Is(t.Error, kafka.TopicAuthorizationFailed):
			return 0, fmt.Errorf("%w: no topic %q for dataset %q at this Kafka: is the dataset registered (datafordeler registry get dataset), the prefix right, and may this client write to it?", ErrUnknownDataset, p.topic, p.cfg.Dataset)
		case t.Error != nil:
			return 0, t.Error
		case len(t.Partitions) == 0:
			return 0, kafka.LeaderNotAvailable
		default:
			return len(t.Partitions), nil
		}
	}
	return 0, kafka.LeaderNotAvailable
}

// partition is that of Kafka's default partitioner for a record with a key.
func partition(key []byte, all []int) int {
	return kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: key}, all...)
}

// ordinals is 0, 1, …, n−1, as kafka-go's balancers want the partitions.
func ordinals(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func allFailed(records []record, err error) *Error {
	e := &Error{Total: len(records), Refused: true, Failures: make([]Failure, len(records))}
	for i := range records {
		e.Failures[i] = Failure{Index: i, Line: records[i].line, ID: records[i].id, Err: err}
	}
	return e
}
