package minimise

import (
	"errors"

	"datafordeler/broker/jsondoc"
)

// ErrNotObject says that a payload is not a JSON object, so that nothing in it
// has a name to be allowed by.
var ErrNotObject = errors.New("the payload is not a JSON object: a rights package allows by name")

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
// error dst comes back as it was, and the record must be denied with
// broker.ReasonNotMinimisable.
func (p *Projection) Append(dst []byte, doc *jsondoc.Doc, attributes []string) ([]byte, bool, error) {
	shielded := p.Shields(attributes)
	if doc.Len() == 0 || doc.Node(0).Kind != jsondoc.Object {
		return dst, shielded, ErrNotObject
	}
	w := writer{doc: doc, nodes: doc.Nodes(), data: doc.Data(), dst: dst}
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
	return append(w.dst, '}'), shielded, nil
}

// writer appends to dst; what turns out to be empty is taken back.
type writer struct {
	doc   *jsondoc.Doc
	nodes []jsondoc.Node
	data  []byte
	dst   []byte
}

// value writes what the tree allows of a node, and reports whether anything was.
func (w *writer) value(t *tree, i int) bool {
	n := &w.nodes[i]
	if t.keep && len(t.children) == 0 {
		w.dst = append(w.dst, w.data[n.Start:n.End]...)
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
			w.dst = append(w.dst, w.data[n.Start:n.End]...)
			return true
		}
	}
	w.dst = w.dst[:start]
	return false
}

// members writes what the tree allows of an object's members, without the braces.
func (w *writer) members(t *tree, object int) {
	start := len(w.dst)
	if t.keep {
		w.remaining(t, object)
	} else {
		w.allowed(t, object)
	}
	if last := len(w.dst) - 1; last >= start {
		w.dst = w.dst[:last] // the comma
	}
}

// allowed writes the members that the tree names, in the tree's order, each
// with a comma after it. The search for a name begins after the last one
// found: records tend to have their members in the package's order, and are
// then gone through once.
func (w *writer) allowed(t *tree, object int) {
	first, end := object+1, int(w.nodes[object].Next)
	if first == end {
		return
	}
	at := first
	for i := range t.children {
		c := &t.children[i]
		begin := at
		for {
			n := &w.nodes[at]
			var found bool
			if n.NameEscaped {
				found = string(w.doc.Name(at)) == c.name
			} else {
				found = string(w.data[n.NameStart:n.NameEnd]) == c.name
			}
			member := at
			if at = int(n.Next); at == end {
				at = first
			}
			if found {
				w.member(c.prefix, &c.tree, member)
				break
			}
			if at == begin {
				break // not there
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
		w.dst = append(w.dst, w.data[n.Start:n.End]...)
		w.dst = append(w.dst, ',')
	}
}

func (w *writer) member(prefix []byte, t *tree, i int) {
	start := len(w.dst)
	w.dst = append(w.dst, prefix...)
	if w.value(t, i) {
		w.dst = append(w.dst, ',')
	} else {
		w.dst = w.dst[:start]
	}
}
