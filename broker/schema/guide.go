package schema

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"unicode/utf8"

	"datafordeler/broker/jsondoc"
)

// guide is what [Schema.Read] goes by: the compiled schema again, laid out by
// what comes next in the bytes. It is a shortcut and never the judge: where a
// value is not as a step expects it, the value is read and judged as ever.
type guide struct {
	root  *step
	slots int // places of which a Run learns what comes next; nothing does at the first
	// number is this guide's own in this process, for [jsondoc.Doc.NamedBy].
	number uint64
}

// guides counts those made.
var guides atomic.Uint64

// op is how a step reads a value that is of the kind it expects.
type op uint8

const (
	opAny     op = iota // as any value, by jsondoc, and then judged by the node
	opNever             // nothing is allowed here
	opObject            // names are known
	opArray             // all elements are held to the same
	opText              // any string, or one that has to be as texts say
	opFixed             // a string of one length, by its pattern
	opChoice            // one of some strings
	opNumber            // a number
	opBoolean           // true or false
)

// step is what is done where one node judges.
type step struct {
	op op
	// watched: the node has watches.
	watched bool
	// more: there is more to ask when all of an object or array has been read:
	// dependents, choices, and what other nodes say of the same value.
	more bool
	// integer, plain: a number has to be whole; low and high are all else that
	// is asked of one that is written without a point.
	integer, plain bool
	begin, close   byte // of an object or array
	kind           jsondoc.Kind
	node           *node

	slot     uint32 // of an object's first member; others have their own
	required uint64 // a bit for each member
	min, max int    // members or elements
	// below is the step for elements, or for members that the schema does not name.
	below      *step
	object     *object
	members    []member // as object.names.entries
	dependents []guidedDependent

	texts  *texts
	choice *names
	// A fixed text has length characters, the first digits of them 0 to 9; the
	// rest is for the pattern's table, which is then in a state.
	length, digits int
	state          uint8

	low, high int64
}

type guidedDependent struct {
	on, required uint64
	node         *node
}

// member is one that a schema names.
type member struct {
	quoted string // the name in quotes and a colon: what is expected to be written
	// words are quoted's bytes eight at a time where it has 8 to 32: from the
	// first on, from second, from third, and the last eight. They may overlap.
	words         [4]uint64
	second, third uint8
	name          uint8  // for [jsondoc.Node.Member]
	slot          uint32 // of what comes after it
	bit           uint64 // its own, within the object
	step          *step
}

func newMember(name string, bit int, to *step, slot uint32) member {
	m := member{quoted: quotedName(name), bit: 1 << bit, step: to, slot: slot}
	if last := len(m.quoted) - 8; last >= 0 {
		m.second, m.third = uint8(min(8, last)), uint8(min(16, last))
		for i, at := range []int{0, int(m.second), int(m.third), last} {
			m.words[i] = binary.LittleEndian.Uint64([]byte(m.quoted[at:]))
		}
	}
	return m
}

// is compares the text with what is expected. It is written out for the names
// that are neither very short nor very long, since a call costs more.
func (m *member) is(text []byte) bool {
	if len(text) < 8 || len(text) > 32 {
		return string(text) == m.quoted
	}
	differ := binary.LittleEndian.Uint64(text) ^ m.words[0]
	differ |= binary.LittleEndian.Uint64(text[m.second:]) ^ m.words[1]
	differ |= binary.LittleEndian.Uint64(text[m.third:]) ^ m.words[2]
	differ |= binary.LittleEndian.Uint64(text[len(text)-8:]) ^ m.words[3]
	return differ == 0
}

// never is no member: no name begins like this.
var never = member{quoted: "\x00"}

// maxMembers is how many an object's bits tell apart.
const maxMembers = 64

// newGuide lays out a node and all that lies below. It is nil where nothing
// would be gained.
func newGuide(root *node) *guide {
	g := &guider{steps: map[*node]*step{}, slots: 1, names: map[string]uint8{}}
	s := g.step(root)
	if s.op != opObject && s.op != opArray {
		return nil
	}
	return &guide{s, g.slots, guides.Add(1)}
}

type guider struct {
	slots int
	steps map[*node]*step
	names map[string]uint8
}

// name is a number for a name, the same wherever it stands; 0 for those that
// come when there are no more.
func (g *guider) name(name string) uint8 {
	n, ok := g.names[name]
	if !ok && len(g.names) < math.MaxUint8 {
		n = uint8(len(g.names) + 1)
		g.names[name] = n
	}
	return n
}

// step is the step for a node.
func (g *guider) step(n *node) *step {
	if s := g.steps[n]; s != nil {
		return s
	}
	s := &step{node: n}
	g.steps[n] = s
	if n == nil {
		return s
	}
	s.watched, s.more = len(n.watches) > 0, len(n.choices) > 0 || n.more != nil
	switch {
	case n.kinds == 0:
		s.op = opNever
	case n.rest != nil: // it asks for marks
	case n.kinds.has(jsondoc.Object):
		g.object(s, n.object)
	case n.kinds.has(jsondoc.Array):
		g.array(s, n.array)
	case n.kinds.has(jsondoc.String):
		s.text()
	case s.more:
	case n.kinds.has(jsondoc.Number):
		s.number()
	case n.kinds == setOf(jsondoc.True, jsondoc.False):
		s.op = opBoolean
	}
	return s
}

