package schema

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"datafordeler/broker/jsondoc"
)

// reader is what a Run keeps for Read between documents: which of a schema's
// members came, and never anything of a document's.
type reader struct {
	learnt []learnt
	turn   int // whose place a further schema takes
	open   [maxOpen]spot
}

// learnt is what came next in the last documents of one schema.
type learnt struct {
	schema *Schema
	// next is by slot the member that was there last, at first one that never comes.
	next []*member
	// misses counts documents in a row that were not read; skip those that are
	// not tried at all, since a provider whose documents are never as the guide
	// expects them would pay for each trial.
	misses, skip int
}

const (
	// maxOpen is how many objects and arrays Read has open itself; what is nested
	// deeper jsondoc reads.
	maxOpen = 32
	// maxLearnt is how many schemas a Run knows by heart.
	maxLearnt = 8
	// maxStrangers is how many members an object may have that its schema does
	// not name, for Read to tell them apart.
	maxStrangers = 16
	// After trials misses in a row Read skips documents, twice as many each
	// time, up to maxSkip.
	trials, maxSkip = 4, 64
)

// spot is an object or array that is not closed yet.
type spot struct {
	step *step
	node uint32
	// What is known of what surrounds it.
	seen        uint64
	slot, count uint32
}

// Read is [jsondoc.Doc.Parse] and [Schema.Validate] in one pass over the bytes,
// for a document that looks like those before it. It only ever says yes: on true
// doc and r.Hits are just what the two would have made, all numbers are
// [Reasonable], and the document is valid. false says nothing but that the two
// are to be asked: the document may be valid still. doc is empty then.
func (s *Schema) Read(r *Run, doc *jsondoc.Doc, data []byte, maxDepth int) (ok bool) {
	r.hits = r.hits[:0]
	doc.Forget()
	if s.guide == nil || uint64(len(data)) > jsondoc.MaxSize {
		return false
	}
	l := r.reader.of(s)
	if l.skip > 0 {
		l.skip--
		return false
	}
	defer func() {
		if recover() != nil {
			ok = false // Validate tells what of it
		}
		r.release()
		if ok {
			l.misses = 0
			return
		}
		doc.Forget()
		r.hits = r.hits[:0]
		if l.misses++; l.misses > trials {
			l.skip = min(1<<min(l.misses-trials, 16), maxSkip)
		}
	}()
	nodes := doc.Begin(data)
	doc.NamedBy(s.guide.number)
	r.reset(doc)
	r.budget += 8 * len(data)
	return s.guide.read(r, doc, nodes, l.next, maxDepth)
}

// of finds what was learnt of a schema.
func (t *reader) of(s *Schema) *learnt {
	for i := range t.learnt {
		if t.learnt[i].schema == s {
			return &t.learnt[i]
		}
	}
	fresh := learnt{schema: s, next: make([]*member, s.guide.slots)}
	for i := range fresh.next {
		fresh.next[i] = &never
	}
	if len(t.learnt) < maxLearnt {
		t.learnt = append(t.learnt, fresh)
		return &t.learnt[len(t.learnt)-1]
	}
	t.turn = (t.turn + 1) % maxLearnt
	t.learnt[t.turn] = fresh
	return &t.learnt[t.turn]
}

