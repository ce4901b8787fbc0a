package registry

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker"
	"datafordeler/broker/truthtable"
)

// Approval is a sign-off of a truth table, by its digest. From then on that
// content holds, until another content of the same table is signed off.
type Approval struct {
	ID     broker.TruthTableID `json:"id"`
	Digest broker.Digest       `json:"digest"`
	By     string              `json:"by"` // a function, not a person's name
}

// ApprovedTable is a truth table as it was signed off.
type ApprovedTable struct {
	Table    *broker.TruthTable
	By       string
	At       time.Time
	Actor    string
	Revision broker.Revision
}

// ApproveTable signs a truth table off.
func ApproveTable(a Approval) Change { return change(TruthTableApproved, a) }

// TruthTable finds a table as it was declared last, which may not be signed off; nil if there is none.
func (s *State) TruthTable(id broker.TruthTableID) *broker.TruthTable { return s.tables[id] }

// TruthTables lists all tables, as they were declared last.
func (s *State) TruthTables() []*broker.TruthTable { return sorted(s.tables) }

// ApprovedTable is a table as it was last signed off; ok is false where it never was.
func (s *State) ApprovedTable(id broker.TruthTableID) (ApprovedTable, bool) {
	a, ok := s.approved[id]
	return a, ok
}

// ApprovedTables are the tables that hold for an agreement, by name: what was
// signed off last of each. What was declared since does not count yet, so that
// nobody sets a table aside by declaring a weaker one.
func (s *State) ApprovedTables(a *broker.Agreement) []ApprovedTable {
	var out []ApprovedTable
	for _, id := range slices.Sorted(maps.Keys(s.approved)) {
		if t := s.approved[id]; t.Table.Concerns(a) {
			out = append(out, t)
		}
	}
	return out
}

// AgreementTerms are an agreement with all that it rests on, put to use by a
// subscription that is in order: what the agreement itself says, whatever
// subscriptions there are. nil if there is no such agreement.
func (s *State) AgreementTerms(id broker.AgreementID) *broker.Terms {
	a := s.agreements[id]
	if a == nil {
		return nil
	}
	p := parts{
		subscription: &broker.Subscription{Agreement: id, Scope: broker.Scope{Kind: broker.ScopeAll}},
		agreement:    a, dataset: s.datasets[a.Dataset], pack: s.packages[a.Package], consumer: s.organisations[a.Consumer],
	}
	for _, b := range a.Bases {
		p.bases = append(p.bases, s.bases[b])
	}
	for _, id := range slices.Sorted(maps.Keys(s.delegations)) {
		if d := s.delegations[id]; a.Supplier != "" && d.From == a.Consumer && d.To == a.Supplier {
			p.delegations = append(p.delegations, delegated{d, s.withdrawn[id]})
		}
	}
	return p.terms()
}

// Preview is what would be declared, signed off and in force after the events:
// enough to judge agreements by, without a case or a consent in it. Only what it
// changes is copied. The error is an event that cannot be read.
func (s *State) Preview(events []Event) (*State, error) {
	out := &State{
		revision: s.revision, at: s.at, catalogue: s.catalogue.clone(), withdrawn: maps.Clone(s.withdrawn),
		policy: s.policy, approved: maps.Clone(s.approved), leased: s.leased, regime: s.regime.clone(), units: s.units,
	}
	for i := range events {
		p, err := parse(&events[i])
		if err != nil {
			return nil, err
		}
		switch v := p.(type) {
		case *broker.Organisation, *broker.Dataset, *broker.LegalBasis, *broker.RightsPackage, *broker.Mailbox, *broker.Agreement,
			*broker.Subscription, *broker.Delegation, *broker.Role, *broker.TruthTable, *broker.LegalAssessment:
			out.put(v)
		case *UnitRestoration: // what its agreements permitted they permit again
			out.units.ended = maps.Clone(out.units.ended)
			delete(out.units.ended, v.Organisation)
		case *broker.Framework, *broker.FrameworkApproval, *broker.Accession, *broker.AgreementStep:
			out.applyRegime(v, &events[i])
		case *Policy:
			out.policy = v
		case *Approval:
			out.approve(v, &events[i])
		case *Withdrawal:
			if events[i].Type == DelegationWithdrawn {
				out.withdrawn[broker.DelegationID(v.ID)] = *v
			}
		}
	}
	return out, nil
}

func (s *State) approve(v *Approval, e *Event) {
	s.approved[v.ID] = ApprovedTable{Table: s.tables[v.ID], By: v.By, At: e.At, Actor: e.Actor, Revision: e.Seq}
}

func (s *State) refuseTable(v *broker.TruthTable) string {
	old := s.tables[v.ID]
	switch {
	case v.CSV == "":
		return fmt.Sprintf("truth table %s is empty", v.ID)
	case old != nil && belongs(old) != belongs(v):
		return fmt.Sprintf("truth table %s belongs to %s, and stays so: declare another", v.ID, belongs(old))
	case v.Agreement != "" && s.agreements[v.Agreement] == nil:
		return unknown("agreement", v.Agreement)
	case v.Package != nil && s.packages[*v.Package] == nil:
		return fmt.Sprintf("rights package %s version %d is not registered", v.Package.ID, v.Package.Version)
	case v.Dataset != "" && s.datasets[v.Dataset] == nil:
		return unknown("dataset", v.Dataset)
	case owners(v) != 1:
		return fmt.Sprintf("truth table %s belongs to one of an agreement, a package and a dataset, not to %d", v.ID, owners(v))
	}
	return name(v.ID)
}

