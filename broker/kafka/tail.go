package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Tail lets many read the partitions of one topic, each from an offset of its own.
//
// To wake one more reader at an arrival takes some 5 µs of one processor, and half a
// millisecond where each has a [Reader] (BenchmarkTailWaiting; the embedded engine).
//
// One reader follows the topic and keeps its latest records in memory. Who reads
// there, or waits for what comes next, costs a goroutine and no connection; nothing
// is buffered for it, so the slow ones hold up nobody and cost no memory. Who is
// further behind than memory goes reads from Kafka, with one of a few readers that
// are kept open between its calls. Its methods may be called from several
// goroutines.
type Tail struct {
	engine *Engine
	log    *slog.Logger
	topic  string
	id     kadm.TopicID
	adm    *kadm.Client
	slots  chan struct{} // held by each that reads from Kafka
	stop   context.CancelFunc
	ended  sync.WaitGroup
	each   int // bytes to keep of a partition
	key    func(*kgo.Record) string

	parts []tailPart

	mu     sync.Mutex // guards idle and closed
	idle   []idleReader
	closed bool
}

// tailPart is what memory holds of a partition: its offsets [low, high).
type tailPart struct {
	mu      sync.Mutex // guards all below
	low     int64
	high    int64
	records []*kgo.Record
	bytes   int
	changed chan struct{} // closed and replaced when high moves, or err is set
	err     error

	// Where records have keys (tail_key.go); nil otherwise.
	index   *tailIndex
	waiting map[string]*tailWait
}

// idleReader is one that somebody read from, who is likely to go on there.
type idleReader struct {
	*Reader
	partition int32
	next      int64
	since     time.Time
}

// TailOptions bound what a Tail costs. Zero is the default of each.
type TailOptions struct {
	// Memory is for the latest records of all partitions, in bytes as they were
	// written; the default is 64 MiB. Records of one batch share theirs, so what is
	// in use may be more by a batch for each partition.
	Memory int
	// Readers is how many may read from Kafka at once, the others waiting; and how
	// many readers are kept for who reads on. The default is 16. Each holds some
	// megabytes while it is used.
	Readers int
	// KeyHeader is the header that says whose a record is, for [Tail.ReadKey]. "" is
	// that nobody asks.
	KeyHeader string
	// Offsets is how many records' keys are remembered, of all partitions; the default
	// is 4 million. Each takes 8 bytes, and a key some hundred in each partition.
	Offsets int
}

// idleLimit is how long a reader is kept for who may read on.
const idleLimit = 15 * time.Second

// Tail opens a tail of a topic, which must exist. The caller closes it.
func (e *Engine) Tail(ctx context.Context, topic string, o TailOptions) (*Tail, error) {
	if o.Memory == 0 {
		o.Memory = 64 << 20
	}
	if o.Readers == 0 {
		o.Readers = 16
	}
	if o.Offsets == 0 {
		o.Offsets = 4 << 20
	}
	adm, err := e.Admin()
	if err != nil {
		return nil, err
	}
	t := &Tail{engine: e, log: e.log, topic: topic, adm: adm, key: keyIn(o.KeyHeader), slots: make(chan struct{}, o.Readers)}
	ids, err := TopicIDs(ctx, adm, topic)
	if err != nil {
		adm.Close()
		return nil, err
	}
	t.id = ids[topic]
	spans, err := Spans(ctx, adm, topic)
	if err != nil {
		adm.Close()
		return nil, err
	}
	t.parts, t.each = make([]tailPart, len(spans)), o.Memory/len(spans)
	for i := range spans {
		s := &spans[i]
		s.From, s.To, s.ID = s.To, Follow, t.id
		t.parts[i].low, t.parts[i].high, t.parts[i].changed = s.From, s.From, make(chan struct{})
		if t.key != nil {
			t.parts[i].index, t.parts[i].waiting = newTailIndex(s.From, o.Offsets/2/len(spans)), map[string]*tailWait{}
		}
	}
	r, err := e.Reader(spans, kgo.FetchMaxBytes(8<<20), kgo.FetchMaxPartitionBytes(1<<20))
	if err != nil {
		adm.Close()
		return nil, err
	}
	ctx, t.stop = context.WithCancel(context.Background())
	t.ended.Go(func() { t.follow(ctx, r) })
	t.ended.Go(func() { t.tidy(ctx) })
	return t, nil
}

