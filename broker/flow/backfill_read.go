package flow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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

// raised is one case's or consent's question, with what the registry says of it.
type raised struct {
	registry.Trigger
	subs []askedFor
	most int
}

type askedFor struct {
	id      broker.SubscriptionID
	catchUp int
	owed    owed
	// decidedAt is the revision at which, or later, the stream must have decided a
	// record, and not permitted it, for it to be owed: what came before it has been
	// backfill's before. 0 where the stream has not been asked.
	decidedAt broker.Revision
}

// question resolves a trigger. In scope before it were the records of a subscription
// to all subjects, and of one that had the subject listed already.
func question(st *registry.State, t registry.Trigger) raised {
	a := raised{Trigger: t}
	for _, id := range t.Subscriptions {
		sub := st.Subscription(id)
		n := sub.CatchesUp()
		if n <= 0 {
			continue
		}
		f := askedFor{id: id, catchUp: n, owed: owed{subject: t.Subject}}
		f.decidedAt = st.ListedSince(id, t.Subject, t.Revision)
		if sub.Scope.Kind != broker.ScopeListed && f.decidedAt == 0 {
			f.owed.unless = true
			if !sub.Start.IsZero() { // what it began with has been decided for it
				f.decidedAt = st.Declared(id)
			}
		}
		a.subs, a.most = append(a.subs, f), max(a.most, n)
	}
	return a
}

// gatherSubjects reads what the next cases and consents may bring.
func (s *session) gatherSubjects(ctx context.Context, p *partition, most int) (*fill, error) {
	b := s.broker
	var list []raised
	var through broker.Revision
	b.control.View(func(st *registry.State) {
		var triggers []registry.Trigger
		triggers, through = st.Triggers(p.dataset, p.backfill.done.swept, most)
		for _, t := range triggers {
			list = append(list, question(st, t))
		}
	})
	f := &fill{to: p.backfill.done}
	wanted := map[int64]map[broker.SubscriptionID]askedFor{}
	for i := range list {
		a := &list[i]
		if len(wanted) >= most { // each may bring many
			through = list[i-1].Revision
			break
		}
		below := p.begin(a.Revision)
		if a.most == 0 || below <= p.start { // nothing lies there
			f.looked++
			continue
		}
		offsets, ok, err := b.positions.Current(ctx, p.dataset, p.topicID, p.number, below, a.Subject, a.most)
		if err != nil {
			return nil, fmt.Errorf("asking where a subject's records lie: %w", err)
		}
		if !ok { // the index is on its way
			if i == 0 {
				s.filler.retry = time.Now().Add(20 * time.Millisecond)
				return nil, nil
			}
			through = list[i-1].Revision
			break
		}
		f.looked += max(1, len(offsets))
		for _, sub := range a.subs {
			for _, o := range offsets[:min(sub.catchUp, len(offsets))] {
				if wanted[o] == nil {
					wanted[o] = map[broker.SubscriptionID]askedFor{}
				}
				if _, twice := wanted[o][sub.id]; !twice { // the earlier one's: the later finds it brought
					wanted[o][sub.id] = sub
				}
			}
		}
	}
	f.to.swept = through
	var err error
	if f.list, err = s.readCandidates(ctx, p, wanted); err != nil {
		return nil, err
	}
	return f, nil
}

