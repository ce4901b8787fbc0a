package positions

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"

	"datafordeler/broker"
)

// Expire leaves out the records of a source partition before an offset: retention
// removed them. They are gone from answers at once; Sweep frees their room.
func (x *Index) Expire(ctx context.Context, topicID broker.Digest, partition int32, before int64) error {
	x.apply.Lock()
	defer x.apply.Unlock()
	id, ok := x.ids[place{topicID, partition}]
	if !ok || x.sources[id].floor >= before {
		return nil
	}
	err := x.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE source SET floor = ?2, next = max(next, ?2) WHERE id = ?1", id, before)
		return err
	})
	if err != nil {
		return fmt.Errorf("positions: %w", err)
	}
	sources := maps.Clone(x.sources)
	s := *sources[id]
	s.floor, s.next = before, max(s.next, before)
	sources[id] = &s
	x.mu.Lock()
	x.sources = sources
	x.mu.Unlock()
	return nil
}

// Remove leaves out all records of a topic: it was deleted, or made anew under
// another id.
func (x *Index) Remove(ctx context.Context, topicID broker.Digest) error {
	x.apply.Lock()
	defer x.apply.Unlock()
	err := x.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE source SET gone = 1 WHERE topic = ?1", topicID[:])
		return err
	})
	if err != nil {
		return fmt.Errorf("positions: %w", err)
	}
	sources, ids := maps.Clone(x.sources), maps.Clone(x.ids)
	for p, id := range x.ids {
		if p.topicID == topicID {
			delete(sources, id)
			delete(ids, p)
		}
	}
	x.mu.Lock()
	x.sources, x.ids = sources, ids
	x.mu.Unlock()
	return nil
}

// Steps is how many steps make a whole sweep.
const Steps = 256

// Sweep deletes the rows that are left out of answers, a part of the index at each
// step, so that filling it never waits long.
func (x *Index) Sweep(ctx context.Context, step int) (rows int64, err error) {
	x.apply.Lock()
	defer x.apply.Unlock()
	from, to := []byte{byte(step)}, []byte{byte(step), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	err = x.write(ctx, func(tx *sql.Tx) error {
		for _, t := range [...]struct{ table, key string }{{"record", "subject"}, {"change", "parent"}, {"given", "event"}} {
			text := fmt.Sprintf(`DELETE FROM %[1]s WHERE %[2]s >= ?1 AND %[2]s <= ?2
				AND EXISTS (SELECT 1 FROM source s WHERE s.id = %[1]s.source AND (s.gone = 1 OR %[1]s.offset < s.floor))`, t.table, t.key)
			res, err := tx.ExecContext(ctx, text, from, to)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			rows += n
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("positions: %w", err)
	}
	return rows, nil
}

// Digest is a digest of what the index holds, and how many records: two that were
// filled from the same log, in whatever steps, have the same.
func (x *Index) Digest(ctx context.Context) (digest string, records int64, err error) {
	x.apply.Lock()
	defer x.apply.Unlock()
	var sum [4]uint64 // does not depend on the order
	add := func(b []byte) {
		h := sha256.Sum256(b)
		for i := range sum {
			sum[i] += binary.LittleEndian.Uint64(h[8*i:])
		}
	}
	place := func(b []byte, s *source) []byte {
		b = append(append(b, s.dataset...), 0)
		b = append(b, s.topicID[:]...)
		return binary.BigEndian.AppendUint32(b, uint32(s.partition))
	}
	for _, s := range x.sources {
		b := place([]byte{'s'}, s)
		add(binary.BigEndian.AppendUint64(b, uint64(s.next)))
	}
	var buf []byte
	for kind, text := range []string{
		"SELECT source, offset, stamp, event, parent, subject FROM record",
		"SELECT source, offset, stamp, event, parent, NULL FROM change",
		"SELECT source, offset, what, event, subscription, NULL FROM given",
	} {
		err := each(ctx, x.reading, text, func(rs *sql.Rows) error {
			var id, offset, stamp int64
			var event, parent, subject sql.RawBytes
			if err := rs.Scan(&id, &offset, &stamp, &event, &parent, &subject); err != nil {
				return err
			}
			s := x.sources[id]
			if s == nil || offset < s.floor {
				return nil
			}
			if kind == 0 {
				records++
			}
			buf = place(append(buf[:0], byte(kind)), s)
			buf = binary.BigEndian.AppendUint64(buf, uint64(offset))
			buf = binary.BigEndian.AppendUint64(buf, uint64(stamp))
			for _, part := range [][]byte{event, parent, subject} {
				buf = append(append(buf, byte(len(part))), part...)
			}
			add(buf)
			return nil
		})
		if err != nil {
			return "", 0, fmt.Errorf("positions: %w", err)
		}
	}
	var out []byte
	for _, n := range sum {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	return hex.EncodeToString(out), records, nil
}
