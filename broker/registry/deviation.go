package registry

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// Deviation (avvik) is a receiver's word that something it was delivered is wrong. It
// names the decision, by which its provider finds the record, and never what the record
// says, nor what it should say: this log is kept for ever.
type Deviation struct {
	ID           broker.Digest         `json:"id"` // DeviationID of what follows
	Decision     broker.DecisionID     `json:"decision"`
	Subscription broker.SubscriptionID `json:"subscription"`
	Kind         DeviationKind         `json:"kind"`
	// Fields are those that are wrong; none is the record as a whole.
	Fields []broker.Pointer `json:"fields,omitempty"`
	Note   string           `json:"note,omitempty"`
}

// DeviationKind is what is wrong. The set is closed.
type DeviationKind string

// The kinds.
const (
	WrongValue    DeviationKind = "wrong-value"
	MissingValue  DeviationKind = "missing-value"
	OutdatedValue DeviationKind = "outdated"
	WrongSubject  DeviationKind = "wrong-subject" // it is about somebody else
	Unexpected    DeviationKind = "unexpected"    // more, or another period, than what was agreed
)

// DeviationKinds are all of them.
var DeviationKinds = []DeviationKind{WrongValue, MissingValue, OutdatedValue, WrongSubject, Unexpected}

// DeviationStatus is how far a deviation has come. The set is closed.
type DeviationStatus string

// The statuses. The first is the receiver's, and so is withdrawn; the rest are the
// provider's.
const (
	DeviationReported  DeviationStatus = "reported"
	DeviationReceived  DeviationStatus = "received"  // it is being looked into
	DeviationConfirmed DeviationStatus = "confirmed" // it is wrong, and will be corrected
	DeviationCorrected DeviationStatus = "corrected" // a correction or retraction is published
	DeviationRefused   DeviationStatus = "refused"   // it is right as it stands
	DeviationWithdrawn DeviationStatus = "withdrawn" // the receiver takes it back
)

// DeviationStatuses are all of them.
var DeviationStatuses = []DeviationStatus{DeviationReported, DeviationReceived, DeviationConfirmed, DeviationCorrected, DeviationRefused, DeviationWithdrawn}

// Open reports whether somebody still has something to do.
func (s DeviationStatus) Open() bool {
	return s == DeviationReported || s == DeviationReceived || s == DeviationConfirmed
}

// follows reports whether a status may come after another.
func (s DeviationStatus) follows(old DeviationStatus) bool {
	switch s {
	case DeviationReceived:
		return old == DeviationReported
	case DeviationConfirmed, DeviationRefused:
		return old == DeviationReported || old == DeviationReceived
	case DeviationCorrected, DeviationWithdrawn:
		return old.Open()
	}
	return false
}

// DeviationAnswer takes a deviation further.
type DeviationAnswer struct {
	ID     broker.Digest   `json:"id"`
	Status DeviationStatus `json:"status"`
	Note   string          `json:"note,omitempty"`
}

// DeviationState is a deviation as it stands now.
type DeviationState struct {
	Deviation
	Status DeviationStatus `json:"status"`
	// Since and Actor are of the last report: what was closed may be reported again.
	Since time.Time `json:"since"`
	Actor string    `json:"actor"`
	// Answer is the last thing that was said of it since; Answered is zero before any.
	Answer   string          `json:"answer,omitempty"`
	Answered time.Time       `json:"answered,omitzero"`
	Revision broker.Revision `json:"revision"` // the last change
}

// NewDeviation makes a deviation, and its id: the same thing wrong with the same
// delivery is one deviation, however often it is reported.
func NewDeviation(decision broker.DecisionID, sub broker.SubscriptionID, kind DeviationKind, fields []broker.Pointer, note string) Deviation {
	fields = slices.Compact(slices.Sorted(slices.Values(fields)))
	return Deviation{deviationID(decision, sub, kind, fields), decision, sub, kind, fields, note}
}

