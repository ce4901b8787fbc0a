// Package minimise cuts a record down to what a rights package lets leave.
//
// # What leaves
//
// A package is an allow-list of JSON Pointers. A value leaves when a pointer
// names it or something above it, and leaves as it was written: digits,
// escapes and inner white space byte for byte. Nothing else leaves, and
// nothing else shows in what does. Two records that differ only outside the
// package give the same bytes. From that follows the rest:
//
//   - Objects and arrays on the way to an allowed value are written anew,
//     without white space, with the members in the package's order and each
//     name in one spelling.
//   - An object on the way that holds no allowed value is left out, and so is
//     an element or array of which nothing remains. An empty "adresse": {} or
//     an empty place in a list would tell that something was there. A consumer
//     that may know how many elements there are must be allowed the list.
//   - A value on the way that is neither object nor array is not allowed by a
//     pointer to something below it, and is left out.
//   - What a pointer reaches is allowed whole, null and empty lists included.
//     The registry takes only pointers to single values, and lists of them, by
//     every schema version that declares them, so that "whole" has no members.
//
// The order of elements is kept, and so is which allowed values stand together
// in one element: that is what the pointers say together.
//
// # Shielding
//
// Where the package's condition holds for the record's attributes, the shielded
// fields are removed as well, also from within values that are otherwise
// allowed whole; objects on the way to them are then written anew. The record
// begins with "skjermet":true. That name at the root belongs to the broker: a
// payload's own member of that name never leaves, and a package cannot ask for
// it, so that "skjermet" in a delivery always means that the broker shielded it.
//
// If it cannot be told whether the condition holds, because the attribute is
// missing or empty, the record is shielded, unless the condition itself names
// the empty string. The registry takes only conditions that say who is not
// protected, by notIn and never the empty string: every other spelling shields.
package minimise

import (
	"fmt"
	"slices"
	"strings"

	"datafordeler/broker"
)

// Mark is the member that tells that the broker shielded a record.
const Mark = "skjermet"

// Projection is a rights package, compiled. It is read-only and may be used by
// any number of goroutines.
type Projection struct {
	open   tree // for records that are not shielded
	fields []broker.Pointer

	shielding      bool
	when           broker.Condition
	attribute      int // in Record.Attributes
	body           bool
	shielded       tree
	shieldedFields []broker.Pointer

	onlyValues bool // see OnlyValues

	answers *answers // nil where nothing is derived
}

// tree is an allow-list or, below a value that is kept whole, a list of what
// is cut out of it.
type tree struct {
	// keep: the value is allowed whole, but for the cuts below.
	keep bool
	// children on the way; where keep is set they are all cuts.
	children []child
	seen     uint64 // nameBit of each child's name
}

type child struct {
	name   string // unescaped
	prefix []byte // the name in its one spelling, with the colon
	cut    bool   // the value is removed
	tree   tree
}

// Compile prepares a package for the records of its dataset. It is an error
// when a pointer is malformed or names the mark, or when shielding removes
// nothing or depends on an attribute that the dataset does not declare.
func Compile(p *broker.RightsPackage, ds *broker.Dataset) (*Projection, error) {
	fail := func(err error) (*Projection, error) {
		return nil, fmt.Errorf("rights package %s version %d: %w", p.ID, p.Version, err)
	}
	if p.Dataset != ds.ID {
		return fail(fmt.Errorf("it is for dataset %q, not %q", p.Dataset, ds.ID))
	}
	var open tree
	for _, f := range p.Fields {
		tokens, err := f.Tokens()
		if err != nil {
			return fail(fmt.Errorf("field: %w", err))
		}
		if len(tokens) > 0 && tokens[0] == Mark {
			return fail(fmt.Errorf("field %q: the member %q is the broker's own, set when it shields a record; leave it out", f, Mark))
		}
		open.allow(tokens)
	}
	out := &Projection{open: open.reserveMark(), fields: minimal(p.Fields)}
	s := p.Shielding
	if s == nil {
		return out.deriving(p)
	}
	out.shielding, out.when, out.body = true, s.When, s.Body
	if out.attribute = ds.AttributeIndex(s.When.Attribute); out.attribute < 0 {
		return fail(fmt.Errorf("shielding depends on the attribute %q, which dataset %q does not declare", s.When.Attribute, ds.ID))
	}
	if len(s.When.In) == 0 && len(s.When.NotIn) == 0 {
		return fail(fmt.Errorf("shielding: the condition on %q lists no values; give in or notIn", s.When.Attribute))
	}
	if len(s.Remove) == 0 && !s.Body {
		return fail(fmt.Errorf("shielding removes nothing; name the fields in remove, or set body"))
	}
	shielded := open.clone()
	for _, f := range s.Remove {
		tokens, err := f.Tokens()
		if err != nil {
			return fail(fmt.Errorf("shielding: %w", err))
		}
		if len(tokens) == 0 {
			out.body = true
			break
		}
		shielded.remove(tokens)
	}
	out.shieldedFields = []broker.Pointer{"/" + Mark}
	if !out.body {
		out.shielded = shielded.reserveMark()
		for _, f := range out.fields {
			if !slices.ContainsFunc(s.Remove, func(r broker.Pointer) bool { return r.Covers(f) }) {
				out.shieldedFields = append(out.shieldedFields, f)
			}
		}
	}
	return out.deriving(p)
}

