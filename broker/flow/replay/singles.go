package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
)

// Single decisions, of the kinds backfill, lookup, door and notice, are computed again from
// the record that each is about, at their own revision, time and usage. No range
// accounts for them, so what is held to the log is what was answered, and not that
// nobody else was to be answered. Of a lookup that is not about a record in the log
// nothing can be computed: those are counted.

// atOnce bounds the rows whose records are held in memory together.
const atOnce = 256

// singles computes records of single decisions. It belongs to one goroutine.
type singles struct {
	*run
	tally *tally
	tapes map[partKey]*tape
	own   judge
	other judge
	every int
}

func (s *singles) close() {
	for _, t := range s.tapes {
		t.close()
	}
}

// row is the decisions on one record, for one request.
type row struct {
	at        broker.Position
	request   broker.Digest
	decisions []broker.Decision
	record    *kgo.Record // nil: there is none to compute from
}

func (r *row) holds(d *broker.Decision) bool {
	first := &r.decisions[0]
	return r.at == d.Position && r.request == d.Request && first.Event == d.Event && first.Subject == d.Subject
}

// one is a record of single decisions under way.
type one struct {
	*singles
	e    *entry
	at   *moment
	head deliver.SinglesHeader
	// as is the head in the form that a judge knows. Its topic and partition are the
	// lease's.
	as   deliver.BatchHeader
	some bool // something could be computed
	// members are of the household under way, and household is its request.
	members   []member
	household broker.Digest
}

// singleEntry reads a head, and says whether the record is to be replayed: nil if not.
func (r *run) singleEntry(m *kgo.Record) *entry {
	h, err := deliver.PeekSingles(m.Value)
	switch {
	case err != nil:
		r.singles.tally.fault(Fault{Place{DecisionsPartition: m.Partition, DecisionsOffset: m.Offset, Offset: broker.Nowhere}, "", "", "encoding", "a record of single decisions", err.Error()})
		return nil
	case !r.To.IsZero() && !h.Time.Before(r.To), h.Time.Before(r.From):
		return nil
	}
	if r.Every > 1 {
		if r.singles.every++; r.singles.every%r.Every != 1 {
			r.left++
			return nil
		}
	}
	return &entry{revision: h.Revision, records: h.Decisions, nanos: h.Time.UnixNano(), partition: m.Partition, offset: m.Offset, value: m.Value}
}

// replay computes one record of single decisions again. An error stops the replay.
func (s *singles) replay(ctx context.Context, e *entry, at *moment) error {
	b := &one{singles: s, e: e, at: at}
	var rows []row
	var err error
	b.head, err = deliver.DecodeSingles(e.value, func(d *broker.Decision) error {
		if s.Dataset != "" && d.Position.Dataset != s.Dataset {
			return nil
		}
		if n := len(rows); n == 0 || !rows[n-1].holds(d) {
			rows = append(rows, row{at: d.Position, request: d.Request})
		}
		last := &rows[len(rows)-1]
		last.decisions = append(last.decisions, *d)
		return nil
	})
	h := &b.head
	if err != nil {
		b.fault(broker.Position{Offset: broker.Nowhere}, "", "encoding", "a record of single decisions", err.Error())
		return nil
	}
	if len(rows) == 0 {
		return nil
	}
	if s.candidate() {
		if at.otherErr != nil {
			s.tally.unable("candidate", at.otherErr.Error(), 1, int64(len(rows)))
			return nil
		}
	} else {
		if at.own.digest != h.Policy {
			b.fault(rows[0].at, "", "policy", h.Policy, at.own.digest)
		}
		if at.own.engine == nil {
			s.tally.unable("policy", at.own.unable, 1, int64(len(rows)))
			return nil
		}
	}
	b.as = deliver.BatchHeader{Kind: h.Kind.String(), TopicID: h.TopicID, Partition: h.Partition, Time: h.Time, Revision: h.Revision, Policy: h.Policy, Period: h.Period, Limits: h.Limits}
	usage := func() map[broker.AgreementID]int64 {
		if h.Usage == nil {
			return map[broker.AgreementID]int64{}
		}
		return maps.Clone(h.Usage)
	}
	s.own.begin(at.own, at.past.state, &b.as, usage(), s.Log)
	if s.candidate() {
		s.other.begin(at.other, at.other.state, &b.as, usage(), s.Log)
	}
	for some := range slices.Chunk(rows, atOnce) {
		if err := b.fetch(ctx, some); err != nil {
			return err
		}
		for i := range some {
			if err := b.row(ctx, &some[i]); err != nil {
				return err
			}
			some[i].record = nil
		}
	}
	b.together()
	t := s.tally
	if !b.some { // nothing of it could be computed; why is told
		return nil
	}
	t.batches++
	if t.first.IsZero() || h.Time.Before(t.first) {
		t.first = h.Time
	}
	if h.Time.After(t.last) {
		t.last = h.Time
	}
	return nil
}

