package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"datafordeler/broker"
)

// Search finds decisions. ErrQuery: the query or its cursor makes no sense.
//
// It takes the time of reading a few kilobytes of every 16,384 records in the
// span of time, until the page is full; with an id, an event, a record or
// subjects, of a few pages of each run of keys instead.
func (s *Store) Search(ctx context.Context, q Query) (page Page, err error) {
	if err := q.check(); err != nil {
		return Page{}, err
	}
	err = s.read(ctx, func(r reader, st *state, d *dict) error {
		f := finder{ctx: ctx, r: r, d: d, q: &q, most: q.Limit + 1}
		page, err = f.page()
		return err
	})
	if err != nil && !errors.Is(err, ErrQuery) {
		err = fmt.Errorf("store: search: %w", err)
	}
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

// Decision is one decision by its id, and whether there is one. Where there are
// several it is the first: an engine that can repeat itself may decide twice, and
// at the door a delivery may be withheld again. Each is kept: Search finds all.
func (s *Store) Decision(ctx context.Context, id broker.DecisionID) (Hit, bool, error) {
	if id.IsZero() {
		return Hit{}, false, nil
	}
	page, err := s.Search(ctx, Query{Decision: id, Ascending: true, Limit: 1})
	if err != nil || len(page.Hits) == 0 {
		return Hit{}, false, err
	}
	return page.Hits[0], true, nil
}

// match is a decision that the index says is wanted.
type match struct {
	key
	record int64
	nth    int // among the record's decisions
	batch  int64
}

type finder struct {
	ctx  context.Context
	r    reader
	d    *dict
	q    *Query
	most int // matches wanted

	low, high int64 // times
	after     *key  // only what comes after it

	answers bitset         // allowed; nil: all
	sources map[int64]bool // allowed; nil: all
	period  int64          // allowed; -1: all

	ids      []int64         // records, ascending, when keyed
	keyed    bool            // only those
	nths     map[int64][]int // and of those only these decisions, where it is known
	mistaken map[match]bool  // found by a key, but not what was asked for

	best []match // the first so far, in order, at most as many as wanted
	full bool    // there are as many

	distinct []int64
	found    []match
}

type bitset []uint64

func (b bitset) has(i int64) bool { return b == nil || i>>6 < int64(len(b)) && b[i>>6]>>(i&63)&1 == 1 }
func (b bitset) set(i int64)      { b[i>>6] |= 1 << (i & 63) }

// page finds one page.
func (f *finder) page() (Page, error) {
	f.low, f.high = f.q.bounds()
	if f.q.Cursor != "" {
		k, err := f.q.place()
		if err != nil {
			return Page{}, err
		}
		f.after = &k
		// What comes after it is not before its time.
		if f.q.Ascending {
			f.low = max(f.low, k.time)
		} else {
			f.high = min(f.high, k.time+1)
		}
	}
	if !f.resolve() || f.low >= f.high {
		return Page{}, nil
	}
	if some, err := f.byKey(); err != nil || !some {
		return Page{}, err
	}
	for {
		if err := f.walk(); err != nil {
			return Page{}, err
		}
		more := len(f.best) > f.q.Limit
		wanted := f.best[:min(len(f.best), f.q.Limit)]
		hits, wrong, err := f.fetch(wanted)
		if err != nil {
			return Page{}, err
		}
		if len(wrong) > 0 {
			// Two hashes with the same first bits. Once more, without those.
			if f.mistaken == nil {
				f.mistaken = map[match]bool{}
			}
			for _, m := range wrong {
				f.mistaken[m] = true
			}
			f.best, f.full = f.best[:0], false
			continue
		}
		page := Page{Hits: hits}
		if more {
			page.Next = f.q.cursor(wanted[len(wanted)-1].key)
		}
		return page, nil
	}
}

// resolve turns the filters that are about the answer or the batch into numbers
// of the dictionaries; false: nothing can match.
func (f *finder) resolve() bool {
	d, q := f.d, f.q
	d.mu.RLock()
	defer d.mu.RUnlock()
	f.period = -1
	if q.Period != "" {
		id, ok := d.byName[q.Period]
		if !ok {
			return false
		}
		f.period = id
	}
	if q.Dataset != "" || q.Kind != 0 || q.Record != nil {
		f.sources = map[int64]bool{}
		for i := range d.sources {
			s := &d.sources[i]
			if (q.Dataset == "" || s.dataset == q.Dataset) && (q.Kind == 0 || s.kind == q.Kind) &&
				(q.Record == nil || s.dataset == q.Record.Dataset && s.partition == q.Record.Partition) {
				f.sources[int64(i)] = true
			}
		}
		if len(f.sources) == 0 {
			return false
		}
	}
	if q.Subscription == "" && q.Agreement == "" && q.Consumer == "" && q.Provider == "" && q.Supplier == "" && q.Party == "" &&
		q.Basis == "" && q.Reason == "" && q.Verdict == AnyVerdict && q.Shielded == Either && q.Package == "" {
		return true
	}
	return f.d.allow(&f.answers, func(a *agreement) bool {
		return (q.Agreement == "" || a.name == q.Agreement) && (q.Consumer == "" || a.Consumer == q.Consumer) &&
			(q.Provider == "" || a.Provider == q.Provider) && (q.Supplier == "" || a.Supplier == q.Supplier) &&
			(q.Party == "" || a.Provider == q.Party || a.Consumer == q.Party || a.Supplier == q.Party)
	}, func(o *outcome) bool {
		return (q.Verdict == AnyVerdict || (q.Verdict == Permits) == o.Permit) && (q.Shielded == Either || (q.Shielded == Only) == o.shielded) &&
			(q.Package == "" || o.pack.ID == q.Package && (q.Version == 0 || o.pack.Version == q.Version)) &&
			(q.Basis == "" || slices.Contains(o.Bases, q.Basis)) && (q.Reason == "" || slices.Contains(o.Reasons, q.Reason))
	}, q.Subscription)
}

// allow makes the set of the answers whose agreement and outcome are wanted, and
// whose subscription is sub if that is not empty; false: it is empty. The caller
// holds the lock.
func (d *dict) allow(set *bitset, wantAgreement func(*agreement) bool, wantOutcome func(*outcome) bool, sub broker.SubscriptionID) bool {
	agreements, outcomes := make([]bool, len(d.agreements)), make([]bool, len(d.outcomes))
	for i := range d.agreements {
		agreements[i] = wantAgreement(&d.agreements[i])
	}
	for i := range d.outcomes {
		outcomes[i] = wantOutcome(&d.outcomes[i])
	}
	*set = make(bitset, len(d.answers)/64+1)
	some := false
	for i := range d.answers {
		w := &d.answers[i]
		if agreements[w.agreement] && outcomes[w.outcome] && (sub == "" || w.subscription == sub) {
			set.set(int64(i))
			some = true
		}
	}
	return some
}

// byKey finds the records of what is asked for by hash; false: there are none.
func (f *finder) byKey() (bool, error) {
	q := f.q
	var sets [][]uint64
	if !q.Decision.IsZero() {
		sets = append(sets, []uint64{key48(q.Decision)})
	}
	if !q.Delivery.IsZero() {
		sets = append(sets, []uint64{key48(q.Delivery)})
	}
	if !q.Event.IsZero() {
		sets = append(sets, []uint64{key48(q.Event)})
	}
	if !q.Request.IsZero() {
		sets = append(sets, []uint64{key48(q.Request)})
	}
	if p := q.Record; p != nil {
		sets = append(sets, []uint64{placeKey(p.Dataset, p.Partition, p.Offset)})
	}
	if q.Subjects != nil {
		keys := make([]uint64, 0, len(q.Subjects))
		for _, s := range q.Subjects {
			keys = append(keys, key48(s))
		}
		slices.Sort(keys)
		sets = append(sets, slices.Compact(keys))
	}
	if len(sets) == 0 {
		return true, nil
	}
	f.keyed = true
	runs, err := readRuns(f.ctx, f.r)
	if err != nil {
		return false, err
	}
	for i, keys := range sets {
		ids, err := lookup(f.ctx, f.r, runs, keys)
		if err != nil {
			return false, err
		}
		if i == 0 {
			f.ids = ids
		} else {
			f.ids = slices.DeleteFunc(f.ids, func(id int64) bool { _, ok := slices.BinarySearch(ids, id); return !ok })
		}
		if len(f.ids) == 0 {
			return false, nil
		}
	}
	if q.Decision.IsZero() && q.Delivery.IsZero() {
		return true, nil
	}
	// Which of a record's decisions it is. There are one or two records.
	f.nths = map[int64][]int{}
	for ids := range slices.Chunk(f.ids, 256) {
		records, batches, err := f.rows(ids)
		if err != nil {
			return false, err
		}
		for _, id := range ids {
			rec, ok := records[id]
			if !ok {
				return false, fmt.Errorf("%w (record %d is missing)", errBlock, id)
			}
			for n := range rec.answers {
				h, err := f.hit(&rec, batches, n)
				if err != nil {
					return false, err
				}
				if (q.Decision.IsZero() || h.Decision.ID == q.Decision) && (q.Delivery.IsZero() || h.Decision.Delivery == q.Delivery) {
					f.nths[id] = append(f.nths[id], n)
				}
			}
		}
	}
	f.ids = slices.DeleteFunc(f.ids, func(id int64) bool { return len(f.nths[id]) == 0 })
	return len(f.ids) > 0, nil
}

// before reports whether a comes before b in the query's order.
func (f *finder) before(a, b key) bool {
	if f.q.Ascending {
		return a.less(b)
	}
	return b.less(a)
}

// blockRow is a row of block, with what occurs in it.
type blockRow struct {
	first, size, low, high int64
	answers                []byte
}

// walk goes through the blocks in the order of time, until no later one can have
// anything that comes before what was found.
func (f *finder) walk() error {
	if f.keyed {
		return f.walkKeyed()
	}
	edge, order, op := "max_time", "DESC", "<"
	time, first := int64(maxInt64), int64(maxInt64)
	if f.q.Ascending {
		edge, order, op = "min_time", "ASC", ">"
		time, first = minInt64, minInt64
	}
	text := "SELECT b.first, b.size, b.min_time, b.max_time, i.answers FROM block b JOIN block_index i ON i.first = b.first" +
		" WHERE b.max_time >= ?1 AND b.min_time < ?2 AND (b." + edge + ", b.first) " + op + " (?3, ?4) ORDER BY b." + edge + " " + order + ", b.first " + order + " LIMIT ?5"
	var blocks []blockRow
	for n := int64(4); ; n = min(4*n, 256) {
		blocks = blocks[:0]
		err := each(f.ctx, f.r, text, []any{f.low, f.high, time, first, n}, func(scan func(...any) error) error {
			var b blockRow
			if err := scan(&b.first, &b.size, &b.low, &b.high, &b.answers); err != nil {
				return err
			}
			blocks = append(blocks, b)
			return nil
		})
		if err != nil {
			return err
		}
		for i := range blocks {
			b := &blocks[i]
			if f.past(b) {
				return nil
			}
			if err := f.open(b, nil); err != nil {
				return err
			}
			if time, first = b.high, b.first; f.q.Ascending {
				time = b.low
			}
		}
		if int64(len(blocks)) < n {
			return nil
		}
	}
}

// walkKeyed goes through the blocks that have the records found by key.
func (f *finder) walkKeyed() error {
	var blocks []blockRow
	const text = "SELECT b.first, b.size, b.min_time, b.max_time, i.answers FROM block b JOIN block_index i ON i.first = b.first WHERE b.first <= ?1 ORDER BY b.first DESC LIMIT 1"
	for at := 0; at < len(f.ids); {
		var b blockRow
		if found, err := one(f.ctx, f.r, text, []any{f.ids[at]}, &b.first, &b.size, &b.low, &b.high, &b.answers); err != nil {
			return err
		} else if !found || f.ids[at] >= b.first+b.size {
			return fmt.Errorf("%w (record %d is in none)", errBlock, f.ids[at])
		}
		for at < len(f.ids) && f.ids[at] < b.first+b.size {
			at++
		}
		if b.high >= f.low && b.low < f.high {
			blocks = append(blocks, b)
		}
	}
	slices.SortFunc(blocks, func(a, b blockRow) int {
		if f.q.Ascending {
			return compare(a.low, b.low)
		}
		return compare(b.high, a.high)
	})
	for i := range blocks {
		b := &blocks[i]
		if f.past(b) {
			break
		}
		from, _ := slices.BinarySearch(f.ids, b.first)
		to, _ := slices.BinarySearch(f.ids, b.first+b.size)
		if err := f.open(b, f.ids[from:to]); err != nil {
			return err
		}
	}
	return nil
}

// past reports whether all of a block, and of those that follow it, comes after
// all that is wanted.
func (f *finder) past(b *blockRow) bool {
	if !f.full {
		return false
	}
	last := f.best[f.most-1].time
	if f.q.Ascending {
		return b.low > last
	}
	return b.high < last
}

// settle puts what was found in order, and drops what is not wanted.
func (f *finder) settle() {
	slices.SortFunc(f.best, func(a, b match) int {
		switch {
		case f.before(a.key, b.key):
			return -1
		case f.before(b.key, a.key):
			return 1
		}
		return 0
	})
	if len(f.best) >= f.most {
		f.best, f.full = f.best[:f.most], true
	}
}

// open looks for matches in a block; only among the records if some are given.
func (f *finder) open(b *blockRow, only []int64) error {
	if some, err := meets(b.answers, f.answers); err != nil || !some {
		return err
	}
	var err error
	if f.distinct, err = decodeAnswers(b.answers, f.distinct); err != nil {
		return err
	}
	wanted := make([]bool, len(f.distinct))
	for i, a := range f.distinct {
		wanted[i] = f.answers.has(a)
	}
	var batches, rows []byte
	found, err := one(f.ctx, f.r, "SELECT batches, rows FROM block_index WHERE first = ?1", []any{b.first}, &batches, &rows)
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
	f.found = f.found[:0]
	record, at := b.first, 0
	for i := range parts {
		p := &parts[i]
		in := p.time >= f.low && p.time < f.high && (f.sources == nil || f.sources[p.source]) && (f.period < 0 || p.period == f.period) && !f.late(p)
		index, from := p.before, len(f.found)
		for range p.records {
			here := in
			if f.keyed {
				for len(only) > 0 && only[0] < record {
					only = only[1:]
				}
				here = in && len(only) > 0 && only[0] == record
			}
			for nth := 0; ; nth++ {
				// A number of one byte or two: this is where a search spends its time.
				var v uint64
				switch {
				case at < len(rows) && rows[at] < 0x80:
					v = uint64(rows[at])
					at++
				case at+1 < len(rows) && rows[at+1] < 0x80:
					v = uint64(rows[at]&0x7f) | uint64(rows[at+1])<<7
					at += 2
				default:
					n := 0
					if v, n = binary.Uvarint(rows[min(at, len(rows)):]); n <= 0 {
						return errBlock
					}
					at += n
				}
				if v>>1 >= uint64(len(wanted)) {
					return errBlock
				}
				if here && wanted[v>>1] {
					if m := (match{key: key{p.time, p.place, index}, record: record, nth: nth, batch: p.batch}); f.wants(&m) {
						f.found = append(f.found, m)
						// A part is in order, so of its matches the first are enough, or the last.
						if n := len(f.found) - from; n >= f.most && f.q.Ascending {
							in, here = false, false
						} else if n >= 4*f.most {
							f.found = slices.Delete(f.found, from, len(f.found)-f.most)
						}
					}
				}
				index++
				if v&1 == 0 {
					break
				}
			}
			record++
		}
	}
	if at != len(rows) {
		return errBlock
	}
	f.best = append(f.best, f.found...)
	f.settle()
	return nil
}

// late reports whether all of a part comes after all that is wanted.
func (f *finder) late(p *part) bool {
	if !f.full {
		return false
	}
	last := &f.best[f.most-1].key
	if f.q.Ascending {
		return last.less(key{time: p.time, log: p.place})
	}
	return (key{time: p.time, log: p.place, index: maxInt64}).less(*last)
}

// wants reports whether a decision that the index allows is one for this page, or
// a later one.
func (f *finder) wants(m *match) bool {
	return (f.after == nil || f.before(*f.after, m.key)) && (f.nths == nil || slices.Contains(f.nths[m.record], m.nth)) && !f.mistaken[*m]
}
