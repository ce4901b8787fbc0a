package deliver

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"datafordeler/broker"
)

// batch1 is the writer of format 1, as it was: it the decisions of one source partition in one transaction. It
// is used by one goroutine, and reused through Reset.
type batch1 struct {
	head BatchHeader
	rows []byte
	out  [][]byte

	subs     map[*broker.Terms]int
	outcomes map[outcomeKey1]int
	usage    map[broker.AgreementID]int64 // running: starts as head.Usage
	last     int64                        // offset of the last row, for deltas
	next     int64                        // first offset not yet accounted for
	begun    bool                         // the current record's row is open
	size     int                          // of the dictionaries, estimated
}

type outcomeKey1 struct {
	terms    *broker.Terms
	outcome  *broker.Outcome
	shielded bool
}

// Reset begins a batch. The header's Usage is kept, not copied.
func (b *batch1) Reset(h BatchHeader) {
	h.Subscriptions, h.Outcomes, h.RejectedAt = nil, nil, nil
	h.Records, h.OutOfScope, h.Repeated, h.Rejected = 0, 0, 0, 0
	b.head = h
	b.rows = b.rows[:0]
	b.out = b.out[:0]
	b.last, b.next, b.size = h.First, h.First, 0
	b.usage = maps.Clone(h.Usage)
	if b.usage == nil {
		b.usage = map[broker.AgreementID]int64{}
	}
	b.subs = map[*broker.Terms]int{}
	b.outcomes = map[outcomeKey1]int{}
}

// Add appends a record's decisions. Records come in the order of their offsets.
func (b *batch1) Add(row Row, decisions []Decision) {
	b.room(row.Offset, 48+len(decisions)*12)
	b.head.Records++
	if len(decisions) == 0 {
		b.head.OutOfScope++
		return
	}
	b.rows = binary.AppendUvarint(b.rows, uint64(row.Offset-b.last))
	b.last = row.Offset
	b.rows = append(b.rows, row.Event[:]...)
	b.rows = append(b.rows, row.Subject[:]...)
	b.rows = append(b.rows, byte(row.Kind))
	b.rows = binary.AppendUvarint(b.rows, uint64(len(decisions)))
	for i := range decisions {
		d := &decisions[i]
		b.rows = binary.AppendUvarint(b.rows, uint64(b.sub(d.Terms)))
		b.rows = binary.AppendUvarint(b.rows, uint64(b.outcome(d)))
		if d.Outcome.Permit && d.Terms.Agreement.Cost.Ceiling > 0 {
			b.usage[d.Terms.Agreement.ID]++
		}
	}
}

// Reject counts a record that intake refused.
func (b *batch1) Reject(offset int64) {
	b.room(offset, 16)
	b.head.Records++
	b.head.Rejected++
	b.head.RejectedAt = append(b.head.RejectedAt, offset-b.head.First)
	b.size += 10
}

// Repeat counts a record that had been seen.
func (b *batch1) Repeat(offset int64) {
	b.room(offset, 0)
	b.head.Records++
	b.head.Repeated++
}

// Used is how many deliveries an agreement with a ceiling has had from this
// partition, those of this batch included.
func (b *batch1) Used(a broker.AgreementID) int64 { return b.usage[a] }

// Usage is Used for all agreements, to carry into the next batch.
func (b *batch1) Usage() map[broker.AgreementID]int64 { return b.usage }

// Finish ends the batch at the offset last and returns its encoded records.
// They are valid until Reset.
func (b *batch1) Finish(last int64) [][]byte {
	b.head.Last = last
	b.flush()
	return b.out
}

func (b *batch1) sub(t *broker.Terms) int {
	i, ok := b.subs[t]
	if !ok {
		i = len(b.head.Subscriptions)
		b.subs[t] = i
		b.head.Subscriptions = append(b.head.Subscriptions, BatchSubscription{
			ID: t.Subscription.ID, Agreement: t.Agreement.ID, Ceiling: t.Agreement.Cost.Ceiling > 0})
		b.size += len(t.Subscription.ID) + len(t.Agreement.ID) + 50
	}
	return i
}

func (b *batch1) outcome(d *Decision) int {
	key := outcomeKey1{d.Terms, d.Outcome, d.Shielded}
	if i, ok := b.outcomes[key]; ok {
		return i
	}
	o := BatchOutcome{Permit: d.Outcome.Permit, Reasons: d.Outcome.Reasons, Bases: d.Outcome.Bases,
		Package: d.Terms.Agreement.Package, Shielded: d.Shielded}
	if o.Permit {
		o.Fields = d.Fields
	}
	// Two evaluations may give equal answers; the dictionary holds one.
	i := slices.IndexFunc(b.head.Outcomes, func(have BatchOutcome) bool {
		return have.Permit == o.Permit && have.Shielded == o.Shielded && have.Package == o.Package &&
			slices.Equal(have.Reasons, o.Reasons) && slices.Equal(have.Bases, o.Bases) && slices.Equal(have.Fields, o.Fields)
	})
	if i < 0 {
		i = len(b.head.Outcomes)
		b.head.Outcomes = append(b.head.Outcomes, o)
		b.size += 120
		for _, f := range o.Fields {
			b.size += len(f) + 3
		}
		for _, r := range o.Reasons {
			b.size += len(r) + 3
		}
		for _, l := range o.Bases {
			b.size += len(l) + 3
		}
	}
	b.outcomes[key] = i
	return i
}

// room closes the record under way when the next row might not fit.
func (b *batch1) room(offset int64, need int) {
	if len(b.rows)+b.size+need+2_000 > MaxBatch && offset > b.head.First {
		b.head.Last = offset - 1
		b.flush()
		next := b.head
		next.First = offset
		next.Usage = maps.Clone(b.usage)
		next.Records, next.OutOfScope, next.Repeated, next.Rejected = 0, 0, 0, 0
		next.RejectedAt, next.Subscriptions, next.Outcomes = nil, nil, nil
		b.head = next
		b.rows = b.rows[:0]
		b.last, b.size = offset, 0
		clear(b.subs)
		clear(b.outcomes)
	}
}

func (b *batch1) flush() {
	head, err := json.Marshal(&b.head)
	if err != nil {
		panic(fmt.Sprintf("deliver: a batch header of plain fields did not encode: %v", err))
	}
	out := make([]byte, 0, len(head)+len(b.rows)+8)
	out = append(out, byte(1))
	out = binary.AppendUvarint(out, uint64(len(head)))
	out = append(out, head...)
	out = append(out, b.rows...)
	b.out = append(b.out, out)
}
