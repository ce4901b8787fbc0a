package minimise

import (
	"errors"

	"datafordeler/broker/jsondoc"
)

// ErrNotObject says that a payload is not a JSON object, so that nothing in it
// has a name to be allowed by.
var ErrNotObject = errors.New("the payload is not a JSON object: a rights package allows by name")

// ErrObject says that an object stands where the package allows a value. All
// that is ever added to it would leave unnamed, so none of it does.
var ErrObject = errors.New("an object stands at a field of the rights package: a package names its fields one by one")

// OnlyValues is the projection for delivery: it refuses a record that has an
// object, or an array with one in it, at a field. The registry holds packages to
// that by what schemas declare; an open schema lets more stand there than it says.
func (p *Projection) OnlyValues() *Projection {
	c := *p
	c.onlyValues = true
	if p.answers != nil && p.answers.household == nil {
		a := *p.answers
		a.fields = a.fields.OnlyValues()
		c.answers = &a
	}
	return &c
}

// Shields reports whether a record with these attributes is shielded.
func (p *Projection) Shields(attributes []string) bool {
	if !p.shielding {
		return false
	}
	if p.attribute >= len(attributes) {
		return true
	}
	value := attributes[p.attribute]
	if value == "" && !names(p.when.In, "") && !names(p.when.NotIn, "") {
		return true
	}
	return p.when.Holds(value)
}

func names(values []string, value string) bool {
	for _, v := range values {
		if v == value {
			return true
		}
	}
	return false
}

// Append appends the record's minimised payload to dst, and reports whether it
// was shielded. The attributes are in the order of Dataset.Attributes. On an
// error dst comes back as it was, and the record must be denied with its [Reason].
func (p *Projection) Append(dst []byte, doc *jsondoc.Doc, attributes []string) ([]byte, bool, error) {
	if p.answers != nil {
		return p.answers.append(nil, dst, doc, attributes)
	}
	shielded := p.Shields(attributes)
	out, err := p.write(dst, doc, shielded, nil)
	return out, shielded, err
}

// write appends what leaves. Where it is to be learnt how, each value that is
// copied is added to learn's places.
func (p *Projection) write(dst []byte, doc *jsondoc.Doc, shielded bool, learn *places) ([]byte, error) {
	if doc.Len() == 0 || doc.Node(0).Kind != jsondoc.Object {
		return dst, ErrNotObject
	}
	w := writer{doc: doc, nodes: doc.Nodes(), data: doc.Data(), dst: dst, onlyValues: p.onlyValues, learn: learn}
	if shielded {
		w.dst = append(w.dst, `{"skjermet":true`...)
		if !p.body {
			w.dst = append(w.dst, ',')
			start := len(w.dst)
			w.members(&p.shielded, 0)
			if len(w.dst) == start {
				w.dst = w.dst[:start-1]
			}
		}
	} else {
		w.dst = append(w.dst, '{')
		w.members(&p.open, 0)
	}
	if w.object || p.onlyValues && p.open.keep {
		return dst, ErrObject
	}
	return append(w.dst, '}'), nil
}

// writer appends to dst; what turns out to be empty is taken back.
type writer struct {
	doc   *jsondoc.Doc
	nodes []jsondoc.Node
	data  []byte
	dst   []byte

	onlyValues bool
	object     bool // one stood where only a value may

	learn *places // nil where nothing is to be learnt
}

// copy appends a node's bytes.
func (w *writer) copy(i int) {
	if w.learn != nil {
		w.learn.add(len(w.dst), i)
	}
	n := &w.nodes[i]
	w.dst = append(w.dst, w.data[n.Start:n.End]...)
}

// back takes back what was written from start on.
func (w *writer) back(start int) {
	w.dst = w.dst[:start]
	if w.learn != nil {
		w.learn.back(start)
	}
}

// value writes what the tree allows of a node, and reports whether anything was.
func (w *writer) value(t *tree, i int) bool {
	n := &w.nodes[i]
	if t.keep && w.onlyValues && w.holdsObject(i) {
		w.object = true
		return false
	}
	if t.keep && len(t.children) == 0 {
		w.copy(i)
		return true
	}
	start := len(w.dst)
	switch n.Kind {
	case jsondoc.Object:
		w.dst = append(w.dst, '{')
		w.members(t, i)
		if len(w.dst) > start+1 || t.keep {
			w.dst = append(w.dst, '}')
			return true
		}
	case jsondoc.Array:
		w.dst = append(w.dst, '[')
		for e := i + 1; e < int(n.Next); e = int(w.nodes[e].Next) {
			if w.value(t, e) {
				w.dst = append(w.dst, ',')
			}
		}
		if last := len(w.dst) - 1; last > start {
			w.dst[last] = ']'
			return true
		}
		if t.keep {
			w.dst = append(w.dst, ']')
			return true
		}
	default:
		if t.keep {
			w.copy(i)
			return true
		}
	}
	w.back(start)
	return false
}

