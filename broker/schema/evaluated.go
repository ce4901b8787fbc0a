package schema

import "datafordeler/broker/jsondoc"

// unevaluated is what unevaluatedProperties and unevaluatedItems ask of the
// members and elements that no other keyword has evaluated.
type unevaluated struct {
	members, elements       *node
	hasMembers, hasElements bool
}

func (u *unevaluated) concerns(kind jsondoc.Kind) bool {
	return kind == jsondoc.Object && u.hasMembers || kind == jsondoc.Array && u.hasElements
}

// frame is where a schema marks the members of an object or the elements of an
// array, by their order, that it has evaluated. The empty frame takes no marks:
// nobody asks, or there is nothing to mark.
type frame struct{ at, words int32 }

// open makes a frame for a value upon those in use.
func (r *Run) open(i uint32) frame {
	count := 0
	for at := i + 1; at < r.nodes[i].Next; at = r.nodes[at].Next {
		count++
	}
	return r.push(int32(count+63) / 64)
}

func (r *Run) push(words int32) frame {
	f := frame{int32(len(r.marks)), words}
	for range words {
		r.marks = append(r.marks, 0)
	}
	return f
}

// close takes away the frame that was made last.
func (r *Run) close(f frame) { r.marks = r.marks[:f.at] }

func (r *Run) mark(f frame, child int) {
	r.marks[int(f.at)+child>>6] |= 1 << (child & 63)
}

// applyRest holds a value to a node that asks something of what is left
// unevaluated. To whoever is outside all of it is evaluated then.
func (r *Run) applyRest(n *node, kind jsondoc.Kind, i uint32, outer frame) bool {
	f := r.open(i)
	ok := r.body(n, kind, i, f) && r.remaining(n, kind, i, f)
	r.close(f)
	if ok {
		for w := range outer.words {
			r.marks[outer.at+w] = ^uint64(0)
		}
	}
	return ok
}

func (r *Run) remaining(n *node, kind jsondoc.Kind, i uint32, f frame) bool {
	below := n.rest.members
	if kind == jsondoc.Array {
		below = n.rest.elements
	}
	child := 0
	for at := i + 1; at < r.nodes[i].Next; at = r.nodes[at].Next {
		if r.marks[int(f.at)+child>>6]>>(child&63)&1 == 0 && !r.eval(below, at) {
			return false
		}
		child++
	}
	return true
}

// within is eval for a schema that has to hold, applied to the same value: what
// it evaluates counts.
func (r *Run) within(n *node, i uint32, f frame) bool {
	if f.words == 0 || n == nil {
		return r.eval(n, i)
	}
	return r.apply(n, i, f)
}

// perhaps is within for a schema that need not hold: what it evaluates counts
// where it does.
func (r *Run) perhaps(n *node, i uint32, f frame) bool {
	if f.words == 0 || n == nil {
		return r.eval(n, i)
	}
	own := r.push(f.words)
	ok := r.apply(n, i, own)
	if ok {
		for w := range f.words {
			r.marks[f.at+w] |= r.marks[own.at+w]
		}
	}
	r.close(own)
	return ok
}
