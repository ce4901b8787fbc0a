package store

import (
	"context"
	"errors"
	"time"

	"datafordeler/broker"
)

// What a caller can tell apart.
var (
	// ErrRebuild: the tables were made by an older version. They are not
	// converted: `datafordeler rebuild` makes them again from the log.
	ErrRebuild = errors.New("store: the read model has another format: run 'datafordeler rebuild'")
	// ErrNewer: a newer datafordeler made the tables.
	ErrNewer = errors.New("store: a newer datafordeler made the read model")
	// ErrGap: a batch was skipped. Read again from Position.
	ErrGap = errors.New("store: the log has a gap")
	// ErrParties: an agreement's parties are not known yet. Nothing was applied.
	ErrParties = errors.New("store: the parties of an agreement are not known")
	// ErrQuery: the question cannot be answered as it stands; the caller's fault.
	ErrQuery = errors.New("store: query")
)

var errTodo = errors.New("store: not yet")

// Store is a read model. Its methods may be called at the same time; Applies
// wait for each other, and readers never wait for them.
type Store struct{}

// Open opens the read model that dsn names, and makes its tables when there are
// none: "sqlite:/path/file.db", or a PostgreSQL URL, "postgres://…". Errors never
// repeat a password. ErrRebuild and ErrNewer: the tables are of another version.
func Open(ctx context.Context, dsn string) (*Store, error) { return nil, errTodo }

// Recreate opens the read model that dsn names with empty tables, whatever
// version of them was there: for `datafordeler rebuild`.
func Recreate(ctx context.Context, dsn string) (*Store, error) { return nil, errTodo }

// Close ends the connections.
func (s *Store) Close() error { return errTodo }

// Reset empties the read model.
func (s *Store) Reset(ctx context.Context) error { return errTodo }

// Apply writes the batches in one transaction, with how far the log was read. A
// batch that was applied before is skipped; one that begins after what was read
// is ErrGap. Batches of one partition of the log come in its order; those of
// different partitions as they like.
func (s *Store) Apply(ctx context.Context, batches []Batch, parties PartiesOf) error { return errTodo }

// Position is the next offset to read, by partition of the decisions topic. A
// partition that nothing was applied of is not in it.
func (s *Store) Position(ctx context.Context) (map[int32]int64, error) { return nil, errTodo }

// Search finds decisions. ErrQuery: the query or its cursor makes no sense.
func (s *Store) Search(ctx context.Context, q Query) (Page, error) { return Page{}, errTodo }

// Decision is one decision by its id, and whether there is one. Where an engine
// that can repeat itself decided twice under one id, it is the first.
func (s *Store) Decision(ctx context.Context, id broker.DecisionID) (Hit, bool, error) {
	return Hit{}, false, errTodo
}

// Range is a span of source offsets, both included.
type Range struct{ First, Last int64 }

// PartitionCoverage accounts for the records of a source partition, by its
// stream decisions.
type PartitionCoverage struct {
	Dataset   broker.DatasetID
	TopicID   [16]byte
	Partition int32
	// Ranges are what the batches cover, joined where one follows the other.
	Ranges []Range
	// Gaps lie between ranges; Overlaps were decided more than once.
	Gaps, Overlaps []Range
	// Records were read: Records = OutOfScope + Repeated + Rejected + Rows.
	Records, OutOfScope, Repeated, Rejected int64
	// Rows are records in some scope. Decisions = Permits + Denials.
	Rows, Decisions, Permits, Denials int64
	// Unbalanced are the batches whose counts do not add up to their rows.
	Unbalanced []Imbalance
	From, To   time.Time // of the first batch and the last
}

// Balanced reports whether everything adds up and nothing is missing.
func (c *PartitionCoverage) Balanced() bool {
	return len(c.Gaps) == 0 && len(c.Overlaps) == 0 && len(c.Unbalanced) == 0
}

// Imbalance is a batch whose head says another number of rows than it has.
type Imbalance struct {
	Place LogPlace
	Range Range
	Want  int64 // rows, by the counts in the head
	Have  int64
}

// Coverage accounts for a dataset's source partitions, of the batches decided in
// [from, to); a zero time is open. All datasets if dataset is empty.
func (s *Store) Coverage(ctx context.Context, dataset broker.DatasetID, from, to time.Time) ([]PartitionCoverage, error) {
	return nil, errTodo
}

// Delivered is what was delivered under an agreement and one version of its
// package: which fields, how often, when. Shielded deliveries stand by themselves.
type Delivered struct {
	Agreement broker.AgreementID
	Parties   Parties
	Package   broker.PackageRef
	Permits   int64
	Sets      []FieldSet // the most frequent first
}

// FieldSet is a set of fields that was delivered.
type FieldSet struct {
	Fields      []broker.Pointer
	Shielded    bool
	Count       int64
	First, Last time.Time
}

// Delivered says what was delivered under the agreements, or under all of them
// when none is named, by decisions in [from, to); a zero time is open.
func (s *Store) Delivered(ctx context.Context, from, to time.Time, agreements ...broker.AgreementID) ([]Delivered, error) {
	return nil, errTodo
}

// Digest is a hash over the whole content, and how many decisions that is. It
// reads every row. It does not depend on the order in which partitions were
// applied, on how the batches were grouped, or on the database.
func (s *Store) Digest(ctx context.Context) (hash string, decisions int64, err error) {
	return "", 0, errTodo
}
