package schema

import (
	"hash/maphash"
	"math"
	"unicode/utf8"

	"datafordeler/broker/jsondoc"
)

// node is a schema, compiled for one place. What a value is asked depends on
// its kind; what concerns any kind is in choices and more.
type node struct {
	id uint32
	// shared: several schemas lead here, so that it may be asked of one value
	// more than once.
	shared bool
	// integer: a number has to be whole.
	integer bool
	kinds   kinds
	watches []int

	texts   *texts
	numbers *numbers
	object  *object
	array   *array
	choices []*choice
	more    *composed
	rest    *unevaluated
}

// plain: nothing is asked of a value.
func (n *node) plain() bool {
	return n.kinds == allKinds && !n.integer && len(n.watches) == 0 && n.texts == nil && n.numbers == nil && n.object == nil && n.array == nil &&
		len(n.choices) == 0 && n.more == nil && n.rest == nil
}

// composed: the schema has others below it.
func (n *node) composed() bool {
	return n.object != nil || n.array != nil || n.more != nil || n.rest != nil
}

// texts is what a schema asks of a string.
type texts struct {
	min, max int // characters
	pattern  *matcher
	format   *format
}

// object is what a schema asks of an object.
type object struct {
	names         names
	words         int // of nameSet, that are in use
	required      nameSet
	dependents    []dependent
	patterns      []patterned
	additional    *node
	closed        bool // no additional properties
	propertyNames *node
	min, max      int
	// all: additionalProperties is there, so that no member is unevaluated.
	all bool
}

// maxTracked is how many names an object's presence is known of.
const maxTracked = 256

// nameSet is a set of tracked names.
type nameSet [maxTracked / 64]uint64

func (s *nameSet) add(bit int16) { s[bit>>6] |= 1 << (bit & 63) }

// lacks reports whether one of others is not in the set.
func (s *nameSet) lacks(others *nameSet, words int) bool {
	for i := range words {
		if others[i]&^s[i] != 0 {
			return true
		}
	}
	return false
}

// dependent applies where a member is there.
type dependent struct {
	on, required nameSet
	node         *node
}

type patterned struct {
	pattern *matcher
	node    *node
}

// array is what a schema asks of an array.
type array struct {
	min, max    int
	prefix      []*node
	rest        *node
	closed      bool // no elements after the prefix
	each        bool // elements are asked something
	unique      bool
	hasContains bool
	contains    *node
	minContains int
	maxContains int
	// Of the elements the first some are evaluated, or all, and those that
	// contains matches where it says so (2020-12).
	evaluated         int
	all               bool
	containsEvaluates bool
}

// composed is what a schema has others ask of the same value.
type composed struct {
	all             []*node
	any, one        []*node
	not             *node
	when            *node
	then, otherwise *node
	hasNot, hasIf   bool
}

// Hit is a node that a watched pointer leads to. An array at the pointer's end
// is one node.
type Hit struct {
	Watch int // as given to Compile
	Node  int // on the document's tape
}

// Run is the working memory of validation. It is meant to be kept: in steady
// state validating allocates nothing. One goroutine at a time may use it. The
// zero Run is ready.
type Run struct {
	doc   *jsondoc.Doc
	nodes []jsondoc.Node
	data  []byte
	hits  []Hit

	// name is what a schema under propertyNames is asked of: a string that is
	// no node. It goes by the index virtual; ask tells one such string from
	// the next.
	name []byte
	asks uint32

	text, other []byte // unescaped strings

	// steps counts how often shared nodes were asked; beyond budget their
	// answers are kept in memo.
	steps  int
	budget int
	memo   memo
	// tangled: the budget was used up; failed: a number was beyond reason.
	tangled, failed bool

	marks []uint64 // frames, one upon the other
	items []item   // for uniqueItems
	seed  maphash.Seed
	ready bool // seed is made

	reader reader
}

// virtual is the index of Run.name.
const virtual = math.MaxUint32

// Hits are the nodes that the watched pointers led to in the document that was
// last found valid, in the document's order. They are valid until the next use.
func (r *Run) Hits() []Hit { return r.hits }

