package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// engine is what differs between the databases. Statements are written once:
// their arguments are ?1, ?2 and so on.
type engine interface {
	// read runs fn on one snapshot of the database.
	read(ctx context.Context, fn func(reader) error) error
	// write runs fn in a transaction, one at a time among all processes, and
	// commits if it gives no error. After an error it is not known whether it was
	// committed only if the connection was lost; position then says.
	write(ctx context.Context, fn func(writer) error) error
	// exists reports whether there is a table of that name.
	exists(ctx context.Context, r reader, table string) (bool, error)
	// define is the text of the tables, in its own words for types.
	define() ([]string, error)
	close() error
}

type reader interface {
	query(ctx context.Context, sql string, args ...any) (rows, error)
}

type writer interface {
	reader
	exec(ctx context.Context, sql string, args ...any) error
	// load appends n rows to a table; row fills in the values of the i-th, in the
	// order of the columns.
	load(ctx context.Context, table string, columns []string, n int, row func(i int, values []any)) error
}

// rows is a result being read. Close may be called twice.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// each calls fn for each row of a result; scan puts its columns where they belong.
func each(ctx context.Context, r reader, sql string, args []any, fn func(scan func(...any) error) error) error {
	rs, err := r.query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rs.Close()
	for rs.Next() {
		if err := fn(rs.Scan); err != nil {
			return err
		}
	}
	return rs.Err()
}

// one reads a result of at most one row.
func one(ctx context.Context, r reader, sql string, args []any, dest ...any) (found bool, err error) {
	err = each(ctx, r, sql, args, func(scan func(...any) error) error {
		found = true
		return scan(dest...)
	})
	return found, err
}

// list is "?1,?2,…" for n arguments that begin at from.
func list(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "?%d", from+i)
	}
	return b.String()
}

// connect finds the engine that a DSN names. Its errors name no more of the DSN
// than its scheme: there may be a password in the rest.
func connect(ctx context.Context, dsn string) (engine, error) {
	scheme, rest, found := strings.Cut(dsn, ":")
	switch {
	case !found:
		return nil, errors.New("store: the database is named as sqlite:PATH or postgres://USER@HOST/DATABASE; there is no scheme before a colon")
	case scheme == "sqlite":
		return openSQLite(ctx, rest)
	case scheme == "postgres" || scheme == "postgresql":
		return openPostgres(ctx, dsn)
	}
	return nil, errors.New("store: the database is named as sqlite:PATH or postgres://USER@HOST/DATABASE; the scheme is neither")
}
