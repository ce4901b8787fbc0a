package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"datafordeler/broker"
)

// Range is a span of source offsets, both included.
type Range struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// PartitionCoverage accounts for the records of a source partition, by its
// stream decisions.
type PartitionCoverage struct {
	Dataset   broker.DatasetID
	TopicID   [16]byte
	Partition int32
	// Ranges are what the batches cover, joined where one follows the other.
	Ranges []Range
	// Gaps lie between ranges; Overlaps were decided more than once, which an
	// embedded engine does after a kill.
	Gaps, Overlaps []Range
	// Records were read. Balanced, Records = OutOfScope + Repeated + Rejected + Rows.
	Records, OutOfScope, Repeated, Rejected int64
	// Rows are records in some scope. Decisions = Permits + Denials.
	Rows, Decisions, Permits, Denials int64
	// Unbalanced are the batches whose counts do not add up to their rows.
	Unbalanced []Imbalance
	From, To   time.Time // of the first batch and the last
}

// Balanced reports whether everything adds up and nothing is missing or there
// twice.
func (c *PartitionCoverage) Balanced() bool {
	return len(c.Gaps) == 0 && len(c.Overlaps) == 0 && len(c.Unbalanced) == 0
}

// Imbalance is a batch whose head says another number of rows than it has.
type Imbalance struct {
	Place LogPlace
	Range Range
	Want  int64 // rows, by the counts in the head
	Have  int64
}

// Coverage accounts for a dataset's source partitions, of the batches decided in
// [from, to); a zero time is open. All datasets if dataset is empty. Offsets that
// hold no record, such as markers of a provider's transactions, are in a range
// but not among the records.
func (s *Store) Coverage(ctx context.Context, dataset broker.DatasetID, from, to time.Time) (all []PartitionCoverage, err error) {
	low, high := bounds(from, to)
	err = s.read(ctx, func(r reader, st *state, d *dict) error {
		var of []source
		var ids []int64
		d.mu.RLock()
		for i, s := range d.sources {
			if s.kind == broker.StreamDecision && (dataset == "" || s.dataset == dataset) {
				of, ids = append(of, s), append(ids, int64(i))
			}
		}
		d.mu.RUnlock()
		for i, s := range of {
			c := PartitionCoverage{Dataset: s.dataset, TopicID: s.topic, Partition: s.partition}
			some := false
			err := each(ctx, r, "SELECT log_partition, log_offset, first, last, time, records, out_of_scope, repeated, rejected, in_scope, permits, denials FROM batch"+
				" WHERE source = ?1 AND time >= ?2 AND time < ?3 ORDER BY first, log_partition, log_offset", []any{ids[i], low, high}, func(scan func(...any) error) error {
				var b coveredBatch
				some = true
				if err := scan(&b.place.Partition, &b.place.Offset, &b.covers.First, &b.covers.Last, &b.time, &b.records, &b.outOfScope, &b.repeated, &b.rejected, &b.rows, &b.permits, &b.denials); err != nil {
					return err
				}
				c.add(&b)
				return nil
			})
			if err != nil {
				return err
			}
			if some {
				all = append(all, c)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: coverage: %w", err)
	}
	slices.SortFunc(all, func(a, b PartitionCoverage) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), a.From.Compare(b.From), bytes.Compare(a.TopicID[:], b.TopicID[:]), cmp.Compare(a.Partition, b.Partition))
	})
	return all, nil
}

type coveredBatch struct {
	place                                   LogPlace
	covers                                  Range
	time                                    int64
	records, outOfScope, repeated, rejected int64
	rows, permits, denials                  int64
}

// add takes in a batch; they come by their first offsets.
func (c *PartitionCoverage) add(b *coveredBatch) {
	if t := time.Unix(0, b.time).UTC(); true {
		if c.From.IsZero() || t.Before(c.From) {
			c.From = t
		}
		if t.After(c.To) {
			c.To = t
		}
	}
	c.Records += b.records
	c.OutOfScope += b.outOfScope
	c.Repeated += b.repeated
	c.Rejected += b.rejected
	c.Rows += b.rows
	c.Decisions += b.permits + b.denials
	c.Permits += b.permits
	c.Denials += b.denials
	want := b.records - b.outOfScope - b.repeated - b.rejected
	if want != b.rows || b.records > b.covers.Last-b.covers.First+1 {
		c.Unbalanced = append(c.Unbalanced, Imbalance{Place: b.place, Range: b.covers, Want: want, Have: b.rows})
	}
	if b.covers.Last < b.covers.First {
		return
	}
	n := len(c.Ranges)
	if n == 0 {
		c.Ranges = append(c.Ranges, b.covers)
		return
	}
	last := &c.Ranges[n-1]
	switch {
	case b.covers.First > last.Last+1:
		c.Gaps = append(c.Gaps, Range{last.Last + 1, b.covers.First - 1})
		c.Ranges = append(c.Ranges, b.covers)
		return
	case b.covers.First <= last.Last:
		c.Overlaps = append(c.Overlaps, Range{b.covers.First, min(last.Last, b.covers.Last)})
	}
	last.Last = max(last.Last, b.covers.Last)
}

// Delivered is what was delivered under an agreement and one version of its
// package: which fields, how often, when.
type Delivered struct {
	Agreement broker.AgreementID
	Parties   Parties
	Package   broker.PackageRef
	Permits   int64
	Kinds     Kinds
	Sets      []FieldSet // the most frequent first
}

