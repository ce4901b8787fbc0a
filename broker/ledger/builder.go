package ledger

import (
	"crypto/sha256"
	"strconv"

	"datafordeler/broker"
)

// Builder makes the lines and the entry of a record of decisions. It is used by
// one goroutine, and reused through Begin.
//
//	head := b.Begin(&h, place, sha256.Sum256(value))   // the first line; or BeginSingles
//	line := b.Add(&d)                                  // for each decision, in order
//	entry := b.End()
//
// The lines are valid until the next call. The entry's Overlap and Skipped are
// for Sequence.Label to set, where there may be any.
type Builder struct {
	entry  Entry
	forest forest
	size   int64
	line   []byte // with the zero byte before it that a leaf's hash begins with
	place  []byte
	tail   []byte
	// Each subscription's answers in this batch: a list through memos that begins
	// at the number in answers, and ends with 0. memos[0] is none.
	answers map[broker.SubscriptionID]int32
	memos   []memo
	texts   []byte
}

// memo is where an answer's text lies.
type memo struct {
	answer
	from, to int
	next     int32
}

// answer tells a subscription's answers in one batch apart. Lists are told by
// where they lie: decoded decisions share them. Two that are equal and lie apart
// are written twice, no more; and the pointers keep what they point to from
// becoming something else.
type answer struct {
	permit, shielded bool
	version          int
	reasons          list[broker.Reason]
	bases            list[broker.LegalBasisID]
	fields           list[broker.Pointer]
	pack             string
	agreement        broker.AgreementID
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

// Bounds on what is remembered of a batch's answers.
const (
	maxMemos = 1 << 14
	maxTexts = 4 << 20 // bytes
	// maxSearch is how many of a subscription's answers are looked through.
	maxSearch = 16
)

// BeginSingles begins a record of single decisions, and returns the head's line. The
// head is not kept.
func (b *Builder) BeginSingles(h *SinglesHead, at Place, sum [32]byte) []byte {
	b.entry = Entry{Type: SinglesEntry, Revision: h.Revision, Batch: Batch{At: at, Sum: sum, Kind: h.Kind.String(), Policy: h.Policy, Time: h.Time}}
	b.begin(h.frame())
	b.line = AppendSinglesHead(append(b.line[:0], 0), h)
	return b.leaf()
}

// Begin begins a batch, and returns the head's line. The head is not kept.
func (b *Builder) Begin(h *Head, at Place, sum [32]byte) []byte {
	b.entry = Entry{Type: BatchEntry, Revision: h.Revision, Batch: Batch{
		At: at, Sum: sum, Kind: h.Kind, Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, First: h.First, Last: h.Last,
		Records: h.Records, OutOfScope: h.OutOfScope, Repeated: h.Repeated, Rejected: h.Rejected, Policy: h.Policy, Time: h.Time,
	}}
	b.begin(h.frame())
	b.line = AppendHead(append(b.line[:0], 0), h)
	return b.leaf()
}

func (b *Builder) begin(f frame) {
	b.forest, b.size = b.forest[:0], 0
	b.place, b.tail = append(append(b.place[:0], '"'), f.place...), append(b.tail[:0], f.tail...)
	b.forget()
}

func (b *Builder) forget() {
	if b.answers == nil {
		b.answers = map[broker.SubscriptionID]int32{}
	}
	clear(b.answers)
	clear(b.memos)
	b.memos, b.texts = append(b.memos[:0], memo{}), b.texts[:0]
}

// text is what all decisions with this one's answer have.
func (b *Builder) text(d *broker.Decision) []byte {
	key := answer{d.Outcome.Permit, d.Shielded, d.Package.Version, listOf(d.Outcome.Reasons), listOf(d.Outcome.Bases), listOf(d.Fields), d.Package.ID, d.Agreement}
	first := b.answers[d.Subscription]
	for i, n := first, 0; i != 0 && n < maxSearch; i, n = b.memos[i].next, n+1 {
		if m := &b.memos[i]; m.answer == key {
			return b.texts[m.from:m.to]
		}
	}
	if len(b.memos) >= maxMemos || len(b.texts) >= maxTexts {
		b.forget()
		first = 0
	}
	from := len(b.texts)
	b.texts = appendAnswer(b.texts, d)
	b.answers[d.Subscription] = int32(len(b.memos))
	b.memos = append(b.memos, memo{key, from, len(b.texts), first})
	return b.texts[from:]
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
	b.append(d)
	b.entry.Batch.Decisions++
	if d.Outcome.Permit {
		b.entry.Batch.Permits++
	}
	return b.leaf()
}

// append writes the decision's line.
func (b *Builder) append(d *broker.Decision) []byte {
	l := append(append(b.line[:0], 0), decisionStart...)
	l = appendDigest(l, &d.ID)
	l = append(l, b.place...)
	if b.entry.Type == SinglesEntry {
		l = appendOwnPlace(l, d)
	} else {
		l = strconv.AppendInt(l, d.Position.Offset, 10)
		l = appendRecord(l, &d.Event, d.RecordKind)
	}
	l = append(l, b.text(d)...)
	l = appendOwn(l, d)
	b.line = append(l, b.tail...)
	return b.line
}

// End returns the batch's entry.
func (b *Builder) End() Entry {
	b.entry.Lines, b.entry.Rows = b.size, b.forest.root()
	return b.entry
}
