package jsondoc

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"unicode/utf8"
)

// MaxSize is the largest document, in bytes: positions are 32 bits wide.
const MaxSize = math.MaxUint32 - 1

// unfinished is the Next of a container that is still open.
const unfinished = math.MaxUint32

// Parse reads one JSON value with nothing but white space around it. At most
// maxDepth objects and arrays may be nested. The data is kept, not copied: it
// must not change while the document is in use. The error is a *SyntaxError,
// *DepthError or *DuplicateNameError, and then the document is empty.
func (d *Doc) Parse(data []byte, maxDepth int) error {
	err := d.parseAll(data, maxDepth)
	if err != nil {
		d.nodes, d.data = d.nodes[:0], nil
	}
	return err
}

func (d *Doc) parseAll(data []byte, maxDepth int) error {
	d.Begin(data)
	if uint64(len(data)) > MaxSize {
		return &SyntaxError{math.MaxInt32, "larger than 4 GiB"}
	}
	end, err := d.parse(0, maxDepth, Node{})
	if err == nil && end < len(data) {
		return &SyntaxError{end, "there are bytes after the value"}
	}
	return err
}

// parse appends the value that begins at byte i, or after white space there, to
// the tape, and goes on to the end of the white space behind it. Of name the
// name fields are the value's.
//
// It is one loop with three places in it: before a value, before a member's
// name, and after a value. It works on local variables, which the compiler
// keeps in registers, and so puts the tape back wherever it leaves.
func (d *Doc) parse(i, maxDepth int, name Node) (int, error) {
	data, nodes, open := d.data, d.nodes, d.open[:0]
	var (
		end     int
		c       byte
		top     frame // the innermost open container
		escaped bool
		problem string
	)

value:
	for i < len(data) && data[i] <= ' ' && isSpace(data[i]) {
		i++
	}
	if i == len(data) {
		problem = "the data ends where a value should begin"
		goto fail
	}
	switch c = data[i]; c {
	case '"':
		if end, escaped, problem = scanString(data, i+1); problem != "" {
			i = end
			goto fail
		}
		nodes = append(nodes, Node{uint32(i), uint32(end + 1), uint32(len(nodes) + 1), name.NameStart, name.NameEnd, String, escaped, name.NameEscaped, name.Member})
		i = end + 1
	case '{', '[':
		if len(open) >= maxDepth {
			return 0, &DepthError{i, maxDepth}
		}
		open = append(open, top)
		top = frame{node: uint32(len(nodes))}
		kind := Object
		if c == '[' {
			kind = Array
		}
		nodes = append(nodes, Node{uint32(i), 0, unfinished, name.NameStart, name.NameEnd, kind, false, name.NameEscaped, name.Member})
		name = Node{}
		i++
		for i < len(data) && data[i] <= ' ' && isSpace(data[i]) {
			i++
		}
		if kind == Object {
			if i < len(data) && data[i] == '}' {
				goto closing
			}
			goto member
		}
		if i < len(data) && data[i] == ']' {
			goto closing
		}
		goto value
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if end, escaped, problem = scanNumber(data, i); problem != "" {
			i = end
			goto fail
		}
		nodes = append(nodes, Node{uint32(i), uint32(end), uint32(len(nodes) + 1), name.NameStart, name.NameEnd, Number, escaped, name.NameEscaped, name.Member})
		i = end
	default:
		kind, word := True, "true"
		switch c {
		case 't':
		case 'f':
			kind, word = False, "false"
		case 'n':
			kind, word = Null, "null"
		default:
			problem = "no JSON value begins with this byte"
			goto fail
		}
		end = i + len(word)
		if end > len(data) || string(data[i:end]) != word {
			problem = "want true, false or null, in lower case"
			goto fail
		}
		nodes = append(nodes, Node{uint32(i), uint32(end), uint32(len(nodes) + 1), name.NameStart, name.NameEnd, kind, false, name.NameEscaped, name.Member})
		i = end
	}

after:
	for i < len(data) && data[i] <= ' ' && isSpace(data[i]) {
		i++
	}
	if len(open) == 0 {
		d.nodes, d.open = nodes, open
		return i, nil
	}
	if i == len(data) {
		problem = "the data ends inside an object or array"
		goto fail
	}
	c = data[i]
	if nodes[top.node].Kind == Object {
		if c == ',' {
			i++
			for i < len(data) && data[i] <= ' ' && isSpace(data[i]) {
				i++
			}
			goto member
		}
		if c == '}' {
			goto closing
		}
		problem = "want ',' or '}' after a member"
		goto fail
	}
	if c == ',' {
		i++
		name = Node{}
		goto value
	}
	if c != ']' {
		problem = "want ',' or ']' after an element"
		goto fail
	}

closing:
	i++
	nodes[top.node].End = uint32(i)
	nodes[top.node].Next = uint32(len(nodes))
	top = open[len(open)-1]
	open = open[:len(open)-1]
	goto after

member:
	if i == len(data) || data[i] != '"' {
		problem = "want a name in quotes"
		goto fail
	}
	if end, escaped, problem = scanString(data, i+1); problem != "" {
		i = end
		goto fail
	}
	name = Node{NameStart: uint32(i + 1), NameEnd: uint32(end), NameEscaped: escaped}
	{
		plain := data[i+1 : end]
		if escaped {
			plain = d.names.unescape(uint32(len(nodes)), plain)
		}
		// Most names are told new by their bit alone.
		bit := nameBit(plain)
		if top.count >= scanLimit || top.seen&bit != 0 {
			d.nodes = nodes
			if d.hasName(&top, plain, uint32(len(nodes))) {
				return 0, &DuplicateNameError{i, d.AppendTokens(nil, int(top.node))}
			}
		}
		top.seen |= bit
		top.count++
	}
	i = end + 1
	for i < len(data) && data[i] <= ' ' && isSpace(data[i]) {
		i++
	}
	if i == len(data) || data[i] != ':' {
		problem = "want ':' after a name"
		goto fail
	}
	i++
	goto value

fail:
	return 0, &SyntaxError{i, problem}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

const (
	ones    = 0x0101010101010101
	highs   = 0x80 * ones
	spaces  = 0x20 * ones
	quotes  = '"' * ones
	slashes = '\\' * ones
)

// scanString goes from the first byte after the opening quote to the closing
// one, eight bytes at a time while nothing special is among them. On a problem
// end is where it lies.
func scanString(b []byte, i int) (end int, escaped bool, problem string) {
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i : i+8])
			// A byte's high bit comes up for: below 0x20, '"', '\', from 0x80.
			// A borrow may raise false bits, but only above a true one.
			m := ((x - spaces) | ((x ^ quotes) - ones) | ((x ^ slashes) - ones) | x) & highs
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			return i, false, "the data ends inside a string"
		}
		switch c := b[i]; {
		case c == '"':
			return i, escaped, ""
		case c == '\\':
			escaped = true
			size, problem := scanEscape(b[i:])
			if problem != "" {
				return i, false, problem
			}
			i += size
		case c < ' ':
			return i, false, "a control character in a string must be escaped"
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 {
				return i, false, "the data is not valid UTF-8"
			}
			i += size
		}
	}
}

