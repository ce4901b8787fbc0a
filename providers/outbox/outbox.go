// Package outbox publishes what a provider's own transaction committed, and nothing
// else: events are written into a table in the same SQL transaction as what they
// tell of, and a [Forwarder] publishes them from there.
//
//	box, err := outbox.New(outbox.PostgreSQL, publisher, "")
//	err = box.Create(ctx, db)                    // once
//
//	tx, err := db.BeginTx(ctx, nil)
//	…                                            // the provider's own change
//	err = box.Add(ctx, tx, providers.Event{…})   // and its event
//	err = tx.Commit()
//
//	err = box.Forwarder(db, outbox.Options{}).Run(ctx)  // beside the program, or in it
//
// # What is promised
//
//   - An event whose transaction committed is published at least once, always under
//     the same id, so that the broker drops repeats. One whose transaction did not
//     commit is never published.
//   - The events of one subject are published in the order in which their
//     transactions committed. On PostgreSQL, Add takes a lock of the subject until
//     the transaction ends: numbers of a sequence do not follow the order of commits
//     by themselves. Add in several calls locks in the order of the calls; when two
//     transactions wait for each other PostgreSQL ends one, as ever.
//   - An event that can never be taken, by what it is, does not stand in the way of
//     others: it is set aside with its reason, for people to look at ([Box.Aside]).
//     Later events of its subject go on.
//
// Any number of forwarders may run. One works at a time, by a lease; where two do
// after all (a process that slept), the order still holds for the broker, because
// each sends in order from the first event that is left, and what the other sent
// already is a repeat.
//
// The package needs no driver of its own: give it the provider's *sql.DB.
package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"datafordeler/providers"
)

// Dialect is the database's.
type Dialect int

// The databases whose SQL this package speaks.
const (
	PostgreSQL Dialect = iota + 1 // 12 or later
	SQLite                        // 3.24 or later
)

// Box is an outbox: three tables, named by their first one.
type Box struct {
	dialect   Dialect
	table     string
	publisher *providers.Publisher
}

// DefaultTable is the name of the outbox's first table where none is given.
const DefaultTable = "datafordeler_outbox"

// New makes a box for one publisher's events. table may be empty.
func New(d Dialect, p *providers.Publisher, table string) (*Box, error) {
	if d != PostgreSQL && d != SQLite {
		return nil, errors.New("outbox: the dialect is PostgreSQL or SQLite")
	}
	if p == nil {
		return nil, errors.New("outbox: without a publisher no event can be checked, nor published")
	}
	if table == "" {
		table = DefaultTable
	}
	for i := range len(table) {
		if c := table[i]; (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') || len(table) > 40 {
			return nil, fmt.Errorf("outbox: table %q: want 1 to 40 of a–z, 0–9 and _, the first no digit", table)
		}
	}
	return &Box{d, table, p}, nil
}

// query fills in the tables' name, and the dialect's placeholders.
func (b *Box) query(q string) string {
	q = strings.ReplaceAll(q, "BOX", b.table)
	if b.dialect == SQLite {
		q = strings.ReplaceAll(q, "$", "?")
	}
	return q
}

// Create makes the tables where they are missing.
func (b *Box) Create(ctx context.Context, db *sql.DB) error {
	number := "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
	if b.dialect == SQLite {
		number = "INTEGER PRIMARY KEY AUTOINCREMENT" // a number is never used twice
	}
	for _, q := range []string{
		"CREATE TABLE IF NOT EXISTS BOX (seq " + number + ", event TEXT NOT NULL, added BIGINT NOT NULL)",
		"CREATE TABLE IF NOT EXISTS BOX_aside (seq BIGINT PRIMARY KEY, event TEXT NOT NULL, reason TEXT NOT NULL, at BIGINT NOT NULL)",
		"CREATE TABLE IF NOT EXISTS BOX_lease (one INTEGER PRIMARY KEY, holder TEXT NOT NULL, until BIGINT NOT NULL)",
		"INSERT INTO BOX_lease (one, holder, until) VALUES (1, '', 0) ON CONFLICT (one) DO NOTHING",
	} {
		if _, err := db.ExecContext(ctx, b.query(q)); err != nil {
			return fmt.Errorf("outbox: making the tables of %s: %w", b.table, err)
		}
	}
	return nil
}

// Tx is the provider's transaction: *sql.Tx, or a *sql.Conn with one open.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Add writes events into the outbox, as part of the transaction. An event that is
// not right is an error here, so that the provider's change need not be made without
// it. After any error, roll the transaction back.
func (b *Box) Add(ctx context.Context, tx Tx, events ...providers.Event) error {
	encoded := make([]providers.Encoded, len(events))
	for i, e := range events {
		var err error
		if encoded[i], err = b.publisher.Encode(e); err != nil {
			return fmt.Errorf("outbox: event %d: %w", i, err)
		}
	}
	if b.dialect == PostgreSQL {
		var locks []int64
		for _, e := range encoded {
			sum := sha256.Sum256([]byte(b.table + "\x00" + e.Order))
			locks = append(locks, int64(binary.BigEndian.Uint64(sum[:])))
		}
		slices.Sort(locks) // so that two calls do not wait for each other
		for _, l := range slices.Compact(locks) {
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", l); err != nil {
				return fmt.Errorf("outbox: %w", err)
			}
		}
	}
	now := time.Now().UnixMilli()
	for _, e := range encoded {
		if _, err := tx.ExecContext(ctx, b.query("INSERT INTO BOX (event, added) VALUES ($1, $2)"), string(e.Line), now); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
	}
	return nil
}

