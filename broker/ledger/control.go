package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"datafordeler/broker"
)

// Chain is which control event was accepted last: what the next must say that it
// was validated on. The zero value is that of no events.
type Chain struct {
	Revision broker.Revision `json:"revision"`
	Digest   broker.Digest   `json:"digest"`
}

// link is an event's place in the chain.
type link struct {
	seq, on broker.Revision
	prev    broker.Digest
	digest  broker.Digest
}

// fits says whether the event is the next one; else it had lost to another writer
// and changes nothing. That is broker/registry's rule, told here once more, so
// that evidence does not rest on the registry's word.
func (c *Chain) fits(l *link) bool { return l.on == c.Revision && l.prev == c.Digest }

// take moves on if the event is the next one. The registry refuses one that says
// what cannot be, for what it says: those are labelled, and not to be taken.
func (c *Chain) take(l *link) bool {
	if !c.fits(l) {
		return false
	}
	c.Revision, c.Digest = l.seq, l.digest
	return true
}

// fold takes the events of an entry, and says how many were accepted. A label must
// be on an event that had not lost: another is refused by nobody.
func (c *Chain) fold(links []link, refused []int64) (accepted int64, err error) {
	for i := range links {
		if len(refused) > 0 && refused[0] == int64(i) {
			if !c.fits(&links[i]) {
				return accepted, &ControlError{fmt.Sprintf("line %d is labelled as refused, and had lost to another event", i)}
			}
			refused = refused[1:]
			continue
		}
		if c.take(&links[i]) {
			accepted++
		}
	}
	return accepted, nil
}

// ControlLine is a control event's line: its bytes as they stand in the topic.
// Where they hold a line break, which a hand-written event may, the line is a JSON
// string of them instead.
func ControlLine(value []byte) ([]byte, error) {
	if len(value) > MaxLine/2 || !utf8.Valid(value) || !json.Valid(value) {
		return nil, errors.New("ledger: a control event that is not JSON, or too long")
	}
	if value[0] == '{' && bytes.IndexByte(value, '\n') < 0 {
		return value, nil
	}
	return appendText(nil, string(value)), nil
}

// controlValue undoes ControlLine.
func controlValue(line []byte) ([]byte, error) {
	if len(line) > 0 && line[0] == '{' {
		return line, nil
	}
	c := cursor{b: line}
	v := c.text()
	c.end()
	if c.bad || len(v) > 0 && v[0] == '{' && bytes.IndexByte(v, '\n') < 0 {
		return nil, badLine("control", line)
	}
	return v, nil
}

// readLink reads what the chain needs of a control event.
func readLink(line []byte) (l link, err error) {
	value, err := controlValue(line)
	if err != nil {
		return l, err
	}
	var e struct {
		V     int             `json:"v"`
		Seq   broker.Revision `json:"seq"`
		On    broker.Revision `json:"on"`
		Prev  broker.Digest   `json:"prev"`
		At    time.Time       `json:"at"`
		Actor string          `json:"actor"`
		Type  string          `json:"type"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return l, &formatError{"not a control event"}
	}
	if e.V != 1 {
		return l, &formatError{fmt.Sprintf("a control event in format %d: this version reads 1", e.V)}
	}
	if e.Seq != e.On+1 {
		return l, &ControlError{fmt.Sprintf("a control event with seq %d was validated on revision %d", e.Seq, e.On)}
	}
	// The event's digest, as docs/formats.md has it.
	var b []byte
	b = binary.AppendUvarint(b, uint64(e.V))
	b = binary.AppendUvarint(b, uint64(e.Seq))
	b = append(b, e.Prev[:]...)
	b = binary.AppendVarint(b, e.At.Unix())
	b = binary.AppendUvarint(b, uint64(e.At.Nanosecond()))
	b = binary.AppendUvarint(b, uint64(len(e.Actor)))
	b = append(b, e.Actor...)
	b = binary.AppendUvarint(b, uint64(len(e.Type)))
	b = append(b, e.Type...)
	sum := sha256.Sum256(append(b, e.Data...))
	return link{e.Seq, e.On, e.Prev, broker.Digest(sum[:16])}, nil
}

// ControlBuilder makes the lines and the entry of control events. It is used by
// one goroutine, and reused through Begin.
type ControlBuilder struct {
	entry Entry
	rows  Rows
	chain Chain
}

// Begin begins an entry, after the events that make the chain. A new sequencer
// folds control from its start through Add, or keeps the Chain that End returned.
func (b *ControlBuilder) Begin(after Chain) {
	b.entry = Entry{Type: ControlEntry, Control: Control{First: -1}}
	b.rows.Reset()
	b.chain = after
}

// Add appends the event at an offset of the topic control, and returns its line.
// Refused says that the registry refused it though no other came before it.
func (b *ControlBuilder) Add(offset int64, value []byte, refused bool) ([]byte, error) {
	line, err := ControlLine(value)
	if err != nil {
		return nil, fmt.Errorf("control event at offset %d: %w", offset, err)
	}
	c := &b.entry.Control
	if c.First >= 0 && offset <= c.Last {
		return nil, fmt.Errorf("ledger: the control event at offset %d came after the one at %d", offset, c.Last)
	}
	l, err := readLink(line)
	if err != nil {
		return nil, fmt.Errorf("control event at offset %d: %w", offset, err)
	}
	switch {
	case refused && !b.chain.fits(&l):
		return nil, fmt.Errorf("ledger: the control event at offset %d is refused by the registry, and had lost before: the registry and the ledger disagree on what came before it", offset)
	case refused:
		c.Refused = append(c.Refused, b.rows.Size())
	case b.chain.take(&l):
		c.Events++
	}
	if c.First < 0 {
		c.First = offset
	}
	c.Last = offset
	b.rows.Add(line)
	return line, nil
}

// Accepted is how many of the events were accepted.
func (b *ControlBuilder) Accepted() int64 { return b.entry.Control.Events }

// Size is how many events were added.
func (b *ControlBuilder) Size() int64 { return b.rows.Size() }

// End returns the entry, and the chain to begin the next with.
func (b *ControlBuilder) End() (Entry, Chain) {
	b.entry.Lines, b.entry.Rows, b.entry.Revision = b.rows.Size(), b.rows.Root(), b.chain.Revision
	return b.entry, b.chain
}
