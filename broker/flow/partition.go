package flow

import (
	"context"
	"errors"
	"fmt"
	"math"
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
)

// partition is what an instance knows of a source partition that it owns. It
// is made by load from what is committed, changed by commit alone, and dropped
// when the partition is lost; a transaction's changes are pending until then.
type partition struct {
	topic   string
	dataset broker.DatasetID
	topicID broker.Digest
	number  int32

	start     int64           // of the source, as load found it: retention moves it on
	next      int64           // first offset not decided yet
	decided   int64           // as load found it: after the last committed decision
	committed broker.Revision // in the committed metadata
	stored    bool            // whether anything is committed
	last      time.Time       // time of the last batch: the clock never goes back
	window    *intake.Window
	usage     map[broker.AgreementID]int64 // delivered under agreements with a ceiling
	spending  map[broker.AgreementID]spending
	marks     []mark // where the decisions of the window's records lie
	steps     []step // where the offsets of the revisions that backfill looks back to begin
	backfill  backfill
	notices   notices
}

// mark says that the decisions from source offset first on begin at an offset
// of the decisions partition.
type mark struct{ first, decisions int64 }

// floor drops the marks before the one that covers from, and returns where in
// the decisions partition a rebuild begins; −1 when nothing was written.
func floor(marks []mark, from int64) ([]mark, int64) {
	for len(marks) > 1 && marks[1].first <= from {
		marks = marks[1:]
	}
	if len(marks) == 0 {
		return marks, -1
	}
	return marks, marks[0].decisions
}

func (p *partition) metadata(next int64, rev broker.Revision, written ...mark) metadata {
	all := append(p.marks[:len(p.marks):len(p.marks)], written...)
	_, d := floor(all, p.window.Floor(next))
	if len(p.steps) > 0 && d >= 0 {
		d = min(d, p.steps[0].decisions)
	}
	m := metadata{revision: rev, topic: p.topicID, decisions: d, backfill: *p.backfill.latest()}
	if o := p.notices.first(); o != nil && d >= 0 {
		m.decisions = min(d, o.decisions)
	}
	m.backfill.told = p.told(next)
	return m
}

// told is the first offset that may owe a notice once the transaction under way has
// committed, which ends before next.
func (p *partition) told(next int64) int64 {
	if o := p.notices.first(); o != nil {
		return o.offset
	}
	return next
}

// errRetention is a source whose records went before they were decided.
var errRetention = errors.New("records were deleted by retention before they were decided")

// load makes a partition's state from what is committed: where to go on, under
// which revision at the least, and the window of repeats and the usage by
// reading back. Anything that does not fit stops the instance.
func (s *session) load(ctx context.Context, topic string, number int32) (*partition, error) {
	b := s.broker
	name, ok := b.topics.SourceDataset(topic)
	if !ok {
		return nil, fmt.Errorf("topic %s is not a source", topic)
	}
	p := &partition{topic: topic, dataset: broker.DatasetID(name), number: number, window: intake.NewWindow(b.limits)}
	ids, err := kafka.TopicIDs(ctx, s.adm, topic)
	if err != nil {
		return nil, err
	}
	p.topicID = broker.Digest(ids[topic])
	starts, err := kafka.Starts(ctx, s.adm, topic)
	if err != nil {
		return nil, err
	}
	start := starts[topic][number]
	p.start = start
	committed, err := committedOffsets(kadm.RequireStable(ctx), s.adm, b.cfg.Group, topic)
	if err != nil {
		return nil, unsettled(err)
	}
	o, ok := committed.Lookup(topic, number)
	if ok && o.Err != nil {
		return nil, fmt.Errorf("reading the committed offset: %w", unsettled(o.Err))
	}
	p.next, p.stored = start, ok && o.At >= 0
	p.backfill.done.told = math.MaxInt64 // where nothing says how far notices have come, nothing is read back
	decisions := int64(-1)
	switch {
	case !p.stored:
		// A new partition; or Kafka has dropped the group's offsets, because no
		// instance ran for long; or the embedded engine lost the first one.
		// What was decided stands all the same, and is looked for from the start.
		ends, err := kafka.CommittedEnds(ctx, s.adm, topic)
		if err != nil {
			return nil, err
		}
		if ends[topic][number] > 0 {
			decisions = 0
		}
	case o.Metadata == "":
		// Set by hand, with Kafka's own tools. It says nothing of decisions.
		p.next, decisions = o.At, 0
		b.log.Warn("the group's offset was set by hand", "topic", topic, "partition", number, "offset", o.At)
	default:
		m, err := parseMetadata(o.Metadata)
		if err != nil {
			return nil, stop(err)
		}
		if m.topic != p.topicID {
			return nil, stop(fmt.Errorf("the topic was deleted and made again (id %s, was %s): its offsets mean other records. "+
				"Delete the group's offsets for this topic to begin anew", p.topicID, m.topic))
		}
		p.next, p.committed, decisions = o.At, m.revision, m.decisions
		if m.backfill.told < 0 { // an older version's, which owed no notices
			m.backfill.told = o.At
		}
		p.backfill.done, p.backfill.saved = m.backfill, m.backfill
		// A new owner never goes back behind what was decided here before.
		if err := b.control.Await(ctx, m.revision); err != nil {
			return nil, fmt.Errorf("folding control up to revision %d: %w", m.revision, err)
		}
	}
	rejected, err := s.readDecisions(ctx, p, decisions)
	if err != nil {
		return nil, err
	}
	if o.Metadata == "" || !p.stored {
		p.beginBackfill(b.control.Revision())
	}
	p.backfill.done.told = p.told(max(p.next, p.decided))
	if o.Metadata != "" && p.stored && decisions >= 0 && p.decided < o.At {
		// A partition of decisions serves several source partitions, and reads
		// no further than to the first open transaction in it, whosever that is.
		return nil, fmt.Errorf("decisions are readable up to source offset %d of %d: %w", p.decided, o.At, errUnsettled)
	}
	if err := s.overtake(p, p.next); err != nil {
		return nil, err
	}
	if p.next < start {
		return nil, stop(fmt.Errorf("%w: offsets %d to %d of %s/%d. Set the group's offset to %d to go on without them",
			errRetention, p.next, start-1, topic, number, start))
	}
	return p, s.readWindow(ctx, p, max(start, p.window.Floor(p.next)), rejected)
}

