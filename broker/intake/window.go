package intake

import (
	"encoding/binary"
	"fmt"
	"time"

	"datafordeler/broker"
)

// Verdict is what a window knows of a record's event id.
type Verdict uint8

// The verdicts.
const (
	Fresh    Verdict = iota + 1 // not seen in the window: go on
	Repeated                    // seen with the same content: drop and count
	Reused                      // seen with other content: reject (broker.RejectIDReused)
)

// String is the word for metrics and logs.
func (v Verdict) String() string {
	switch v {
	case Fresh:
		return "fresh"
	case Repeated:
		return "repeated"
	case Reused:
		return "reused"
	}
	return "unknown"
}

// Window tells repeats in one source partition.
//
// A record is judged by those before it in the log that were not rejected, at
// most Limits.Window offsets back and at most Limits.WindowAge older by the
// log's timestamps. None of them has its event id: Fresh. Otherwise the first
// of them stands for the id: with the same content the record is Repeated, with
// other content Reused.
//
// A repeat is itself remembered: whether it was one depends on records further
// back, and so on without end, while a restart reads back only a window's
// length. So a publisher that goes on repeating is held off for as long as it
// does. A Reused record is a rejection and not remembered, since it stands for
// nothing; that it was rejected stands in the log of decisions.
//
// The verdict is therefore a function of the log, wherever transactions and
// restarts fall: a window into which Restore has read from Floor(o) on judges
// the record at o as one would that has seen every record from the beginning.
// Timestamps need not rise.
//
// One goroutine at a time may use it.
type Window struct {
	reach int64  // offsets
	age   uint64 // milliseconds

	// entries is a ring in the order of offsets: count of them from head, of
	// which the last pending ones await Commit.
	entries []entry
	head    int
	count   int
	pending int

	// index finds the oldest entry of an event: open addressing by the event's
	// first bytes, which as a keyed hash nobody can aim. A cell holds a slot of
	// entries + 1 and, above it, marks: how far the cell is from the event's home,
	// and some more of the event. By these nearly all cells on the way that are not
	// the event's are told without a look at their entries, which lie far apart in
	// memory: such a look takes as long as all the rest.
	index []uint32
}

const (
	slotBits = 26
	slotMask = 1<<slotBits - 1 // more than maxWindow by a third
	tagBits  = 3
	far      = 7 // the distance of this many and of all more
)

// marks are those of an event in a cell so far from its home.
func marks(event broker.EventHash, away int) uint32 {
	return uint32(min(away, far))<<tagBits | uint32(event[4])&(1<<tagBits-1)
}

// at is the slot that a cell in use holds.
func (w *Window) at(cell int) uint32 { return w.index[cell]&slotMask - 1 }

// set puts an event's slot into a cell.
func (w *Window) set(cell int, event broker.EventHash, slot uint32) {
	away := (cell - w.home(event)) & (len(w.index) - 1)
	w.index[cell] = marks(event, away)<<slotBits | (slot + 1)
}

// entry is one record, 48 bytes. Those of one event are a list, oldest first.
type entry struct {
	event   broker.EventHash
	content uint64
	offset  int64
	millis  int64  // the log's timestamp
	next    uint32 // slot of the event's next entry, or none
	prev    uint32 // slot of the one before; of the oldest: of the youngest
}

const none = ^uint32(0)

// NewWindow is an empty window. The limits must be valid.
func NewWindow(l Limits) *Window {
	return &Window{reach: int64(l.Window), age: uint64(l.WindowAge.Milliseconds())}
}

// Floor is the first offset that matters to the verdict on a record at offset:
// where Restore has to begin.
func (w *Window) Floor(offset int64) int64 { return max(0, offset-w.reach) }

// Check judges a record that Accept gave nil for and, unless it is Reused,
// remembers it, pending until Commit or Abort. Offsets must rise from call to call; after Abort they go on from the
// last committed one. It panics when they do not, since a verdict would then
// be wrong in silence.
func (w *Window) Check(event broker.EventHash, content uint64, offset int64, ts time.Time) Verdict {
	millis := ts.UnixMilli()
	w.room()
	at, found := w.find(event)
	verdict := Fresh
	if found {
		verdict = w.judge(at, content, offset, millis)
	}
	if verdict != Reused {
		w.push(at, found, entry{event: event, content: content, offset: offset, millis: millis})
		w.pending++
	}
	return verdict
}

// judge looks at the entries of the event in a cell.
func (w *Window) judge(at int, content uint64, offset, millis int64) Verdict {
	for s := w.at(at); s != none; s = w.entries[s].next {
		e := &w.entries[s]
		if offset-e.offset > w.reach || (millis > e.millis && uint64(millis)-uint64(e.millis) > w.age) {
			continue
		}
		if e.content == content {
			return Repeated
		}
		return Reused
	}
	return Fresh
}

// Commit makes what was pending lasting, and forgets what is out of reach.
func (w *Window) Commit() {
	w.pending = 0
	if w.count == 0 {
		return
	}
	// The next record's offset is at least one above the youngest's.
	floor := w.entries[w.slot(w.count-1)].offset + 1 - w.reach
	for w.count > 0 && w.entries[w.head].offset < floor {
		w.popOldest()
	}
}

// Abort forgets what was pending.
func (w *Window) Abort() {
	for ; w.pending > 0; w.pending-- {
		w.popYoungest()
	}
}

