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
}

// entry is one name of an object's schema; of an enum's only name is set.
type entry struct {
	name string
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

// nameHash mixes a name's length with its first and last eight bytes, which
// together are all of most names. Names that differ only between share a slot's
// chain: they are the schema's own, so nobody can aim at it with a record.
func nameHash(b []byte, k uint64) uint64 {
	n := len(b)
	var head, tail uint64
	switch {
	case n >= 8:
		head, tail = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		head, tail = uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		head, tail = uint64(b[0])|uint64(b[n-1])<<8, uint64(b[n/2])
	}
	h, l := bits.Mul64(head^k, tail^uint64(n)*0x9E3779B97F4A7C15^k>>7|1)
	return (h ^ l ^ head>>32) * k
}

// add puts a name in before build, once.
func (t *names) add(name string) *entry {
	for i := range t.entries {
		if t.entries[i].name == name {
			return &t.entries[i]
		}
	}
	t.entries = append(t.entries, entry{name: name, bit: -1})
	return &t.entries[len(t.entries)-1]
}

// build makes the table; of a few factors the one with the fewest collisions.
func (t *names) build() {
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
		at := int(nameHash([]byte(t.entries[i].name), k) >> t.shift)
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
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for at := nameHash(name, t.k) >> t.shift; ; at = (at + 1) & mask {
		s := t.slots[at&mask]
		if s == 0 {
			return nil
		}
		if e := &t.entries[s-1]; e.name == string(name) {
			return e
		}
	}
}