// holdsObject reports whether a node is an object or has one in it.
func (w *writer) holdsObject(i int) bool {
	for end := int(w.nodes[i].Next); i < end; i++ {
		if w.nodes[i].Kind == jsondoc.Object {
			return true
		}
	}
	return false
}

// members writes what the tree allows of an object's members, without the braces.
func (w *writer) members(t *tree, object int) {
	start := len(w.dst)
	switch {
	case t.keep:
		w.remaining(t, object)
	case !w.inOrder(t, object):
		w.back(start) // to be written again, and more
		w.allowed(t, object)
	}
	if last := len(w.dst) - 1; last >= start {
		w.dst = w.dst[:last] // the comma
	}
}

// inOrder does what allowed does where the record's members come in the tree's
// order, in one pass, and else reports false: records tend to follow the package's
// order. Values that stand side by side, as their names are spelled here, are
// copied together.
func (w *writer) inOrder(t *tree, object int) bool {
	children := t.children
	var from, to uint32 // what is to be copied; nothing begins at 0
	next := 0
	for at, end := uint32(object)+1, w.nodes[object].Next; at < end; {
		n := &w.nodes[at]
		member := at
		at = n.Next
		name := w.data[n.NameStart:n.NameEnd]
		if n.NameEscaped {
			name = w.doc.Name(int(member))
		}
		if t.seen&nameBit(name) == 0 {
			continue // certainly none of the tree's
		}
		i := next
		for i < len(children) && string(name) != children[i].name {
			i++
		}
		if i == len(children) {
			for i := range children[:next] {
				if string(name) == children[i].name {
					return false
				}
			}
			continue
		}
		c := &children[i]
		next = i + 1
		whole := c.tree.keep && len(c.tree.children) == 0
		if whole && w.onlyValues && n.Kind <= jsondoc.Array && w.holdsObject(int(member)) {
			w.object = true
			continue
		}
		start := n.NameStart - 1
		asSpelled := w.learn == nil && !n.NameEscaped && len(c.prefix) == len(name)+len(`"":`) && n.Start == n.NameEnd+uint32(len(`":`))
		if whole && asSpelled && from > 0 && start == to+1 { // the one byte between them is a comma
			to = n.End
			continue
		}
		if from > 0 {
			w.dst = append(append(w.dst, w.data[from:to]...), ',')
			from = 0
		}
		if whole && asSpelled {
			from, to = start, n.End
		} else {
			w.member(c.prefix, &c.tree, int(member))
		}
	}
	if from > 0 {
		w.dst = append(append(w.dst, w.data[from:to]...), ',')
	}
	return true
}

// maxSlots is how many names of one object are found in one pass.
const maxSlots = 32

// allowed writes the members that the tree names, in the tree's order, each
// with a comma after it. It goes through the record's members once, noting
// where each name is. The search for a name among the tree's begins after the
// one found last.
func (w *writer) allowed(t *tree, object int) {
	var slots [maxSlots]uint32 // by child; 0 is the root, and so nobody's
	for from := 0; from < len(t.children); from += maxSlots {
		children := t.children[from:min(from+maxSlots, len(t.children))]
		next := 0
		for at, end := uint32(object)+1, w.nodes[object].Next; at < end; {
			n := &w.nodes[at]
			member := at
			at = n.Next
			name := w.data[n.NameStart:n.NameEnd]
			if n.NameEscaped {
				name = w.doc.Name(int(member))
			}
			if t.seen&nameBit(name) == 0 {
				continue // certainly none of the tree's
			}
			for range children {
				if next == len(children) {
					next = 0
				}
				c := &children[next]
				next++
				if string(name) == c.name {
					slots[next-1] = member
					break
				}
			}
		}
		for i := range children {
			if slots[i] != 0 {
				w.member(children[i].prefix, &children[i].tree, int(slots[i]))
				slots[i] = 0
			}
		}
	}
}

// remaining writes the members that the tree does not cut, in the record's
// order, each with a comma after it.
func (w *writer) remaining(t *tree, object int) {
	end := int(w.nodes[object].Next)
next:
	for at := object + 1; at < end; at = int(w.nodes[at].Next) {
		name := w.doc.Name(at)
		for i := range t.children {
			if c := &t.children[i]; string(name) == c.name {
				if !c.cut {
					w.member(c.prefix, &c.tree, at)
				}
				continue next
			}
		}
		n := &w.nodes[at]
		if n.NameEscaped {
			w.dst = appendName(w.dst, name)
		} else { // the one spelling already
			w.dst = append(w.dst, w.data[n.NameStart-1:n.NameEnd+1]...)
		}
		w.dst = append(w.dst, ':')
		w.copy(at)
		w.dst = append(w.dst, ',')
	}
}

func (w *writer) member(prefix []byte, t *tree, i int) {
	start := len(w.dst)
	w.dst = append(w.dst, prefix...)
	if w.value(t, i) {
		w.dst = append(w.dst, ',')
	} else {
		w.back(start)
	}
}
