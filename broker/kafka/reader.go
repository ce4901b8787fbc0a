package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Span is a stretch of a partition: the offsets [From, To).
type Span struct {
	Topic     string
	Partition int32
	From      int64
	// To is the end; [Follow] is none.
	To int64
	// ID is the topic that From belongs to, where that is known from before: a
	// topic of the same name that was made anew holds other records. Zero is not
	// checked. While one Reader reads, it stays with one topic in any case.
	ID kadm.TopicID
}

// Follow is the end of a span that has none.
const Follow = math.MaxInt64

// GoneError says that the log does not hold what comes next: retention removed it,
// the log was cut off, or the topic was made anew. Waiting mends nothing.
type GoneError struct {
	Topic     string
	Partition int32
	Offset    int64 // that was to be read
	// The partition holds [Start, End) now; both are −1 where that is not known.
	Start, End int64
	Err        error
}

func (e *GoneError) Error() string {
	holds := ""
	switch {
	case e.Start >= 0 && e.Start < e.End:
		holds = fmt.Sprintf(" (the partition holds offsets %d to %d)", e.Start, e.End-1)
	case e.Start >= 0:
		holds = fmt.Sprintf(" (the partition is empty, and begins at offset %d)", e.Start)
	}
	return fmt.Sprintf("reading %s/%d: what stood at offset %d is gone%s: %v", e.Topic, e.Partition, e.Offset, holds, e.Err)
}

func (e *GoneError) Unwrap() error { return e.Err }

// Reader reads the committed records of one or more partitions, each from an
// offset on, in the order of the partition. It never jumps: what it cannot read is
// an error, [*GoneError] where it is not there. A Reader belongs to one goroutine.
//
// Topics must not be compacted where a span has an end: a reader that waits for the
// last offset before it does not learn that the offset is no record's any more.
//
// A Reader has connections of its own and reads ahead, by default up to 50 MB: see
// [Tail] for many readers of one partition.
type Reader struct {
	client  *kgo.Client // nil where there is nothing to read
	at      map[place]*position
	reading int           // positions that are not at their end
	fetched []*kgo.Record // markers among them; not handed out yet
	passing error         // an error that came together with records
	err     error         // why nothing can be read any more
}

type place struct {
	topic     string
	partition int32
}

type position struct {
	next, end int64
	id        kadm.TopicID
}

// Reader opens a reader of spans, at most one of a partition. opts come last and
// win: those for how much to fetch at once, and how long to wait for it. The
// caller closes it. It connects when first read.
func (e *Engine) Reader(spans []Span, opts ...kgo.Opt) (*Reader, error) {
	r := &Reader{at: make(map[place]*position, len(spans))}
	from := map[string]map[int32]kgo.Offset{}
	for _, s := range spans {
		p := place{s.Topic, s.Partition}
		if r.at[p] != nil {
			return nil, fmt.Errorf("two spans of %s/%d in one reader", s.Topic, s.Partition)
		}
		r.at[p] = &position{next: s.From, end: s.To, id: s.ID}
		if s.From >= s.To {
			continue
		}
		if s.From < 0 { // below 0 the client means places that move
			return nil, fmt.Errorf("reading %s/%d from offset %d", s.Topic, s.Partition, s.From)
		}
		r.reading++
		if from[s.Topic] == nil {
			from[s.Topic] = map[int32]kgo.Offset{}
		}
		from[s.Topic][s.Partition] = kgo.NewOffset().At(s.From)
	}
	if r.reading == 0 {
		return r, nil
	}
	var err error
	r.client, err = e.NewClient(append([]kgo.Opt{
		kgo.ConsumePartitions(from),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what is gone must be said
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the position reaches the end even where no record does
	}, opts...)...)
	return r, err
}

// Close ends the reader; a Poll under way returns.
func (r *Reader) Close() {
	if r.client != nil {
		r.client.Close()
	}
}

// Next is the offset after all that was handed out of a partition, the markers of
// transactions behind it included: where to read on.
func (r *Reader) Next(topic string, partition int32) int64 {
	return r.at[place{topic, partition}].next
}

// Poll returns records as soon as there are some, at most so many; 0 is no bound.
// It returns none and no error where only markers came by, so that one who goes by
// [Reader.Next] sees that. At the end of all spans it returns io.EOF.
//
// When ctx ends first that is the error, and nothing is lost by it. A *GoneError
// comes again at each call. Any other may pass: then Poll goes on where it was.
func (r *Reader) Poll(ctx context.Context, most int) ([]*kgo.Record, error) {
	if err := r.fetch(ctx, most); err != nil {
		return nil, err
	}
	records := r.fetched
	if most > 0 && len(records) > most { // left by Read
		records = records[:most:most]
	}
	r.fetched = r.fetched[len(records):]
	out := records[:0]
	for _, rec := range records {
		if r.pass(rec) {
			out = append(out, rec)
		}
	}
	return out, nil
}

