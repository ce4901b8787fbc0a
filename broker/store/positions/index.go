package positions

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/store"
)

// Entry is one record: where it lies, and what must be known to tell whether it is
// current.
type Entry struct {
	broker.Position
	Event broker.EventHash
	Kind  broker.RecordKind
	// Of is the event that it corrects or retracts.
	Of broker.EventHash
	// At is when the broker decided on it, in milliseconds, UTC. Within a partition
	// it never goes back.
	At time.Time
}

// Index is the open file. Its methods may be called at the same time.
type Index struct {
	writing, reading *sql.DB
	records, changes inserter

	ofSubject, chains, given *sql.Stmt // of the readers

	apply sync.Mutex // one writer at a time

	mu      sync.RWMutex
	sources map[int64]*source // by id; replaced, never changed
	ids     map[place]int64
	logs    map[int32]LogPlace
}

// place is a source partition of a topic that is not made anew.
type place struct {
	topicID   broker.Digest
	partition int32
}

// source is a source partition.
type source struct {
	place
	dataset broker.DatasetID
	next    int64 // first offset that is not in the index
	floor   int64 // retention removed what lies before
}

// LogPlace is how far a partition of the topic decisions is in the index.
type LogPlace struct {
	Next int64
	// Last is the offset of the last record that was taken, and Sum its digest: by
	// them one sees that the log is another one.
	Last int64
	Sum  broker.Digest
}

// version is the format of the file: one of another format is made anew.
const version = 2

// pageSize is small: keys are hashes, so that nearly every record changes a page of
// its own, and pages are what is written.
const pageSize = 1024

// A record costs a row; a change, which is a correction or retraction, two more.
var tables = []string{
	`CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID`,
	`CREATE TABLE log (partition INTEGER PRIMARY KEY, next INTEGER, last INTEGER, sum BLOB) STRICT`,
	`CREATE TABLE source (id INTEGER PRIMARY KEY, dataset TEXT, topic BLOB, partition INTEGER, next INTEGER, floor INTEGER, gone INTEGER) STRICT`,
	// stamp is when it was decided, in milliseconds, times four and with its kind.
	`CREATE TABLE record (subject BLOB, source INTEGER, offset INTEGER, stamp INTEGER, event BLOB, parent BLOB,
		PRIMARY KEY (subject, source, offset)) STRICT, WITHOUT ROWID`,
	`CREATE TABLE change (parent BLOB, source INTEGER, offset INTEGER, stamp INTEGER, event BLOB,
		PRIMARY KEY (parent, source, offset)) STRICT, WITHOUT ROWID`,
	`CREATE INDEX change_event ON change (event)`,
	// what is a Given: single decisions that gave a subscription a record, or kept it back.
	`CREATE TABLE given (event BLOB, subscription TEXT, what INTEGER, source INTEGER, offset INTEGER,
		PRIMARY KEY (event, subscription, what)) STRICT, WITHOUT ROWID`,
}

// Open opens the file, and makes it where it is missing or of another format.
func Open(ctx context.Context, path string) (*Index, error) {
	x, err := open(ctx, path)
	if errors.Is(err, errFormat) {
		return Recreate(ctx, path)
	}
	return x, err
}

// Recreate empties the index: it removes the file and makes it anew. No one else
// may have it open.
func Recreate(ctx context.Context, path string) (*Index, error) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("positions: %w", err)
		}
	}
	return open(ctx, path)
}

var errFormat = errors.New("the file is of another format")

func open(ctx context.Context, path string) (_ *Index, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	x := &Index{}
	if x.writing, x.reading, err = store.OpenFile(path, pageSize); err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("positions: %s: %w", path, err), x.Close())
		}
	}()
	x.writing.SetMaxOpenConns(1)
	x.reading.SetMaxOpenConns(readers)
	x.reading.SetMaxIdleConns(readers)
	if err := x.define(ctx); err != nil {
		return nil, err
	}
	if x.ofSubject, err = x.reading.PrepareContext(ctx, "SELECT source, offset, stamp, event, parent FROM record WHERE subject = ?1"); err != nil {
		return nil, err
	}
	if x.chains, err = x.reading.PrepareContext(ctx, chainsOf); err != nil {
		return nil, err
	}
	if x.given, err = x.reading.PrepareContext(ctx, "SELECT subscription, what FROM given WHERE event = ?1"); err != nil {
		return nil, err
	}
	if x.records, err = newInserter(ctx, x.writing, "record (subject, source, offset, stamp, event, parent)", 6); err != nil {
		return nil, err
	}
	if x.changes, err = newInserter(ctx, x.writing, "change (parent, source, offset, stamp, event)", 5); err != nil {
		return nil, err
	}
	return x, x.load(ctx)
}

