package schema

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// unknown notes what this package leaves to the library.
func (c *compiler) unknown(s *jsonschema.Schema, what string) {
	if c.reason == "" {
		_, fragment, _ := strings.Cut(s.Location, "#")
		c.reason = fmt.Sprintf("%s at #%s", what, fragment)
	}
}

// refOnly: before 2019-09 whatever stands beside $ref is passed over, but for
// what the library reads earlier.
func refOnly(s *jsonschema.Schema) bool { return s.Ref != nil && s.DraftVersion < 2019 }

// inPlace are the schemas that a schema applies to the same value as itself.
func inPlace(s *jsonschema.Schema) (out []*jsonschema.Schema) {
	add := func(list ...*jsonschema.Schema) {
		for _, s := range list {
			if s != nil {
				out = append(out, s)
			}
		}
	}
	add(s.Ref)
	if refOnly(s) {
		return out
	}
	add(s.RecursiveRef)
	if s.DynamicRef != nil {
		add(s.DynamicRef.Ref)
	}
	add(s.AllOf...)
	add(s.AnyOf...)
	add(s.OneOf...)
	add(s.Not, s.If, s.Then, s.Else)
	for _, d := range s.Dependencies {
		if d, ok := d.(*jsonschema.Schema); ok {
			add(d)
		}
	}
	for _, d := range s.DependentSchemas {
		add(d)
	}
	return out
}

// inside are the schemas that a schema applies to what its value consists of.
func inside(s *jsonschema.Schema) (out []*jsonschema.Schema) {
	if refOnly(s) {
		return nil
	}
	add := func(list ...any) {
		for _, v := range list {
			switch v := v.(type) {
			case *jsonschema.Schema:
				if v != nil {
					out = append(out, v)
				}
			case []*jsonschema.Schema:
				out = append(out, v...)
			}
		}
	}
	add(s.PropertyNames, s.AdditionalProperties, s.Contains, s.Items, s.AdditionalItems, s.PrefixItems, s.Items2020,
		s.UnevaluatedProperties, s.UnevaluatedItems)
	for _, p := range s.Properties {
		add(p)
	}
	for _, p := range s.PatternProperties {
		add(p)
	}
	return out
}

// survey goes through all that a schema leads to, and notes what is unknown.
// state is 1 while the schemas that apply to the same value are gone through,
// which finds one that comes back to itself, and 2 afterwards.
func (c *compiler) survey(root *jsonschema.Schema) {
	state := map[*jsonschema.Schema]int{}
	queue := []*jsonschema.Schema{root}
	var visit func(s *jsonschema.Schema)
	visit = func(s *jsonschema.Schema) {
		switch state[s] {
		case 1:
			c.unknown(s, "a reference that leads back to itself without going into the value")
			return
		case 2:
			return
		}
		state[s] = 1
		c.check(s)
		queue = append(queue, inside(s)...)
		for _, b := range inPlace(s) {
			visit(b)
		}
		state[s] = 2
	}
	for i := 0; i < len(queue); i++ {
		visit(queue[i])
	}
}

// check notes the keywords of one schema that are unknown here.
func (c *compiler) check(s *jsonschema.Schema) {
	if s.Bool != nil {
		return
	}
	if s.Format != nil {
		if _, ok := newFormat(s.Format); !ok {
			c.unknown(s, fmt.Sprintf("the format %q", s.Format.Name))
		}
	}
	for _, v := range enumerated(s) {
		if !literal(v) {
			c.unknown(s, "a constant that is not from JSON")
		}
	}
	if s.Enum != nil && len(s.Enum.Values) >= maxEntries/2 {
		c.unknown(s, "an enum of more values than a table holds")
	}
	if refOnly(s) {
		return
	}
	c.marks = c.marks || s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil
	switch {
	case s.RecursiveRef != nil && s.RecursiveRef.RecursiveAnchor:
		c.unknown(s, "$recursiveRef to a $recursiveAnchor")
	case s.DynamicRef != nil && s.DynamicRef.Anchor != "" && s.DynamicRef.Ref.DynamicAnchor == s.DynamicRef.Anchor:
		c.unknown(s, "$dynamicRef to a $dynamicAnchor")
	case s.ContentEncoding != nil || s.ContentMediaType != nil || s.ContentSchema != nil:
		c.unknown(s, "contentEncoding, contentMediaType or contentSchema")
	case len(s.Extensions) > 0:
		c.unknown(s, "a vocabulary of its own")
	case s.MultipleOf != nil && s.MultipleOf.Sign() <= 0:
		c.unknown(s, "multipleOf that is not above zero")
	case len(s.Properties) >= maxEntries/2:
		c.unknown(s, "properties of more names than a table holds")
	case len(tracked(s)) > maxTracked:
		c.unknown(s, fmt.Sprintf("required and dependencies of more than %d names", maxTracked))
	}
	for _, r := range regexps(s) {
		if _, ok := r.(*regexp.Regexp); !ok {
			c.unknown(s, "a pattern of another engine than Go's")
		}
	}
}

func regexps(s *jsonschema.Schema) (out []jsonschema.Regexp) {
	if s.Pattern != nil {
		out = append(out, s.Pattern)
	}
	for r := range s.PatternProperties {
		out = append(out, r)
	}
	return out
}

func enumerated(s *jsonschema.Schema) (out []any) {
	if s.Const != nil {
		out = append(out, *s.Const)
	}
	if s.Enum != nil {
		out = append(out, s.Enum.Values...)
	}
	return out
}

// literal reports whether a value is as JSON is read, with numbers as written.
func literal(v any) bool {
	switch v := v.(type) {
	case nil, bool, string:
		return true
	case json.Number:
		_, ok := new(big.Rat).SetString(string(v))
		return ok && Reasonable([]byte(v))
	case []any:
		return !slices.ContainsFunc(v, func(v any) bool { return !literal(v) })
	case map[string]any:
		for _, v := range v {
			if !literal(v) {
				return false
			}
		}
		return true
	}
	return false
}

// tracked are the names whose presence matters, in order.
func tracked(s *jsonschema.Schema) []string {
	names := slices.Clone(s.Required)
	for name, d := range s.Dependencies {
		names = append(names, name)
		if list, ok := d.([]string); ok {
			names = append(names, list...)
		}
	}
	for name, list := range s.DependentRequired {
		names = append(append(names, name), list...)
	}
	for name := range s.DependentSchemas {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
