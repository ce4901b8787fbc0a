package match

import (
	"slices"

	"datafordeler/broker"
)

// node is where subscriptions lie that are filed alike: by the value of one
// attribute each, or together for want of a better.
type node struct {
	rest []leaf // in order of name
	by   []branch
}

// branch files by the values of the attribute at one position.
type branch struct {
	position int
	values   map[string]*node
}

// leaf is an entry, and which of its needs the way there has not met: a bit for
// each of the first 64. Those after are always tested.
type leaf struct {
	*entry
	tests  uint64
	number int32 // the entry's, so that one that is met all the way is not looked at
	met    bool  // no test is left
}

func newLeaf(p *placed) leaf {
	return leaf{p.entry, p.tests, p.number, p.tests == 0 && len(p.needs) <= maskBits}
}

const maskBits = 64

func (e *entry) all() uint64 {
	if len(e.needs) >= maskBits {
		return ^uint64(0)
	}
	return 1<<len(e.needs) - 1
}

// placed is an entry on its way down the tree, in so many copies.
type placed struct {
	*entry
	tests  uint64
	copies int
}

const (
	// few are tested one by one sooner than they are looked up.
	few = 8
	// maxCopies bounds the places that one entry with long lists is filed in
	// below its first attribute.
	maxCopies = 64
)

type attributeValue struct {
	position int
	value    string
}

// grow files a list, in order of name, by attributes that are not used yet. Each
// entry goes by that need of which the most crowded value is shared with the
// fewest others, so that what they all ask for parts nobody, and what is their own
// finds them.
func grow(list []placed, used []int) *node {
	n := &node{}
	if len(list) <= few && len(used) > 0 {
		for i := range list {
			n.rest = append(n.rest, newLeaf(&list[i]))
		}
		return n
	}
	fileable := func(p *placed, i int) bool {
		x := &p.needs[i]
		return i < maskBits && !x.none && !slices.Contains(used, x.position) &&
			(len(used) == 0 || p.copies*len(x.values) <= max(maxCopies, p.copies))
	}
	crowd := map[attributeValue]int{}
	for i := range list {
		p := &list[i]
		for j := range p.needs {
			if fileable(p, j) {
				for _, v := range p.needs[j].values {
					crowd[attributeValue{p.needs[j].position, v}]++
				}
			}
		}
	}
	under := make(map[attributeValue][]placed, len(crowd))
	for i := range list {
		p := list[i]
		best, least := -1, 0
		for j := range p.needs {
			if !fileable(&p, j) {
				continue
			}
			x, most := &p.needs[j], 0
			for _, v := range x.values {
				most = max(most, crowd[attributeValue{x.position, v}])
			}
			if best < 0 || most < least || most == least && len(x.values) < len(p.needs[best].values) {
				best, least = j, most
			}
		}
		if best < 0 {
			n.rest = append(n.rest, newLeaf(&p))
			continue
		}
		x := &p.needs[best]
		p.tests &^= 1 << best
		p.copies *= len(x.values)
		for _, v := range x.values {
			k := attributeValue{x.position, v}
			under[k] = append(under[k], p)
		}
	}
	for k, below := range under {
		i := slices.IndexFunc(n.by, func(b branch) bool { return b.position == k.position })
		if i < 0 {
			i = len(n.by)
			n.by = append(n.by, branch{k.position, map[string]*node{}})
		}
		n.by[i].values[k.value] = grow(below, append(slices.Clip(used), k.position))
	}
	return n
}

// match appends the numbers of the entries that hold. lists is how many lists they
// come from, each in order of name: 2 stands for more.
func (n *node) match(dst []int32, rec *broker.Record) (_ []int32, lists int) {
	from := len(dst)
	for i := range n.rest {
		if l := &n.rest[i]; l.met || l.holds(rec, l.tests) {
			dst = append(dst, l.number)
		}
	}
	if len(dst) > from {
		lists = 1
	}
	for i := range n.by {
		b := &n.by[i]
		if below := b.values[value(rec, b.position)]; below != nil {
			var more int
			dst, more = below.match(dst, rec)
			lists += more
		}
	}
	return dst, min(lists, 2)
}