// Fields are the pointers of what can leave, none of them below another. For
// a shielded record they begin with the mark; a field from within which
// shielding removes something is still listed.
func (p *Projection) Fields(shielded bool) []broker.Pointer {
	if shielded && p.shielding {
		return p.shieldedFields
	}
	return p.fields
}

// minimal leaves out pointers that another one covers, keeping the order.
func minimal(fields []broker.Pointer) []broker.Pointer {
	var out []broker.Pointer
	for i, f := range fields {
		covered := false
		for j, g := range fields {
			covered = covered || (g != f && g.Covers(f)) || (g == f && j < i)
		}
		if !covered {
			out = append(out, f)
		}
	}
	return out
}

func (t *tree) child(name string) *child {
	for i := range t.children {
		if t.children[i].name == name {
			return &t.children[i]
		}
	}
	return nil
}

func (t *tree) add(name string) *child {
	t.seen |= nameBit([]byte(name))
	t.children = append(t.children, child{name: name, prefix: append(appendName(nil, []byte(name)), ':')})
	return &t.children[len(t.children)-1]
}

// allow adds a pointer to an allow-list.
func (t *tree) allow(tokens []string) {
	if t.keep {
		return
	}
	if len(tokens) == 0 {
		t.keep, t.children, t.seen = true, nil, 0
		return
	}
	c := t.child(tokens[0])
	if c == nil {
		c = t.add(tokens[0])
	}
	c.tree.allow(tokens[1:])
}

// remove takes a pointer, of at least one token, out of what is allowed.
func (t *tree) remove(tokens []string) {
	c := t.child(tokens[0])
	switch {
	case !t.keep && c == nil: // not allowed in the first place
	case !t.keep && len(tokens) == 1:
		t.children = slices.DeleteFunc(t.children, func(c child) bool { return c.name == tokens[0] })
	case !t.keep:
		c.tree.remove(tokens[1:])
	default:
		if c == nil {
			c = t.add(tokens[0])
			c.tree.keep = true
		}
		if len(tokens) == 1 {
			c.cut, c.tree = true, tree{keep: true}
		} else if !c.cut {
			c.tree.remove(tokens[1:])
		}
	}
}

// reserveMark cuts the mark's name out of a root that is kept whole.
func (t tree) reserveMark() tree {
	if t.keep {
		t = t.clone()
		t.remove([]string{Mark})
	}
	return t
}

// nameBit is one of 64 bits by a name's length and ends.
func nameBit(name []byte) uint64 {
	h := uint32(len(name))
	if len(name) > 0 {
		h = h<<5 + uint32(name[0]) + uint32(name[len(name)-1])<<2
	}
	return 1 << (h * 0x9E3779B1 >> 26)
}

func (t tree) clone() tree {
	t.children = slices.Clone(t.children)
	for i := range t.children {
		t.children[i].tree = t.children[i].tree.clone()
	}
	return t
}

// appendName writes a name in its one spelling: quoted, with the shortest
// escapes that JSON asks for, all else as UTF-8.
func appendName(dst, name []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range name {
		if i := strings.IndexByte("\"\\\b\f\n\r\t", c); i >= 0 {
			dst = append(dst, '\\', `"\bfnrt`[i])
		} else if c < ' ' {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
