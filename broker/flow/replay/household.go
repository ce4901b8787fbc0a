package replay

import (
	"context"
	"slices"

	"datafordeler/broker"
	"datafordeler/broker/minimise"
)

// A household's decisions stand beside each other, under requests that differ in their
// last byte. Their outcomes depend on each other, so all are computed first, each from
// its own record, and then settled together, as they were when they were made. Of a
// member without a record nothing can be computed: its outcome is taken as recorded.

// member is one of a household that is being computed.
type member struct {
	decision *broker.Decision
	answer   *answer // nil: nobody was to be answered, or there is no record
	lacks    bool    // there was no record to decide on
	unable   bool    // there was, and it cannot be read any more
	counted  bool    // under its ceiling, until the household is settled
}

func (b *one) judge() *judge {
	if b.candidate() {
		return &b.other
	}
	return &b.own
}

// recordedHousehold says which household a decision is part of, if any.
func (b *one) recordedHousehold(d *broker.Decision) (household broker.Digest, is bool) {
	if b.head.Kind != broker.LookupDecision {
		return household, false
	}
	if p := b.at.past.state.Package(d.Package); p == nil || p.Household == nil {
		return household, false
	}
	household, _ = broker.HouseholdOf(d.Request)
	return household, true
}

func (b *one) ofHousehold(r *row) (household broker.Digest, is bool) {
	return b.recordedHousehold(&r.decisions[0])
}

// member computes what comes of one record by itself.
func (b *one) member(ctx context.Context, j *judge, r *row) error {
	m := member{decision: &r.decisions[0], lacks: r.decisions[0].Event.IsZero()}
	j.answers, j.cuts = j.answers[:0], j.cuts[:0]
	if r.record != nil {
		ok, err := b.read(j, r)
		if err != nil {
			return err
		}
		if m.unable = !ok; ok {
			b.some = true
			if m.answer, err = b.answer(ctx, j, m.decision); err != nil {
				return err
			}
		}
	} else {
		m.unable = !m.lacks
	}
	if a := m.answer; a != nil && a.outcome.Permit && a.terms.Agreement.Cost.Ceiling > 0 {
		m.counted = true
		j.usage[a.terms.Agreement.ID]++
	}
	b.members = append(b.members, m)
	return nil
}

// part works a member's part out; what cannot be is a denial.
func (j *judge) part(a *answer, x *route) {
	part, err := x.projection.Part([]byte{}, &j.doc, j.rec.Attributes)
	switch {
	case err != nil && minimise.Reason(err) == broker.ReasonDerivation:
		a.outcome = denyDerivation
	case err != nil:
		a.outcome = denyNotMinimisable
	default:
		a.projection, a.part = x.projection, part
	}
}

// together settles the household under way, and holds each of it to what was recorded.
func (b *one) together() {
	members := b.members
	b.members = b.members[:0]
	if len(members) == 0 {
		return
	}
	j := b.judge()
	for i := range members {
		if m := &members[i]; m.counted {
			j.usage[m.answer.terms.Agreement.ID]--
		}
	}
	unable := slices.ContainsFunc(members, func(m member) bool { return m.unable || !m.lacks && m.answer == nil })
	if !unable {
		j.settle(members)
	}
	for i := range members {
		switch m := &members[i]; {
		case m.lacks, m.unable: // said before
		case m.answer != nil && unable:
			if b.wanted(m.decision.Subscription) {
				b.tally.unable("household", "asked about together with another whose record cannot be decided on any more", 0, 1)
			}
		default:
			b.compare(m.decision, m.answer)
		}
		b.countMember(j, &members[i], unable)
	}
}

// countMember counts under a ceiling what was answered: as recorded, or a candidate's
// as it would have been.
func (b *one) countMember(j *judge, m *member, unable bool) {
	if b.candidate() && m.answer != nil && !unable {
		if m.answer.outcome.Permit && m.answer.terms.Agreement.Cost.Ceiling > 0 {
			j.usage[m.answer.terms.Agreement.ID]++
		}
		return
	}
	d := m.decision
	if a := b.at.past.state.Agreement(d.Agreement); d.Outcome.Permit && !d.Event.IsZero() && a != nil && a.Cost.Ceiling > 0 {
		j.usage[d.Agreement]++
	}
}

// settle gives the members the outcome that they have together.
func (j *judge) settle(members []member) {
	var p *minimise.Projection
	var parts [][]byte
	refused, missing := false, false
	for i := range members {
		m := &members[i]
		switch {
		case m.lacks:
			missing = true
			parts = append(parts, nil)
			refused = refused || !mayBePermitted(&m.decision.Outcome)
		case m.answer.outcome.Permit:
			p = m.answer.projection
			parts = append(parts, m.answer.part)
		default:
			refused = true
		}
	}
	if p == nil {
		return // nobody of them would be permitted
	}
	outcome := denyHousehold
	if !refused && (!missing || p.Skips()) {
		out, err := p.Together(nil, parts)
		switch {
		case err == nil && len(out) <= j.head.Limits.DeliveryBytes:
			outcome = nil
		case err == nil:
			outcome = denyTooLarge
		case minimise.Reason(err) == broker.ReasonDerivation:
			outcome = denyDerivation
		default:
			outcome = denyNotMinimisable
		}
		clear(out)
	}
	for i := range members {
		a := members[i].answer
		if a == nil || !a.outcome.Permit {
			continue
		}
		clear(a.part) // what a person's record said is not kept
		if a.part = nil; outcome != nil {
			a.outcome = outcome
		} else {
			a.fields = p.Fields(false)
		}
	}
}

// mayBePermitted reports whether a member without a record was refused for nothing but
// what came of it together with the others.
func mayBePermitted(o *broker.Outcome) bool {
	return o.Permit || slices.ContainsFunc([]broker.Reason{broker.ReasonHousehold, broker.ReasonDerivation, broker.ReasonTooLarge, broker.ReasonNotMinimisable},
		func(r broker.Reason) bool { return o.Reasons[0] == r })
}
