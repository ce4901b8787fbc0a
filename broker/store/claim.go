package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrClaimed: another process fills this read model.
var ErrClaimed = errors.New("store: another process is filling the read model")

// Claim is the sole right to fill a read model, for as long as its holder lives
// and wants it. Two that fill it at once write nothing twice, but only one may
// make it anew; and of many instances one is enough.
type Claim struct {
	db   *sql.DB   // SQLite: a transaction that stays open
	conn *sql.Conn // of db
	pg   *pgx.Conn // PostgreSQL: a lock of this session
}

// TakeClaim takes the claim on the read model that dsn names, or fails with
// ErrClaimed at once. The system frees it when the process ends, however it ends.
// SQLite has a file for it beside the database, with .claim after its name.
func TakeClaim(ctx context.Context, dsn string) (*Claim, error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	if scheme == "sqlite" {
		return claimSQLite(ctx, rest)
	}
	return claimPostgres(ctx, dsn)
}

func claimSQLite(ctx context.Context, rest string) (*Claim, error) {
	path, err := sqlitePath(rest)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("store: sqlite: make its folder: %w", err)
	}
	q := url.Values{"_pragma": {"busy_timeout(0)"}}
	db, err := sql.Open("sqlite", "file://"+(&url.URL{Path: path + ".claim"}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("store: sqlite %s.claim: %w", path, err)
	}
	c := &Claim{db: db}
	if c.conn, err = db.Conn(ctx); err == nil {
		_, err = c.conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
	}
	if err == nil {
		return c, nil
	}
	c.Release()
	var fault *sqlite.Error
	if errors.As(err, &fault) && fault.Code()&0xff == sqlite3.SQLITE_BUSY {
		return nil, fmt.Errorf("%w: %s", ErrClaimed, path)
	}
	return nil, fmt.Errorf("store: sqlite %s.claim: %w", path, err)
}

func claimPostgres(ctx context.Context, dsn string) (*Claim, error) {
	cfg, err := pgConfig(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("store: postgres at %s: %w", cfg.ConnConfig.Host, err)
	}
	c := &Claim{pg: conn}
	var taken bool
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended('datafordeler read model is filled ' || $1::text, 0))",
		firstSchema(cfg.ConnConfig.RuntimeParams["search_path"])).Scan(&taken)
	switch {
	case err != nil:
		c.Release()
		return nil, fmt.Errorf("store: postgres at %s: %w", cfg.ConnConfig.Host, err)
	case !taken:
		c.Release()
		return nil, fmt.Errorf("%w: postgres at %s", ErrClaimed, cfg.ConnConfig.Host)
	}
	return c, nil
}

// Check says whether the claim still holds: a server that was restarted has
// forgotten it.
func (c *Claim) Check(ctx context.Context) error {
	if c.pg == nil {
		return nil
	}
	if err := c.pg.Ping(ctx); err != nil {
		return fmt.Errorf("store: the claim on the read model was lost: %w", err)
	}
	return nil
}

// Release gives the claim up. It is called once.
func (c *Claim) Release() error {
	var errs []error
	if c.pg != nil {
		errs = append(errs, c.pg.Close(context.Background()))
	}
	if c.conn != nil {
		errs = append(errs, c.conn.Close()) // its transaction wrote nothing
	}
	if c.db != nil {
		errs = append(errs, c.db.Close())
	}
	return errors.Join(errs...)
}
