package flow

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// Hasher turns identifiers into pseudonyms; the keystore is one.
type Hasher interface {
	intake.Hasher
	Period(time.Time) (string, error)
	Pseudonym(period string, s broker.SubjectKey) (broker.Pseudonym, error)
}

// work is one source partition's part of one transaction. It belongs to one
// worker at a time, and is reused.
type work struct {
	part    *partition
	records []*kgo.Record
	high    int64 // the partition's high watermark when they were fetched

	out     []*kgo.Record // deliveries and rejections, in order
	batch   deliver.Batch
	batches [][]byte
	tally   tally
	demand  map[broker.AgreementID]int64 // of ceilings: permits, and denials where the lease was used up
	until   time.Time                    // the earliest end of what its permits may rest on; zero for none

	// Scratch, to save allocation.
	doc       jsondoc.Doc
	rec       broker.Record
	found     []int32 // routes by number
	decisions []deliver.Decision
	cuts      []cut
	cases     []broker.Interval
	consents  []broker.Consent
	memo      policy.Memo
	cutter    minimise.Cutter
	arena     arena
	slab      slab
	fill      *fill   // what it backfills, rather than records of the stream
	owing     []owing // of corrections and retractions, to whom their data was denied
}

// end is the offset after the last record.
func (w *work) end() int64 {
	if w.fill != nil {
		return w.part.next
	}
	return w.records[len(w.records)-1].Offset + 1
}

// instant is what a transaction fixes for all of its decisions.
type instant struct {
	world    *world
	state    *registry.State // held for reading while it computes
	revision broker.Revision
	period   string
	now      time.Time
}

var (
	denyPolicyError    = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonPolicyError}}
	denyNotMinimisable = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonNotMinimisable}}
	denyDerivation     = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonDerivation}}
	denyHousehold      = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonHousehold}}
	denyTooLarge       = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonTooLarge}}
)

// unreduced is the denial of a record that could not be reduced.
func unreduced(err error) *broker.Outcome {
	if minimise.Reason(err) == broker.ReasonDerivation {
		return denyDerivation
	}
	return denyNotMinimisable
}

// process computes everything of one partition's part: pure but for the
// pending entries in the partition's window, which commit or abort decides.
func (w *work) process(ctx context.Context, b *Broker, in *instant) error {
	p := w.part
	w.reset(in.world)
	w.batch.Reset(deliver.BatchHeader{
		Kind: broker.StreamDecision.String(), Dataset: p.dataset, TopicID: p.topicID, Partition: p.number,
		First: p.next, Time: in.now, Revision: in.revision, Policy: in.world.digest, Period: in.period, Usage: p.usage,
		Limits: b.limitsHeader(),
	})
	ds := in.world.datasets[p.dataset]
	for _, r := range w.records {
		pos := broker.Position{Dataset: p.dataset, TopicID: p.topicID, Partition: p.number, Offset: r.Offset}
		msg := intake.Message{Position: pos, Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value}
		w.tally.bytesIn += int64(len(r.Value))
		rejection := ds.Accept(&msg, b.hasher, &w.rec, &w.doc)
		if rejection == nil {
			switch p.window.Check(w.rec.Event, w.rec.Content, r.Offset, r.Timestamp) {
			case intake.Fresh:
			case intake.Repeated:
				w.batch.Repeat(r.Offset)
				w.tally.repeated++
				continue
			case intake.Reused:
				rejection = &broker.Rejection{Code: broker.RejectIDReused,
					Detail: "an event with this source and id was published before with other content; a correction needs an id of its own and names the old one in supersedes"}
			}
		}
		if rejection != nil {
			w.batch.Reject(r.Offset)
			w.tally.rejected[rejection.Code]++
			w.reject(b, r, pos, rejection, in.now)
			continue
		}
		if err := w.decide(ctx, b, in); err != nil {
			return err
		}
	}
	w.batches = w.batch.Finish(w.end() - 1)
	for _, v := range w.batches {
		if len(v) > largestBatch {
			return fmt.Errorf("%s/%d, offsets %d to %d: the decisions of one record take %d bytes, of which Kafka takes %d: "+
				"it is in the scope of too many subscriptions; narrow some", p.topic, p.number, p.next, w.end()-1, len(v), largestBatch)
		}
	}
	return nil
}

func (b *Broker) limitsHeader() deliver.Limits {
	return deliver.Limits{RecordBytes: b.limits.MaxBytes, Depth: b.limits.MaxDepth, Window: b.limits.Window,
		WindowMillis: b.limits.WindowAge.Milliseconds(), DeliveryBytes: b.cfg.MaxDelivery}
}

// accept is intake's, of a record read back.
func (w *work) accept(b *Broker, ds *intake.Dataset, r *kgo.Record) *broker.Rejection {
	p := w.part
	pos := broker.Position{Dataset: p.dataset, TopicID: p.topicID, Partition: p.number, Offset: r.Offset}
	msg := intake.Message{Position: pos, Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value}
	return ds.Accept(&msg, b.hasher, &w.rec, &w.doc)
}

