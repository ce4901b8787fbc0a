// Package jsondoc reads JSON once, strictly, into a flat tape of nodes that
// the stages then share: intake takes the subject and the attributes from it,
// minimise cuts by it. The bytes themselves are never changed or copied.
//
// What is accepted is RFC 8259 held to I-JSON (RFC 7493) where two readers
// could otherwise see two documents: valid UTF-8, no lone surrogate in an
// escape, and no name twice in one object, compared after unescaping. A
// governed field could hide behind any of these: {"a":1,"\u0061":2} is 1 to
// one parser and 2 to the next.
package jsondoc

import (
	"fmt"
	"hash/maphash"
)

// Kind is what a node is.
type Kind uint8

// The kinds; the zero Kind is no node.
const (
	Object Kind = iota + 1
	Array
	String
	Number
	True
	False
	Null
)

// String is the word that JSON Schema uses, for messages.
func (k Kind) String() string {
	switch k {
	case Object:
		return "object"
	case Array:
		return "array"
	case String:
		return "string"
	case Number:
		return "number"
	case True, False:
		return "boolean"
	case Null:
		return "null"
	}
	return "nothing"
}

// Node is one value. Its children, if any, follow it on the tape: the first at
// its own index + 1, each next one at the Next of the one before.
type Node struct {
	// Start and End bound the value in the data, quotes and braces included.
	Start, End uint32
	// Next is the index of the first node after this one and all below it.
	Next uint32
	// NameStart and NameEnd bound the member's name as written, between its
	// quotes; both are 0 for the root and for elements of arrays.
	NameStart, NameEnd uint32

	Kind Kind
	// Escaped says that a string holds escapes, or a number an exponent;
	// NameEscaped that the name holds escapes.
	Escaped, NameEscaped bool
	// Member is which of its schema's names the name is, where a reader that
	// knows the schema wrote the tape: equal for equal names, as long as
	// [Doc.Members] is the same. 0 is not known. Parse leaves it 0.
	Member uint8
}

// Doc is a parsed document. It is meant to be kept and parsed into again: in
// steady state Parse allocates nothing. One goroutine at a time may use it.
type Doc struct {
	data  []byte
	nodes []Node
	open  []frame
	names names

	members uint64
}

// frame is an object or array that is not closed yet.
type frame struct {
	node  uint32
	count uint32 // members so far; objects only
	seen  uint64 // a bit per name so far, by nameBit: absent is certainly new
}

// names is what Parse keeps about member names beside the tape.
type names struct {
	// plain holds the escaped names' unescaped bytes; at finds them by node.
	plain []byte
	at    []plainName
	// table finds a repeated name in an object too large for comparing one by
	// one: open addressing, filled with node indexes + 1.
	table []tableEntry
	used  int
	seed  maphash.Seed
	ready bool // seed is made
}

type plainName struct{ node, start, end uint32 }

type tableEntry struct{ hash, object, node uint32 }

// Data is what was parsed. The slice is the caller's own.
func (d *Doc) Data() []byte { return d.data }

// Forget lets go of the document, and keeps room for the next.
func (d *Doc) Forget() { d.data, d.nodes, d.members = nil, d.nodes[:0], 0 }

// Members says who gave the nodes' Member its meaning; 0 is nobody.
func (d *Doc) Members() uint64 { return d.members }

// Len is the number of nodes; 0 before and after a failed Parse. Node 0 is the root.
func (d *Doc) Len() int { return len(d.nodes) }

// Node is the node at an index below Len.
func (d *Doc) Node(i int) *Node { return &d.nodes[i] }

// Nodes is the whole tape, read-only, until the next Parse.
func (d *Doc) Nodes() []Node { return d.nodes }

// Bytes is the value as written, from its first byte to its last.
func (d *Doc) Bytes(i int) []byte {
	n := &d.nodes[i]
	return d.data[n.Start:n.End:n.End]
}

// Name is the member's name, unescaped; empty for the root and for elements.
// It is valid until the next Parse.
func (d *Doc) Name(i int) []byte {
	n := &d.nodes[i]
	if n.NameEscaped {
		return d.names.find(uint32(i))
	}
	return d.data[n.NameStart:n.NameEnd:n.NameEnd]
}