func deviationID(decision broker.DecisionID, sub broker.SubscriptionID, kind DeviationKind, fields []broker.Pointer) broker.Digest {
	h := sha256.New()
	fmt.Fprintf(h, "deviation\x00%s\x00%s\x00%s", decision, sub, kind)
	for _, f := range fields {
		fmt.Fprintf(h, "\x00%s", f)
	}
	return broker.Digest(h.Sum(nil)[:16])
}

// ReportDeviation says that a delivery is wrong.
func ReportDeviation(d Deviation) Change { return change(DeviationReport, d) }

// AnswerDeviation takes a deviation further.
func AnswerDeviation(a DeviationAnswer) Change { return change(DeviationAnswered, a) }

const (
	maxDeviationNote   = 500 // bytes
	maxDeviationFields = 50
)

// CheckDeviationNote says what a note may not be: it stands in the log for ever.
func CheckDeviationNote(note string) error {
	switch {
	case len(note) > maxDeviationNote:
		return fmt.Errorf("the note is longer than %d bytes", maxDeviationNote)
	case elevenDigits(note):
		return fmt.Errorf("the note holds eleven digits in a row: it could be a person's number, and the note stands in the log for ever")
	}
	return nil
}

func (s *State) refuseDeviation(v *Deviation) string {
	switch old, known := s.deviations[v.ID]; {
	case v.Decision.IsZero():
		return "a deviation names the decision by which the data was delivered"
	case s.subscriptions[v.Subscription] == nil:
		return unknown("subscription", v.Subscription)
	case !slices.Contains(DeviationKinds, v.Kind):
		return fmt.Sprintf("there is no deviation of the kind %q", string(v.Kind))
	case len(v.Fields) > maxDeviationFields:
		return fmt.Sprintf("a deviation names %d fields at the most: leave them out where the whole record is wrong", maxDeviationFields)
	case !slices.IsSorted(v.Fields) || v.ID != deviationID(v.Decision, v.Subscription, v.Kind, v.Fields):
		return "a deviation's id is the hash of what it says"
	case known && old.Status.Open():
		return fmt.Sprintf("deviation %s is reported, and stands as %s", v.ID, old.Status)
	}
	for i, f := range v.Fields {
		if _, err := f.Tokens(); err != nil {
			return err.Error()
		}
		if i > 0 && v.Fields[i-1] == f {
			return fmt.Sprintf("field %s stands twice", f)
		}
		if elevenDigits(string(f)) {
			return "a field holds eleven digits in a row: it could be a person's number"
		}
	}
	if err := CheckDeviationNote(v.Note); err != nil {
		return err.Error()
	}
	return ""
}

func (s *State) refuseDeviationAnswer(v *DeviationAnswer) string {
	old, known := s.deviations[v.ID]
	switch {
	case !known:
		return fmt.Sprintf("no deviation %s is reported", v.ID)
	case !v.Status.follows(old.Status):
		return fmt.Sprintf("deviation %s stands as %s, and cannot become %q", v.ID, old.Status, string(v.Status))
	}
	if err := CheckDeviationNote(v.Note); err != nil {
		return err.Error()
	}
	return ""
}

func (s *State) applyDeviation(p payload, e *Event) {
	switch v := p.(type) {
	case *Deviation:
		s.deviations[v.ID] = DeviationState{Deviation: *v, Status: DeviationReported, Since: e.At, Actor: e.Actor, Revision: e.Seq}
	case *DeviationAnswer:
		d := s.deviations[v.ID]
		d.Status, d.Answer, d.Answered, d.Revision = v.Status, v.Note, e.At, e.Seq
		s.deviations[v.ID] = d
	default:
		panic(fmt.Sprintf("registry: %T is nothing of a deviation", p))
	}
}

// Deviation finds a deviation by its id.
func (s *State) Deviation(id broker.Digest) (DeviationState, bool) {
	d, ok := s.deviations[id]
	return d, ok
}

// Deviations are all that were ever reported, the last changed first.
func (s *State) Deviations() []DeviationState {
	return slices.SortedFunc(maps.Values(s.deviations), func(a, b DeviationState) int {
		return cmp.Or(cmp.Compare(b.Revision, a.Revision), bytes.Compare(a.ID[:], b.ID[:]))
	})
}
