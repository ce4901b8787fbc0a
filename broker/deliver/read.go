package deliver

import (
	"fmt"
	"slices"

	"datafordeler/broker"
)

// Peek reads what a record of decisions covers and under what, and nothing that
// grows with it: in format 2, Usage, RejectedAt, Subscriptions and Outcomes are
// left out.
func Peek(value []byte) (h BatchHeader, err error) {
	if err := version(value); err != nil {
		return h, err
	}
	if value[0] == 1 {
		h, _, err = header1(value)
		return h, err
	}
	v, err := open(value)
	if err != nil {
		return h, err
	}
	return v.head, nil
}

// DecodeHeader reads a record of decisions' header; rest are its rows.
func DecodeHeader(value []byte) (h BatchHeader, rest []byte, err error) {
	if err := version(value); err != nil {
		return h, nil, err
	}
	if value[0] == 1 {
		return header1(value)
	}
	v, err := open(value)
	if err != nil {
		return h, nil, err
	}
	h, err = v.header()
	return h, v.blocks, err
}

// Decode calls fn for each decision in a record of decisions, in order. The
// value passed to fn is reused; its slices are shared and read-only.
func Decode(value []byte, fn func(*broker.Decision) error) (h BatchHeader, err error) {
	var d *decider
	left := maxDecisions
	err = rows(value, &h, func(row *Row, answers []answer) error {
		if d == nil {
			d = newDecider(&h)
		}
		if left -= len(answers); left < 0 && value[0] > 1 {
			return fmt.Errorf("%w: more than %d decisions", errBatch, maxDecisions)
		}
		if fn == nil {
			return nil
		}
		d.row(row)
		for _, a := range answers {
			if err := fn(d.decide(&h.Subscriptions[a.sub], &h.Outcomes[a.outcome])); err != nil {
				return err
			}
		}
		return nil
	})
	return h, err
}

