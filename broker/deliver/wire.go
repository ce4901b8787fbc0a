package deliver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

var errBatch = errors.New("not a record of decisions, or a damaged one")

// cursor reads one part of a record of decisions. The first fault sticks: what
// is read after it is zero, and err says what and where.
type cursor struct {
	what string
	b    []byte
	err  error
}

func (c *cursor) fail(why string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s: %s", errBatch, c.what, why)
	}
	c.b = nil
}

// uvarint reads a number in its only, shortest form.
func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		v := c.b[0]
		c.b = c.b[1:]
		return uint64(v)
	}
	v, w := binary.Uvarint(c.b)
	switch {
	case w == 0:
		c.fail("ends early")
		return 0
	case w < 0 || c.b[w-1] == 0:
		c.fail("a number is not in its shortest form")
		return 0
	}
	c.b = c.b[w:]
	return v
}

// below reads a number that must be less than limit.
func (c *cursor) below(limit int, what string) int {
	v := c.uvarint()
	if v >= uint64(limit) && c.err == nil {
		c.fail(what + " out of range")
	}
	if c.err != nil {
		return 0
	}
	return int(v)
}

// count reads how many things follow, each of at least size bytes: a lie makes
// no reader set memory aside.
func (c *cursor) count(size int) int {
	v := c.uvarint()
	if v > uint64(len(c.b)/size) {
		c.fail("counts more than follows")
		return 0
	}
	return int(v)
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail("ends early")
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) string() string { return string(c.take(c.uvarint())) }

// section is a part that says its length.
func (c *cursor) section(what string) cursor {
	n := c.uvarint()
	if c.err == nil && n > uint64(len(c.b)) {
		c.what = what
	}
	return cursor{what: what, b: c.take(n), err: c.err}
}

// end is the fault so far, or that something follows the last that should be.
func (c *cursor) end() error {
	if c.err == nil && len(c.b) > 0 {
		c.fail("something follows its end")
	}
	return c.err
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendSection(dst, section []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(section))), section...)
}

// groupSize is how many entries of a dictionary stand together under one length.
// Who wants one entry skips to its group.
const groupSize = 64

// table reads a dictionary: all of it with step, or single entries with at.
// Within a group, an entry may be written by its difference from the one before;
// entry is where it is read, in place.
type table[E any] struct {
	n     int
	entry E

	read  func(c *cursor, e *E, first bool)
	all   cursor // all groups
	rest  cursor // groups after the one under way
	group cursor
	next  int // the entry that step reads
}

// newTable begins a section: a count, then groups. size is an entry's least.
func newTable[E any](section cursor, size int, read func(*cursor, *E, bool)) table[E] {
	n := section.count(size)
	t := table[E]{n: n, read: read, all: section, rest: section}
	if t.group.err = section.err; n == 0 {
		t.group.err = t.rest.end()
	}
	return t
}

// step reads the next entry; there must be one.
func (t *table[E]) step() error {
	first := t.next%groupSize == 0
	if first {
		t.group = t.rest.section(t.rest.what)
	}
	t.read(&t.group, &t.entry, first)
	t.next++
	if t.group.err == nil && (t.next%groupSize == 0 || t.next == t.n) {
		if t.group.end() == nil && t.next == t.n {
			t.group.err = t.rest.end()
		}
	}
	return t.group.err
}

// at reads the entry i, which must be there.
func (t *table[E]) at(i int) error {
	if t.group.err != nil {
		return t.group.err
	}
	if i == t.next-1 {
		return nil
	}
	if i < t.next {
		t.rest, t.next = t.all, 0
	}
	if from := (t.next + groupSize - 1) / groupSize; i/groupSize >= from {
		for range i/groupSize - from {
			t.rest.take(t.rest.uvarint())
		}
		if t.rest.err != nil {
			return t.rest.err
		}
		t.next = i / groupSize * groupSize
	}
	for t.next <= i {
		if err := t.step(); err != nil {
			return err
		}
	}
	return nil
}