// scanEscape is the length of the escape, or pair of escapes, that b begins with.
func scanEscape(b []byte) (size int, problem string) {
	if len(b) < 2 {
		return 0, "the data ends inside a string"
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, ""
	case 'u':
	default:
		return 0, `no escape is written like this: want one of \" \\ \/ \b \f \n \r \t \u`
	}
	r, ok := hex4(b[2:])
	switch {
	case !ok:
		return 0, `want four hexadecimal digits after \u`
	case r < 0xD800 || r > 0xDFFF:
		return 6, ""
	case r < 0xDC00 && len(b) >= 12 && b[6] == '\\' && b[7] == 'u':
		if low, ok := hex4(b[8:]); ok && low >= 0xDC00 && low <= 0xDFFF {
			return 12, ""
		}
	}
	return 0, "a surrogate stands alone (RFC 7493, 2.1)"
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// scanNumber goes from a number's first byte to the one after its last.
func scanNumber(b []byte, i int) (end int, exponent bool, problem string) {
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i]-'1' < 9:
		i = digits(b, i)
	default:
		return i, false, "want a digit"
	}
	if i < len(b) && b[i] == '.' {
		start := i + 1
		if i = digits(b, start); i == start {
			return i, false, "want a digit after the decimal point"
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		exponent = true
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start := i
		if i = digits(b, start); i == start {
			return i, false, "want a digit in the exponent"
		}
	}
	return i, exponent, ""
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	return i
}

