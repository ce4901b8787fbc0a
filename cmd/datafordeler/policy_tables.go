package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable/check"
	"datafordeler/policy"
)

// tablesChecked is what policy check-tables prints as JSON.
type tablesChecked struct {
	Policy string         `json:"policy"`
	Tables []check.Report `json:"tables"`
	Failed int            `json:"failed"`
	// Unsigned are agreements in force that must have a table signed off.
	Unsigned []broker.AgreementID `json:"unsigned"`
}

func policyCheckTables(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy check-tables")
	where := placeFlags(fs)
	var paths files
	fs.Var(&paths, "f", "")
	dir := fs.String("dir", "", "")
	table := fs.String("table", "", "")
	agreement := fs.String("agreement", "", "")
	failed := fs.Bool("failed", false, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	var docs []registry.Document
	var err error
	if len(paths) > 0 {
		if docs, err = registry.Load(paths...); err != nil {
			return usageError{err}
		}
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var st *registry.State
	n.control.View(func(now *registry.State) {
		plan := &registry.Plan{}
		if len(docs) > 0 {
			if plan, err = registry.NewPlan(now, docs, "check-tables", time.Now()); err != nil {
				return
			}
		}
		st, err = now.Preview(plan.Events)
	})
	if err != nil {
		return usageError{err}
	}
	for what, missing := range map[string]bool{
		"agreement" + quoted(*agreement): *agreement != "" && st.Agreement(broker.AgreementID(*agreement)) == nil,
		"truth table" + quoted(*table):   *table != "" && st.TruthTable(broker.TruthTableID(*table)) == nil,
	} {
		if missing {
			return fmt.Errorf("no %s is registered", what)
		}
	}
	bundle, err := candidate(st, *dir)
	if err != nil {
		return err
	}
	engine, err := policy.Compile(bundle)
	if err != nil {
		return usageError{err}
	}
	reports, err := check.Tables(ctx, engine, st, check.Only{Table: broker.TruthTableID(*table), Agreement: broker.AgreementID(*agreement)})
	if err != nil {
		return err
	}
	out := tablesChecked{Policy: bundle.Digest(), Tables: append([]check.Report{}, reports...), Unsigned: append([]broker.AgreementID{}, check.Unsigned(st)...)}
	for i := range reports {
		out.Failed += reports[i].Failed()
	}
	if *asJSON {
		err = printJSON(std.out, out, true)
	} else {
		err = writeTables(std.out, &out, *failed, rowPlaces(docs))
	}
	switch {
	case err != nil:
		return err
	case out.Failed > 0:
		return fmt.Errorf("%d rows did not come out as wanted", out.Failed)
	case len(out.Unsigned) > 0:
		return fmt.Errorf("%d agreements in force must have a truth table that is signed off, and have none: %v", len(out.Unsigned), out.Unsigned)
	}
	return nil
}

// candidate is the policy in dir; else the one in force; else the one that this
// version carries.
func candidate(st *registry.State, dir string) (policy.Bundle, error) {
	switch {
	case dir != "":
		b, err := policy.FromFS(os.DirFS(dir))
		if err != nil {
			return b, usagef("--dir %s: %w", dir, err)
		}
		return b, nil
	case st.Policy() != nil:
		return policy.Bundle{Modules: st.Policy().Modules}, nil
	}
	return policy.Embedded(), nil
}

// rowPlaces finds a row's file and line in declarations that were read; "" elsewhere.
func rowPlaces(docs []registry.Document) func(broker.TruthTableID, string) string {
	return func(table broker.TruthTableID, row string) string {
		for i := range docs {
			if docs[i].Kind == registry.KindTruthTable && docs[i].ID() == string(table) {
				return docs[i].Row(row)
			}
		}
		return ""
	}
}

// placed lets a refusal for a truth table name the files that the caller gave.
func placed(err error, docs []registry.Document) error {
	if f, ok := errors.AsType[*check.Failed](err); ok {
		f.Where = rowPlaces(docs)
	}
	return err
}

// judge asks beforehand what writing the events would be refused for.
func (n *node) judge(ctx context.Context, plan func(*registry.State) ([]registry.Event, error)) (err error) {
	var judge func(context.Context) error
	n.control.View(func(st *registry.State) {
		var events []registry.Event
		if events, err = plan(st); err == nil {
			judge, err = check.Guard(st, events)
		}
	})
	if err != nil || judge == nil {
		return err
	}
	return judge(ctx)
}

func writeTables(w io.Writer, all *tablesChecked, failedOnly bool, place func(broker.TruthTableID, string) string) error {
	fmt.Fprintf(w, "policy %s\n", all.Policy)
	for i := range all.Tables {
		r := &all.Tables[i]
		fmt.Fprintf(w, "\n%s: %s (%s)\n%s\n", r.Table, r.Title, r.Digest, signOffText(r))
		if len(r.Rows) == 0 {
			fmt.Fprintln(w, "it concerns no agreement that has not ended")
			continue
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		agreement := broker.AgreementID("")
		for i := range r.Rows {
			row := &r.Rows[i]
			if row.OK && failedOnly {
				continue
			}
			if row.Agreement != agreement {
				if err := tw.Flush(); err != nil {
					return err
				}
				agreement = row.Agreement
				fmt.Fprintf(w, "  agreement %s\n", agreement)
			}
			mark, at := "ok", fmt.Sprintf("line %d", row.Line)
			if !row.OK {
				mark = "FAILED"
			}
			// A file that was given has the declared content, which is not always what was signed.
			if p := place(r.Table, row.Situation); p != "" && (r.Status != check.Signed || !hasChanged(all.Tables, r.Table)) {
				at = p
			}
			fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\n", mark, at, row.Situation, row.Wanted(), row.Came())
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(w, "  %d of %d rows came out as wanted\n", len(r.Rows)-r.Failed(), len(r.Rows))
	}
	if len(all.Tables) == 0 {
		fmt.Fprintln(w, "no truth table is registered")
	}
	return nil
}

func hasChanged(all []check.Report, id broker.TruthTableID) bool {
	return slices.ContainsFunc(all, func(r check.Report) bool { return r.Table == id && r.Status == check.Changed })
}

func signOffText(r *check.Report) string {
	switch r.Status {
	case check.Signed:
		return fmt.Sprintf("signed off by %s %s: what fails it is not put in force", r.By, r.At.Format(time.DateOnly))
	case check.Changed:
		return fmt.Sprintf("changed since %s signed it off %s: what was signed off holds until this is too", r.By, r.At.Format(time.DateOnly))
	}
	return "not signed off: it holds nothing up"
}

// policyApproveTable signs a table off, as its digest names it.
func policyApproveTable(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy approve-table")
	where := placeFlags(fs)
	digest := fs.String("digest", "", "")
	by := fs.String("by", "", "")
	actor := fs.String("actor", "", "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parseMixed(fs, args, 1, 1); err != nil {
		return err
	}
	id := broker.TruthTableID(fs.Arg(0))
	switch {
	case *actor == "":
		return usagef("--actor is missing: who writes this? It stands in the registry's log")
	case *by == "":
		return usagef("--by is missing: which function signs it off, such as %q", "Juridisk seksjon")
	case *digest == "":
		return usagef("--digest is missing: the sign-off is of one content; see: datafordeler policy check-tables --table %s", id)
	}
	want, err := broker.ParseDigest(*digest)
	if err != nil {
		return usagef("--digest: %w", err)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	already := false
	var after *registry.State
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		if old, ok := st.ApprovedTable(id); ok && old.Table.Digest() == want && old.By == *by && st.TruthTable(id).Digest() == want {
			already = true
			return nil, nil
		}
		events, err := st.Link(time.Now(), *actor, registry.ApproveTable(registry.Approval{ID: id, Digest: want, By: *by}))
		if err == nil {
			err = st.Check(events[0]) // what a fold would refuse is told, not tried again
		}
		if err == nil {
			after, err = st.Preview(events)
		}
		return events, err
	})
	if err != nil {
		return err
	}
	if already {
		fmt.Fprintf(std.out, "%s is signed off by %s already\n", id, *by)
		return nil
	}
	fmt.Fprintf(std.out, "%s (%s) signed off by %s\n", id, want, *by)
	if err := sayFailing(ctx, std.out, after, id); err != nil {
		return err
	}
	return n.reportBinding(ctx, std, rev, *wait)
}

// sayFailing tells of rows that fail by what is in force already. The sign-off stands:
// it says what is right, and what is in force is wrong.
func sayFailing(ctx context.Context, w io.Writer, st *registry.State, id broker.TruthTableID) error {
	if st.Policy() == nil {
		return nil
	}
	engine, err := policy.Compile(policy.Bundle{Modules: st.Policy().Modules})
	if err != nil {
		return err
	}
	reports, err := check.Tables(ctx, engine, st, check.Only{Table: id})
	if err != nil {
		return err
	}
	for i := range reports {
		if n := reports[i].Failed(); n > 0 {
			fmt.Fprintf(w, "%d of its rows fail by what is in force now: no policy comes in force, and none of its agreements is changed, until that is mended; see: datafordeler policy check-tables --table %s\n", n, id)
		}
	}
	return nil
}
