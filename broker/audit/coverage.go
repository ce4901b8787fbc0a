package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// Coverage is one partition's account: published = rejected + repeated + out of every
// scope + in some scope, and decisions = permits + denials.
type Coverage struct {
	Dataset    broker.DatasetID `json:"dataset"`
	Partition  int32            `json:"partition"`
	TopicID    broker.Digest    `json:"topic_id"`
	From       time.Time        `json:"from" doc:"of the first batch"`
	To         time.Time        `json:"to" doc:"of the last batch"`
	Published  int64            `json:"published"`
	Rejected   int64            `json:"rejected"`
	Repeated   int64            `json:"repeated"`
	OutOfScope int64            `json:"out_of_scope"`
	InScope    int64            `json:"in_scope"`
	Decisions  int64            `json:"decisions"`
	Permits    int64            `json:"permits"`
	Denials    int64            `json:"denials"`
	Balanced   bool             `json:"balanced"`
	Gaps       []store.Range    `json:"gaps,omitempty" doc:"offsets of which nothing says what became"`
	Overlaps   []store.Range    `json:"overlaps,omitempty" doc:"offsets that were decided on more than once"`
	Unbalanced []Imbalance      `json:"unbalanced,omitempty"`
}

// Imbalance is a batch whose counts do not add up.
type Imbalance struct {
	LogPartition int32 `json:"log_partition"`
	LogOffset    int64 `json:"log_offset"`
	First        int64 `json:"first"`
	Last         int64 `json:"last"`
	Want         int64 `json:"in_scope_by_its_head"`
	Have         int64 `json:"in_scope"`
}

// CoverageColumns are the names of an account's columns in CSV. A kind of single
// decisions is a row too: what only the stream has is empty there.
var CoverageColumns = []string{"dataset", "partition", "topic_id", "from", "to", "published", "rejected", "repeated", "out_of_scope", "in_scope",
	"decisions", "permits", "denials", "balanced", "gaps", "overlaps", "unbalanced", "kind", "not_in_log"}

// Row are an account's cells. Of what is wrong it says how many.
func (c *Coverage) Row() []string {
	row := []string{string(c.Dataset), fmt.Sprint(c.Partition), c.TopicID.String(), c.From.UTC().Format(time.RFC3339Nano), c.To.UTC().Format(time.RFC3339Nano)}
	for _, n := range []int64{c.Published, c.Rejected, c.Repeated, c.OutOfScope, c.InScope, c.Decisions, c.Permits, c.Denials} {
		row = append(row, strconv.FormatInt(n, 10))
	}
	return append(row, strconv.FormatBool(c.Balanced), fmt.Sprint(len(c.Gaps)), fmt.Sprint(len(c.Overlaps)), fmt.Sprint(len(c.Unbalanced)), broker.StreamDecision.String(), "")
}

// KindCoverage accounts for the single decisions of one kind on a dataset's records,
// beside the stream's, which account for every record.
type KindCoverage struct {
	Kind      string           `json:"kind" enum:"backfill,lookup,door,notice"`
	Dataset   broker.DatasetID `json:"dataset"`
	From      time.Time        `json:"from" doc:"of the first"`
	To        time.Time        `json:"to" doc:"of the last"`
	Nowhere   int64            `json:"not_in_log" doc:"of the decisions, lookups on what does not lie in the log: a record that stays with its provider, or none"`
	Decisions int64            `json:"decisions"`
	Permits   int64            `json:"permits"`
	Denials   int64            `json:"denials"`
	Balanced  bool             `json:"balanced" doc:"decisions = permits + denials"`
}

// Row are its cells, under CoverageColumns.
func (c *KindCoverage) Row() []string {
	row := make([]string, len(CoverageColumns))
	row[0], row[3], row[4] = string(c.Dataset), c.From.UTC().Format(time.RFC3339Nano), c.To.UTC().Format(time.RFC3339Nano)
	row[10], row[11], row[12], row[13] = fmt.Sprint(c.Decisions), fmt.Sprint(c.Permits), fmt.Sprint(c.Denials), strconv.FormatBool(c.Balanced)
	row[17], row[18] = c.Kind, fmt.Sprint(c.Nowhere)
	return row
}

