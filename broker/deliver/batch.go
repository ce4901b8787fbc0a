package deliver

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// MaxBatch is the largest record of decisions, in bytes: below the 1 MiB that
// Kafka takes by default, with room for its own framing.
const MaxBatch = 900_000

// batchVersion is the first byte of every record of decisions that is written.
// Readers read all versions for ever.
const batchVersion = 2

// What a record of decisions may say in few bytes is bounded, so that reading
// one is never unbounded work: the writer begins another record instead.
const (
	maxDecisions = 1 << 22
	maxRejected  = 1 << 20
	blockRows    = 256
)

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

// Row is what is common to a record's decisions.
type Row struct {
	Offset  int64
	Event   broker.EventHash
	Subject broker.Pseudonym
	Kind    broker.RecordKind
}

// Decision is one row's answer for one subscription. What it points to does not
// change while the batch is being made; equal answers behind different pointers
// are the same answer.
type Decision struct {
	Terms    *broker.Terms
	Outcome  *broker.Outcome
	Shielded bool
	Fields   []broker.Pointer
}

// Batch collects the decisions of one source partition in one transaction, and
// writes them in columns. It is used by one goroutine, and reused through Reset:
// then it allocates for what it has not met before only.
//
// The bytes follow from the decisions alone, never from where they lie in
// memory: numbers in the dictionaries are given in the order of first use.
type Batch struct {
	head  BatchHeader
	usage map[broker.AgreementID]int64 // running: starts as head.Usage
	next  int64                        // first offset not yet accounted for
	dict  dictionaries

	open     block
	blocks   []byte
	index    []blockEntry
	rejected []run
	rejectTo int64 // where the runs of rejected reach
	decided  int   // decisions in the record under way
	fixed    int   // bytes of header and usage, at the most

	out [][]byte // the records; room beyond len is kept
	dictWriter
}

// Reset begins a batch. The header's Usage is kept, not copied.
func (b *Batch) Reset(h BatchHeader) {
	b.Release()
	b.usage = maps.Clone(h.Usage)
	if b.usage == nil {
		b.usage = map[broker.AgreementID]int64{}
	}
	b.begin(h, h.First)
}

// Release lets go of the batch's rows and of what it points to, and keeps the
// room. The records that Finish returned are gone with it.
func (b *Batch) Release() {
	b.dict.reset()
	b.open.reset()
	clear(b.blocks[:cap(b.blocks)])
	for i := range b.out {
		clear(b.out[i])
	}
	b.out = b.out[:0]
	b.head, b.usage = BatchHeader{}, nil
}

// begin begins a record of decisions.
func (b *Batch) begin(h BatchHeader, first int64) {
	h.First, h.Last = first, first-1
	h.Records, h.OutOfScope, h.Repeated, h.Rejected = 0, 0, 0, 0
	h.RejectedAt, h.Subscriptions, h.Outcomes = nil, nil, nil
	b.head = h
	b.dict.reset()
	b.open.reset()
	b.blocks, b.index = b.blocks[:0], b.index[:0]
	b.rejected, b.rejectTo = b.rejected[:0], first
	b.next, b.decided = first, 0
	b.fixed = 300 + len(h.Kind) + len(h.Dataset) + len(h.Policy) + len(h.Period)
	for a := range h.Usage {
		b.fixed += len(a) + 20
	}
}

// Add appends a record's decisions. Records come in the order of their offsets.
func (b *Batch) Add(row Row, decisions []Decision) {
	b.account(row.Offset)
	if len(decisions) == 0 {
		b.head.Records++
		b.head.OutOfScope++
		return
	}
	d := &b.dict
	d.mark()
	set := d.set(decisions)
	if b.head.Records > 0 && (b.decided+len(decisions) > maxDecisions || b.size()+rowSize > MaxBatch) {
		d.undo()
		b.split(row.Offset)
		set = d.set(decisions)
	}
	b.head.Records++
	b.decided += len(decisions)
	b.open.add(&row, set)
	if len(b.open.refs) == blockRows {
		b.closeBlock()
	}
	if !d.ceilings {
		return
	}
	for i := range decisions {
		if a := &decisions[i].Terms.Agreement; a.Cost.Ceiling > 0 && decisions[i].Outcome.Permit {
			b.usage[a.ID]++
		}
	}
}

