package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
)

// What a caller can tell apart.
var (
	// ErrRebuild: the tables were made by an older version, or are damaged. They
	// are not converted: `datafordeler rebuild` makes them again from the log.
	ErrRebuild = errors.New("store: the read model has another format: run 'datafordeler rebuild'")
	// ErrNewer: a newer datafordeler made the tables.
	ErrNewer = errors.New("store: a newer datafordeler made the read model")
	// ErrGap: a batch was skipped. Read again from Position.
	ErrGap = errors.New("store: the log has a gap")
	// ErrParties: an agreement's parties are not known yet. Nothing was applied.
	ErrParties = errors.New("store: the parties of an agreement are not known")
	// ErrQuery: the question cannot be answered as it stands; the caller's fault.
	ErrQuery = errors.New("store: query")
	// ErrCursor is an ErrQuery: the cursor is not one, or is of another query.
	ErrCursor = fmt.Errorf("%w: cursor", ErrQuery)
	// ErrOldCursor is an ErrCursor: it is of another version of this program.
	ErrOldCursor = fmt.Errorf("%w: it is of another version of this program", ErrCursor)
)

// Store is a read model. Its methods may be called at the same time; Applies
// wait for each other, also those of other processes, and readers never wait for
// them. What a reader sees is whole Applies.
type Store struct {
	db    engine
	sizes sizes

	applying sync.Mutex // one Apply or Reset at a time

	mu   sync.Mutex // guards dict
	dict *dict      // of the generation that was met last
}

// Open opens the read model that dsn names, and makes its tables when there are
// none.
//
//   - "sqlite:/path/file.db", absolute or relative; the folder is made.
//   - "postgres://user@host/database", with the options of libpq. The tables are
//     in the schema "datafordeler", unless the URL sets search_path. The user must
//     be allowed to make tables there, and the schema if it is missing.
//
// Errors never repeat a password. ErrRebuild and ErrNewer: the tables are of
// another version.
func Open(ctx context.Context, dsn string) (*Store, error) {
	return open(ctx, dsn, func(s *Store, w writer, there bool) error {
		if there {
			_, err := readState(ctx, w)
			return err
		}
		return s.create(ctx, w)
	})
}

// Recreate opens the read model that dsn names with empty tables, whatever
// version of them was there: for `datafordeler rebuild`. Others that have it open
// go on with the new one.
func Recreate(ctx context.Context, dsn string) (*Store, error) {
	return open(ctx, dsn, func(s *Store, w writer, there bool) error { return s.recreate(ctx, w) })
}

func open(ctx context.Context, dsn string, prepare func(s *Store, w writer, there bool) error) (*Store, error) {
	db, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, sizes: usualSizes}
	err = db.write(ctx, func(w writer) error {
		there, err := db.exists(ctx, w, "state")
		if err != nil {
			return err
		}
		return prepare(s, w, there)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: open: %w", err), db.close())
	}
	return s, nil
}

// create makes the tables. Each time they are made they are another generation:
// what someone remembers of the dictionaries of an earlier one is void.
func (s *Store) create(ctx context.Context, w writer) error {
	text, err := s.db.define()
	if err != nil {
		return err
	}
	for _, statement := range text {
		if err := w.exec(ctx, statement); err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	return w.exec(ctx, "INSERT INTO state (id, version, generation, records, batches, runs, names, sources, agreements, outcomes, answers) VALUES (1, ?1, ?2, 0, 0, 0, 0, 0, 0, 0, 0)",
		int64(schemaVersion), rand.Text())
}

func (s *Store) recreate(ctx context.Context, w writer) error {
	drop := []string{"DROP VIEW IF EXISTS decision"}
	for _, table := range tables {
		drop = append(drop, "DROP TABLE IF EXISTS "+table)
	}
	for _, statement := range drop {
		if err := w.exec(ctx, statement); err != nil {
			return fmt.Errorf("drop the tables: %w", err)
		}
	}
	return s.create(ctx, w)
}

// Close ends the connections, when what runs on them has ended. It is called once,
// and nothing after it.
func (s *Store) Close() error { return s.db.close() }

// Reset empties the read model, so that it can be filled from the beginning of
// the log.
func (s *Store) Reset(ctx context.Context) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if err := s.db.write(ctx, func(w writer) error { return s.recreate(ctx, w) }); err != nil {
		return fmt.Errorf("store: reset: %w", err)
	}
	return nil
}

// Position is the next offset to read, by partition of the decisions topic. A
// partition that nothing was applied of is not in it.
func (s *Store) Position(ctx context.Context) (next map[int32]int64, err error) {
	err = s.db.read(ctx, func(r reader) error {
		if _, err := readState(ctx, r); err != nil {
			return err
		}
		next, err = readPositions(ctx, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: position: %w", err)
	}
	return next, nil
}

// current is the state in a snapshot, and the dictionaries with at least what it
// has in it.
func (s *Store) current(ctx context.Context, r reader) (state, *dict, error) {
	st, err := readState(ctx, r)
	if err != nil {
		return st, nil, err
	}
	s.mu.Lock()
	d := s.dict
	if d == nil || d.generation != st.generation {
		d = newDict(st.generation)
		s.dict = d
	}
	s.mu.Unlock()
	return st, d, d.load(ctx, r, st.counts)
}

// read runs fn on a snapshot, with its state and dictionaries.
func (s *Store) read(ctx context.Context, fn func(reader, *state, *dict) error) error {
	return s.db.read(ctx, func(r reader) error {
		st, d, err := s.current(ctx, r)
		if err != nil {
			return err
		}
		return fn(r, &st, d)
	})
}
