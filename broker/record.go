package broker

import "time"

// RecordKind tells an original from what changes it.
type RecordKind uint8

// The kinds of record.
const (
	Original RecordKind = iota
	Correction
	Retraction
)

// String is the word that policy, headers and logs use.
func (k RecordKind) String() string {
	switch k {
	case Original:
		return "original"
	case Correction:
		return "correction"
	case Retraction:
		return "retraction"
	}
	return "unknown"
}

// Nowhere is the offset of what does not lie in the log: a record that stays with
// its provider, or one that a lookup did not find.
const Nowhere = -1

// Position is where a record lies in the log.
type Position struct {
	Dataset   DatasetID
	TopicID   [16]byte // Kafka's topic id (KIP-516): a recreated topic has another
	Partition int32
	Offset    int64
}

// Record is an oppføring: one CloudEvent that intake accepted.
type Record struct {
	Position
	Event EventHash // keyed hash of (dataset, source, id)
	// Source, Type and Time are CloudEvents attributes; the id itself goes no
	// further than intake.
	Source string
	Type   string
	Time   time.Time
	Schema string // the version that it was held to
	Kind   RecordKind
	// Of is the hash of the event that it corrects or retracts.
	Of EventHash
	// Provisional: the provider says that it may still change.
	Provisional bool
	Subject     SubjectKey
	HasSubject  bool
	// Attributes, in the order of Dataset.Attributes.
	Attributes  []string
	Traceparent string // W3C Trace Context of the origin
	// Content tells two contents under one event id apart. It is a hash under a
	// seed of this process: compare it, never keep it.
	Content uint64
	Data    []byte // the payload, JSON, as published
}

// EventHash is the keyed hash of an event's dataset, source and id: providers
// may put a person's number in an id, so the id stays out of everything kept.
type EventHash = Digest

// RejectionCode is a machine-readable reason why intake refused a record.
type RejectionCode string

// What intake refuses. Stable codes: providers program against them.
const (
	RejectTooLarge       RejectionCode = "too_large"
	RejectNotCloudEvent  RejectionCode = "not_cloudevent"
	RejectContentType    RejectionCode = "content_type"
	RejectMalformedJSON  RejectionCode = "malformed_json"
	RejectDuplicateName  RejectionCode = "duplicate_name"
	RejectTooDeep        RejectionCode = "too_deep"
	RejectUnknownSchema  RejectionCode = "unknown_schema"
	RejectSchema         RejectionCode = "schema_violation"
	RejectNoSubject      RejectionCode = "no_subject"
	RejectManySubjects   RejectionCode = "several_subjects"
	RejectAttribute      RejectionCode = "attribute"
	RejectIDReused       RejectionCode = "id_reused"
	RejectUnknownDataset RejectionCode = "unknown_dataset"
)

// Rejection is what a provider reads about a record that was not accepted.
type Rejection struct {
	Code RejectionCode `json:"reason"`
	// Detail is for a person to read. It never holds a value from the record.
	Detail string `json:"detail"`
	// Pointer is where in the payload, where that is known.
	Pointer string `json:"pointer,omitempty"`
}

// Error makes a rejection an error.
func (r *Rejection) Error() string {
	if r.Pointer != "" {
		return string(r.Code) + " at " + r.Pointer + ": " + r.Detail
	}
	return string(r.Code) + ": " + r.Detail
}
