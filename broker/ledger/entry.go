package ledger

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// EntryType tells what an entry stands for.
type EntryType string

// The types of entry. The set is closed.
const (
	BatchEntry   EntryType = "batch"
	SinglesEntry EntryType = "singles"
	ControlEntry EntryType = "control"
)

// Entry is a leaf of the outer tree: it stands for a record of decisions, or for
// control events. Its line is one of
//
//	{"v":1,"type":"batch","decisionsPartition":…,"decisionsOffset":…,"sha256":…,"kind":"stream",
//	 "dataset":…,"topicId":…,"partition":…,"first":…,"last":…,"records":…,"outOfScope":…,
//	 "repeated":…,"rejected":…,"decisions":…,"permits":…,"overlap":…,"skipped":…,
//	 "policy":…,"revision":…,"time":…,"lines":…,"rows":…}
//	{"v":1,"type":"singles","decisionsPartition":…,"decisionsOffset":…,"sha256":…,"kind":…,
//	 "decisions":…,"permits":…,"policy":…,"revision":…,"time":…,"lines":…,"rows":…}
//	{"v":1,"type":"control","first":…,"last":…,"events":…,"refused":[…],"revision":…,"lines":…,"rows":…}
//
// without space; overlap and skipped are left out where they are 0, refused where
// there are none.
type Entry struct {
	Type EntryType
	// Lines is how many lines it stands for, and Rows the root of the tree over
	// them (RFC 6962).
	Lines int64
	Rows  tlog.Hash
	// Revision that it was decided at; or that the events make.
	Revision broker.Revision

	Batch   Batch   // of a BatchEntry; of a SinglesEntry all but what is of a range
	Control Control // of a ControlEntry
}

// Batch says what record of decisions an entry stands for.
type Batch struct {
	// At is where it stands in the topic decisions, and Sum the SHA-256 of its
	// value there.
	At        Place
	Sum       [32]byte
	Kind      string
	Dataset   broker.DatasetID
	TopicID   broker.Digest
	Partition int32
	// The source offsets it covers, and what became of the records in them; see
	// Head.
	First, Last                             int64
	Records, OutOfScope, Repeated, Rejected int64
	Decisions, Permits                      int64
	// Overlap is how many of its offsets had been decided before: after a kill of
	// the embedded engine only.
	Overlap int64
	// Skipped is how many offsets before First nobody decided on, because their
	// records were gone: the source began later, or an operator went on without
	// them.
	Skipped int64
	Policy  string
	Time    time.Time
}

// Place is where a record stands in a topic.
type Place struct {
	Partition int32
	Offset    int64
}

// Control says which control events an entry stands for: those at First to Last
// of the topic control. Events are those that were accepted; the others had lost
// to another writer, or were refused, and are lines all the same.
type Control struct {
	First, Last int64
	Events      int64
	// Refused are the lines, from 0 and ascending, of events that no other came
	// before, and that the registry refused for what they say. Only a faulty
	// writer makes one.
	Refused []int64
}

// AppendEntry appends an entry's line, without a line break.
func AppendEntry(dst []byte, e *Entry) []byte {
	switch e.Type {
	case ControlEntry:
		dst = appendInt(dst, `{"v":1,"type":"control","first":`, e.Control.First)
		dst = appendInt(dst, `,"last":`, e.Control.Last)
		dst = appendInt(dst, `,"events":`, e.Control.Events)
		for i, line := range e.Control.Refused {
			sep := ","
			if i == 0 {
				sep = `,"refused":[`
			}
			dst = appendInt(dst, sep, line)
		}
		if len(e.Control.Refused) > 0 {
			dst = append(dst, ']')
		}
		dst = strconv.AppendUint(append(dst, `,"revision":`...), uint64(e.Revision), 10)
	case SinglesEntry:
		b := &e.Batch
		dst = appendInt(dst, `{"v":1,"type":"singles","decisionsPartition":`, int64(b.At.Partition))
		dst = appendInt(dst, `,"decisionsOffset":`, b.At.Offset)
		dst = appendHash(append(dst, `,"sha256":"`...), b.Sum)
		dst = appendText(append(dst, `","kind":`...), b.Kind)
		dst = appendInt(dst, `,"decisions":`, b.Decisions)
		dst = appendInt(dst, `,"permits":`, b.Permits)
		dst = appendText(append(dst, `,"policy":`...), b.Policy)
		dst = strconv.AppendUint(append(dst, `,"revision":`...), uint64(e.Revision), 10)
		dst = appendTime(append(dst, `,"time":`...), b.Time)
	case BatchEntry:
		b := &e.Batch
		dst = appendInt(dst, `{"v":1,"type":"batch","decisionsPartition":`, int64(b.At.Partition))
		dst = appendInt(dst, `,"decisionsOffset":`, b.At.Offset)
		dst = appendHash(append(dst, `,"sha256":"`...), b.Sum)
		dst = appendText(append(dst, `","kind":`...), b.Kind)
		dst = appendText(append(dst, `,"dataset":`...), b.Dataset)
		dst = appendDigest(append(dst, `,"topicId":"`...), &b.TopicID)
		dst = appendInt(dst, `","partition":`, int64(b.Partition))
		dst = appendCounts(dst, b.First, b.Last, b.Records, b.OutOfScope, b.Repeated, b.Rejected)
		dst = appendInt(dst, `,"decisions":`, b.Decisions)
		dst = appendInt(dst, `,"permits":`, b.Permits)
		if b.Overlap != 0 {
			dst = appendInt(dst, `,"overlap":`, b.Overlap)
		}
		if b.Skipped != 0 {
			dst = appendInt(dst, `,"skipped":`, b.Skipped)
		}
		dst = appendText(append(dst, `,"policy":`...), b.Policy)
		dst = strconv.AppendUint(append(dst, `,"revision":`...), uint64(e.Revision), 10)
		dst = appendTime(append(dst, `,"time":`...), b.Time)
	default:
		panic("ledger: an entry of type " + strconv.Quote(string(e.Type)))
	}
	dst = appendInt(dst, `,"lines":`, e.Lines)
	return append(appendHash(append(dst, `,"rows":"`...), e.Rows), `"}`...)
}

