package flow

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// Who was delivered a record and may not have its correction, because a case has
// ended or a consent was withdrawn, still holds what is wrong. It is told, without
// data (docs/decisions/0023-retraction-after-the-end.md).
//
// The stream denies the data, and notes that there is somebody to ask about. Between
// its transactions, at backfill's pace, the session looks up whether what is changed
// was delivered, and decides and delivers in a transaction of its own. How far it has
// come stands beside the offset, and the notes can be made again from the log.

// Chain is what a correction or retraction goes back to: the record that it names, the
// one that this names if it is a change itself, and so on to the original.
type Chain struct {
	Links []Link
	// Whole: it goes back to an original. Otherwise the log does not have what lies
	// before, or never had it, or not on this subject.
	Whole bool
}

// Link is a record of a chain.
type Link struct {
	Position broker.Position
	Event    broker.EventHash
	At       time.Time // when the stream decided on it
	// Given are the subscriptions that single decisions delivered its data to, and
	// Back those that a door kept it back from.
	Given, Back []broker.SubscriptionID
}

// owing is a source record whose data the stream denied to some, and that corrects
// or retracts what they may have been delivered.
type owing struct {
	offset    int64
	decisions int64 // where its batch, or an earlier one, lies in the decisions partition
	subs      []broker.SubscriptionID
}

// notices is what a partition owes. Owned by its session.
type notices struct {
	queue []owing // by offset
	// rest is the first that found no room in queue; nil for none. It and what comes
	// after it are read from the log when queue is empty.
	rest *owing
	// settled and fresh are of the transaction under way.
	settled int
	fresh   []owing
}

// owingMost bounds the queue of a partition.
const owingMost = 1 << 16

func (n *notices) add(list ...owing) {
	for _, o := range list {
		switch {
		case n.rest != nil:
			return
		case len(n.queue) >= owingMost:
			n.rest = &o
		default:
			n.queue = append(n.queue, o)
		}
	}
}

// first is the first that is left once the transaction under way has committed; nil
// for none.
func (n *notices) first() *owing {
	switch {
	case len(n.queue) > n.settled:
		return &n.queue[n.settled]
	case n.rest != nil:
		return n.rest
	case len(n.fresh) > 0:
		return &n.fresh[0]
	}
	return nil
}

func (n *notices) commit() {
	n.queue = slices.Delete(n.queue, 0, n.settled)
	n.add(n.fresh...)
	n.abort()
}

func (n *notices) abort() { n.settled, n.fresh = 0, nil }

func (n *notices) waits() bool { return len(n.queue) > 0 || n.rest != nil }

// owe notes, of a record that the stream has decided, to whom its data was denied.
func (w *work) owe(decisions []deliver.Decision) {
	var subs []broker.SubscriptionID
	for i := range decisions {
		if !decisions[i].Outcome.Permit {
			subs = append(subs, decisions[i].Terms.Subscription.ID)
		}
	}
	if len(subs) > 0 {
		w.owing = append(w.owing, owing{offset: w.rec.Offset, subs: subs})
	}
}

// readOwing takes from a batch of the stream's what is owed from an offset on.
func readOwing(value []byte, from, decisions int64, into *notices) error {
	var o owing
	flush := func() {
		if len(o.subs) > 0 {
			into.add(o)
		}
		o = owing{}
	}
	_, err := deliver.Decode(value, func(d *broker.Decision) error {
		if d.Position.Offset < from || d.RecordKind == broker.Original || d.Outcome.Permit {
			return nil
		}
		if o.offset != d.Position.Offset {
			flush()
			o.offset, o.decisions = d.Position.Offset, decisions
		}
		o.subs = append(o.subs, d.Subscription)
		return nil
	})
	flush()
	return err
}

// refill reads what found no room.
func (s *session) refill(ctx context.Context, p *partition) error {
	rest := p.notices.rest
	topic := s.broker.topics.Decisions()
	ends, err := kafka.CommittedEnds(ctx, s.adm, topic)
	if err != nil {
		return err
	}
	n := notices{}
	number := p.number % int32(len(ends[topic]))
	reader, err := s.broker.engine.Reader([]kafka.Span{{Topic: topic, Partition: number, From: rest.decisions, To: ends[topic][number]}})
	if err != nil {
		return err
	}
	defer reader.Close()
	for through := rest.offset; through < p.next && n.rest == nil; {
		r, err := reader.Read(ctx)
		if err != nil { // the end too: all before next is decided, and so it stands there
			return fmt.Errorf("reading decisions back: %w", err)
		}
		if deliver.IsSingles(r.Value) {
			continue
		}
		h, err := deliver.Peek(r.Value)
		if err == nil && h.TopicID == p.topicID && h.Partition == p.number {
			if through = h.Last + 1; through > rest.offset {
				err = readOwing(r.Value, rest.offset, r.Offset, &n)
			}
		}
		if err != nil {
			return stop(err)
		}
	}
	p.notices.queue, p.notices.rest = n.queue, n.rest
	return nil
}

