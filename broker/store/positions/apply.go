package positions

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// Record is a record that intake accepted.
type Record struct {
	Offset  int64
	Subject broker.SubjectKey
	Event   broker.EventHash
	Kind    broker.RecordKind
	Of      broker.EventHash // zero for an original
}

// Batch is what one record of the topic decisions adds: the accepted records among
// the offsets of a source partition before Next, from where the batch before ended.
type Batch struct {
	// LogPartition and Log say how far the topic decisions is in the index with it.
	LogPartition int32
	Log          LogPlace

	// Dataset is empty where the batch adds nothing but how far the log is.
	Dataset   broker.DatasetID
	TopicID   broker.Digest
	Partition int32
	Next      int64
	At        time.Time // when it was decided
	Records   []Record

	// Gifts are of single decisions, which lie in any source partition.
	Gifts []Gift
}

// Given says what single decisions say of a record and a subscription, beside what the
// stream said of it.
type Given uint8

const (
	// GivenData: it was delivered, with data, by backfill or to who looked it up.
	GivenData Given = 1 << iota
	// GivenBack: it was kept back at a door, so it may never have been handed over.
	GivenBack
)

// Gift is a single decision that gave a subscription a record, or kept it back.
type Gift struct {
	Dataset      broker.DatasetID
	TopicID      broker.Digest
	Partition    int32
	Offset       int64
	Event        broker.EventHash
	Subscription broker.SubscriptionID
	What         Given
}

// stored is a record with what its batch says of it.
type stored struct {
	*Record
	source int64
	stamp  int64
}

// Apply adds batches, in the order of the log, all in one transaction. What lies
// before a partition's next offset is in the index already, and is passed over.
func (x *Index) Apply(ctx context.Context, batches []Batch) error {
	x.apply.Lock()
	defer x.apply.Unlock()
	sources, ids, logs := maps.Clone(x.sources), maps.Clone(x.ids), maps.Clone(x.logs)
	touched := map[int64]bool{}
	var all []stored
	err := x.write(ctx, func(tx *sql.Tx) error {
		// sourceOf is a source partition's number, which it may get now.
		sourceOf := func(dataset broker.DatasetID, topicID broker.Digest, partition int32) (id int64, err error) {
			p := place{topicID, partition}
			id, ok := ids[p]
			if !ok {
				if err := tx.QueryRowContext(ctx, "INSERT INTO source (dataset, topic, partition, next, floor, gone) VALUES (?1, ?2, ?3, 0, 0, 0) RETURNING id",
					string(dataset), topicID[:], partition).Scan(&id); err != nil {
					return 0, err
				}
				ids[p], sources[id] = id, &source{place: p, dataset: dataset}
			}
			return id, nil
		}
		for i := range batches {
			b := &batches[i]
			logs[b.LogPartition] = b.Log
			for j := range b.Gifts {
				g := &b.Gifts[j]
				id, err := sourceOf(g.Dataset, g.TopicID, g.Partition)
				if err == nil {
					_, err = tx.ExecContext(ctx, "INSERT OR IGNORE INTO given (event, subscription, what, source, offset) VALUES (?1, ?2, ?3, ?4, ?5)",
						g.Event[:], string(g.Subscription), int64(g.What), id, g.Offset)
				}
				if err != nil {
					return err
				}
			}
			if b.Dataset == "" {
				continue
			}
			id, err := sourceOf(b.Dataset, b.TopicID, b.Partition)
			if err != nil {
				return err
			}
			s := *sources[id]
			stamp := b.At.UnixMilli() << 2
			for j := range b.Records {
				if r := &b.Records[j]; r.Offset >= s.next && r.Offset < b.Next {
					all = append(all, stored{r, id, stamp | int64(r.Kind)})
				}
			}
			if b.Next > s.next {
				s.next = b.Next
				sources[id], touched[id] = &s, true
			}
		}
		if err := x.insert(ctx, tx, all); err != nil {
			return err
		}
		for id := range touched {
			if _, err := tx.ExecContext(ctx, "UPDATE source SET next = ?2 WHERE id = ?1", id, sources[id].next); err != nil {
				return err
			}
		}
		for p, l := range logs {
			if x.logs[p] != l {
				if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO log (partition, next, last, sum) VALUES (?1, ?2, ?3, ?4)", p, l.Next, l.Last, l.Sum[:]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("positions: %w", err)
	}
	x.mu.Lock()
	x.sources, x.ids, x.logs = sources, ids, logs
	x.mu.Unlock()
	return nil
}

// insert writes records in the order of their keys, so that those on one page come
// one after another.
func (x *Index) insert(ctx context.Context, tx *sql.Tx, all []stored) error {
	slices.SortFunc(all, func(a, b stored) int { return bytes.Compare(a.Subject[:], b.Subject[:]) })
	err := x.records.load(ctx, tx, len(all), func(i int, v []any) {
		r := all[i]
		v[0], v[1], v[2], v[3], v[4], v[5] = r.Subject[:], r.source, r.Offset, r.stamp, r.Event[:], nil
		if r.Kind != broker.Original {
			v[5] = r.Of[:]
		}
	})
	if err != nil {
		return err
	}
	changes := slices.DeleteFunc(all, func(r stored) bool { return r.Kind == broker.Original })
	slices.SortFunc(changes, func(a, b stored) int { return bytes.Compare(a.Of[:], b.Of[:]) })
	return x.changes.load(ctx, tx, len(changes), func(i int, v []any) {
		r := changes[i]
		v[0], v[1], v[2], v[3], v[4] = r.Of[:], r.source, r.Offset, r.stamp, r.Event[:]
	})
}

// inserter inserts many rows of a table by one statement: calling it is most of its
// cost.
type inserter struct {
	one, many *sql.Stmt
	width     int
}

// together is how many rows many inserts.
const together = 64

func newInserter(ctx context.Context, db *sql.DB, into string, width int) (in inserter, err error) {
	row := "(?" + strings.Repeat(",?", width-1) + ")"
	text := "INSERT INTO " + into + " VALUES " + row
	in.width = width
	if in.one, err = db.PrepareContext(ctx, text); err == nil {
		in.many, err = db.PrepareContext(ctx, text+strings.Repeat(","+row, together-1))
	}
	return in, err
}

func (in *inserter) load(ctx context.Context, tx *sql.Tx, n int, row func(i int, values []any)) error {
	args := make([]any, together*in.width)
	many, one := tx.StmtContext(ctx, in.many), tx.StmtContext(ctx, in.one)
	for from := 0; from < n; {
		s, rows := many, together
		if n-from < together {
			s, rows = one, 1
		}
		for i := range rows {
			row(from+i, args[i*in.width:(i+1)*in.width])
		}
		if _, err := s.ExecContext(ctx, args[:rows*in.width]...); err != nil {
			return err
		}
		from += rows
	}
	return nil
}
