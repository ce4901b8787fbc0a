package registry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker"
	"datafordeler/broker/derive"
)

// derivedAlone holds a package's derivations to what they must be by themselves, and
// runs its tests. What was registered was held to that when it was.
func (w *world) derivedAlone(a at, p *broker.RightsPackage) {
	if a.doc == nil {
		return
	}
	faults := derive.Check(p)
	if len(faults) == 0 {
		faults = derive.Unshown(p)
	}
	for _, f := range faults {
		w.at(a, f.Path, f.What, f.Remedy)
	}
	words := func(path string, ds []broker.Derivation) {
		for i := range ds {
			d := &ds[i]
			path := path + "/" + strconv.Itoa(i)
			w.noPerson(a, path+"/title", d.Title)
			for j := range d.Where {
				w.noPerson(a, path+"/where/"+strconv.Itoa(j), slices.Concat(d.Where[j].In, d.Where[j].NotIn)...)
			}
		}
	}
	words("derivations", p.Derivations)
	if h := p.Household; h != nil {
		words("household/each", h.Each)
		words("household/answers", h.Answers)
		for i := range h.Tests {
			t := &h.Tests[i]
			texts := []string{t.Name, string(t.Want)}
			for _, r := range t.Records {
				texts = append(texts, string(r))
			}
			w.noPerson(a, "household/tests/"+strconv.Itoa(i), texts...)
		}
	}
	for i := range p.Tests {
		t := &p.Tests[i]
		w.noPerson(a, "tests/"+strconv.Itoa(i), t.Name, string(t.Record), string(t.Want))
	}
}

// derivation holds what a derivation reads to the schemas of its dataset.
func (w *world) derivation(a at, path string, d *broker.Dataset, v *broker.Derivation) {
	versions := w.versions(d.ID)
	if len(versions) == 0 {
		return
	}
	if name := strings.TrimPrefix(string(v.Target), "/"); a.doc != nil {
		for _, s := range versions {
			root := place{}
			root.add(s, wholly)
			for s := range root {
				if s.Properties[name] != nil {
					w.at(a, path+"/target", fmt.Sprintf("the schema of dataset %s has a member %s of its own: the answer would be taken for what the provider said", d.ID, v.Target), "give the answer another name")
					return
				}
			}
		}
	}
	if v.Rows != "" && !w.declares(d.ID, v.Rows, false) {
		w.at(a, path+"/rows", fmt.Sprintf("the schema of dataset %s has no %s", d.ID, v.Rows), "correct the pointer, or declare a schema version that has it")
		return
	}
	read := func(path string, p broker.Pointer, listed []string, types ...string) {
		p = v.Rows + p
		switch {
		case !w.declares(d.ID, p, false):
			w.at(a, path, fmt.Sprintf("the schema of dataset %s has no %s", d.ID, p), "correct the pointer, which begins at the row, or declare a schema version that has it")
		case !mayBe(versions, p, types):
			w.at(a, path, fmt.Sprintf("%s is never %s by the schema of dataset %s", p, strings.Join(types, " or "), d.ID), "name another field, or another way to compare")
		}
		for _, text := range listed {
			if !admits(versions, p, text) {
				w.at(a, path, fmt.Sprintf("%s is never %q by the schema of dataset %s", p, text, d.ID), "correct the value: a condition that nothing fulfils would answer wrongly")
			}
		}
	}
	switch v.Op {
	case broker.Sum, broker.Min, broker.Max:
		read(path+"/value", v.Value, nil, "number", "integer", "string")
	case broker.Distinct, broker.Latest:
		read(path+"/value", v.Value, nil, "number", "integer", "string", "boolean")
	}
	if v.By != "" {
		read(path+"/by", v.By, nil, "string")
	}
	for i := range v.Where {
		c := &v.Where[i]
		path := path + "/where/" + strconv.Itoa(i)
		switch {
		case c.AtLeast != "" || c.Below != "":
			read(path+"/field", c.Field, nil, "number", "integer", "string")
		case c.From != "" || c.Before != "":
			read(path+"/field", c.Field, nil, "string")
		default:
			read(path+"/field", c.Field, slices.Concat(c.In, c.NotIn), "string", "boolean")
		}
	}
}

// mayBe reports whether a value that the pointer leads to, or an element of it, can
// be of one of some types, as far as schemas that bind it say.
func mayBe(versions []*jsonschema.Schema, p broker.Pointer, types []string) bool {
	return anywhere(versions, p, func(s *jsonschema.Schema) bool {
		return s.Types == nil || slices.ContainsFunc(s.Types.ToStrings(), func(t string) bool { return slices.Contains(types, t) })
	})
}

// admits reports whether a value that the pointer leads to can be a text, or the
// truth value of that name.
func admits(versions []*jsonschema.Schema, p broker.Pointer, text string) bool {
	is := func(v any) bool {
		switch v := v.(type) {
		case string:
			return v == text
		case bool:
			return strconv.FormatBool(v) == text
		}
		return false
	}
	return anywhere(versions, p, func(s *jsonschema.Schema) bool {
		switch {
		case s.Const != nil:
			return is(*s.Const)
		case s.Enum != nil:
			return slices.ContainsFunc(s.Enum.Values, is)
		case s.Types != nil && !slices.Contains(s.Types.ToStrings(), "string"):
			return text == "true" || text == "false"
		}
		return true
	})
}

// anywhere reports whether there is a place that the pointer leads to of which
// every schema that binds it wholly can hold.
func anywhere(versions []*jsonschema.Schema, p broker.Pointer, can func(*jsonschema.Schema) bool) bool {
	for _, version := range versions {
		found := places(version, p)
		for _, at := range found[:len(found):len(found)] {
			if at.shape()&(flat|deep) != 0 {
				found = append(found, at.elements())
			}
		}
		for _, at := range found {
			if len(at) == 0 {
				continue
			}
			all := true
			for s, h := range at {
				all = all && (h != wholly || can(s))
			}
			if all {
				return true
			}
		}
	}
	return false
}