// ParseEntry reads an entry's line, in the one way that it is written, and holds
// its numbers to each other.
func ParseEntry(line []byte) (Entry, error) {
	var e Entry
	c := cursor{b: line}
	c.lit(`{"v":1,"type":`)
	switch {
	case c.has(`"control","first":`):
		e.Type = ControlEntry
		e.Control.First = c.int64()
		c.lit(`,"last":`)
		e.Control.Last = c.int64()
		c.lit(`,"events":`)
		e.Control.Events = c.int64()
		if c.has(`,"refused":[`) {
			e.Control.Refused = c.refused()
		}
		c.lit(`,"revision":`)
		e.Revision = broker.Revision(c.number(math.MaxUint64))
	case c.has(`"singles","decisionsPartition":`):
		e.Type = SinglesEntry
		b := &e.Batch
		b.At.Partition = int32(c.number(math.MaxInt32))
		c.lit(`,"decisionsOffset":`)
		b.At.Offset = c.int64()
		c.lit(`,"sha256":`)
		c.hex(b.Sum[:])
		c.lit(`,"kind":`)
		b.Kind = string(c.text())
		c.lit(`,"decisions":`)
		b.Decisions = c.int64()
		c.lit(`,"permits":`)
		b.Permits = c.int64()
		c.lit(`,"policy":`)
		b.Policy = string(c.text())
		c.lit(`,"revision":`)
		e.Revision = broker.Revision(c.number(math.MaxUint64))
		c.lit(`,"time":`)
		b.Time = c.time()
	case c.has(`"batch","decisionsPartition":`):
		e.Type = BatchEntry
		b := &e.Batch
		b.At.Partition = int32(c.number(math.MaxInt32))
		c.lit(`,"decisionsOffset":`)
		b.At.Offset = c.int64()
		c.lit(`,"sha256":`)
		c.hex(b.Sum[:])
		c.lit(`,"kind":`)
		b.Kind = string(c.text())
		c.lit(`,"dataset":`)
		b.Dataset = broker.DatasetID(c.text())
		c.lit(`,"topicId":`)
		b.TopicID = c.digest()
		c.lit(`,"partition":`)
		b.Partition = int32(c.number(math.MaxInt32))
		c.counts(&b.First, &b.Last, &b.Records, &b.OutOfScope, &b.Repeated, &b.Rejected)
		c.lit(`,"decisions":`)
		b.Decisions = c.int64()
		c.lit(`,"permits":`)
		b.Permits = c.int64()
		if c.has(`,"overlap":`) {
			b.Overlap = c.positive()
		}
		if c.has(`,"skipped":`) {
			b.Skipped = c.positive()
		}
		c.lit(`,"policy":`)
		b.Policy = string(c.text())
		c.lit(`,"revision":`)
		e.Revision = broker.Revision(c.number(math.MaxUint64))
		c.lit(`,"time":`)
		b.Time = c.time()
	default:
		if word := c.text(); !c.bad && !known(EntryType(word)) {
			return Entry{}, &formatError{fmt.Sprintf("an entry of type %q, which this version does not know: use a newer datafordeler", word)}
		}
		c.fail()
	}
	c.lit(`,"lines":`)
	e.Lines = c.int64()
	c.lit(`,"rows":`)
	e.Rows = c.hash()
	c.lit("}")
	c.end()
	if c.bad {
		return Entry{}, badLine("entry", line)
	}
	if err := e.check(); err != nil {
		if NameOf(err) == "" {
			err = &entryError{err.Error()}
		}
		return Entry{}, err
	}
	return e, nil
}

func known(t EntryType) bool { return t == BatchEntry || t == SinglesEntry || t == ControlEntry }