// FieldSet is a set of fields that was delivered; shielded deliveries of the same
// fields stand by themselves.
type FieldSet struct {
	Fields      []broker.Pointer
	Shielded    bool
	Count       int64
	Kinds       Kinds // Count, by kind
	First, Last time.Time
}

// Kinds are counts by broker.DecisionKind.
type Kinds [broker.LastDecision + 1]int64

func (k *Kinds) add(o *Kinds) {
	for i := range k {
		k[i] += o[i]
	}
}

// Delivered says what was delivered under the agreements, or under all of them
// when none is named, by decisions in [from, to); a zero time is open. Where an
// agreement's parties changed, each time stands by itself.
func (s *Store) Delivered(ctx context.Context, from, to time.Time, agreements ...broker.AgreementID) (list []Delivered, err error) {
	low, high := bounds(from, to)
	err = s.read(ctx, func(r reader, st *state, d *dict) error {
		var set bitset
		d.mu.RLock()
		some := d.allow(&set, func(a *agreement) bool { return len(agreements) == 0 || slices.Contains(agreements, a.name) }, func(o *outcome) bool { return o.Permit }, "")
		n, sources := len(d.answers), d.sources
		d.mu.RUnlock()
		if !some {
			return nil
		}
		counts := make([]answerCount, n)
		first := int64(minInt64)
		for {
			// A few at a time: what one connection reads, it reads to the end.
			var blocks []blockRow
			err := each(ctx, r, "SELECT b.first, b.size, b.min_time, b.max_time, i.answers FROM block b JOIN block_index i ON i.first = b.first"+
				" WHERE b.first > ?1 AND b.max_time >= ?2 AND b.min_time < ?3 ORDER BY b.first LIMIT 64", []any{first, low, high}, func(scan func(...any) error) error {
				var b blockRow
				if err := scan(&b.first, &b.size, &b.low, &b.high, &b.answers); err != nil {
					return err
				}
				first = b.first
				blocks = append(blocks, b)
				return nil
			})
			if err != nil || len(blocks) == 0 {
				list = d.delivered(counts)
				return err
			}
			for i := range blocks {
				if some, err := meets(blocks[i].answers, set); err != nil {
					return err
				} else if !some {
					continue
				}
				b, err := readBlock(ctx, r, blocks[i].first)
				if err != nil {
					return err
				}
				b.count(set, low, high, sources, counts)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("store: delivered: %w", err)
	}
	return list, nil
}

type answerCount struct {
	n, first, last int64
	kinds          Kinds
}

// count counts the answers of a set, by number.
func (b *block) count(set bitset, low, high int64, sources []source, counts []answerCount) {
	at := 0
	for i := range b.parts {
		p := &b.parts[i]
		for range p.records {
			for more := true; more; at++ {
				v := b.answers[at]
				more = v&1 == 1
				if p.time < low || p.time >= high || !set.has(int64(v>>1)) {
					continue
				}
				c := &counts[v>>1]
				if c.n == 0 {
					c.first, c.last = p.time, p.time
				}
				c.n++
				c.kinds[sources[p.source].kind]++
				c.first, c.last = min(c.first, p.time), max(c.last, p.time)
			}
		}
	}
}

// delivered gathers counts of answers by agreement and package.
func (d *dict) delivered(counts []answerCount) []Delivered {
	d.mu.RLock()
	defer d.mu.RUnlock()
	type group struct {
		agreement int64
		pack      broker.PackageRef
	}
	groups := map[group]*Delivered{}
	sets := map[group]map[string]int{}
	for i := range counts {
		c := &counts[i]
		if c.n == 0 {
			continue
		}
		w := &d.answers[i]
		o := &d.outcomes[w.outcome]
		k := group{w.agreement, o.pack}
		g := groups[k]
		if g == nil {
			a := &d.agreements[w.agreement]
			g = &Delivered{Agreement: a.name, Parties: a.Parties, Package: o.pack}
			groups[k], sets[k] = g, map[string]int{}
		}
		g.Permits += c.n
		g.Kinds.add(&c.kinds)
		fields := string(appendStrings([]byte{byte(bit(o.shielded))}, o.fields))
		at, ok := sets[k][fields]
		if !ok {
			at = len(g.Sets)
			sets[k][fields] = at
			g.Sets = append(g.Sets, FieldSet{Fields: o.fields, Shielded: o.shielded, First: time.Unix(0, c.first).UTC(), Last: time.Unix(0, c.last).UTC()})
		}
		f := &g.Sets[at]
		f.Count += c.n
		f.Kinds.add(&c.kinds)
		if t := time.Unix(0, c.first).UTC(); t.Before(f.First) {
			f.First = t
		}
		if t := time.Unix(0, c.last).UTC(); t.After(f.Last) {
			f.Last = t
		}
	}
	list := make([]Delivered, 0, len(groups))
	for _, g := range groups {
		slices.SortFunc(g.Sets, func(a, b FieldSet) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), slices.Compare(a.Fields, b.Fields), cmp.Compare(bit(a.Shielded), bit(b.Shielded)))
		})
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b Delivered) int {
		return cmp.Or(cmp.Compare(a.Agreement, b.Agreement), cmp.Compare(a.Package.ID, b.Package.ID), cmp.Compare(a.Package.Version, b.Package.Version),
			cmp.Compare(a.Parties.Consumer, b.Parties.Consumer), cmp.Compare(a.Parties.Provider, b.Parties.Provider), cmp.Compare(a.Parties.Supplier, b.Parties.Supplier))
	})
	return list
}
