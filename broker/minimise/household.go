package minimise

import (
	"errors"
	"fmt"
	"slices"

	"datafordeler/broker"
	"datafordeler/broker/derive"
	"datafordeler/broker/jsondoc"
)

// ErrHousehold says that of one record by itself nothing leaves by a package that
// answers on several subjects together.
var ErrHousehold = errors.New("the rights package answers on several subjects together: nothing of one record leaves")

// errShielded is of a protected subject's record.
var errShielded = errors.New("a value that the answer depends on is shielded")

// household is a rule across subjects. Nothing leaves but what Together gives.
type household struct {
	rule *derive.Household
	// shut is true where shielding takes away something that the answers depend on.
	shut bool
}

func (p *Projection) together(pack *broker.RightsPackage) (*Projection, error) {
	fail := func(err error) (*Projection, error) {
		return nil, fmt.Errorf("rights package %s version %d: %w", pack.ID, pack.Version, err)
	}
	if len(pack.Fields)+len(pack.Derivations) > 0 {
		return fail(errors.New("a rule across subjects, and fields or derivations as well"))
	}
	rule, err := derive.CompileHousehold(pack.Household)
	if err != nil {
		return fail(err)
	}
	h := &household{rule: rule}
	if s := pack.Shielding; s != nil {
		h.shut = s.Body || slices.ContainsFunc(pack.Household.Each, func(d broker.Derivation) bool {
			return slices.ContainsFunc(s.Remove, func(r broker.Pointer) bool { return r.Covers(d.Target) || derive.Touches(&d, r) })
		})
	}
	out := *p
	out.answers, out.fields, out.shieldedFields = &answers{household: h}, rule.Targets(), nil
	return &out, nil
}

// Household reports whether the package answers on several subjects together.
func (p *Projection) Household() bool {
	return p != nil && p.answers != nil && p.answers.household != nil
}

// Part appends what is worked out of one subject's record for Together, and is handed
// over to nobody. Of a protected subject there is none where the answers depend on
// anything that shielding takes away: it is not left out, or the answer on the others
// would be wrong. On an error the subject is denied with its [Reason].
func (p *Projection) Part(dst []byte, doc *jsondoc.Doc, attributes []string) ([]byte, error) {
	h := p.answers.household
	if doc.Len() == 0 || doc.Node(0).Kind != jsondoc.Object {
		return dst, ErrNotObject
	}
	if h.shut && p.Shields(attributes) {
		return dst, errShielded
	}
	return h.rule.Part(dst, doc)
}

// Together appends the answers on subjects from their parts; nil is the part of one
// without a record.
func (p *Projection) Together(dst []byte, parts [][]byte) ([]byte, error) {
	return p.answers.household.rule.Together(dst, parts)
}

// Skips reports whether a subject without a record is left out of the answer.
func (p *Projection) Skips() bool { return p.answers.household.rule.Skips() }
