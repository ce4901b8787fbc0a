package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteReaders is how many searches run at the same time; more wait.
const sqliteReaders = 4

// sqlitePage suits blobs of some kilobytes.
const sqlitePage = 8192

// sqliteEngine has one connection that writes and some that read. In WAL mode
// neither waits for the other.
type sqliteEngine struct {
	writing, reading *sql.DB
	writers, readers *sqlitePool
}

// sqlitePool lends connections, the one that was used last first: it has the most
// in its cache.
type sqlitePool struct {
	free chan struct{} // one for each connection in idle
	mu   sync.Mutex
	idle []*sqliteConn
	open int // connections, lent or not
}

func (p *sqlitePool) take(ctx context.Context) (*sqliteConn, error) {
	select {
	case <-p.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return c, nil
}

func (p *sqlitePool) give(c *sqliteConn) {
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	p.free <- struct{}{}
}

// sqliteConn is a connection with the statements that it has prepared.
type sqliteConn struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	args  []any
}

// sqlitePath is the file that a DSN names: what follows "sqlite:", absolute or
// relative, as "sqlite:///abs" too. The file's name is taken as it stands.
func sqlitePath(rest string) (string, error) {
	if abs, ok := strings.CutPrefix(rest, "//"); ok {
		if !strings.HasPrefix(abs, "/") {
			return "", errors.New("store: sqlite: a file is named as sqlite:/path/file.db; there is no host")
		}
		rest = abs
	}
	switch {
	case rest == "" || strings.HasSuffix(rest, "/"):
		return "", errors.New("store: sqlite: name a file: sqlite:/path/file.db")
	case strings.HasPrefix(rest, ":"):
		return "", errors.New("store: sqlite: a database in memory cannot be opened twice; name a file: sqlite:/path/file.db")
	case strings.ContainsRune(rest, 0):
		return "", errors.New("store: sqlite: the file's name holds a zero byte")
	}
	return filepath.Abs(rest)
}

// The settings.
//
// synchronous=NORMAL: a commit is not flushed to the disk, a checkpoint is. When
// the power fails, the last transactions may be gone, each of them whole: rows and
// the offset together. They are read again from the log. A kill loses nothing.
//
// The WAL is folded in every 4096 pages: 32 MB of the read model's.
var sqlitePragmas = []string{
	"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(60000)",
	"foreign_keys(0)", "temp_store(MEMORY)", "wal_autocheckpoint(4096)", "journal_size_limit(67108864)",
}

// OpenFile opens a file of SQLite with these settings, once to write and once to
// read, and makes it where it is missing, with mode 0600. Neither handle has
// connected yet; the one that writes must do so first, as it makes the file what it
// is. pageSize counts for a new file.
func OpenFile(path string, pageSize int) (writing, reading *sql.DB, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("sqlite: make its folder: %w", err)
	}
	// Who decided what is nobody else's to read: the database's own files take this
	// mode too. One that stands is not touched: closing a file frees this process's
	// locks on it, those of the database among them.
	if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, nil, fmt.Errorf("sqlite: %w", err)
	}
	open := func(pragmas ...string) (*sql.DB, error) {
		all := append([]string{fmt.Sprintf("page_size(%d)", pageSize)}, sqlitePragmas...)
		q := url.Values{"_pragma": append(all, pragmas...)}
		return sql.Open("sqlite", "file://"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	}
	if writing, err = open("cache_size(-65536)"); err == nil {
		reading, err = open("cache_size(-32768)", "query_only(1)")
	}
	if err != nil && writing != nil {
		err = errors.Join(err, writing.Close())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sqlite %s: %w", path, err)
	}
	return writing, reading, nil
}

func openSQLite(ctx context.Context, rest string) (engine, error) {
	path, err := sqlitePath(rest)
	if err != nil {
		return nil, err
	}
	e := &sqliteEngine{}
	if e.writing, e.reading, err = OpenFile(path, sqlitePage); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	// The writer first: it makes the file what it is.
	if e.writers, err = fill(ctx, e.writing, 1); err != nil {
		return nil, fmt.Errorf("store: sqlite %s: open: %w", path, errors.Join(err, e.close()))
	}
	if e.readers, err = fill(ctx, e.reading, sqliteReaders); err != nil {
		return nil, fmt.Errorf("store: sqlite %s: open to read: %w", path, errors.Join(err, e.close()))
	}
	return e, nil
}