// In is the box as a Watermill publisher within one transaction: what is published
// there is added. Messages are as for Publisher.Watermill.
func (b *Box) In(tx Tx) message.Publisher { return inTx{b, tx} }

type inTx struct {
	box *Box
	tx  Tx
}

// Publish adds the messages. The topic is the dataset, which the box knows.
func (p inTx) Publish(_ string, messages ...*message.Message) error {
	events := make([]providers.Event, len(messages))
	ctx := context.Background()
	for i, m := range messages {
		if i == 0 {
			ctx = m.Context()
		}
		var err error
		if events[i], err = providers.EventOf(m); err != nil {
			return fmt.Errorf("outbox: message %d: %w", i, err)
		}
	}
	return p.box.Add(ctx, p.tx, events...)
}

// Close does nothing: the transaction is its owner's.
func (inTx) Close() error { return nil }

// SetAside is an event that could not be published, by what it is.
type SetAside struct {
	Seq    int64
	Reason string // it holds no value of the event
	At     time.Time
	Event  []byte // a CloudEvent in JSON; personal data
}

// Aside lists events that were set aside, the oldest first.
func (b *Box) Aside(ctx context.Context, db *sql.DB, limit int) ([]SetAside, error) {
	rows, err := db.QueryContext(ctx, b.query("SELECT seq, event, reason, at FROM BOX_aside ORDER BY seq LIMIT $1"), limit)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	defer rows.Close()
	var out []SetAside
	for rows.Next() {
		var s SetAside
		var at int64
		if err := rows.Scan(&s.Seq, &s.Event, &s.Reason, &at); err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
		s.At = time.UnixMilli(at).UTC()
		out = append(out, s)
	}
	return out, rows.Err()
}

// Requeue puts an event that was set aside at the end of the outbox, under the same
// id, for when the reason has gone (a schema that has been declared since). Later
// events of its subject were published before it by then.
func (b *Box) Requeue(ctx context.Context, db *sql.DB, seq int64) error {
	return b.inTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, b.query("INSERT INTO BOX (event, added) SELECT event, $1 FROM BOX_aside WHERE seq = $2"), time.Now().UnixMilli(), seq); err != nil {
			return err
		}
		return b.deleteAside(ctx, tx, seq)
	})
}

// Drop forgets an event that was set aside.
func (b *Box) Drop(ctx context.Context, db *sql.DB, seq int64) error {
	return b.inTx(ctx, db, func(tx *sql.Tx) error { return b.deleteAside(ctx, tx, seq) })
}

func (b *Box) deleteAside(ctx context.Context, tx *sql.Tx, seq int64) error {
	res, err := tx.ExecContext(ctx, b.query("DELETE FROM BOX_aside WHERE seq = $1"), seq)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, fmt.Errorf("no event with number %d is set aside", seq))
	}
	return nil
}

// Waiting is how many events are not published yet, and since when the first of
// them waits.
func (b *Box) Waiting(ctx context.Context, db *sql.DB) (n int64, since time.Time, err error) {
	var first sql.NullInt64
	if err := db.QueryRowContext(ctx, b.query("SELECT count(*), min(added) FROM BOX")).Scan(&n, &first); err != nil {
		return 0, time.Time{}, fmt.Errorf("outbox: %w", err)
	}
	if first.Valid {
		since = time.UnixMilli(first.Int64).UTC()
	}
	return n, since, nil
}

func (b *Box) inTx(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := do(tx); err != nil {
		return fmt.Errorf("outbox: %w", errors.Join(err, tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// row is an event in the outbox.
type row struct {
	seq   int64
	event providers.Event
	bad   error // why it cannot be read
}

// Bounds on what a forwarder holds at once; one event larger goes alone.
const batchBytes = 8 << 20

// first reads the oldest events.
func (b *Box) first(ctx context.Context, db *sql.DB, limit int) ([]row, error) {
	rows, err := db.QueryContext(ctx, b.query("SELECT seq, event FROM BOX ORDER BY seq LIMIT $1"), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []row
	size := 0
	for rows.Next() && size < batchBytes {
		var r row
		var line []byte
		if err := rows.Scan(&r.seq, &line); err != nil {
			return nil, err
		}
		size += len(line)
		r.bad = errors.New("it is no line")
		for e, err := range providers.ReadNDJSON(bytes.NewReader(line)) {
			r.event, r.bad = e, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}
