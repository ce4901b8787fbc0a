package deliver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"datafordeler/broker"
)

// singlesVersion is the first byte of a record of single decisions: format 3.
const singlesVersion = 3

// ErrSingles is what readers of batches say of a record of single decisions.
var ErrSingles = errors.New("a record of single decisions, not a batch of the stream's")

// IsSingles reports whether a record of the topic decisions holds single decisions
// rather than a batch of the stream's.
func IsSingles(value []byte) bool { return len(value) > 0 && value[0] == singlesVersion }

// SinglesHeader says under what single decisions were made: those of the kinds
// backfill, lookup, door and notice, which lie scattered over the log, so that no range
// accounts for them. All in one record are of one kind, one revision and one
// reading of the clock.
type SinglesHeader struct {
	Kind broker.DecisionKind
	// TopicID and Partition say whose lease of the ceilings the permits count
	// against: the source partition's that a backfill reads, one of the answering
	// instance's own for lookups; zero where they count against none.
	TopicID   broker.Digest
	Partition int32
	Time      time.Time
	Revision  broker.Revision
	Policy    string
	Period    string
	Limits    Limits
	// Usage is how many deliveries each agreement with a ceiling had had under that
	// lease before.
	Usage map[broker.AgreementID]int64
	// Decisions and Permits are counted when it is written.
	Decisions, Permits int64
}

// Single is what is common to the decisions on one record, or on none.
type Single struct {
	// Position of the record; Offset is broker.Nowhere, and only Dataset set of the
	// rest, where it does not lie in the log, or a lookup found nothing.
	Position broker.Position
	// Event is zero where a lookup found nothing.
	Event   broker.EventHash
	Subject broker.Pseudonym
	Kind    broker.RecordKind
	// Request is a lookup's; the other kinds have none.
	Request broker.Digest
}

// Singles collects single decisions and writes them. It is used by one goroutine,
// and reused through Reset. The bytes follow from the decisions alone.
type Singles struct {
	head   SinglesHeader
	usage  map[broker.AgreementID]int64
	dict   dictionaries
	places map[place]int
	order  []place
	size   int // of rows and places, in bytes, from above
	fixed  int
	rows   []byte
	n      int
	out    [][]byte
	dictWriter
}

// place is where records lie, all but the offset.
type place struct {
	dataset   broker.DatasetID
	topicID   [16]byte
	partition int32
}

// singleSize is what a row takes at the most, in bytes.
const singleSize = 80

// Reset begins anew. The header's Usage is copied; its counts are not asked.
func (s *Singles) Reset(h SinglesHeader) {
	s.usage = maps.Clone(h.Usage)
	if s.usage == nil {
		s.usage = map[broker.AgreementID]int64{}
	}
	s.out = nil
	s.begin(h)
}

func (s *Singles) begin(h SinglesHeader) {
	h.Usage, h.Decisions, h.Permits = maps.Clone(s.usage), 0, 0
	s.head = h
	s.dict.reset()
	if s.places == nil {
		s.places = map[place]int{}
	}
	clear(s.places)
	s.order, s.rows, s.n, s.size = s.order[:0], s.rows[:0], 0, 0
	s.fixed = 300 + len(h.Policy) + len(h.Period)
	for a := range h.Usage {
		s.fixed += len(a) + 20
	}
}