// read is one loop, as jsondoc's is, with places in it for a value, for what
// follows one, and for a member's name. k nodes are written; of the next one the
// name is written when it is read. What is known of the innermost open object or
// array is in variables of its own, for the compiler to keep in registers.
func (g *guide) read(r *Run, doc *jsondoc.Doc, nodes []jsondoc.Node, next []*member, maxDepth int) bool {
	data, open := doc.Data(), &r.reader.open
	var (
		i, end, k, depth int
		kind             jsondoc.Kind
		s                = g.root // of the value
		m                *member
		n                *jsondoc.Node

		seen        uint64 // a bit for each member that the schema names
		slot, count uint32 // of what comes next; elements, or members that the schema does not name
	)
	if len(nodes) == 0 {
		nodes = more(nodes)
	}
	nodes[0].NameStart, nodes[0].NameEnd, nodes[0].Member = 0, 0, 0

value:
	if uint(i) >= uint(len(data)) {
		return false
	}
	if data[i] <= ' ' {
		if i = skipSpace(data, i); i == len(data) {
			return false
		}
	}
	if s.watched {
		for _, w := range s.node.watches {
			r.hits = append(r.hits, Hit{w, k})
		}
	}
	switch kind = s.kind; s.op {
	case opFixed:
		end = s.readFixed(data, i)
	case opText:
		end = s.readText(data, i)
	case opChoice:
		end = s.readChoice(data, i)
	case opNumber:
		end = s.readNumber(data, i)
	case opBoolean:
		switch {
		case len(data)-i >= 4 && string(data[i:i+4]) == "true":
			end, kind = i+4, jsondoc.True
		case len(data)-i >= 5 && string(data[i:i+5]) == "false":
			end, kind = i+5, jsondoc.False
		default:
			goto odd
		}
	case opObject, opArray:
		if data[i] != s.begin || depth == maxOpen {
			goto odd
		}
		if depth >= maxDepth {
			return false
		}
		n = &nodes[k]
		n.Start = uint32(i)
		n.Kind, n.Escaped, n.NameEscaped = kind, false, false
		{
			own := &open[depth]
			own.step, own.node = s, uint32(k)
			own.seen, own.slot, own.count = seen, slot, count
		}
		depth++
		seen, slot, count = 0, s.slot, 0
		if k++; k == len(nodes) {
			nodes = more(nodes)
		}
		if i++; uint(i) < uint(len(data)) && data[i] == '"' && s.op == opObject {
			goto name
		}
		if i = skipSpace(data, i); i < len(data) && data[i] == s.close {
			goto closing
		}
		if s.op == opObject {
			goto name
		}
		goto element
	case opNever:
		return false
	default:
		goto odd
	}
	if end < 0 {
		goto odd
	}
	n = &nodes[k]
	if k++; k == len(nodes) {
		nodes = more(nodes)
		n = &nodes[k-1]
	}
	n.Start, n.End, n.Next = uint32(i), uint32(end), uint32(k)
	n.Kind, n.Escaped, n.NameEscaped = kind, false, false
	i = end

after:
	if uint(i) < uint(len(data)) && data[i] == ',' && slot != 0 {
		i++
		goto name
	}
	i = skipSpace(data, i)
	if depth == 0 {
		doc.Keep(nodes[:k])
		return i == len(data)
	}
	if i == len(data) {
		return false
	}
	s = open[depth-1].step
	if data[i] == ',' {
		i++
		if slot != 0 {
			goto name
		}
		goto element
	}
	if data[i] != s.close {
		return false
	}

closing:
	i++
	depth--
	{
		own := &open[depth]
		n = &nodes[own.node]
		n.End, n.Next = uint32(i), uint32(k)
		s = own.step
		if length := bits.OnesCount64(seen) + int(count); seen&s.required != s.required || length < s.min || length > s.max {
			return false
		}
		if s.more {
			doc.Keep(nodes[:k])
			r.nodes = nodes[:k]
			if !r.rest(s, own.node, seen) {
				return false
			}
		}
		seen, slot, count = own.seen, own.slot, own.count
	}
	goto after

element:
	count++
	n = &nodes[k]
	n.NameStart, n.NameEnd, n.Member = 0, 0, 0
	s = open[depth-1].step.below
	goto value

name:
	// As a rule the member follows that followed last time.
	m = next[slot]
	if end = i + len(m.quoted); uint(end) > uint(len(data)) || !m.is(data[i:end]) {
		goto other
	}
	n = &nodes[k]
	n.NameStart, n.NameEnd = uint32(i+1), uint32(end-2)
	i = end

named:
	if seen&m.bit != 0 {
		return false // for the second time
	}
	seen |= m.bit
	nodes[k].Member = m.name
	slot = m.slot
	s = m.step
	goto value

other:
	if i = skipSpace(data, i); i == len(data) || data[i] != '"' {
		return false
	}
	{
		var high uint64
		if end, high = scanPlain(data, i+1); end < 0 {
			return false
		}
		text := data[i+1 : end]
		n = &nodes[k]
		n.NameStart, n.NameEnd = uint32(i+1), uint32(end)
		if i = skipSpace(data, end+1); i == len(data) || data[i] != ':' {
			return false
		}
		i++
		own := &open[depth-1]
		s = own.step
		if index := s.object.names.index(text); index >= 0 {
			m = &s.members[index]
			next[slot] = m
			goto named
		}
		first := own.node + 1
		if high != 0 && !utf8.Valid(text) || count == maxStrangers || strange(data, nodes[first:k], first, text) {
			return false
		}
		count++
		n.Member = 0
		s = s.below
		goto value
	}

odd:
	// The value is not as expected: it is read as any, and then judged.
	if s.watched {
		r.hits = r.hits[:len(r.hits)-len(s.node.watches)]
	}
	doc.Keep(nodes[:k])
	{
		first := k
		var ok bool
		n = &nodes[k]
		if i, ok = doc.ParseValue(i, maxDepth-depth, jsondoc.Node{NameStart: n.NameStart, NameEnd: n.NameEnd, Member: n.Member}); !ok {
			return false
		}
		r.nodes = doc.Nodes()
		k = len(r.nodes)
		if nodes = r.nodes[:cap(r.nodes)]; k == len(nodes) {
			nodes = more(nodes)
		}
		if !reasonable(doc, first) || !r.eval(s.node, uint32(first)) || r.failed {
			return false
		}
	}
	goto after
}

