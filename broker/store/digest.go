package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// Digest is a hash over the whole content, and how many decisions that is. It
// reads every row: some seconds a million. It does not depend on the order in
// which partitions were applied, on how the batches were grouped, or on the
// database. It is an error if the index does not hold as many.
//
// Each batch is hashed with what its numbers stand for, and then the batches'
// hashes in the order of the log.
func (s *Store) Digest(ctx context.Context) (hash string, decisions int64, err error) {
	err = s.read(ctx, func(r reader, st *state, d *dict) error {
		g := digester{ctx: ctx, r: r, answers: d.hashes()}
		d.mu.RLock() // entries are added meanwhile, but do not change
		g.names, g.sources = d.names, d.sources
		d.mu.RUnlock()
		if err := g.batches(); err != nil {
			return err
		}
		var blocks, records, indexed int64
		if _, err := one(ctx, r, "SELECT count(*), coalesce(CAST(sum(size) AS BIGINT), 0), coalesce(CAST(sum(decisions) AS BIGINT), 0) FROM block", nil, &blocks, &records, &indexed); err != nil {
			return err
		}
		if records != st.records || records != g.records || indexed != g.decisions {
			return fmt.Errorf("%w: there are %d records with %d decisions, the index has %d with %d, and %d were counted", ErrRebuild, g.records, g.decisions, records, indexed, st.records)
		}
		hash, decisions = g.sum(), g.decisions
		return nil
	})
	if err != nil {
		return "", 0, fmt.Errorf("store: digest: %w", err)
	}
	return hash, decisions, nil
}

type digester struct {
	ctx                context.Context
	r                  reader
	names              []string
	sources            []source
	answers            [][32]byte
	done               []digested
	records, decisions int64
}

type digested struct {
	at   logAt
	hash [32]byte
}

type digestBatch struct {
	storedBatch
	at             logAt
	first, inScope int64
	head           []byte
}

// batches hashes all batches, some at a time, in the order of their numbers,
// which is that of their records.
func (g *digester) batches() error {
	for next := int64(0); ; {
		var some []digestBatch
		err := each(g.ctx, g.r, "SELECT id, source, time, revision, policy, period, log_partition, log_offset, first_record, in_scope, first, last, records, out_of_scope, repeated, rejected, permits, denials"+
			" FROM batch WHERE id >= ?1 ORDER BY id LIMIT 500", []any{next}, func(scan func(...any) error) error {
			var b digestBatch
			var n [8]int64
			if err := scan(&b.id, &b.source, &b.time, &b.revision, &b.policy, &b.period, &b.at.partition, &b.at.offset, &b.first, &b.inScope, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]); err != nil {
				return err
			}
			if b.source >= int64(len(g.sources)) || b.policy >= int64(len(g.names)) || b.period >= int64(len(g.names)) {
				return fmt.Errorf("%w: batch %d refers to what is not there", ErrRebuild, b.id)
			}
			s := &g.sources[b.source]
			h := append([]byte{byte(s.kind)}, s.topic[:]...)
			h = appendString(h, s.dataset)
			for _, v := range append([]int64{int64(s.partition), int64(b.at.partition), b.at.offset, b.time, b.revision, b.inScope}, n[:]...) {
				h = binary.BigEndian.AppendUint64(h, uint64(v))
			}
			h = appendString(h, g.names[b.policy])
			b.head = appendString(h, g.names[b.period])
			some = append(some, b)
			return nil
		})
		if err != nil || len(some) == 0 {
			return err
		}
		for len(some) > 0 {
			// So many that their records are read at once.
			n, records := 1, some[0].inScope
			for n < len(some) && records < 20_000 {
				records += some[n].inScope
				n++
			}
			if err := g.contents(some[:n], records); err != nil {
				return err
			}
			next = some[n-1].id + 1
			some = some[n:]
		}
	}
}

// contents hashes batches with their records.
func (g *digester) contents(batches []digestBatch, records int64) error {
	at, left := 0, batches[0].inScope
	h := sha256.New()
	h.Write(batches[0].head)
	end := func() {
		d := digested{at: batches[at].at}
		h.Sum(d.hash[:0])
		g.done = append(g.done, d)
		h.Reset()
	}
	first := batches[0].first
	want := first
	var row []byte
	err := each(g.ctx, g.r, "SELECT "+recordColumns+" FROM record WHERE id >= ?1 AND id < ?2 ORDER BY id", []any{first, first + records}, func(scan func(...any) error) error {
		var r storedRecord
		if err := r.scan(scan); err != nil {
			return err
		}
		for left == 0 {
			end()
			at++
			left = batches[at].inScope
			h.Write(batches[at].head)
		}
		if r.id != want || r.batch != batches[at].id {
			return fmt.Errorf("%w: record %d of batch %d stands where %d of batch %d was next", ErrRebuild, r.id, r.batch, want, batches[at].id)
		}
		left--
		want++
		row = binary.BigEndian.AppendUint64(append(row[:0], byte(r.kind)), uint64(r.offset))
		row = append(append(row, r.event[:]...), r.subject[:]...)
		if r.source >= 0 {
			if r.source >= int64(len(g.sources)) {
				return fmt.Errorf("%w: record %d has a source that is not there", ErrRebuild, r.id)
			}
			s := &g.sources[r.source]
			row = appendString(append(row, s.topic[:]...), s.dataset)
			row = append(binary.BigEndian.AppendUint32(row, uint32(s.partition)), r.request[:]...)
		}
		row = binary.BigEndian.AppendUint32(row, uint32(len(r.answers)))
		row = append(binary.AppendUvarint(row, uint64(len(r.ids))), r.ids...)
		for _, a := range r.answers {
			if a >= int64(len(g.answers)) {
				return fmt.Errorf("%w: record %d has an answer that is not there", ErrRebuild, r.id)
			}
			row = append(row, g.answers[a][:]...)
		}
		h.Write(row)
		g.records++
		g.decisions += int64(len(r.answers))
		return nil
	})
	if err != nil {
		return err
	}
	if want != first+records {
		return fmt.Errorf("%w: %d records are missing", ErrRebuild, first+records-want)
	}
	for end(); at+1 < len(batches); end() {
		at++
		h.Write(batches[at].head)
	}
	return nil
}

// sum hashes the batches' hashes in the order of the log.
func (g *digester) sum() string {
	slices.SortFunc(g.done, func(a, b digested) int {
		return cmp.Or(cmp.Compare(a.at.partition, b.at.partition), cmp.Compare(a.at.offset, b.at.offset))
	})
	h := sha256.New()
	for i := range g.done {
		h.Write(g.done[i].hash[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}
