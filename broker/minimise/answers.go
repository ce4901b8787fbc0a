package minimise

import (
	"errors"
	"fmt"
	"slices"

	"datafordeler/broker"
	"datafordeler/broker/derive"
	"datafordeler/broker/jsondoc"
)

// answers are what a package derives, beside the fields that leave as they are. They
// come after the fields, in the package's order.
type answers struct {
	fields         *Projection // the package without its derivations
	open, shielded *derive.Set // nil where nothing is derived
	household      *household  // in place of the others
}

// deriving is the projection with the package's derivations. Of a shielded record
// no answer leaves that depends on anything that shielding removes.
func (p *Projection) deriving(pack *broker.RightsPackage) (*Projection, error) {
	if pack.Household != nil {
		return p.together(pack)
	}
	if len(pack.Derivations) == 0 {
		return p, nil
	}
	fail := func(err error) (*Projection, error) {
		return nil, fmt.Errorf("rights package %s version %d: %w", pack.ID, pack.Version, err)
	}
	for i := range pack.Derivations {
		t := pack.Derivations[i].Target
		if t == "/"+Mark {
			return fail(fmt.Errorf("derivation %q: the member %q is the broker's own, set when it shields a record; give the answer another name", t, Mark))
		}
		for _, f := range pack.Fields {
			if t.Covers(f) || f.Covers(t) || f == "" {
				return fail(fmt.Errorf("derivation %q: the field %q leaves there as it is", t, f))
			}
		}
	}
	a := &answers{fields: p}
	var err error
	if a.open, err = derive.Compile(pack.Derivations); err != nil {
		return fail(err)
	}
	out := *p
	out.answers = a
	out.fields = withTargets(p.fields, a.open)
	if !p.shielding || p.body {
		return &out, nil
	}
	left := slices.DeleteFunc(slices.Clone(pack.Derivations), func(d broker.Derivation) bool {
		return slices.ContainsFunc(pack.Shielding.Remove, func(r broker.Pointer) bool {
			return r.Covers(d.Target) || derive.Touches(&d, r)
		})
	})
	if a.shielded, err = derive.Compile(left); err != nil {
		return fail(err)
	}
	out.shieldedFields = withTargets(p.shieldedFields, a.shielded)
	return &out, nil
}

func withTargets(fields []broker.Pointer, s *derive.Set) []broker.Pointer {
	if s == nil {
		return fields
	}
	return slices.Concat(fields, s.Targets())
}

// append is Projection.Append, by a Cutter where there is one.
func (a *answers) append(c *Cutter, dst []byte, doc *jsondoc.Doc, attributes []string) (out []byte, shielded bool, err error) {
	if a.household != nil {
		return dst, false, ErrHousehold
	}
	if c != nil {
		out, shielded, err = c.Append(a.fields, dst, doc, attributes)
	} else {
		out, shielded, err = a.fields.Append(dst, doc, attributes)
	}
	s := a.open
	if shielded {
		s = a.shielded
	}
	if err != nil || s == nil {
		return out, shielded, err
	}
	end := len(out) - 1                    // the brace
	if out[end] = ','; out[end-1] == '{' { // of no field anything is left
		out = out[:end]
	}
	if out, err = s.Append(out, doc); err != nil {
		return dst, shielded, err
	}
	return append(out, '}'), shielded, nil
}

// Reason is why a record that Append did not reduce is denied.
func Reason(err error) broker.Reason {
	if failed := (*derive.Error)(nil); errors.As(err, &failed) || errors.Is(err, errShielded) {
		return broker.ReasonDerivation
	}
	return broker.ReasonNotMinimisable
}