// reset prepares for a document.
func (r *Run) reset(doc *jsondoc.Doc) {
	r.doc, r.nodes, r.data = doc, doc.Nodes(), doc.Data()
	r.hits = r.hits[:0]
	r.steps, r.asks = 0, 0
	// Shared nodes are asked once or twice of a value by ordinary schemas.
	// Sixty-four times is a schema that grows with a power of the depth.
	r.budget = 4096 + 64*len(r.nodes)
	r.tangled, r.failed = false, false
	r.memo.reset()
}

// release lets go of the document, and wipes the copies of its strings that had
// escapes: a Run at rest is no place for a person's number.
func (r *Run) release() {
	r.doc, r.nodes, r.data, r.name = nil, nil, nil, nil
	r.text, r.other = Wipe(r.text), Wipe(r.other)
}

// Wipe overwrites what a buffer has held and returns it empty, or nil where it
// has grown beyond what is worth keeping. An empty one has held nothing: a
// string with escapes is never empty.
func Wipe(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	clear(b[:cap(b)])
	if cap(b) > 1<<16 {
		return nil
	}
	return b[:0]
}

// eval reports whether the value at an index is as a node asks.
func (r *Run) eval(n *node, i uint32) bool {
	if n == nil {
		return true
	}
	if n.shared {
		return r.evalShared(n, i)
	}
	return r.apply(n, i, frame{})
}

// evalShared keeps schemas that lead to one another in several ways from
// asking the same again and again, which would take exponential time.
func (r *Run) evalShared(n *node, i uint32) bool {
	if r.steps++; r.steps <= r.budget {
		return r.apply(n, i, frame{})
	}
	r.tangled = true
	value := uint64(i)
	if i == virtual {
		value = 1<<32 | uint64(r.asks)
	}
	if answer, ok := r.memo.get(n.id, value); ok {
		return answer
	}
	answer := r.apply(n, i, frame{})
	r.memo.put(n.id, value, answer)
	return answer
}

// apply holds a value to a node. What of the value's members or elements the
// node evaluates it marks in f, if it takes them; on false f is not to be used.
func (r *Run) apply(n *node, i uint32, f frame) bool {
	kind := jsondoc.String
	if int(i) < len(r.nodes) {
		kind = r.nodes[i].Kind
	}
	if !n.kinds.has(kind) {
		return false
	}
	for _, w := range n.watches {
		r.hits = append(r.hits, Hit{w, int(i)})
	}
	if n.rest != nil && n.rest.concerns(kind) {
		return r.applyRest(n, kind, i, f)
	}
	return r.body(n, kind, i, f)
}

func (r *Run) body(n *node, kind jsondoc.Kind, i uint32, f frame) bool {
	switch kind {
	case jsondoc.String:
		if n.texts != nil && !r.string(n.texts, i) {
			return false
		}
	case jsondoc.Number:
		if (n.integer || n.numbers != nil) && !r.number(n, i) {
			return false
		}
	case jsondoc.Object:
		if n.object != nil && !r.object(n.object, i, f) {
			return false
		}
	case jsondoc.Array:
		if n.array != nil && !r.array(n.array, i, f) {
			return false
		}
	}
	for _, c := range n.choices {
		if !r.chosen(c, kind, i) {
			return false
		}
	}
	return n.more == nil || r.composed(n.more, i, f)
}

// stringAt is the text of a string, valid until the next call.
func (r *Run) stringAt(i uint32) []byte {
	if i == virtual {
		return r.name
	}
	n := &r.nodes[i]
	if n.Escaped {
		r.text = r.doc.AppendText(r.text[:0], int(i))
		return r.text
	}
	return r.data[n.Start+1 : n.End-1]
}

func (r *Run) string(t *texts, i uint32) bool { return t.holds(r.stringAt(i)) }