// fetch reads the rows' records, those of a source partition in the log's order.
func (b *one) fetch(ctx context.Context, rows []row) error {
	order := make([]*row, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		if r.at.Offset == broker.Nowhere {
			b.unable("not in the log", b.head.Kind.String()+" decisions on what does not lie in the log: a record that stays with its provider, or none", r)
			continue
		}
		order = append(order, r)
	}
	slices.SortStableFunc(order, func(x, y *row) int { return int(max(-1, min(1, x.at.Offset-y.at.Offset))) })
	for _, r := range order {
		src, err := b.source(ctx, r.at.Dataset)
		if err != nil {
			return err
		}
		p := r.at.Partition
		switch {
		case src.err != "":
			b.unable("source", src.err, r)
			continue
		case src.id != broker.Digest(r.at.TopicID):
			b.unable("source", "the topic of "+string(r.at.Dataset)+" was deleted and made again since", r)
			continue
		case r.at.Offset < src.starts[p]:
			b.unable("source", fmt.Sprintf("the records of %s/%d before offset %d are gone: retention", r.at.Dataset, p, src.starts[p]), r)
			continue
		case r.at.Offset >= src.ends[p]:
			b.unable("source", fmt.Sprintf("the topic of %s/%d ends at offset %d", r.at.Dataset, p, src.ends[p]), r)
			continue
		}
		k := partKey{r.at.Dataset, src.id, p}
		t := b.tapes[k]
		if t == nil {
			t = &tape{engine: b.Engine, topic: b.Topics.Source(string(r.at.Dataset)), partition: p, end: src.ends[p]}
			b.tapes[k] = t
		}
		if err := t.seek(r.at.Offset); err != nil {
			return err
		}
		m, err := t.peek(ctx)
		switch {
		case errors.As(err, new(*kafka.GoneError)):
			t.close()
			b.unable("source", "records were deleted while they were read: retention", r)
		case err != nil:
			return err
		case m == nil || m.Offset != r.at.Offset:
			b.fault(r.at, "", "source", "decided", "no such record stands in the source")
		default:
			r.record = m
		}
	}
	return nil
}

// row computes the answers for one record.
func (b *one) row(ctx context.Context, r *row) error {
	b.tally.records++
	j := b.judge()
	if household, ok := b.ofHousehold(r); ok {
		if household != b.household {
			b.together()
			b.household = household
		}
		return b.member(ctx, j, r)
	}
	b.together()
	ok := r.record != nil
	var err error
	if ok {
		ok, err = b.read(j, r)
		if err != nil {
			return err
		}
	}
	j.answers, j.cuts = j.answers[:0], j.cuts[:0]
	if ok {
		b.some = true
		if b.head.Kind == broker.BackfillDecision {
			j.match(&j.rec)
		}
		for i := range r.decisions {
			if err := b.decision(ctx, j, &r.decisions[i]); err != nil {
				return err
			}
		}
	}
	b.count(j, r, ok)
	return nil
}

