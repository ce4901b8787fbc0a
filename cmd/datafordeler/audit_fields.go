package main

import (
	"context"
	"fmt"
	"io"

	"datafordeler/broker"
	"datafordeler/broker/audit"
)

func auditFields(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit fields")
	where := placeFlags(fs)
	agreement := fs.String("agreement", "", "")
	span, form := declareSpan(fs), declareForm(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	desk, err := openDesk(ctx, std, where, span, form)
	if err != nil {
		return err
	}
	defer desk.close()
	all, err := desk.Fields(ctx, audit.Everything(), broker.AgreementID(*agreement), span.begin, span.end)
	if err != nil {
		return flagFault(err)
	}
	wrong := 0
	for i := range all {
		if len(all[i].Faults) > 0 {
			wrong++
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(std.err, "nothing was delivered in that time")
	}
	err = printAs(form, std, all, audit.FieldsColumns, (*audit.Fields).Rows, func(w io.Writer) error {
		for i := range all {
			printFields(w, &all[i])
		}
		return nil
	})
	if err == nil && wrong > 0 {
		return fmt.Errorf("under %d agreements something was delivered that was not agreed", wrong)
	}
	return err
}

func printFields(w io.Writer, r *audit.Fields) {
	fmt.Fprintf(w, "%s  %s, %s@%d: %s deliveries, %d fields agreed\n", r.Agreement, r.Consumer, r.Package.ID, r.Package.Version, thousands(r.Deliveries), len(r.Agreed))
	if r.Notices > 0 {
		fmt.Fprintf(w, "  of the deliveries, %s told of a correction or retraction, without data\n", thousands(r.Notices))
	}
	if r.Lookups > 0 || r.Backfills > 0 || r.Nothing > 0 {
		fmt.Fprintf(w, "  of the deliveries, %s by lookup and %s by backfill; %s permitted lookups found nothing\n", thousands(r.Lookups), thousands(r.Backfills), thousands(r.Nothing))
	}
	for _, s := range r.Sets {
		if len(s.Fields) == 0 && !s.Shielded {
			continue // the notices
		}
		shielded := ""
		if s.Shielded {
			shielded = ", shielded"
		}
		fmt.Fprintf(w, "  %s with %d fields%s: %s\n", thousands(s.Count), len(s.Fields), shielded, audit.Cell(s.Fields))
	}
	if len(r.Never) > 0 {
		fmt.Fprintf(w, "  agreed and never delivered: %s\n", audit.Cell(r.Never))
	}
	for _, f := range r.Faults {
		fmt.Fprintf(w, "  FAULT %s\n", f)
	}
}
