package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/audit"
	"datafordeler/broker/registry"
)

// deviation is a line of the list.
type deviation struct {
	registry.DeviationState
	Dataset   broker.DatasetID   `json:"dataset"`
	Agreement broker.AgreementID `json:"agreement"`
}

// deviationColumns are the table's; their names stay, and new ones come last.
var deviationColumns = []string{"id", "status", "kind", "dataset", "agreement", "subscription", "decision", "fields", "since", "actor", "note", "answered", "answer", "revision"}

func (d *deviation) row() []string {
	answered := ""
	if !d.Answered.IsZero() {
		answered = d.Answered.Format(time.RFC3339)
	}
	return []string{d.ID.String(), string(d.Status), string(d.Kind), string(d.Dataset), string(d.Agreement), string(d.Subscription), d.Decision.String(),
		audit.Cell(d.Fields), d.Since.Format(time.RFC3339), d.Actor, d.Note, answered, d.Answer, fmt.Sprint(d.Revision)}
}

func auditDeviations(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit deviations")
	where := placeFlags(fs)
	status := fs.String("status", "", "")
	dataset := fs.String("dataset", "", "")
	form := declareForm(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := form.check(); err != nil {
		return err
	}
	if *status != "" && *status != "open" && !slices.Contains(registry.DeviationStatuses, registry.DeviationStatus(*status)) {
		return usagef("--status%s: want open or one of %v", quoted(*status), registry.DeviationStatuses)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	if err := (&audit.Desk{Control: n.control}).Knows(broker.DatasetID(*dataset), "", ""); err != nil {
		return flagFault(err)
	}
	var all []deviation
	n.control.View(func(st *registry.State) {
		for _, d := range st.Deviations() {
			t := st.Terms(d.Subscription)
			if t == nil || *dataset != "" && t.Dataset.ID != broker.DatasetID(*dataset) ||
				*status != "" && *status != string(d.Status) && !(*status == "open" && d.Status.Open()) {
				continue
			}
			all = append(all, deviation{d, t.Dataset.ID, t.Agreement.ID})
		}
	})
	if len(all) == 0 {
		fmt.Fprintln(std.err, "nothing of the kind was reported")
	}
	return printAs(form, std, all, deviationColumns, func(d *deviation) [][]string { return [][]string{d.row()} }, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for i := range all {
			d := &all[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t%s\t%s\n", d.Since.UTC().Format(time.DateOnly), d.Status, d.Kind, d.Subscription, audit.Cell(d.Fields), d.Decision, d.Note)
			if d.Answer != "" {
				fmt.Fprintf(t, "%s\tanswer\t\t%s\n", d.Answered.UTC().Format(time.DateOnly), d.Answer)
			}
		}
		return t.Flush()
	})
}
