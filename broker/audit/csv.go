package audit

import (
	"encoding/csv"
	"io"
	"strings"
)

// Table writes CSV (RFC 4180) that is safe to open in a spreadsheet.
type Table struct{ w *csv.Writer }

// NewTable begins a table with its columns' names.
func NewTable(w io.Writer, columns []string) *Table {
	t := &Table{csv.NewWriter(w)}
	t.Row(columns)
	return t
}

// Row writes one row. A cell that a spreadsheet would take for a formula gets an
// apostrophe before it, which shows that it is text.
func (t *Table) Row(cells []string) {
	for i, c := range cells {
		if formula(c) {
			cells = append([]string(nil), cells...)
			cells[i] = "'" + c
		}
	}
	_ = t.w.Write(cells) // Flush has its error
}

// Flush hands on what was written, and tells the first error.
func (t *Table) Flush() error {
	t.w.Flush()
	return t.w.Error()
}

// formula reports whether a spreadsheet may compute the cell: it begins, after
// spaces and quotes that are stripped on import, with a sign of a formula. Numbers
// of days that are past (−3) are numbers.
func formula(c string) bool {
	c = strings.TrimLeft(c, " \"\u00a0\ufeff")
	if c == "" {
		return false
	}
	switch c[0] {
	case '-':
		return strings.Trim(c[1:], "0123456789") != ""
	case '=', '+', '@', '\t', '\r', '\n', '|', '%':
		return true
	}
	// Spreadsheets of East Asia take the wide forms as well.
	return strings.HasPrefix(c, "＝") || strings.HasPrefix(c, "＋") || strings.HasPrefix(c, "－") || strings.HasPrefix(c, "＠")
}

// Cell puts words into one cell.
func Cell[S ~string](all []S) string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}