// Read returns the next record; it waits for one. Its errors are those of Poll.
func (r *Reader) Read(ctx context.Context) (*kgo.Record, error) {
	for {
		if err := r.fetch(ctx, 0); err != nil {
			return nil, err
		}
		rec := r.fetched[0]
		r.fetched[0], r.fetched = nil, r.fetched[1:] // it is the caller's
		if r.pass(rec) {
			return rec, nil
		}
	}
}

// pass goes past a record, and reports whether it is one to hand out.
func (r *Reader) pass(rec *kgo.Record) bool {
	p := r.at[place{rec.Topic, rec.Partition}]
	if rec.Offset < p.next || p.next >= p.end {
		return false
	}
	within := rec.Offset < p.end
	if p.next = rec.Offset + 1; p.next >= p.end {
		p.next = p.end
		r.done(rec.Topic, rec.Partition)
	}
	return within && !rec.Attrs.IsControl()
}

// Leave ends a span where it stands.
func (r *Reader) Leave(topic string, partition int32) {
	if p := r.at[place{topic, partition}]; p.next < p.end {
		p.end = p.next
		r.done(topic, partition)
	}
}

func (r *Reader) done(topic string, partition int32) {
	if r.reading--; r.reading > 0 {
		r.client.PauseFetchPartitions(map[string][]int32{topic: {partition}})
	}
}

// fetch returns when there are records in fetched.
func (r *Reader) fetch(ctx context.Context, most int) error {
	for len(r.fetched) == 0 {
		switch err := r.passing; {
		case r.err != nil:
			return r.err
		case err != nil:
			r.passing = nil
			return err
		case r.reading == 0:
			return io.EOF
		}
		fetches := r.client.PollRecords(ctx, most)
		if fetches.IsClientClosed() {
			r.err = errors.New("the reader was closed")
			return r.err
		}
		r.passing = r.failures(ctx, fetches)
		if r.err != nil {
			return r.err // where records were lost, those that came with it may stand elsewhere
		}
		if r.fetched = fetches.Records(); len(r.fetched) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// failures returns the first error that may pass, and sets err to one that does not.
func (r *Reader) failures(ctx context.Context, fetches kgo.Fetches) (passing error) {
	fail := func(topic string, partition int32, err error) {
		p, ok := r.at[place{topic, partition}]
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()): // no fault: Poll returns it
		case !ok:
			passing = errors.Join(passing, fmt.Errorf("reading %s/%d: %w", topic, partition, err))
		case gone(err):
			if r.err == nil {
				r.err = r.lost(ctx, topic, partition, p.next, err)
			}
		case passing == nil:
			passing = fmt.Errorf("reading %s/%d from offset %d: %w", topic, partition, p.next, err)
		}
	}
	fetches.EachTopic(func(t kgo.FetchTopic) {
		t.EachPartition(func(f kgo.FetchPartition) {
			p := r.at[place{t.Topic, f.Partition}]
			if p != nil && len(f.Records) > 0 && p.id != (kadm.TopicID{}) && p.id != kadm.TopicID(t.TopicID) {
				fail(t.Topic, f.Partition, fmt.Errorf("%w: the topic was made anew, its id is %v and was %v", kerr.InconsistentTopicID, kadm.TopicID(t.TopicID), p.id))
			}
		})
	})
	fetches.EachError(fail)
	return passing
}

// gone tells that the client stops at an error, or would go on somewhere else.
func gone(err error) bool {
	_, cut := errors.AsType[*kgo.ErrDataLoss](err)
	return cut || errors.Is(err, kerr.OffsetOutOfRange) || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.InconsistentTopicID)
}

// lost says what the partition holds instead, if it can be learnt.
func (r *Reader) lost(ctx context.Context, topic string, partition int32, offset int64, err error) *GoneError {
	gone := &GoneError{topic, partition, offset, -1, -1, err}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	adm := kadm.NewClient(r.client)
	starts, err1 := Starts(ctx, adm, topic)
	ends, err2 := CommittedEnds(ctx, adm, topic)
	if err1 == nil && err2 == nil {
		gone.Start, gone.End = starts[topic][partition], ends[topic][partition]
	}
	return gone
}

// Each calls fn for the committed records of a span that has an end, and returns
// when it has been reached: what is not committed yet is waited for. An error of
// fn ends it, with the record's place.
func (e *Engine) Each(ctx context.Context, s Span, fn func(*kgo.Record) error) error {
	r, err := e.Reader([]Span{s})
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		rec, err := r.Read(ctx)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := fn(rec); err != nil {
			return fmt.Errorf("%s/%d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
		}
	}
}

// Spans are what a topic holds now: each partition from where it begins to where
// its committed records end, in the order of their numbers.
func Spans(ctx context.Context, adm *kadm.Client, topic string) ([]Span, error) {
	starts, err := Starts(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	ends, err := CommittedEnds(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	spans := make([]Span, len(ends[topic]))
	for p := range spans {
		p32 := int32(p)
		spans[p] = Span{Topic: topic, Partition: p32, From: starts[topic][p32], To: ends[topic][p32]}
	}
	return spans, nil
}