// find is the unescaped name of a node whose name has escapes.
func (t *names) find(node uint32) []byte {
	lo, hi := 0, len(t.at)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if t.at[mid].node < node {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	p := t.at[lo]
	return t.plain[p.start:p.end:p.end]
}

// Text is a string's content when it holds no escapes, and otherwise what
// AppendText makes of it in buf. ok is false when the node is not a string.
func (d *Doc) Text(i int, buf []byte) (text []byte, ok bool) {
	n := &d.nodes[i]
	if n.Kind != String {
		return nil, false
	}
	raw := d.data[n.Start+1 : n.End-1 : n.End-1]
	if !n.Escaped {
		return raw, true
	}
	return appendUnescaped(buf[:0], raw), true
}

// AppendText appends a string's content, unescaped. The node must be a string.
func (d *Doc) AppendText(dst []byte, i int) []byte {
	n := &d.nodes[i]
	raw := d.data[n.Start+1 : n.End-1]
	if !n.Escaped {
		return append(dst, raw...)
	}
	return appendUnescaped(dst, raw)
}

// Find is the index of an object's member by its unescaped name, or −1; it is
// −1 as well when the node is not an object.
func (d *Doc) Find(object int, name string) int {
	n := &d.nodes[object]
	if n.Kind != Object {
		return -1
	}
	for i := uint32(object) + 1; i < n.Next; i = d.nodes[i].Next {
		m := &d.nodes[i]
		if m.NameEscaped {
			if string(d.names.find(i)) == name {
				return int(i)
			}
		} else if int(m.NameEnd-m.NameStart) == len(name) && string(d.data[m.NameStart:m.NameEnd]) == name {
			return int(i)
		}
	}
	return -1
}

// AppendTokens appends the names and array indexes that lead from the root to
// a node: Token.Index is −1 for a name.
func (d *Doc) AppendTokens(dst []Token, i int) []Token {
	for at := 0; at != i; {
		parent := at
		index := -1
		child := uint32(at) + 1
		for k := 0; ; k++ {
			if next := d.nodes[child].Next; uint32(i) < next {
				if d.nodes[parent].Kind == Array {
					index = k
				}
				break
			}
			child = d.nodes[child].Next
		}
		at = int(child)
		dst = append(dst, Token{Name: string(d.Name(at)), Index: index})
	}
	return dst
}

// Token is one step of a JSON Pointer.
type Token struct {
	Name  string
	Index int // in an array; −1 for a name
}

// Pointer is the JSON Pointer (RFC 6901) of a node. It holds names from the
// document: whoever logs it decides which of them may be shown.
func (d *Doc) Pointer(i int) string { return FormatPointer(d.AppendTokens(nil, i)) }

// FormatPointer writes tokens as a JSON Pointer (RFC 6901).
func FormatPointer(tokens []Token) string {
	var b []byte
	for _, t := range tokens {
		b = append(b, '/')
		if t.Index >= 0 {
			b = fmt.Append(b, t.Index)
			continue
		}
		for j := range len(t.Name) {
			switch c := t.Name[j]; c {
			case '~':
				b = append(b, "~0"...)
			case '/':
				b = append(b, "~1"...)
			default:
				b = append(b, c)
			}
		}
	}
	return string(b)
}

// SyntaxError says at which byte the data is not JSON as this package takes
// it. Its message never quotes the data.
type SyntaxError struct {
	Offset  int // in bytes, from 0
	Message string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("byte %d: %s", e.Offset, e.Message)
}

// DepthError says that objects and arrays are nested deeper than the limit.
type DepthError struct {
	Offset int // of the bracket that is one too many
	Max    int
}

func (e *DepthError) Error() string {
	return fmt.Sprintf("byte %d: nested deeper than %d objects and arrays", e.Offset, e.Max)
}

// DuplicateNameError says that an object has a name twice. Object leads to the
// object; the name itself is left out, since it comes from the data.
type DuplicateNameError struct {
	Offset int // of the second occurrence's first byte
	Object []Token
}

func (e *DuplicateNameError) Error() string {
	return fmt.Sprintf("byte %d: the object has this name already", e.Offset)
}

// Pointer is the JSON Pointer of the object.
func (e *DuplicateNameError) Pointer() string { return FormatPointer(e.Object) }