// Reject counts a record that intake refused.
func (b *Batch) Reject(offset int64) {
	b.account(offset)
	if b.head.Records > 0 && (b.head.Rejected == maxRejected || b.size()+runSize > MaxBatch) {
		b.split(offset)
	}
	b.head.Records++
	b.head.Rejected++
	b.rejected = appendOffset(b.rejected, b.rejectTo, offset)
	b.rejectTo = offset + 1
}

// Repeat counts a record that had been seen.
func (b *Batch) Repeat(offset int64) {
	b.account(offset)
	b.head.Records++
	b.head.Repeated++
}

// account moves on to a record. Were one accounted for twice, or two in the
// wrong order, the evidence would be false: nothing is written then.
func (b *Batch) account(offset int64) {
	if offset < b.next {
		panic(fmt.Sprintf("deliver: the record at offset %d came when %d was next", offset, b.next))
	}
	b.next = offset + 1
}

// Used is how many deliveries an agreement with a ceiling has had from this
// partition, those of this batch included.
func (b *Batch) Used(a broker.AgreementID) int64 { return b.usage[a] }

// Usage is Used for all agreements, to carry into the next batch.
func (b *Batch) Usage() map[broker.AgreementID]int64 { return b.usage }

// Finish ends the batch at the offset last and returns its encoded records.
// They are valid until Reset or Release.
func (b *Batch) Finish(last int64) [][]byte {
	b.head.Last = last
	b.flush()
	return b.out
}

// What an entry takes at the most, in bytes, beside its strings.
const (
	rowSize   = 50
	runSize   = 20
	indexSize = 24
)

// size bounds the bytes of the record under way from above.
func (b *Batch) size() int {
	return b.fixed + len(b.blocks) + (len(b.index)+1)*indexSize + len(b.open.refs)*rowSize + len(b.rejected)*runSize + b.dict.size
}

// split ends the record under way before offset, and begins another with it.
func (b *Batch) split(offset int64) {
	b.head.Last = offset - 1
	b.flush()
	h := b.head
	h.Usage = maps.Clone(b.usage)
	b.begin(h, offset)
	b.next = offset + 1
}

// block is the rows under way.
type block struct {
	first, next int64
	runs        []run
	kinds       []byte
	refs        []uint32
	events      []byte
	subjects    []byte
	people      bool // some row has a subject
}

func (k *block) reset() {
	clear(k.events[:cap(k.events)])
	clear(k.subjects[:cap(k.subjects)])
	k.runs, k.kinds, k.refs, k.events, k.subjects, k.people = k.runs[:0], k.kinds[:0], k.refs[:0], k.events[:0], k.subjects[:0], false
}

func (k *block) add(row *Row, set uint32) {
	if len(k.refs) == 0 {
		k.first, k.next = row.Offset, row.Offset
	}
	k.runs = appendOffset(k.runs, k.next, row.Offset)
	k.next = row.Offset + 1
	k.kinds = append(k.kinds, byte(row.Kind))
	k.refs = append(k.refs, set)
	k.events = append(k.events, row.Event[:]...)
	k.subjects = append(k.subjects, row.Subject[:]...)
	k.people = k.people || !row.Subject.IsZero()
}

// sortedAgreements puts usage in the one order that it is written in.
func sortedAgreements(dst []broker.AgreementID, usage map[broker.AgreementID]int64) []broker.AgreementID {
	for a := range usage {
		dst = append(dst, a)
	}
	slices.Sort(dst)
	return dst
}
