package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

func retentionCommand() command {
	return command{
		name:    "retention",
		summary: "show, and bring about, how long each topic keeps its records",
		help: `Usage: datafordeler retention [--enforce] [--json]

Shows for each topic how long it is to keep records, what says so, how long it
keeps them in fact, how old its oldest record is and how large it is (all copies
together).

Datasets declare it (retention: {sourceDays, rejectedDays, deliveriesDays}), a
mailbox with a topic of its own may ask for less (retentionDays), and the
configuration's retention holds where nothing is declared. A topic that carries
several datasets keeps for the shortest of their times.

A record is gone from a running engine when it is as old as its topic's retention,
a thirtieth more (at least ten minutes, at most a week) and an hour: the column
"gone by". Exit code 1 where a topic's settings are not what is declared, or a
record is older than that. Instances and registry apply bring the settings about;
--enforce does so now. What is shortened deletes for good what is older.
` + placeHelp + `
Examples:
  datafordeler retention --config broker.yaml
  datafordeler retention --enforce --config broker.yaml
  datafordeler retention --json --data data | jq '.[] | select(.faults)'
`,
		run: retention,
	}
}

// keptTopic is a line of the answer; durations are in seconds, −1 for ever.
type keptTopic struct {
	Topic    string     `json:"topic"`
	Declared int64      `json:"declared_seconds"`
	By       string     `json:"declared_by"`
	InForce  int64      `json:"in_force_seconds"`
	GoneBy   int64      `json:"gone_by_seconds,omitempty"`
	Oldest   *time.Time `json:"oldest_record,omitempty"`
	Bytes    int64      `json:"bytes"`
	Faults   []string   `json:"faults,omitempty"`

	declared, inForce time.Duration
}

func retention(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("retention")
	where := placeFlags(fs)
	enforce := fs.Bool("enforce", false, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	if *enforce {
		if err := n.ensureTopics(ctx); err != nil {
			return err
		}
	}
	topics, err := n.keptTopics(ctx, time.Now())
	if err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(std.out, topics, true)
	} else {
		err = printKept(std, topics)
	}
	faults := 0
	for _, t := range topics {
		faults += len(t.Faults)
	}
	if err == nil && faults > 0 {
		err = fmt.Errorf("%s: datafordeler retention --enforce brings the settings to what is declared", counted(faults, "fault"))
	}
	return err
}

// keptTopics holds what topics are to keep against what they keep.
func (n *node) keptTopics(ctx context.Context, now time.Time) ([]*keptTopic, error) {
	var specs []kafka.TopicSpec
	var err error
	why := map[string]string{}
	names := n.cfg.Topics()
	n.control.View(func(st *registry.State) {
		specs, err = flow.BrokerTopics(n.cfg.Config, n.cfg.Intake.WindowAge, st)
		kept := flow.Retention(n.cfg.Config, st)
		why[names.Deliveries()] = kept.Deliveries.Why
		for d := range kept.Source {
			why[names.Source(string(d))], why[names.Rejected(string(d))] = kept.Source[d].Why, kept.Rejected[d].Why
		}
		for m, k := range kept.Mailbox {
			why[names.Mailbox(string(m))] = k.Why
		}
	})
	if err != nil {
		return nil, err
	}
	specs = append(specs, n.cfg.ControlSpec(), n.cfg.LedgerSpec(), n.cfg.CheckpointsSpec())
	slices.SortFunc(specs, func(a, b kafka.TopicSpec) int { return strings.Compare(a.Name, b.Name) })
	adm, err := n.engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	var all []string
	for _, s := range specs {
		all = append(all, s.Name)
	}
	there, err := kafka.Holdings(ctx, adm, all...)
	if err != nil {
		return nil, err
	}
	var out []*keptTopic
	for _, s := range specs {
		h, ok := there[s.Name]
		late := s.Name == names.Ledger() || s.Name == names.Checkpoints()
		if !ok && late {
			continue // made by whoever writes it first
		}
		out = append(out, n.hold(s, h, ok, why[s.Name], now))
	}
	return out, nil
}

