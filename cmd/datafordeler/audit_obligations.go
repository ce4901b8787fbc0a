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

// obligation is a line of the list.
type obligation struct {
	registry.Obligation
	Status   string           `json:"status"`
	Consumer broker.OrgNumber `json:"consumer"`
	Dataset  broker.DatasetID `json:"dataset"`
	Purpose  broker.Purpose   `json:"purpose"`
}

// obligationColumns are the table's; their names stay, and new ones come last.
var obligationColumns = []string{"agreement", "consent", "external", "consumer", "dataset", "purpose", "status", "do", "since", "due", "did", "receipted", "actor", "eli", "paragraph", "note", "revision"}

func (o *obligation) row() []string {
	r, receipted := registry.Receipted{ELI: o.ELI, Paragraph: o.Paragraph}, ""
	if o.Receipt != nil {
		r, receipted = *o.Receipt, o.Receipt.At.Format(time.RFC3339)
	}
	return []string{string(o.Agreement), string(o.Consent), o.External, string(o.Consumer), string(o.Dataset), string(o.Purpose), o.Status, string(o.Do),
		o.Since.Format(time.RFC3339), o.Due.Format(time.RFC3339), string(r.Did), receipted, r.Actor, r.ELI, r.Paragraph, r.Note, fmt.Sprint(o.Revision)}
}

var obligationStatuses = []string{"open", "overdue", "receipted"}

func auditObligations(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit obligations")
	where := placeFlags(fs)
	status := fs.String("status", "", "")
	agreement := fs.String("agreement", "", "")
	form := declareForm(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := form.check(); err != nil {
		return err
	}
	if *status != "" && !slices.Contains(obligationStatuses, *status) {
		return usagef("--status%s: want one of %v", quoted(*status), obligationStatuses)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var all []obligation
	known := *agreement == ""
	now := time.Now()
	n.control.View(func(st *registry.State) {
		known = known || st.Agreement(broker.AgreementID(*agreement)) != nil
		for o := range st.ObligationsAfter(0) {
			a := st.Agreement(o.Agreement)
			v := obligation{o, "open", a.Consumer, a.Dataset, a.Purpose}
			switch {
			case o.Receipt != nil:
				v.Status = "receipted"
			case o.Overdue(now):
				v.Status = "overdue"
			}
			if *agreement != "" && o.Agreement != broker.AgreementID(*agreement) ||
				*status != "" && *status != v.Status && !(*status == "open" && v.Status == "overdue") {
				continue
			}
			all = append(all, v)
		}
	})
	if !known {
		return usagef("--agreement%s: no agreement of that name is registered", quoted(*agreement))
	}
	if len(all) == 0 {
		fmt.Fprintln(std.err, "no withdrawn consent lays anything of the kind on anybody")
	}
	return printAs(form, std, all, obligationColumns, func(o *obligation) [][]string { return [][]string{o.row()} }, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for i := range all {
			o := &all[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s by %s\tconsent %s", o.Since.UTC().Format(time.DateOnly), o.Agreement, o.Status, o.Do, o.Due.UTC().Format(time.DateOnly), o.Consent)
			if r := o.Receipt; r != nil {
				fmt.Fprintf(t, "\t%s %s %s %s", r.At.UTC().Format(time.DateOnly), r.Did, audit.Cell([]string{r.ELI, r.Paragraph}), r.Note)
			}
			fmt.Fprintln(t)
		}
		return t.Flush()
	})
}