// largestBatch is what Kafka takes by default (max.message.bytes), with its own
// framing off. Only a single record's decisions are ever larger than
// deliver.MaxBatch.
const largestBatch = 1_000_000

// decide answers for every subscription in whose scope the record is.
func (w *work) decide(ctx context.Context, b *Broker, in *instant) error {
	rec := &w.rec
	in.state.Consult(rec)
	w.found = in.world.index.Match(w.found[:0], rec, in.state)
	w.decisions, w.cuts = w.decisions[:0], w.cuts[:0]
	if len(w.found) == 0 {
		w.tally.outOfScope++
		w.batch.Add(deliver.Row{Offset: rec.Offset}, nil)
		return nil
	}
	row := deliver.Row{Offset: rec.Offset, Event: rec.Event, Kind: rec.Kind}
	if rec.HasSubject {
		var err error
		if row.Subject, err = b.hasher.Pseudonym(in.period, rec.Subject); err != nil {
			return err // without it there is no evidence: stop rather than deliver
		}
	}
	for _, n := range w.found {
		w.answer(ctx, b, in, n)
	}
	w.batch.Add(row, w.decisions)
	if rec.Kind != broker.Original {
		w.owe(w.decisions)
	}
	return nil
}

// answer decides for one subscription.
func (w *work) answer(ctx context.Context, b *Broker, in *instant, n int32) {
	route := in.world.numbered[n]
	d := deliver.Decision{Terms: route.terms}
	sub := w.tally.sub(n)
	sub.inScope++
	d.Outcome = w.ask(ctx, b, in, route)
	if d.Outcome.Permit {
		w.deliver(b, route, sub, &d)
	}
	if d.Outcome.Permit {
		sub.permitted++
		w.relyOn(route, in.now)
	} else {
		sub.deny(d.Outcome.Reasons[0], 1)
	}
	w.decisions = append(w.decisions, d)
}

// relyOn bounds the transaction by what the permit of the latest ask may rest
// on: whatever ends by the clock must not have ended when the delivery commits.
func (w *work) relyOn(route *route, now time.Time) {
	bound := func(to time.Time) {
		if to.After(now) && (w.until.IsZero() || to.Before(w.until)) {
			w.until = to
		}
	}
	for _, end := range route.ends {
		bound(end)
	}
	if !w.rec.HasSubject {
		return
	}
	for i := range w.cases {
		bound(w.cases[i].To)
	}
	for i := range w.consents {
		bound(w.consents[i].Valid.To)
	}
}

// lapsed reports whether something that the works rely on has ended by now.
func lapsed(works []*work, now time.Time) bool {
	for _, w := range works {
		if !w.until.IsZero() && !now.Before(w.until) {
			return true
		}
	}
	return false
}

// ask puts the case to policy. Whatever goes wrong is a denial.
func (w *work) ask(ctx context.Context, b *Broker, in *instant, route *route) *broker.Outcome {
	if route.prepared == nil {
		return denyPolicyError
	}
	rec := &w.rec
	facts := broker.Facts{Time: in.now, Kind: rec.Kind, Attributes: rec.Attributes}
	if rec.HasSubject {
		w.cases = in.state.Cases(w.cases[:0], route.id, rec.Subject)
		w.consents = in.state.Consents(w.consents[:0], route.consumer, rec.Dataset, route.purpose, rec.Subject)
		facts.Cases, facts.Consents = w.cases, w.consents
	}
	if route.ceiling {
		a := &route.terms.Agreement
		delivered := w.used(a.ID)
		for i := range w.decisions { // of this record, under other subscriptions to the agreement
			if d := &w.decisions[i]; d.Outcome.Permit && d.Terms.Agreement.ID == a.ID {
				delivered++
			}
		}
		facts.Usage = broker.Usage{Granted: in.state.Granted(a.ID, w.part.topicID, w.part.number), Delivered: delivered}
	}
	if route.prepared.State() == policy.Pending {
		b.worlds.compiler.want(route)
	}
	var begun time.Time
	sampled := w.tally.timePolicy()
	if sampled {
		begun = time.Now()
	}
	outcome, err := route.prepared.Decide(ctx, &facts, &w.memo)
	if sampled {
		w.tally.policy += policySample * time.Since(begun)
	}
	if err != nil || outcome == nil || !outcome.Permit && len(outcome.Reasons) == 0 {
		b.log.Error("policy gave no answer: denied", "subscription", route.id, "err", err)
		return denyPolicyError
	}
	if route.ceiling && (outcome.Permit || facts.Usage.Delivered >= facts.Usage.Granted) {
		w.demand[route.terms.Agreement.ID]++
	}
	return outcome
}

// cut is a record as one rights package lets it leave.
type cut struct {
	by       *minimise.Projection
	value    []byte
	shielded bool
	err      error
}

