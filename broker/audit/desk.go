package audit

import (
	"context"
	"errors"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// Store is the read model.
type Store interface {
	Search(context.Context, store.Query) (store.Page, error)
	Coverage(ctx context.Context, dataset broker.DatasetID, from, to time.Time) ([]store.PartitionCoverage, error)
	Kinds(ctx context.Context, dataset broker.DatasetID, from, to time.Time) ([]store.KindCoverage, error)
	Delivered(ctx context.Context, from, to time.Time, agreements ...broker.AgreementID) ([]store.Delivered, error)
}

// Control is the registry: as it is now, as it came to be, and one event more.
type Control interface {
	View(func(*registry.State))
	Log(ctx context.Context, fn func(offset int64, e registry.Event, accepted bool) error) error
	Append(ctx context.Context, plan func(*registry.State) ([]registry.Event, error)) (broker.Revision, error)
}

// Ledger proves decisions.
type Ledger interface {
	// Prove finds a decision in the ledger, with its proof where a head that counts
	// covers it. ErrNotYet: it is in no entry yet.
	Prove(ctx context.Context, h *store.Hit) (*Proven, error)
}

// Subjects hashes identifiers under the keys that this broker holds.
type Subjects interface {
	// Pseudonyms are a subject's in every month whose key stands; destroyed are the
	// months whose keys are gone. A *SubjectError: the identifier is none of its kind.
	Pseudonyms(kind broker.SubjectKind, id string, now time.Time) (all []broker.Pseudonym, destroyed []string, err error)
	// PseudonymsOf are the same of a subject that is known by its keyed hash.
	PseudonymsOf(subject broker.SubjectKey, now time.Time) (all []broker.Pseudonym, destroyed []string, err error)
}

// Desk is where questions are asked. Its methods may be called at the same time.
type Desk struct {
	Store    Store
	Control  Control
	Ledger   Ledger
	Subjects Subjects
	// Embedded is true on the embedded engine, which may decide twice after an
	// unclean stop; the ledger labels that.
	Embedded bool
	// Now is the clock; time.Now where it is nil.
	Now func() time.Time
}

func (d *Desk) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// QuestionError is a question that makes no sense as it stands: the asker's to mend.
type QuestionError struct {
	// Field is the filter that is at fault; "" where it is several.
	Field string
	Why   string
}

func (e *QuestionError) Error() string {
	if e.Field == "" {
		return e.Why
	}
	return e.Field + ": " + e.Why
}

// ErrNotYet is that a decision was made, and no entry of the ledger has it yet.
var ErrNotYet = errors.New("the decision is in no entry of the ledger yet; ask again after some seconds")

// ErrNotFound is that there is no such thing, or none that the asker may know of.
var ErrNotFound = errors.New("there is no such decision among those that you may see")