func (g *guider) object(s *step, o *object) {
	if o == nil || len(o.patterns) > 0 || o.propertyNames != nil || len(o.names.entries) > maxMembers {
		return
	}
	// mask is the members' bits of a set of tracked names.
	mask := func(set *nameSet) (bits uint64) {
		for i := range o.names.entries {
			if e := &o.names.entries[i]; e.bit >= 0 && set[e.bit>>6]>>(e.bit&63)&1 != 0 {
				bits |= 1 << i
			}
		}
		return bits
	}
	for i := range o.names.entries {
		if e := &o.names.entries[i]; !e.property && e.child != nil && o.additional != nil {
			return // two nodes would judge it
		}
	}
	s.op, s.begin, s.close, s.kind = opObject, '{', '}', jsondoc.Object
	s.object, s.min, s.max = o, o.min, o.max
	s.required = mask(&o.required)
	for i := range o.dependents {
		d := &o.dependents[i]
		s.dependents = append(s.dependents, guidedDependent{mask(&d.on), mask(&d.required), d.node})
		s.more = true
	}
	s.slot = uint32(g.slots)
	g.slots += 1 + len(o.names.entries)
	if s.below = g.step(o.additional); o.closed {
		s.below = g.step(&node{})
	}
	s.members = make([]member, len(o.names.entries))
	for i := range s.members {
		e := &o.names.entries[i]
		to := s.below
		if e.property || !o.closed && e.child != nil {
			to = g.step(e.child)
		}
		s.members[i] = newMember(e.name, i, to, s.slot+1+uint32(i))
		s.members[i].name = g.name(e.name)
	}
}

// quotedName is how a name is written, as a rule. One that cannot be written
// without escapes is never expected.
func quotedName(name string) string {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c == '"' || c == '\\' {
			return never.quoted
		}
	}
	if !utf8.ValidString(name) {
		return never.quoted
	}
	return `"` + name + `":`
}

func (g *guider) array(s *step, a *array) {
	if a == nil || len(a.prefix) > 0 || a.closed || a.unique || a.hasContains {
		return
	}
	s.op, s.begin, s.close, s.kind = opArray, '[', ']', jsondoc.Array
	s.min, s.max = a.min, a.max
	s.below = g.step(a.rest)
}

func (s *step) text() {
	n := s.node
	switch {
	case n.more != nil || len(n.choices) > 1 || len(n.choices) == 1 && n.texts != nil:
	case len(n.choices) == 1:
		s.op, s.kind, s.choice = opChoice, jsondoc.String, &n.choices[0].texts
	default:
		s.op, s.kind, s.texts = opText, jsondoc.String, n.texts
		if t := n.texts; t != nil && t.format == nil && t.pattern != nil {
			length, digits, state := t.pattern.fixed()
			if length > 0 && length >= t.min && length <= t.max {
				s.op, s.length, s.digits, s.state = opFixed, length, digits, state
			}
		}
	}
}

func (s *step) number() {
	n := s.node
	s.op, s.kind, s.integer, s.plain = opNumber, jsondoc.Number, n.integer, true
	s.low, s.high = math.MinInt64, math.MaxInt64
	if n.numbers == nil {
		return
	}
	s.plain = n.numbers.multiple == nil
	for i := range n.numbers.bounds {
		b := &n.numbers.bounds[i]
		if !b.ok {
			s.plain = false
			continue
		}
		// The whole number at or below the bound.
		unit := int64(pow10[b.dec.scale])
		floor := b.dec.m / unit
		if b.dec.m%unit < 0 {
			floor--
		}
		whole := b.dec.m%unit == 0
		if b.below {
			low := floor
			if !whole || b.equal {
				low++
			}
			s.low = max(s.low, low)
		}
		if b.above {
			high := floor
			if whole && b.equal {
				high--
			}
			s.high = min(s.high, high)
		}
	}
}

// maxFixed is the longest text that is taken for one of a fixed length.
const maxFixed = 64

// fixed tells whether all texts that match are of one length, in characters
// that are written as they are, and then that length, how many digits they
// begin with, and the table's state behind these. length is 0 where it is not so.
func (m *matcher) fixed() (length, digits int, state uint8) {
	if m.table == nil {
		return 0, 0, 0
	}
	at := map[uint8]bool{m.start: true}
	onlyDigits, begin := true, m.start
	for length = range maxFixed + 1 {
		next := map[uint8]bool{}
		whole := len(at) == 1 // all ten digits and nothing else lead on
		ended := 0
		for s := range at {
			if m.atEnd[s] {
				ended++
			}
			for c := range 128 {
				to := m.table[int(s)<<7|c]
				if to != dead {
					if c < ' ' || c == '"' || c == '\\' || to == matched {
						return 0, 0, 0
					}
					next[to] = true
				}
				whole = whole && (to != dead) == (c >= '0' && c <= '9')
			}
		}
		switch {
		case len(next) == 0 && ended == len(at):
			return length, digits, begin
		case len(next) == 0 || ended > 0:
			return 0, 0, 0
		}
		if onlyDigits = onlyDigits && whole && len(next) == 1; onlyDigits {
			digits = length + 1
			for begin = range next {
			}
		}
		at = next
	}
	return 0, 0, 0
}
