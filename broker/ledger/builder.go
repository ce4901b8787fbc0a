package ledger

import (
	"crypto/sha256"
	"strconv"

	"datafordeler/broker"
)

// Builder makes the lines and the entry of a record of decisions. It is used by
// one goroutine, and reused through Begin.
//
//	head := b.Begin(&h, place, sha256.Sum256(value))   // the first line
//	line := b.Add(&d)                                  // for each decision, in order
//	entry := b.End()
//
// The lines are valid until the next call. The entry's Overlap and Skipped are
// for Sequence.Label to set, where there may be any.
type Builder struct {
	entry   Entry
	forest  forest
	size    int64
	line    []byte // with the zero byte before it that a leaf's hash begins with
	place   []byte
	tail    []byte
	answers map[answer][]byte
	room    int // bytes in answers
}

// answer tells answers of one batch apart. Lists are told by where they lie:
// decoded decisions share them. Two that are equal and lie apart are written
// twice, no more; and the pointers keep what they point to from becoming
// something else.
type answer struct {
	sub      broker.SubscriptionID
	agr      broker.AgreementID
	pack     broker.PackageRef
	permit   bool
	shielded bool
	reasons  list[broker.Reason]
	bases    list[broker.LegalBasisID]
	fields   list[broker.Pointer]
}

type list[S any] struct {
	at *S
	n  int
}

func listOf[S any](s []S) (l list[S]) {
	if len(s) > 0 {
		l = list[S]{&s[0], len(s)}
	}
	return l
}

// maxAnswers bounds the memory for answers, in bytes.
const maxAnswers = 4 << 20

// Begin begins a batch, and returns the head's line. The head is not kept.
func (b *Builder) Begin(h *Head, at Place, sum [32]byte) []byte {
	b.entry = Entry{Type: BatchEntry, Revision: h.Revision, Batch: Batch{
		At: at, Sum: sum, Kind: h.Kind, Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, First: h.First, Last: h.Last,
		Records: h.Records, OutOfScope: h.OutOfScope, Repeated: h.Repeated, Rejected: h.Rejected, Policy: h.Policy, Time: h.Time,
	}}
	b.forest, b.size = b.forest[:0], 0
	f := h.frame()
	b.place, b.tail = append(append(b.place[:0], '"'), f.place...), append(b.tail[:0], f.tail...)
	b.forget()
	b.line = AppendHead(append(b.line[:0], 0), h)
	return b.leaf()
}

func (b *Builder) forget() {
	if b.answers == nil {
		b.answers = map[answer][]byte{}
	}
	clear(b.answers)
	b.room = 0
}

// leaf hashes the line.
func (b *Builder) leaf() []byte {
	b.forest = b.forest.push(node{n: b.size, hash: sha256.Sum256(b.line)})
	b.size++
	return b.line[1:]
}

// Add appends a decision, and returns its line. What all decisions of a batch
// have is taken from the head.
func (b *Builder) Add(d *broker.Decision) []byte {
	l := append(append(b.line[:0], 0), decisionStart...)
	l = appendDigest(l, &d.ID)
	l = append(l, b.place...)
	l = strconv.AppendInt(l, d.Position.Offset, 10)
	l = appendRecord(l, &d.Event, d.RecordKind)
	key := answer{d.Subscription, d.Agreement, d.Package, d.Outcome.Permit, d.Shielded, listOf(d.Outcome.Reasons), listOf(d.Outcome.Bases), listOf(d.Fields)}
	text, ok := b.answers[key]
	if !ok {
		text = appendAnswer(nil, d)
		if b.room += len(text) + 200; b.room > maxAnswers {
			b.forget()
		}
		b.answers[key] = text
	}
	l = append(l, text...)
	l = appendOwn(l, d)
	b.line = append(l, b.tail...)
	b.entry.Batch.Decisions++
	if d.Outcome.Permit {
		b.entry.Batch.Permits++
	}
	return b.leaf()
}

// End returns the batch's entry.
func (b *Builder) End() Entry {
	b.entry.Lines, b.entry.Rows = b.size, b.forest.root()
	return b.entry
}
