package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with declarations: where, what, and what to do.
type Fault struct {
	File   string // "" for what is registered already
	Line   int
	What   string
	Remedy string
}

// String is "file:line: what: remedy" on one line.
func (f Fault) String() string {
	at := "registered"
	if f.File != "" {
		at = f.File
		if f.Line > 0 {
			at = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
	if f.Remedy == "" {
		return at + ": " + f.What
	}
	return at + ": " + f.What + ": " + f.Remedy
}

// Faults are all that is wrong, in order of file and line. Nothing was written.
type Faults []Fault

// Error lists them, one a line.
func (fs Faults) Error() string {
	var b strings.Builder
	for i, f := range fs {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// err sorts, and is nil where there are none.
func (fs Faults) err() error {
	if len(fs) == 0 {
		return nil
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(fs)
}