// count counts what was delivered under ceilings: as it was recorded, so that one
// fault does not make others; a candidate's as it would have been.
func (b *one) count(j *judge, r *row, computed bool) {
	if b.head.Kind == broker.NoticeDecision {
		return // a ceiling counts data
	}
	if b.candidate() && computed {
		for i := range j.answers {
			if a := &j.answers[i]; a.outcome.Permit && a.terms.Agreement.Cost.Ceiling > 0 {
				j.usage[a.terms.Agreement.ID]++
			}
		}
		return
	}
	for i := range r.decisions {
		if d := &r.decisions[i]; d.Outcome.Permit && !d.Event.IsZero() {
			if a := b.at.past.state.Agreement(d.Agreement); a != nil && a.Cost.Ceiling > 0 {
				j.usage[d.Agreement]++
			}
		}
	}
}

// read has intake read the record as it was declared then, and holds the row's
// columns to it.
func (b *one) read(j *judge, r *row) (ok bool, err error) {
	rules, state := b.rules, b.at.past.state
	if b.candidate() && b.redeclared[r.at.Dataset] {
		rules, state = b.otherRules, b.at.other.state
	}
	declared := state.Dataset(r.at.Dataset)
	if declared == nil {
		b.fault(r.at, "", "dataset", "decided", fmt.Sprintf("not registered at revision %d", b.head.Revision))
		return false, nil
	}
	accepts, err := rules.dataset(declared, b.head.Limits)
	if err != nil {
		b.unable("control", fmt.Sprintf("dataset %s cannot be compiled: %v", r.at.Dataset, err), r)
		return false, nil
	}
	msg := b.message(r)
	if rejection := accepts.Accept(&msg, b.Hasher, &j.rec, &j.doc); rejection != nil {
		if b.candidate() {
			for i := range r.decisions {
				d := &r.decisions[i]
				b.differ(d, recordedWord(d), noneWord, "")
			}
			return false, nil
		}
		b.unable("intake", "decided on a record that the dataset, as it was declared by then, does not accept: "+code(rejection), r)
		return false, nil
	}
	if b.candidate() {
		return true, nil
	}
	rec, d := &j.rec, &r.decisions[0]
	if rec.Event != d.Event {
		b.fault(r.at, "", "event", d.Event.String(), rec.Event.String())
	}
	if rec.Kind != d.RecordKind {
		b.fault(r.at, "", "kind", d.RecordKind.String(), rec.Kind.String())
	}
	var want broker.Pseudonym
	if rec.HasSubject {
		if want, err = b.Hasher.Pseudonym(b.head.Period, rec.Subject); err != nil {
			b.tally.unable("pseudonyms", "the key of "+b.head.Period+" is not in the keystore: destroyed, or never made", 0, 1)
			return true, nil
		}
	}
	if want != d.Subject {
		b.fault(r.at, "", "pseudonym", d.Subject.String(), want.String())
	}
	return true, nil
}

func (b *one) message(r *row) intake.Message {
	m := intake.Message{Position: r.at, Timestamp: r.record.Timestamp, Value: r.record.Value}
	for _, h := range r.record.Headers {
		m.Headers = append(m.Headers, intake.Header(h))
	}
	return m
}

// decision computes one answer, and compares.
func (b *one) decision(ctx context.Context, j *judge, d *broker.Decision) error {
	a, err := b.answer(ctx, j, d)
	if err != nil {
		return err
	}
	if a != nil {
		j.answers = append(j.answers, *a)
	}
	b.compare(d, a)
	return nil
}