// UsageAfter is the usage of each agreement with a ceiling when the record of
// decisions ended.
func UsageAfter(value []byte) (map[broker.AgreementID]int64, error) {
	h, _, err := DecodeHeader(value)
	if err != nil {
		return nil, err
	}
	counts := map[broker.AgreementID]int64{}
	if !slices.ContainsFunc(h.Subscriptions, func(s BatchSubscription) bool { return s.Ceiling }) {
		return after(h.Usage, counts), nil
	}
	err = rows(value, &h, func(_ *Row, answers []answer) error {
		for _, a := range answers {
			if s := &h.Subscriptions[a.sub]; s.Ceiling && h.Outcomes[a.outcome].Permit {
				counts[s.Agreement]++
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return after(h.Usage, counts), nil
}

func after(usage, counts map[broker.AgreementID]int64) map[broker.AgreementID]int64 {
	for a, n := range usage {
		counts[a] += n
	}
	return counts
}

// Lookup calls fn for each decision on the record at offset, and reads no other
// record's: in format 2, one block, and of the dictionaries the groups that it
// refers to. It calls fn not at all where the header's range does not hold the
// offset, or the record was rejected, repeated or in no subscription's scope.
func Lookup(value []byte, offset int64, fn func(*broker.Decision) error) (h BatchHeader, err error) {
	if h, err = Peek(value); err != nil || offset < h.First || offset > h.Last {
		return h, err
	}
	if value[0] == 1 {
		return Decode(value, func(d *broker.Decision) error {
			if d.Position.Offset != offset {
				return nil
			}
			return fn(d)
		})
	}
	v, err := open(value)
	if err != nil {
		return h, err
	}
	return h, v.lookup(offset, fn)
}

func (v *view) lookup(offset int64, fn func(*broker.Decision) error) error {
	var b []byte
	var begins int64
	var n int
	if err := v.eachBlock(func(first, _ int64, rows int, block []byte) (bool, error) {
		if first > offset {
			return false, nil
		}
		b, begins, n = block, first, rows
		return true, nil
	}); err != nil || b == nil {
		return err
	}
	var k rowBlock
	if err := k.read(b, n, begins, v.head.Last, v.sets.n); err != nil {
		return err
	}
	i, ok := slices.BinarySearch(k.offsets, offset)
	if !ok {
		return nil
	}
	if err := v.sets.at(int(k.sets[i])); err != nil {
		return err
	}
	row := k.row(i)
	d := newDecider(&v.head)
	d.row(&row)
	last, out := -1, BatchOutcome{}
	for _, a := range v.sets.entry.answers {
		if a.sub >= v.subs.n {
			return fmt.Errorf("%w: sets: a subscription out of range", errBatch)
		}
		if err := v.subs.at(a.sub); err != nil {
			return err
		}
		if a.outcome >= len(v.subs.entry.outcomes) {
			return fmt.Errorf("%w: sets: an outcome out of range", errBatch)
		}
		if o := v.subs.entry.outcomes[a.outcome]; o != last {
			var err error
			if out, err = v.outcomeAt(o); err != nil {
				return err
			}
			last = o
		}
		sub := v.subs.entry.subscription()
		if err := fn(d.decide(&sub, &out)); err != nil {
			return err
		}
	}
	return nil
}

// outcomeAt reads one outcome and its lists.
func (v *view) outcomeAt(i int) (out BatchOutcome, err error) {
	if i >= v.outcomes.n {
		return out, fmt.Errorf("%w: subscriptions: an outcome out of range", errBatch)
	}
	if err := v.outcomes.at(i); err != nil {
		return out, err
	}
	e := &v.outcomes.entry
	out = BatchOutcome{Permit: e.permit, Shielded: e.shielded, Package: broker.PackageRef{ID: string(e.pack.b), Version: e.version}}
	words := func(list int) []string {
		switch {
		case list == 0 || err != nil:
			return nil
		case list > v.lists.n:
			err = fmt.Errorf("%w: outcomes: a list out of range", errBatch)
			return nil
		}
		err = v.lists.at(list - 1)
		return v.lists.entry.words
	}
	var l lists3
	if w := words(e.reasons); len(w) > 0 {
		out.Reasons = as(&l.reasons, w)
	}
	if w := words(e.bases); len(w) > 0 {
		out.Bases = as(&l.bases, w)
	}
	if w := words(e.fields); len(w) > 0 {
		out.Fields = as(&l.fields, w)
	}
	return out, err
}

// rows reads the header, and calls fn for each row with what it was answered, by
// numbers in the header.
func rows(value []byte, h *BatchHeader, fn func(row *Row, answers []answer) error) error {
	if err := version(value); err != nil {
		return err
	}
	if value[0] == 1 {
		head, rest, err := header1(value)
		if *h = head; err != nil {
			return err
		}
		return rows1(h, rest, fn)
	}
	v, err := open(value)
	if err != nil {
		return err
	}
	if *h, err = v.header(); err != nil {
		return err
	}
	sets, err := v.readSets(len(h.Outcomes))
	if err != nil {
		return err
	}
	return v.eachRow(v.sets.n, func(row *Row, set uint32) error { return fn(row, sets.set(set)) })
}

// decider makes decisions of a header, a row and an answer.
type decider struct{ d broker.Decision }

func newDecider(h *BatchHeader) *decider {
	return &decider{broker.Decision{
		Kind:         broker.StreamDecision,
		Position:     broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition},
		PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time, Period: h.Period,
	}}
}

func (x *decider) row(r *Row) {
	x.d.Position.Offset, x.d.Event, x.d.Subject, x.d.RecordKind = r.Offset, r.Event, r.Subject, r.Kind
}

func (x *decider) decide(sub *BatchSubscription, out *BatchOutcome) *broker.Decision {
	d := &x.d
	d.Subscription, d.Agreement = sub.ID, sub.Agreement
	d.Outcome = broker.Outcome{Permit: out.Permit, Reasons: out.Reasons, Bases: out.Bases}
	d.Package, d.Fields, d.Shielded = out.Package, out.Fields, out.Shielded
	d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, d.Position.Partition, d.Position.Offset, d.Subscription)
	d.Delivery = broker.DeliveryID{}
	if out.Permit {
		d.Delivery = broker.DeliveryOf(d.Kind, d.Event, d.Subscription)
	}
	return d
}
