package store

import (
	"datafordeler/broker"
	"time"
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

// Query says which decisions are wanted. A filter that is left empty allows
// everything; all that are given must hold.
type Query struct {
	Event        broker.EventHash
	Record       *RecordPlace
	Decision     broker.DecisionID
	Delivery     broker.DeliveryID
	Subscription broker.SubscriptionID
	Agreement    broker.AgreementID
	Consumer     broker.OrgNumber
	Provider     broker.OrgNumber
	Supplier     broker.OrgNumber
	Dataset      broker.DatasetID
	Basis        broker.LegalBasisID // any of those that the outcome names
	Verdict      Verdict
	Reason       broker.Reason // any of a denial's reasons
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