// unsettled tells what passes when another instance's transaction ends.
func unsettled(err error) error {
	if errors.Is(err, kerr.UnstableOffsetCommit) {
		return fmt.Errorf("%w: %w", errUnsettled, err)
	}
	return err
}

// overtake settles decisions that lie beyond the committed offset. On Apache
// Kafka a transaction has both or neither, so there the offset has expired or
// was set back. On the embedded engine a kill between two of its files may leave
// the offset behind. Whatever it was: what was decided stands, nothing is decided
// twice, and reading goes on after it.
func (s *session) overtake(p *partition, committed int64) error {
	if p.decided <= committed {
		return nil
	}
	s.broker.log.Warn("what was decided reaches beyond the group's offset, which was lost or set back: going on after what was decided",
		"topic", p.topic, "partition", p.number, "committed", committed, "next", p.decided)
	p.next, p.stored = p.decided, false // commitIdle writes it
	s.moved[topicPartition{p.topic, p.number}] = true
	s.txn.Client().SetOffsets(map[string]map[int32]kgo.EpochOffset{p.topic: {p.number: {Epoch: -1, Offset: p.next}}})
	return nil
}

// readDecisions reads the partition's batches from an offset of the decisions
// partition to its end: the marks, the usage, the last time, and the offsets
// that intake had rejected.
func (s *session) readDecisions(ctx context.Context, p *partition, from int64) (map[int64]bool, error) {
	rejected := map[int64]bool{}
	p.usage = map[broker.AgreementID]int64{}
	if from < 0 {
		return rejected, nil
	}
	topic := s.broker.topics.Decisions()
	ends, err := kafka.CommittedEnds(ctx, s.adm, topic)
	if err != nil {
		return nil, err
	}
	number := p.number % int32(len(ends[topic]))
	if ends[topic][number] < p.backfill.done.written {
		return nil, fmt.Errorf("decisions of backfill are readable up to offset %d of %d: %w", ends[topic][number], p.backfill.done.written, errUnsettled)
	}
	err = s.broker.engine.Each(ctx, kafka.Span{Topic: topic, Partition: number, From: from, To: ends[topic][number]}, func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			return p.readSingles(r.Value)
		}
		h, _, err := deliver.DecodeHeader(r.Value)
		if err != nil {
			return stop(err)
		}
		if h.TopicID != p.topicID || h.Partition != p.number {
			return nil
		}
		for _, delta := range h.RejectedAt {
			rejected[h.First+delta] = true
		}
		p.marks = append(p.marks, mark{h.First, r.Offset})
		p.step(h.Revision, h.First, r.Offset)
		p.last, p.decided = h.Time, h.Last+1
		if p.stored && p.backfill.done.told <= h.Last {
			if err := readOwing(r.Value, p.backfill.done.told, r.Offset, &p.notices); err != nil {
				return stop(err)
			}
		}
		p.usage, err = deliver.UsageAfter(r.Value)
		return err
	})
	return rejected, err
}

// readWindow fills the window of repeats with the accepted records of [from, p.next).
func (s *session) readWindow(ctx context.Context, p *partition, from int64, rejected map[int64]bool) error {
	if from >= p.next {
		return nil
	}
	var ds *intake.Dataset
	var err error
	s.broker.control.View(func(st *registry.State) {
		if d := st.Dataset(p.dataset); d != nil {
			ds, err = intake.Compile(d, s.broker.limits)
		}
	})
	if ds == nil || err != nil {
		return stop(fmt.Errorf("dataset %s: %w", p.dataset, errors.Join(errors.New("its declaration cannot be used"), err)))
	}
	var doc jsondoc.Doc
	span := kafka.Span{Topic: p.topic, Partition: p.number, From: from, To: p.next, ID: kadm.TopicID(p.topicID)}
	return s.broker.engine.Each(ctx, span, func(r *kgo.Record) error {
		if rejected[r.Offset] {
			return nil
		}
		msg := intake.Message{
			Position:  broker.Position{Dataset: p.dataset, TopicID: p.topicID, Partition: p.number, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value,
		}
		if event, content, ok := ds.Identify(&msg, s.broker.hasher, &doc); ok {
			p.window.Restore(event, content, r.Offset, r.Timestamp)
		}
		return nil
	})
}