// Close ends the tail: who waits in Read gets an error.
func (t *Tail) Close() {
	t.stop()
	t.ended.Wait()
	t.mu.Lock()
	idle := t.idle
	t.idle, t.closed = nil, true
	t.mu.Unlock()
	for _, r := range idle {
		r.Close()
	}
	t.adm.Close()
}

// ID is the topic's: an offset is one of this topic only.
func (t *Tail) ID() kadm.TopicID { return t.id }

// Bounds are the oldest offset that a partition keeps, and the one after its newest
// committed record.
func (t *Tail) Bounds(ctx context.Context, partition int32) (oldest, next int64, err error) {
	starts, err := Starts(ctx, t.adm, t.topic)
	if err != nil {
		return 0, 0, err
	}
	ends, err := CommittedEnds(ctx, t.adm, t.topic)
	if err != nil {
		return 0, 0, err
	}
	oldest, known := starts[t.topic][partition]
	next, too := ends[t.topic][partition]
	if !known || !too {
		return 0, 0, fmt.Errorf("topic %s has no partition %d", t.topic, partition)
	}
	return oldest, next, nil
}

// After is the offset of a partition's first record at or after a time; where there
// is none, the one after its newest committed record.
func (t *Tail) After(ctx context.Context, partition int32, at time.Time) (int64, error) {
	listed, err := t.adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), t.topic)
	if err != nil {
		return 0, err
	}
	o, ok := listed.Lookup(t.topic, partition)
	if !ok {
		return 0, fmt.Errorf("topic %s has no partition %d", t.topic, partition)
	}
	if o.Err != nil {
		return 0, o.Err
	}
	_, end, err := t.Bounds(ctx, partition)
	return min(o.Offset, end), err
}

// Partitions is how many the topic has.
func (t *Tail) Partitions() int32 { return int32(len(t.parts)) }

var errTailClosed = errors.New("the tail was closed")

// Read returns committed records of a partition from an offset on, at most so
// many, as soon as there are some; and next, the offset to read on from. Where
// there are none yet it waits so long for the first, and then returns none and no
// error; next may have moved all the same, over the markers of transactions.
//
// The error is ctx's if that ends first; a [*GoneError] where the partition does
// not hold the offset, or ended before it; any other may pass, except that a topic
// that was made anew ends the tail. The records are shared: nobody changes them.
func (t *Tail) Read(ctx context.Context, partition int32, from int64, most int, wait time.Duration) (records []*kgo.Record, next int64, err error) {
	if partition < 0 || int(partition) >= len(t.parts) {
		return nil, from, fmt.Errorf("topic %s has no partition %d", t.topic, partition)
	}
	if most < 1 {
		return nil, from, fmt.Errorf("reading at most %d records", most)
	}
	var enough <-chan time.Time
	p := &t.parts[partition]
	next = from
	asked := false
	for {
		p.mu.Lock()
		low, high, changed, err := p.low, p.high, p.changed, p.err
		if err == nil && low <= next && next < high {
			records = p.from(next, most)
			if len(records) == most {
				next = records[most-1].Offset + 1
			} else {
				next = high // over what follows the last of them: markers
			}
		}
		p.mu.Unlock()
		switch {
		case err != nil:
			return nil, next, err
		case len(records) > 0:
			return records, next, nil
		case next < low:
			records, at, err := t.behind(ctx, partition, next, low, most)
			if err != nil || len(records) > 0 {
				return records, at, err
			}
			next = at
			continue
		case next > high && !asked:
			// Somebody saw more than this tail has yet; or it never was.
			asked = true
			if err := t.within(ctx, partition, next); err != nil {
				return nil, next, err
			}
		}
		if wait <= 0 {
			return nil, next, nil
		}
		if enough == nil {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			enough = timer.C
		}
		select {
		case <-changed:
		case <-enough:
			return nil, next, nil
		case <-ctx.Done():
			return nil, next, ctx.Err()
		}
	}
}

// from returns the records at an offset and after it. The caller holds the lock.
func (p *tailPart) from(offset int64, most int) []*kgo.Record {
	i, _ := slices.BinarySearchFunc(p.records, offset, recordAt)
	return slices.Clone(p.records[i:min(i+most, len(p.records))])
}

func recordAt(r *kgo.Record, at int64) int { return cmp.Compare(r.Offset, at) }

// within is an error where the partition ends before an offset.
func (t *Tail) within(ctx context.Context, partition int32, offset int64) error {
	spans, err := Spans(ctx, t.adm, t.topic)
	if err != nil {
		return err
	}
	if s := spans[partition]; offset > s.To {
		return &GoneError{t.topic, partition, offset, s.From, s.To, kerr.OffsetOutOfRange}
	}
	return nil
}