// readCandidates reads the records at some offsets, and leaves out those that were
// delivered, or decided by backfill, before.
func (s *session) readCandidates(ctx context.Context, p *partition, wanted map[int64]map[broker.SubscriptionID]askedFor) ([]candidate, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	offsets := make([]int64, 0, len(wanted))
	for o := range wanted {
		offsets = append(offsets, o)
	}
	slices.Sort(offsets)
	records, err := s.readAt(ctx, p, offsets)
	if err != nil {
		return nil, err
	}
	var v *verdicts
	defer func() { v.close() }()
	var list []candidate
	for _, r := range records {
		c := candidate{rec: r, owed: map[broker.SubscriptionID]owed{}}
		for id, sub := range wanted[r.Offset] {
			if sub.decidedAt > 0 {
				if v == nil {
					if v, err = s.verdicts(ctx, p, r); err != nil {
						return nil, err
					}
				}
				if err := v.cover(ctx, r.Offset); err != nil {
					return nil, err
				}
				open, err := v.denied(r.Offset, id)
				if err != nil {
					return nil, err
				}
				if v.head.Revision < sub.decidedAt || !open {
					continue
				}
				sub.owed.unless = false
			}
			c.owed[id] = sub.owed
		}
		if len(c.owed) > 0 {
			list = append(list, c)
		}
	}
	return list, nil
}

// nearby is how far apart records are for which it is not worth it to read on.
const nearby = 200

// readAt reads a partition's records at offsets that rise. Those that retention has
// removed are left out.
func (s *session) readAt(ctx context.Context, p *partition, offsets []int64) ([]*kgo.Record, error) {
	var out []*kgo.Record
	for len(offsets) > 0 {
		n := 1
		for n < len(offsets) && offsets[n]-offsets[n-1] <= nearby {
			n++
		}
		span := kafka.Span{Topic: p.topic, Partition: p.number, From: offsets[0], To: offsets[n-1] + 1, ID: kadm.TopicID(p.topicID)}
		err := s.broker.engine.Each(ctx, span, func(r *kgo.Record) error {
			if _, ok := slices.BinarySearch(offsets[:n], r.Offset); ok {
				out = append(out, r)
			}
			return nil
		})
		if gone, ok := errors.AsType[*kafka.GoneError](err); ok && gone.Start > offsets[0] {
			for len(offsets) > 0 && offsets[0] < gone.Start {
				offsets = offsets[1:]
			}
			out = slices.DeleteFunc(out, func(r *kgo.Record) bool { return len(offsets) > 0 && r.Offset >= offsets[0] })
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading earlier records: %w", err)
		}
		offsets = offsets[n:]
	}
	return out, nil
}

// verdicts reads what the stream decided of a partition, in order.
type verdicts struct {
	s        *session
	p        *partition
	reader   *kafka.Reader
	head     deliver.BatchHeader // of the batch that was read last
	value    []byte
	rejected map[int64]bool
	first    bool // none was read yet
	whole    bool // it reads from the beginning
}

// verdicts begins where the decision on a record may be. Decisions are written after
// the record, by the broker's clock; the record's is its provider's, so an hour is to
// spare, and where that is not enough all is read.
func (s *session) verdicts(ctx context.Context, p *partition, r *kgo.Record) (*verdicts, error) {
	v := &verdicts{s: s, p: p}
	return v, v.open(ctx, r.Timestamp.Add(-time.Hour))
}

func (v *verdicts) open(ctx context.Context, since time.Time) error {
	v.close()
	b := v.s.broker
	topic := b.topics.Decisions()
	ends, err := kafka.CommittedEnds(ctx, v.s.adm, topic)
	if err != nil {
		return err
	}
	number := v.p.number % int32(len(ends[topic]))
	var from int64
	if !since.IsZero() {
		listed, err := v.s.adm.ListOffsetsAfterMilli(ctx, max(0, since.UnixMilli()), topic)
		if err != nil {
			return err
		}
		o, ok := listed.Lookup(topic, number)
		if !ok || o.Err != nil {
			return fmt.Errorf("asking where decisions of a time begin: %w", cmp.Or(o.Err, error(kerr.UnknownTopicOrPartition)))
		}
		from = max(0, min(o.Offset, ends[topic][number]))
	}
	v.first, v.whole, v.head = true, from == 0, deliver.BatchHeader{First: 0, Last: -1}
	v.reader, err = b.engine.Reader([]kafka.Span{{Topic: topic, Partition: number, From: from, To: ends[topic][number]}})
	return err
}

func (v *verdicts) close() {
	if v != nil && v.reader != nil {
		v.reader.Close()
		v.reader = nil
	}
}

