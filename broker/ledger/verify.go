package ledger

import (
	"context"
	"errors"
)

// Verifier checks a ledger from its start: every line, every entry, every
// checkpoint. The zero value but for Policy is ready.
type Verifier struct {
	// Policy says whom it trusts, and how many witnesses must have cosigned.
	Policy *Policy
	// Known are signed checkpoints of this log that the verifier saw before, or
	// that another one showed: the log must still be the one that they are of.
	Known [][]byte
	// Workers hash and read lines side by side; 0 is one for each core.
	Workers int
	// Progress, if set, is called now and then with how many entries and
	// decisions were read, from one goroutine.
	Progress func(entries, decisions int64)
}

// Run reads the source to its end or to the first fault, which is the error, a
// *Fault, and stands in the report. Any other error is one of reading.
func (v *Verifier) Run(ctx context.Context, src Source) (*Report, error) {
	return nil, errors.New("under way")
}
