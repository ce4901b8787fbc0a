package schema

import (
	"math"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker/jsondoc"
)

// compiler makes nodes of the library's compiled schemas, in which references
// are resolved and the drafts' rules applied already.
type compiler struct {
	nodes    map[place]*node
	made     []*node
	patterns map[string]*matcher
	count    uint32
	reason   string // why not, of what was met first
	// marks: somewhere unevaluatedProperties or unevaluatedItems asks what
	// other schemas evaluate, so that those that ask nothing count too.
	marks bool
}

// place is what a node is made for: a schema, and where on the watched
// pointers' paths the value lies. Either may be nil.
type place struct {
	s *jsonschema.Schema
	t *trail
}

// trail is a place on the watched pointers' paths.
type trail struct {
	ends  []int // watches whose pointer ends here
	names []string
	below []*trail
	// inside is the same place in an array's elements: nothing ends there,
	// since the array itself is what a pointer leads to.
	inside *trail
}

func newTrail(paths []jsondoc.Path) *trail {
	root := &trail{}
	for i, path := range paths {
		at := root
		for _, name := range path {
			j := slices.Index(at.names, name)
			if j < 0 {
				j = len(at.names)
				at.names, at.below = append(at.names, name), append(at.below, &trail{})
			}
			at = at.below[j]
		}
		at.ends = append(at.ends, i)
	}
	root.setInside()
	if len(paths) == 0 {
		return nil
	}
	return root
}

func (t *trail) setInside() {
	switch {
	case len(t.names) == 0:
	case len(t.ends) == 0:
		t.inside = t
	default:
		t.inside = &trail{names: t.names, below: t.below}
		t.inside.inside = t.inside
	}
	for _, b := range t.below {
		b.setInside()
	}
}

// kinds are sets of jsondoc's.
type kinds uint8

func setOf(list ...jsondoc.Kind) (out kinds) {
	for _, k := range list {
		out |= 1 << k
	}
	return out
}

var allKinds = setOf(jsondoc.Object, jsondoc.Array, jsondoc.String, jsondoc.Number, jsondoc.True, jsondoc.False, jsondoc.Null)

func (k kinds) has(kind jsondoc.Kind) bool { return k>>kind&1 != 0 }

// compile makes the nodes of a schema that survey found nothing unknown in.
func (c *compiler) compile(s *jsonschema.Schema, t *trail) *node {
	n := c.node(s, t)
	for _, n := range c.made {
		n.shared = n.shared && n.composed()
	}
	return n
}

// node compiles a schema for a place; nil is what takes anything and watches
// nothing.
func (c *compiler) node(s *jsonschema.Schema, t *trail) *node {
	if s != nil && s.Bool != nil && *s.Bool {
		s = nil
	}
	if s == nil && t == nil {
		return nil
	}
	// What is nothing but a reference is what it refers to.
	if s != nil && s.Bool == nil && s.Ref != nil && (refOnly(s) || bare(s)) && s.Types == nil && s.Format == nil && len(enumerated(s)) == 0 {
		return c.node(s.Ref, t)
	}
	key := place{s, t}
	if n, ok := c.nodes[key]; ok {
		if n != nil && t == nil {
			n.shared = true // for now: what has nothing below it is not worth a count
		}
		return n
	}
	n := &node{id: c.count, kinds: allKinds}
	c.count++
	c.nodes[key] = n
	if t != nil {
		n.watches = t.ends
	}
	switch {
	case s == nil:
		c.object(n, &jsonschema.Schema{}, t)
		c.array(n, &jsonschema.Schema{}, t)
		return n
	case s.Bool != nil:
		n.kinds = 0
		return n
	}
	c.simple(n, s)
	carrier := c.carrier(s)
	own, passed := t, (*trail)(nil)
	if carrier != nil {
		// What is below is watched by the schema that goes there anyway; what
		// ends here stands at this node.
		own, passed = nil, t.withoutEnds()
	}
	if !refOnly(s) {
		if s.Minimum != nil || s.Maximum != nil || s.ExclusiveMinimum != nil || s.ExclusiveMaximum != nil || s.MultipleOf != nil {
			c.numbers(n, s)
		}
		c.object(n, s, own)
		c.array(n, s, own)
	}
	c.compose(n, s, carrier, passed)
	if !refOnly(s) && (s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil) {
		n.rest = &unevaluated{
			c.node(s.UnevaluatedProperties, nil), c.node(s.UnevaluatedItems, nil),
			s.UnevaluatedProperties != nil, s.UnevaluatedItems != nil,
		}
	}
	c.made = append(c.made, n)
	if n.plain() {
		// Nothing was asked of the value. Whoever holds it already is the
		// schema itself, deeper down; for that it does no harm.
		c.nodes[key] = nil
		return nil
	}
	return n
}

