package store

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
)

// sizes are how large what finds the rows becomes. Tests make it small.
type sizes struct {
	// block is how much a block holds: records, or four times as many decisions.
	// Blocks of half of it are left as they are.
	block int64
	// page is how many keys a page is to have, about.
	page int64
	// run bounds the records of a run of keys. A merge takes about three seconds
	// for a million, and nothing is applied meanwhile; a lookup reads a page of each.
	run int64
}

var usualSizes = sizes{block: 16384, page: 512, run: 1 << 19}

// part is the records of one batch and source that follow each other in a block.
type part struct {
	batch   int64 // its number
	records int64
	before  int64 // decisions of the batch that lie before the block
	time    int64 // nanoseconds
	place   logAt
	source  int64
	period  int64
}

// same reports whether what follows belongs to the part.
func (p *part) same(o *part) bool { return p.batch == o.batch && p.source == o.source }

// logAt is a place in the decisions topic.
type logAt struct {
	partition int32
	offset    int64
}

// block is the index of consecutive records: of which batches they are, and
// which answers each has.
type block struct {
	first     int64 // number of its first record
	records   int64
	decisions int64
	parts     []part
	// answers of the records, one after another: twice the answer's number, plus
	// one if another answer of the same record follows.
	answers []uint64
}

// add appends a record's answers.
func (b *block) add(answers []int64) {
	for i, a := range answers {
		v := uint64(a) << 1
		if i < len(answers)-1 {
			v |= 1
		}
		b.answers = append(b.answers, v)
	}
	b.records++
	b.decisions += int64(len(answers))
	b.parts[len(b.parts)-1].records++
}

func (b *block) weight() int64 { return max(b.records, b.decisions/4) }

// join appends a block that follows.
func (b *block) join(o *block) {
	parts := o.parts
	if n := len(b.parts); n > 0 && len(parts) > 0 && b.parts[n-1].same(&parts[0]) {
		b.parts[n-1].records += parts[0].records
		parts = parts[1:]
	}
	b.parts = append(b.parts, parts...)
	b.answers = append(b.answers, o.answers...)
	b.records += o.records
	b.decisions += o.decisions
}

func (b *block) times() (low, high int64) {
	low, high = b.parts[0].time, b.parts[0].time
	for i := range b.parts {
		low, high = min(low, b.parts[i].time), max(high, b.parts[i].time)
	}
	return low, high
}

// encode packs a block into three columns: which answers occur, as the words of a
// set of bits that are not empty; the batches; and the records' answers by their place in the first.
func (b *block) encode() (answers, batches, rows []byte) {
	distinct := make([]uint64, 0, len(b.answers))
	for _, a := range b.answers {
		distinct = append(distinct, a>>1)
	}
	slices.Sort(distinct)
	distinct = slices.Compact(distinct)
	at := make(map[uint64]uint64, len(distinct))
	last := uint64(0)
	for i := 0; i < len(distinct); {
		word, bits := distinct[i]>>6, uint64(0)
		for ; i < len(distinct) && distinct[i]>>6 == word; i++ {
			bits |= 1 << (distinct[i] & 63)
			at[distinct[i]] = uint64(i)
		}
		answers = binary.LittleEndian.AppendUint64(binary.AppendUvarint(answers, word-last), bits)
		last = word
	}
	rows = make([]byte, 0, 2*len(b.answers))
	for _, a := range b.answers {
		rows = binary.AppendUvarint(rows, at[a>>1]<<1|a&1)
	}
	batches = binary.AppendUvarint(nil, uint64(len(b.parts)))
	var p part
	for i := range b.parts {
		q := &b.parts[i]
		batches = binary.AppendVarint(batches, q.batch-p.batch)
		batches = binary.AppendUvarint(batches, uint64(q.records))
		batches = binary.AppendUvarint(batches, uint64(q.before))
		batches = binary.AppendVarint(batches, q.time-p.time)
		batches = binary.AppendVarint(batches, int64(q.place.partition))
		batches = binary.AppendVarint(batches, q.place.offset-p.place.offset)
		batches = binary.AppendUvarint(batches, uint64(q.source))
		batches = binary.AppendUvarint(batches, uint64(q.period))
		p = *q
	}
	return answers, batches, rows
}

