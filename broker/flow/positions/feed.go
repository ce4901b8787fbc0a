package positions

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	index "datafordeler/broker/store/positions"
)

const (
	// pollRecords bounds what one poll takes: a record of decisions may hold 900 kB.
	pollRecords = 64
	// enough records are written without reading more. Much at once is cheap: keys are
	// hashes, and those of a large batch share pages.
	enough = 100_000
	// idle is how long to wait for decisions before there is time to tidy up.
	idle = 200 * time.Millisecond
	// readRecords is how many source records are asked for at once.
	readRecords = 2_000
	// tailMemory is what is kept of the end of each source topic, in bytes: what was
	// decided was published moments ago.
	tailMemory = 8 << 20
)

// feed reads the topic of decisions from where the index stands, and applies. It
// belongs to one goroutine.
type feed struct {
	*Options
	index  *index.Index
	adm    *kadm.Client
	topic  string
	reader *kafka.Reader
	from   map[int32]int64 // where reading began

	sources map[broker.DatasetID]*sourceTopic
	rec     broker.Record
	doc     jsondoc.Doc

	decisions []*kgo.Record
	swept     sweep
}

// sourceTopic is an open source topic.
type sourceTopic struct {
	tail    *kafka.Tail
	kind    broker.SubjectKind
	pointer broker.Pointer
	locator *intake.Locator
}

func (f *feed) close() error {
	for _, s := range f.sources {
		if s.tail != nil {
			s.tail.Close()
		}
	}
	if f.reader != nil {
		f.reader.Close()
	}
	if f.adm != nil {
		f.adm.Close()
	}
	if f.index == nil {
		return nil
	}
	return f.index.Close()
}

// read is the offset after the last one read of a partition, markers included.
func (f *feed) read(p int32) int64 { return f.reader.Next(f.topic, p) }

// next waits for decisions; after a while without any it returns all the same.
func (f *feed) next(ctx context.Context) error {
	polling, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	records, err := f.reader.Poll(polling, pollRecords)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !(polling.Err() != nil && errors.Is(err, context.DeadlineExceeded)):
		return err
	}
	f.decisions = records
	return nil
}

// apply adds what was read to the index, and returns how many records it wrote.
func (f *feed) apply(ctx context.Context) (records int, err error) {
	var batches []index.Batch
	pending := map[partition]int64{} // next, with what is in batches
	n := 0
	flush := func() error {
		err := f.index.Apply(ctx, batches)
		records, n, batches = records+n, 0, batches[:0]
		return err
	}
	for _, r := range f.decisions {
		b := index.Batch{LogPartition: r.Partition, Log: placeOf(r)}
		if deliver.IsSingles(r.Value) {
			var err error
			if b.Gifts, err = giftsOf(r.Value); err != nil {
				return records, fmt.Errorf("%s/%d offset %d: %w", f.topic, r.Partition, r.Offset, err)
			}
		} else {
			h, _, err := deliver.DecodeHeader(r.Value)
			if err == nil {
				err = f.fill(ctx, &b, &h, pending)
			}
			if err != nil {
				return records, fmt.Errorf("%s/%d offset %d: %w", f.topic, r.Partition, r.Offset, err)
			}
		}
		n += len(b.Records) + len(b.Gifts)
		if batches = append(batches, b); n >= enough {
			if err := flush(); err != nil {
				return records, err
			}
		}
	}
	f.decisions = nil
	if len(batches) == 0 {
		return records, nil
	}
	return records, flush()
}

// giftsOf are what single decisions gave or kept back, of records in the log. What a
// lookup or a door took back again stands there too, after what it took back.
func giftsOf(value []byte) (gifts []index.Gift, err error) {
	_, err = deliver.DecodeSingles(value, func(d *broker.Decision) error {
		g := index.Gift{Dataset: d.Position.Dataset, TopicID: d.Position.TopicID, Partition: d.Position.Partition, Offset: d.Position.Offset,
			Event: d.Event, Subscription: d.Subscription}
		switch {
		case d.Position.Offset == broker.Nowhere, d.Event.IsZero(), d.Kind == broker.NoticeDecision:
			return nil
		case d.Kind == broker.DoorDecision:
			g.What = index.GivenBack
		case d.Outcome.Permit && (len(d.Fields) > 0 || d.Shielded):
			g.What = index.GivenData
		default:
			return nil
		}
		gifts = append(gifts, g)
		return nil
	})
	return gifts, err
}

// placeOf says how far the log is with a record of decisions.
func placeOf(r *kgo.Record) index.LogPlace {
	sum := sha256.Sum256(r.Value)
	return index.LogPlace{Next: r.Offset + 1, Last: r.Offset, Sum: broker.Digest(sum[:16])}
}

type partition struct {
	topicID broker.Digest
	number  int32
}

