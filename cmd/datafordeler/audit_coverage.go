package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/store"
)

// coverage is one partition's account, for programs.
type coverage struct {
	Dataset    broker.DatasetID `json:"dataset"`
	Partition  int32            `json:"partition"`
	TopicID    broker.Digest    `json:"topic_id"`
	From       time.Time        `json:"from"`
	To         time.Time        `json:"to"`
	Published  int64            `json:"published"`
	Rejected   int64            `json:"rejected"`
	Repeated   int64            `json:"repeated"`
	OutOfScope int64            `json:"out_of_scope"`
	InScope    int64            `json:"in_scope"`
	Decisions  int64            `json:"decisions"`
	Permits    int64            `json:"permits"`
	Denials    int64            `json:"denials"`
	Balanced   bool             `json:"balanced"`
	Gaps       []store.Range    `json:"gaps,omitempty"`
	Overlaps   []store.Range    `json:"overlaps,omitempty"`
	Unbalanced []imbalance      `json:"unbalanced,omitempty"`
}

// imbalance is a batch whose counts do not add up.
type imbalance struct {
	LogPartition int32 `json:"log_partition"`
	LogOffset    int64 `json:"log_offset"`
	First        int64 `json:"first"`
	Last         int64 `json:"last"`
	Want         int64 `json:"in_scope_by_its_head"`
	Have         int64 `json:"in_scope"`
}

func auditCoverage(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit coverage")
	where := placeFlags(fs)
	dataset := fs.String("dataset", "", "")
	from, to := fs.String("from", "", ""), fs.String("to", "", "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *dataset == "" {
		return usagef("--dataset is missing: which dataset's records?")
	}
	begin, err := timeFlag("from", *from)
	if err != nil {
		return err
	}
	end, err := timeFlag("to", *to)
	if err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.knows(decisionFilter{dataset: broker.DatasetID(*dataset)}); err != nil {
		return err
	}
	s, err := n.openStore(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	all, err := s.Coverage(ctx, broker.DatasetID(*dataset), begin, end)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("no record of %s was decided on in that time, so there is nothing to account for", *dataset)
	}
	slices.SortFunc(all, func(a, b store.PartitionCoverage) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), a.From.Compare(b.From))
	})
	wrong := 0
	var sum coverage
	for i := range all {
		c := toCoverage(&all[i])
		// After an unclean stop the embedded engine may have decided twice: that
		// is labelled in the ledger too. On Apache Kafka it cannot be.
		if !c.Balanced && !(n.engine.Embedded() && len(c.Gaps) == 0 && len(c.Unbalanced) == 0 && c.adds()) {
			wrong++
		}
		if *asJSON {
			err = errors.Join(err, printJSON(std.out, c, false))
		} else {
			c.print(std.out, fmt.Sprintf("%s/%d", c.Dataset, c.Partition))
		}
		sum.add(&c)
	}
	if !*asJSON && len(all) > 1 {
		sum.print(std.out, "all of it")
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d partitions do not balance", wrong, len(all))
	}
	return err
}

func toCoverage(p *store.PartitionCoverage) coverage {
	c := coverage{Dataset: p.Dataset, Partition: p.Partition, TopicID: p.TopicID, From: p.From, To: p.To, Published: p.Records, Rejected: p.Rejected,
		Repeated: p.Repeated, OutOfScope: p.OutOfScope, InScope: p.Rows, Decisions: p.Decisions, Permits: p.Permits, Denials: p.Denials,
		Balanced: p.Balanced(), Gaps: p.Gaps, Overlaps: p.Overlaps}
	for _, u := range p.Unbalanced {
		c.Unbalanced = append(c.Unbalanced, imbalance{u.Place.Partition, u.Place.Offset, u.Range.First, u.Range.Last, u.Want, u.Have})
	}
	return c
}

func (c *coverage) add(o *coverage) {
	c.Published += o.Published
	c.Rejected += o.Rejected
	c.Repeated += o.Repeated
	c.OutOfScope += o.OutOfScope
	c.InScope += o.InScope
	c.Decisions += o.Decisions
	c.Permits += o.Permits
	c.Denials += o.Denials
}

// adds reports whether both sums come out.
func (c *coverage) adds() bool {
	return c.Published == c.Rejected+c.Repeated+c.OutOfScope+c.InScope && c.Decisions == c.Permits+c.Denials
}

// sign stands between two sides of a sum.
func sign(equal bool) string {
	if equal {
		return "="
	}
	return "≠"
}

func (c *coverage) print(w io.Writer, name string) {
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
