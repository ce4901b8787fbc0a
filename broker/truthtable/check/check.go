// Package check asks the policy what comes out of the situations of truth tables,
// and keeps what fails a signed-off table from being put in force.
package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable"
	"datafordeler/policy"
)

// Result is what came out of one row for one agreement.
type Result struct {
	Table     broker.TruthTableID `json:"table,omitempty"`
	Agreement broker.AgreementID  `json:"agreement"`
	Line      int                 `json:"line"`
	Situation string              `json:"situation"`
	Want      truthtable.Outcome  `json:"want"`
	Expected  []broker.Reason     `json:"wantReasons,omitempty"`
	Got       truthtable.Outcome  `json:"got,omitempty"`
	Reasons   []broker.Reason     `json:"gotReasons,omitempty"`
	// Bases carry the permit, or were judged.
	Bases []broker.LegalBasisID `json:"bases,omitempty"`
	// Fault says why the row could not be judged; then it did not pass.
	Fault string `json:"fault,omitempty"`
	OK    bool   `json:"ok"`
}

// Wanted is what the row says must come out: deny (no_open_case).
func (r *Result) Wanted() string { return text(r.Want, r.Expected) }

// Came is what came out, or why nothing did.
func (r *Result) Came() string {
	if r.Fault != "" {
		return "could not be judged: " + r.Fault
	}
	return text(r.Got, r.Reasons)
}

// String is the row with what was wanted and what came out.
func (r *Result) String() string {
	if r.Fault != "" {
		return fmt.Sprintf("%q: want %s, %s", r.Situation, r.Wanted(), r.Came())
	}
	return fmt.Sprintf("%q: want %s, got %s", r.Situation, r.Wanted(), r.Came())
}

// wider reports whether more came out than was wanted.
func (r *Result) wider() bool { return r.Fault == "" && !r.OK && width(r.Got) > width(r.Want) }

func width(o truthtable.Outcome) int {
	return slices.Index([]truthtable.Outcome{truthtable.Outside, truthtable.Deny, truthtable.Notify, truthtable.Shielded, truthtable.Permit}, o)
}

// Row judges one situation of an agreement by the policy itself, in full
// evaluation. The error is that ctx ended; what else goes wrong is in the result.
func Row(ctx context.Context, engine *policy.Engine, st *registry.State, terms *broker.Terms, row *truthtable.Row) (Result, error) {
	r := Result{Agreement: terms.Agreement.ID, Line: row.Line, Situation: row.Name, Want: row.Expect, Expected: row.Reasons}
	for _, code := range row.Reasons {
		if _, ok := engine.Reason(code); !ok {
			r.Fault = fmt.Sprintf("the policy has no reason %q; see: datafordeler policy show", code)
			return r, nil
		}
	}
	s, err := situate(st, terms, row)
	if err != nil {
		r.Fault = err.Error()
		return r, nil
	}
	if s.outside {
		r.Got, r.OK = truthtable.Outside, row.Expect == truthtable.Outside
		return r, nil
	}
	prepared, err := engine.Prepare(&s.terms)
	if err != nil {
		r.Fault = err.Error()
		return r, nil
	}
	out, err := prepared.DecideFull(ctx, &s.facts)
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	if err != nil {
		r.Fault = err.Error()
		return r, nil
	}
	r.Bases = out.Bases
	switch {
	case !out.Permit:
		r.Got, r.Reasons = truthtable.Deny, slices.Clone(out.Reasons)
	case s.facts.Kind != broker.Original && s.terms.Agreement.Corrections == broker.NotifyCorrections:
		r.Got = truthtable.Notify
	case s.shielded:
		r.Got = truthtable.Shielded
	default:
		r.Got = truthtable.Permit
	}
	r.OK = r.Got == r.Want && (len(r.Expected) == 0 || sameSet(r.Reasons, r.Expected))
	return r, nil
}

func sameSet(a, b []broker.Reason) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// Table judges all rows of a table for one agreement. The error is a table that
// cannot be read, or that ctx ended.
func Table(ctx context.Context, engine *policy.Engine, st *registry.State, a broker.AgreementID, t *broker.TruthTable) ([]Result, error) {
	terms := st.AgreementTerms(a)
	if terms == nil {
		return nil, fmt.Errorf("agreement %q is not registered", string(a))
	}
	table, err := truthtable.Parse([]byte(t.CSV))
	if err != nil {
		return nil, fmt.Errorf("truth table %s: %w", t.ID, err)
	}
	out := make([]Result, len(table.Rows))
	for i := range table.Rows {
		if out[i], err = Row(ctx, engine, st, terms, &table.Rows[i]); err != nil {
			return nil, err
		}
		out[i].Table = t.ID
	}
	return out, nil
}

// Failed is a change that was not made: it would put in force what fails a
// signed-off truth table, or what must have one and has none.
type Failed struct {
	Rows []Failure
	// Unsigned are agreements that must have a table signed off.
	Unsigned []broker.AgreementID
	// Where finds a row's place in what its writer has: a file and line. It may be nil,
	// and says "" for what it does not know.
	Where func(table broker.TruthTableID, row string) string
}

// Failure is a row that would fail, and whose sign-off it goes against.
type Failure struct {
	Result
	By string // who signed the table off
}

// place is where a failure stands: in its file, or in the table as registered.
func (f *Failed) place(r *Failure) string {
	if f.Where != nil {
		if s := f.Where(r.Table, r.Situation); s != "" {
			return s + ": table " + string(r.Table)
		}
	}
	return fmt.Sprintf("table %s, line %d", r.Table, r.Line)
}

func (f *Failed) Error() string {
	var b strings.Builder
	b.WriteString("this is not put in force:")
	if len(f.Rows) > 0 {
		fmt.Fprintf(&b, " %d rows of signed-off truth tables fail", len(f.Rows))
	}
	const most = 50
	for i := range f.Rows[:min(most, len(f.Rows))] {
		r := &f.Rows[i]
		fmt.Fprintf(&b, "\n  %s (signed off by %s), agreement %s, row %s", f.place(r), r.By, r.Agreement, &r.Result)
	}
	if n := len(f.Rows) - most; n > 0 {
		fmt.Fprintf(&b, "\n  and %d more", n)
	}
	for _, a := range f.Unsigned {
		fmt.Fprintf(&b, "\n  agreement %s must have a truth table that is signed off, and has none", a)
	}
	b.WriteString("\ncorrect the agreement or the policy; or have a table signed off that is right (datafordeler policy approve-table); an agreement that is not active holds nothing up")
	return b.String()
}