// more is the tape with room for more nodes.
func more(nodes []jsondoc.Node) []jsondoc.Node {
	return append(nodes, make([]jsondoc.Node, max(64, len(nodes)))...)
}

// strange reports whether one of the members, from the one at index first on,
// has the name.
func strange(data []byte, members []jsondoc.Node, first uint32, name []byte) bool {
	for at := 0; at < len(members); at = int(members[at].Next - first) {
		if m := &members[at]; string(data[m.NameStart:m.NameEnd]) == string(name) {
			return true
		}
	}
	return false
}

// reasonable reports whether all numbers from a node on are.
func reasonable(doc *jsondoc.Doc, first int) bool {
	nodes := doc.Nodes()
	for i := first; i < len(nodes); i++ {
		if n := &nodes[i]; n.Kind == jsondoc.Number && (n.Escaped || n.End-n.Start > 18) && !Reasonable(doc.Bytes(i)) {
			return false
		}
	}
	return true
}

// rest is what is asked of an object or array when all of it has been read.
func (r *Run) rest(s *step, i uint32, seen uint64) bool {
	for d := range s.dependents {
		d := &s.dependents[d]
		if seen&d.on == d.on && (seen&d.required != d.required || !r.eval(d.node, i)) {
			return false
		}
	}
	kind := r.nodes[i].Kind
	for _, c := range s.node.choices {
		if !r.chosen(c, kind, i) {
			return false
		}
	}
	return (s.node.more == nil || r.composed(s.node.more, i, frame{})) && !r.failed
}

// What follows reads values of one kind each, and is where the value ends: behind
// it, or −1 where it is another or not as the schema wants.

// readFixed reads a string of one length, by the pattern's table.
func (s *step) readFixed(b []byte, i int) (end int) {
	end = i + 1 + s.length
	if end >= len(b) || b[i] != '"' || b[end] != '"' {
		return -1
	}
	text := b[i+1 : end]
	if !allDigits(text[:s.digits]) {
		return -1
	}
	if text = text[s.digits:]; len(text) > 0 {
		state := s.state
		table := s.texts.pattern.table
		for _, c := range text {
			if c >= utf8.RuneSelf {
				return -1
			}
			state = table[int(state)<<7|int(c)]
		}
		if state == dead {
			return -1
		}
	}
	return end + 1
}

