package flow

import (
	"crypto/rand"
	"errors"
	"slices"

	"datafordeler/broker"
)

// Several subjects may be asked about together, under a package that has one rule
// across them. Each gets a decision of its own, with its record, its pseudonym and its
// own place under the ceiling. There is an answer only where every one is a permit; else
// all are denied: those of whom it could not be given for their own reasons, the others
// because of them. So nobody is counted, or paid for, of whom nothing was said
// (docs/decisions/0028-households.md).

var errHousehold = errors.New("the questions of a household are of one subscription and different subjects")

// households gives each question the request that it stands under.
func (a *asked) households() error {
	of := map[int][]*Question{}
	for i := range a.questions {
		q := &a.questions[i]
		if q.request = a.request; q.Household == 0 {
			continue
		}
		if q.Household < 0 || q.Household > len(a.questions) || len(q.Found) > 1 {
			return errHousehold
		}
		of[q.Household] = append(of[q.Household], q)
	}
	for _, members := range of {
		if len(members) > broker.MaxHousehold {
			return errHousehold
		}
		var request broker.Digest
		_, _ = rand.Read(request[:])
		for i, q := range members {
			if q.Subscription != members[0].Subscription || slices.ContainsFunc(members[:i], func(o *Question) bool { return o.Subject == q.Subject }) {
				return errHousehold
			}
			q.request = broker.HouseholdRequest(request, i+1)
		}
	}
	return nil
}

// part works a permitted subject's part of the household's answer out. It is let go of
// when the household is settled, and handed over to nobody.
func (t *turn) part(x *row) {
	part, err := x.route.projection.Part([]byte{}, &x.found.doc, x.found.rec.Attributes)
	if err != nil {
		x.decision.Outcome = unreduced(err)
		return
	}
	x.data = part
	if x.route.ceiling {
		t.used[x.route.terms.Agreement.ID]++
	}
	t.relyOn(x)
}

// together settles a question's household, if it is the last of it: before others are
// asked, so that none of them is denied for a ceiling that was not used.
func (t *turn) together(a *asked, i int) {
	n := a.questions[i].Household
	if n > 0 && !slices.ContainsFunc(a.questions[i+1:], func(q Question) bool { return q.Household == n }) {
		a.combined[n-1] = t.household(a, n)
	}
}

// household makes the answer on one of them, or nil, and gives its rows the outcome
// that they have together.
func (t *turn) household(a *asked, n int) []byte {
	var rows []*row
	for i := range a.rows {
		if x := &a.rows[i]; x.kind == broker.LookupDecision && x.question >= 0 && a.questions[x.question].Household == n {
			rows = append(rows, x)
		}
	}
	again, unread := false, false
	for i := range a.questions {
		if q := &a.questions[i]; q.Household == n {
			again = again || a.answers[i].Again
			unread = unread || q.Unread
		}
	}
	if unread && !slices.ContainsFunc(rows, func(x *row) bool { return whatever(x.decision.Outcome) }) {
		again = true // nobody of them is to be refused any more
	}
	if again {
		for _, x := range rows {
			t.deny(x, denyHousehold)
		}
		a.rows = slices.DeleteFunc(a.rows, func(x row) bool { return x.question >= 0 && a.questions[x.question].Household == n })
		for i := range a.questions {
			if a.questions[i].Household == n {
				a.answers[i].Again = true
			}
		}
		return nil
	}
	if len(rows) == 0 {
		return nil
	}
	p := rows[0].route.projection
	parts := make([][]byte, len(rows))
	refused := false
	for i, x := range rows {
		if x.found == nil && !unread && x.decision.Outcome.Permit && !p.Skips() {
			t.deny(x, denyDerivation)
		}
		parts[i], x.data = x.data, nil
		refused = refused || !x.decision.Outcome.Permit
	}
	defer func() {
		for _, part := range parts {
			clear(part)
		}
	}()
	if !refused {
		out, err := p.Together(nil, parts)
		if err == nil && len(out) <= t.c.broker.cfg.MaxDelivery {
			for _, x := range rows {
				if x.found != nil {
					x.decision.Fields = p.Fields(false)
				}
			}
			return out
		}
		outcome := denyTooLarge
		if err != nil {
			outcome = unreduced(err)
		}
		for _, x := range rows {
			t.deny(x, outcome)
		}
		return nil
	}
	for _, x := range rows {
		t.deny(x, denyHousehold)
	}
	return nil
}

// deny takes a permit back before anything is written. A denial stays what it is.
func (t *turn) deny(x *row, o *broker.Outcome) {
	if !x.decision.Outcome.Permit {
		return
	}
	if x.found != nil && x.route.ceiling {
		t.used[x.route.terms.Agreement.ID]--
	}
	x.decision.Outcome = o
}

// withholdHouseholds takes the other permits of a household back where one was.
func (c *Committer) withholdHouseholds(in *instant, a *asked) error {
	gone := map[int]bool{}
	for i := range a.rows {
		if x := &a.rows[i]; x.withheld != nil && x.question >= 0 {
			gone[a.questions[x.question].Household] = true
		}
	}
	delete(gone, 0)
	for i := range a.rows {
		x := &a.rows[i]
		if x.kind != broker.LookupDecision || x.again || x.withheld != nil || !x.decision.Outcome.Permit || !gone[a.questions[x.question].Household] {
			continue
		}
		if err := c.withhold(in, x, denyHousehold); err != nil {
			return err
		}
	}
	for n := range gone {
		a.combined[n-1] = nil
	}
	return nil
}

// Told are the reasons of a household's question that its asker may be told: those of
// its own cases, consents and agreement, which hold whatever record there is. What a
// record gave as a reason is not told, nor that there is one.
func (a *Answer) Told() (reasons []broker.Reason) {
	if a.Outcome == nil || a.Outcome.Permit {
		return nil
	}
	for _, r := range a.Outcome.Reasons {
		if !slices.Contains(ofRecord, r) {
			reasons = append(reasons, r)
		}
	}
	return reasons
}
