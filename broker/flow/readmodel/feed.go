package readmodel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

const (
	// gather is how long decisions may wait for more, to be written together.
	gather = 200 * time.Millisecond
	// enough decisions are written without waiting for more: what the database
	// writes in a fraction of a second.
	enough = 20_000
	// pollRecords bounds what one poll takes: a record of decisions may hold
	// 900 kB, and a hundred times that in memory is too much.
	pollRecords = 64
)

// ErrOtherLog: what the read model holds did not come from this log, or the log
// lost what it had read. It is made again by Rebuild, not mended.
var ErrOtherLog = errors.New("the read model does not fit this log of decisions: run 'datafordeler rebuild'")

// feed reads the topic of decisions from where the read model stands, and applies.
// It belongs to one goroutine.
type feed struct {
	store   *store.Store
	control *flow.Control
	topic   string
	reader  *kafka.Reader
	from    map[int32]int64 // what the next batch of a partition answers for

	batches   []store.Batch
	decisions int
	since     time.Time // when the first of them was read
	newest    time.Time // the latest time of a batch among them
}

// openFeed begins where the read model stands, and reads up to given ends, or for
// ever where they are nil. The caller closes it.
func openFeed(ctx context.Context, o *Options, s *store.Store, ends map[int32]int64) (*feed, error) {
	f := &feed{store: s, control: o.Control, topic: o.Topics.Decisions()}
	adm, err := o.Engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	if f.from, err = startAt(ctx, adm, f.topic, s); err != nil {
		return nil, err
	}
	if err := f.sameLog(ctx, o.Engine); err != nil {
		return nil, err
	}
	var spans []kafka.Span
	for p, from := range f.from {
		span := kafka.Span{Topic: f.topic, Partition: p, From: from, To: kafka.Follow}
		if ends != nil {
			span.To = ends[p]
		}
		spans = append(spans, span)
	}
	f.reader, err = o.Engine.Reader(spans, kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20))
	return f, err
}

// startAt is where to read on in each partition of the topic.
func startAt(ctx context.Context, adm *kadm.Client, topic string, s *store.Store) (map[int32]int64, error) {
	next, err := s.Position(ctx)
	if err != nil {
		return nil, err
	}
	starts, err := kafka.Starts(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	ends, err := kafka.CommittedEnds(ctx, adm, topic)
	if err != nil {
		return nil, err
	}
	from := starts[topic]
	for p, at := range next {
		switch begin, ok := from[p]; {
		case !ok:
			return nil, fmt.Errorf("%w: it has read partition %d of %s, which is not there", ErrOtherLog, p, topic)
		case at < begin:
			return nil, fmt.Errorf("%w: it has read partition %d of %s up to offset %d, and the topic begins at %d: what lies between is gone", ErrOtherLog, p, topic, at, begin)
		case at > ends[topic][p]:
			return nil, fmt.Errorf("%w: it has read partition %d of %s up to offset %d, and the topic ends at %d", ErrOtherLog, p, topic, at, ends[topic][p])
		}
		from[p] = at
	}
	return from, nil
}

// sameLog looks the newest decision that the read model holds up in the log. A data
// directory that was made anew beside an old read model shows here, before the two
// are mixed.
func (f *feed) sameLog(ctx context.Context, engine *kafka.Engine) error {
	page, err := f.store.Search(ctx, store.Query{Limit: 1})
	if err != nil || len(page.Hits) == 0 {
		return err
	}
	hit := page.Hits[0]
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found := false
	span := kafka.Span{Topic: f.topic, Partition: hit.Place.Partition, From: hit.Place.Offset, To: hit.Place.Offset + 1}
	err = engine.Each(ctx, span, func(r *kgo.Record) error {
		index := 0
		_, err := decode(r.Value, func(d *broker.Decision) error {
			if index == hit.Place.Index {
				found = d.ID == hit.Decision.ID && d.Event == hit.Decision.Event && d.Time.Equal(hit.Decision.Time)
			}
			index++
			return nil
		})
		return err
	})
	if gone, lost := errors.AsType[*kafka.GoneError](err); lost {
		return fmt.Errorf("%w: its newest decision cannot be looked up: %w", ErrOtherLog, gone)
	}
	if err == nil && !found {
		err = fmt.Errorf("%w: its newest decision is not at offset %d of partition %d of %s", ErrOtherLog, hit.Place.Offset, hit.Place.Partition, f.topic)
	}
	return err
}

func (f *feed) close() { f.reader.Close() }

// read is the offset after the last one read of a partition, markers included.
func (f *feed) read(p int32) int64 { return f.reader.Next(f.topic, p) }

// next reads until there is enough to write, or until what was read has waited
// long enough; while nothing comes, it waits. It returns after each arrival that
// moves the position, and io.EOF at the end.
func (f *feed) next(ctx context.Context) error {
	for {
		polling, cancel := ctx, context.CancelFunc(func() {})
		if len(f.batches) > 0 {
			polling, cancel = context.WithDeadline(ctx, f.since.Add(gather))
		}
		records, err := f.reader.Poll(polling, pollRecords)
		waited := polling.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == io.EOF && len(f.batches) > 0:
			return nil // and again once they are applied
		case err != nil && !(waited && errors.Is(err, context.DeadlineExceeded)):
			return err
		}
		for _, r := range records {
			if err := f.take(r); err != nil {
				return err
			}
		}
		if len(f.batches) == 0 || waited || f.decisions >= enough {
			return nil
		}
	}
}

