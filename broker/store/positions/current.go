package positions

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"datafordeler/broker"
)

// Bound narrows a question to the records of one source partition before an offset,
// as of that offset: what lies at or beyond it in the partition does not count yet,
// neither as a record nor as a change of one. Changes in other partitions count
// wherever they lie: whoever reads those delivers them. The zero Bound is none.
type Bound struct {
	TopicID   broker.Digest
	Partition int32
	Before    int64
}

// view is what one question sees.
type view struct {
	x       *Index
	tx      *sql.Tx
	dataset broker.DatasetID
	sources map[int64]*source
	bound   Bound
}

// Current returns the newest current records on a subject in a dataset, newest
// first, at most so many. A retraction is not a record. It sees what was applied
// before the call.
func (x *Index) Current(ctx context.Context, dataset broker.DatasetID, subject broker.SubjectKey, bound Bound, most int) ([]Entry, error) {
	x.mu.RLock()
	v := view{x: x, dataset: dataset, sources: x.sources, bound: bound}
	x.mu.RUnlock()
	var err error
	if v.tx, err = x.reading.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}); err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	defer v.tx.Rollback() // it has read only
	out, err := v.current(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	slices.SortFunc(out, func(a, b Entry) int { return compare(&b, &a) })
	if len(out) > most {
		out = out[:max(0, most)]
	}
	return out, nil
}

// entry reads a row of source, offset, stamp, event, parent. ok is false for what
// the question does not see.
func (v *view) entry(rs *sql.Rows) (e Entry, ok bool, err error) {
	var id, stamp int64
	var event, parent sql.RawBytes
	if err := rs.Scan(&id, &e.Offset, &stamp, &event, &parent); err != nil {
		return e, false, err
	}
	s := v.sources[id]
	if s == nil || s.dataset != v.dataset || e.Offset < s.floor || v.within(s) && e.Offset >= v.bound.Before {
		return e, false, nil
	}
	e.Dataset, e.TopicID, e.Partition = s.dataset, s.topicID, s.partition
	e.Kind, e.At = broker.RecordKind(stamp&3), time.UnixMilli(stamp>>2).UTC()
	copy(e.Event[:], event)
	copy(e.Of[:], parent)
	return e, true, nil
}

func (v *view) within(s *source) bool {
	return v.bound != Bound{} && s.topicID == v.bound.TopicID && s.partition == v.bound.Partition
}

// asked reports whether an entry lies where the bound asks for.
func (v *view) asked(e *Entry) bool {
	return v.bound == Bound{} || e.TopicID == v.bound.TopicID && e.Partition == v.bound.Partition
}

// query calls fn for each row of a prepared statement.
func (v *view) query(ctx context.Context, s *sql.Stmt, key broker.Digest, fn func(*sql.Rows) error) error {
	rs, err := v.tx.StmtContext(ctx, s).QueryContext(ctx, key[:])
	if err != nil {
		return err
	}
	defer rs.Close()
	for rs.Next() {
		if err := fn(rs); err != nil {
			return err
		}
	}
	return rs.Err()
}
