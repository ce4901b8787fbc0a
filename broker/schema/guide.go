package schema

import (
	"math"
	"unicode/utf8"

	"datafordeler/broker/jsondoc"
)

// guide is what [Schema.Read] goes by: the compiled schema again, laid out by
// what comes next in the bytes. It is a shortcut and never the judge: where a
// value is not as a step expects it, the value is read and judged as ever.
type guide struct {
	steps   []step   // the first takes anything; the second is the root's
	members []member // the first is no member
	slots   int      // places of which a Run learns what comes next; nothing does at the first
}

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
	// more: the node has choices, or others to ask of the same value, when all
	// of an object or array has been read.
	more bool
	// integer, plain: a number has to be whole; low and high are all else that
	// is asked of one that is written without a point.
	integer, plain bool
	close          byte // of an object or array
	node           *node
	watches        []int

	object     *object
	required   uint64 // a bit for each member
	dependents []guidedDependent
	slot       uint32 // of what comes first; members have their own
	first      uint32 // of members: names.entries[0] is this one
	// below is the step for elements, or for members that the schema does not name.
	below    uint32
	min, max int // members or elements

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
	quoted string // a comma, the name in quotes, a colon: what is expected to be written
	bit    uint64 // its own, within the object
	step   uint32
	slot   uint32 // of what comes after it
}

// maxMembers is how many an object's bits tell apart.
const maxMembers = 64

// newGuide lays out a node and all that lies below. It is nil where nothing
// would be gained.
func newGuide(root *node) *guide {
	g := &guider{steps: map[*node]uint32{}, guide: guide{steps: make([]step, 1), members: []member{{quoted: never}}, slots: 1}}
	g.step(root)
	if len(g.guide.steps) == 1 || g.guide.steps[1].op != opObject && g.guide.steps[1].op != opArray {
		return nil
	}
	return &g.guide
}

type guider struct {
	guide guide
	steps map[*node]uint32
}

// step is the number of the step for a node.
func (g *guider) step(n *node) uint32 {
	if n == nil {
		return 0
	}
	if i, ok := g.steps[n]; ok {
		return i
	}
	i := uint32(len(g.guide.steps))
	g.steps[n] = i
	g.guide.steps = append(g.guide.steps, step{})
	s := step{node: n, watches: n.watches, more: len(n.choices) > 0 || n.more != nil}
	switch {
	case n.kinds == 0:
		s.op = opNever
	case n.rest != nil: // it asks for marks
	case n.kinds.has(jsondoc.Object):
		g.object(&s, n.object)
	case n.kinds.has(jsondoc.Array):
		g.array(&s, n.array)
	case n.kinds.has(jsondoc.String):
		s.text()
	case s.more:
	case n.kinds.has(jsondoc.Number):
		s.number()
	case n.kinds == setOf(jsondoc.True, jsondoc.False):
		s.op = opBoolean
	}
	g.guide.steps[i] = s
	return i
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
	s.op, s.close, s.object, s.min, s.max = opObject, '}', o, o.min, o.max
	s.required = mask(&o.required)
	for i := range o.dependents {
		d := &o.dependents[i]
		s.dependents = append(s.dependents, guidedDependent{mask(&d.on), mask(&d.required), d.node})
	}
	s.first, s.slot = uint32(len(g.guide.members)), uint32(g.guide.slots)
	g.guide.slots += 1 + len(o.names.entries)
	for i := range o.names.entries {
		g.guide.members = append(g.guide.members, member{quoted: quotedName(o.names.entries[i].name), bit: 1 << i, slot: s.slot + 1 + uint32(i)})
	}
	if s.below = g.step(o.additional); o.closed {
		s.below = g.step(&node{})
	}
	for i := range o.names.entries {
		e := &o.names.entries[i]
		to := s.below
		if e.property || !o.closed && e.child != nil {
			to = g.step(e.child)
		}
		g.guide.members[s.first+uint32(i)].step = to
	}
}

// never begins no member, with its comma or without.
const never = "\x00\x00"

// quotedName is how a name is written, as a rule. One that cannot be written
// without escapes is never expected.
func quotedName(name string) string {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c == '"' || c == '\\' {
			return never
		}
	}
	if !utf8.ValidString(name) {
		return never
	}
	return `,"` + name + `":`
}

func (g *guider) array(s *step, a *array) {
	if a == nil || len(a.prefix) > 0 || a.closed || a.unique || a.hasContains {
		return
	}
	s.op, s.close, s.min, s.max = opArray, ']', a.min, a.max
	s.below = g.step(a.rest)
}

func (s *step) text() {
	n := s.node
	switch {
	case n.more != nil || len(n.choices) > 1 || len(n.choices) == 1 && n.texts != nil:
	case len(n.choices) == 1:
		s.op, s.choice = opChoice, &n.choices[0].texts
	default:
		s.op, s.texts = opText, n.texts
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
	s.op, s.integer, s.plain = opNumber, n.integer, true
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