func (n *node) hold(s kafka.TopicSpec, h kafka.Holding, exists bool, why string, now time.Time) *keptTopic {
	t := &keptTopic{Topic: s.Name, By: why, Bytes: h.Bytes, declared: s.Retention, inForce: h.Retention}
	t.Declared, t.InForce, t.GoneBy = seconds(s.Retention), seconds(h.Retention), int64(kafka.Gone(s.Retention).Seconds())
	if t.By == "" {
		t.By = "the format: it is evidence"
	}
	if !exists {
		t.Faults = []string{"the topic does not exist"}
		return t
	}
	if !h.Oldest.IsZero() {
		t.Oldest = &h.Oldest
	}
	if t.Declared != t.InForce {
		t.Faults = append(t.Faults, fmt.Sprintf("it keeps for %s where %s is declared", span(h.Retention), span(s.Retention)))
	} else if !h.Own {
		t.Faults = append(t.Faults, "its retention is the cluster's default and changes with it")
	}
	if want := kafka.RetentionLag(s.Retention); s.Retention > 0 && h.Segment != want {
		t.Faults = append(t.Faults, fmt.Sprintf("its segments take records for %s where %s keeps the retention true", span(h.Segment), span(want)))
	}
	if gone := kafka.Gone(s.Retention); gone > 0 && !h.Oldest.IsZero() && now.Sub(h.Oldest) > gone {
		t.Faults = append(t.Faults, fmt.Sprintf("its oldest record is %s old, and should have been gone at %s: look at the engine's log, and at the clock of who wrote it", span(now.Sub(h.Oldest)), span(gone)))
	}
	return t
}

func seconds(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return int64(d.Seconds())
}

// span writes a duration in days where it is some.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d <= 0:
		return "for ever"
	case d < day:
		return d.Round(time.Second).String()
	case d%day == 0:
		return fmt.Sprintf("%d d", d/day)
	}
	return fmt.Sprintf("%d d %v", d/day, (d % day).Round(time.Minute))
}

func printKept(std stdio, topics []*keptTopic) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "topic\tdeclared\tin force\tgone by\toldest record\tsize\tdeclared by")
	for _, t := range topics {
		inForce, oldest, gone := span(t.inForce), "none", "never"
		if len(t.Faults) > 0 {
			inForce += " !"
		}
		if t.Oldest != nil {
			oldest = t.Oldest.Format(time.RFC3339)
		}
		if t.GoneBy > 0 {
			gone = span(time.Duration(t.GoneBy) * time.Second)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Topic, span(t.declared), inForce, gone, oldest, size(t.Bytes), t.By)
	}
	err := w.Flush()
	for _, t := range topics {
		for _, f := range t.Faults {
			_, e := fmt.Fprintf(std.err, "%s: %s\n", t.Topic, f)
			err = errors.Join(err, e)
		}
	}
	return err
}

// size writes a number of bytes for a reader.
func size(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// repeatsFit refuses a source that would keep for less than repeats are recognised.
func repeatsFit(docs []registry.Document, window time.Duration) error {
	for _, d := range docs {
		ds, ok := d.Body.(*broker.Dataset)
		if !ok || ds.Retention == nil || ds.Retention.SourceDays <= 0 {
			continue
		}
		if kept := time.Duration(ds.Retention.SourceDays) * 24 * time.Hour; kept < window {
			return usagef("nothing was written: %s:%d: dataset %s: retention/sourceDays is %d, and repeats are recognised for %v (intake.window_age): keep for at least as long",
				d.File, d.Line, ds.ID, ds.Retention.SourceDays, window)
		}
	}
	return nil
}

// sayShorter tells what a change of the registry deletes.
func sayShorter(w io.Writer, was, is map[string]time.Duration) {
	for _, topic := range slices.Sorted(maps.Keys(was)) {
		old := was[topic]
		if now, ok := is[topic]; ok && now > 0 && (old <= 0 || now < old) {
			fmt.Fprintf(w, "! %s keeps for %s where it kept for %s: what is older is deleted for good\n", topic, span(now), span(old))
		}
	}
}

// byTopic are the retentions of topics by name.
func (n *node) byTopic(kept *registry.Retention) map[string]time.Duration {
	topics := n.cfg.Topics()
	out := map[string]time.Duration{topics.Deliveries(): kept.Deliveries.For}
	for d := range kept.Source {
		out[topics.Source(string(d))] = kept.Source[d].For
		out[topics.Rejected(string(d))] = kept.Rejected[d].For
	}
	for m, k := range kept.Mailbox {
		out[topics.Mailbox(string(m))] = k.For
	}
	return out
}
