package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// Identifier is what a person, an organisation or a property is known by. It never
// prints: read it with Text, to hash it at once.
type Identifier struct{ text string }

// NewIdentifier wraps an identifier.
func NewIdentifier(text string) Identifier { return Identifier{text} }

// Text is the identifier itself.
func (i Identifier) Text() string { return i.text }

// String hides it from logs and errors.
func (i Identifier) String() string { return "(an identifier)" }

// GoString hides it from %#v.
func (i Identifier) GoString() string { return "audit.Identifier(hidden)" }

// SubjectError is that an identifier is none of its kind. It does not repeat it.
type SubjectError struct{ Why string }

func (e *SubjectError) Error() string { return e.Why }

// SubjectQuestion asks what was decided on one subject.
type SubjectQuestion struct {
	Kind broker.SubjectKind
	ID   Identifier
	// Actor asks, for Reason: both stand in the registry's log afterwards.
	Actor, Reason string
	From, To      time.Time
	Oldest        bool
	Limit         int
	Cursor        string
}

// SubjectAnswer is a page of what was decided on a subject.
type SubjectAnswer struct {
	Page store.Page
	// Periods are the months that were searched; Destroyed those that cannot be any
	// more, since the keys of their pseudonyms were destroyed.
	Periods   int
	Destroyed []string
	// Revision is that of the event that says that somebody asked.
	Revision broker.Revision
}

// Subject finds what was decided on one subject. That it was asked is in the
// registry's log before there is an answer, for each page: a page is an answer too.
// *SubjectError and *QuestionError are the asker's to mend.
//
// A cursor holds for the same subject, months and other filters: it is bound to the
// pseudonyms, and of no use without the identifier.
func (d *Desk) Subject(ctx context.Context, q SubjectQuestion) (*SubjectAnswer, error) {
	reason := strings.TrimSpace(q.Reason)
	switch {
	case q.Kind != broker.Person && q.Kind != broker.OrganisationSubject && q.Kind != broker.PropertySubject:
		return nil, &QuestionError{"kind", "want person, organisation or property"}
	case q.Actor == "":
		return nil, &QuestionError{"actor", "is missing: who asks? It stands in the registry's log"}
	case reason == "":
		return nil, &QuestionError{"reason", "is missing: why is this subject looked up? It stands in the registry's log"}
	case ElevenDigits(reason):
		return nil, &QuestionError{"reason", "has eleven digits in a row, which may be a person's number: it would stand in the registry's log"}
	case q.Limit < 1 || q.Limit > store.MaxLimit:
		return nil, &QuestionError{"limit", fmt.Sprintf("want 1 to %d; what follows comes with the cursor", store.MaxLimit)}
	}
	a := &SubjectAnswer{}
	want := store.Query{From: q.From, To: q.To, Ascending: q.Oldest, Limit: q.Limit, Cursor: q.Cursor}
	var err error
	if want.Subjects, a.Destroyed, err = d.Subjects.Pseudonyms(q.Kind, q.ID.Text(), d.now()); err != nil {
		return nil, err
	}
	a.Periods = len(want.Subjects)
	if a.Page, err = d.search(ctx, Everything(), want); err != nil {
		return nil, err
	}
	// First it is in the log that somebody asked; only then they have the answer.
	lookup := registry.SubjectLookup{Reason: reason, Periods: a.Periods, Found: int64(len(a.Page.Hits))}
	a.Revision, err = d.Control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		events, err := st.Link(d.now(), q.Actor, registry.LookUpSubject(lookup))
		if err != nil {
			return nil, &QuestionError{"", err.Error()}
		}
		var refused *registry.RefusedError
		if err := st.Check(events[0]); errors.As(err, &refused) {
			return nil, &QuestionError{"", err.Error()}
		}
		return events, nil
	})
	if err != nil {
		if asked, ok := errors.AsType[*QuestionError](err); ok {
			return nil, asked
		}
		return nil, fmt.Errorf("the lookup could not be logged, so nothing is shown: %w", err)
	}
	return a, nil
}
