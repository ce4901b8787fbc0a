package deliver

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// MaxBatch is the largest record of decisions, in bytes: below the 1 MiB that
// Kafka takes by default, with room for its own framing.
const MaxBatch = 900_000

// batchVersion is the first byte of every record of decisions. Readers read
// all versions for ever.
const batchVersion = 1

// BatchHeader says what a record of decisions covers and under what. The
// ranges [First, Last] of a source partition follow each other without a gap.
type BatchHeader struct {
	Kind      string           `json:"kind"`
	Dataset   broker.DatasetID `json:"dataset"`
	TopicID   broker.Digest    `json:"topicId"`
	Partition int32            `json:"partition"`
	First     int64            `json:"first"`
	Last      int64            `json:"last"`
	// Time is the transaction's one reading of the clock.
	Time     time.Time       `json:"time"`
	Revision broker.Revision `json:"revision"`
	Policy   string          `json:"policy"`
	Period   string          `json:"period"`
	// Limits are what intake and delivery were held to: with them and the log,
	// every verdict can be computed again.
	Limits Limits `json:"limits"`
	// Usage is how many deliveries each agreement with a ceiling had had from
	// this partition when the batch began.
	Usage map[broker.AgreementID]int64 `json:"usage,omitempty"`
	// Records are those read in the range: accepted, rejected and repeated.
	Records    int64 `json:"records"`
	OutOfScope int64 `json:"outOfScope"`
	Repeated   int64 `json:"repeated"`
	Rejected   int64 `json:"rejected"`
	// RejectedAt are the rejected records' offsets, from First: who rebuilds the
	// window of repeats must not count them as seen.
	RejectedAt []int64 `json:"rejectedAt,omitempty"`
	// Subscriptions and Outcomes are what the rows refer to.
	Subscriptions []BatchSubscription `json:"subscriptions"`
	Outcomes      []BatchOutcome      `json:"outcomes"`
}

// Limits bound records, the window of repeats, and deliveries.
type Limits struct {
	RecordBytes   int   `json:"recordBytes"`
	Depth         int   `json:"depth"`
	Window        int   `json:"window"`       // records back
	WindowMillis  int64 `json:"windowMillis"` // and milliseconds
	DeliveryBytes int   `json:"deliveryBytes"`
}

// BatchSubscription is a subscription that the batch decided for.
type BatchSubscription struct {
	ID        broker.SubscriptionID `json:"id"`
	Agreement broker.AgreementID    `json:"agreement"`
	// Ceiling marks agreements whose permits count against one.
	Ceiling bool `json:"ceiling,omitempty"`
}

// BatchOutcome is one distinct answer.
type BatchOutcome struct {
	Permit   bool                  `json:"permit"`
	Reasons  []broker.Reason       `json:"reasons,omitempty"`
	Bases    []broker.LegalBasisID `json:"bases,omitempty"`
	Package  broker.PackageRef     `json:"package"`
	Fields   []broker.Pointer      `json:"fields,omitempty"`
	Shielded bool                  `json:"shielded,omitempty"`
}

// Batch collects the decisions of one source partition in one transaction. It
// is used by one goroutine, and reused through Reset.
type Batch struct {
	head BatchHeader
	rows []byte
	out  [][]byte

	subs     map[*broker.Terms]int
	outcomes map[outcomeKey]int
	usage    map[broker.AgreementID]int64 // running: starts as head.Usage
	last     int64                        // offset of the last row, for deltas
	next     int64                        // first offset not yet accounted for
	begun    bool                         // the current record's row is open
	size     int                          // of the dictionaries, estimated
}

type outcomeKey struct {
	terms    *broker.Terms
	outcome  *broker.Outcome
	shielded bool
}

// Row is what is common to a record's decisions.
type Row struct {
	Offset  int64
	Event   broker.EventHash
	Subject broker.Pseudonym
	Kind    broker.RecordKind
}

// Reset begins a batch. The header's Usage is kept, not copied.
func (b *Batch) Reset(h BatchHeader) {
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
	b.outcomes = map[outcomeKey]int{}
}

// Decision is one row's answer for one subscription.
type Decision struct {
	Terms    *broker.Terms
	Outcome  *broker.Outcome
	Shielded bool
	Fields   []broker.Pointer
}