func (t *texts) holds(text []byte) bool {
	// A character is one to four bytes, so most lengths need no counting.
	if len(text) > t.max || (len(text)+3)/4 < t.min {
		if count := utf8.RuneCount(text); count < t.min || count > t.max {
			return false
		}
	}
	return (t.pattern == nil || t.pattern.match(text)) && (t.format == nil || t.format.match(text))
}

func (r *Run) number(n *node, i uint32) bool {
	at := &r.nodes[i]
	num, ok := parseNumber(r.data[at.Start:at.End])
	if !ok {
		r.failed = true
		return false
	}
	return (!n.integer || num.integer()) && (n.numbers == nil || n.numbers.holds(&num))
}

func (r *Run) object(o *object, i uint32, f frame) bool {
	var present nameSet
	count := 0
	end := r.nodes[i].Next
	for at := i + 1; at < end; count++ {
		member := &r.nodes[at]
		child := at
		at = member.Next
		name := r.data[member.NameStart:member.NameEnd]
		if member.NameEscaped {
			name = r.doc.Name(int(child))
		}
		evaluated := false
		if e := o.names.find(name); e != nil {
			if e.bit >= 0 {
				present.add(e.bit)
			}
			if e.child != nil && !r.eval(e.child, child) {
				return false
			}
			evaluated = e.property
		}
		for p := range o.patterns {
			if p := &o.patterns[p]; p.pattern.match(name) {
				evaluated = true
				if !r.eval(p.node, child) {
					return false
				}
			}
		}
		if !evaluated && (o.closed || !r.eval(o.additional, child)) {
			return false
		}
		if o.propertyNames != nil {
			r.name = name
			r.asks++
			if !r.eval(o.propertyNames, virtual) {
				return false
			}
		}
		if f.words > 0 && (evaluated || o.all) {
			r.mark(f, count)
		}
	}
	if count < o.min || count > o.max || present.lacks(&o.required, o.words) {
		return false
	}
	for d := range o.dependents {
		d := &o.dependents[d]
		if !present.lacks(&d.on, o.words) && (present.lacks(&d.required, o.words) || !r.within(d.node, i, f)) {
			return false
		}
	}
	return true
}

func (r *Run) array(a *array, i uint32, f frame) bool {
	end := r.nodes[i].Next
	count, contained := 0, 0
	for at := i + 1; at < end; at = r.nodes[at].Next {
		if a.each {
			switch {
			case count < len(a.prefix):
				if !r.eval(a.prefix[count], at) {
					return false
				}
			case a.closed:
				return false
			default:
				if !r.eval(a.rest, at) {
					return false
				}
			}
		}
		if a.hasContains && r.eval(a.contains, at) {
			contained++
			if a.containsEvaluates && f.words > 0 {
				r.mark(f, count)
			}
		}
		if f.words > 0 && (a.all || count < a.evaluated) {
			r.mark(f, count)
		}
		count++
	}
	if count < a.min || count > a.max {
		return false
	}
	if a.hasContains && (contained < a.minContains || contained > a.maxContains) {
		return false
	}
	return !a.unique || count < 2 || r.unique(i, count)
}

func (r *Run) composed(m *composed, i uint32, f frame) bool {
	for _, n := range m.all {
		if !r.within(n, i, f) {
			return false
		}
	}
	if m.any != nil && !r.some(m.any, i, f) {
		return false
	}
	if m.one != nil {
		found := false
		for _, n := range m.one {
			if r.perhaps(n, i, f) {
				if found {
					return false
				}
				found = true
			}
		}
		if !found {
			return false
		}
	}
	if m.hasNot && r.eval(m.not, i) {
		return false
	}
	if m.hasIf {
		if r.perhaps(m.when, i, f) {
			return r.within(m.then, i, f)
		}
		return r.within(m.otherwise, i, f)
	}
	return true
}

// some reports whether one of the nodes holds. Where marks are wanted all of
// them are asked, since each that holds has its own to make.
func (r *Run) some(list []*node, i uint32, f frame) (found bool) {
	for _, n := range list {
		if r.perhaps(n, i, f) {
			if f.words == 0 {
				return true
			}
			found = true
		}
	}
	return found
}