// fill reads the source records that a batch of decisions is about.
func (f *feed) fill(ctx context.Context, b *index.Batch, h *deliver.BatchHeader, pending map[partition]int64) error {
	s, err := f.source(ctx, h)
	if err != nil || s == nil {
		return err
	}
	p := partition{h.TopicID, h.Partition}
	from := max(h.First, f.index.Next(h.TopicID, h.Partition), pending[p])
	b.Dataset, b.TopicID, b.Partition, b.Next, b.At = h.Dataset, h.TopicID, h.Partition, h.Last+1, h.Time
	rejected := make(map[int64]bool, len(h.RejectedAt))
	for _, delta := range h.RejectedAt {
		rejected[h.First+delta] = true
	}
	for from <= h.Last {
		records, next, err := s.tail.Read(ctx, h.Partition, from, readRecords, idle)
		if gone, ok := errors.AsType[*kafka.GoneError](err); ok {
			from = f.after(gone, h)
			continue
		}
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Offset > h.Last {
				break
			}
			if rejected[r.Offset] {
				continue
			}
			msg := intake.Message{
				Position:  broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, Offset: r.Offset},
				Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value,
			}
			if s.locator.Locate(&msg, f.Hasher, &f.rec, &f.doc) && f.rec.HasSubject {
				b.Records = append(b.Records, index.Record{Offset: r.Offset, Subject: f.rec.Subject, Event: f.rec.Event, Kind: f.rec.Kind, Of: f.rec.Of})
			}
		}
		if len(records) == 0 && next == from { // it waited in vain
			oldest, end, err := s.tail.Bounds(ctx, h.Partition)
			if err != nil {
				return err
			}
			if end <= from {
				next = f.after(&kafka.GoneError{Topic: f.Topics.Source(string(h.Dataset)), Partition: h.Partition, Offset: from, Start: oldest, End: end, Err: kerr.OffsetOutOfRange}, h)
			}
		}
		from = next
	}
	pending[p] = h.Last + 1
	return nil
}

// after is where to read on when records are gone. What retention removed is passed
// over; of a topic that was made anew or cut off, nothing is left.
func (f *feed) after(gone *kafka.GoneError, h *deliver.BatchHeader) int64 {
	if errors.Is(gone, kerr.UnknownTopicID) || errors.Is(gone, kerr.InconsistentTopicID) {
		// Its tail is at its end: another is opened for the next batch.
		f.sources[h.Dataset].tail.Close()
		delete(f.sources, h.Dataset)
		return h.Last + 1
	}
	if gone.Start > gone.Offset {
		return gone.Start
	}
	f.Log.Warn("records that were decided are not in the log any more: the index of positions goes on without them", "err", gone)
	return h.Last + 1
}

// source is the open topic of a batch's records; nil where there is nothing to index:
// the dataset has no subject or is not declared any more, or its topic is another now.
func (f *feed) source(ctx context.Context, h *deliver.BatchHeader) (*sourceTopic, error) {
	if err := f.Control.Await(ctx, h.Revision); err != nil {
		return nil, err
	}
	var ds broker.Dataset
	f.Control.View(func(st *registry.State) {
		if d := st.Dataset(h.Dataset); d != nil {
			ds = broker.Dataset{ID: d.ID, Subject: d.Subject}
		}
	})
	if ds.ID == "" || ds.Subject.Kind == broker.NoSubject {
		return nil, nil
	}
	s := f.sources[h.Dataset]
	if s == nil {
		s = &sourceTopic{}
		f.sources[h.Dataset] = s
	}
	if s.locator == nil || s.kind != ds.Subject.Kind || s.pointer != ds.Subject.Pointer {
		var err error
		if s.locator, err = intake.NewLocator(&ds); err != nil {
			return nil, fmt.Errorf("dataset %s: %w", ds.ID, err)
		}
		s.kind, s.pointer = ds.Subject.Kind, ds.Subject.Pointer
	}
	if s.tail != nil && broker.Digest(s.tail.ID()) == h.TopicID {
		return s, nil
	}
	// The topic may have been made anew since its tail was opened, or since the
	// decision was made.
	topic := f.Topics.Source(string(h.Dataset))
	there, err := kafka.Describe(ctx, f.adm, topic)
	if err != nil {
		return nil, err
	}
	if d, ok := there[topic]; !ok || broker.Digest(d.ID) != h.TopicID {
		return nil, f.index.Remove(ctx, h.TopicID)
	}
	if s.tail != nil {
		old := broker.Digest(s.tail.ID())
		s.tail.Close()
		s.tail = nil
		if err := f.index.Remove(ctx, old); err != nil {
			return nil, err
		}
	}
	s.tail, err = f.Engine.Tail(ctx, topic, kafka.TailOptions{Memory: tailMemory, Readers: 4})
	if err != nil {
		return nil, err
	}
	if broker.Digest(s.tail.ID()) != h.TopicID {
		return nil, fmt.Errorf("topic %s was made anew this moment", topic)
	}
	return s, nil
}
