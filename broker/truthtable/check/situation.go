package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable"
)

// situation is a row made into what policy is asked with.
type situation struct {
	terms    broker.Terms
	facts    broker.Facts
	outside  bool // of the package's filter
	shielded bool
}

// nobody stands for an organisation that a row knows by its type only, or for a
// supplier that it does not name. No organisation has the number.
const nobody broker.OrgNumber = "000000000"

// situate lays a row over an agreement's terms. What the row leaves empty is as
// the agreement has it, a record in order, within the package, of a subject who
// is not protected, with no case and no consent; the agreement is in force.
func situate(st *registry.State, of *broker.Terms, row *truthtable.Row) (*situation, error) {
	s := &situation{terms: *of, facts: broker.Facts{Time: row.At, Kind: broker.Original}}
	t := &s.terms
	a := &t.Agreement
	said := func(c truthtable.Column) (string, bool) { v, ok := row.Set[c]; return v, ok }
	a.Status = broker.Active
	if v, ok := said(truthtable.Status); ok {
		a.Status = broker.AgreementStatus(v)
	}
	if v, ok := said(truthtable.Purpose); ok {
		a.Purpose = broker.Purpose(v)
	}
	if err := s.parties(st, row); err != nil {
		return nil, err
	}
	if v, ok := said(truthtable.Corrections); ok {
		a.Corrections = broker.Corrections(v)
	}
	s.cost(row)
	if v, ok := said(truthtable.Record); ok {
		for _, k := range []broker.RecordKind{broker.Original, broker.Correction, broker.Retraction} {
			if k.String() == v {
				s.facts.Kind = k
			}
		}
	}
	s.subject(row)
	return s, s.attributes(row)
}

// parties: who receives, by whom, and with whose leave.
func (s *situation) parties(st *registry.State, row *truthtable.Row) error {
	t := &s.terms
	a := &t.Agreement
	moved := false
	if v, ok := row.Set[truthtable.Recipient]; ok {
		moved = true
		t.Consumer = broker.Organisation{Number: nobody, Types: []string{v}}
		if n, err := broker.ParseOrgNumber(v); err == nil {
			o := st.Organisation(n)
			if o == nil {
				return fmt.Errorf("recipient: organisation %s is not registered", n)
			}
			t.Consumer = *o
		}
		a.Consumer = t.Consumer.Number
	}
	if v, ok := row.Set[truthtable.Supplier]; ok {
		moved = true
		a.Supplier = ""
		if v != truthtable.None {
			a.Supplier = broker.OrgNumber(v)
		}
	}
	leave, said := row.Set[truthtable.Delegation]
	if said && a.Supplier == "" {
		a.Supplier = nobody
	}
	switch {
	case !said && moved:
		t.Delegations = nil
		if a.Supplier != "" {
			t.Delegations = st.DelegationsBetween(a.Consumer, a.Supplier)
		}
	case said && leave == truthtable.None:
		t.Delegations = nil
	case said:
		d := broker.Delegation{ID: "as-if", From: a.Consumer, To: a.Supplier, Datasets: []broker.DatasetID{a.Dataset}}
		d.Valid.From = row.At.Add(-48 * time.Hour)
		if leave != truthtable.Given { // over either way
			d.Valid.To = row.At.Add(-time.Hour)
		}
		t.Delegations = []broker.Delegation{d}
	}
	t.Mailbox.Organisation = a.Receiver()
	return nil
}

func (s *situation) cost(row *truthtable.Row) {
	c := &s.terms.Agreement.Cost
	if v, ok := row.Set[truthtable.Cost]; ok {
		c.Model = broker.CostModel(v)
		if v == truthtable.None {
			c.Model = ""
		}
	}
	if v, ok := row.Set[truthtable.Payer]; ok {
		c.Payer = broker.OrgNumber(v)
		if v == truthtable.None {
			c.Payer = ""
		}
	}
	if row.Set[truthtable.Ceiling] == truthtable.Reached {
		c.Ceiling = max(c.Ceiling, 1)
		s.facts.Usage = broker.Usage{Granted: 1, Delivered: 1}
	} else {
		s.facts.Usage = broker.Usage{Granted: 1}
	}
}