// Restore remembers a record read back after a restart or when a partition is
// taken over: each that was not rejected, from Floor on and in order, repeats
// included (see Identify). It must not be called while anything is pending.
func (w *Window) Restore(event broker.EventHash, content uint64, offset int64, ts time.Time) {
	if w.pending > 0 {
		panic("intake: Window.Restore while records are pending")
	}
	w.room()
	at, found := w.find(event)
	w.push(at, found, entry{event: event, content: content, offset: offset, millis: ts.UnixMilli()})
	w.Commit()
}

// Len is the number of records remembered, the pending ones included.
func (w *Window) Len() int { return w.count }

// slot is where the i-th entry from the head lies.
func (w *Window) slot(i int) int {
	s := w.head + i
	if s >= len(w.entries) {
		s -= len(w.entries)
	}
	return s
}

// room is for one entry more. It moves cells.
func (w *Window) room() {
	if w.count == len(w.entries) {
		w.grow()
	}
}

// push remembers an entry, for which there is room, in the cell that find gave.
func (w *Window) push(at int, found bool, e entry) {
	if w.count > 0 {
		if last := w.entries[w.slot(w.count-1)].offset; e.offset <= last {
			panic(fmt.Sprintf("intake: window was given offset %d after %d", e.offset, last))
		}
	}
	slot := uint32(w.slot(w.count))
	e.next, e.prev = none, slot
	w.entries[slot] = e
	w.count++
	w.link(at, found, slot)
}

// link puts the youngest entry at the end of its event's list, in the cell that
// find gave.
func (w *Window) link(at int, found bool, slot uint32) {
	e := &w.entries[slot]
	if !found {
		w.set(at, e.event, slot)
		return
	}
	oldest := &w.entries[w.at(at)]
	e.prev = oldest.prev
	w.entries[e.prev].next = slot
	oldest.prev = slot
}

// popOldest takes the entry at the head out; it is the oldest of its event.
func (w *Window) popOldest() {
	e := &w.entries[w.head]
	at, _ := w.find(e.event)
	if e.next == none {
		w.unindex(at)
	} else {
		w.entries[e.next].prev = e.prev
		w.set(at, e.event, e.next)
	}
	w.head++
	if w.head == len(w.entries) {
		w.head = 0
	}
	w.count--
}

// popYoungest takes the last entry out; it is the youngest of its event.
func (w *Window) popYoungest() {
	slot := w.slot(w.count - 1)
	e := &w.entries[slot]
	at, _ := w.find(e.event)
	if oldest := w.at(at); oldest == uint32(slot) {
		w.unindex(at)
	} else {
		w.entries[e.prev].next = none
		w.entries[oldest].prev = e.prev
	}
	w.count--
}

// grow makes the ring larger, and the index where it needs to be: by half until
// the window has its reach, since each time all of it is copied, and then by an
// eighth, since a window soon has its size, and then memory counts for more.
func (w *Window) grow() {
	size := len(w.entries) + len(w.entries)/8
	if full := int(w.reach + w.reach/8); size < full {
		size = min(len(w.entries)+len(w.entries)/2, full)
	}
	size = min(max(64, size), slotMask)
	if size == len(w.entries) {
		panic(fmt.Sprintf("intake: a window holds at most %d records", size))
	}
	entries := make([]entry, size)
	n := copy(entries, w.entries[w.head:])
	copy(entries[n:], w.entries[:w.head])
	moved := w.head != 0
	w.entries, w.head = entries, 0
	if !moved && len(w.index)*3 >= size*4 {
		return // all is where it was
	}
	if len(w.index)*3 < size*4 {
		cells := 128
		for cells*3 < size*4 {
			cells *= 2
		}
		w.index = make([]uint32, cells)
	} else {
		clear(w.index)
	}
	for i := range w.count {
		e := &w.entries[i]
		e.next, e.prev = none, uint32(i)
		at, found := w.find(e.event)
		w.link(at, found, uint32(i))
	}
}

// find is the cell of the index that holds the event, or where it belongs.
func (w *Window) find(event broker.EventHash) (at int, found bool) {
	if len(w.index) == 0 {
		return 0, false
	}
	mask := len(w.index) - 1
	home := w.home(event)
	for away := 0; ; away++ {
		at = (home + away) & mask
		switch cell := w.index[at]; {
		case cell == 0:
			return at, false
		case cell>>slotBits == marks(event, away) && w.entries[cell&slotMask-1].event == event:
			return at, true
		}
	}
}

func (w *Window) home(event broker.EventHash) int {
	return int(binary.LittleEndian.Uint32(event[:4])) & (len(w.index) - 1)
}

// unindex empties a cell and closes the gap, so that every event can still be
// found from its home on.
func (w *Window) unindex(at int) {
	mask := len(w.index) - 1
	for next := (at + 1) & mask; w.index[next] != 0; next = (next + 1) & mask {
		cell := w.index[next]
		away := int(cell >> (slotBits + tagBits))
		if away == far {
			away = (next - w.home(w.entries[cell&slotMask-1].event)) & mask
		}
		if gap := (next - at) & mask; away >= gap { // its way leads past the gap
			w.index[at] = cell&(1<<(slotBits+tagBits)-1) | uint32(min(away-gap, far))<<(slotBits+tagBits)
			at = next
		}
	}
	w.index[at] = 0
}
