package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"datafordeler/broker/flow"
)

func backfillCommand() command {
	return command{
		name:    "backfill",
		summary: "show how far earlier records have come to those who are owed them later",
		help: `Usage: datafordeler backfill [--all] [--json]

A case that is opened and a consent that is given bring the newest records that
were published on their subject before (a subscription's catchUp), and a
subscription with a start brings what was published from that time on. Each source
partition does this beside its stream, as fast as flow.backfill.records_per_second
allows.

Shows, for each partition that has something left: how many cases and consents
wait, of the subscription under way how many offsets of the source are left, and how
many are still to be looked at for corrections and retractions that are told of
although their data is denied.
With --all also those that have nothing left.
` + placeHelp + `
Examples:
  datafordeler backfill --config broker.yaml
  datafordeler backfill --json --data data | jq 'map(.waiting) | add'
`,
		run: backfill,
	}
}

func backfill(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("backfill")
	where := placeFlags(fs)
	all := fs.Bool("all", false, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	left, err := flow.BackfillLeft(ctx, n.engine, n.cfg.Topics(), n.cfg.Flow.Group, n.control)
	if err != nil {
		return err
	}
	shown := []flow.BackfillProgress{}
	for _, p := range left {
		if *all || !p.Done() {
			shown = append(shown, p)
		}
	}
	if *asJSON {
		return printJSON(std.out, shown, true)
	}
	if len(shown) == 0 {
		_, err := fmt.Fprintln(std.out, "nothing is left: whoever is owed earlier records has them")
		return err
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "dataset\tpartition\tcases and consents\tsubscription\tleft of it\tmore to come\tto look at for notices")
	for _, p := range shown {
		sub, of, more := "none", "-", max(0, p.Starts-1)
		if p.Subscription != "" {
			sub, of = string(p.Subscription), "not begun"
		}
		if p.Starts > 0 && p.Left >= 0 {
			of = thousands(p.Left)
		}
		waiting := thousands(p.Waiting)
		if p.Pending {
			waiting, sub, of = "a transaction is open: ask again", "?", "?"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%d\t%s\n", p.Dataset, p.Partition, waiting, sub, of, more, thousands(p.Notices))
	}
	return w.Flush()
}