// readers is how many ask at the same time; more wait.
const readers = 4

func (x *Index) define(ctx context.Context) error {
	var have int
	if err := x.writing.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have == version {
		return nil
	}
	var n int
	if err := x.writing.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return errFormat
	}
	return x.write(ctx, func(tx *sql.Tx) error {
		for _, t := range tables {
			if _, err := tx.ExecContext(ctx, t); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}

// load reads what is kept in memory: the source partitions, which are few.
func (x *Index) load(ctx context.Context) error {
	sources, ids, logs := map[int64]*source{}, map[place]int64{}, map[int32]LogPlace{}
	err := each(ctx, x.writing, "SELECT id, dataset, topic, partition, next, floor FROM source WHERE gone = 0", func(rs *sql.Rows) error {
		var id int64
		var topic []byte
		s := &source{}
		if err := rs.Scan(&id, &s.dataset, &topic, &s.partition, &s.next, &s.floor); err != nil {
			return err
		}
		copy(s.topicID[:], topic)
		sources[id], ids[s.place] = s, id
		return nil
	})
	if err != nil {
		return err
	}
	err = each(ctx, x.writing, "SELECT partition, next, last, sum FROM log", func(rs *sql.Rows) error {
		var p int32
		var l LogPlace
		var sum []byte
		if err := rs.Scan(&p, &l.Next, &l.Last, &sum); err != nil {
			return err
		}
		copy(l.Sum[:], sum)
		logs[p] = l
		return nil
	})
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.sources, x.ids, x.logs = sources, ids, logs
	x.mu.Unlock()
	return nil
}

func each(ctx context.Context, db *sql.DB, query string, fn func(*sql.Rows) error) error {
	rs, err := db.QueryContext(ctx, query)
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

// write runs a transaction.
func (x *Index) write(ctx context.Context, fn func(*sql.Tx) error) error {
	// Called off in the middle of its commit, it would not be known whether it was done.
	tx, err := x.writing.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Close closes the file.
func (x *Index) Close() error {
	x.apply.Lock()
	defer x.apply.Unlock()
	var errs []error
	for _, db := range []*sql.DB{x.reading, x.writing} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Next is the first offset of a source partition that is not in the index; 0 where
// it knows nothing of the partition.
func (x *Index) Next(topicID broker.Digest, partition int32) int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if id, ok := x.ids[place{topicID, partition}]; ok {
		return x.sources[id].next
	}
	return 0
}

// Logs are how far each partition of the topic decisions is in the index.
func (x *Index) Logs() map[int32]LogPlace {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make(map[int32]LogPlace, len(x.logs))
	for p, l := range x.logs {
		out[p] = l
	}
	return out
}

// Source is a source partition that the index knows.
type Source struct {
	Dataset   broker.DatasetID
	TopicID   broker.Digest
	Partition int32
	// Next is the first offset that is not in it; before Floor nothing is.
	Next, Floor int64
}

// Sources are all that it knows, in no order.
func (x *Index) Sources() []Source {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]Source, 0, len(x.sources))
	for _, s := range x.sources {
		out = append(out, Source{s.dataset, s.topicID, s.partition, s.next, s.floor})
	}
	return out
}

// Stamp says what the index was made of, in words of the caller's; empty at first.
func (x *Index) Stamp(ctx context.Context) (string, error) {
	var s string
	err := x.writing.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'stamp'").Scan(&s)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return s, err
}

// SetStamp says what it is made of.
func (x *Index) SetStamp(ctx context.Context, stamp string) error {
	return x.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO meta (name, value) VALUES ('stamp', ?1)", stamp)
		return err
	})
}

// compare orders entries by when they were decided; within a partition that is the
// order of the log.
func compare(a, b *Entry) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset),
		cmp.Compare(string(a.TopicID[:]), string(b.TopicID[:])))
}
