package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"datafordeler/broker"
)

// KindCoverage accounts for the single decisions of one kind on a dataset's records:
// those of the kinds backfill, lookup and door, which no range accounts for.
type KindCoverage struct {
	Dataset broker.DatasetID
	Kind    broker.DecisionKind
	// Decisions are those that the index holds. Decisions = Permits + Denials.
	Decisions, Permits, Denials int64
	// Nowhere of them are on what does not lie in the log: a lookup's, of a record
	// that stays with its provider, or where none was found.
	Nowhere  int64
	From, To time.Time // of the first batch and the last
}

// Balanced reports whether the index holds as many decisions as were counted when
// they were applied.
func (c *KindCoverage) Balanced() bool { return c.Decisions == c.Permits+c.Denials }

// Kinds accounts for single decisions, of the batches decided in [from, to); a zero
// time is open. All datasets if dataset is empty. A kind of which there are none is
// left out. The order is that of datasets, then of kinds.
func (s *Store) Kinds(ctx context.Context, dataset broker.DatasetID, from, to time.Time) (all []KindCoverage, err error) {
	low, high := bounds(from, to)
	err = s.read(ctx, func(r reader, st *state, d *dict) error {
		d.mu.RLock()
		sources := slices.Clone(d.sources)
		d.mu.RUnlock()
		type group struct {
			dataset broker.DatasetID
			kind    broker.DecisionKind
		}
		groups := map[group]*KindCoverage{}
		of := map[int64]*KindCoverage{}
		for i := range sources {
			s := &sources[i]
			if s.kind == broker.StreamDecision || s.dataset == "" || dataset != "" && s.dataset != dataset {
				continue // a batch of single decisions has a source without a dataset
			}
			k := group{s.dataset, s.kind}
			if groups[k] == nil {
				groups[k] = &KindCoverage{Dataset: s.dataset, Kind: s.kind}
			}
			c := groups[k]
			of[int64(i)] = c
			var first, last int64
			var n [3]int64
			found, err := one(ctx, r, "SELECT count(*), coalesce(min(b.time), 0), coalesce(max(b.time), 0), coalesce(CAST(sum(x.permits) AS BIGINT), 0), coalesce(CAST(sum(x.denials) AS BIGINT), 0)"+
				" FROM single x JOIN batch b ON b.id = x.batch WHERE x.source = ?1 AND b.time >= ?2 AND b.time < ?3", []any{int64(i), low, high},
				&n[0], &first, &last, &n[1], &n[2])
			if err != nil {
				return err
			}
			if !found || n[0] == 0 {
				continue
			}
			c.Permits += n[1]
			c.Denials += n[2]
			if s.topic == [16]byte{} { // only what lies nowhere has no topic
				c.Nowhere += n[1] + n[2]
			}
			if t := time.Unix(0, first).UTC(); c.From.IsZero() || t.Before(c.From) {
				c.From = t
			}
			if t := time.Unix(0, last).UTC(); t.After(c.To) {
				c.To = t
			}
		}
		if err := countKinds(ctx, r, of, low, high); err != nil {
			return err
		}
		for _, c := range groups {
			if c.Decisions > 0 || c.Permits+c.Denials > 0 {
				all = append(all, *c)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: kinds: %w", err)
	}
	slices.SortFunc(all, func(a, b KindCoverage) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Kind, b.Kind))
	})
	return all, nil
}

// countKinds counts the decisions that the index holds of the sources.
func countKinds(ctx context.Context, r reader, of map[int64]*KindCoverage, low, high int64) error {
	if len(of) == 0 {
		return nil
	}
	first := int64(minInt64)
	for {
		var blocks []int64
		err := each(ctx, r, "SELECT first FROM block WHERE first > ?1 AND max_time >= ?2 AND min_time < ?3 ORDER BY first LIMIT 64", []any{first, low, high}, func(scan func(...any) error) error {
			err := scan(&first)
			blocks = append(blocks, first)
			return err
		})
		if err != nil || len(blocks) == 0 {
			return err
		}
		for _, first := range blocks {
			var batches []byte
			found, err := one(ctx, r, "SELECT batches FROM block_index WHERE first = ?1", []any{first}, &batches)
			if err == nil && !found {
				err = errBlock
			}
			if err != nil {
				return err
			}
			parts, err := decodeParts(batches)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(parts, func(p part) bool { return of[p.source] != nil }) {
				continue
			}
			b, err := readBlock(ctx, r, first)
			if err != nil {
				return err
			}
			at := 0
			for i := range b.parts {
				p := &b.parts[i]
				c := of[p.source]
				if p.time < low || p.time >= high {
					c = nil
				}
				for range p.records {
					for more := true; more; at++ {
						more = b.answers[at]&1 == 1
						if c != nil {
							c.Decisions++
						}
					}
				}
			}
		}
	}
}