// withoutEnds is the trail without what ends at the place itself.
func (t *trail) withoutEnds() *trail {
	if t == nil || len(t.ends) == 0 {
		return t
	}
	// Kept with the trail, so that the compiler's memo knows it again. In an
	// array's elements it is the same as inside.
	return t.inside
}

// bare: nothing stands beside the reference.
func bare(s *jsonschema.Schema) bool {
	return len(inPlace(s)) == 1 && len(inside(s)) == 0 && len(tracked(s)) == 0 && len(regexps(s)) == 0 &&
		s.MinProperties == nil && s.MaxProperties == nil && s.AdditionalProperties == nil && s.MinItems == nil && s.MaxItems == nil &&
		s.AdditionalItems == nil && !s.UniqueItems && s.MinLength == nil && s.MaxLength == nil && s.Minimum == nil && s.Maximum == nil &&
		s.ExclusiveMinimum == nil && s.ExclusiveMaximum == nil && s.MultipleOf == nil && s.UnevaluatedProperties == nil && s.UnevaluatedItems == nil
}

// carrier is the schema, applied to the same value in any case, that names the
// properties where this one does not: it then watches what lies below, so that
// the value is gone through once. nil where this one does so itself.
func (c *compiler) carrier(s *jsonschema.Schema) *jsonschema.Schema {
	if !refOnly(s) && (len(s.Properties) > 0 || s.Items != nil || s.Items2020 != nil) {
		return nil
	}
	return s.Ref
}

// simple compiles type, enum, const and what is asked of strings.
func (c *compiler) simple(n *node, s *jsonschema.Schema) {
	if s.Types != nil && !s.Types.IsEmpty() {
		n.kinds = 0
		for _, t := range s.Types.ToStrings() {
			switch t {
			case "null":
				n.kinds |= setOf(jsondoc.Null)
			case "boolean":
				n.kinds |= setOf(jsondoc.True, jsondoc.False)
			case "number":
				n.kinds |= setOf(jsondoc.Number)
				n.integer = false
			case "integer":
				n.integer = !n.kinds.has(jsondoc.Number)
				n.kinds |= setOf(jsondoc.Number)
			case "string":
				n.kinds |= setOf(jsondoc.String)
			case "array":
				n.kinds |= setOf(jsondoc.Array)
			case "object":
				n.kinds |= setOf(jsondoc.Object)
			}
		}
	}
	if s.Const != nil {
		c.choice(n, []any{*s.Const})
	}
	if s.Enum != nil {
		c.choice(n, s.Enum.Values)
	}
	var t texts
	if s.Format != nil {
		t.format, _ = newFormat(s.Format)
	}
	t.min, t.max = 0, math.MaxInt
	if !refOnly(s) {
		if s.MinLength != nil {
			t.min = *s.MinLength
		}
		if s.MaxLength != nil {
			t.max = *s.MaxLength
		}
		if s.Pattern != nil {
			t.pattern = c.matcher(s.Pattern)
		}
	}
	if t.format != nil || t.pattern != nil || t.min > 0 || t.max < math.MaxInt {
		n.texts = &t
	}
}

