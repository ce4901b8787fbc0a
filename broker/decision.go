package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Reason is a stable code of why something was denied. The policy defines them
// with messages and remedies; the broker adds those below.
type Reason string

// Reasons that the broker gives itself, when policy could not answer or the
// answer could not be carried out. They precede the policy's own.
const (
	ReasonPolicyError    Reason = "policy_error"    // evaluation failed or gave nothing
	ReasonNotMinimisable Reason = "not_minimisable" // the payload could not be reduced
	ReasonTooLarge       Reason = "delivery_too_large"
)

// Outcome is policy's answer. It is shared between decisions: read-only.
type Outcome struct {
	Permit bool
	// Reasons for denial, all of them, in the policy's order of precedence.
	Reasons []Reason
	// Bases that carry the permit, or that the denial cites.
	Bases []LegalBasisID
}

// Facts are all that policy sees of a record and its time, beside Terms.
type Facts struct {
	// Time is the transaction's one reading of the clock.
	Time time.Time
	Kind RecordKind
	// Attributes in the order of Dataset.Attributes.
	Attributes []string
	// Cases and Consents of this record's subject for this subscription.
	Cases    []Interval
	Consents []Consent
	// Usage of the agreement in this partition; only read when it has a ceiling.
	Usage Usage
}

// Usage is how much of an agreement's ceiling a partition holds a lease on,
// and how much of that it has delivered.
type Usage struct {
	Granted   int64
	Delivered int64
}

// DecisionKind tells the stream's decisions, one per record and subscription
// in scope, from others.
type DecisionKind uint8

// The kinds of decision.
const (
	StreamDecision DecisionKind = iota + 1
	BackfillDecision
	LookupDecision
	DoorDecision
)

// String is the word in outputs.
func (k DecisionKind) String() string {
	switch k {
	case StreamDecision:
		return "stream"
	case BackfillDecision:
		return "backfill"
	case LookupDecision:
		return "lookup"
	case DoorDecision:
		return "door"
	}
	return "unknown"
}

// DecisionID and DeliveryID name decisions and deliveries.
type (
	DecisionID = Digest
	DeliveryID = Digest
)

// NewDecisionID is hash(kind, topic id, partition, offset, subscription).
func NewDecisionID(kind DecisionKind, topicID [16]byte, partition int32, offset int64, sub SubscriptionID) DecisionID {
	var a [160]byte
	b := append(a[:0], byte(kind))
	b = append(b, topicID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = append(b, sub...)
	sum := sha256.Sum256(b)
	return Digest(sum[:16])
}

// NewDeliveryID is hash(dataset, source, event id, subscription); the first
// three by their keyed hash, so that a consumer cannot guess at the event's id.
// It does not depend on the offset: a repeat has the same one.
func NewDeliveryID(event EventHash, sub SubscriptionID) DeliveryID {
	var a [160]byte
	b := append(a[:0], event[:]...)
	b = append(b, sub...)
	sum := sha256.Sum256(b)
	return Digest(sum[:16])
}

// Decision is a beslutning: what was answered for one record and one
// subscription, with all that is needed to say why.
type Decision struct {
	ID           DecisionID
	Kind         DecisionKind
	Position     Position
	Event        EventHash
	Subject      Pseudonym
	Subscription SubscriptionID
	Agreement    AgreementID
	Outcome      Outcome
	Package      PackageRef
	Fields       []Pointer // what was delivered; none when denied
	Shielded     bool
	Delivery     DeliveryID // zero when denied
	PolicyDigest string
	Revision     Revision
	Time         time.Time
	Period       string // of the pseudonym's key
	RecordKind   RecordKind
}
