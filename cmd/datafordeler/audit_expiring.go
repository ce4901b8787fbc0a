package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"datafordeler/broker/audit"
)

func auditExpiring(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit expiring")
	where := placeFlags(fs)
	days := fs.Int("days", 90, "")
	form := declareForm(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := form.check(); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	all, err := (&audit.Desk{Control: n.control}).Expiring(audit.Everything(), *days)
	if err != nil {
		return flagFault(err)
	}
	if len(all) == 0 {
		fmt.Fprintf(std.err, "nothing ends or is due for review within %d days\n", *days)
	}
	return printAs(form, std, all, audit.DueColumns, oneRow((*audit.Due).Row), func(w io.Writer) error { return printDue(w, all) })
}

func printDue(w io.Writer, all []audit.Due) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, d := range all {
		when := fmt.Sprintf("in %d days", d.Days)
		if d.Days < 0 {
			when = fmt.Sprintf("%d days ago", -d.Days)
		}
		id := d.ID
		if d.Count > 0 {
			id = fmt.Sprintf("%s, %s of them", id, thousands(d.Count))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t%s\n", d.At.UTC().Format(time.DateOnly), when, d.What, d.Kind, id, audit.Cell(d.Agreements))
	}
	return t.Flush()
}
