package bench

import (
	"fmt"
	"math/rand/v2"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// Case is one question to policy: what it sees of a record, and under which of
// the terms.
type Case struct {
	Terms int
	Facts broker.Facts
}

// Cases draws terms and n questions under them from a seed: statute and consent,
// open cases and ceilings, suspended and ended agreements, suppliers, bases that
// have lapsed or are bounded to a period. About two in five are permitted.
func Cases(seed uint64, n int) ([]*broker.Terms, []Case, error) {
	s := Scenario{Records: 1, Subscriptions: 96, Fanout: 1, ConsentShare: 0.5, Seed: seed}
	changes, err := s.Changes()
	if err != nil {
		return nil, nil, err
	}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	st := registry.New()
	events, err := st.Link(now, "bench", changes...)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range events {
		if ok, err := st.Fold(e); err != nil || !ok {
			return nil, nil, fmt.Errorf("registering: accepted %v, %w", ok, err)
		}
	}
	d := drawer{rand.New(rand.NewPCG(seed, 1)), now}
	terms := make([]*broker.Terms, len(st.AllTerms()))
	for i, t := range st.AllTerms() {
		terms[i] = d.terms(*t)
	}
	cases := make([]Case, n)
	for i := range cases {
		cases[i].Terms = d.IntN(len(terms))
		cases[i].Facts = d.facts(terms[cases[i].Terms])
	}
	return terms, cases, nil
}

type drawer struct {
	*rand.Rand
	now time.Time
}

func (d drawer) oneIn(n int) bool { return d.IntN(n) == 0 }

// around is a time within some days of now.
func (d drawer) around() time.Time { return d.now.Add(time.Duration(d.IntN(96)-48) * time.Hour) }

// interval has begun, mostly, and mostly not ended.
func (d drawer) interval() broker.Interval {
	i := broker.Interval{From: d.now.AddDate(-1, 0, -d.IntN(100))}
	if d.oneIn(8) {
		i.From = d.around()
	}
	if d.oneIn(4) {
		i.To = i.From.AddDate(1, 0, d.IntN(300))
	}
	return i
}

// terms changes a copy here and there.
func (d drawer) terms(t broker.Terms) *broker.Terms {
	t.Bases = append([]broker.LegalBasis(nil), t.Bases...)
	for i := range t.Bases {
		b := &t.Bases[i]
		if b.Type == broker.Lov && d.oneIn(2) {
			b.RequiresCase = true
		}
		if d.oneIn(4) {
			b.Valid = d.interval()
		}
		if d.oneIn(4) {
			b.About = &broker.AboutBound{Attribute: "period", From: "2025-06"}
		}
	}
	if d.oneIn(3) {
		t.Agreement.Cost = broker.Cost{Model: broker.PerRecord, Payer: t.Agreement.Consumer, Ceiling: 1000}
	}
	if d.oneIn(3) {
		t.Agreement.Valid = d.interval()
	}
	switch d.IntN(12) {
	case 0:
		t.Agreement.Status = broker.Suspended
	case 1:
		t.Subscription.Suspended = true
	case 2:
		t.Agreement.Corrections = broker.RefuseCorrections
	case 3:
		t.Agreement.Supplier = orgNumber(99_999)
		t.Delegations = []broker.Delegation{{ID: "bench", From: t.Agreement.Consumer, To: t.Agreement.Supplier, Datasets: []broker.DatasetID{Dataset}, Valid: d.interval()}}
	}
	return &t
}

func (d drawer) facts(t *broker.Terms) broker.Facts {
	f := broker.Facts{Time: d.now.Add(time.Duration(d.IntN(3_600_000)) * time.Millisecond), Attributes: make([]string, len(t.Dataset.Attributes))}
	if d.oneIn(10) {
		f.Kind = broker.Correction
	}
	for i, a := range t.Dataset.Attributes {
		switch a.Name {
		case "period":
			f.Attributes[i] = fmt.Sprintf("2025-%02d", 1+d.IntN(12))
		case "protected":
			f.Attributes[i] = "false"
		default:
			f.Attributes[i] = "0301"
		}
	}
	for range d.IntN(3) {
		f.Cases = append(f.Cases, d.interval())
	}
	for range d.IntN(3) {
		c := broker.Consent{ID: "c", Consumer: t.Agreement.Consumer, Dataset: t.Dataset.ID, Purpose: t.Agreement.Purpose, Valid: d.interval()}
		if d.oneIn(4) {
			c.Withdrawn = d.around()
		}
		f.Consents = append(f.Consents, c)
	}
	if t.Agreement.Cost.Ceiling > 0 {
		f.Usage = broker.Usage{Granted: 100, Delivered: int64(d.IntN(110))}
	}
	return f
}
