package deliver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"datafordeler/broker"
)

// sectionNames are the sections of a record in format 2, in order.
var sectionNames = []string{"head", "rejected", "usage", "lists", "outcomes", "subscriptions", "sets", "index"}

// take2 takes a record in format 2 apart: its sections, and last its blocks.
func take2(t *testing.T) [][]byte {
	value, err := os.ReadFile(filepath.Join("testdata", "batch-2.golden"))
	if err != nil {
		t.Fatal(err)
	}
	return apart(t, value)
}

func apart(t *testing.T, value []byte) [][]byte {
	c := cursor{b: value[1:]}
	var parts [][]byte
	for _, name := range sectionNames {
		s := c.section(name)
		parts = append(parts, s.b)
	}
	if c.err != nil {
		t.Fatal(c.err)
	}
	return append(parts, c.b)
}

// put2 puts it together again.
func put2(parts [][]byte) []byte {
	out := []byte{2}
	for _, p := range parts[:len(parts)-1] {
		out = appendSection(out, p)
	}
	return append(out, parts[len(parts)-1]...)
}

// read2 reads all that there is to read.
func read2(value []byte) error {
	_, err := Decode(value, func(*broker.Decision) error { return nil })
	return err
}

// Nothing stands in a section that is not read, and none ends before it is.
func TestSectionsEndWhereTheySay(t *testing.T) {
	if err := read2(put2(take2(t))); err != nil {
		t.Fatal(err)
	}
	for i, name := range append(slices.Clone(sectionNames), "blocks") {
		for _, tail := range [][]byte{{0}, {1}, {3, 0, 0, 0}} {
			parts := take2(t)
			parts[i] = append(slices.Clone(parts[i]), tail...)
			if err := read2(put2(parts)); !errors.Is(err, errBatch) {
				t.Errorf("%s with %d more: %v", name, tail, err)
			}
		}
		parts := take2(t)
		for n := range len(parts[i]) {
			parts := slices.Clone(parts)
			parts[i] = parts[i][:n]
			if err := read2(put2(parts)); !errors.Is(err, errBatch) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
	// Likewise within a group and within a block.
	parts := take2(t)
	lists := parts[3]
	parts[3] = append([]byte{lists[0]}, append([]byte{lists[1] + 1}, append(slices.Clone(lists[2:]), 0)...)...)
	if err := read2(put2(parts)); !errors.Is(err, errBatch) {
		t.Errorf("a group with one byte more: %v", err)
	}
	parts = take2(t)
	index := slices.Clone(parts[7])
	index[len(index)-1]++
	parts[7], parts[8] = index, append(slices.Clone(parts[8]), 0)
	if err := read2(put2(parts)); !errors.Is(err, errBatch) {
		t.Errorf("a block with one byte more: %v", err)
	}
}

// Who says that much follows is not believed before it does: no time and no
// memory goes to it.
func TestLiesAboutLengths(t *testing.T) {
	for i, name := range sectionNames {
		for at := range 3 { // the count, the first group's length, and what follows it
			for _, lie := range []uint64{1 << 20, 1 << 31, 1 << 39, 1 << 62, 1<<64 - 1} {
				parts := take2(t)
				if at >= len(parts[i]) {
					continue
				}
				parts[i] = append(binary.AppendUvarint(slices.Clone(parts[i][:at]), lie), parts[i][at+1:]...)
				value := put2(parts)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := read2(value)
				_, lookup := Lookup(value, 100, func(*broker.Decision) error { return nil })
				runtime.ReadMemStats(&after)
				if !errors.Is(err, errBatch) {
					t.Errorf("%s: %d at %d: %v", name, lie, at, err)
				}
				if lookup != nil && !errors.Is(lookup, errBatch) {
					t.Errorf("%s: %d at %d: lookup: %v", name, lie, at, lookup)
				}
				if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
					t.Errorf("%s: %d at %d: %d bytes were set aside", name, lie, at, n)
				}
			}
		}
	}
}

// Blocks follow each other, and what fills up a byte is zero.
func TestOneReadingOnly(t *testing.T) {
	parts := apart(t, filled(&Batch{}, 1, blockRows+20))
	index := parts[7]
	i := bytes.Index(index, binary.AppendUvarint(nil, blockRows)[:2])
	j := bytes.LastIndex(index, binary.AppendUvarint(nil, blockRows))
	if i == j {
		t.Fatalf("index %x: want the rows of the first block, and where the second begins", index)
	}
	for _, first := range []uint64{blockRows, blockRows - 1, 1} {
		parts[7] = append(binary.AppendUvarint(slices.Clone(index[:j]), first), index[j+2:]...)
		if err := read2(put2(parts)); (err == nil) != (first == blockRows) {
			t.Errorf("the second block begins %d after the first: %v", first, err)
		}
	}
	b := appendRefs(nil, []uint32{1, 2, 3})
	for _, last := range []byte{b[len(b)-1], b[len(b)-1] | 0x40, b[len(b)-1] | 0x80} {
		b[len(b)-1] = last
		c := cursor{what: "test", b: b}
		c.refs(make([]uint32, 3), 4)
		if err := c.end(); (err == nil) != (last < 0x40) {
			t.Errorf("references that end in %08b: %v", last, err)
		}
	}
}

// A few bytes may not ask for much text.
func TestTextIsBounded(t *testing.T) {
	long := make([]byte, 100_000)
	section := binary.AppendUvarint(nil, 400)
	for from := 0; from < 400; from += groupSize {
		n := min(groupSize, 400-from)
		group := binary.AppendUvarint(nil, uint64(n))
		group = appendString(append(group, 0, 0), string(long))
		for range n - 1 {
			group = binary.AppendUvarint(group, 100_000)
			group = append(group, 0, 0)
		}
		// One list of n strings, then empty ones.
		group = append(group, make([]byte, n-1)...)
		section = appendSection(section, group)
	}
	parts := take2(t)
	parts[3] = section
	if err := read2(put2(parts)); !errors.Is(err, errBatch) || !strings.Contains(err.Error(), "16 MiB") {
		t.Error(err)
	}
}
