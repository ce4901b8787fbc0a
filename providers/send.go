package providers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// lane is the way into one partition. One batch is under way at a time, made of
// what all callers wait for; that keeps the order through retries, because
// kafka-go has no idempotent producer to sort it out afterwards.
type lane struct {
	partition int

	mu    sync.Mutex
	queue []*submission
	busy  bool // a goroutine is sending
}

// submission is one call's events for one partition, in order. Its lane's
// goroutine owns the fields below the line.
type submission struct {
	ctx      context.Context
	deadline time.Time
	records  []*record
	index    []int // their places in the call
	done     chan struct{}

	next     int // the first that is neither written nor under way
	failures []Failure
	finished bool // done is closed
}

// slice is a submission's part of a batch.
type slice struct {
	s        *submission
	from, to int
}

// outcome is how a batch went: nil, or records [from, to) failed, and those
// after them were not sent. Over HTTP each record has an answer of its own.
type outcome struct {
	err      error
	from, to int
	maybe    bool
	each     []answer // over HTTP only
}

// answer is how a record went over HTTP: nil is durable.
type answer struct {
	err   error
	maybe bool
}

func (p *Publisher) submit(l *lane, s *submission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, s)
	if !l.busy {
		l.busy = true
		p.sending.Add(1)
		go p.drain(l)
	}
}

// drain sends batches until the queue is empty.
func (p *Publisher) drain(l *lane) {
	defer p.sending.Done()
	for {
		batch := p.nextBatch(l)
		if batch == nil {
			return
		}
		settle(batch, p.send(l.partition, batch))
	}
}

// nextBatch takes from the front of the queue as much as one batch holds. Nil
// means that the queue is empty and the lane at rest.
func (p *Publisher) nextBatch(l *lane) []slice {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(s *submission) bool {
		// A caller that has gone was told that its events may be written.
		return s.finished || s.ctx.Err() != nil
	})
	var batch []slice
	count, size := 0, batchOverhead
	for _, s := range l.queue {
		from := s.next
		for s.next < len(s.records) && count < p.cfg.BatchSize && size+s.records[s.next].size <= p.cfg.BatchBytes {
			size += s.records[s.next].size
			count++
			s.next++
		}
		if s.next > from {
			batch = append(batch, slice{s, from, s.next})
		}
		if s.next < len(s.records) {
			break // the batch is full
		}
	}
	l.busy = len(batch) > 0
	return batch
}

// settle tells the callers. A submission with a failure gets its later records
// back unsent; one that merely stood behind another's failure is sent again.
func settle(batch []slice, o outcome) {
	at := 0
	for _, b := range batch {
		s, first := b.s, at
		if o.each != nil {
			settleEach(b, o.each[at:at+b.to-b.from])
			at += b.to - b.from
			continue
		}
		at += b.to - b.from
		if o.err != nil && first >= o.to {
			s.next = b.from
			continue
		}
		if o.err != nil && at > o.from {
			for i := b.from + max(0, o.from-first); i < len(s.records); i++ {
				f := Failure{Index: s.index[i], Line: s.records[i].line, ID: s.records[i].id, Err: ErrNotSent}
				if i < b.to && first+i-b.from < o.to {
					f.Maybe, f.Err = o.maybe, o.err
				}
				s.failures = append(s.failures, f)
			}
			s.next = len(s.records)
		}
		if s.next >= len(s.records) {
			s.finished = true
			close(s.done)
		}
	}
}

// settleEach tells a caller of each of its records. One that was rejected holds
// nothing back; one that failed does.
func settleEach(b slice, answers []answer) {
	s, failed := b.s, false
	for i, a := range answers {
		if a.err == nil {
			continue
		}
		r := s.records[b.from+i]
		failed = failed || !errors.Is(a.err, ErrRejected)
		s.failures = append(s.failures, Failure{Index: s.index[b.from+i], Line: r.line, ID: r.id, Maybe: a.maybe, Err: a.err})
	}
	if failed {
		for i := b.to; i < len(s.records); i++ {
			s.failures = append(s.failures, Failure{Index: s.index[i], Line: s.records[i].line, ID: s.records[i].id, Err: ErrNotSent})
		}
		s.next = len(s.records)
	}
	if s.next >= len(s.records) {
		s.finished = true
		close(s.done)
	}
}

// send writes a batch, trying again until it is written, refused for good, out
// of time, or wanted by nobody.
func (p *Publisher) send(partition int, batch []slice) outcome {
	var records []*record
	var deadline time.Time
	for _, b := range batch {
		records = append(records, b.s.records[b.from:b.to]...)
		if b.s.deadline.After(deadline) {
			deadline = b.s.deadline
		}
	}
	unwanted, stop := watch(batch)
	defer stop()
	p.stats.batches.Add(1)
	begun := time.Now()
	var o outcome
	if p.http != nil {
		o = p.sendHTTP(records, deadline, unwanted)
	} else {
		o = p.sendRecords(partition, records, deadline, unwanted)
	}
	p.cfg.Log.Debug("published a batch", "dataset", p.cfg.Dataset, "lane", partition, "events", len(records), "took", time.Since(begun), "err", o.err)
	return o
}