// Add appends the decisions on one record. That a row says what its kind cannot say
// is a fault of the program's, and would make false evidence: it panics.
func (s *Singles) Add(row Single, decisions []Decision) {
	if why := faultOf(s.head.Kind, &row); why != "" {
		panic("deliver: " + why)
	}
	if len(decisions) == 0 {
		panic("deliver: a row without decisions")
	}
	d := &s.dict
	d.mark()
	set := d.set(decisions)
	if s.n > 0 && (int(s.head.Decisions)+len(decisions) > maxDecisions || s.fixed+s.size+d.size+singleSize+len(row.Position.Dataset)+30 > MaxBatch) {
		d.undo()
		s.flush()
		s.begin(s.head)
		set = d.set(decisions)
	}
	at := place{row.Position.Dataset, row.Position.TopicID, row.Position.Partition}
	n, ok := s.places[at]
	if !ok {
		n = len(s.order)
		s.order, s.places[at] = append(s.order, at), n
		s.size += len(at.dataset) + 30
	}
	s.size += singleSize
	s.n++
	s.head.Decisions += int64(len(decisions))
	for i := range decisions {
		x := &decisions[i]
		if !x.Outcome.Permit {
			continue
		}
		if s.head.Kind == broker.DoorDecision {
			panic("deliver: a permit at the door is no decision")
		}
		if s.head.Kind == broker.NoticeDecision && (len(x.Fields) > 0 || x.Shielded) {
			panic("deliver: a notice with data")
		}
		s.head.Permits++
		if a := &x.Terms.Agreement; a.Cost.Ceiling > 0 && !row.Event.IsZero() && s.head.Kind != broker.NoticeDecision {
			s.usage[a.ID]++
		}
	}
	r := binary.AppendUvarint(s.rows, uint64(n))
	r = binary.AppendUvarint(r, uint64(row.Position.Offset+1))
	r = append(r, byte(row.Kind)|bit(!row.Subject.IsZero())<<2)
	r = binary.AppendUvarint(r, uint64(set))
	r = append(r, row.Event[:]...)
	if !row.Subject.IsZero() {
		r = append(r, row.Subject[:]...)
	}
	if s.head.Kind == broker.LookupDecision {
		r = append(r, row.Request[:]...)
	}
	s.rows = r
}

// faultOf says what a row of a kind cannot say.
func faultOf(kind broker.DecisionKind, r *Single) string {
	nowhere := r.Position.Offset == broker.Nowhere
	switch {
	case kind != broker.BackfillDecision && kind != broker.LookupDecision && kind != broker.DoorDecision && kind != broker.NoticeDecision:
		return "single decisions of kind " + kind.String()
	case (kind == broker.LookupDecision) == r.Request.IsZero():
		return "lookups have a request, and only they"
	case r.Position.Dataset == "" || r.Position.Offset < broker.Nowhere || r.Position.Offset == math.MaxInt64:
		return "a single decision at no position"
	case kind == broker.NoticeDecision && r.Kind == broker.Original:
		return "a notice of what changes nothing"
	case nowhere && (kind != broker.LookupDecision || r.Position.TopicID != [16]byte{} || r.Position.Partition != 0):
		return "only a lookup is about what does not lie in the log"
	case r.Event.IsZero() && !nowhere:
		return "a record without an event"
	case r.Event.IsZero() && r.Kind != broker.Original:
		return "a kind of record where none was found"
	case r.Kind > broker.Retraction:
		return "a kind of record that is not known"
	}
	return ""
}

// Used is how many deliveries an agreement with a ceiling has had under the lease,
// those added included.
func (s *Singles) Used(a broker.AgreementID) int64 { return s.usage[a] }

// Usage is Used for all agreements, to carry into the next record.
func (s *Singles) Usage() map[broker.AgreementID]int64 { return s.usage }

// Finish returns the encoded records: none where nothing was added. They are the
// caller's.
func (s *Singles) Finish() [][]byte {
	if s.n > 0 {
		s.flush()
	}
	return s.out
}

// Release lets go of what the decisions point to, and keeps the room.
func (s *Singles) Release() {
	s.dict.reset()
	clear(s.order)
	clear(s.places)
	clear(s.rows[:cap(s.rows)])
	s.order, s.rows, s.n, s.out = s.order[:0], s.rows[:0], 0, nil
	s.head, s.usage = SinglesHeader{}, nil
}

