package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
)

// demoResult is what --json prints. Denials are counted by their first reason.
type demoResult struct {
	Published     int64                          `json:"published"`
	Rejected      map[broker.RejectionCode]int64 `json:"rejected"`
	Repeated      int64                          `json:"repeated"`
	OutOfScope    int64                          `json:"out_of_scope"`
	Decisions     int64                          `json:"decisions"`
	Permitted     int64                          `json:"permitted"`
	Denied        map[broker.Reason]int64        `json:"denied"`
	Delivered     int64                          `json:"delivered"` // read back from the mailboxes
	Notices       int64                          `json:"-"`         // likewise: of corrections and retractions whose data was denied
	Subscriptions []demoSubscription             `json:"subscriptions"`
	Seconds       float64                        `json:"seconds"`
}

type demoSubscription struct {
	ID        broker.SubscriptionID   `json:"id"`
	InScope   int64                   `json:"in_scope"`
	Permitted int64                   `json:"permitted"`
	Shielded  int64                   `json:"-"` // of those permitted; under a ceiling, which ones those are depends on timing
	Denied    map[broker.Reason]int64 `json:"denied"`
	Fields    []broker.Pointer        `json:"fields"`
	bytesIn   int64
	bytesOut  int64
}

func (d *demoRun) report(ctx context.Context, w io.Writer, asJSON bool, seconds float64) error {
	t := d.broker.Totals()
	delivered, err := d.broker.Delivered(ctx)
	if err != nil {
		return err
	}
	r := demoResult{
		Published: d.progress.count.Load(), Rejected: t.Rejected, Repeated: t.Repeated, OutOfScope: t.OutOfScope,
		Decisions: t.Decisions, Permitted: t.Permitted, Denied: t.Denied, Delivered: delivered.Deliveries - d.before.Deliveries, Notices: delivered.Notices - d.before.Notices, Seconds: seconds,
	}
	totals := map[broker.SubscriptionID]flow.SubscriptionTotals{}
	for _, s := range t.Subscriptions {
		totals[s.ID] = s
	}
	d.node.control.View(func(st *registry.State) {
		for _, terms := range st.AllTerms() {
			if terms.Subscription.Mailbox == "" {
				continue // it looks up: nothing comes by itself
			}
			var p *minimise.Projection
			if p, err = minimise.Compile(terms.Package, terms.Dataset); err != nil {
				return
			}
			s := totals[terms.Subscription.ID]
			if s.Denied == nil {
				s.Denied = map[broker.Reason]int64{}
			}
			r.Subscriptions = append(r.Subscriptions, demoSubscription{
				ID: terms.Subscription.ID, InScope: s.InScope, Permitted: s.Permitted, Shielded: s.Shielded, Denied: s.Denied,
				Fields: p.Fields(false), bytesIn: s.BytesIn, bytesOut: s.BytesOut,
			})
		}
	})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, r, false)
	}
	r.print(w)
	return nil
}

func (r *demoResult) print(w io.Writer) {
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SUBSCRIPTION\tIN SCOPE\tPERMITTED\tSHIELDED\tDENIED\tBYTES IN\tBYTES OUT\tDENIED BY FIRST REASON")
	for _, s := range r.Subscriptions {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, thousands(s.InScope), thousands(s.Permitted), thousands(s.Shielded), thousands(s.InScope-s.Permitted),
			thousands(s.bytesIn), thousands(s.bytesOut), counts(s.Denied))
	}
	tw.Flush()
	fmt.Fprintf(w, "\nPublished %s = rejected %s + repeated %s + out of every scope %s + in scope of something %s\n",
		thousands(r.Published), thousands(sum(r.Rejected)), thousands(r.Repeated), thousands(r.OutOfScope),
		thousands(r.Published-sum(r.Rejected)-r.Repeated-r.OutOfScope))
	fmt.Fprintf(w, "  rejected: %s\n", counts(r.Rejected))
	fmt.Fprintf(w, "Decisions %s = permitted %s + denied %s; deliveries read back from the mailboxes: %s\n",
		thousands(r.Decisions), thousands(r.Permitted), thousands(sum(r.Denied)), thousands(r.Delivered))
	if r.Notices > 0 {
		fmt.Fprintf(w, "Told, without data, of a correction or retraction after the right to the data had ended: %s\n", thousands(r.Notices))
	}
	fmt.Fprintf(w, "%.1f s\n", r.Seconds)
}

// counts is "reason 3, other 1", most first.
func counts[K ~string](m map[K]int64) string {
	if len(m) == 0 {
		return "–"
	}
	keys := slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%s %s", k, thousands(m[k]))
	}
	return strings.Join(parts, ", ")
}

func sum[K comparable](m map[K]int64) int64 {
	var n int64
	for _, v := range m {
		n += v
	}
	return n
}