// cut reduces the record, once for all subscriptions with the same package.
func (w *work) cut(by *minimise.Projection) *cut {
	for i := range w.cuts {
		if w.cuts[i].by == by {
			return &w.cuts[i]
		}
	}
	start := w.arena.mark(len(w.rec.Data) + 64)
	out, shielded, err := w.cutter.Append(by, start, &w.doc, w.rec.Attributes)
	c := cut{by: by, shielded: shielded, err: err}
	if err == nil {
		c.value = w.arena.take(start, out)
	} else {
		clear(start[:cap(start)]) // what was written before the error
	}
	w.cuts = append(w.cuts, c)
	return &w.cuts[len(w.cuts)-1]
}

// deliver reduces the record and encodes the delivery; what cannot be carried
// out becomes a denial.
func (w *work) deliver(b *Broker, route *route, sub *subTally, d *deliver.Decision) {
	rec := &w.rec
	// Who is given the newest record for the first time needs it, correction or not.
	notice := rec.Kind != broker.Original && route.notify && (w.fill == nil || w.fill.job != nil)
	var none cut // of a notice: it has no data
	cut := &none
	if notice {
		cut.value = noData
	} else {
		cut = w.cut(route.projection)
	}
	switch {
	case cut.err != nil:
		d.Outcome = unreduced(cut.err)
		return
	case len(cut.value) > b.cfg.MaxDelivery:
		d.Outcome = denyTooLarge
		return
	}
	if d.Shielded = cut.shielded; !notice {
		d.Fields = route.projection.Fields(cut.shielded)
	}
	var of broker.DeliveryID
	if rec.Kind != broker.Original {
		of = broker.NewDeliveryID(rec.Of, route.id)
	}
	w.post(b, route, cut.value, notice, broker.NewDeliveryID(rec.Event, route.id), of)
	if cut.shielded {
		sub.shielded++
	}
	sub.bytesIn += int64(len(rec.Data))
	sub.bytesOut += int64(len(cut.value))
}

// post encodes a delivery to its mailbox.
func (w *work) post(b *Broker, route *route, value []byte, notice bool, id, of broker.DeliveryID) {
	rec := &w.rec
	r := w.slab.record()
	r.Topic, r.Value = route.topic, value
	room := w.arena.mark(deliver.HeaderBytes(rec))
	var used []byte
	r.Headers, used = deliver.AppendHeaders(w.slab.headers(deliver.MaxHeaders+3), room, &route.envelope, rec, id,
		broker.NewDecisionID(w.kind(), rec.TopicID, rec.Partition, rec.Offset, route.id), of)
	w.arena.take(room, used)
	r.Headers = w.remark(r.Headers, notice)
	if route.partitions == 0 {
		room := w.arena.mark(deliver.DoorBytes(rec, route.terms.Agreement.Package))
		door := deliver.AppendDoor(room, rec, route.terms.Agreement.Package)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: deliver.DoorHeader, Value: w.arena.take(room, door)})
	}
	r.Headers = w.slab.trim(r.Headers)
	switch {
	case route.partitions == 0:
		r.Partition = route.bucketOf(b.deliveryBuckets.Load())
	case route.partitions > 1:
		r.Partition = int32(rec.Subject[0]) % route.partitions // one subject, one partition: its order is kept
	}
	w.out = append(w.out, r)
}

func (w *work) reject(b *Broker, r *kgo.Record, pos broker.Position, why *broker.Rejection, at time.Time) {
	out := &kgo.Record{Topic: b.topics.Rejected(string(pos.Dataset)), Value: deliver.AppendRejection(nil, pos, why, at)}
	// The provider's own names for the event, as it wrote them, in its own topic:
	// each once, so that a rejection is small whatever the record was. One that
	// Kafka does not take would stop the stream.
	for _, name := range [...]string{"ce_id", "ce_source"} {
		i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == name })
		if i >= 0 && len(r.Headers[i].Value) <= 512 {
			out.Headers = append(out.Headers, r.Headers[i])
		}
	}
	w.out = append(w.out, out)
}

// release lets go of the records of a transaction that is over: what is kept for
// the next one is room, not what people's records said.
func (w *work) release() {
	for _, r := range w.records {
		r.Recycle()
	}
	clear(w.records)
	clear(w.out)
	clear(w.cuts[:cap(w.cuts)])
	w.records, w.out = w.records[:0], w.out[:0]
	w.rec = broker.Record{Attributes: w.rec.Attributes[:0]}
	w.fill = nil
	w.doc.Forget()
	w.slab.release()
	w.arena.release()
	w.batches = nil
	w.batch.Release()
}

func (w *work) reset(now *world) {
	w.out = w.out[:0]
	w.batches, w.owing = nil, nil
	w.until = time.Time{}
	w.tally.reset(now)
	w.arena.release()
	w.memo.Reset()
	if w.demand == nil {
		w.demand = map[broker.AgreementID]int64{}
	}
	clear(w.demand)
}