func (c *compiler) matcher(r jsonschema.Regexp) *matcher {
	m := c.patterns[r.String()]
	if m == nil {
		m = newMatcher(r.(*regexp.Regexp))
		c.patterns[r.String()] = m
	}
	return m
}

// choice narrows a node to some values.
func (c *compiler) choice(n *node, values []any) {
	var out choice
	var allowed kinds
	for _, v := range values {
		l := newLiteral(v)
		allowed |= setOf(l.kind)
		switch l.kind {
		case jsondoc.String:
			out.texts.add(l.text)
		case jsondoc.Number, jsondoc.Object, jsondoc.Array:
			out.others = append(out.others, l)
		}
	}
	out.texts.build()
	n.kinds &= allowed
	if n.kinds&setOf(jsondoc.String, jsondoc.Number, jsondoc.Object, jsondoc.Array) != 0 {
		n.choices = append(n.choices, &out)
	}
}

func (c *compiler) numbers(n *node, s *jsonschema.Schema) {
	n.numbers = &numbers{}
	add := func(r *big.Rat, b bound) {
		if r != nil {
			b.exact = newExact(r)
			n.numbers.bounds = append(n.numbers.bounds, b)
		}
	}
	add(s.Minimum, bound{below: true})
	add(s.Maximum, bound{above: true})
	add(s.ExclusiveMinimum, bound{below: true, equal: true})
	add(s.ExclusiveMaximum, bound{above: true, equal: true})
	if s.MultipleOf != nil {
		e := newExact(s.MultipleOf)
		n.numbers.multiple = &e
	}
}

