package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker"
)

// place is where a pointer leads to in a schema: the schemas that say something
// of the value there, each with how much it binds. A location that two routes
// lead to (through a member or through an array's elements) is two places.
type place map[*jsonschema.Schema]hold

// hold is how much a schema binds the value at a place.
type hold int

const (
	named  hold = iota + 1 // the value may have any shape: an if, a contains
	partly                 // it follows this one or another: an anyOf, a then
	wholly                 // it follows this one
)

// shape is what a value may be, as a set. What tells apart what a rights package
// may name is whether an object can stand in it.
type shape uint8

const (
	scalar shape = 1 << iota // and null
	flat                     // an array of scalars
	deep                     // any other array
	object
	anything = scalar | flat | deep | object
	leaf     = scalar | flat
)

// reaches reports whether the schema declares a place that the pointer leads to:
// by a member's name, through references, alternatives and conditions, and
// through every array on the way, as broker.Pointer does. A schema that merely
// does not forbid a member has not declared it; one that says
// additionalProperties: true, or gives them a schema, has.
func reaches(s *jsonschema.Schema, p broker.Pointer) bool {
	return len(places(s, p)) > 0
}

// places are those that the pointer leads to.
func places(s *jsonschema.Schema, p broker.Pointer) []place {
	tokens, err := p.Tokens()
	if err != nil {
		return nil
	}
	w := walk{seen: map[string]bool{}}
	at := place{}
	at.add(s, wholly)
	w.from(at, tokens)
	return w.found
}

type walk struct {
	found []place
	seen  map[string]bool // to meet a place again is to go in a circle of references
}

func (w *walk) from(at place, tokens []string) {
	key := fmt.Sprint(len(tokens), at.key())
	if len(at) == 0 || w.seen[key] {
		return
	}
	w.seen[key] = true
	if len(tokens) == 0 {
		w.found = append(w.found, at)
		return
	}
	w.from(at.member(tokens[0]), tokens[1:])
	w.from(at.elements(), tokens)
}

