package ledger

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"datafordeler/broker"
)

// Sequence is the fold over entries that says which may come next: the sequencer
// asks it before it writes one, a verifier when it reads one. It knows of one
// entry after another what was accounted for. It is used by one goroutine.
type Sequence struct {
	revision broker.Revision // that the control entries make
	control  int64           // the next control offset
	logs     map[int32]int64 // by decisions partition, the next offset
	sources  map[source]*progress
}

type source struct {
	topic     broker.Digest
	partition int32
}

// progress is how far a source partition is accounted for.
type progress struct {
	Dataset  broker.DatasetID `json:"dataset"`
	TopicID  broker.Digest    `json:"topicId"`
	Number   int32            `json:"partition"`
	Next     int64            `json:"next"`
	Revision broker.Revision  `json:"revision"`
	Time     time.Time        `json:"time"`
}

// NewSequence is that of an empty ledger.
func NewSequence() *Sequence {
	return &Sequence{logs: map[int32]int64{}, sources: map[source]*progress{}}
}

// Where says of which source partition an error speaks.
type Where struct {
	Dataset   broker.DatasetID
	TopicID   broker.Digest
	Partition int32
}

func (w Where) String() string {
	return fmt.Sprintf("%s/%d (topic id %s)", w.Dataset, w.Partition, w.TopicID)
}

// GapError is source offsets that no entry accounts for: Want to First−1.
type GapError struct {
	Where
	Want, First int64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("%s: offsets %d to %d are in no entry", e.Where, e.Want, e.First-1)
}

// Name is Gap.
func (e *GapError) Name() FaultName { return Gap }

// OverlapError is source offsets decided twice: First to at most Want−1.
type OverlapError struct {
	Where
	Want, First int64
}

func (e *OverlapError) Error() string {
	return fmt.Sprintf("%s: offsets from %d on were decided before, up to %d", e.Where, e.First, e.Want-1)
}

// Name is Overlap.
func (e *OverlapError) Name() FaultName { return Overlap }

// OutOfOrderError is an entry after one that it belongs before.
type OutOfOrderError struct{ What string }

func (e *OutOfOrderError) Error() string { return e.What }

// Name is BatchOutOfOrder.
func (e *OutOfOrderError) Name() FaultName { return BatchOutOfOrder }

// UnknownRevisionError is a record of decisions made at a revision that the control
// entries before it do not make.
type UnknownRevisionError struct {
	Where           // of a batch; zero for single decisions
	At              Place
	Revision, Known broker.Revision
}

func (e *UnknownRevisionError) Error() string {
	if e.Where == (Where{}) {
		return fmt.Sprintf("the single decisions at offset %d of partition %d of decisions: decided at revision %d, and the control events before them make revision %d",
			e.At.Offset, e.At.Partition, e.Revision, e.Known)
	}
	return fmt.Sprintf("%s: decided at revision %d, and the control events before it make revision %d", e.Where, e.Revision, e.Known)
}

// Name is UnknownRevision.
func (e *UnknownRevisionError) Name() FaultName { return UnknownRevision }

// ControlError is a control entry that makes another revision than it says.
type ControlError struct{ What string }

func (e *ControlError) Error() string { return e.What }

// Name is ControlBroken.
func (e *ControlError) Name() FaultName { return ControlBroken }

// Revision is what the control entries so far make.
func (s *Sequence) Revision() broker.Revision { return s.revision }

// ControlNext is the first offset of control not accounted for.
func (s *Sequence) ControlNext() int64 { return s.control }

// LogNext is the first offset of a partition of decisions not accounted for.
func (s *Sequence) LogNext(partition int32) int64 { return s.logs[partition] }

// Next is the first offset of a source partition not accounted for; 0 for one
// that no entry has named.
func (s *Sequence) Next(topic broker.Digest, partition int32) int64 {
	if p := s.sources[source{topic, partition}]; p != nil {
		return p.Next
	}
	return 0
}

// Label sets a batch entry's Overlap and Skipped to what they are here. Who calls
// it says by doing so that these may be: of an overlap, that the engine is the
// embedded one; of a skip, that the source's log begins no earlier.
func (s *Sequence) Label(e *Entry) {
	b := &e.Batch
	b.Overlap, b.Skipped = 0, 0
	switch want := s.Next(b.TopicID, b.Partition); {
	case b.First < want:
		b.Overlap = min(want, b.Last+1) - b.First
	case b.First > want:
		b.Skipped = b.First - want
	}
}

// Accept folds the next entry, or says why it may not be next and changes
// nothing. The errors are GapError, OverlapError, OutOfOrderError,
// UnknownRevisionError and ControlError, and those of a line that ParseEntry
// refuses.
func (s *Sequence) Accept(e *Entry) error {
	if err := e.check(); err != nil {
		if NameOf(err) == "" {
			err = &entryError{err.Error()}
		}
		return err
	}
	switch e.Type {
	case ControlEntry:
		return s.acceptControl(e)
	case SinglesEntry:
		return s.acceptSingles(e)
	}
	return s.acceptBatch(e)
}

