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
	ReasonPolicyError    Reason = "policy_error"      // evaluation failed or gave nothing
	ReasonNotMinimisable Reason = "not_minimisable"   // the payload could not be reduced
	ReasonDerivation     Reason = "derivation_failed" // the record does not let an answer be worked out
	ReasonTooLarge       Reason = "delivery_too_large"
	// ReasonHousehold is of a subject that was asked about together with others, where
	// there is no answer because of another of them.
	ReasonHousehold Reason = "household_unanswered"
	// ReasonDeliveryUnknown is of notices: whether what is corrected or retracted was
	// delivered cannot be determined.
	ReasonDeliveryUnknown Reason = "delivery_unknown"
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
	// NoticeDecision is whether a subscription is told, without data, that what it was
	// delivered has been corrected or retracted, after the data itself was denied.
	NoticeDecision

	// LastDecision is the last of the kinds.
	LastDecision = NoticeDecision
)

// ParseDecisionKind undoes String; 0 for what is none.
func ParseDecisionKind(s string) DecisionKind {
	for k := StreamDecision; k <= LastDecision; k++ {
		if k.String() == s {
			return k
		}
	}
	return 0
}

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
	case NoticeDecision:
		return "notice"
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

// NewLookupID is hash(lookup, request, event, topic id, partition, offset,
// subscription): the same record asked for twice is two decisions.
func NewLookupID(request Digest, event EventHash, p *Position, sub SubscriptionID) DecisionID {
	var a [192]byte
	b := append(a[:0], byte(LookupDecision))
	b = append(b, request[:]...)
	b = append(b, event[:]...)
	b = append(b, p.TopicID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Offset))
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

// NewNoticeID is hash(notice, event, subscription): a notice's delivery. It is not that
// of NewDeliveryID, because the data may be delivered after all, when a case is opened
// again, and who takes the same id for a repeat would drop it.
func NewNoticeID(event EventHash, sub SubscriptionID) DeliveryID {
	var a [160]byte
	b := append(a[:0], byte(NoticeDecision))
	b = append(b, event[:]...)
	b = append(b, sub...)
	sum := sha256.Sum256(b)
	return Digest(sum[:16])
}

// DeliveryOf is the id of what a permit of a kind delivers.
func DeliveryOf(kind DecisionKind, event EventHash, sub SubscriptionID) DeliveryID {
	if kind == NoticeDecision {
		return NewNoticeID(event, sub)
	}
	return NewDeliveryID(event, sub)
}

// Decision is a beslutning: what was answered for one record and one
// subscription, with all that is needed to say why.
type Decision struct {
	ID   DecisionID
	Kind DecisionKind
	// Request is whose answer a lookup's decision is part of; zero for the others.
	Request Digest
	// Position of the record. A lookup may have none: its Offset is Nowhere then, and
	// of the rest only the dataset is set.
	Position Position
	// Event is zero where a lookup found nothing.
	Event        EventHash
	Subject      Pseudonym
	Subscription SubscriptionID
	Agreement    AgreementID
	Outcome      Outcome
	Package      PackageRef
	Fields       []Pointer // what was delivered; none when denied
	Shielded     bool
	Delivery     DeliveryID // zero when denied, and where a lookup found nothing
	PolicyDigest string
	Revision     Revision
	Time         time.Time
	Period       string // of the pseudonym's key
	RecordKind   RecordKind
}
