package schema

import (
	"encoding/binary"
	"math/bits"
)

// names finds a string among those that a schema spells out: member names, or
// the strings of an enum. It is read-only once built.
type names struct {
	entries []entry
	// slots is a hash table, open addressing, of indexes into entries + 1; its
	// size is a power of two, at least twice the entries.
	slots []uint16
	k     uint64
	shift uint8
	// at finds entries until build.
	at map[string]int
}

// entry is one name of an object's schema; of an enum's only name is set.
type entry struct {
	name string
	// head, tail and the length are all of a name of up to 16 bytes.
	head, tail uint64
	// child is what the member is held to, or nil where it is free.
	child *node
	// property: the keyword properties has the name, so that neither
	// additionalProperties nor unevaluatedProperties concern it.
	property bool
	// bit is the name's place in a set of the names that are present, or −1.
	bit int16
}

// maxEntries is what slots can tell apart.
const maxEntries = 1 << 15

// ends are the first and the last eight bytes of a name, fewer of a shorter one.
func ends(b []byte) (head, tail uint64) {
	switch n := len(b); {
	case n >= 8:
		return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		return uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		return uint64(b[0]) | uint64(b[n-1])<<8, uint64(b[n/2])
	}
	return 0, 0
}

// hash mixes a name's length and ends. Longer names that differ only between
// them share a chain: they are the schema's own, so nobody can aim at it with a
// record.
func (t *names) hash(head, tail uint64, n int) uint64 {
	return (head + tail*0x9E3779B97F4A7C15 + uint64(n)) * t.k >> t.shift
}

// add puts a name in before build, once. The entry may move with the next one.
func (t *names) add(name string) *entry {
	i, ok := t.at[name]
	if !ok {
		if t.at == nil {
			t.at = map[string]int{}
		}
		i = len(t.entries)
		t.at[name] = i
		t.entries = append(t.entries, entry{name: name, bit: -1})
	}
	return &t.entries[i]
}

// build makes the table; of a few factors the one with the fewest collisions.
func (t *names) build() {
	t.at = nil
	if len(t.entries) == 0 {
		return
	}
	size := 2
	for size < 2*len(t.entries) {
		size *= 2
	}
	t.shift = uint8(64 - bits.TrailingZeros(uint(size)))
	best, bestK := len(t.entries)*size, uint64(0)
	k := uint64(0x9E3779B97F4A7C15)
	for range 64 {
		k = k*0xD1342543DE82EF95 + 0x2545F4914F6CDD1D | 1
		if steps := t.fill(k, size); steps < best {
			best, bestK = steps, k
		}
		if best == 0 {
			break
		}
	}
	t.fill(bestK, size)
}

// fill makes the table by a factor and says how many names lie off their place.
func (t *names) fill(k uint64, size int) (steps int) {
	t.k = k
	t.slots = make([]uint16, size)
	for i := range t.entries {
		e := &t.entries[i]
		e.head, e.tail = ends([]byte(e.name))
		at := int(t.hash(e.head, e.tail, len(e.name)))
		for t.slots[at] != 0 {
			at = (at + 1) & (size - 1)
			steps++
		}
		t.slots[at] = uint16(i + 1)
	}
	return steps
}

// find is the entry of a name, or nil.
func (t *names) find(name []byte) *entry {
	if i := t.index(name); i >= 0 {
		return &t.entries[i]
	}
	return nil
}

// index is where the entry of a name is, or −1.
func (t *names) index(name []byte) int {
	if len(t.slots) == 0 {
		return -1
	}
	head, tail := ends(name)
	mask := uint64(len(t.slots) - 1)
	for at := t.hash(head, tail, len(name)); ; at++ {
		s := t.slots[at&mask]
		if s == 0 {
			return -1
		}
		if e := &t.entries[s-1]; e.head == head && e.tail == tail && len(e.name) == len(name) && (len(name) <= 16 || e.name == string(name)) {
			return int(s - 1)
		}
	}
}