// compare holds what was computed to what was recorded.
func (b *one) compare(d *broker.Decision, a *answer) {
	if !b.wanted(d.Subscription) {
		return
	}
	b.tally.answered++
	b.tally.kinds[b.head.Kind.String()]++
	if a == nil {
		if b.candidate() {
			b.differ(d, recordedWord(d), noneWord, "")
		} else {
			b.fault(d.Position, d.Subscription, "decision", recordedWord(d), noneWord)
		}
		return
	}
	seen := *d
	if b.head.Kind == broker.DoorDecision {
		// What was withheld was reduced by the package that the decision names.
		seen.Package = a.terms.Agreement.Package
		if slices.Equal(d.Outcome.Reasons, denyHousehold.Reasons) {
			b.tally.unable("door", "withheld because another of its household was: which, the door does not say", 0, 1)
			return
		}
		if slices.Equal(d.Outcome.Reasons, denyPolicyError.Reasons) && !slices.Equal(a.outcome.Reasons, d.Outcome.Reasons) {
			b.tally.unable("door", "withheld without asking policy, because the delivery fitted its subscription no more: its mailbox does not stand among the decisions", 0, 1)
			return
		}
	}
	what, recorded, computed := unlike(&seen, a)
	switch {
	case !b.candidate() && what != "":
		b.fault(d.Position, d.Subscription, what, recorded, computed)
	case !b.candidate() && d.Agreement != a.terms.Agreement.ID && b.head.Kind != broker.DoorDecision:
		b.fault(d.Position, d.Subscription, "agreement", string(d.Agreement), string(a.terms.Agreement.ID))
	case b.candidate() && recordedWord(d) != word(a.outcome):
		b.differ(d, recordedWord(d), word(a.outcome), "")
	case b.candidate() && what != "":
		b.differ(d, recordedWord(d), word(a.outcome), what)
	}
}

// answer is what would be answered; nil: nobody was to be answered.
func (b *one) answer(ctx context.Context, j *judge, d *broker.Decision) (*answer, error) {
	x := j.world.routes[j.state.Terms(d.Subscription)]
	j.state.Consult(&j.rec)
	if b.head.Kind == broker.DoorDecision {
		return b.atDoor(ctx, j, x, d)
	}
	if b.head.Kind == broker.NoticeDecision {
		return b.told(ctx, j, x, d)
	}
	if x == nil || x.terms.Dataset.ID != d.Position.Dataset {
		return nil, nil
	}
	if b.head.Kind == broker.BackfillDecision && !slices.ContainsFunc(j.found, func(n int32) bool { return j.world.numbered[n] == x }) {
		return nil, nil
	}
	if x = x.ready(j.world.engine); x.err != nil {
		return nil, x.err
	}
	if b.head.Kind == broker.LookupDecision && (!x.scope.Holds(&j.rec, j.state) || b.closed(x.terms, d)) {
		return nil, nil
	}
	if _, is := b.recordedHousehold(d); is != (b.head.Kind == broker.LookupDecision && x.projection.Household()) {
		return nil, nil // one is not asked as the other
	}
	a := &answer{terms: x.terms, outcome: j.ask(ctx, x, &j.rec, b.head.Partition)}
	if a.outcome.Permit && x.projection.Household() {
		j.part(a, x)
		return a, nil
	}
	if a.outcome.Permit && !b.notice(x.terms, &j.rec, d) {
		j.reduce(a, x, &j.rec, &j.doc)
	}
	return a, nil
}

// told asks again whether a consumer is told of what it may not have. Whether it was
// delivered what that changes is taken as it was recorded: where that was not known,
// nothing can be computed, and nothing was told.
func (b *one) told(ctx context.Context, j *judge, x *route, d *broker.Decision) (*answer, error) {
	if x == nil || x.terms.Dataset.ID != d.Position.Dataset || j.rec.Kind == broker.Original {
		return nil, nil
	}
	if x = x.ready(j.world.engine); x.err != nil {
		return nil, x.err
	}
	a := &answer{terms: x.terms}
	switch {
	case slices.Equal(d.Outcome.Reasons, denyDeliveryUnknown.Reasons):
		a.outcome = denyDeliveryUnknown
	case x.prepared == nil:
		a.outcome = denyPolicyError
	default:
		a.outcome = j.world.engine.Notice(j.again(ctx, x, &j.rec))
	}
	return a, nil
}

// closed reports whether the subscription looked up then, and would not any more.
func (b *one) closed(t *broker.Terms, d *broker.Decision) bool {
	was := b.at.past.state.Terms(d.Subscription)
	return was != nil && was.Subscription.Lookup && !t.Subscription.Lookup
}

