package consumers

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"datafordeler/broker"
)

// SQL keeps a mailbox's checkpoint in the caller's own database, and which
// deliveries were handled: each in the transaction that holds what was done with it.
// So every delivery has its effect once, whatever is killed when. It is written for
// PostgreSQL and SQLite, and needs no driver of its own.
type SQL struct {
	db      *sql.DB
	mailbox broker.MailboxID
	now     func() time.Time
}

// OpenSQL makes the tables datafordeler_checkpoint and datafordeler_handled, where
// they are missing.
func OpenSQL(ctx context.Context, db *sql.DB, m broker.MailboxID) (*SQL, error) {
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS datafordeler_checkpoint (mailbox TEXT PRIMARY KEY, content TEXT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS datafordeler_handled (mailbox TEXT NOT NULL, delivery TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (mailbox, delivery))`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	return &SQL{db, m, time.Now}, nil
}

// Load and Save make it a Store.
func (s *SQL) Load(ctx context.Context) (*Checkpoint, error) {
	var text string
	err := s.db.QueryRowContext(ctx, `SELECT content FROM datafordeler_checkpoint WHERE mailbox = $1`, string(s.mailbox)).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{}
	return c, json.Unmarshal([]byte(text), c)
}

// Save keeps the checkpoint.
func (s *SQL) Save(ctx context.Context, c *Checkpoint) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, `INSERT INTO datafordeler_checkpoint (mailbox, content) VALUES ($1, $2)
		ON CONFLICT (mailbox) DO UPDATE SET content = excluded.content`, string(s.mailbox), string(text))
	return err
}

// Handler runs fn once for each delivery, in a transaction that also remembers its
// id. Where fn fails, nothing of it stays, and the delivery comes again.
func (s *SQL) Handler(fn func(context.Context, *sql.Tx, Delivery) error) Handler {
	return func(ctx context.Context, d Delivery) error {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // after a commit, it does nothing
		done, err := tx.ExecContext(ctx, `INSERT INTO datafordeler_handled (mailbox, delivery, at) VALUES ($1, $2, $3)
			ON CONFLICT (mailbox, delivery) DO NOTHING`, string(s.mailbox), d.ID.String(), s.now().Unix())
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err // handled before
		}
		if err := fn(ctx, tx, d); err != nil && !errors.Is(err, ErrStop) {
			return err
		} else if cerr := tx.Commit(); cerr != nil {
			return cerr
		} else {
			return err
		}
	}
}

// Forget drops what is known of deliveries handled before a time: later than what
// the broker keeps, none of them can come again.
func (s *SQL) Forget(ctx context.Context, before time.Time) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM datafordeler_handled WHERE mailbox = $1 AND at < $2`, string(s.mailbox), before.Unix())
	return err
}

// MemoryStore keeps the checkpoint for as long as the process runs: for tests, and
// where all may come again after a restart.
func MemoryStore() Store { return &memoryStore{} }

type memoryStore struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

// Load returns what was saved.
func (s *memoryStore) Load(context.Context) (*Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text == nil {
		return nil, nil
	}
	c := &Checkpoint{}
	return c, json.Unmarshal(s.text, c)
}

// Save keeps a copy.
func (s *memoryStore) Save(_ context.Context, c *Checkpoint) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
	return nil
}
