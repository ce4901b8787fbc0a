package providers

import (
	"errors"
	"fmt"
	"strings"

	"datafordeler/broker"
)

// Why events failed. Use errors.Is.
var (
	// ErrUnknownDataset: the cluster has no source topic for the dataset, or
	// this client may not see it.
	ErrUnknownDataset = errors.New("unknown dataset")
	// ErrSchema: the payload is not what the schema admits.
	ErrSchema = errors.New("schema violation")
	// ErrTooLarge: the event fits in no batch.
	ErrTooLarge = errors.New("event too large")
	// ErrNotSent: an earlier event of the same call and partition failed, so
	// this one was held back to keep the order.
	ErrNotSent = errors.New("held back behind an event that failed")
	// ErrInvalid: an attribute or the payload is not well-formed.
	ErrInvalid = errors.New("event is not well-formed")
	// ErrRejected: the broker did not take the event; see RejectedError. Only over
	// HTTP it is known at once.
	ErrRejected = errors.New("rejected")
	// ErrDenied: the token does not count, or not for this dataset.
	ErrDenied = errors.New("denied")
	// ErrClosed: the publisher was closed.
	ErrClosed = errors.New("publisher is closed")
)

// RejectedError is why the broker did not take an event.
type RejectedError struct{ broker.Rejection }

// Error is the reason, the place, and what is wrong there.
func (e *RejectedError) Error() string { return "rejected: " + e.Rejection.Error() }

// Is makes it an ErrRejected.
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// Permanent tells whether an event failed for what it is: publishing it again as it
// is will fail again. Everything else may pass, or be mended where nothing of the
// event has to change.
func Permanent(err error) bool {
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrSchema) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrRejected)
}

// Failure is one event that Publish could not vouch for.
type Failure struct {
	// Index is the event's place in the call, from 0.
	Index int
	// Line is where ReadNDJSON found the event, from 1; 0 for other events.
	Line int
	// ID is the event's id, for programs; a provider's own ids may hold what
	// does not belong in a log.
	ID string
	// Maybe: the event may have been written all the same.
	Maybe bool
	Err   error
}

// Error says which events of a call failed. Events that it does not name are
// durable, unless Refused is set: then nothing was sent. Publishing all of the
// call's events again, in the same order, is always right.
type Error struct {
	Refused  bool
	Failures []Failure
	Total    int // events in the call
}

// Error tells the number, the first places and each cause once. It holds no id
// and no value.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d events failed", len(e.Failures), e.Total)
	if e.Refused {
		b.WriteString("; nothing was sent")
	}
	seen := map[string]bool{}
	for _, f := range e.Failures {
		text := f.Err.Error()
		if seen[text] {
			continue
		}
		seen[text] = true
		if len(seen) > 5 {
			b.WriteString("; …")
			break
		}
		if f.Line > 0 {
			fmt.Fprintf(&b, "; line %d: %s", f.Line, text)
		} else {
			fmt.Fprintf(&b, "; event %d: %s", f.Index, text)
		}
		if f.Maybe {
			b.WriteString(" (it may have been written: publish it again)")
		}
	}
	return b.String()
}

// Unwrap gives the causes to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	causes := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		causes[i] = f.Err
	}
	return causes
}