// notice reports whether a permit is a notice. A lookup brings what was asked for, and
// a case or consent that came later brings the newest record with its data, correction
// or not; a subscription's start brings notices, as the stream does. For a subscription
// with a start the log does not say which of the two brought a record: it is taken as
// it was answered, or for the start's where that says nothing.
func (b *one) notice(t *broker.Terms, rec *broker.Record, d *broker.Decision) bool {
	if b.head.Kind != broker.BackfillDecision || t.Subscription.Start.IsZero() || !noticeOnly(t, rec) {
		return false
	}
	if was := b.at.past.state.Agreement(d.Agreement); d.Outcome.Permit && was != nil && was.Corrections == broker.NotifyCorrections {
		return len(d.Fields) == 0
	}
	return true
}

// atDoor asks again about a delivery, as a door does: whether its subscription and
// package still are what it was made for, and then policy, which sees what it saw
// when the delivery was decided. A ceiling counted it then, and is not asked again.
func (b *one) atDoor(ctx context.Context, j *judge, x *route, d *broker.Decision) (*answer, error) {
	if x == nil || x.terms.Agreement.ID != d.Agreement || x.terms.Dataset.ID != d.Position.Dataset {
		gone := &broker.Terms{}
		gone.Subscription.ID, gone.Agreement.ID, gone.Agreement.Package = d.Subscription, d.Agreement, d.Package
		return &answer{terms: gone, outcome: denyPolicyError}, nil
	}
	if x = x.ready(j.world.engine); x.err != nil {
		return nil, x.err
	}
	a := &answer{terms: x.terms}
	switch {
	case x.prepared == nil:
		a.outcome = denyPolicyError
	case !covers(x.terms.Package, j.state.Package(d.Package)):
		a.outcome = denyNotMinimisable
	case slices.Equal(d.Outcome.Reasons, denyNotMinimisable.Reasons) && x.projection.Shields(j.rec.Attributes):
		a.outcome = denyNotMinimisable // protected since it was delivered, as the log says
	default:
		a.outcome = j.again(ctx, x, &j.rec)
	}
	// A notice is judged as one, and the log does not say which of the two was withheld.
	if told := j.world.engine.Notice(a.outcome); j.rec.Kind != broker.Original && slices.Equal(told.Reasons, d.Outcome.Reasons) {
		a.outcome = told
	}
	return a, nil
}

// covers reports whether what was reduced by one package may leave under another:
// all its fields are agreed, what it derives is derived by the same rules, and
// protected subjects are shielded alike.
func covers(now, then *broker.RightsPackage) bool {
	if now == nil || then == nil {
		return false
	}
	return now == then || reflect.DeepEqual(now.Shielding, then.Shielding) && now.Derives(then) &&
		!slices.ContainsFunc(then.Fields, func(f broker.Pointer) bool { return !slices.Contains(now.Fields, f) })
}

func (b *one) place(at broker.Position) Place {
	return Place{at.Dataset, at.Partition, at.Offset, b.e.partition, b.e.offset}
}

func (b *one) fault(at broker.Position, sub broker.SubscriptionID, what, recorded, computed string) {
	b.tally.fault(Fault{b.place(at), b.head.Kind.String(), sub, what, recorded, computed})
}

// unable counts a row whose decisions could not be computed, if any was asked for.
func (b *one) unable(what, why string, r *row) {
	if slices.ContainsFunc(r.decisions, func(d broker.Decision) bool { return b.wanted(d.Subscription) }) {
		b.tally.unable(what, why, 0, 1)
	}
}

func (b *one) differ(d *broker.Decision, before, after, what string) {
	if !b.wanted(d.Subscription) {
		return
	}
	var consumer broker.OrgNumber
	if a := b.at.past.state.Agreement(d.Agreement); a != nil {
		consumer = a.Consumer
	}
	b.tally.differ(diffKey{b.head.Kind.String(), consumer, d.Subscription, before, after, what}, b.place(d.Position))
}