func (c *compiler) object(n *node, s *jsonschema.Schema, t *trail) {
	o := &object{min: 0, max: math.MaxInt}
	for i, name := range tracked(s) {
		o.names.add(name).bit = int16(i)
	}
	bits := func(list []string) (set nameSet) {
		for _, name := range list {
			set.add(o.names.add(name).bit)
		}
		return set
	}
	o.required = bits(s.Required)
	for _, name := range sorted(s.Dependencies) {
		switch d := s.Dependencies[name].(type) {
		case []string:
			o.dependents = append(o.dependents, dependent{bits([]string{name}), bits(d), nil})
		case *jsonschema.Schema:
			o.dependents = append(o.dependents, dependent{bits([]string{name}), nameSet{}, c.node(d, nil)})
		}
	}
	for _, name := range sorted(s.DependentRequired) {
		o.dependents = append(o.dependents, dependent{bits([]string{name}), bits(s.DependentRequired[name]), nil})
	}
	for _, name := range sorted(s.DependentSchemas) {
		o.dependents = append(o.dependents, dependent{bits([]string{name}), nameSet{}, c.node(s.DependentSchemas[name], nil)})
	}
	below := func(name string) *trail {
		if t != nil {
			if i := slices.Index(t.names, name); i >= 0 {
				return t.below[i]
			}
		}
		return nil
	}
	for _, name := range sorted(s.Properties) {
		child := c.node(s.Properties[name], below(name))
		e := o.names.add(name)
		e.property, e.child = true, child
	}
	if t != nil {
		for i, name := range t.names {
			if e := o.names.add(name); !e.property {
				e.child = c.node(nil, t.below[i])
			}
		}
	}
	o.names.build()
	for r, p := range s.PatternProperties {
		o.patterns = append(o.patterns, patterned{c.matcher(r), c.node(p, nil)})
	}
	slices.SortFunc(o.patterns, func(a, b patterned) int { return strings.Compare(a.pattern.re.String(), b.pattern.re.String()) })
	switch additional := s.AdditionalProperties.(type) {
	case bool:
		o.closed = !additional
	case *jsonschema.Schema:
		o.additional = c.node(additional, nil)
	}
	o.propertyNames = c.node(s.PropertyNames, nil)
	if s.MinProperties != nil {
		o.min = *s.MinProperties
	}
	if s.MaxProperties != nil {
		o.max = *s.MaxProperties
	}
	o.all = c.marks && s.AdditionalProperties != nil
	o.words = (len(tracked(s)) + 63) / 64
	if len(o.names.entries) > 0 || len(o.patterns) > 0 || o.closed || o.additional != nil || o.propertyNames != nil || o.min > 0 || o.max < math.MaxInt || o.all {
		n.object = o
	}
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *compiler) array(n *node, s *jsonschema.Schema, t *trail) {
	if t != nil {
		t = t.inside
	}
	a := &array{max: math.MaxInt, maxContains: math.MaxInt, minContains: 1, unique: s.UniqueItems}
	prefix := s.PrefixItems
	var rest *jsonschema.Schema
	if s.DraftVersion >= 2020 {
		rest = s.Items2020
	} else {
		prefix = nil
		switch items := s.Items.(type) {
		case *jsonschema.Schema:
			rest = items
		case []*jsonschema.Schema:
			prefix = items
		}
		if _, all := s.Items.(*jsonschema.Schema); !all {
			switch additional := s.AdditionalItems.(type) {
			case bool:
				a.closed = !additional
			case *jsonschema.Schema:
				rest = additional
			}
		}
	}
	for _, p := range prefix {
		a.prefix = append(a.prefix, c.node(p, t))
	}
	a.rest = c.node(rest, t)
	a.each = a.rest != nil || a.closed || slices.ContainsFunc(a.prefix, func(n *node) bool { return n != nil })
	if c.marks {
		_, each := s.Items.(*jsonschema.Schema)
		a.all = each || s.Items2020 != nil || s.DraftVersion < 2020 && s.AdditionalItems != nil
		a.evaluated = len(prefix)
		a.containsEvaluates = s.DraftVersion >= 2020
	}
	if s.MinItems != nil {
		a.min = *s.MinItems
	}
	if s.MaxItems != nil {
		a.max = *s.MaxItems
	}
	if s.Contains != nil {
		a.contains, a.hasContains = c.node(s.Contains, nil), true
		if s.MinContains != nil {
			a.minContains = *s.MinContains
		}
		if s.MaxContains != nil {
			a.maxContains = *s.MaxContains
		}
	}
	if a.each || a.unique || a.hasContains || a.min > 0 || a.max < math.MaxInt || a.all || a.evaluated > 0 {
		n.array = a
	}
}

// compose compiles the keywords that apply schemas to the same value.
func (c *compiler) compose(n *node, s *jsonschema.Schema, carrier *jsonschema.Schema, passed *trail) {
	var m composed
	all := func(s *jsonschema.Schema, t *trail) {
		if n := c.node(s, t); n != nil {
			m.all = append(m.all, n)
		}
	}
	if s.Ref != nil {
		var t *trail
		if carrier == s.Ref {
			t = passed
		}
		all(s.Ref, t)
	}
	if !refOnly(s) {
		all(s.RecursiveRef, nil)
		if s.DynamicRef != nil {
			all(s.DynamicRef.Ref, nil)
		}
		for _, s := range s.AllOf {
			all(s, nil)
		}
		list := func(schemas []*jsonschema.Schema) (out []*node) {
			for _, s := range schemas {
				out = append(out, c.node(s, nil))
			}
			return out
		}
		m.any, m.one = list(s.AnyOf), list(s.OneOf)
		if !c.marks && slices.Contains(m.any, nil) {
			m.any = nil // one of them takes anything
		}
		if s.Not != nil {
			m.not, m.hasNot = c.node(s.Not, nil), true
		}
		if s.If != nil {
			m.when, m.then, m.otherwise = c.node(s.If, nil), c.node(s.Then, nil), c.node(s.Else, nil)
			m.hasIf = m.then != nil || m.otherwise != nil || c.marks
		}
	}
	if len(m.all) > 0 || m.any != nil || m.one != nil || m.hasNot || m.hasIf {
		n.more = &m
	}
}
