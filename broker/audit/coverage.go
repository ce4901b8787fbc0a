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

// CoverageColumns are the names of an account's columns in CSV.
var CoverageColumns = []string{"dataset", "partition", "topic_id", "from", "to", "published", "rejected", "repeated", "out_of_scope", "in_scope",
	"decisions", "permits", "denials", "balanced", "gaps", "overlaps", "unbalanced"}

// Row are an account's cells. Of what is wrong it says how many.
func (c *Coverage) Row() []string {
	row := []string{string(c.Dataset), fmt.Sprint(c.Partition), c.TopicID.String(), c.From.UTC().Format(time.RFC3339Nano), c.To.UTC().Format(time.RFC3339Nano)}
	for _, n := range []int64{c.Published, c.Rejected, c.Repeated, c.OutOfScope, c.InScope, c.Decisions, c.Permits, c.Denials} {
		row = append(row, strconv.FormatInt(n, 10))
	}
	return append(row, strconv.FormatBool(c.Balanced), fmt.Sprint(len(c.Gaps)), fmt.Sprint(len(c.Overlaps)), fmt.Sprint(len(c.Unbalanced)))
}

// Coverage accounts for a dataset's records, by the batches decided in [from, to).
// It is for the dataset's owner, and for those who are told everything: the counts
// are of all consumers. ErrNotFound: the asker is not one of them.
func (d *Desk) Coverage(ctx context.Context, s Scope, dataset broker.DatasetID, from, to time.Time) ([]Coverage, error) {
	var owner broker.OrgNumber
	d.Control.View(func(st *registry.State) {
		if ds := st.Dataset(dataset); ds != nil {
			owner = ds.Owner
		}
	})
	switch {
	case !s.owns(owner):
		return nil, ErrNotFound
	case owner == "":
		return nil, &QuestionError{"dataset", "no dataset of that name is registered"}
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