func (s *Singles) flush() {
	h := &s.head
	out := []byte{singlesVersion}
	b := append(s.scratch[:0], byte(h.Kind))
	b = append(b, h.TopicID[:]...)
	b = binary.AppendUvarint(b, uint64(uint32(h.Partition)))
	b = binary.AppendUvarint(b, zigzag(h.Time.Unix()))
	b = binary.AppendUvarint(b, uint64(h.Time.Nanosecond()))
	b = binary.AppendUvarint(b, uint64(h.Revision))
	b = appendString(b, h.Policy)
	b = appendString(b, h.Period)
	for _, n := range [...]int64{int64(h.Limits.RecordBytes), int64(h.Limits.Depth), int64(h.Limits.Window), h.Limits.WindowMillis, int64(h.Limits.DeliveryBytes),
		int64(s.n), h.Decisions, h.Permits} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	out = appendSection(out, b)
	b = appendUsage(b[:0], h.Usage)
	out = appendSection(out, b)
	b = binary.AppendUvarint(b[:0], uint64(len(s.order)))
	for i := range s.order {
		p := &s.order[i]
		b = appendString(b, string(p.dataset))
		b = append(b, p.topicID[:]...)
		b = binary.AppendUvarint(b, uint64(uint32(p.partition)))
	}
	s.scratch = b
	out = appendSection(out, b)
	out = s.appendDictionaries(out, &s.dict)
	s.out = append(s.out, append(out, s.rows...))
}

// PeekSingles reads a record's header, and nothing that grows with its rows.
func PeekSingles(value []byte) (SinglesHeader, error) {
	v, err := openSingles(value)
	if err != nil {
		return SinglesHeader{}, err
	}
	return v.head, nil
}

// DecodeSingles calls fn for each decision in a record of single decisions, in
// order. The value passed to fn is reused; its slices are shared and read-only.
func DecodeSingles(value []byte, fn func(*broker.Decision) error) (SinglesHeader, error) {
	h, _, err := readSingles(value, fn)
	return h, err
}

// SinglesUsageAfter is the usage of each agreement with a ceiling, under the lease
// that the header names, when the record of single decisions ended.
func SinglesUsageAfter(value []byte) (SinglesHeader, map[broker.AgreementID]int64, error) {
	h, counts, err := readSingles(value, nil)
	if err != nil {
		return h, nil, err
	}
	return h, after(h.Usage, counts), nil
}

// singlesView is a record of single decisions with its parts found. Of the view,
// the dictionaries are set.
type singlesView struct {
	view
	head SinglesHeader
	n    int // rows
	at   []place
	rows cursor
}

func openSingles(value []byte) (*singlesView, error) {
	if !IsSingles(value) {
		return nil, fmt.Errorf("%w: not single decisions", errBatch)
	}
	c := cursor{what: "version", b: value[1:]}
	v := &singlesView{}
	head, usage, places := c.section("head"), c.section("usage"), c.section("places")
	v.lists = newTable(c.section("lists"), 1, (*cursor).list)
	v.outcomes = newTable(c.section("outcomes"), 8, (*cursor).outcome)
	v.subs = newTable(c.section("subscriptions"), 3, (*cursor).sub)
	v.sets = newTable(c.section("sets"), 1, (*cursor).set)
	if c.err != nil {
		return nil, c.err
	}
	v.rows = cursor{what: "rows", b: c.b}
	h := &v.head
	h.Kind = broker.DecisionKind(head.byte())
	copy(h.TopicID[:], head.take(16))
	h.Partition = int32(head.below(math.MaxInt32+1, "the partition"))
	seconds := unzigzag(head.uvarint())
	h.Time = time.Unix(seconds, int64(head.below(1_000_000_000, "a part of a second"))).UTC()
	h.Revision = broker.Revision(head.uvarint())
	h.Policy, h.Period = head.string(), head.string()
	h.Limits = Limits{RecordBytes: int(head.uvarint()), Depth: int(head.uvarint()), Window: int(head.uvarint()), WindowMillis: int64(head.uvarint()), DeliveryBytes: int(head.uvarint())}
	v.n = head.below(len(v.rows.b)/19+1, "the count of rows")
	h.Decisions, h.Permits = int64(head.below(maxDecisions+1, "the count of decisions")), int64(head.below(maxDecisions+1, "the count of permits"))
	if err := head.end(); err != nil {
		return nil, err
	}
	v.usage = usage
	var err error
	if h.Usage, err = v.readUsage(); err != nil {
		return nil, err
	}
	for range places.count(18) {
		p := place{dataset: broker.DatasetID(places.string())}
		copy(p.topicID[:], places.take(16))
		p.partition = int32(places.below(math.MaxInt32+1, "a partition"))
		v.at = append(v.at, p)
	}
	return v, places.end()
}