// scanLimit is how many members an object may have for a name to be looked up
// by comparing it with each.
const scanLimit = 24

// keptTable is the largest table, in entries, that is kept for the next document.
const keptTable = 4096

// nameBit is one of 64 bits by a name's length and some of its bytes.
func nameBit(name []byte) uint64 {
	h := uint32(len(name))
	if len(name) > 0 {
		h = h*31 + uint32(name[0])
		h = h*31 + uint32(name[len(name)/2])
		h = h*31 + uint32(name[len(name)-1])
	}
	return 1 << (h * 0x9E3779B1 >> 26)
}

// hasName reports whether an open object has a member of that name already.
// node is the index that the new member will have. Objects beyond scanLimit
// are looked up in a hash table, so that a hostile one costs no square.
func (d *Doc) hasName(object *frame, name []byte, node uint32) bool {
	if object.count < scanLimit {
		for i := object.node + 1; i < node; i = d.nodes[i].Next {
			if string(d.Name(int(i))) == string(name) {
				return true
			}
		}
		return false
	}
	if object.count == scanLimit {
		for i := object.node + 1; i < node; i = d.nodes[i].Next {
			d.insertName(object.node, d.Name(int(i)), i)
		}
	}
	return d.insertName(object.node, name, node)
}

// insertName puts a name in the table, or reports that it is there.
func (d *Doc) insertName(object uint32, name []byte, node uint32) (present bool) {
	t := &d.names
	if !t.ready {
		t.seed, t.ready = maphash.MakeSeed(), true
	}
	if 2*t.used >= len(t.table) {
		old := t.table
		t.table = make([]tableEntry, max(256, 2*len(old)))
		for _, e := range old {
			if e.node != 0 {
				t.place(e)
			}
		}
	}
	h := maphash.Bytes(t.seed, name) ^ uint64(object)*0x9E3779B97F4A7C15
	entry := tableEntry{uint32(h>>32) ^ uint32(h), object, node + 1}
	mask := uint32(len(t.table) - 1)
	for at := entry.hash & mask; t.table[at].node != 0; at = (at + 1) & mask {
		e := t.table[at]
		if e.hash == entry.hash && e.object == object && string(d.Name(int(e.node-1))) == string(name) {
			return true
		}
	}
	t.place(entry)
	t.used++
	return false
}

func (t *names) place(e tableEntry) {
	mask := uint32(len(t.table) - 1)
	at := e.hash & mask
	for t.table[at].node != 0 {
		at = (at + 1) & mask
	}
	t.table[at] = e
}

// unescape keeps a name's unescaped bytes for a node.
func (t *names) unescape(node uint32, raw []byte) []byte {
	start := len(t.plain)
	t.plain = appendUnescaped(t.plain, raw)
	t.at = append(t.at, plainName{node, uint32(start), uint32(len(t.plain))})
	return t.plain[start:]
}

func (t *names) reset() {
	t.plain, t.at = t.plain[:0], t.at[:0]
	if len(t.table) > keptTable {
		t.table = nil // or one giant would make every later document clear as much
	} else if t.used > 0 {
		clear(t.table)
	}
	t.used = 0
}

// appendUnescaped appends a string's content; raw has been scanned.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			continue
		}
		i++
		switch c = raw[i]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(raw[i+1:])
			i += 4
			if r >= 0xD800 && r <= 0xDFFF {
				low, _ := hex4(raw[i+3:])
				r = (r-0xD800)<<10 | (low - 0xDC00) + 0x10000
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default: // '"', '\\' and '/' stand for themselves
			dst = append(dst, c)
		}
	}
	return dst
}
