package replay

import (
	"context"
	"log/slog"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

var (
	denyPolicyError    = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonPolicyError}}
	denyNotMinimisable = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonNotMinimisable}}
	denyDerivation     = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonDerivation}}
	denyHousehold      = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonHousehold}}
	denyTooLarge       = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonTooLarge}}

	denyDeliveryUnknown = &broker.Outcome{Reasons: []broker.Reason{broker.ReasonDeliveryUnknown}}
)

// answer is what was computed for one subscription.
type answer struct {
	terms    *broker.Terms
	outcome  *broker.Outcome
	shielded bool
	fields   []broker.Pointer

	projection *minimise.Projection // of a household's member, with its part
	part       []byte
}

// judge computes the answers of one side for the records of one source partition.
type judge struct {
	candidate bool
	world     *world
	state     *registry.State
	head      *deliver.BatchHeader
	usage     map[broker.AgreementID]int64 // delivered under agreements with a ceiling
	log       *slog.Logger

	rec     broker.Record
	doc     jsondoc.Doc
	found   []int32 // routes, by number
	answers []answer

	cases    []broker.Interval
	consents []broker.Consent
	cuts     []cut
	out      []byte
	memo     policy.Memo
}

// cut is what a rights package makes of the record; what it makes of it is not kept.
type cut struct {
	by       *broker.RightsPackage
	size     int
	shielded bool
	err      error
}

// begin makes it ready for a batch.
func (j *judge) begin(w *world, st *registry.State, h *deliver.BatchHeader, usage map[broker.AgreementID]int64, log *slog.Logger) {
	j.world, j.state, j.head, j.usage, j.log = w, st, h, usage, log
	j.memo.Reset()
}

// match finds in whose scope the record is.
func (j *judge) match(rec *broker.Record) []int32 {
	j.state.Consult(rec)
	j.found = j.world.index.Match(j.found[:0], rec, j.state)
	return j.found
}

// decide answers for every subscription in whose scope the record is, in order of
// their names.
func (j *judge) decide(ctx context.Context, msg *intake.Message, rec *broker.Record, doc *jsondoc.Doc) error {
	j.answers, j.cuts = j.answers[:0], j.cuts[:0]
	for _, n := range j.match(rec) {
		x := j.world.numbered[n].ready(j.world.engine)
		if x.err != nil {
			return x.err
		}
		a := answer{terms: x.terms, outcome: j.ask(ctx, x, rec, msg.Partition)}
		if a.outcome.Permit && !noticeOnly(x.terms, rec) {
			j.reduce(&a, x, rec, doc)
		}
		j.answers = append(j.answers, a)
	}
	for i := range j.answers { // a record's deliveries count when all of it is answered
		if a := &j.answers[i]; a.outcome.Permit && a.terms.Agreement.Cost.Ceiling > 0 {
			j.usage[a.terms.Agreement.ID]++
		}
	}
	return nil
}

// ask puts the case to policy. Whatever goes wrong is a denial, as it was then.
func (j *judge) ask(ctx context.Context, x *route, rec *broker.Record, partition int32) *broker.Outcome {
	if x.prepared == nil {
		return denyPolicyError
	}
	t := x.terms
	var usage broker.Usage
	if t.Agreement.Cost.Ceiling > 0 {
		usage = j.used(t.Agreement.ID, partition)
	}
	return j.put(ctx, x, rec, usage)
}

// again is ask where a ceiling is not asked, because it has counted the delivery.
func (j *judge) again(ctx context.Context, x *route, rec *broker.Record) *broker.Outcome {
	return j.put(ctx, x, rec, broker.Usage{Granted: 1})
}

func (j *judge) put(ctx context.Context, x *route, rec *broker.Record, usage broker.Usage) *broker.Outcome {
	t := x.terms
	facts := broker.Facts{Time: j.head.Time, Kind: rec.Kind, Attributes: rec.Attributes, Usage: usage}
	if rec.HasSubject {
		j.cases = j.state.Cases(j.cases[:0], t.Subscription.ID, rec.Subject)
		j.consents = j.state.Consents(j.consents[:0], t.Agreement.Consumer, t.Dataset.ID, t.Agreement.Purpose, rec.Subject)
		facts.Cases, facts.Consents = j.cases, j.consents
	}
	outcome, err := x.decide(ctx, &facts, &j.memo)
	if err != nil || outcome == nil || !outcome.Permit && len(outcome.Reasons) == 0 {
		j.log.Warn("policy gave no answer: taken as a denial", "subscription", t.Subscription.ID, "err", err)
		return denyPolicyError
	}
	return outcome
}

// used is how much of a ceiling the partition had, and had used. A candidate may
// use more than was: it has what was leased to the partition, and what was left to
// lease to anyone, for an instance would have asked for it.
func (j *judge) used(a broker.AgreementID, partition int32) broker.Usage {
	u := broker.Usage{Granted: j.state.Granted(a, j.head.TopicID, partition), Delivered: j.usage[a]}
	for i := range j.answers { // of this record, under other subscriptions to the agreement
		if d := &j.answers[i]; d.outcome.Permit && d.terms.Agreement.ID == a {
			u.Delivered++
		}
	}
	if j.candidate {
		u.Granted += j.state.Unleased(a)
	}
	return u
}

// noticeOnly reports whether the consumer wants to be told of such a record, and gets
// no data: the permit names no fields, and nothing is reduced.
func noticeOnly(t *broker.Terms, rec *broker.Record) bool {
	return rec.Kind != broker.Original && t.Agreement.Corrections == broker.NotifyCorrections
}

// reduce says what of a permitted record leaves; what cannot is a denial.
func (j *judge) reduce(a *answer, x *route, rec *broker.Record, doc *jsondoc.Doc) {
	switch c := j.cut(x, rec, doc); {
	case c.err != nil && minimise.Reason(c.err) == broker.ReasonDerivation:
		a.outcome = denyDerivation
	case c.err != nil:
		a.outcome = denyNotMinimisable
	case c.size > j.head.Limits.DeliveryBytes:
		a.outcome = denyTooLarge
	default:
		a.shielded, a.fields = c.shielded, x.projection.Fields(c.shielded)
	}
}

// cut reduces the record, once for all subscriptions with the same package.
func (j *judge) cut(x *route, rec *broker.Record, doc *jsondoc.Doc) *cut {
	for i := range j.cuts {
		if j.cuts[i].by == x.terms.Package {
			return &j.cuts[i]
		}
	}
	out, shielded, err := x.projection.Append(j.out[:0], doc, rec.Attributes)
	c := cut{by: x.terms.Package, size: len(out), shielded: shielded, err: err}
	j.out = out
	clear(j.out[:cap(j.out)]) // what a person's record said is not kept
	j.cuts = append(j.cuts, c)
	return &j.cuts[len(j.cuts)-1]
}
