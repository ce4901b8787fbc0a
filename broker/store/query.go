package store

import (
	"fmt"
	"math"
	"slices"
	"time"

	"datafordeler/broker"
)

// Verdict is a filter on the outcome.
type Verdict uint8

// The verdicts that can be asked for.
const (
	AnyVerdict Verdict = iota
	Permits
	Denials
)

// Yes is a filter on something that is so or not.
type Yes uint8

// What can be asked for.
const (
	Either Yes = iota
	Only
	Without
)

// RecordPlace names a source record by where it lies.
type RecordPlace struct {
	Dataset   broker.DatasetID
	Partition int32
	Offset    int64
}

// Limits of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// maxSubjects bounds the pseudonyms of a query: a period is a month or more.
const maxSubjects = 1200

// Query says which decisions are wanted. A filter that is left empty allows
// everything; all that are given must hold.
type Query struct {
	Event    broker.EventHash
	Record   *RecordPlace
	Decision broker.DecisionID
	Delivery broker.DeliveryID
	// Request is a lookup's: all that was answered to it.
	Request      broker.Digest
	Subscription broker.SubscriptionID
	Agreement    broker.AgreementID
	Consumer     broker.OrgNumber
	Provider     broker.OrgNumber
	Supplier     broker.OrgNumber
	// Party is an organisation that must be provider, consumer or supplier.
	Party   broker.OrgNumber
	Dataset broker.DatasetID
	Basis   broker.LegalBasisID // any of those that the outcome names
	Verdict Verdict
	Reason  broker.Reason // any of a denial's reasons
	// From and To bound the time of the decision: From ≤ time < To. Zero: open.
	From, To time.Time
	Kind     broker.DecisionKind // 0: any
	Period   string              // of the pseudonym's key
	// Subjects are pseudonyms of one subject, one for each period. Nil: any
	// subject. Empty but not nil: none, so nothing is found: all the keys may
	// have been destroyed.
	Subjects []broker.Pseudonym
	Package  string
	Version  int // of the package; 0: any
	Shielded Yes

	// Ascending gives the oldest first; otherwise the newest.
	Ascending bool
	// Limit is the most decisions on a page; 0 is DefaultLimit, the most MaxLimit.
	Limit int
	// Cursor is Page.Next of the page before, of the same query in all else.
	Cursor string
}

// Hit is a decision that was found.
type Hit struct {
	Decision broker.Decision
	Parties  Parties
	Place    LogPlace
}

// Page is a part of what was found, in the order of time, then of the place in
// the log. That order follows from the log alone: it is the same on both
// databases and after a rebuild, and what is applied between two pages neither
// moves nor repeats what was there.
type Page struct {
	Hits []Hit
	// Next is the cursor to what follows; empty when there was no more.
	Next string
}

// bounds are two times in nanoseconds; zero ones are open.
func bounds(from, to time.Time) (int64, int64) {
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	if !from.IsZero() {
		low = nanos(from)
	}
	if !to.IsZero() {
		high = nanos(to)
	}
	return low, high
}

// nanos is a time in nanoseconds, held to those that decisions have.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(earliest):
		return earliest.UnixNano()
	case t.After(latest):
		return latest.UnixNano() + 1
	}
	return t.UnixNano()
}

// check says what is wrong with a query, and sets its limit.
func (q *Query) check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrQuery}, args...)...)
	}
	switch {
	case q.Limit < 0 || q.Limit > MaxLimit:
		return wrong("limit %d: want 1 to %d, or 0 for %d", q.Limit, MaxLimit, DefaultLimit)
	case q.Verdict > Denials:
		return wrong("verdict %d is not known", q.Verdict)
	case q.Shielded > Without:
		return wrong("shielded %d is not known", q.Shielded)
	case q.Kind > broker.LastDecision:
		return wrong("kind %d is not known", q.Kind)
	case q.Version < 0 || q.Version > 0 && q.Package == "":
		return wrong("version %d: name the package whose version it is", q.Version)
	case q.Record != nil && (q.Record.Dataset == "" || q.Record.Partition < 0 || q.Record.Offset < 0):
		return wrong("a record is named by dataset, partition and offset")
	case !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From):
		return wrong("the time ends before it begins")
	case slices.Contains(q.Subjects, broker.Pseudonym{}):
		return wrong("a subject's pseudonym is not zero")
	case len(q.Subjects) > maxSubjects:
		return wrong("%d pseudonyms; at most %d", len(q.Subjects), maxSubjects)
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	return nil
}
