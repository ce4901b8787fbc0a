package deliver

import (
	"encoding/binary"
	"math/bits"

	"datafordeler/broker"
)

// blockEntry is a block's line in the index.
type blockEntry struct {
	first  int64
	rows   int
	length int
}

// closeBlock writes the rows under way, column by column. Those of one size
// stand last, so that one row's are found without reading the others.
func (b *Batch) closeBlock() {
	k := &b.open
	from := len(b.blocks)
	out := encodeRuns(b.blocks, k.runs)
	for i := 0; i < len(k.kinds); {
		n := 1
		for i+n < len(k.kinds) && k.kinds[i+n] == k.kinds[i] {
			n++
		}
		out = binary.AppendUvarint(out, uint64(n)<<2|uint64(k.kinds[i]))
		i += n
	}
	out = appendRefs(out, k.refs)
	if k.people {
		out = append(out, 1)
	} else {
		out = append(out, 0)
	}
	out = append(out, k.events...)
	if k.people {
		out = append(out, k.subjects...)
	}
	b.blocks = out
	b.index = append(b.index, blockEntry{k.first, len(k.refs), len(out) - from})
	k.reset()
}

// flush writes the record of decisions under way.
func (b *Batch) flush() {
	if len(b.open.refs) > 0 {
		b.closeBlock()
	}
	var out []byte
	if n := len(b.out); n < cap(b.out) {
		out = b.out[:n+1][n][:0]
	}
	out = append(out, batchVersion)
	b.scratch = appendHead(b.scratch[:0], &b.head)
	out = appendSection(out, b.scratch)
	b.scratch = encodeRuns(b.scratch[:0], b.rejected)
	out = appendSection(out, b.scratch)
	b.scratch = appendUsage(b.scratch[:0], b.head.Usage)
	out = appendSection(out, b.scratch)
	out = b.appendDictionaries(out, &b.dict)
	s := binary.AppendUvarint(b.scratch[:0], uint64(len(b.index)))
	before := b.head.First
	for _, x := range b.index {
		s = binary.AppendUvarint(s, uint64(x.first-before))
		s = binary.AppendUvarint(s, uint64(x.rows))
		s = binary.AppendUvarint(s, uint64(x.length))
		before = x.first
	}
	b.scratch = s
	out = appendSection(out, s)
	b.out = append(b.out, append(out, b.blocks...))
}

func appendHead(dst []byte, h *BatchHeader) []byte {
	dst = appendString(dst, h.Kind)
	dst = appendString(dst, string(h.Dataset))
	dst = append(dst, h.TopicID[:]...)
	dst = binary.AppendUvarint(dst, uint64(uint32(h.Partition)))
	dst = binary.AppendUvarint(dst, uint64(h.First))
	dst = binary.AppendUvarint(dst, uint64(h.Last-h.First+1))
	dst = binary.AppendUvarint(dst, zigzag(h.Time.Unix()))
	dst = binary.AppendUvarint(dst, uint64(h.Time.Nanosecond()))
	dst = binary.AppendUvarint(dst, uint64(h.Revision))
	dst = appendString(dst, h.Policy)
	dst = appendString(dst, h.Period)
	for _, n := range [...]int64{int64(h.Limits.RecordBytes), int64(h.Limits.Depth), int64(h.Limits.Window), h.Limits.WindowMillis, int64(h.Limits.DeliveryBytes),
		h.Records, h.OutOfScope, h.Repeated, h.Rejected} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return dst
}

func appendUsage(dst []byte, usage map[broker.AgreementID]int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(usage)))
	before := ""
	for _, a := range sortedAgreements(nil, usage) {
		dst = appendShared(dst, before, string(a))
		dst = binary.AppendUvarint(dst, uint64(usage[a]))
		before = string(a)
	}
	return dst
}

// dictWriter has the room that writing dictionaries takes.
type dictWriter struct {
	scratch []byte
	group   []byte
	names   namesWriter
}

// appendTable writes a dictionary of n entries, in groups.
func (b *dictWriter) appendTable(dst []byte, n int, entry func(dst []byte, i int, first bool) []byte) []byte {
	s := binary.AppendUvarint(b.scratch[:0], uint64(n))
	for from := 0; from < n; from += groupSize {
		b.group = b.group[:0]
		for i := from; i < min(n, from+groupSize); i++ {
			b.group = entry(b.group, i, i == from)
		}
		s = appendSection(s, b.group)
	}
	b.scratch = s
	return appendSection(dst, s)
}

func (b *dictWriter) appendDictionaries(out []byte, d *dictionaries) []byte {
	before := ""
	out = b.appendTable(out, len(d.lists), func(dst []byte, i int, first bool) []byte {
		if first {
			before = ""
		}
		l := d.lists[i]
		dst = binary.AppendUvarint(dst, uint64(l.to-l.from))
		for _, w := range d.words[l.from:l.to] {
			dst = appendShared(dst, before, w)
			before = w
		}
		return dst
	})
	out = b.appendTable(out, len(d.outcomes), func(dst []byte, i int, first bool) []byte {
		if first {
			before = ""
		}
		o := &d.outcomes[i]
		dst = append(dst, bit(o.permit)|bit(o.shielded)<<1)
		dst = appendShared(dst, before, o.pack.ID)
		before = o.pack.ID
		dst = binary.AppendUvarint(dst, uint64(o.pack.Version))
		dst = binary.AppendUvarint(dst, uint64(o.reasons))
		dst = binary.AppendUvarint(dst, uint64(o.bases))
		return binary.AppendUvarint(dst, uint64(o.fields))
	})
	names := &b.names
	out = b.appendTable(out, len(d.subs), func(dst []byte, i int, first bool) []byte {
		if first {
			names.restart()
		}
		s := &d.subs[i]
		dst = names.id(dst, string(s.ID))
		how := names.how(string(s.ID), string(s.Agreement))
		dst = binary.AppendUvarint(dst, uint64(len(s.outcomes))<<3|uint64(how)<<1|uint64(bit(s.Ceiling)))
		if how == edited {
			dst = names.last.append(dst)
		}
		for _, o := range s.outcomes {
			dst = binary.AppendUvarint(dst, uint64(o))
		}
		return dst
	})
	width, sub := 0, 0
	return b.appendTable(out, len(d.sets), func(dst []byte, i int, first bool) []byte {
		if first {
			most := 0
			for _, a := range d.answers[d.sets[i].from:d.sets[min(i+groupSize, len(d.sets))-1].to] {
				most = max(most, a.outcome)
			}
			width, sub = bits.Len(uint(most)), -1
			dst = append(dst, byte(width))
		}
		s := d.sets[i]
		dst = binary.AppendUvarint(dst, uint64(s.to-s.from))
		for _, a := range d.answers[s.from:s.to] {
			dst = binary.AppendUvarint(dst, zigzag(int64(a.sub-sub-1))<<width|uint64(a.outcome))
			sub = a.sub
		}
		return dst
	})
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