// told is a candidate's question: who of those that were denied a record's data are
// told of it.
type told struct {
	rec  *kgo.Record
	subs []toldSub
}

type toldSub struct {
	id broker.SubscriptionID
	// of is the event whose data it holds; zero where that could not be determined.
	of broker.EventHash
}

// noticeTime is how long one turn looks things up, and noticeMost how many it takes:
// the stream waits meanwhile.
const (
	noticeTime = 50 * time.Millisecond
	noticeMost = 100
)

// gatherNotices finds out who was delivered what the next changes are about.
func (s *session) gatherNotices(ctx context.Context, p *partition, most int) (*fill, error) {
	if len(p.notices.queue) == 0 {
		if err := s.refill(ctx, p); err != nil {
			return nil, err
		}
	}
	f := &fill{to: p.backfill.done, notices: true}
	queue := p.notices.queue
	if len(queue) == 0 {
		return f, nil
	}
	if !s.level(ctx) {
		return nil, ctx.Err()
	}
	queue = queue[:min(len(queue), most, noticeMost)]
	offsets := make([]int64, len(queue))
	for i := range queue {
		offsets[i] = queue[i].offset
	}
	records, err := s.readAt(ctx, p, offsets)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	seen := &delivered{s: s}
	for i := range queue {
		o := &queue[i]
		n, ok := slices.BinarySearchFunc(records, o.offset, func(r *kgo.Record, at int64) int { return int(max(-1, min(1, r.Offset-at))) })
		if !ok { // retention has removed it before anybody could be told
			f.looked++
			f.skipped++
			continue
		}
		t, ready, err := s.ask(ctx, p, seen, records[n], o)
		if err != nil {
			return nil, err
		}
		if !ready { // the index is on its way
			if i == 0 {
				s.filler.retry = time.Now().Add(20 * time.Millisecond)
				return nil, nil
			}
			break
		}
		f.looked++
		if len(t.subs) > 0 {
			f.told = append(f.told, t)
		}
		if time.Since(begun) > noticeTime {
			break
		}
	}
	return f, nil
}

// level waits for the index to have all that is committed, such as what a lookup has
// just been answered. The stream waits with it: so it is asked again only ten times as
// long after it was not there in time, and given more time then.
func (s *session) level(ctx context.Context) bool {
	f := &s.filler
	if s.broker.positions == nil {
		return true
	}
	f.patience = min(max(2*f.patience, 50*time.Millisecond), time.Second)
	waiting, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	if s.broker.positions.Latest(waiting) != nil {
		f.retry = time.Now().Add(10 * f.patience)
		return false
	}
	f.patience = 0
	return true
}

