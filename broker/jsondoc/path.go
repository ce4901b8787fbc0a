package jsondoc

// Path leads from the root by member names. Where it meets an array on the
// way it goes on in every element. The empty path is the root itself.
type Path []string

// Each calls fn with the index of every node that the path reaches, in the
// order of the document, until fn returns false. An array at the path's end is
// one node; see Scalars for its elements.
func (p Path) Each(d *Doc, fn func(node int) bool) {
	if len(d.nodes) > 0 {
		p.each(d, 0, fn)
	}
}

func (p Path) each(d *Doc, i int, fn func(node int) bool) bool {
	if len(p) == 0 {
		return fn(i)
	}
	switch n := &d.nodes[i]; n.Kind {
	case Object:
		if member := d.Find(i, p[0]); member >= 0 {
			return p[1:].each(d, member, fn)
		}
	case Array:
		for e := uint32(i) + 1; e < n.Next; e = d.nodes[e].Next {
			if !p.each(d, int(e), fn) {
				return false
			}
		}
	}
	return true
}

// Scalars is Each with arrays at the path's end gone through as well, so that
// fn gets no arrays.
func (p Path) Scalars(d *Doc, fn func(node int) bool) {
	p.Each(d, func(i int) bool { return d.Scalars(i, fn) })
}

// Scalars calls fn with a node, or where that is an array with its elements,
// arrays among them gone through as well, until fn returns false. It reports
// whether fn never did.
func (d *Doc) Scalars(i int, fn func(node int) bool) bool {
	n := &d.nodes[i]
	if n.Kind != Array {
		return fn(i)
	}
	for e := uint32(i) + 1; e < n.Next; e = d.nodes[e].Next {
		if !d.Scalars(int(e), fn) {
			return false
		}
	}
	return true
}