// key tells places apart.
func (at place) key() string {
	var s []string
	for k, h := range at {
		s = append(s, fmt.Sprintf("%p %d", k, h))
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

// add adds a schema and those that a value which follows it follows too.
func (at place) add(s *jsonschema.Schema, h hold) {
	if s == nil || at[s] >= h || s.Bool != nil && !*s.Bool {
		return
	}
	at[s] = h
	at.add(s.Ref, h)
	at.add(s.RecursiveRef, h)
	if s.DynamicRef != nil {
		at.add(s.DynamicRef.Ref, min(h, partly))
	}
	for _, n := range s.AllOf {
		at.add(n, h)
	}
	for _, n := range slices.Concat(s.AnyOf, s.OneOf, []*jsonschema.Schema{s.Then, s.Else}, slices.Collect(maps.Values(s.DependentSchemas))) {
		at.add(n, min(h, partly))
	}
	for _, d := range s.Dependencies {
		if n, ok := d.(*jsonschema.Schema); ok {
			at.add(n, min(h, partly))
		}
	}
	at.add(s.If, named)
}

// member is the place of an object's member.
func (at place) member(name string) place {
	to := place{}
	for s, h := range at {
		known := false
		if p, ok := s.Properties[name]; ok {
			known = true
			to.add(p, h)
		}
		for re, p := range s.PatternProperties {
			if re.MatchString(name) {
				known = true
				to.add(p, h)
			}
		}
		if known {
			continue
		}
		switch v := s.AdditionalProperties.(type) {
		case bool:
			if v {
				to.add(open, h)
			}
		case *jsonschema.Schema:
			to.add(v, h)
		default:
			to.add(s.UnevaluatedProperties, min(h, partly))
		}
	}
	return to
}

// open is what additionalProperties: true says of a member.
var open = &jsonschema.Schema{Bool: new(true)}

// elements is the place of an array's elements.
func (at place) elements() place {
	to := place{}
	for s, h := range at {
		first, rest := tuple(s)
		if len(first) > 0 {
			h = min(h, partly)
		}
		for _, p := range first {
			to.add(p, h)
		}
		to.add(rest, h)
		to.add(s.UnevaluatedItems, min(h, partly))
		to.add(s.Contains, named)
	}
	return to
}

// tuple is what a schema says of an array's first elements, one by one, and of
// the rest; nil says nothing.
func tuple(s *jsonschema.Schema) (first []*jsonschema.Schema, rest *jsonschema.Schema) {
	switch v := s.Items.(type) {
	case *jsonschema.Schema:
		return nil, v
	case []*jsonschema.Schema:
		switch a := s.AdditionalItems.(type) {
		case bool:
			return v, &jsonschema.Schema{Bool: &a}
		case *jsonschema.Schema:
			return v, a
		}
		return v, nil
	}
	return s.PrefixItems, s.Items2020
}

// shape is what a value at the place may be. Where no schema binds it wholly it
// may be what any of those allows that declare it.
func (at place) shape() shape {
	all, some, bound := anything, shape(0), false
	for s, h := range at {
		switch h {
		case wholly:
			bound = true
			all &= shapes{}.of(s)
		case partly:
			some |= shapes{}.of(s)
		default:
			some = anything
		}
	}
	if bound {
		return all
	}
	return some
}

// of is what a value that follows the schema may be, or more: what cannot be
// told without a record is taken to be possible, and so is what a circle of
// references comes back to.
func (known shapes) of(s *jsonschema.Schema) shape {
	if s == nil {
		return anything
	}
	if is, ok := known[s]; ok {
		return is
	}
	known[s] = anything
	is := known.all(s)
	known[s] = is
	return is
}

// shapes are those known, or being found, so that each is found once.
type shapes map[*jsonschema.Schema]shape

func (known shapes) all(s *jsonschema.Schema) shape {
	if s.Bool != nil {
		if *s.Bool {
			return anything
		}
		return 0
	}
	is := anything
	if s.Types != nil {
		is &= shapeOfTypes(s.Types.ToStrings())
	}
	if s.Const != nil {
		is &= shapeOfValue(*s.Const)
	}
	if s.Enum != nil {
		var any shape
		for _, v := range s.Enum.Values {
			any |= shapeOfValue(v)
		}
		is &= any
	}
	first, rest := tuple(s)
	each := known.of(rest)
	for _, e := range first {
		each |= known.of(e)
	}
	if each&^scalar == 0 {
		is &^= deep
	}
	if s.Ref != nil {
		is &= known.of(s.Ref)
	}
	for _, n := range s.AllOf {
		is &= known.of(n)
	}
	for _, alternatives := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
		var any shape
		for _, n := range alternatives {
			any |= known.of(n)
		}
		if len(alternatives) > 0 {
			is &= any
		}
	}
	if s.If != nil {
		is &= known.of(s.Then) | known.of(s.Else)
	}
	return is
}

func shapeOfTypes(types []string) (is shape) {
	for _, t := range types {
		switch t {
		case "object":
			is |= object
		case "array":
			is |= flat | deep
		default:
			is |= scalar
		}
	}
	return is
}

func shapeOfValue(v any) shape {
	switch v := v.(type) {
	case map[string]any:
		return object
	case []any:
		for _, e := range v {
			if shapeOfValue(e) != scalar {
				return deep
			}
		}
		return flat
	}
	return scalar
}

// isLeaf reports whether a value that the pointer leads to is a scalar, or an
// array of scalars, wherever a version declares it: then no schema version can
// add to what leaves by it.
func isLeaf(versions []*jsonschema.Schema, p broker.Pointer) bool {
	for _, s := range versions {
		for _, at := range places(s, p) {
			if at.shape()&^leaf != 0 {
				return false
			}
		}
	}
	return true
}

// Bounds of the search for leaves, so that a schema that refers to itself ends.
const (
	maxLeaves    = 20
	maxLeafDepth = 12
	maxLeafSteps = 5_000
)

// leavesBelow are the declared leaves below a pointer, by name; more reports that
// there are others.
func leavesBelow(versions []*jsonschema.Schema, p broker.Pointer) (leaves []broker.Pointer, more bool) {
	found := map[broker.Pointer]bool{}
	for _, s := range versions {
		steps := maxLeafSteps
		for _, at := range places(s, p) {
			at.leaves(p, maxLeafDepth, &steps, map[string]bool{}, found)
		}
	}
	for _, f := range slices.Sorted(maps.Keys(found)) {
		if !isLeaf(versions, f) {
			continue
		}
		if len(leaves) == maxLeaves {
			return leaves, true
		}
		leaves = append(leaves, f)
	}
	return leaves, false
}

// leaves notes the leaves at and below a place. within are the places above: what
// stands below one of them again has no end of names.
func (at place) leaves(p broker.Pointer, depth int, steps *int, within map[string]bool, found map[broker.Pointer]bool) {
	key := at.key()
	if *steps--; *steps < 0 || depth == 0 || len(at) == 0 || within[key] {
		return
	}
	if at.shape()&^leaf == 0 {
		found[p] = true
		return
	}
	within[key] = true
	defer delete(within, key)
	names := map[string]bool{}
	for s := range at {
		for name := range s.Properties {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		at.member(name).leaves(p+"/"+broker.Pointer(escape.Replace(name)), depth-1, steps, within, found)
	}
	at.elements().leaves(p, depth-1, steps, within, found)
}

// escape writes a name as a token of a JSON Pointer (RFC 6901, section 3).
var escape = strings.NewReplacer("~", "~0", "/", "~1")