// Add appends a record's decisions. Records come in the order of their offsets.
func (b *Batch) Add(row Row, decisions []Decision) {
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
func (b *Batch) Reject(offset int64) {
	b.room(offset, 16)
	b.head.Records++
	b.head.Rejected++
	b.head.RejectedAt = append(b.head.RejectedAt, offset-b.head.First)
	b.size += 10
}

// Repeat counts a record that had been seen.
func (b *Batch) Repeat(offset int64) {
	b.room(offset, 0)
	b.head.Records++
	b.head.Repeated++
}

// Used is how many deliveries an agreement with a ceiling has had from this
// partition, those of this batch included.
func (b *Batch) Used(a broker.AgreementID) int64 { return b.usage[a] }

// Usage is Used for all agreements, to carry into the next batch.
func (b *Batch) Usage() map[broker.AgreementID]int64 { return b.usage }

// Finish ends the batch at the offset last and returns its encoded records.
// They are valid until Reset.
func (b *Batch) Finish(last int64) [][]byte {
	b.head.Last = last
	b.flush()
	return b.out
}

func (b *Batch) sub(t *broker.Terms) int {
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

func (b *Batch) outcome(d *Decision) int {
	key := outcomeKey{d.Terms, d.Outcome, d.Shielded}
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
func (b *Batch) room(offset int64, need int) {
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

func (b *Batch) flush() {
	head, err := json.Marshal(&b.head)
	if err != nil {
		panic(fmt.Sprintf("deliver: a batch header of plain fields did not encode: %v", err))
	}
	out := make([]byte, 0, len(head)+len(b.rows)+8)
	out = append(out, batchVersion)
	out = binary.AppendUvarint(out, uint64(len(head)))
	out = append(out, head...)
	out = append(out, b.rows...)
	b.out = append(b.out, out)
}

var errBatch = errors.New("not a record of decisions, or a damaged one")

// DecodeHeader reads a record of decisions' header; rest are its rows.
func DecodeHeader(value []byte) (h BatchHeader, rest []byte, err error) {
	if len(value) == 0 {
		return h, nil, errBatch
	}
	if value[0] != batchVersion {
		return h, nil, fmt.Errorf("decisions in format %d: this version reads format %d; use a newer datafordeler", value[0], batchVersion)
	}
	n, w := binary.Uvarint(value[1:])
	if w <= 0 || n > uint64(len(value)-1-w) {
		return h, nil, errBatch
	}
	body := value[1+w:]
	if err := json.Unmarshal(body[:n], &h); err != nil {
		return h, nil, fmt.Errorf("%w: %v", errBatch, err)
	}
	if h.Last < h.First-1 {
		return h, nil, fmt.Errorf("%w: range %d–%d", errBatch, h.First, h.Last)
	}
	return h, body[n:], nil
}

// Decode calls fn for each decision in a record of decisions, in order. The
// value passed to fn is reused; its slices are shared and read-only.
func Decode(value []byte, fn func(*broker.Decision) error) (BatchHeader, error) {
	h, rows, err := DecodeHeader(value)
	if err != nil {
		return h, err
	}
	var d broker.Decision
	d.Kind = broker.StreamDecision
	d.Position = broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, Offset: h.First}
	d.PolicyDigest, d.Revision, d.Time, d.Period = h.Policy, h.Revision, h.Time, h.Period
	uvarint := func() (uint64, bool) {
		v, w := binary.Uvarint(rows)
		if w <= 0 {
			return 0, false
		}
		rows = rows[w:]
		return v, true
	}
	for len(rows) > 0 {
		delta, ok := uvarint()
		if !ok || len(rows) < 34 || delta > uint64(h.Last-d.Position.Offset) {
			return h, errBatch
		}
		d.Position.Offset += int64(delta)
		copy(d.Event[:], rows)
		copy(d.Subject[:], rows[16:])
		d.RecordKind = broker.RecordKind(rows[32])
		if d.RecordKind > broker.Retraction {
			return h, errBatch
		}
		rows = rows[33:]
		n, ok := uvarint()
		if !ok || n > uint64(len(rows)) {
			return h, errBatch
		}
		for range n {
			s, ok1 := uvarint()
			o, ok2 := uvarint()
			if !ok1 || !ok2 || s >= uint64(len(h.Subscriptions)) || o >= uint64(len(h.Outcomes)) {
				return h, errBatch
			}
			sub, out := &h.Subscriptions[s], &h.Outcomes[o]
			d.Subscription, d.Agreement = sub.ID, sub.Agreement
			d.Outcome = broker.Outcome{Permit: out.Permit, Reasons: out.Reasons, Bases: out.Bases}
			d.Package, d.Fields, d.Shielded = out.Package, out.Fields, out.Shielded
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, d.Position.Partition, d.Position.Offset, d.Subscription)
			d.Delivery = broker.DeliveryID{}
			if out.Permit {
				d.Delivery = broker.NewDeliveryID(d.Event, d.Subscription)
			}
			if fn != nil {
				if err := fn(&d); err != nil {
					return h, err
				}
			}
		}
	}
	return h, nil
}

// UsageAfter is the usage of each agreement with a ceiling when the record of
// decisions ended.
func UsageAfter(value []byte) (map[broker.AgreementID]int64, error) {
	var ceilings map[broker.SubscriptionID]bool
	h, _, err := DecodeHeader(value)
	if err != nil {
		return nil, err
	}
	usage := maps.Clone(h.Usage)
	if usage == nil {
		usage = map[broker.AgreementID]int64{}
	}
	ceilings = map[broker.SubscriptionID]bool{}
	for _, s := range h.Subscriptions {
		ceilings[s.ID] = s.Ceiling
	}
	_, err = Decode(value, func(d *broker.Decision) error {
		if d.Outcome.Permit && ceilings[d.Subscription] {
			usage[d.Agreement]++
		}
		return nil
	})
	return usage, err
}

func appendString(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return append(dst, `""`...)
	}
	return append(dst, b...)
}
