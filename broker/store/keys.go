package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"datafordeler/broker"
)

// Where a record, an event, a subject, a decision or a delivery is found.
//
// They are hashes. In a B-tree each would go to a page of its own, and a
// transaction would write as many pages as it has keys. So they are written in
// runs: a run has the keys of consecutive records, sorted, in pages by their first
// bits. When there are sixteen runs of like size at the end they become one. Any
// key is found by reading one page of each run.
//
// A key is the first 48 bits of the hash; what is found is compared in full with
// the record before it counts.

const (
	keyBits = 48
	// runFan is how many runs become one.
	runFan  = 16
	maxBits = 20
)

// key48 is a hash's key.
func key48(d broker.Digest) uint64 { return binary.BigEndian.Uint64(d[:]) >> (64 - keyBits) }

// placeKey is a source record's key, by where it lies.
func placeKey(dataset broker.DatasetID, partition int32, offset int64) uint64 {
	h := uint64(14695981039346656037) // FNV-1a of the dataset,
	for i := range len(dataset) {
		h = (h ^ uint64(dataset[i])) * 1099511628211
	}
	h = mix(h ^ uint64(uint32(partition)))
	return mix(h+uint64(offset)) >> (64 - keyBits)
}

// mix spreads what differs little over all bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// keyed is a key and the record that it is of, counted from the run's first.
type keyed struct {
	key uint64
	at  uint32
}

func compareKeyed(a, b keyed) int {
	switch {
	case a.key < b.key:
		return -1
	case a.key > b.key:
		return 1
	}
	return int(a.at) - int(b.at)
}

// run is a key_run.
type run struct {
	id, first, size, keys int64
	bits                  int64
}

// class tells runs of like size.
func (r *run) class() int { return (bits.Len64(uint64(r.size)) + 3) / 4 }

// pageID numbers a page among all.
func pageID(run int64, page uint64) int64 { return run<<maxBits | int64(page) }

// shape is how entries of a run are packed: of the key, the bytes that the page's
// number does not say; of the place, as many as the run's size needs.
func (r *run) shape() (keyBytes, atBytes int) {
	return (keyBits+7)/8 - int(r.bits)/8, (bits.Len64(uint64(max(r.size-1, 1))) + 7) / 8
}

func (r *run) encode(entries []keyed) []byte {
	k, a := r.shape()
	b := make([]byte, 0, len(entries)*(k+a))
	for _, e := range entries {
		for i := k - 1; i >= 0; i-- {
			b = append(b, byte(e.key>>(8*i)))
		}
		for i := a - 1; i >= 0; i-- {
			b = append(b, byte(e.at>>(8*i)))
		}
	}
	return b
}

// decode appends a page's entries to dst.
func (r *run) decode(page uint64, b []byte, dst []keyed) ([]keyed, error) {
	k, a := r.shape()
	if len(b)%(k+a) != 0 {
		return nil, errBlock
	}
	high := page << (keyBits - r.bits) >> (8 * k) << (8 * k)
	for ; len(b) > 0; b = b[k+a:] {
		var e keyed
		for _, c := range b[:k] {
			e.key = e.key<<8 | uint64(c)
		}
		e.key |= high
		for _, c := range b[k : k+a] {
			e.at = e.at<<8 | uint32(c)
		}
		if e.key>>(keyBits-r.bits) != page || int64(e.at) >= r.size {
			return nil, errBlock
		}
		dst = append(dst, e)
	}
	return dst, nil
}

// find appends to dst the records of a page that have the key.
func (r *run) find(b []byte, key uint64, dst []int64) ([]int64, error) {
	k, a := r.shape()
	w := k + a
	if len(b)%w != 0 {
		return nil, errBlock
	}
	want := key & (1<<(8*k) - 1)
	low, high := 0, len(b)/w
	at := func(i int) (v uint64) {
		for _, c := range b[i*w : i*w+k] {
			v = v<<8 | uint64(c)
		}
		return v
	}
	for low < high {
		if m := (low + high) / 2; at(m) < want {
			low = m + 1
		} else {
			high = m
		}
	}
	for ; low < len(b)/w && at(low) == want; low++ {
		n := int64(0)
		for _, c := range b[low*w+k : low*w+w] {
			n = n<<8 | int64(c)
		}
		dst = append(dst, r.first+n)
	}
	return dst, nil
}

// bitsFor is how many bits of a key choose the page.
func (z sizes) bitsFor(keys int64) int64 {
	return int64(min(maxBits, bits.Len64(uint64(keys/z.page))))
}

