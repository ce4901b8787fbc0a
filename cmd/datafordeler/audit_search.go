package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"datafordeler/broker/audit"
	"datafordeler/broker/store"
)

func declareFilters(fs *flag.FlagSet) *audit.Filters {
	f := &audit.Filters{}
	for name, to := range map[string]*string{
		"dataset": &f.Dataset, "subscription": &f.Subscription, "agreement": &f.Agreement, "basis": &f.Basis, "package": &f.Package,
		"consumer": &f.Consumer, "provider": &f.Provider, "supplier": &f.Supplier, "decision": &f.Decision, "delivery": &f.Delivery, "event": &f.Event, "request": &f.Request,
		"outcome": &f.Outcome, "reason": &f.Reason, "shielded": &f.Shielded, "kind": &f.Kind, "period": &f.Period, "cursor": &f.Cursor,
	} {
		fs.StringVar(to, name, "", "")
	}
	fs.Int64Var(&f.Partition, "partition", -1, "")
	fs.Int64Var(&f.Offset, "offset", -1, "")
	fs.IntVar(&f.Limit, "limit", store.DefaultLimit, "")
	fs.BoolVar(&f.Oldest, "oldest", false, "")
	return f
}

func auditSearch(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit search")
	where, filters := placeFlags(fs), declareFilters(fs)
	span, form := declareSpan(fs), declareForm(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	filters.From, filters.To = span.from, span.to
	q, err := filters.Query()
	if err != nil {
		return flagFault(err)
	}
	desk, err := openDesk(ctx, std, where, span, form)
	if err != nil {
		return err
	}
	defer desk.close()
	page, err := desk.Search(ctx, audit.Everything(), q)
	if err != nil {
		return flagFault(err)
	}
	return printHits(std, form, page)
}

// printHits shows a page; how to go on stands on standard error.
func printHits(std stdio, f *form, page store.Page) error {
	hits := make([]audit.Hit, len(page.Hits))
	for i := range page.Hits {
		hits[i] = audit.NewHit(&page.Hits[i])
	}
	if err := printAs(f, std, hits, audit.HitColumns, oneRow((*audit.Hit).Row), func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for i := range page.Hits {
			d := &page.Hits[i].Decision
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s%s\n", d.Time.UTC().Format(time.RFC3339), placeOf(d), audit.OutcomeWord(d), page.Hits[i].Parties.Consumer,
				d.Subscription, because(d), kindOf(d))
		}
		return t.Flush()
	}); err != nil {
		return err
	}
	switch {
	case page.Next != "":
		fmt.Fprintf(std.err, "more: the same question with --cursor %s\n", page.Next)
	case len(page.Hits) == 0:
		fmt.Fprintln(std.err, "no decision matches")
	}
	return nil
}