// run is a step over skip offsets, and n offsets one after another.
type run struct{ skip, n int64 }

// appendOffset puts an offset at the end of runs that so far reach to next.
func appendOffset(runs []run, next, offset int64) []run {
	if last := len(runs) - 1; last >= 0 && offset == next {
		runs[last].n++
		return runs
	}
	return append(runs, run{offset - next, 1})
}

func encodeRuns(dst []byte, runs []run) []byte {
	for _, r := range runs {
		dst = binary.AppendUvarint(dst, uint64(r.skip))
		dst = binary.AppendUvarint(dst, uint64(r.n))
	}
	return dst
}

// offsets reads n offsets of [next, last] that were written as runs.
func (c *cursor) offsets(dst []int64, n int, next, last int64) []int64 {
	for n > 0 && c.err == nil {
		skip, k := c.uvarint(), c.uvarint()
		switch room := uint64(last - next + 1); {
		case c.err != nil:
		case k == 0 || k > uint64(n) || skip > room || k > room-skip:
			c.fail("an offset out of its range")
		default:
			next += int64(skip)
			for range k {
				dst = append(dst, next)
				next++
			}
			n -= int(k)
		}
	}
	return dst
}

// minRepeat is from how many equal references on they are written as a repeat.
const minRepeat = 8

// appendRefs writes references to sets: their width in bits, then runs. A run's
// number is twice its length for a repeat, of the one reference that follows;
// and one more for references side by side, each in width bits, lowest first,
// filled with zeros to whole bytes.
func appendRefs(dst []byte, refs []uint32) []byte {
	var all uint32
	for _, r := range refs {
		all |= r
	}
	width := bits.Len32(all)
	dst = append(dst, byte(width))
	packed := func(refs []uint32) {
		if len(refs) == 0 {
			return
		}
		dst = binary.AppendUvarint(dst, uint64(len(refs))<<1|1)
		var acc uint64
		have := 0
		for _, r := range refs {
			acc |= uint64(r) << have
			for have += width; have >= 8; have -= 8 {
				dst = append(dst, byte(acc))
				acc >>= 8
			}
		}
		if have > 0 {
			dst = append(dst, byte(acc))
		}
	}
	from := 0 // not yet written
	for i := 0; i < len(refs); {
		n := 1
		for i+n < len(refs) && refs[i+n] == refs[i] {
			n++
		}
		if n >= minRepeat {
			packed(refs[from:i])
			dst = binary.AppendUvarint(dst, uint64(n)<<1)
			dst = binary.AppendUvarint(dst, uint64(refs[i]))
			from = i + n
		}
		i += n
	}
	packed(refs[from:])
	return dst
}

// refs reads len(dst) references, each below limit.
func (c *cursor) refs(dst []uint32, limit int) {
	width := int(c.byte())
	if width > 32 {
		c.fail("references of more than 32 bits")
	}
	for at := 0; at < len(dst) && c.err == nil; {
		head := c.uvarint()
		n := head >> 1
		if c.err == nil && (n == 0 || n > uint64(len(dst)-at)) {
			c.fail("a run of references out of range")
		}
		if c.err != nil {
			return
		}
		into := dst[at : at+int(n)]
		at += int(n)
		if head&1 == 0 {
			r := uint32(c.below(limit, "a reference to a set"))
			for i := range into {
				into[i] = r
			}
			continue
		}
		b := c.take((n*uint64(width) + 7) / 8)
		var acc uint64
		have, from := 0, 0
		for i := range into {
			if c.err != nil {
				return
			}
			for have < width {
				acc |= uint64(b[from]) << have
				from++
				have += 8
			}
			r := acc & (1<<width - 1)
			acc >>= width
			have -= width
			if r >= uint64(limit) {
				c.fail("a reference to a set out of range")
			}
			into[i] = uint32(r)
		}
		if acc != 0 {
			c.fail("references are not filled with zeros")
		}
	}
}

// zigzag makes small numbers of either sign small.
func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