// cover goes on to the batch that has an offset. Offsets must not fall.
func (v *verdicts) cover(ctx context.Context, offset int64) error {
	for v.head.Last < offset || v.first {
		r, err := v.reader.Read(ctx)
		if err == io.EOF {
			if !v.whole {
				if err := v.open(ctx, time.Time{}); err != nil {
					return err
				}
				continue
			}
			return fmt.Errorf("no decisions on offset %d of %s/%d were found", offset, v.p.topic, v.p.number)
		}
		if err != nil {
			return fmt.Errorf("reading decisions back: %w", err)
		}
		if deliver.IsSingles(r.Value) {
			continue
		}
		h, err := deliver.Peek(r.Value)
		if err != nil {
			return stop(err)
		}
		if h.TopicID != v.p.topicID || h.Partition != v.p.number {
			continue
		}
		if v.first && h.First > offset && !v.whole { // the clocks are far apart
			if err := v.open(ctx, time.Time{}); err != nil {
				return err
			}
			continue
		}
		v.first = false
		if h.Last < offset {
			v.head = h
			continue
		}
		if v.head, _, err = deliver.DecodeHeader(r.Value); err != nil {
			return stop(err)
		}
		v.value, v.rejected = r.Value, make(map[int64]bool, len(h.RejectedAt))
		for _, delta := range v.head.RejectedAt {
			v.rejected[v.head.First+delta] = true
		}
	}
	if offset < v.head.First {
		return fmt.Errorf("decisions on offset %d of %s/%d are not in the log", offset, v.p.topic, v.p.number)
	}
	return nil
}

// denied reports whether the stream did not permit a record to a subscription; cover
// has gone to it.
func (v *verdicts) denied(offset int64, sub broker.SubscriptionID) (bool, error) {
	denied := true
	_, err := deliver.Lookup(v.value, offset, func(d *broker.Decision) error {
		if d.Subscription == sub {
			denied = !d.Outcome.Permit
		}
		return nil
	})
	return denied, err
}

// job is a subscription that begins before it was declared, as one partition sees it.
type job struct {
	registry.Start
	listed   bool // its subjects must have been listed when it was declared
	reader   *kafka.Reader
	verdicts *verdicts
	window   *intake.Window // of repeats, as the stream's was
	records  []*kgo.Record  // read, and not committed yet
	through  int64          // the offset after all that was read
	ended    bool
}

func (j *job) close() {
	j.verdicts.close()
	if j.reader != nil {
		j.reader.Close()
	}
}

// repeated asks the window whether the stream has passed a record over.
func (j *job) repeated(rec *broker.Record, r *kgo.Record) bool {
	return j.window.Check(rec.Event, rec.Content, r.Offset, r.Timestamp) != intake.Fresh
}

// gatherJob reads on in the range of a subscription that begins earlier.
func (s *session) gatherJob(ctx context.Context, p *partition, most int) (*fill, error) {
	f := &fill{to: p.backfill.done}
	if p.backfill.job == nil {
		if err := s.beginJob(ctx, p); err != nil {
			return nil, err
		}
		f.to = p.backfill.done
		if p.backfill.job == nil {
			return nil, nil
		}
	}
	j := p.backfill.job
	f.job = j
	if len(j.records) == 0 && !j.ended {
		if err := s.readJob(ctx, p, j, most); err != nil {
			p.backfill.close() // it is opened again where it was
			return nil, err
		}
	}
	f.looked = max(1, len(j.records))
	for _, r := range j.records {
		o := owed{}
		if j.listed {
			o.listed = j.Revision
		}
		f.list = append(f.list, candidate{rec: r, owed: map[broker.SubscriptionID]owed{j.Subscription: o}})
	}
	if f.to.next = max(j.through, f.to.next); j.ended {
		f.to.started, f.to.job, f.to.next, f.to.until = j.Revision, 0, 0, 0
	}
	return f, nil
}