// addRun writes a run of new keys. It sorts them.
func (z sizes) addRun(ctx context.Context, w writer, r run, keys []keyed) error {
	slices.SortFunc(keys, compareKeyed)
	r.keys, r.bits = int64(len(keys)), z.bitsFor(int64(len(keys)))
	p := pageWriter{ctx: ctx, w: w, run: &r}
	for len(keys) > 0 {
		page := keys[0].key >> (keyBits - r.bits)
		n := 1
		for n < len(keys) && keys[n].key>>(keyBits-r.bits) == page {
			n++
		}
		if err := p.put(page, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return p.end()
}

// pageWriter collects pages and writes them many at a time.
type pageWriter struct {
	ctx   context.Context
	w     writer
	run   *run
	ids   []int64
	pages [][]byte
}

func (p *pageWriter) put(page uint64, entries []keyed) error {
	p.ids, p.pages = append(p.ids, pageID(p.run.id, page)), append(p.pages, p.run.encode(entries))
	if len(p.ids) < 1024 {
		return nil
	}
	return p.flush()
}

func (p *pageWriter) flush() error {
	err := p.w.load(p.ctx, "key_page", []string{"id", "keys"}, len(p.ids), func(i int, v []any) { v[0], v[1] = p.ids[i], p.pages[i] })
	p.ids, p.pages = p.ids[:0], p.pages[:0]
	return err
}

func (p *pageWriter) end() error {
	if err := p.flush(); err != nil {
		return err
	}
	r := p.run
	return p.w.exec(p.ctx, "INSERT INTO key_run (id, first, size, keys, bits) VALUES (?1, ?2, ?3, ?4, ?5)", r.id, r.first, r.size, r.keys, r.bits)
}

// readRuns are all runs, the oldest records first.
func readRuns(ctx context.Context, r reader) (runs []run, err error) {
	err = each(ctx, r, "SELECT id, first, size, keys, bits FROM key_run ORDER BY first", nil, func(scan func(...any) error) error {
		var v run
		if err := scan(&v.id, &v.first, &v.size, &v.keys, &v.bits); err != nil {
			return err
		}
		runs = append(runs, v)
		return nil
	})
	return runs, err
}

// mergeRuns makes one of each sixteen of like size at the end, until there are no
// more. next is the number for a new run; it returns the one after those used.
func (z sizes) mergeRuns(ctx context.Context, w writer, next int64) (int64, error) {
	for {
		runs, err := readRuns(ctx, w)
		if err != nil {
			return 0, err
		}
		from := z.mergeable(runs)
		if from < 0 {
			return next, nil
		}
		if err := z.mergeInto(ctx, w, next, runs[from:]); err != nil {
			return 0, err
		}
		next++
	}
}

// mergeable is where the runs at the end begin that are to be one, or -1.
func (z sizes) mergeable(runs []run) int {
	if len(runs) == 0 {
		return -1
	}
	class, size, fan := runs[len(runs)-1].class(), int64(0), runFan
	from := len(runs)
	for ; from > 0 && runs[from-1].class() <= class; from-- {
		if size += runs[from-1].size; size > z.run {
			fan = runFan / 4 // there will never be sixteen
			break
		}
	}
	if len(runs)-from < fan {
		return -1
	}
	return from
}

// mergeInto makes one run of several that follow each other, a page at a time.
func (z sizes) mergeInto(ctx context.Context, w writer, id int64, runs []run) error {
	out := run{id: id, first: runs[0].first}
	for i := range runs {
		out.size += runs[i].size
		out.keys += runs[i].keys
	}
	out.bits = z.bitsFor(out.keys)
	for i := range runs { // a page of the new run lies within one of each old
		out.bits = max(out.bits, runs[i].bits)
	}
	p := pageWriter{ctx: ctx, w: w, run: &out}
	type input struct {
		page    uint64
		loaded  bool
		entries []keyed
	}
	inputs := make([]input, len(runs))
	var entries []keyed
	for page := range uint64(1) << out.bits {
		entries = entries[:0]
		for i := range runs {
			r, in := &runs[i], &inputs[i]
			if want := page >> (out.bits - r.bits); !in.loaded || in.page != want {
				in.page, in.loaded, in.entries = want, true, in.entries[:0]
				var b []byte
				if _, err := one(ctx, w, "SELECT keys FROM key_page WHERE id = ?1", []any{pageID(r.id, want)}, &b); err != nil {
					return err
				}
				var err error
				if in.entries, err = r.decode(want, b, in.entries); err != nil {
					return err
				}
			}
			n := 0
			for n < len(in.entries) && in.entries[n].key>>(keyBits-out.bits) == page {
				n++
			}
			for _, e := range in.entries[:n] {
				entries = append(entries, keyed{e.key, e.at + uint32(r.first-out.first)})
			}
			in.entries = in.entries[n:]
		}
		if len(entries) == 0 {
			continue
		}
		slices.SortFunc(entries, compareKeyed)
		if err := p.put(page, entries); err != nil {
			return err
		}
	}
	for i := range runs {
		if err := w.exec(ctx, "DELETE FROM key_page WHERE id >= ?1 AND id < ?2", pageID(runs[i].id, 0), pageID(runs[i].id+1, 0)); err != nil {
			return err
		}
		if err := w.exec(ctx, "DELETE FROM key_run WHERE id = ?1", runs[i].id); err != nil {
			return err
		}
	}
	return p.end()
}

// lookup finds the records that may have any of the keys, in ascending order.
func lookup(ctx context.Context, r reader, runs []run, keys []uint64) ([]int64, error) {
	var found []int64
	const most = 512
	type probe struct {
		run *run
		key uint64
	}
	probes := map[int64][]probe{}
	var ids []any
	flush := func() error {
		if len(ids) == 0 {
			return nil
		}
		// Always as many arguments, so that there are few statements.
		n := 1
		for n < len(ids) {
			n *= 4
		}
		for len(ids) < n {
			ids = append(ids, int64(-1))
		}
		err := each(ctx, r, "SELECT id, keys FROM key_page WHERE id IN ("+list(1, n)+")", ids, func(scan func(...any) error) error {
			var id int64
			var b []byte
			if err := scan(&id, &b); err != nil {
				return err
			}
			for _, p := range probes[id] {
				var err error
				if found, err = p.run.find(b, p.key, found); err != nil {
					return fmt.Errorf("%w (page %d)", err, id)
				}
			}
			return nil
		})
		clear(probes)
		ids = ids[:0]
		return err
	}
	for _, key := range keys {
		for i := range runs {
			id := pageID(runs[i].id, key>>(keyBits-runs[i].bits))
			if _, ok := probes[id]; !ok {
				ids = append(ids, id)
			}
			probes[id] = append(probes[id], probe{&runs[i], key})
			if len(ids) == most {
				if err := flush(); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
