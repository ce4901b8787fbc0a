package ledger

import (
	"time"

	"datafordeler/broker"
)

// Report is what a verifier found, up to the first fault.
type Report struct {
	// What was read: entries of both types, their lines, and what these say.
	Entries, Batches, Controls   int64
	Lines, Decisions, Permits    int64
	Records, OutOfScope          int64
	Repeated, Rejected           int64
	ControlEvents, ControlLosers int64
	Revision                     broker.Revision
	From, To                     time.Time // of the batches
	Ranges                       []Range
	// Overlaps and Skips are what was labelled so, to be asked about.
	Overlaps, Skips []Label

	// Checkpoints that were read and fit.
	Checkpoints int64
	// Last is the newest checkpoint, and Cosigners who cosigned it.
	Last      Checkpoint
	Cosigners []string
	// Counted is the newest checkpoint with as many cosignatures as are needed.
	// Everything under it is what the verification says.
	Counted          Checkpoint
	CountedCosigners []string
	// Awaiting are newer checkpoints with too few cosignatures, and Uncovered
	// the entries that are under no checkpoint that counts.
	Awaiting, Uncovered int64

	// Fault is the first fault; nil when there is none.
	Fault *Fault
}

// Label is a batch entry that is labelled as overlapping or skipping.
type Label struct {
	Where
	Entry  int64
	First  int64 // the batch's
	Amount int64 // offsets decided before, or passed over
}
