package bench

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// Latency publishes at a constant rate, in an open loop, and reads the deliveries.
type Latency struct {
	Engine     *kafka.Engine
	Deliveries string      // the topic
	Pool       []kafka.Raw // payloads and headers, taken in turn
	Keys       [][]byte    // of Pool
	Fanout     int         // deliveries of each record

	Rate     int // records a second
	Settling int // records before the clock starts
	Warmup   int // of Records, those first that do not count
	Records  int
	Linger   time.Duration // of the publisher
	// Name tells this run's events from another's; "" is "latency".
	Name string
	// Later leaves out the deliveries that stand there already.
	Later    bool
	Patience time.Duration // how long to wait for what is behind at the end

	// Settled returns when what was published before the clock starts is decided.
	Settled             func(context.Context) error
	Published, Readable *atomic.Int64 // for progress
}

// Seen is what a Latency saw, in nanoseconds and in no order.
type Seen struct {
	Took    []int64       // of each delivery, from when its record was due until it was readable
	Late    []int64       // of each record, from when it was due until it was handed to Kafka's client
	Behind  time.Duration // how long after the last record was due the last delivery came
	Repeats int64         // deliveries that came twice
}

// Run publishes, and returns when all deliveries have been read.
func (l *Latency) Run(ctx context.Context) (seen Seen, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &reader{want: int64(l.Settling+l.Records) * int64(l.Fanout), seen: make(map[string]struct{}, (l.Settling+l.Records)*l.Fanout),
		warm: int64(l.Warmup), took: make([]int64, 0, (l.Records-l.Warmup)*l.Fanout), count: l.Readable}
	if err := r.open(ctx, l.Engine, l.Deliveries, l.Later); err != nil {
		return seen, err
	}
	defer r.client.Close()
	client, err := l.Engine.NewClient(kgo.ProducerLinger(l.Linger), kgo.MaxBufferedRecords(1<<20), kgo.ProducerBatchMaxBytes(1<<20))
	if err != nil {
		return seen, err
	}
	defer client.Close()
	send := func(i, id int, due time.Time) {
		client.Produce(ctx, dueRecord(&l.Pool[i%len(l.Pool)], l.Keys[i%len(l.Pool)], cmp.Or(l.Name, "latency"), id, due), func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(fmt.Errorf("publishing: %w", err))
			}
		})
		l.Published.Add(1)
	}
	// Group joined, policies compiled, topics known to all: that is not latency.
	for i := range l.Settling {
		send(i, -1-i, time.Now())
	}
	if err := l.Settled(ctx); err != nil {
		return seen, because(ctx, err)
	}
	runtime.GC()
	begin := time.Now().Add(100 * time.Millisecond)
	due := func(i int) time.Time {
		return begin.Add(time.Duration(float64(i) / float64(l.Rate) * float64(time.Second)))
	}
	r.due = due
	read := make(chan error, 1)
	go func() { read <- r.run(ctx) }()

	seen.Late = make([]int64, 0, l.Records-l.Warmup)
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for i := 0; i < l.Records; {
		now := time.Now()
		for ; i < l.Records && !due(i).After(now); i++ {
			if i >= l.Warmup {
				seen.Late = append(seen.Late, int64(now.Sub(due(i))))
			}
			send(i, i, due(i))
		}
		if i == l.Records {
			break // the last may be read before the next tick
		}
		select {
		case <-tick.C:
		case err := <-read: // only a failure ends it before the last record
			if err == nil {
				err = fmt.Errorf("all of %d deliveries are read, and %d of %d records published", r.want, i, l.Records)
			}
			return seen, because(ctx, err)
		}
	}
	giveUp := time.AfterFunc(l.Patience, func() {
		cancel(fmt.Errorf("%d of %d deliveries are readable %v after the last record was due: the rate is far beyond this machine, give a lower --rate",
			l.Readable.Load(), r.want, l.Patience))
	})
	defer giveUp.Stop()
	if err := <-read; err != nil {
		return seen, because(ctx, err)
	}
	seen.Took, seen.Repeats, seen.Behind = r.took, r.repeats, r.last.Sub(due(l.Records-1))
	return seen, nil
}

// because is why ctx ended, where that is why err is.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// Records makes messages records as Kafka's client hands them over.
func Records(messages []kafka.Raw, at time.Time) []*kgo.Record {
	records := make([]*kgo.Record, len(messages))
	for i, m := range messages {
		records[i] = &kgo.Record{Topic: m.Topic, Value: m.Value, Timestamp: at}
		for k, v := range m.Headers {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
	}
	return records
}

// dueRecord is one from the pool, with an id of its own, and for its time when
// it is due: that stands in the delivery too.
func dueRecord(m *kafka.Raw, key []byte, name string, i int, due time.Time) *kgo.Record {
	out := &kgo.Record{Topic: m.Topic, Key: key, Value: m.Value, Headers: make([]kgo.RecordHeader, 0, len(m.Headers))}
	for k, v := range m.Headers {
		value := []byte(v)
		switch k {
		case "ce_id":
			value = strconv.AppendInt([]byte(name+"-"), int64(i), 10)
		case "ce_time":
			value = due.UTC().AppendFormat(nil, time.RFC3339Nano)
		}
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: k, Value: value})
	}
	return out
}

// reader is the consumer: it reads committed deliveries only.
type reader struct {
	client *kgo.Client
	want   int64
	warm   int64
	due    func(i int) time.Time

	seen    map[string]struct{} // delivery ids
	took    []int64             // of each delivery after the warm-up
	last    time.Time           // when the last one came
	repeats int64
	count   *atomic.Int64
}

func (l *reader) open(ctx context.Context, engine *kafka.Engine, topic string, later bool) error {
	where := kgo.ConsumeTopics(topic)
	if later {
		adm, err := engine.Admin()
		if err != nil {
			return err
		}
		defer adm.Close()
		ends, err := kafka.CommittedEnds(ctx, adm, topic)
		if err != nil {
			return err
		}
		from := map[int32]kgo.Offset{}
		for p, end := range ends[topic] {
			from[p] = kgo.NewOffset().At(end)
		}
		where = kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	}
	var err error
	l.client, err = engine.NewClient(
		where,
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	return err
}

func (l *reader) run(ctx context.Context) error {
	from := l.due(int(l.warm))
	for l.count.Load() < l.want {
		fetches := l.client.PollFetches(ctx)
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading deliveries: %w", err)
		}
		var failed error
		fetches.EachRecord(func(rec *kgo.Record) {
			var id string
			var due time.Time
			for _, h := range rec.Headers {
				switch h.Key {
				case "ce_id":
					id = string(h.Value)
				case "ce_time":
					if err := due.UnmarshalText(h.Value); err != nil {
						failed = err
					}
				}
			}
			if _, again := l.seen[id]; again {
				l.repeats++
				return
			}
			l.seen[id] = struct{}{}
			l.count.Add(1)
			l.last = now
			if !due.Before(from) {
				l.took = append(l.took, int64(now.Sub(due)))
			}
		})
		if failed != nil {
			return fmt.Errorf("reading a delivery's time: %w", failed)
		}
	}
	return nil
}