// refused reads the numbers of lines to the closing bracket, ascending.
func (c *cursor) refused() (lines []int64) {
	for {
		n := c.int64()
		if c.bad || len(lines) > 0 && n <= lines[len(lines)-1] || n >= MaxLines {
			c.fail()
			return nil
		}
		if lines = append(lines, n); c.has("]") {
			return lines
		}
		c.lit(",")
	}
}

// entryError is an entry that is read, and contradicts itself or its head.
type entryError struct{ what string }

func (e *entryError) Error() string   { return e.what }
func (e *entryError) Name() FaultName { return EntryChanged }

func (e *Entry) check() error {
	if e.Lines < 1 || e.Lines > MaxLines {
		return fmt.Errorf("an entry of %d lines: want 1 to %d", e.Lines, MaxLines)
	}
	switch e.Type {
	case ControlEntry:
		c := &e.Control
		switch {
		case c.Last < c.First || e.Lines > c.Last-c.First+1:
			return fmt.Errorf("%d control events at offsets %d to %d", e.Lines, c.First, c.Last)
		case c.Events > e.Lines || uint64(c.Events) > uint64(e.Revision):
			return fmt.Errorf("%d accepted control events of %d, up to revision %d", c.Events, e.Lines, e.Revision)
		case int64(len(c.Refused)) > e.Lines-c.Events || len(c.Refused) > 0 && c.Refused[len(c.Refused)-1] >= e.Lines:
			return fmt.Errorf("%d refused control events of %d, of which %d were accepted", len(c.Refused), e.Lines, c.Events)
		}
	case BatchEntry:
		b := &e.Batch
		if err := checkCounts(b.First, b.Last, b.Records, b.OutOfScope, b.Repeated, b.Rejected); err != nil {
			return fmt.Errorf("the entry's %w", err)
		}
		rows := b.rows()
		switch {
		case b.Kind != broker.StreamDecision.String():
			return &formatError{fmt.Sprintf("a batch of kind %q: this version reads %q; use a newer datafordeler", b.Kind, broker.StreamDecision)}
		case e.Lines != b.Decisions+1:
			return fmt.Errorf("%d lines for %d decisions and a head", e.Lines, b.Decisions)
		case b.Permits > b.Decisions:
			return fmt.Errorf("%d permits of %d decisions", b.Permits, b.Decisions)
		case b.Decisions < rows || rows == 0 && b.Decisions > 0:
			return fmt.Errorf("%d decisions on %d records in scope", b.Decisions, rows)
		case b.Overlap > b.Last-b.First+1 || b.Overlap > 0 && b.Skipped > 0 || b.Skipped > b.First:
			return fmt.Errorf("an overlap of %d and %d skipped, in a range from %d to %d", b.Overlap, b.Skipped, b.First, b.Last)
		}
	case SinglesEntry:
		b := &e.Batch
		switch {
		case !singleKind(broker.ParseDecisionKind(b.Kind)):
			return &formatError{fmt.Sprintf("single decisions of kind %q, which this version does not know: use a newer datafordeler", b.Kind)}
		case e.Lines != b.Decisions+1:
			return fmt.Errorf("%d lines for %d decisions and a head", e.Lines, b.Decisions)
		case b.Permits > b.Decisions:
			return fmt.Errorf("%d permits of %d decisions", b.Permits, b.Decisions)
		case b.Permits > 0 && b.Kind == broker.DoorDecision.String():
			return fmt.Errorf("%d permits at the door, where there are denials only", b.Permits)
		}
	}
	return nil
}

// singleKind says whether decisions of a kind stand singly.
func singleKind(k broker.DecisionKind) bool {
	return k == broker.BackfillDecision || k == broker.LookupDecision || k == broker.DoorDecision || k == broker.NoticeDecision
}

// rows is how many records have decisions.
func (b *Batch) rows() int64 { return b.Records - b.OutOfScope - b.Repeated - b.Rejected }

// fits says whether a head is the one that the batch was made of.
func (e *Entry) fits(h *Head) error {
	b := &e.Batch
	return differ([]member{
		{"kind", b.Kind == h.Kind}, {"dataset", b.Dataset == h.Dataset}, {"topic id", b.TopicID == h.TopicID}, {"partition", b.Partition == h.Partition},
		{"range", b.First == h.First && b.Last == h.Last}, {"records", b.Records == h.Records}, {"out of scope", b.OutOfScope == h.OutOfScope},
		{"repeated", b.Repeated == h.Repeated}, {"rejected", b.Rejected == h.Rejected}, {"policy", b.Policy == h.Policy},
		{"revision", e.Revision == h.Revision}, {"time", b.Time.Equal(h.Time)},
	})
}

// member is something that both an entry and its head say.
type member struct {
	what string
	same bool
}

func differ(all []member) error {
	for _, m := range all {
		if !m.same {
			return &entryError{fmt.Sprintf("entry and head differ on %s", m.what)}
		}
	}
	return nil
}
