package store

import (
	"time"

	"datafordeler/broker"
)

// Batch is one record of the decisions topic.
type Batch struct {
	LogPartition int32
	// LogOffset is where the record lies in its partition of the decisions topic.
	LogOffset int64
	// LogFrom is the first offset that the reader answers for with this batch:
	// the one after the batch that it read before, or where it began to read.
	// What lies in [LogFrom, LogOffset) was read and held no decisions: markers
	// of transactions, and records of aborted ones. With it a gap in what was
	// read is told from these.
	LogFrom   int64
	Head      Head
	Decisions []broker.Decision // in the order of the log; the decisions on one record stand together
}

// Head is what a batch covers and under what. Single decisions, of the other kinds
// than the stream's, lie scattered: their batch covers no range, has no Dataset and
// none of the counts but Decisions and Permits. TopicID and Partition say then whose
// lease its permits count against, and may be zero.
type Head struct {
	Kind      broker.DecisionKind
	Dataset   broker.DatasetID
	TopicID   [16]byte
	Partition int32
	// First and Last are the range of source offsets covered, both included;
	// Last is First-1 when it is empty.
	First, Last int64
	Time        time.Time // the transaction's one reading of the clock
	Revision    broker.Revision
	Policy      string
	Period      string // of the pseudonyms' key
	// Records are those read in the range; the rest of what is not counted below
	// was in some scope.
	Records, OutOfScope, Repeated, Rejected int64
	// Decisions and Permits are what a head of single decisions counts; they must be
	// those of the batch.
	Decisions, Permits int64
}

// Parties are who an agreement is between. Supplier may be empty.
type Parties struct {
	Consumer, Provider, Supplier broker.OrgNumber
}

// PartiesOf says who an agreement was between at a revision of control. It must
// give the same answer whenever it is asked, or a rebuild would not give the
// same content. False: it is not known, and nothing is applied.
type PartiesOf func(broker.AgreementID, broker.Revision) (Parties, bool)

// LogPlace is where a decision lies in the decisions topic. Index counts the
// decisions of that record of the topic, from 0.
type LogPlace struct {
	Partition int32
	Offset    int64
	Index     int
}