// readSingles reads all, and counts the permits under ceilings.
func readSingles(value []byte, fn func(*broker.Decision) error) (h SinglesHeader, counts map[broker.AgreementID]int64, err error) {
	v, err := openSingles(value)
	if err != nil {
		return h, nil, err
	}
	h = v.head
	outcomes, err := v.readOutcomes()
	if err != nil {
		return h, nil, err
	}
	subs := make([]BatchSubscription, 0, v.subs.n)
	t := v.subs
	for range t.n {
		if err := t.step(); err != nil {
			return h, nil, err
		}
		subs = append(subs, t.entry.subscription())
	}
	if t.group.err != nil {
		return h, nil, t.group.err
	}
	sets, err := v.readSets(len(outcomes))
	if err != nil {
		return h, nil, err
	}
	counts = map[broker.AgreementID]int64{}
	d := decider{broker.Decision{Kind: h.Kind, PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time, Period: h.Period}}
	c := v.rows
	var decisions, permits int64
	for range v.n {
		row, set, err := v.row(&c)
		if err != nil {
			return h, nil, err
		}
		answers := sets.set(set)
		if len(answers) == 0 || decisions+int64(len(answers)) > maxDecisions {
			return h, nil, fmt.Errorf("%w: rows: decisions out of range", errBatch)
		}
		d.d.Position, d.d.Event, d.d.Subject, d.d.RecordKind, d.d.Request = row.Position, row.Event, row.Subject, row.Kind, row.Request
		for _, a := range answers {
			sub, out := &subs[a.sub], &outcomes[a.outcome]
			decisions++
			if out.Permit {
				if permits++; h.Kind == broker.DoorDecision {
					return h, nil, fmt.Errorf("%w: rows: a permit at the door", errBatch)
				}
				if h.Kind == broker.NoticeDecision && (len(out.Fields) > 0 || out.Shielded) {
					return h, nil, fmt.Errorf("%w: rows: a notice with data", errBatch)
				}
				if sub.Ceiling && !row.Event.IsZero() && h.Kind != broker.NoticeDecision {
					counts[sub.Agreement]++
				}
			}
			if fn == nil {
				continue
			}
			if err := fn(d.single(sub, out)); err != nil {
				return h, nil, err
			}
		}
	}
	if err := c.end(); err != nil {
		return h, nil, err
	}
	if decisions != h.Decisions || permits != h.Permits {
		return h, nil, fmt.Errorf("%w: head: the counts do not add up", errBatch)
	}
	return h, counts, nil
}

func (v *singlesView) row(c *cursor) (r Single, set uint32, err error) {
	at := c.below(len(v.at), "a place")
	offset := c.uvarint()
	if c.err == nil && offset > math.MaxInt64 {
		c.fail("an offset out of range")
	}
	flags := c.byte()
	set = uint32(c.below(v.sets.n, "a reference to a set"))
	copy(r.Event[:], c.take(16))
	if flags > 7 {
		c.fail("a flag that is not known")
	}
	if flags&4 != 0 {
		if copy(r.Subject[:], c.take(16)); r.Subject.IsZero() {
			c.fail("a subject that is none")
		}
	}
	if v.head.Kind == broker.LookupDecision {
		copy(r.Request[:], c.take(16))
	}
	if c.err != nil {
		return r, 0, c.err
	}
	p := &v.at[at]
	r.Position = broker.Position{Dataset: p.dataset, TopicID: p.topicID, Partition: p.partition, Offset: int64(offset) - 1}
	r.Kind = broker.RecordKind(flags & 3)
	if why := faultOf(v.head.Kind, &r); why != "" {
		return r, 0, fmt.Errorf("%w: rows: %s", errBatch, why)
	}
	return r, set, nil
}

// single is decide for a single decision.
func (x *decider) single(sub *BatchSubscription, out *BatchOutcome) *broker.Decision {
	d := x.decide(sub, out)
	if d.Kind == broker.LookupDecision {
		d.ID = broker.NewLookupID(d.Request, d.Event, &d.Position, d.Subscription)
	}
	if d.Event.IsZero() {
		d.Delivery = broker.DeliveryID{}
	}
	return d
}