// readText reads a string without escapes.
func (s *step) readText(b []byte, i int) (end int) {
	if b[i] != '"' {
		return -1
	}
	end, high := scanPlain(b, i+1)
	if end < 0 {
		return -1
	}
	text := b[i+1 : end]
	if high != 0 && !utf8.Valid(text) || s.texts != nil && !s.texts.holds(text) {
		return -1
	}
	return end + 1
}

// readChoice reads one of the schema's strings, written without escapes.
func (s *step) readChoice(b []byte, i int) (end int) {
	if b[i] != '"' {
		return -1
	}
	end, _ = scanPlain(b, i+1)
	if end < 0 || s.choice.index(b[i+1:end]) < 0 {
		return -1
	}
	return end + 1
}

const (
	ones    = 0x0101010101010101
	highs   = 0x80 * ones
	zeros   = '0' * ones
	beyond  = (0x80 - '9' - 1) * ones
	spaces  = ' ' * ones
	quotes  = '"' * ones
	slashes = '\\' * ones
)

// allDigits looks at eight bytes at a time: below '0' the subtraction borrows
// and above '9' the addition carries into the high bit. A borrow or carry may
// raise a false bit, but only beside a true one.
func allDigits(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		if ((x-zeros)|(x+beyond)|x)&highs != 0 {
			return false
		}
	}
	for _, c := range b {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}

// scanPlain goes from the first byte after the opening quote to the closing
// one. end is −1 where the string has escapes, control characters or no end;
// high is not 0 where it is not ASCII.
func scanPlain(b []byte, i int) (end int, high uint64) {
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i : i+8])
		m := ((x - spaces) | ((x ^ quotes) - ones) | ((x ^ slashes) - ones)) &^ x & highs
		if m == 0 {
			high |= x & highs
			i += 8
			continue
		}
		low := bits.TrailingZeros64(m)
		high |= x & highs & (1<<low - 1)
		i += low >> 3
		if b[i] == '"' {
			return i, high
		}
		return -1, 0
	}
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i, high
		case c < ' ' || c == '\\':
			return -1, 0
		default:
			high |= uint64(c & 0x80)
		}
	}
	return -1, 0
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// readNumber reads a number of at most 18 bytes without an exponent.
func (s *step) readNumber(b []byte, i int) (end int) {
	start := i
	if b[i] == '-' {
		i++
	}
	first := i
	var value int64
	if i+8 <= len(b) {
		// Up to seven digits at once.
		x := binary.LittleEndian.Uint64(b[i : i+8])
		if m := ((x - zeros) | (x + beyond) | x) & highs; m != 0 {
			low := bits.TrailingZeros64(m) &^ 7
			i += low >> 3
			x <<= 64 - low
			x &= 0x0F * ones
			// Neighbours are joined to numbers of two, four and eight digits.
			x = x * (10<<8 + 1) >> 8
			x = x & 0x00FF00FF00FF00FF * (100<<16 + 1) >> 16
			x = x & 0x0000FFFF0000FFFF * (10000<<32 + 1) >> 32
			value = int64(x)
		}
	}
	for i < len(b) && b[i]-'0' < 10 {
		value = value*10 + int64(b[i]-'0')
		i++
	}
	if i == first || i-start > 18 || b[first] == '0' && i > first+1 {
		return -1
	}
	if s.plain && (i == len(b) || b[i] != '.' && b[i]|0x20 != 'e') {
		if first > start {
			value = -value
		}
		if value < s.low || value > s.high {
			return -1
		}
		return i
	}
	if i < len(b) && b[i] == '.' {
		point := i
		for i++; i < len(b) && b[i]-'0' < 10; i++ {
		}
		if i == point+1 {
			return -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		return -1
	}
	dec, ok := parseDecimal(b[start:i])
	num := number{dec: dec}
	if !ok || s.integer && !num.integer() || s.node.numbers != nil && !s.node.numbers.holds(&num) {
		return -1
	}
	return i
}
