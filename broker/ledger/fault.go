package ledger

import (
	"errors"
	"fmt"
	"strings"
)

// FaultName says what kind of thing is wrong with a ledger. The set is closed:
// programs act on it.
type FaultName string

// All faults. docs/formats.md lists them for readers.
const (
	// RowChanged: a line is not the one that its entry stands for, or it does
	// not fit its entry or head.
	RowChanged FaultName = "row_changed"
	// EntryChanged: an entry contradicts itself or its head.
	EntryChanged FaultName = "entry_changed"
	// BatchMissing: a checkpoint covers more entries than there are.
	BatchMissing FaultName = "batch_missing"
	// BatchOutOfOrder: an entry stands after one that it belongs before.
	BatchOutOfOrder FaultName = "batch_out_of_order"
	// Gap: source offsets that no entry accounts for.
	Gap FaultName = "gap"
	// Overlap: source offsets decided twice, and not labelled so.
	Overlap FaultName = "overlap"
	// UnknownRevision: a batch rests on control events that do not come before it.
	UnknownRevision FaultName = "unknown_revision"
	// ControlBroken: control events do not follow from each other, or make
	// another revision than their entry says.
	ControlBroken FaultName = "control_broken"
	// CheckpointRolledBack: a checkpoint is smaller than one before it, or the
	// ledger than one that the verifier knows.
	CheckpointRolledBack FaultName = "checkpoint_rolled_back"
	// CheckpointForked: two signed checkpoints cannot be of one log.
	CheckpointForked FaultName = "checkpoint_forked"
	// WrongRoot: a checkpoint or proof has another root than the entries give.
	WrongRoot FaultName = "wrong_root"
	// WrongKey: a checkpoint is not signed by the log that the verifier trusts.
	WrongKey FaultName = "wrong_key"
	// WrongOrigin: a checkpoint is of another log.
	WrongOrigin FaultName = "wrong_origin"
	// BadSignature: a signature or cosignature by a known key does not fit.
	BadSignature FaultName = "bad_signature"
	// TooFewWitnesses: no checkpoint has as many cosignatures as are needed.
	TooFewWitnesses FaultName = "too_few_witnesses"
	// NoCheckpoint: there are entries, and nothing signed.
	NoCheckpoint FaultName = "no_checkpoint"
	// UnknownFormat: something is not in a format that this program reads.
	UnknownFormat FaultName = "unknown_format"
	// Truncated: a file or stream ends in the middle of a line or of an entry's
	// lines.
	Truncated FaultName = "truncated"
	// FileChanged: a file of an archive cannot be unpacked, is missing, or is not
	// the one that the manifest lists.
	FileChanged FaultName = "file_changed"
)

// Fault is the first thing found wrong with a ledger, and where.
type Fault struct {
	Kind FaultName
	// Entry, Line and Checkpoint count from 0; −1 where it is not about one.
	Entry, Line, Checkpoint int64
	Err                     error
}

// Name is one of the closed set of names.
func (f *Fault) Name() FaultName { return f.Kind }

// Error says what, where and why.
func (f *Fault) Error() string {
	var at []string
	for _, p := range []struct {
		what string
		n    int64
	}{{"entry", f.Entry}, {"line", f.Line}, {"checkpoint", f.Checkpoint}} {
		if p.n >= 0 {
			at = append(at, fmt.Sprintf("%s %d", p.what, p.n))
		}
	}
	s := string(f.Kind)
	if len(at) > 0 {
		s += " at " + strings.Join(at, ", ")
	}
	return s + ": " + f.Err.Error()
}

// Unwrap gives the error below, one of Sequence's where the order is at fault.
func (f *Fault) Unwrap() error { return f.Err }

// named is an error that knows its name.
type named interface {
	error
	Name() FaultName
}

// NameOf is the name of the fault in err; "" when it is none of a ledger's, such
// as a file that could not be read.
func NameOf(err error) FaultName {
	if n, ok := errors.AsType[named](err); ok {
		return n.Name()
	}
	return ""
}

// fault makes one that is not about an entry, line or checkpoint; at adds where.
func fault(kind FaultName, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Entry: -1, Line: -1, Checkpoint: -1, Err: fmt.Errorf(format, args...)}
}

// NewFault makes a fault for what reads a ledger from somewhere, such as an archive.
func NewFault(kind FaultName, format string, args ...any) *Fault { return fault(kind, format, args...) }

func (f *Fault) at(entry, line int64) *Fault { f.Entry, f.Line = entry, line; return f }

// formatError is a line that is not in a format that this program reads.
type formatError struct{ what string }

func (e *formatError) Error() string   { return e.what }
func (e *formatError) Name() FaultName { return UnknownFormat }

// rowError is a line that is read, and says what it may not.
type rowError struct{ what string }

func (e *rowError) Error() string   { return e.what }
func (e *rowError) Name() FaultName { return RowChanged }