// Kinds accounts for a dataset's single decisions, decided in [from, to). It is for
// those whom Coverage is for.
func (d *Desk) Kinds(ctx context.Context, s Scope, dataset broker.DatasetID, from, to time.Time) ([]KindCoverage, error) {
	if err := d.accounts(s, dataset); err != nil {
		return nil, err
	}
	all, err := d.Store.Kinds(ctx, dataset, from, to)
	if err != nil {
		return nil, err
	}
	out := make([]KindCoverage, len(all))
	for i := range all {
		k := &all[i]
		out[i] = KindCoverage{Kind: k.Kind.String(), Dataset: k.Dataset, From: k.From, To: k.To, Nowhere: k.Nowhere,
			Decisions: k.Decisions, Permits: k.Permits, Denials: k.Denials, Balanced: k.Balanced()}
	}
	return out, nil
}

// Coverage accounts for a dataset's records, by the batches decided in [from, to).
// It is for the dataset's owner, and for those who are told everything: the counts
// are of all consumers. ErrNotFound: the asker is not one of them.
func (d *Desk) Coverage(ctx context.Context, s Scope, dataset broker.DatasetID, from, to time.Time) ([]Coverage, error) {
	if err := d.accounts(s, dataset); err != nil {
		return nil, err
	}
	all, err := d.Store.Coverage(ctx, dataset, from, to)
	if err != nil {
		return nil, err
	}
	out := make([]Coverage, len(all))
	for i := range all {
		out[i] = newCoverage(&all[i])
	}
	slices.SortFunc(out, func(a, b Coverage) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), a.From.Compare(b.From))
	})
	return out, nil
}

// accounts says whether the asker may see a dataset accounted for.
func (d *Desk) accounts(s Scope, dataset broker.DatasetID) error {
	var owner broker.OrgNumber
	d.Control.View(func(st *registry.State) {
		if ds := st.Dataset(dataset); ds != nil {
			owner = ds.Owner
		}
	})
	switch {
	case !s.owns(owner):
		return ErrNotFound
	case owner == "":
		return &QuestionError{"dataset", "no dataset of that name is registered"}
	}
	return nil
}

// Wrong reports that an account does not balance, and should. After an unclean stop
// the embedded engine may have decided twice: that is labelled in the ledger too. On
// Apache Kafka it cannot be.
func (d *Desk) Wrong(c *Coverage) bool {
	return !c.Balanced && !(d.Embedded && len(c.Gaps) == 0 && len(c.Unbalanced) == 0 && c.Adds())
}

func newCoverage(p *store.PartitionCoverage) Coverage {
	c := Coverage{Dataset: p.Dataset, Partition: p.Partition, TopicID: p.TopicID, From: p.From, To: p.To, Published: p.Records, Rejected: p.Rejected,
		Repeated: p.Repeated, OutOfScope: p.OutOfScope, InScope: p.Rows, Decisions: p.Decisions, Permits: p.Permits, Denials: p.Denials,
		Balanced: p.Balanced(), Gaps: p.Gaps, Overlaps: p.Overlaps}
	for _, u := range p.Unbalanced {
		c.Unbalanced = append(c.Unbalanced, Imbalance{u.Place.Partition, u.Place.Offset, u.Range.First, u.Range.Last, u.Want, u.Have})
	}
	return c
}

// Add adds another account's counts.
func (c *Coverage) Add(o *Coverage) {
	c.Published += o.Published
	c.Rejected += o.Rejected
	c.Repeated += o.Repeated
	c.OutOfScope += o.OutOfScope
	c.InScope += o.InScope
	c.Decisions += o.Decisions
	c.Permits += o.Permits
	c.Denials += o.Denials
}

// Adds reports whether both sums come out.
func (c *Coverage) Adds() bool {
	return c.Published == c.Rejected+c.Repeated+c.OutOfScope+c.InScope && c.Decisions == c.Permits+c.Denials
}