func fill(ctx context.Context, db *sql.DB, n int) (*sqlitePool, error) {
	p := &sqlitePool{free: make(chan struct{}, n)}
	for range n {
		c, err := db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		p.open++
		p.give(&sqliteConn{conn: c, stmts: map[string]*sql.Stmt{}})
	}
	return p, nil
}

// close waits for what is under way: a connection that is in use would stay open,
// and the last one to be closed folds the WAL in.
func (e *sqliteEngine) close() error {
	var errs []error
	for _, p := range []*sqlitePool{e.readers, e.writers} {
		for p != nil && p.open > 0 {
			<-p.free
			p.mu.Lock()
			c := p.idle[len(p.idle)-1]
			p.idle, p.open = p.idle[:len(p.idle)-1], p.open-1
			p.mu.Unlock()
			for _, s := range c.stmts {
				errs = append(errs, s.Close())
			}
			errs = append(errs, c.conn.Close())
		}
	}
	for _, db := range []*sql.DB{e.reading, e.writing} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

func (e *sqliteEngine) read(ctx context.Context, fn func(reader) error) error {
	return e.within(ctx, e.readers, "BEGIN", func(c *sqliteConn) error { return fn(c) })
}

func (e *sqliteEngine) write(ctx context.Context, fn func(writer) error) error {
	return e.within(ctx, e.writers, "BEGIN IMMEDIATE", func(c *sqliteConn) error { return fn(c) })
}

func (e *sqliteEngine) within(ctx context.Context, pool *sqlitePool, begin string, fn func(*sqliteConn) error) (err error) {
	c, err := pool.take(ctx)
	if err != nil {
		return err
	}
	defer pool.give(c)
	if _, err := c.conn.ExecContext(ctx, begin); err != nil {
		// Called off while it ran, it may have begun all the same, and a connection
		// within a transaction can begin no other. That there is nothing to roll back is
		// an error of SQLite's which says nothing here.
		c.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return err
	}
	done := false
	defer func() {
		if !done {
			// The caller's context may be what ended it.
			_, failed := c.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, failed)
		}
	}()
	if err := fn(c); err != nil {
		return err
	}
	// Called off now, it would not be known whether it was done.
	if _, err := c.conn.ExecContext(context.WithoutCancel(ctx), "COMMIT"); err != nil {
		return err
	}
	done = true
	return nil
}

func (e *sqliteEngine) exists(ctx context.Context, r reader, table string) (bool, error) {
	var n int64
	_, err := one(ctx, r, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1", []any{table}, &n)
	return n > 0, err
}

func (e *sqliteEngine) define() ([]string, error) {
	return schema("INTEGER PRIMARY KEY", "INTEGER", "BLOB", "STRICT", sqliteView), nil
}

// stmt prepares a statement once.
func (c *sqliteConn) stmt(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	s, err := c.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if len(c.stmts) >= 200 { // only statements with lists of arguments are so many
		for k, old := range c.stmts {
			old.Close()
			delete(c.stmts, k)
		}
	}
	c.stmts[text] = s
	return s, nil
}

func (c *sqliteConn) query(ctx context.Context, text string, args ...any) (rows, error) {
	s, err := c.stmt(ctx, text)
	if err != nil {
		return nil, err
	}
	rs, err := s.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	return sqliteRows{rs}, nil
}

func (c *sqliteConn) exec(ctx context.Context, text string, args ...any) error {
	if strings.HasPrefix(text, "CREATE") || strings.HasPrefix(text, "DROP") {
		_, err := c.conn.ExecContext(ctx, text)
		return err
	}
	s, err := c.stmt(ctx, text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx, args...)
	return err
}

// load inserts many rows by one statement: calling it is most of its cost.
func (c *sqliteConn) load(ctx context.Context, table string, columns []string, n int, row func(i int, values []any)) error {
	const most = 64
	width := len(columns)
	for from := 0; from < n; {
		many := most
		if n-from < many {
			many = 1
		}
		var b strings.Builder
		b.WriteString("INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES ")
		for i := range many {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString("(?" + strings.Repeat(",?", width-1) + ")")
		}
		s, err := c.stmt(ctx, b.String())
		if err != nil {
			return err
		}
		c.args = append(c.args[:0], make([]any, many*width)...)
		for ; from+many <= n; from += many {
			for i := range many {
				row(from+i, c.args[i*width:(i+1)*width])
			}
			if _, err := s.ExecContext(ctx, c.args...); err != nil {
				return err
			}
		}
		clear(c.args)
	}
	return nil
}

type sqliteRows struct{ *sql.Rows }

func (r sqliteRows) Close() { r.Rows.Close() } // its error, if any, is Err's
