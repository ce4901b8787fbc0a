package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"time"

	"datafordeler/broker/audit"
	"datafordeler/broker/store"
)

// desk is where the commands ask: the same as the HTTP API's.
type desk struct {
	audit.Desk
	node  *node
	store *store.Store
}

func openDesk(ctx context.Context, std stdio, where place, s *timeSpan, f *form) (*desk, error) {
	return openDeskWith(ctx, std, where, false, s, f)
}

// openDeskWith opens the broker and its read model, once the flags make sense.
func openDeskWith(ctx context.Context, std stdio, where place, withKeys bool, s *timeSpan, f *form) (*desk, error) {
	if err := errors.Join(s.read(), f.check()); err != nil {
		return nil, usageError{err}
	}
	n, err := where.open(ctx, std, withKeys)
	if err != nil {
		return nil, err
	}
	read, err := n.openStore(ctx, std)
	if err != nil {
		n.close()
		return nil, err
	}
	return &desk{audit.Desk{Store: read, Control: n.control, Subjects: n, Embedded: n.engine.Embedded()}, n, read}, nil
}

func (d *desk) close() {
	d.store.Close()
	d.node.close()
}

// flagFault is a question's fault, as one of flags.
func flagFault(err error) error {
	var q *audit.QuestionError
	var s *audit.SubjectError
	switch {
	case errors.As(err, &q) && q.Field != "":
		return usagef("--%s", q.Error())
	case errors.As(err, &q), errors.As(err, &s), errors.Is(err, store.ErrQuery):
		return usageError{err}
	}
	return err
}

// timeSpan are the flags that bound the time of decisions.
type timeSpan struct {
	from, to   string
	begin, end time.Time
}

func declareSpan(fs *flag.FlagSet) *timeSpan {
	s := &timeSpan{}
	fs.StringVar(&s.from, "from", "", "")
	fs.StringVar(&s.to, "to", "", "")
	return s
}

func (s *timeSpan) read() (err error) {
	if s.begin, err = timeFlag("from", s.from); err == nil {
		s.end, err = timeFlag("to", s.to)
	}
	return err
}

// form is how an answer is printed: for people, as one JSON object a line, or as a
// table for spreadsheets.
type form struct{ json, csv bool }

func declareForm(fs *flag.FlagSet) *form {
	f := &form{}
	fs.BoolVar(&f.json, "json", false, "")
	fs.BoolVar(&f.csv, "csv", false, "")
	return f
}

func (f *form) check() error {
	if f.json && f.csv {
		return usagef("--json and --csv exclude each other")
	}
	return nil
}

// printAs prints what was found. rows are one thing's rows in the table.
func printAs[T any](f *form, std stdio, all []T, columns []string, rows func(*T) [][]string, people func(io.Writer) error) (err error) {
	w := bufio.NewWriter(std.out)
	switch {
	case f.json:
		for i := range all {
			err = errors.Join(err, printJSON(w, &all[i], false))
		}
	case f.csv:
		t := audit.NewTable(w, columns)
		for i := range all {
			for _, r := range rows(&all[i]) {
				t.Row(r)
			}
		}
		err = t.Flush()
	default:
		err = people(w)
	}
	return errors.Join(err, w.Flush())
}

// oneRow is for things that are one row each.
func oneRow[T any](row func(*T) []string) func(*T) [][]string {
	return func(t *T) [][]string { return [][]string{row(t)} }
}