// acceptSingles asks for no order in time or revision: several instances write
// them, each by its own clock and what it had folded.
func (s *Sequence) acceptSingles(e *Entry) error {
	b := &e.Batch
	if err := s.inLog(e, "the "+b.Kind+" decisions"); err != nil {
		return err
	}
	if e.Revision > s.revision {
		return &UnknownRevisionError{At: b.At, Revision: e.Revision, Known: s.revision}
	}
	s.logs[b.At.Partition] = b.At.Offset + 1
	return nil
}

// inLog says whether an entry's record stands after those before it.
func (s *Sequence) inLog(e *Entry, what string) error {
	at := e.Batch.At
	if at.Offset < s.logs[at.Partition] || at.Offset == math.MaxInt64 {
		return &OutOfOrderError{fmt.Sprintf("%s at offset %d of partition %d of decisions come after those up to %d", what, at.Offset, at.Partition, s.logs[at.Partition]-1)}
	}
	return nil
}

func (s *Sequence) acceptControl(e *Entry) error {
	c := &e.Control
	if c.First < s.control {
		return &OutOfOrderError{fmt.Sprintf("control events from offset %d on come after those up to %d", c.First, s.control-1)}
	}
	if c.Last == math.MaxInt64 || s.revision > e.Revision || uint64(e.Revision-s.revision) != uint64(c.Events) {
		return &ControlError{fmt.Sprintf("%d accepted control events after revision %d cannot make revision %d", c.Events, s.revision, e.Revision)}
	}
	s.control, s.revision = c.Last+1, e.Revision
	return nil
}

func (s *Sequence) acceptBatch(e *Entry) error {
	b := &e.Batch
	where := Where{b.Dataset, b.TopicID, b.Partition}
	if err := s.inLog(e, where.String()+": the decisions"); err != nil {
		return err
	}
	if e.Revision > s.revision {
		return &UnknownRevisionError{where, b.At, e.Revision, s.revision}
	}
	key := source{b.TopicID, b.Partition}
	p := s.sources[key]
	want := s.Next(b.TopicID, b.Partition)
	// A label must say just what is so, or any would do.
	if b.Overlap != max(0, min(want, b.Last+1)-b.First) {
		return &OverlapError{where, want, b.First}
	}
	if b.Skipped != max(0, b.First-want) {
		return &GapError{where, want, b.First}
	}
	if p != nil {
		switch {
		case p.Dataset != b.Dataset:
			return &OutOfOrderError{fmt.Sprintf("%s: the topic was dataset %s before", where, p.Dataset)}
		case b.Overlap > 0: // its writer did not know of the one before
		case b.Time.Before(p.Time):
			return &OutOfOrderError{fmt.Sprintf("%s: decided at %s, after what was decided at %s", where, b.Time.Format(time.RFC3339Nano), p.Time.Format(time.RFC3339Nano))}
		case e.Revision < p.Revision:
			return &OutOfOrderError{fmt.Sprintf("%s: decided at revision %d, after what was decided at revision %d", where, e.Revision, p.Revision)}
		}
	} else {
		p = &progress{Dataset: b.Dataset, TopicID: b.TopicID, Number: b.Partition}
		s.sources[key] = p
	}
	s.logs[b.At.Partition] = b.At.Offset + 1
	p.Next, p.Revision = max(p.Next, b.Last+1), max(p.Revision, e.Revision)
	if b.Time.After(p.Time) {
		p.Time = b.Time
	}
	return nil
}

// snapshot is a Sequence's content as JSON.
type snapshot struct {
	V        int             `json:"v"`
	Revision broker.Revision `json:"revision"`
	Control  int64           `json:"controlNext"`
	Logs     map[int32]int64 `json:"decisionsNext"`
	Sources  []*progress     `json:"sources"`
}

// MarshalJSON writes what has been folded, to go on from after a restart. The
// same entries give the same bytes.
func (s *Sequence) MarshalJSON() ([]byte, error) {
	return json.Marshal(snapshot{V: 1, Revision: s.revision, Control: s.control, Logs: s.logs, Sources: s.sorted()})
}

func (s *Sequence) sorted() []*progress {
	return slices.SortedFunc(maps.Values(s.sources), func(a, b *progress) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), slices.Compare(a.TopicID[:], b.TopicID[:]), cmp.Compare(a.Number, b.Number))
	})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Sequence) UnmarshalJSON(b []byte) error {
	var x snapshot
	if err := json.Unmarshal(b, &x); err != nil {
		return fmt.Errorf("ledger: snapshot of a sequence: %w", err)
	}
	if x.V != 1 {
		return fmt.Errorf("ledger: snapshot of a sequence in format %d: this version reads 1", x.V)
	}
	n := NewSequence()
	n.revision, n.control = x.Revision, x.Control
	maps.Copy(n.logs, x.Logs)
	for _, p := range x.Sources {
		if p == nil || n.sources[source{p.TopicID, p.Number}] != nil {
			return fmt.Errorf("ledger: snapshot of a sequence: a source partition twice, or none")
		}
		n.sources[source{p.TopicID, p.Number}] = p
	}
	*s = *n
	return nil
}

// Range is how far a source partition is accounted for.
type Range struct {
	Where
	Next int64
}

// Ranges are the source partitions, by dataset, topic id and number.
func (s *Sequence) Ranges() []Range {
	var out []Range
	for _, p := range s.sorted() {
		out = append(out, Range{Where{p.Dataset, p.TopicID, p.Number}, p.Next})
	}
	return out
}
