package check

import (
	"context"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// SignOff is how a table stands with whoever signs tables off.
type SignOff string

// The ways.
const (
	Signed    SignOff = "signed"     // it holds: what fails it is not put in force
	NotSigned SignOff = "not-signed" // it holds nothing up
	// Changed was declared after another content was signed off. It does not hold:
	// what was signed off does, until this is.
	Changed SignOff = "changed"
)

// Report is one content of a table, judged for all agreements that it concerns.
type Report struct {
	Table  broker.TruthTableID `json:"table"`
	Title  string              `json:"title"`
	Digest broker.Digest       `json:"digest"`
	Status SignOff             `json:"status"`
	By     string              `json:"by,omitempty"` // who signed it off
	At     time.Time           `json:"at,omitzero"`
	Rows   []Result            `json:"rows"`
}

// Failed is how many rows did not come out as wanted.
func (r *Report) Failed() (n int) {
	for i := range r.Rows {
		if !r.Rows[i].OK {
			n++
		}
	}
	return n
}

// Only narrows which tables are judged, and for which agreement; "" is all.
type Only struct {
	Table     broker.TruthTableID
	Agreement broker.AgreementID
}

// Tables judges every table as it was signed off, and as it was declared since, for
// every agreement that it concerns and that has not ended. The error is a table that
// cannot be read, or that ctx ended.
func Tables(ctx context.Context, engine *policy.Engine, st *registry.State, only Only) ([]Report, error) {
	var out []Report
	for _, declared := range st.TruthTables() {
		if only.Table != "" && declared.ID != only.Table {
			continue
		}
		signed, ok := st.ApprovedTable(declared.ID)
		if ok {
			if err := report(ctx, engine, st, only, &out, signed.Table, &Report{Status: Signed, By: signed.By, At: signed.At}); err != nil {
				return nil, err
			}
		}
		switch {
		case !ok:
			if err := report(ctx, engine, st, only, &out, declared, &Report{Status: NotSigned}); err != nil {
				return nil, err
			}
		case signed.Table.Digest() != declared.Digest():
			if err := report(ctx, engine, st, only, &out, declared, &Report{Status: Changed, By: signed.By, At: signed.At}); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func report(ctx context.Context, engine *policy.Engine, st *registry.State, only Only, out *[]Report, t *broker.TruthTable, r *Report) error {
	r.Table, r.Title, r.Digest, r.Rows = t.ID, t.Title, t.Digest(), []Result{}
	concerned := false
	for _, a := range st.Agreements() {
		if a.Status == broker.Ended || !t.Concerns(a) || only.Agreement != "" && a.ID != only.Agreement {
			continue
		}
		concerned = true
		rows, err := Table(ctx, engine, st, a.ID, t)
		if err != nil {
			return err
		}
		r.Rows = append(r.Rows, rows...)
	}
	if concerned || only.Agreement == "" {
		*out = append(*out, *r)
	}
	return nil
}

// Unsigned are the agreements in force that must have a table signed off and have none.
func Unsigned(st *registry.State) []broker.AgreementID {
	var out []broker.AgreementID
	for _, a := range st.Agreements() {
		if requires(st, a) && len(st.ApprovedTables(a)) == 0 {
			out = append(out, a.ID)
		}
	}
	return out
}
