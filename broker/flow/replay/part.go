package replay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
)

// partKey is a source partition.
type partKey struct {
	dataset   broker.DatasetID
	topicID   broker.Digest
	partition int32
}

// part is a source partition on its way through the log. One worker at a time
// has it.
type part struct {
	key   partKey
	tape  *tape
	tally *tally

	source source // what its topic holds now
	next   int64  // after the last batch; −1 before the first

	// The window of repeats knows all from begin on. It knows all that it must
	// where that is a window's length before the record, or where the log begins.
	window *intake.Window
	limits deliver.Limits
	begin  int64
	whole  bool

	// Of the batches before the range: where they begin (−1: none were read),
	// and the records among them that were rejected.
	marksFrom int64
	marks     map[int64]bool

	after map[broker.AgreementID]int64 // usage when the last batch ended; nil where that is not known
	drift map[broker.AgreementID]int64 // permits that the candidate gave more than were given

	own, other judge
	headers    []intake.Header
	every      int // counts batches, for a sample
}

// source is a source partition as it stands now.
type source struct {
	topicID    broker.Digest
	start, end int64
	err        string // why nothing of it can be read
}

// mark remembers what a batch before the range rejected.
func (p *part) mark(h *deliver.BatchHeader) {
	if p.marks == nil {
		p.marks = map[int64]bool{}
	}
	if p.marksFrom < 0 || h.First != p.next { // a gap: what was before it is of no use
		p.marksFrom = h.First
	}
	p.next = h.Last + 1
	for _, delta := range h.RejectedAt {
		p.marks[h.First+delta] = true
	}
}

// lose forgets what went before: the next batch stands by itself.
func (p *part) lose(next int64) {
	p.window, p.after, p.next = nil, nil, next
}

// enter makes the window ready for a batch.
func (p *part) enter(ctx context.Context, ds *intake.Dataset, h *deliver.BatchHeader, hasher Hasher) error {
	same := p.limits.Window == h.Limits.Window && p.limits.WindowMillis == h.Limits.WindowMillis
	if p.window != nil && p.next == h.First && same {
		return nil
	}
	if h.Limits.Window < 1 || h.Limits.WindowMillis < 1 {
		return fmt.Errorf("the batch's window of repeats is of %d records and %d ms", h.Limits.Window, h.Limits.WindowMillis)
	}
	p.window = intake.NewWindow(intake.Limits{Window: h.Limits.Window, WindowAge: time.Duration(h.Limits.WindowMillis) * time.Millisecond})
	p.limits, p.begin = h.Limits, h.First
	floor := p.window.Floor(h.First)
	if p.marksFrom >= 0 && p.next == h.First {
		p.begin = min(h.First, max(floor, p.marksFrom, p.source.start))
		if err := p.restore(ctx, ds, h.First, hasher); err != nil {
			return err
		}
	}
	p.whole = p.begin <= floor
	p.marksFrom, p.marks = -1, nil
	return nil
}

// restore fills the window with the accepted records of [begin, to).
func (p *part) restore(ctx context.Context, ds *intake.Dataset, to int64, hasher Hasher) error {
	if p.begin >= to {
		return nil
	}
	if err := p.tape.seek(p.begin); err != nil {
		return err
	}
	for {
		r, err := p.tape.peek(ctx)
		if err != nil {
			return err
		}
		if r == nil || r.Offset >= to {
			return nil
		}
		p.tape.take()
		if p.marks[r.Offset] {
			continue
		}
		msg := p.message(r)
		if event, content, ok := ds.Identify(&msg, hasher, &p.own.doc); ok {
			p.window.Restore(event, content, r.Offset, r.Timestamp)
		}
	}
}

// knows reports whether the window holds all that the verdict on a record at
// offset depends on.
func (p *part) knows(offset int64) bool {
	return p.whole || offset-p.begin >= int64(p.limits.Window)
}

func (p *part) message(r *kgo.Record) intake.Message {
	p.headers = p.headers[:0]
	for _, h := range r.Headers {
		p.headers = append(p.headers, intake.Header(h))
	}
	return intake.Message{
		Position:  broker.Position{Dataset: p.key.dataset, TopicID: p.key.topicID, Partition: p.key.partition, Offset: r.Offset},
		Timestamp: r.Timestamp, Headers: p.headers, Value: r.Value,
	}
}