// beginJob takes up the job that is committed as under way, or the next one.
func (s *session) beginJob(ctx context.Context, p *partition) error {
	b, d := s.broker, &p.backfill.done
	j := &job{}
	b.control.View(func(st *registry.State) {
		if list := st.Starts(p.dataset, d.started); len(list) > 0 {
			j.Start = list[0]
			j.listed = st.Subscription(j.Subscription).Scope.Kind == broker.ScopeListed
		}
	})
	if j.Revision == 0 {
		return nil
	}
	starts, err := kafka.Starts(ctx, s.adm, p.topic)
	if err != nil {
		return err
	}
	start := starts[p.topic][p.number]
	if d.job != j.Revision {
		until := p.begin(j.Revision)
		listed, err := s.adm.ListOffsetsAfterMilli(ctx, max(0, j.From.UnixMilli()), p.topic)
		if err != nil {
			return err
		}
		o, ok := listed.Lookup(p.topic, p.number)
		if !ok || o.Err != nil {
			return fmt.Errorf("asking where records of %v begin: %w", j.From, cmp.Or(o.Err, error(kerr.UnknownTopicOrPartition)))
		}
		first := o.Offset
		if first < 0 {
			first = until
		}
		d.job, d.next, d.until = j.Revision, min(max(first, start), until), until
		p.forgetSteps()
		b.log.Info("backfill begins", "subscription", j.Subscription, "topic", p.topic, "partition", p.number, "from", d.next, "until", d.until)
	}
	d.next = min(max(d.next, start), d.until)
	j.through, j.ended = d.next, d.next >= d.until
	j.window = intake.NewWindow(b.limits)
	from := min(max(start, j.window.Floor(d.next)), d.until)
	if j.reader, err = b.engine.Reader([]kafka.Span{{Topic: p.topic, Partition: p.number, From: from, To: d.until, ID: kadm.TopicID(p.topicID)}}); err != nil {
		return err
	}
	p.backfill.job = j
	return nil
}

// readJob reads the next records of a job that the stream did not reject. What lies
// before where it goes on is what repeats are told by.
func (s *session) readJob(ctx context.Context, p *partition, j *job, most int) error {
	b := s.broker
	var ds *intake.Dataset
	var err error
	b.control.View(func(st *registry.State) {
		var w *world
		if w, err = b.worlds.at(st); err == nil {
			ds = w.datasets[p.dataset]
		}
	})
	if err != nil {
		return err
	}
	var doc jsondoc.Doc
	for read := 0; read < most; {
		all, err := j.reader.Poll(ctx, most-read)
		if err == io.EOF {
			j.ended, j.through = true, p.backfill.done.until
			return nil
		}
		if gone, ok := errors.AsType[*kafka.GoneError](err); ok && gone.Start > j.through {
			b.log.Warn("backfill goes on where the source begins now: retention has removed what was before", "topic", p.topic, "partition", p.number, "from", gone.Start)
			p.backfill.done.next = min(gone.Start, p.backfill.done.until)
		}
		if err != nil {
			return fmt.Errorf("reading earlier records: %w", err)
		}
		for _, r := range all {
			read++
			if j.verdicts == nil {
				if j.verdicts, err = s.verdicts(ctx, p, r); err != nil {
					return err
				}
			}
			if err := j.verdicts.cover(ctx, r.Offset); err != nil {
				return err
			}
			j.through = max(j.through, r.Offset+1)
			switch {
			case j.verdicts.rejected[r.Offset]:
			case r.Offset < p.backfill.done.next:
				msg := intake.Message{
					Position:  broker.Position{Dataset: p.dataset, TopicID: p.topicID, Partition: p.number, Offset: r.Offset},
					Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value,
				}
				if event, content, ok := ds.Identify(&msg, b.hasher, &doc); ok {
					j.window.Restore(event, content, r.Offset, r.Timestamp)
				}
			default:
				j.records = append(j.records, r)
			}
		}
	}
	return nil
}
