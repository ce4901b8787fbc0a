package ledger

import (
	"time"

	"datafordeler/broker"
)

// Report is what a verifier found, up to the first fault.
type Report struct {
	// What was read and fits: entries of all types and their lines.
	Entries, Batches, Singles, Controls, Lines int64
	// What the batches say, added up. Records is everything read from the
	// sources; what is neither out of scope, repeated nor rejected was decided on.
	Records, OutOfScope, Repeated, Rejected int64
	// Decisions and Permits are of all kinds, and Kinds the same by kind.
	Decisions, Permits int64
	Kinds              [broker.LastDecision + 1]KindCount // by broker.DecisionKind
	// ControlEvents were accepted; ControlLosers had lost to another writer;
	// ControlRefused the registry refused for what they say.
	ControlEvents, ControlLosers, ControlRefused int64
	Revision                                     broker.Revision
	From, To                                     time.Time // of the decisions; zero when there are none
	// Ranges are the source partitions, and how far they are accounted for.
	Ranges []Range
	// Overlaps and Skips are entries labelled so: no fault, and to be asked about.
	// They count all, and list the first hundred.
	Overlaps, Skips           []Label
	OverlapCount, SkipCount   int64
	OverlapTotal, SkippedSize int64 // source offsets

	// Checkpoints were read and fit.
	Checkpoints int64
	// Last is the newest of them, and Cosigners who cosigned it.
	Last      Checkpoint
	Cosigners []Cosignature
	// Counted is the newest with as many cosignatures as are needed: what is
	// under it is proved.
	Counted          Checkpoint
	CountedCosigners []Cosignature
	// Awaiting are newer checkpoints with too few cosignatures, and Uncovered
	// the entries that are under no checkpoint that counts.
	Awaiting, Uncovered int64

	// State is what to go on from another time; nil unless all that was read fits and
	// is under a checkpoint that counts.
	State *State

	// Fault is the first fault; nil when there is none.
	Fault *Fault

	counted bool
}

// KindCount is how many decisions of one kind there are, and how many of them are
// permits.
type KindCount struct{ Decisions, Permits int64 }

// Label is a batch entry that is labelled as overlapping or skipping.
type Label struct {
	Where
	Entry  int64
	First  int64 // the batch's
	Amount int64 // offsets decided before, or passed over
}

const maxLabels = 100

func (r *Report) count(e *Entry, n int64) {
	r.Entries++
	r.Lines += e.Lines
	if e.Type == ControlEntry {
		r.Controls++
		r.ControlEvents += e.Control.Events
		r.ControlRefused += int64(len(e.Control.Refused))
		r.ControlLosers += e.Lines - e.Control.Events - int64(len(e.Control.Refused))
		return
	}
	b := &e.Batch
	if e.Type == SinglesEntry {
		r.Singles++
	} else {
		r.Batches++
	}
	k := &r.Kinds[broker.ParseDecisionKind(b.Kind)]
	k.Decisions += b.Decisions
	k.Permits += b.Permits
	r.Records += b.Records
	r.OutOfScope += b.OutOfScope
	r.Repeated += b.Repeated
	r.Rejected += b.Rejected
	r.Decisions += b.Decisions
	r.Permits += b.Permits
	if r.From.IsZero() || b.Time.Before(r.From) {
		r.From = b.Time
	}
	if b.Time.After(r.To) {
		r.To = b.Time
	}
	where := Where{b.Dataset, b.TopicID, b.Partition}
	if b.Overlap > 0 {
		r.OverlapCount++
		r.OverlapTotal += b.Overlap
		if len(r.Overlaps) < maxLabels {
			r.Overlaps = append(r.Overlaps, Label{where, n, b.First, b.Overlap})
		}
	}
	if b.Skipped > 0 {
		r.SkipCount++
		r.SkippedSize += b.Skipped
		if len(r.Skips) < maxLabels {
			r.Skips = append(r.Skips, Label{where, n, b.First, b.Skipped})
		}
	}
}

// sign notes a checkpoint that fits.
func (r *Report) sign(s *signed, need int) {
	r.Checkpoints++
	r.Last, r.Cosigners = s.Checkpoint, s.cosigners
	if len(s.cosigners) >= need {
		r.Counted, r.CountedCosigners, r.counted, r.Awaiting = s.Checkpoint, s.cosigners, true, 0
	} else {
		r.Awaiting++
	}
}
