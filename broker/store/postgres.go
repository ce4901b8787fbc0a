package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgSchema is where the tables are unless the DSN sets search_path.
const pgSchema = "datafordeler"

// pgLock is the advisory lock that writers of one database's read model take in
// turn, by the name of its schema.
const pgLock = "SELECT pg_advisory_xact_lock(hashtextextended('datafordeler read model ' || current_schema(), 0))"

type postgresEngine struct {
	pool *pgxpool.Pool
}

// pgConfig reads a PostgreSQL URL. What is wrong in it is not repeated: it may
// be the password.
func pgConfig(dsn string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("store: postgres: the URL cannot be read; it is postgres://USER:PASSWORD@HOST:PORT/DATABASE, with the characters :/?#[]@% of a password written as % and two digits")
	}
	if c.ConnConfig.RuntimeParams["search_path"] == "" {
		c.ConnConfig.RuntimeParams["search_path"] = pgSchema
	}
	// A commit is not flushed to the disk before it is answered. When the server
	// or its machine fails, the last transactions may be gone, each of them
	// whole; they are read again from the log.
	if c.ConnConfig.RuntimeParams["synchronous_commit"] == "" {
		c.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
	}
	if c.ConnConfig.RuntimeParams["application_name"] == "" {
		c.ConnConfig.RuntimeParams["application_name"] = "datafordeler"
	}
	// Values that differ from statement to statement do not make a plan better
	// here: every statement goes by one index.
	c.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	c.ConnConfig.RuntimeParams["jit"] = "off"
	return c, nil
}

func openPostgres(ctx context.Context, dsn string) (engine, error) {
	c, err := pgConfig(dsn)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("store: postgres at %s: %w", c.ConnConfig.Host, err)
	}
	e := &postgresEngine{pool}
	if err := e.make(ctx, c.ConnConfig.RuntimeParams["search_path"]); err != nil {
		pool.Close()
		return nil, fmt.Errorf("store: postgres at %s: %w", c.ConnConfig.Host, err)
	}
	return e, nil
}

// make sees to it that the first schema on the path, where the tables are, is there:
// without it they would be made in the next one.
func (e *postgresEngine) make(ctx context.Context, path string) error {
	name := firstSchema(path)
	var there bool
	look := func() error {
		const ask = "SELECT $1 = '$user' AND current_schema() IS NOT NULL OR EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
		return e.pool.QueryRow(ctx, ask, name).Scan(&there)
	}
	if err := look(); err != nil || there {
		return err
	}
	_, err := e.pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{name}.Sanitize())
	if err != nil && look() == nil && there { // somebody else was faster
		return nil
	}
	return err
}

// firstSchema is the first on a search path, as PostgreSQL reads it.
func firstSchema(path string) string {
	first, _, _ := strings.Cut(path, ",")
	first = strings.TrimSpace(first)
	if inner, quoted := strings.CutPrefix(first, `"`); quoted {
		return strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	return strings.ToLower(first)
}

func (e *postgresEngine) close() error {
	e.pool.Close()
	return nil
}

func (e *postgresEngine) read(ctx context.Context, fn func(reader) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, e.pool, options, func(tx pgx.Tx) error { return fn(pgTx{tx}) })
}

func (e *postgresEngine) write(ctx context.Context, fn func(writer) error) error {
	return pgx.BeginTxFunc(ctx, e.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, pgLock); err != nil {
			return err
		}
		return fn(pgTx{tx})
	})
}

func (e *postgresEngine) exists(ctx context.Context, r reader, table string) (bool, error) {
	var n int64
	_, err := one(ctx, r, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?1", []any{table}, &n)
	return n > 0, err
}

func (e *postgresEngine) define() ([]string, error) {
	text := schema("BIGINT PRIMARY KEY", "BIGINT", "BYTEA", "", postgresView)
	for _, column := range []string{"block_index ALTER answers", "block_index ALTER batches", "block_index ALTER rows", "key_page ALTER keys"} {
		// Packed already, and sorted by a hash.
		text = append(text, "ALTER TABLE "+column+" SET STORAGE EXTERNAL")
	}
	return text, nil
}

type pgTx struct{ tx pgx.Tx }

// dollars writes ?1 as $1. No statement has a question mark for anything else.
func dollars(sql string) string { return strings.ReplaceAll(sql, "?", "$") }

func (t pgTx) query(ctx context.Context, sql string, args ...any) (rows, error) {
	return t.tx.Query(ctx, dollars(sql), args...)
}

func (t pgTx) exec(ctx context.Context, sql string, args ...any) error {
	_, err := t.tx.Exec(ctx, dollars(sql), args...)
	return err
}

func (t pgTx) load(ctx context.Context, table string, columns []string, n int, row func(i int, values []any)) error {
	if n == 0 {
		return nil
	}
	i := 0
	values := make([]any, len(columns))
	_, err := t.tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if i == n {
			return nil, nil
		}
		row(i, values)
		i++
		return values, nil
	}))
	return err
}
