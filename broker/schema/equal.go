package schema

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"math/big"
	"slices"

	"datafordeler/broker/jsondoc"
)

// literalValue is a constant of the schema's.
type literalValue struct {
	kind   jsondoc.Kind
	text   string
	number exact
	items  []literalValue
	// names and below are an object's members.
	names []string
	below []literalValue
}

// newLiteral takes what literal reports true for.
func newLiteral(v any) literalValue {
	switch v := v.(type) {
	case bool:
		if v {
			return literalValue{kind: jsondoc.True}
		}
		return literalValue{kind: jsondoc.False}
	case string:
		return literalValue{kind: jsondoc.String, text: v}
	case json.Number:
		r, _ := new(big.Rat).SetString(string(v))
		return literalValue{kind: jsondoc.Number, number: newExact(r)}
	case []any:
		out := literalValue{kind: jsondoc.Array}
		for _, v := range v {
			out.items = append(out.items, newLiteral(v))
		}
		return out
	case map[string]any:
		out := literalValue{kind: jsondoc.Object}
		for _, name := range sorted(v) {
			out.names = append(out.names, name)
			out.below = append(out.below, newLiteral(v[name]))
		}
		return out
	}
	return literalValue{kind: jsondoc.Null}
}

// choice is the values of an enum or const. Which of true, false and null are
// among them the node's kinds say already.
type choice struct {
	texts  names
	others []literalValue // numbers, arrays, objects
}

func (r *Run) chosen(c *choice, kind jsondoc.Kind, i uint32) bool {
	switch kind {
	case jsondoc.String:
		return c.texts.find(r.stringAt(i)) != nil
	case jsondoc.Number, jsondoc.Array, jsondoc.Object:
		for j := range c.others {
			if r.equals(&c.others[j], i) {
				return true
			}
		}
		return false
	}
	return true
}

// equals compares a node with a constant: numbers by value, so that 1.0 is 1.
func (r *Run) equals(l *literalValue, i uint32) bool {
	n := &r.nodes[i]
	if n.Kind != l.kind {
		return false
	}
	switch n.Kind {
	case jsondoc.String:
		return string(r.stringAt(i)) == l.text
	case jsondoc.Number:
		num, ok := parseNumber(r.data[n.Start:n.End])
		if !ok {
			r.failed = true
			return false
		}
		return num.cmp(&l.number) == 0
	case jsondoc.Array:
		at := i + 1
		for j := range l.items {
			if at >= n.Next || !r.equals(&l.items[j], at) {
				return false
			}
			at = r.nodes[at].Next
		}
		return at >= n.Next
	case jsondoc.Object:
		count := 0
		for at := i + 1; at < n.Next; at = r.nodes[at].Next {
			count++
		}
		if count != len(l.names) {
			return false
		}
		for j, name := range l.names {
			member := r.doc.Find(int(i), name)
			if member < 0 || !r.equals(&l.below[j], uint32(member)) {
				return false
			}
		}
	}
	return true
}

// item is an element of an array, for uniqueItems.
type item struct {
	hash uint64
	node uint32
}

// unique reports whether no two elements of an array are equal. Elements are
// compared where their hashes are the same; the hash is seeded, so that nobody
// can aim at it.
func (r *Run) unique(array uint32, count int) bool {
	if !r.ready {
		r.seed, r.ready = maphash.MakeSeed(), true
	}
	// Nothing below asks for uniqueness while this is at work.
	items := r.items[:0]
	for at := array + 1; at < r.nodes[array].Next; at = r.nodes[at].Next {
		items = append(items, item{r.hash(at), at})
	}
	r.items = items
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.hash, b.hash) })
	for i := range items {
		for j := i + 1; j < len(items) && items[j].hash == items[i].hash; j++ {
			if r.same(items[i].node, items[j].node) {
				return false
			}
		}
	}
	return true
}

// hash is equal for equal values.
func (r *Run) hash(i uint32) uint64 {
	n := &r.nodes[i]
	var b [16]byte
	b[0] = byte(n.Kind)
	switch n.Kind {
	case jsondoc.String:
		return maphash.Bytes(r.seed, r.stringAt(i))
	case jsondoc.Number:
		num, ok := parseNumber(r.data[n.Start:n.End])
		if !ok {
			r.failed = true
			return 0
		}
		d, short := num.dec, num.rat == nil
		if !short {
			d, short = ratDecimal(num.rat)
		}
		if !short {
			return maphash.String(r.seed, num.rat.String())
		}
		d = d.compact()
		b[1] = d.scale
		binary.LittleEndian.PutUint64(b[8:], uint64(d.m))
	case jsondoc.Array:
		var h uint64
		for at := i + 1; at < n.Next; at = r.nodes[at].Next {
			h = r.mix(h, r.hash(at))
		}
		binary.LittleEndian.PutUint64(b[8:], h)
	case jsondoc.Object:
		var h uint64 // a sum, since the order of members is none
		for at := i + 1; at < n.Next; at = r.nodes[at].Next {
			h += r.mix(maphash.Bytes(r.seed, r.doc.Name(int(at))), r.hash(at))
		}
		binary.LittleEndian.PutUint64(b[8:], h)
	}
	return maphash.Bytes(r.seed, b[:])
}

func (r *Run) mix(a, b uint64) uint64 {
	var pair [16]byte
	binary.LittleEndian.PutUint64(pair[:], a)
	binary.LittleEndian.PutUint64(pair[8:], b)
	return maphash.Bytes(r.seed, pair[:])
}

// same compares two nodes.
func (r *Run) same(i, j uint32) bool {
	a, b := &r.nodes[i], &r.nodes[j]
	if a.Kind != b.Kind {
		return false
	}
	switch a.Kind {
	case jsondoc.String:
		if !a.Escaped && !b.Escaped {
			return string(r.data[a.Start:a.End]) == string(r.data[b.Start:b.End])
		}
		r.other = r.doc.AppendText(r.other[:0], int(j))
		return string(r.stringAt(i)) == string(r.other)
	case jsondoc.Number:
		x, ok1 := parseNumber(r.data[a.Start:a.End])
		y, ok2 := parseNumber(r.data[b.Start:b.End])
		if !ok1 || !ok2 {
			r.failed = true
			return true
		}
		if x.rat == nil && y.rat == nil {
			return x.dec.cmp(y.dec) == 0
		}
		return x.rational().Cmp(y.rational()) == 0
	case jsondoc.Array:
		p, q := i+1, j+1
		for p < a.Next && q < b.Next {
			if !r.same(p, q) {
				return false
			}
			p, q = r.nodes[p].Next, r.nodes[q].Next
		}
		return p >= a.Next && q >= b.Next
	case jsondoc.Object:
		// Members mostly stand in the same order: the next one is tried first.
		members, q := 0, j+1
		for p := i + 1; p < a.Next; p = r.nodes[p].Next {
			name := r.doc.Name(int(p))
			if q >= b.Next || string(r.doc.Name(int(q))) != string(name) {
				found := r.doc.Find(int(j), string(name))
				if found < 0 {
					return false
				}
				q = uint32(found)
			}
			if !r.same(p, q) {
				return false
			}
			q = r.nodes[q].Next
			members++
		}
		for q := j + 1; q < b.Next; q = r.nodes[q].Next {
			members--
		}
		return members == 0
	}
	return true
}