// errBlock: what is in the tables cannot be what was put there.
var errBlock = errors.New("store: an index block is damaged: run 'datafordeler rebuild'")

// unpack reads numbers one after another.
type unpack struct {
	b   []byte
	bad bool
}

func (u *unpack) uint() uint64 {
	// Most are one byte.
	if len(u.b) > 0 && u.b[0] < 0x80 {
		v := u.b[0]
		u.b = u.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(u.b)
	if n <= 0 {
		u.bad, u.b = true, nil
		return 0
	}
	u.b = u.b[n:]
	return v
}

func (u *unpack) int() int64 {
	v, n := binary.Varint(u.b)
	if n <= 0 {
		u.bad, u.b = true, nil
		return 0
	}
	u.b = u.b[n:]
	return v
}

// count reads how many things follow, each of at least size bytes.
func (u *unpack) count(size int) int {
	n := u.uint()
	if n > uint64(len(u.b)/size) {
		u.bad, u.b = true, nil
		return 0
	}
	return int(n)
}

// eachWord calls fn with 64 answers at a time: those from 64 times word whose bits
// are set, until it returns false.
func eachWord(b []byte, fn func(word int64, bits uint64) bool) error {
	u := unpack{b: b}
	word := int64(0)
	for len(u.b) > 0 {
		word += int64(u.uint())
		if len(u.b) < 8 || word < 0 {
			return errBlock
		}
		bits := binary.LittleEndian.Uint64(u.b)
		u.b = u.b[8:]
		if !fn(word, bits) {
			return nil
		}
	}
	return nil
}

// meets reports whether any of the answers that occur is in the set.
func meets(answers []byte, set bitset) (some bool, err error) {
	if set == nil {
		return true, nil
	}
	err = eachWord(answers, func(word int64, bits uint64) bool {
		some = word < int64(len(set)) && set[word]&bits != 0
		return !some && word < int64(len(set))
	})
	return some, err
}

// decodeAnswers reads which answers occur, in ascending order.
func decodeAnswers(b []byte, dst []int64) ([]int64, error) {
	dst = dst[:0]
	err := eachWord(b, func(word int64, set uint64) bool {
		for ; set != 0; set &= set - 1 {
			dst = append(dst, word<<6|int64(bits.TrailingZeros64(set)))
		}
		return true
	})
	return dst, err
}

func decodeParts(b []byte) ([]part, error) {
	u := unpack{b: b}
	parts := make([]part, u.count(8))
	var p part
	for i := range parts {
		p.batch += u.int()
		p.records = int64(u.uint())
		p.before = int64(u.uint())
		p.time += u.int()
		p.place.partition = int32(u.int())
		p.place.offset += u.int()
		p.source = int64(u.uint())
		p.period = int64(u.uint())
		parts[i] = p
	}
	if u.bad || len(u.b) > 0 {
		return nil, errBlock
	}
	return parts, nil
}

// decodeBlock reads a block back, to join it with others.
func decodeBlock(first int64, answers, batches, rows []byte) (*block, error) {
	distinct, err := decodeAnswers(answers, nil)
	if err != nil {
		return nil, err
	}
	b := &block{first: first}
	if b.parts, err = decodeParts(batches); err != nil {
		return nil, err
	}
	u := unpack{b: rows}
	for len(u.b) > 0 {
		v := u.uint()
		if v>>1 >= uint64(len(distinct)) {
			return nil, errBlock
		}
		b.answers = append(b.answers, uint64(distinct[v>>1])<<1|v&1)
		b.decisions++
		if v&1 == 0 {
			b.records++
		}
	}
	want := int64(0)
	for i := range b.parts {
		want += b.parts[i].records
	}
	if u.bad || want != b.records {
		return nil, errBlock
	}
	return b, nil
}