func (p *Publisher) sendRecords(partition int, records []*record, deadline time.Time, unwanted <-chan struct{}) outcome {
	o := outcome{to: len(records)}
	for attempt := 0; ; attempt++ {
		err := p.produce(partition, records)
		if err == nil {
			return outcome{}
		}
		if errors.Is(err, kafka.MessageSizeTooLarge) {
			if len(records) == 1 {
				o.err = fmt.Errorf("%w for topic %q: raise its max.message.bytes, or split the event", ErrTooLarge, p.topic)
				return o
			}
			// The topic takes less than this publisher thought: in halves.
			half := len(records) / 2
			if first := p.sendRecords(partition, records[:half], deadline, unwanted); first.err != nil {
				return first
			}
			o = p.sendRecords(partition, records[half:], deadline, unwanted)
			o.from, o.to = o.from+half, o.to+half
			return o
		}
		o.maybe = o.maybe || ambiguous(err)
		if !retryable(err) {
			o.err = fmt.Errorf("Kafka refuses to write to %q: %w", p.topic, err)
			return o
		}
		p.retrying(partition, len(records), attempt, err)
		if !backoff(unwanted, attempt, deadline, 0) {
			o.err = fmt.Errorf("not written to %q, partition %d, in %d attempts: %w", p.topic, partition, attempt+1, err)
			return o
		}
	}
}

func (p *Publisher) retrying(lane, events, attempt int, err error) {
	p.stats.retries.Add(1)
	p.cfg.Log.Warn("publishing failed; it is tried again while there is time", "dataset", p.cfg.Dataset, "lane", lane, "events", events, "attempt", attempt+1, "err", err)
}

// produce is one attempt. The request is let run even when its callers have
// gone: only when it has ended may the next batch begin.
func (p *Publisher) produce(partition int, records []*record) error {
	res, err := p.client.Produce(context.Background(), &kafka.ProduceRequest{
		Topic:        p.topic,
		Partition:    partition,
		RequiredAcks: kafka.RequireAll,
		Compression:  p.compression,
		Records:      &recordReader{records: records},
	})
	if err != nil {
		return err
	}
	return res.Error
}

// recordReader hands records to kafka-go without copying them first.
type recordReader struct {
	records    []*record
	out        kafka.Record
	key, value bytesView
}

// ReadRecord returns the next record; it is valid until the next call.
func (r *recordReader) ReadRecord() (*kafka.Record, error) {
	if len(r.records) == 0 {
		return nil, io.EOF
	}
	next := r.records[0]
	r.records = r.records[1:]
	r.out = kafka.Record{Headers: next.headers}
	if next.key != nil {
		r.key.reset(next.key)
		r.out.Key = &r.key
	}
	r.value.reset(next.data)
	r.out.Value = &r.value
	return &r.out, nil
}

// bytesView reads a byte slice as kafka-go wants it.
type bytesView struct {
	b  []byte
	at int
}

func (v *bytesView) reset(b []byte) { v.b, v.at = b, 0 }

// Read reads on.
func (v *bytesView) Read(b []byte) (int, error) {
	if v.at == len(v.b) {
		return 0, io.EOF
	}
	n := copy(b, v.b[v.at:])
	v.at += n
	return n, nil
}

// WriteTo spares Read's buffer.
func (v *bytesView) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(v.b[v.at:])
	v.at += n
	return int64(n), err
}

// Len is the number of bytes left.
func (v *bytesView) Len() int { return len(v.b) - v.at }

// Close does nothing.
func (v *bytesView) Close() error { return nil }

// retryable tells what may pass: a network that fails, a leader that moves.
// What Kafka calls permanent, and a login that fails, is not.
func retryable(err error) bool {
	if errors.Is(err, errLogin) {
		return false
	}
	var code kafka.Error
	if errors.As(err, &code) {
		return code.Temporary()
	}
	return true
}

// ambiguous tells whether the write may have been made although it failed. Only
// an answer that says otherwise makes it certain that it was not.
func ambiguous(err error) bool {
	var code kafka.Error
	if errors.As(err, &code) {
		switch code {
		case kafka.RequestTimedOut, kafka.NotEnoughReplicasAfterAppend, kafka.NetworkException, kafka.Unknown:
			return true
		}
		return false
	}
	var op *net.OpError
	return !errors.As(err, &op) || op.Op != "dial" // nobody was there to write it
}

const (
	firstBackoff = 20 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// backoff waits before attempt+1: a random time up to a bound that doubles, so
// that many clients do not come back at once, after what the broker asked for.
// False means to give up, because
// stop was closed or the deadline would have passed.
func backoff(stop <-chan struct{}, attempt int, deadline time.Time, asked time.Duration) bool {
	bound := min(firstBackoff<<min(attempt, 10), maxBackoff)
	wait := max(asked, 0) + bound/2 + rand.N(bound/2+1)
	if time.Now().Add(wait).After(deadline) {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	}
}

// watch gives a channel that closes when every caller with a part in the batch
// has gone.
func watch(batch []slice) (<-chan struct{}, func()) {
	gone := make(chan struct{})
	var mu sync.Mutex
	left := len(batch)
	stops := make([]func() bool, len(batch))
	for i, b := range batch {
		stops[i] = context.AfterFunc(b.s.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				close(gone)
			}
		})
	}
	return gone, func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func (e *Error) sort() {
	slices.SortFunc(e.Failures, func(a, b Failure) int { return a.Index - b.Index })
}
