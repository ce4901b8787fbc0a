package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/audit"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
)

func decisionsCommand() command {
	return command{
		name:    "decisions",
		summary: "find decisions: what was answered for a record, and why",
		help: `Usage: datafordeler decisions [filters] [--json] [--limit N]

Reads the decisions topic and prints the decisions that match all filters.

  --dataset D --partition P --offset O   of the record at that position: with all
                                         three, only what holds it is read
  --event-source URI                     of one event: its id is read from standard
                                         input (it may hold a person's number), and
                                         --dataset is needed too
  --subscription S                       for one subscription
  --outcome permit|deny
  --reason CODE                          denied for that reason, among others
  --limit N                              stop after N (100); 0 for all
  --json                                 one JSON object a line
` + placeHelp + `
Examples:
  datafordeler decisions --data data --dataset inntekt --partition 0 --offset 17
  datafordeler decisions --data data --outcome deny --reason no_open_case --json
`,
		run: decisions,
	}
}

// decisionFilter is what the flags ask for; zero fields ask for nothing.
type decisionFilter struct {
	dataset      broker.DatasetID
	partition    int
	offset       int64
	event        broker.EventHash
	subscription broker.SubscriptionID
	outcome      string
	reason       broker.Reason
}

func (f *decisionFilter) matches(d *broker.Decision) bool {
	if f.dataset != "" && d.Position.Dataset != f.dataset ||
		f.partition >= 0 && int(d.Position.Partition) != f.partition ||
		f.offset >= 0 && d.Position.Offset != f.offset ||
		!f.event.IsZero() && d.Event != f.event ||
		f.subscription != "" && d.Subscription != f.subscription ||
		f.outcome != "" && f.outcome != audit.OutcomeWord(d) {
		return false
	}
	if f.reason == "" {
		return true
	}
	for _, r := range d.Outcome.Reasons {
		if r == f.reason {
			return true
		}
	}
	return false
}

var errEnough = errors.New("enough")

func decisions(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("decisions")
	where := placeFlags(fs)
	dataset := fs.String("dataset", "", "")
	partition := fs.Int("partition", -1, "")
	offset := fs.Int64("offset", -1, "")
	source := fs.String("event-source", "", "")
	subscription := fs.String("subscription", "", "")
	outcome := fs.String("outcome", "", "")
	reason := fs.String("reason", "", "")
	limit := fs.Int("limit", 100, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *outcome != "" && *outcome != "permit" && *outcome != "deny" {
		return usagef("--outcome: %q is neither permit nor deny", *outcome)
	}
	if *source != "" && *dataset == "" {
		return usagef("--event-source needs --dataset")
	}
	n, err := where.open(ctx, std, *source != "")
	if err != nil {
		return err
	}
	defer n.close()
	filter := decisionFilter{
		dataset: broker.DatasetID(*dataset), partition: *partition, offset: *offset,
		subscription: broker.SubscriptionID(*subscription), outcome: *outcome, reason: broker.Reason(*reason),
	}
	if err := n.knows(filter); err != nil {
		return err
	}
	if *source != "" {
		b, err := io.ReadAll(io.LimitReader(std.in, 5000))
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		id := strings.TrimRight(string(b), "\r\n")
		if id == "" {
			return usagef("--event-source: the event's id is read from standard input, and nothing stands there")
		}
		filter.event = n.ring.Event(filter.dataset, *source, id)
	}
	out := bufio.NewWriter(std.out)
	defer out.Flush()
	found := 0
	show := func(d *broker.Decision) error {
		if !filter.matches(d) {
			return nil
		}
		found++
		if *asJSON {
			if err := printJSON(out, audit.NewDecision(d), false); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(out, "%s  %s  %-6s %-24s %s%s\n", d.Time.Format(time.RFC3339), placeOf(d), audit.OutcomeWord(d), d.Subscription, because(d), kindOf(d))
		}
		if *limit > 0 && found == *limit {
			return errEnough
		}
		return nil
	}
	fate := ""
	if filter.dataset != "" && filter.partition >= 0 && filter.offset >= 0 {
		err = flow.Covering(ctx, n.engine, n.cfg.Topics(), filter.dataset, int32(filter.partition), filter.offset, func(value []byte) (err error) {
			if deliver.IsSingles(value) {
				_, err = deliver.DecodeSingles(value, show) // which asks for the position too
				return err
			}
			fate, err = lookup(value, filter.offset, show)
			return err
		})
	} else {
		err = flow.Decisions(ctx, n.engine, n.cfg.Topics(), func(_ *deliver.BatchHeader, d *broker.Decision) error { return show(d) })
	}
	switch {
	case errors.Is(err, errEnough):
		fmt.Fprintf(std.err, "the first %d; more with --limit\n", found)
		return nil
	case err == nil && found == 0:
		fmt.Fprintln(std.err, "no decision matches"+fate)
	}
	return err
}

// lookup calls fn for the decisions on one record, and says what became of it
// where there are none.
func lookup(value []byte, offset int64, fn func(*broker.Decision) error) (fate string, err error) {
	n := 0
	if _, err := deliver.Lookup(value, offset, func(d *broker.Decision) error { n++; return fn(d) }); err != nil || n > 0 {
		return "", err
	}
	h, _, err := deliver.DecodeHeader(value)
	switch {
	case err != nil:
		return "", err
	case slices.Contains(h.RejectedAt, offset-h.First):
		return fmt.Sprintf(": the record was rejected; why stands in the rejections of %s", h.Dataset), nil
	}
	return ": the record was a repeat, or in no subscription's scope", nil
}

// knows refuses a filter that names what is not registered: it would match
// nothing, and look like an answer.
func (n *node) knows(f decisionFilter) error {
	return flagFault((&audit.Desk{Control: n.control}).Knows(f.dataset, f.subscription, f.reason))
}

// placeOf is where the record stands that was decided on.
func placeOf(d *broker.Decision) string {
	if d.Position.Offset == broker.Nowhere {
		return string(d.Position.Dataset) + " (not in the log)"
	}
	return fmt.Sprintf("%s/%d@%d", d.Position.Dataset, d.Position.Partition, d.Position.Offset)
}

// kindOf says of what kind a decision is, where it is not the stream's.
func kindOf(d *broker.Decision) string {
	if d.Kind == broker.StreamDecision {
		return ""
	}
	if d.Kind == broker.LookupDecision && !d.Outcome.Permit && len(d.Outcome.Bases) > 0 { // who was refused asked on some law
		bases := make([]string, len(d.Outcome.Bases))
		for i, b := range d.Outcome.Bases {
			bases[i] = string(b)
		}
		return " (lookup, on " + strings.Join(bases, ", ") + ")"
	}
	return " (" + d.Kind.String() + ")"
}

// because is the short why of a decision.
func because(d *broker.Decision) string {
	if d.Outcome.Permit {
		var bases []string
		for _, b := range d.Outcome.Bases {
			bases = append(bases, string(b))
		}
		if d.Kind == broker.LookupDecision && d.Event.IsZero() {
			return fmt.Sprintf("on %s, nothing found", strings.Join(bases, ", "))
		}
		return fmt.Sprintf("on %s, %d fields of %s@%d", strings.Join(bases, ", "), len(d.Fields), d.Package.ID, d.Package.Version)
	}
	var reasons []string
	for _, r := range d.Outcome.Reasons {
		reasons = append(reasons, string(r))
	}
	return strings.Join(reasons, ", ")
}