// ask finds out which of those that a record was denied to hold what it changes.
func (s *session) ask(ctx context.Context, p *partition, seen *delivered, r *kgo.Record, o *owing) (told, bool, error) {
	b := s.broker
	t := told{rec: r}
	unknown := func() {
		for _, id := range o.subs {
			t.subs = append(t.subs, toldSub{id: id})
		}
	}
	if b.positions == nil {
		b.noPositions()
		unknown()
		return t, true, nil
	}
	var rec broker.Record
	var doc jsondoc.Doc
	var rejection *broker.Rejection
	var err error
	b.control.View(func(st *registry.State) {
		var w *world
		if w, err = b.worlds.at(st); err != nil {
			return
		}
		msg := intake.Message{
			Position:  broker.Position{Dataset: p.dataset, TopicID: p.topicID, Partition: p.number, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value,
		}
		rejection = w.datasets[p.dataset].Accept(&msg, b.hasher, &rec, &doc)
	})
	switch {
	case err != nil:
		return t, false, err
	case rejection != nil: // declared anew; tell counts it
		unknown()
		return t, true, nil
	case !rec.HasSubject: // the index knows subjects only
		unknown()
		return t, true, nil
	}
	chain, ready, err := b.positions.Earlier(ctx, p.dataset, p.topicID, p.number, o.offset+1, rec.Subject, rec.Of)
	if err != nil || !ready {
		return t, ready, err
	}
	for _, id := range o.subs {
		of, known, err := seen.holds(ctx, id, &chain)
		if err != nil {
			return t, false, err
		}
		if !known || !of.IsZero() {
			t.subs = append(t.subs, toldSub{id, of})
		}
	}
	return t, true, nil
}

// delivered reads what the stream has decided of earlier records. It is one turn's.
type delivered struct {
	s     *session
	batch []streamed // read in this turn
}

type streamed struct {
	head  deliver.BatchHeader
	value []byte
}

// holds is the newest event of a chain whose data a subscription was delivered, zero
// for none; known is false where that cannot be determined. A notice is not data, so
// whatever notices there were on the way, what is corrected is what it holds.
func (d *delivered) holds(ctx context.Context, sub broker.SubscriptionID, c *Chain) (of broker.EventHash, known bool, err error) {
	for i := range c.Links {
		l := &c.Links[i]
		gave := slices.Contains(l.Given, sub)
		if !gave {
			if gave, err = d.stream(ctx, l, sub); err != nil {
				return of, false, err
			}
		}
		switch {
		case gave && slices.Contains(l.Back, sub):
			return of, false, nil // it may never have come through the door
		case gave:
			return l.Event, true, nil
		}
	}
	return of, c.Whole, nil
}

// stream reports whether the stream delivered a record's data to a subscription.
func (d *delivered) stream(ctx context.Context, l *Link, sub broker.SubscriptionID) (gave bool, err error) {
	value, err := d.find(ctx, l)
	if err != nil {
		return false, err
	}
	_, err = deliver.Lookup(value, l.Position.Offset, func(x *broker.Decision) error {
		if x.Subscription == sub {
			gave = x.Outcome.Permit && (len(x.Fields) > 0 || x.Shielded)
		}
		return nil
	})
	return gave, err
}

// find is the batch that has a record. It is written just after it was decided; where
// clocks do not agree, one looks further and further back.
func (d *delivered) find(ctx context.Context, l *Link) ([]byte, error) {
	at := &l.Position
	for i := range d.batch {
		if b := &d.batch[i]; b.head.TopicID == broker.Digest(at.TopicID) && b.head.Partition == at.Partition && b.head.First <= at.Offset && at.Offset <= b.head.Last {
			return b.value, nil
		}
	}
	b := d.s.broker
	topic := b.topics.Decisions()
	ends, err := kafka.CommittedEnds(ctx, d.s.adm, topic)
	if err != nil {
		return nil, err
	}
	number := at.Partition % int32(len(ends[topic]))
	for _, before := range [...]time.Duration{2 * time.Second, 2 * time.Minute, -1} {
		var from int64
		if before >= 0 {
			listed, err := d.s.adm.ListOffsetsAfterMilli(ctx, max(0, l.At.Add(-before).UnixMilli()), topic)
			if err != nil {
				return nil, err
			}
			if o, ok := listed.Lookup(topic, number); ok && o.Err == nil {
				from = max(0, min(o.Offset, ends[topic][number]))
			}
		}
		found, err := d.scan(ctx, kafka.Span{Topic: topic, Partition: number, From: from, To: ends[topic][number]}, at)
		if err != nil || found != nil {
			return found, err
		}
	}
	return nil, fmt.Errorf("no decisions on offset %d of partition %d of %s were found", at.Offset, at.Partition, at.Dataset)
}

func (d *delivered) scan(ctx context.Context, span kafka.Span, at *broker.Position) (found []byte, err error) {
	reader, err := d.s.broker.engine.Reader([]kafka.Span{span})
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for {
		all, err := reader.Poll(ctx, 64)
		for _, r := range all {
			if deliver.IsSingles(r.Value) {
				continue
			}
			h, err := deliver.Peek(r.Value)
			if err != nil {
				return nil, stop(err)
			}
			if h.TopicID != broker.Digest(at.TopicID) || h.Partition != at.Partition || h.Last < at.Offset {
				continue
			}
			if h.First > at.Offset {
				return nil, nil // it lies before
			}
			d.batch = append(d.batch, streamed{h, r.Value})
			return r.Value, nil
		}
		if err != nil {
			if err == io.EOF {
				return nil, nil
			}
			return nil, fmt.Errorf("reading decisions back: %w", err)
		}
	}
}

// tell decides and delivers notices: process for what was denied.
func (w *work) tell(ctx context.Context, b *Broker, in *instant) error {
	p, f := w.part, w.fill
	w.reset(in.world)
	f.singles.Reset(deliver.SinglesHeader{Kind: broker.NoticeDecision, Time: in.now, Revision: in.revision,
		Policy: in.world.digest, Period: in.period, Limits: b.limitsHeader()})
	ds := in.world.datasets[p.dataset]
	f.given, f.refused, f.unread = 0, f.refused[:0], 0
	for i := range f.told {
		t := &f.told[i]
		if rejection := w.accept(b, ds, t.rec); rejection != nil {
			f.unread++ // its declaration has changed since
			continue
		}
		in.state.Consult(&w.rec)
		w.decisions, w.cuts = w.decisions[:0], w.cuts[:0]
		for _, sub := range t.subs {
			route := in.world.routes[in.state.Terms(sub.id)]
			if route == nil || route.terms.Dataset.ID != p.dataset {
				f.unread++
				continue
			}
			d := deliver.Decision{Terms: route.terms, Outcome: denyDeliveryUnknown}
			if !sub.of.IsZero() {
				d.Outcome = w.mayTell(ctx, b, in, route)
			}
			if d.Outcome.Permit {
				w.notify(b, route, sub.of)
				w.relyOn(route, in.now)
				f.given++
			} else {
				f.refused = append(f.refused, d.Outcome.Reasons[0])
			}
			w.decisions = append(w.decisions, d)
		}
		if len(w.decisions) == 0 {
			continue
		}
		row := deliver.Single{Position: w.rec.Position, Event: w.rec.Event, Kind: w.rec.Kind}
		if w.rec.HasSubject {
			var err error
			if row.Subject, err = b.hasher.Pseudonym(in.period, w.rec.Subject); err != nil {
				return err
			}
		}
		f.singles.Add(row, w.decisions)
	}
	w.batches = f.singles.Finish()
	for _, v := range w.batches {
		if len(v) > largestBatch {
			return fmt.Errorf("%s/%d: the decisions on notices of one record take %d bytes, of which Kafka takes %d", p.topic, p.number, len(v), largestBatch)
		}
	}
	return nil
}

// mayTell asks policy about the record as it is now, and whether what stands in the
// way of the data stands in the way of telling too. A ceiling is not asked: there is
// no data to count.
func (w *work) mayTell(ctx context.Context, b *Broker, in *instant, route *route) *broker.Outcome {
	if route.prepared == nil {
		return denyPolicyError
	}
	rec := &w.rec
	facts := broker.Facts{Time: in.now, Kind: rec.Kind, Attributes: rec.Attributes, Usage: broker.Usage{Granted: 1}}
	if rec.HasSubject {
		w.cases = in.state.Cases(w.cases[:0], route.id, rec.Subject)
		w.consents = in.state.Consents(w.consents[:0], route.consumer, rec.Dataset, route.purpose, rec.Subject)
		facts.Cases, facts.Consents = w.cases, w.consents
	}
	if route.prepared.State() == policy.Pending {
		b.worlds.compiler.want(route)
	}
	outcome, err := route.prepared.Decide(ctx, &facts, &w.memo)
	if err != nil || outcome == nil {
		b.log.Error("policy gave no answer: nobody is told", "subscription", route.id, "err", err)
		return denyPolicyError
	}
	return in.world.engine.Notice(outcome)
}

// notify encodes a notice. What it says follows from the record's provenance and from
// what its consumer holds: nothing of its data, nor of its attributes where a mailbox
// is its owner's to read.
func (w *work) notify(b *Broker, route *route, of broker.EventHash) {
	rec := &w.rec
	w.post(b, route, noData, true, broker.NewNoticeID(rec.Event, route.id), broker.NewDeliveryID(of, route.id))
}

// settleNotices goes on after what was committed, or what needed no commit.
func (s *session) settleNotices(w *work) {
	f, p := w.fill, w.part
	p.notices.settled = f.looked
	p.notices.commit()
	p.backfill.done.told = p.told(p.next)
	m := s.broker.metrics
	m.notices.WithLabelValues(string(p.dataset), "permit", "").Add(float64(f.given))
	for _, r := range f.refused {
		m.notices.WithLabelValues(string(p.dataset), "deny", string(r)).Inc()
	}
	m.backfillSkipped.WithLabelValues(string(p.dataset)).Add(float64(f.skipped + f.unread))
}

var denyDeliveryUnknown = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonDeliveryUnknown}}