// take decodes one record.
func (f *feed) take(r *kgo.Record) error {
	b := store.Batch{LogPartition: r.Partition, LogOffset: r.Offset, LogFrom: f.from[r.Partition]}
	var err error
	if b.Head, err = decode(r.Value, func(d *broker.Decision) error {
		b.Decisions = append(b.Decisions, *d)
		return nil
	}); err != nil {
		return fmt.Errorf("%s/%d offset %d: %w", f.topic, r.Partition, r.Offset, err)
	}
	if len(f.batches) == 0 {
		f.since = time.Now()
	}
	f.from[r.Partition] = r.Offset + 1
	f.batches = append(f.batches, b)
	f.decisions += len(b.Decisions)
	if t := b.Head.Time; t.After(f.newest) {
		f.newest = t
	}
	return nil
}

// apply writes what was read. Decisions name the revision that they were made at:
// what is known of agreements reaches that far first.
func (f *feed) apply(ctx context.Context) error {
	if len(f.batches) == 0 {
		return nil
	}
	var rev broker.Revision
	for i := range f.batches {
		rev = max(rev, f.batches[i].Head.Revision)
	}
	if err := f.control.Await(ctx, rev); err != nil {
		return fmt.Errorf("waiting for revision %d of the registry, which decisions name: %w", rev, err)
	}
	if err := f.store.Apply(ctx, f.batches, f.parties); err != nil {
		return err
	}
	clear(f.batches)
	f.batches, f.decisions = f.batches[:0], 0
	return nil
}

// parties are those of an agreement. The registry lets nobody change them, and
// every decision under an agreement came after it: at whatever revision one asks,
// the answer is the same.
func (f *feed) parties(id broker.AgreementID, _ broker.Revision) (p store.Parties, ok bool) {
	f.control.View(func(st *registry.State) {
		if a := st.Agreement(id); a != nil {
			p, ok = store.Parties{Consumer: a.Consumer, Provider: a.Provider, Supplier: a.Supplier}, true
		}
	})
	return p, ok
}

// decode reads a record of decisions: the stream's, or single ones, which lie
// scattered and cover no range.
func decode(value []byte, fn func(*broker.Decision) error) (store.Head, error) {
	if deliver.IsSingles(value) {
		h, err := deliver.DecodeSingles(value, fn)
		return store.Head{
			Kind: h.Kind, TopicID: h.TopicID, Partition: h.Partition, Last: -1, Time: h.Time, Revision: h.Revision, Policy: h.Policy, Period: h.Period,
			Decisions: h.Decisions, Permits: h.Permits,
		}, err
	}
	h, err := deliver.Decode(value, fn)
	if err != nil {
		return store.Head{}, err
	}
	kind := broker.ParseDecisionKind(h.Kind)
	if kind != broker.StreamDecision { // whatever is not the stream's has a format of its own
		return store.Head{}, fmt.Errorf("decisions of kind %q over a range: this program does not know them", h.Kind)
	}
	return store.Head{
		Kind: kind, Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, First: h.First, Last: h.Last,
		Time: h.Time, Revision: h.Revision, Policy: h.Policy, Period: h.Period,
		Records: h.Records, OutOfScope: h.OutOfScope, Repeated: h.Repeated, Rejected: h.Rejected,
	}, nil
}