func owners(v *broker.TruthTable) (n int) {
	for _, has := range []bool{v.Agreement != "", v.Package != nil, v.Dataset != ""} {
		if has {
			n++
		}
	}
	return n
}

// belongs names what a table belongs to.
func belongs(v *broker.TruthTable) string {
	switch {
	case v.Agreement != "":
		return "agreement " + string(v.Agreement)
	case v.Package != nil:
		return fmt.Sprintf("package %s/%d", v.Package.ID, v.Package.Version)
	}
	return "dataset " + string(v.Dataset)
}

func (s *State) refuseApproval(v *Approval) string {
	t := s.tables[v.ID]
	switch {
	case t == nil:
		return unknown("truth table", v.ID)
	case strings.TrimSpace(v.By) == "" || len(v.By) > 200:
		return "a truth table is signed off by a function (by), in at most 200 bytes"
	case elevenDigits(v.By):
		return "who signs off holds eleven digits in a row: it could be a person's number; name a function"
	case t.Digest() != v.Digest:
		return fmt.Sprintf("truth table %s has digest %s, not %s: it was changed since; read it again", v.ID, t.Digest(), v.Digest)
	}
	return ""
}

// truthTable validates a declared table. Its rows were read when it was loaded.
func (w *world) truthTable(t *broker.TruthTable) {
	a := w.of(KindTruthTable, string(t.ID))
	w.name(a, "id", string(t.ID))
	if t.Title == "" {
		w.at(a, "title", "a truth table has a title", "")
	}
	w.noPerson(a, "title", t.Title)
	if n := owners(t); n != 1 {
		w.at(a, "", fmt.Sprintf("the table belongs to %d things", n), "give one of agreement, package and dataset")
	}
	if t.Agreement != "" && w.agreements[t.Agreement] == nil {
		w.at(a, "agreement", fmt.Sprintf("agreement %q is not declared", string(t.Agreement)), "declare it with kind: agreement, or correct the name")
	}
	if t.Package != nil && w.packages[*t.Package] == nil {
		w.at(a, "package", fmt.Sprintf("rights package %s version %d is not declared", t.Package.ID, t.Package.Version), "declare it with kind: package, or correct id and version")
	}
	if t.Dataset != "" {
		w.knownDataset(a, "dataset", t.Dataset)
	}
}

// tableFile reads a table that lies beside the declarations.
func (r *reader) tableFile(n *yaml.Node, t *broker.TruthTable, path string) {
	r.doc.lines[path] = n.Line
	name, ok := r.scalar(n, path)
	if !ok {
		return
	}
	if !filepath.IsLocal(name) {
		r.fault(n, fmt.Sprintf("table file %q lies outside the declarations' directory", name), "put it beside or below the YAML file and name it relative to that")
		return
	}
	file := filepath.Join(filepath.Dir(r.doc.File), name)
	b, err := readFile(file)
	if err != nil {
		r.fault(n, "table file cannot be read: "+err.Error(), "")
		return
	}
	t.CSV = r.table(b, file, 0)
}

// inlineTable reads a table that stands in the YAML itself.
func (r *reader) inlineTable(n *yaml.Node, t *broker.TruthTable) {
	line := n.Line - 1
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line = n.Line // the text begins below the mark
	}
	t.CSV = r.table([]byte(t.CSV), r.doc.File, line)
}

// table is the canonical form of a table, whose first line is the one after before.
func (r *reader) table(b []byte, file string, before int) string {
	t, err := truthtable.Parse(b)
	var faults truthtable.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			r.faults = append(r.faults, Fault{file, before + f.Line, fmt.Sprintf("column %d: %s", f.Column, f.What), f.Remedy})
		}
		return ""
	}
	r.doc.rows = map[string]string{}
	for i := range t.Rows {
		r.doc.rows[t.Rows[i].Name] = fmt.Sprintf("%s:%d", file, before+t.Rows[i].Line)
	}
	return string(t.Canonical())
}

// Row is where a row of a declared truth table stands, as file:line; "" where it is
// not of the declaration.
func (d *Document) Row(name string) string { return d.rows[name] }

// tableRows are a table's rows by what they are called, for a plan to show what
// changes in them; nil where it cannot be read.
func tableRows(csv string) map[string]string {
	t, err := truthtable.Parse([]byte(csv))
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for i := range t.Rows {
		r := &t.Rows[i]
		cells := []string{day(r.At)}
		for _, c := range slices.Sorted(maps.Keys(r.Set)) {
			cells = append(cells, string(c)+"="+r.Set[c])
		}
		out[r.Name] = strings.Join(append(cells, "→", cmp.Or(strings.TrimSpace(string(r.Expect)+" "+r.Cell(truthtable.Reason)), "")), " ")
	}
	return out
}

// DelegationsBetween are a consumer's delegations to a supplier, each ended where
// it was withdrawn.
func (s *State) DelegationsBetween(from, to broker.OrgNumber) []broker.Delegation {
	p := parts{subscription: &broker.Subscription{}, agreement: &broker.Agreement{}, consumer: &broker.Organisation{}}
	for _, id := range slices.Sorted(maps.Keys(s.delegations)) {
		if d := s.delegations[id]; d.From == from && d.To == to {
			p.delegations = append(p.delegations, delegated{d, s.withdrawn[id]})
		}
	}
	return p.terms().Delegations
}

// AnyApproved reports whether any truth table was ever signed off.
func (s *State) AnyApproved() bool { return len(s.approved) > 0 }
