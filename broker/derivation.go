package broker

import (
	"bytes"
	"encoding/json"
)

// Derivation is an answer that is worked out of a record, so that the answer can
// leave and what it was worked out of stays: a sum, a count, a band, whether a
// limit is met. It is read in three steps: which rows of the record count, what
// one value they make together, and how that is told.
//
// What it means is fixed for ever by V, and written out in package derive.
// Numbers are decimals as text, and exact.
type Derivation struct {
	// V is the version of the language: 1.
	V int `json:"v"`
	// Target is the member of the delivered record that holds the answer: "/inntektsbaand".
	Target Pointer `json:"target"`
	// Title says in words what is answered.
	Title string `json:"title"`

	// Rows are the objects that are gone through, each element of an array on the
	// way or at the end; "" is the record itself.
	Rows Pointer `json:"rows,omitempty"`
	// Where are conditions on a row, all of which must hold for it to count.
	Where []RowCondition `json:"where,omitempty"`

	Op DerivationOp `json:"op"`
	// Value is what of a row is taken, from the row on; "" is the row itself. Op
	// count takes none.
	Value Pointer `json:"value,omitempty"`
	// By is the date or month that op latest goes by, from the row on.
	By Pointer `json:"by,omitempty"`
	// Absent is what a row without the value, or without By, does.
	Absent WhenAbsent `json:"absent,omitempty"`
	// Empty is the number that op sum, min and max give where no row is left. Without
	// it there is no answer then. Op count and distinct give 0.
	Empty string `json:"empty,omitempty"`

	// At most one of these makes the number a yes or no, or bands the name of the
	// band it falls in. Without one the value itself is the answer.
	Below   string `json:"below,omitempty"`
	AtMost  string `json:"atMost,omitempty"`
	AtLeast string `json:"atLeast,omitempty"`
	Above   string `json:"above,omitempty"`
	Bands   []Band `json:"bands,omitempty"`
}

// DerivationOp makes one value of the rows that count.
type DerivationOp string

// The operations.
const (
	Sum      DerivationOp = "sum"
	Count    DerivationOp = "count"    // of rows
	Min      DerivationOp = "min"      // the least number
	Max      DerivationOp = "max"      // the greatest number
	Distinct DerivationOp = "distinct" // how many different values
	Latest   DerivationOp = "latest"   // the value of the row with the latest By
)

// RowCondition compares a field of a row in one way: with listed texts, with
// numbers, or with a period.
type RowCondition struct {
	Field Pointer  `json:"field"` // from the row on
	In    []string `json:"in,omitempty"`
	NotIn []string `json:"notIn,omitempty"`
	// AtLeast ≤ number < Below.
	AtLeast string `json:"atLeast,omitempty"`
	Below   string `json:"below,omitempty"`
	// From ≤ date < Before, each "2026", "2026-01" or "2026-01-31".
	From   string `json:"from,omitempty"`
	Before string `json:"before,omitempty"`
	// Absent is what a row without the field does.
	Absent WhenAbsent `json:"absent,omitempty"`
}

// WhenAbsent is what becomes of a row that lacks a field, or has null there.
type WhenAbsent string

// The ways. The first is what is not said: nothing is answered on a guess.
const (
	AbsentFails WhenAbsent = ""
	AbsentSkips WhenAbsent = "skip" // the row does not count
	AbsentHolds WhenAbsent = "hold" // the condition holds; conditions only
)

// Band is a part of the numbers: from the Below of the band before to its own,
// which is not in it. The last has none.
type Band struct {
	Name  string `json:"name"`
	Below string `json:"below,omitempty"`
}

// DerivationTest is a record and what a rights package must derive from it. The
// package is refused where it does not.
type DerivationTest struct {
	Name   string          `json:"name"`
	Record json.RawMessage `json:"record"`
	// Want is an object of all answers, without the targets' leading '/'.
	Want json.RawMessage `json:"want,omitempty"`
	// Fails is the target that nothing can be answered for, in place of Want.
	Fails Pointer `json:"fails,omitempty"`
}

// Leaving are all pointers by which something leaves: the fields as they stand in
// the record, and then the targets of what is derived.
func (p *RightsPackage) Leaving() []Pointer {
	if p.Household != nil {
		var all []Pointer
		for i := range p.Household.Answers {
			all = append(all, p.Household.Answers[i].Target)
		}
		return all
	}
	if len(p.Derivations) == 0 {
		return p.Fields
	}
	all := append(make([]Pointer, 0, len(p.Fields)+len(p.Derivations)), p.Fields...)
	for i := range p.Derivations {
		all = append(all, p.Derivations[i].Target)
	}
	return all
}

// Derivation is the one with that target, or nil. Of a rule across subjects it is the
// one that makes the answer.
func (p *RightsPackage) Derivation(target Pointer) *Derivation {
	if h := p.Household; h != nil {
		for i := range h.Answers {
			if h.Answers[i].Target == target {
				return &h.Answers[i]
			}
		}
	}
	for i := range p.Derivations {
		if p.Derivations[i].Target == target {
			return &p.Derivations[i]
		}
	}
	return nil
}

// Derives reports whether all that then derives is derived here by the same rule.
// The title is no part of the rule.
func (p *RightsPackage) Derives(then *RightsPackage) bool {
	if !p.Household.Alike(then.Household) {
		return false
	}
	for i := range then.Derivations {
		d := p.Derivation(then.Derivations[i].Target)
		if d == nil || !d.sameRule(&then.Derivations[i]) {
			return false
		}
	}
	return true
}

func (d *Derivation) sameRule(o *Derivation) bool {
	a, b := *d, *o
	a.Title, b.Title = "", ""
	x, err := json.Marshal(&a)
	y, err2 := json.Marshal(&b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}