// subject: the case and the consent. What is over was over an hour before.
func (s *situation) subject(row *truthtable.Row) {
	a := &s.terms.Agreement
	begun, over := row.At.Add(-48*time.Hour), row.At.Add(-time.Hour)
	switch row.Set[truthtable.Case] {
	case truthtable.Open:
		s.facts.Cases = []broker.Interval{{From: begun}}
	case truthtable.Closed:
		s.facts.Cases = []broker.Interval{{From: begun, To: over}}
	}
	c := broker.Consent{ID: "as-if", Consumer: a.Consumer, Dataset: a.Dataset, Purpose: a.Purpose, Valid: broker.Interval{From: begun}}
	switch row.Set[truthtable.Consent] {
	case truthtable.Given:
	case truthtable.Withdrawn:
		c.Withdrawn = over
	case truthtable.Expired:
		c.Valid.To = over
	default:
		return
	}
	s.facts.Consents = []broker.Consent{c}
}

// attributes are the record's, and what follows from them before and after policy.
func (s *situation) attributes(row *truthtable.Row) error {
	d, p := s.terms.Dataset, s.terms.Package
	values, said := make([]string, len(d.Attributes)), make([]bool, len(d.Attributes))
	set := func(name, value string) error {
		i := d.AttributeIndex(name)
		if i < 0 {
			return fmt.Errorf("dataset %s has no attribute %q", d.ID, name)
		}
		if said[i] && values[i] != value {
			return fmt.Errorf("attribute %q is said twice, and differently", name)
		}
		values[i], said[i] = value, true
		return nil
	}
	for name, value := range row.Attributes() {
		if err := set(name, value); err != nil {
			return err
		}
	}
	if about, ok := row.Set[truthtable.About]; ok {
		bounded := false
		for i := range s.terms.Bases {
			if b := s.terms.Bases[i].About; b != nil {
				bounded = true
				if err := set(b.Attribute, about); err != nil {
					return err
				}
			}
		}
		if !bounded {
			return fmt.Errorf("about: no legal basis of the agreement bounds which period a record is about; write attribute:<name> to set an attribute")
		}
	}
	if v, ok := row.Set[truthtable.Protected]; ok && p.Shielding != nil {
		if err := set(p.Shielding.When.Attribute, protection(&p.Shielding.When, v == truthtable.Yes)); err != nil {
			return err
		}
	}
	for i := range p.Filter {
		f := &p.Filter[i]
		switch at := d.AttributeIndex(f.Attribute); {
		case at < 0:
			return fmt.Errorf("dataset %s has no attribute %q", d.ID, f.Attribute)
		case said[at] && !f.Holds(values[at]):
			s.outside = true
		case !said[at] && len(f.In) > 0:
			values[at] = f.In[0]
		}
	}
	for i := range d.Attributes {
		if !said[i] {
			values[i] = within(s.terms.Bases, d.Attributes[i].Name, values[i])
		}
	}
	if sh := p.Shielding; sh != nil {
		at := d.AttributeIndex(sh.When.Attribute)
		if at < 0 {
			return fmt.Errorf("dataset %s has no attribute %q", d.ID, sh.When.Attribute)
		}
		if !said[at] && values[at] == "" {
			values[at] = protection(&sh.When, false)
		}
		s.shielded = sh.When.Holds(values[at])
	}
	s.facts.Attributes = values
	return nil
}

// protection is a value of which the condition says that its subject is protected,
// or is not.
func protection(when *broker.Condition, protected bool) string {
	for _, v := range slices.Concat(when.In, when.NotIn, []string{"true", "false", ""}) {
		if when.Holds(v) == protected {
			return v
		}
	}
	return ""
}

// within is a value that most of the legal bases' bounds on an attribute reach;
// otherwise where there are none.
func within(bases []broker.LegalBasis, name, otherwise string) string {
	var bounds []*broker.AboutBound
	for i := range bases {
		if b := bases[i].About; b != nil && b.Attribute == name {
			bounds = append(bounds, b)
		}
	}
	best, most := otherwise, -1
	for _, c := range bounds {
		for _, v := range []string{otherwise, c.From, c.To} {
			n := 0
			for _, b := range bounds {
				if b.From <= v && (b.To == "" || v <= b.To) {
					n++
				}
			}
			if n > most && (v != "" || most < 0) {
				best, most = v, n
			}
		}
	}
	return best
}

// text is a row's outcome in one cell: deny (no_open_case).
func text(o truthtable.Outcome, reasons []broker.Reason) string {
	if len(reasons) == 0 {
		return string(o)
	}
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = string(r)
	}
	return fmt.Sprintf("%s (%s)", o, strings.Join(codes, " "))
}