// behind reads from Kafka what memory does not hold any more, up to end.
func (t *Tail) behind(ctx context.Context, partition int32, from, end int64, most int) ([]*kgo.Record, int64, error) {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return nil, from, ctx.Err()
	}
	r := t.take(partition, from)
	if r == nil {
		var err error
		r, err = t.engine.Reader([]Span{{t.topic, partition, from, end, t.id}},
			kgo.FetchMaxBytes(4<<20), kgo.FetchMaxPartitionBytes(1<<20), kgo.MaxConcurrentFetches(1))
		if err != nil {
			return nil, from, err
		}
	}
	records, err := r.Poll(ctx, most)
	next := r.Next(t.topic, partition)
	if err != nil {
		r.Close()
		if err == io.EOF {
			err = nil
		}
		return nil, next, err
	}
	if r.reading == 0 {
		r.Close()
	} else {
		t.keep(idleReader{r, partition, next, time.Now()})
	}
	return records, next, nil
}

// take finds a reader that stands at an offset.
func (t *Tail) take(partition int32, next int64) *Reader {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.idle, func(r idleReader) bool { return r.partition == partition && r.next == next })
	if i < 0 {
		return nil
	}
	r := t.idle[i].Reader
	t.idle = slices.Delete(t.idle, i, i+1)
	return r
}

// keep puts a reader by for who reads on; the one that waited longest makes way.
func (t *Tail) keep(r idleReader) {
	t.mu.Lock()
	t.idle = append(t.idle, r)
	var out []idleReader
	switch {
	case t.closed:
		out, t.idle = t.idle, nil
	case len(t.idle) > cap(t.slots):
		out = slices.Clone(t.idle[:1])
		t.idle = slices.Delete(t.idle, 0, 1)
	}
	t.mu.Unlock()
	for _, r := range out {
		r.Close()
	}
}

// tidy closes readers that nobody came back for.
func (t *Tail) tidy(ctx context.Context) {
	tick := time.NewTicker(idleLimit / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t.mu.Lock()
			old, _ := slices.BinarySearchFunc(t.idle, now.Add(-idleLimit), func(r idleReader, at time.Time) int { return r.since.Compare(at) })
			out := slices.Clone(t.idle[:old])
			t.idle = slices.Delete(t.idle, 0, old)
			t.mu.Unlock()
			for _, r := range out {
				r.Close()
			}
		}
	}
}

// follow is the goroutine that reads the ends of all partitions.
func (t *Tail) follow(ctx context.Context, r *Reader) {
	defer r.Close()
	for {
		records, err := r.Poll(ctx, 0)
		if ctx.Err() != nil {
			t.fail(errTailClosed)
			return
		}
		if _, gone := errors.AsType[*GoneError](err); gone {
			t.log.Error("a topic is followed no further", "err", err)
			t.fail(err)
			return
		}
		if err != nil {
			t.log.Warn("a topic cannot be followed for now", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		for i := range t.parts {
			p := &t.parts[i]
			high := r.Next(t.topic, int32(i))
			p.mu.Lock()
			if high > p.high {
				for _, rec := range records {
					if rec.Partition == int32(i) {
						p.records = append(p.records, rec)
						p.bytes += weight(rec)
						if t.key != nil {
							p.arrived(t.key(rec), rec.Offset)
						}
					}
				}
				p.high = high
				p.evict(t.each)
				p.wake()
			}
			p.mu.Unlock()
		}
	}
}

// evict lets go of the oldest records until the rest are of so many bytes.
func (p *tailPart) evict(most int) {
	n := 0
	for ; p.bytes > most; n++ {
		p.bytes -= weight(p.records[n])
		p.low = p.records[n].Offset + 1
	}
	p.records = slices.Delete(p.records, 0, n)
}

func (p *tailPart) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wakeAll wakes those who wait for one key's too. The lock is held.
func (p *tailPart) wakeAll() {
	p.wake()
	for key, w := range p.waiting {
		close(w.came)
		delete(p.waiting, key)
	}
}

// weight is what a record takes in memory, about.
func weight(r *kgo.Record) int {
	n := 200 + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += 40 + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

func (t *Tail) fail(err error) {
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.Lock()
		p.err = err
		p.wakeAll()
		p.mu.Unlock()
	}
}
