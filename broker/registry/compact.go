package registry

import (
	"fmt"
	"hash/maphash"
	"math"
	"strings"
	"time"
)

// There may be millions of cases and consents, and every instance holds them all.
// They are kept in tables without pointers, of which a row is some forty bytes
// and which the garbage collector does not walk:
//
//   - pages: rows of one size, found by number;
//   - texts: the names of a page's rows, end to end;
//   - index: from a hash to the rows that may be meant;
//   - instant: a time in eight bytes, without loss.
//
// Nothing is ever taken out of them.

// pages is a list of rows. It grows by a page at a time: no row is copied, but
// for the first page's, so that a small registry stays small.
type pages[T any] struct{ list [][]T }

const (
	pageBits = 12
	pageRows = 1 << pageBits
	pageMask = pageRows - 1
)

func (p *pages[T]) len() int {
	if len(p.list) == 0 {
		return 0
	}
	return (len(p.list)-1)*pageRows + len(p.list[len(p.list)-1])
}

// at is good until the next add.
func (p *pages[T]) at(i uint32) *T { return &p.list[i>>pageBits][i&pageMask] }

func (p *pages[T]) add(row T) (i uint32) {
	n := p.len()
	if n > math.MaxUint32-2 {
		panic(fmt.Sprintf("registry: more than %d rows of %T", n, row)) // memory is gone long before
	}
	if n&pageMask == 0 {
		var page []T
		if n > 0 {
			page = make([]T, 0, pageRows)
		}
		p.list = append(p.list, page)
	}
	last := &p.list[len(p.list)-1]
	*last = append(*last, row)
	return uint32(n)
}

// texts keeps the texts of rows that are added in order, in a string for each
// page. What get returns shares it.
type texts struct {
	full []string
	open strings.Builder
	long []string // those that a length byte does not hold
}

const longText = math.MaxUint8

// put keeps texts of row i, which must be the latest, and says where they begin.
func (t *texts) put(i int, all ...string) (at uint32) {
	if i>>pageBits > len(t.full) {
		t.full = append(t.full, strings.Clone(t.open.String()))
		t.open.Reset()
	}
	at = uint32(t.open.Len()) // a page has 4,096 rows of short texts
	for _, s := range all {
		if len(s) < longText {
			t.open.WriteByte(byte(len(s)))
			t.open.WriteString(s)
			continue
		}
		n := len(t.long)
		t.long = append(t.long, s)
		t.open.Write([]byte{longText, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	return at
}

// get is the text of row i at a place, and where the next one is.
func (t *texts) get(i, at uint32) (s string, next uint32) {
	var page string
	if p := int(i >> pageBits); p < len(t.full) {
		page = t.full[p]
	} else {
		page = t.open.String()
	}
	n := uint32(page[at])
	at++
	if n == longText {
		b := page[at : at+4]
		return t.long[uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3])], at + 4
	}
	return page[at : at+n], at + n
}

// index finds rows by a hash: open addressing, in so many parts that none takes
// long to grow. A slot is the hash's low half and the row's number plus one; 0 is
// free.
type index struct{ parts [indexParts]indexPart }

type indexPart struct {
	slots []uint64 // a power of two of them, a fifth free
	used  int
}

const indexParts = 64

var hashSeed = maphash.MakeSeed()

func (x *index) part(h uint64) *indexPart { return &x.parts[h>>58] }

// find is the row of those under h that is the one meant.
func (x *index) find(h uint64, meant func(i uint32) bool) (i uint32, ok bool) {
	p := x.part(h)
	if len(p.slots) == 0 {
		return 0, false
	}
	mask := uint32(len(p.slots) - 1)
	for at := uint32(h) & mask; ; at = (at + 1) & mask {
		slot := p.slots[at]
		if slot == 0 {
			return 0, false
		}
		if uint32(slot>>32) == uint32(h) && meant(uint32(slot)-1) {
			return uint32(slot) - 1, true
		}
	}
}

// add files row i under h. The caller knows that it is not there.
func (x *index) add(h uint64, i uint32) {
	p := x.part(h)
	if 5*(p.used+1) > 4*len(p.slots) {
		old := p.slots
		p.slots = make([]uint64, max(8, 2*len(old)))
		for _, slot := range old {
			if slot != 0 {
				p.put(slot)
			}
		}
	}
	p.put(uint64(uint32(h))<<32 | uint64(i+1))
	p.used++
}

func (p *indexPart) put(slot uint64) {
	mask := uint32(len(p.slots) - 1)
	at := uint32(slot>>32) & mask
	for p.slots[at] != 0 {
		at = (at + 1) & mask
	}
	p.slots[at] = slot
}

// instant is a time.Time in eight bytes. 0 is the zero time; then the lowest bits
// tell nanoseconds since 1970 (1), whole seconds since 1970 (2), and a place in
// times.odd (0), for the few that are neither, or not in UTC.
type instant int64

type times struct{ odd []time.Time }

func (o *times) pack(t time.Time) instant {
	const (
		nanoReach   = math.MaxInt64 / 2 / 1_000_000_000
		secondReach = math.MaxInt64 / 8
	)
	sec := t.Unix()
	if t.Location() == time.UTC {
		switch {
		case t.IsZero():
			return 0
		case -nanoReach < sec && sec < nanoReach:
			return instant(t.UnixNano()<<1 | 1)
		case t.Nanosecond() == 0 && -secondReach < sec && sec < secondReach:
			return instant(sec<<2 | 2)
		}
	}
	o.odd = append(o.odd, t)
	return instant(len(o.odd) << 2)
}

func (o *times) time(i instant) time.Time {
	switch {
	case i == 0:
		return time.Time{}
	case i&1 == 1:
		n := int64(i >> 1)
		return time.Unix(0, n).UTC()
	case i&2 == 2:
		return time.Unix(int64(i>>2), 0).UTC()
	}
	return o.odd[i>>2-1]
}
