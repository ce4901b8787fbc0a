package main

import (
	"context"
	"fmt"
	"io"

	"datafordeler/broker"
	"datafordeler/broker/audit"
)

func auditCoverage(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit coverage")
	where := placeFlags(fs)
	dataset := fs.String("dataset", "", "")
	span, form := declareSpan(fs), declareForm(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *dataset == "" {
		return usagef("--dataset is missing: which dataset's records?")
	}
	desk, err := openDesk(ctx, std, where, span, form)
	if err != nil {
		return err
	}
	defer desk.close()
	all, err := desk.Coverage(ctx, audit.Everything(), broker.DatasetID(*dataset), span.begin, span.end)
	if err != nil {
		return flagFault(err)
	}
	kinds, err := desk.Kinds(ctx, audit.Everything(), broker.DatasetID(*dataset), span.begin, span.end)
	if err != nil {
		return flagFault(err)
	}
	if len(all) == 0 && len(kinds) == 0 {
		return fmt.Errorf("no record of %s was decided on in that time, so there is nothing to account for", *dataset)
	}
	var wrong int
	var sum audit.Coverage
	for i := range all {
		if desk.Wrong(&all[i]) {
			wrong++
		}
		sum.Add(&all[i])
	}
	// Of a partition by the stream, or of a kind of single decisions.
	type account interface{ Row() []string }
	rows := make([]account, 0, len(all)+len(kinds))
	for i := range all {
		rows = append(rows, &all[i])
	}
	for i := range kinds {
		rows = append(rows, &kinds[i])
		if !kinds[i].Balanced {
			wrong++
		}
	}
	err = printAs(form, std, rows, audit.CoverageColumns, oneRow(func(a *account) []string { return (*a).Row() }), func(w io.Writer) error {
		for i := range all {
			printCoverage(w, &all[i], fmt.Sprintf("%s/%d", all[i].Dataset, all[i].Partition))
		}
		if len(all) > 1 {
			printCoverage(w, &sum, "all of it")
		}
		for i := range kinds {
			printKind(w, &kinds[i])
		}
		return nil
	})
	if err == nil && wrong > 0 {
		return fmt.Errorf("%d of %d accounts do not balance", wrong, len(rows))
	}
	return err
}

// sign stands between two sides of a sum.
func sign(equal bool) string {
	if equal {
		return "="
	}
	return "≠"
}

func printKind(w io.Writer, k *audit.KindCoverage) {
	fmt.Fprintf(w, "%s, %s\n  %s decisions %s %s permits + %s denials", k.Dataset, k.Kind, thousands(k.Decisions), sign(k.Decisions == k.Permits+k.Denials), thousands(k.Permits), thousands(k.Denials))
	if k.Nowhere > 0 {
		fmt.Fprintf(w, "; %s lookups on what does not lie in the log", thousands(k.Nowhere))
	}
	fmt.Fprintln(w)
}

func printCoverage(w io.Writer, c *audit.Coverage, name string) {
	fmt.Fprintf(w, "%s\n  %s published %s %s rejected + %s repeated + %s out of every scope + %s in some scope\n", name, thousands(c.Published),
		sign(c.Published == c.Rejected+c.Repeated+c.OutOfScope+c.InScope), thousands(c.Rejected), thousands(c.Repeated), thousands(c.OutOfScope), thousands(c.InScope))
	fmt.Fprintf(w, "  %s decisions %s %s permits + %s denials\n", thousands(c.Decisions), sign(c.Decisions == c.Permits+c.Denials), thousands(c.Permits), thousands(c.Denials))
	for _, g := range c.Gaps {
		fmt.Fprintf(w, "  MISSING: nothing says what became of offsets %d to %d\n", g.First, g.Last)
	}
	for _, o := range c.Overlaps {
		fmt.Fprintf(w, "  TWICE: offsets %d to %d were decided on more than once\n", o.First, o.Last)
	}
	for _, u := range c.Unbalanced {
		fmt.Fprintf(w, "  UNBALANCED: the batch at decisions/%d@%d, offsets %d to %d, says %d in some scope and has %d\n", u.LogPartition, u.LogOffset, u.First, u.Last, u.Want, u.Have)
	}
}
