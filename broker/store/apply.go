package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"datafordeler/broker"
)

// state is the one row of the table state.
type state struct {
	generation             string
	records, batches, runs int64 // the next numbers
	counts
}

func readState(ctx context.Context, r reader) (s state, err error) {
	var version int64
	found, err := one(ctx, r, "SELECT version, generation, records, batches, runs, names, sources, agreements, outcomes, answers FROM state WHERE id = 1", nil,
		&version, &s.generation, &s.records, &s.batches, &s.runs, &s.names, &s.sources, &s.agreements, &s.outcomes, &s.answers)
	switch {
	case err != nil:
		return s, err
	case !found:
		return s, fmt.Errorf("%w (its state is missing)", ErrRebuild)
	case version > schemaVersion:
		return s, fmt.Errorf("%w: its format is %d, this version's %d: use a newer datafordeler", ErrNewer, version, schemaVersion)
	case version < schemaVersion:
		return s, fmt.Errorf("%w (its format is %d, this version's %d)", ErrRebuild, version, schemaVersion)
	}
	return s, nil
}

func (s *state) write(ctx context.Context, w writer) error {
	return w.exec(ctx, "UPDATE state SET records = ?1, batches = ?2, runs = ?3, names = ?4, sources = ?5, agreements = ?6, outcomes = ?7, answers = ?8 WHERE id = 1",
		s.records, s.batches, s.runs, s.names, s.sources, s.agreements, s.outcomes, s.answers)
}

func readPositions(ctx context.Context, r reader) (map[int32]int64, error) {
	next := map[int32]int64{}
	err := each(ctx, r, "SELECT log_partition, next FROM position", nil, func(scan func(...any) error) error {
		var p int32
		var n int64
		if err := scan(&p, &n); err != nil {
			return err
		}
		next[p] = n
		return nil
	})
	return next, err
}

// Apply writes the batches in one transaction, with how far the log was read. A
// batch that was applied before is skipped; one that begins after what was read
// is ErrGap. Batches of one partition of the log come in its order; those of
// different partitions as they like. The first batch of a partition may begin
// anywhere: the log's beginning may be gone.
//
// After an error nothing was applied, or, where the connection was lost while the
// transaction was ending, all of it: call it again with the same batches. The
// batches are not kept, and what they point to must not change meanwhile.
func (s *Store) Apply(ctx context.Context, batches []Batch, parties PartiesOf) error {
	for i := range batches {
		if err := batches[i].check(); err != nil {
			return err
		}
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	var added *additions
	err := s.db.write(ctx, func(w writer) error {
		st, d, err := s.current(ctx, w)
		if err != nil {
			return err
		}
		a := apply{sizes: s.sizes, state: st, added: newAdditions(d, st.counts), parties: parties, moved: map[int32]bool{}}
		if a.next, err = readPositions(ctx, w); err != nil {
			return err
		}
		for i := range batches {
			if err := a.take(&batches[i]); err != nil {
				return err
			}
		}
		added = a.added
		return a.write(ctx, w)
	})
	if err == nil {
		added.publish()
		return nil
	}
	for _, known := range []error{ErrGap, ErrParties, ErrRebuild, ErrNewer} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("store: apply %d batches: %w", len(batches), err)
}

// apply is one transaction being put together. It belongs to the goroutine that
// holds Store.applying.
type apply struct {
	sizes
	state
	added   *additions
	parties PartiesOf
	next    map[int32]int64
	moved   map[int32]bool

	heads   []headRow
	records []recordRow
	blocks  []*block
	keys    []keyed
	answers []int64 // of the record under way
	singles []singleRow
}

type headRow struct {
	id, source, policy, period int64
	b                          *Batch
	first, records             int64
	permits, denials           int64
}

type recordRow struct {
	batch   int64
	d       *broker.Decision // the first of the record's decisions
	answers string
	ids     []byte
	source  int64 // −1 where it is the batch's
}

// singleRow counts what a batch of single decisions holds of one source.
type singleRow struct{ batch, source, permits, denials int64 }

func (a *apply) take(b *Batch) error {
	if next, known := a.next[b.LogPartition]; known {
		if b.LogOffset < next {
			return nil
		}
		if b.LogFrom > next {
			return fmt.Errorf("%w: partition %d of the decisions was read up to offset %d, and the next batch begins at %d: read again from %[3]d", ErrGap, b.LogPartition, next, b.LogFrom)
		}
	}
	a.next[b.LogPartition], a.moved[b.LogPartition] = b.LogOffset+1, true
	h := &b.Head
	row := headRow{
		id: a.batches, b: b, first: a.state.records,
		source: a.added.source(source{h.Kind, h.Dataset, h.TopicID, h.Partition}),
		policy: a.added.name(h.Policy), period: a.added.name(h.Period),
	}
	a.batches++
	a.added.begin()
	p := part{batch: row.id, time: h.Time.UnixNano(), place: logAt{b.LogPartition, b.LogOffset}, source: row.source, period: row.period}
	for i := 0; i < len(b.Decisions); {
		n := i + 1
		for n < len(b.Decisions) && sameRecord(&b.Decisions[i], &b.Decisions[n]) {
			n++
		}
		if h.Kind != broker.StreamDecision {
			d := &b.Decisions[i]
			p.source = a.added.source(source{h.Kind, d.Position.Dataset, d.Position.TopicID, d.Position.Partition})
			a.single(row.id, p.source, b.Decisions[i:n])
		}
		if err := a.record(&row, &p, b.Decisions[i:n], int64(i)); err != nil {
			return err
		}
		i = n
	}
	a.heads = append(a.heads, row)
	return nil
}

// single counts a record's decisions, of a batch of single ones.
func (a *apply) single(batch, source int64, decisions []broker.Decision) {
	at := len(a.singles)
	for at > 0 && a.singles[at-1].batch == batch && a.singles[at-1].source != source {
		at--
	}
	if at == 0 || a.singles[at-1].batch != batch {
		a.singles = append(a.singles, singleRow{batch: batch, source: source})
		at = len(a.singles)
	}
	r := &a.singles[at-1]
	for i := range decisions {
		if decisions[i].Outcome.Permit {
			r.permits++
		} else {
			r.denials++
		}
	}
}

// record takes in the decisions on one record; before is how many of the batch
// there were.
func (a *apply) record(head *headRow, p *part, decisions []broker.Decision, before int64) error {
	d := &decisions[0]
	first := a.state.records - int64(len(a.records))
	at := len(a.records)
	if at >= math.MaxUint32 {
		return errors.New("store: too many records at once")
	}
	a.answers = a.answers[:0]
	var text []byte
	var ids []byte
	for i := range decisions {
		d := &decisions[i]
		id, err := a.added.answer(d, d.Revision, a.parties)
		if err != nil {
			return err
		}
		a.answers = append(a.answers, id)
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, id, 10)
		if d.Outcome.Permit {
			head.permits++
		} else {
			head.denials++
		}
		made, delivered := identify(d.Kind, d.Position, d.Event, d.Request, d.Subscription, d.Outcome.Permit)
		if ids == nil && (made != d.ID || delivered != d.Delivery) {
			ids = make([]byte, 0, 32*len(decisions))
			for j := range decisions {
				ids = append(append(ids, decisions[j].ID[:]...), decisions[j].Delivery[:]...)
			}
		}
		a.keys = append(a.keys, keyed{key48(d.ID), uint32(at)})
		if !d.Delivery.IsZero() {
			a.keys = append(a.keys, keyed{key48(d.Delivery), uint32(at)})
		}
	}
	if !d.Event.IsZero() { // a lookup that found nothing
		a.keys = append(a.keys, keyed{key48(d.Event), uint32(at)})
	}
	if d.Position.Offset != broker.Nowhere {
		a.keys = append(a.keys, keyed{placeKey(d.Position.Dataset, d.Position.Partition, d.Position.Offset), uint32(at)})
	}
	if !d.Request.IsZero() {
		a.keys = append(a.keys, keyed{key48(d.Request), uint32(at)})
	}
	if !d.Subject.IsZero() {
		a.keys = append(a.keys, keyed{key48(d.Subject), uint32(at)})
	}
	r := recordRow{batch: head.id, d: d, answers: string(text), ids: ids, source: -1}
	if p.source != head.source {
		r.source = p.source
	}
	a.records = append(a.records, r)
	a.state.records++
	head.records++

	var b *block
	if n := len(a.blocks); n > 0 && a.blocks[n-1].weight() < a.block {
		b = a.blocks[n-1]
	} else {
		b = &block{first: first + int64(at)}
		a.blocks = append(a.blocks, b)
	}
	if n := len(b.parts); n == 0 || !b.parts[n-1].same(p) {
		p.before = before
		b.parts = append(b.parts, *p)
	}
	b.add(a.answers)
	return nil
}

// identify is the ids that a decision has, from what it is about. Where it has
// others they are kept.
func identify(kind broker.DecisionKind, p broker.Position, event broker.EventHash, request broker.Digest, sub broker.SubscriptionID, permit bool) (id broker.DecisionID, delivery broker.DeliveryID) {
	if kind == broker.LookupDecision {
		id = broker.NewLookupID(request, event, &p, sub)
	} else {
		id = broker.NewDecisionID(kind, p.TopicID, p.Partition, p.Offset, sub)
	}
	if permit && !event.IsZero() {
		delivery = broker.DeliveryOf(kind, event, sub)
	}
	return id, delivery
}

// write puts all of it into the tables.
func (a *apply) write(ctx context.Context, w writer) error {
	if err := a.added.write(ctx, w); err != nil {
		return err
	}
	if err := w.load(ctx, "batch", []string{
		"id", "log_partition", "log_offset", "source", "first", "last", "time", "revision", "policy", "period",
		"records", "out_of_scope", "repeated", "rejected", "first_record", "in_scope", "permits", "denials",
	}, len(a.heads), func(i int, v []any) {
		r := &a.heads[i]
		h := &r.b.Head
		v[0], v[1], v[2], v[3] = r.id, int64(r.b.LogPartition), r.b.LogOffset, r.source
		v[4], v[5], v[6], v[7], v[8], v[9] = h.First, h.Last, h.Time.UnixNano(), int64(h.Revision), r.policy, r.period
		v[10], v[11], v[12], v[13] = h.Records, h.OutOfScope, h.Repeated, h.Rejected
		v[14], v[15], v[16], v[17] = r.first, r.records, r.permits, r.denials
	}); err != nil {
		return err
	}
	if err := w.load(ctx, "single", []string{"batch", "source", "permits", "denials"}, len(a.singles), func(i int, v []any) {
		r := &a.singles[i]
		v[0], v[1], v[2], v[3] = r.batch, r.source, r.permits, r.denials
	}); err != nil {
		return err
	}
	first := a.state.records - int64(len(a.records))
	if err := w.load(ctx, "record", []string{"id", "batch", "source_offset", "kind", "event", "subject", "answers", "ids", "source", "request"}, len(a.records), func(i int, v []any) {
		r := &a.records[i]
		v[0], v[1], v[2], v[3] = first+int64(i), r.batch, r.d.Position.Offset, int64(r.d.RecordKind)
		v[4], v[5], v[6], v[7], v[8], v[9] = r.d.Event[:], nil, r.answers, nil, nil, nil
		if !r.d.Subject.IsZero() {
			v[5] = r.d.Subject[:]
		}
		if r.ids != nil {
			v[7] = r.ids
		}
		if r.source >= 0 {
			v[8] = r.source
		}
		if !r.d.Request.IsZero() {
			v[9] = r.d.Request[:]
		}
	}); err != nil {
		return err
	}
	if len(a.records) > 0 {
		if err := a.addBlocks(ctx, w, a.blocks); err != nil {
			return err
		}
		if err := a.addRun(ctx, w, run{id: a.runs, first: first, size: int64(len(a.records))}, a.keys); err != nil {
			return err
		}
		var err error
		if a.runs, err = a.mergeRuns(ctx, w, a.runs+1); err != nil {
			return err
		}
	}
	for p := range a.moved {
		if err := w.exec(ctx, "INSERT INTO position (log_partition, next) VALUES (?1, ?2) ON CONFLICT (log_partition) DO UPDATE SET next = excluded.next", int64(p), a.next[p]); err != nil {
			return err
		}
	}
	a.counts = a.added.counts()
	return a.state.write(ctx, w)
}

// blockFan is how many small blocks become one.
const blockFan = 8

// addBlocks writes new blocks, and joins small ones at the end: eight of like
// size, so that a row is packed again a few times only however small the
// transactions are, and a search never has many small blocks to open.
func (z sizes) addBlocks(ctx context.Context, w writer, added []*block) error {
	for _, b := range added {
		if err := b.write(ctx, w); err != nil {
			return err
		}
	}
	for {
		tail, err := z.openBlocks(ctx, w)
		if err != nil || len(tail) < blockFan {
			return err
		}
		var joined *block
		for _, t := range tail {
			b, err := readBlock(ctx, w, t.first)
			if err != nil {
				return err
			}
			for _, table := range []string{"block", "block_index"} {
				if err := w.exec(ctx, "DELETE FROM "+table+" WHERE first = ?1", t.first); err != nil {
					return err
				}
			}
			switch {
			case joined == nil:
				joined = b
			case joined.weight()+b.weight() > z.block:
				if err := joined.write(ctx, w); err != nil {
					return err
				}
				joined = b
			default:
				joined.join(b)
			}
		}
		if err := joined.write(ctx, w); err != nil {
			return err
		}
	}
}

type blockSize struct{ first, weight int64 }

// openBlocks are the blocks at the end that are small and not larger than the
// last by much, the oldest records first.
func (z sizes) openBlocks(ctx context.Context, r reader) (tail []blockSize, err error) {
	// No more can be of use: there are fewer than eight of each size.
	err = each(ctx, r, "SELECT first, size, decisions FROM block ORDER BY first DESC LIMIT 64", nil, func(scan func(...any) error) error {
		var first, size, decisions int64
		if err := scan(&first, &size, &decisions); err != nil {
			return err
		}
		tail = append(tail, blockSize{first, max(size, decisions/4)})
		return nil
	})
	n, most := 0, int64(0)
	for n < len(tail) && tail[n].weight < z.block/2 {
		if n == 0 {
			for most = blockFan; most <= tail[0].weight; most *= blockFan {
			}
		}
		if tail[n].weight >= most {
			break
		}
		n++
	}
	tail = tail[:n]
	for i, j := 0, len(tail)-1; i < j; i, j = i+1, j-1 {
		tail[i], tail[j] = tail[j], tail[i]
	}
	return tail, err
}

func (b *block) write(ctx context.Context, w writer) error {
	low, high := b.times()
	if err := w.exec(ctx, "INSERT INTO block (first, size, decisions, min_time, max_time) VALUES (?1, ?2, ?3, ?4, ?5)", b.first, b.records, b.decisions, low, high); err != nil {
		return err
	}
	answers, batches, rows := b.encode()
	return w.exec(ctx, "INSERT INTO block_index (first, answers, batches, rows) VALUES (?1, ?2, ?3, ?4)", b.first, answers, batches, rows)
}

func readBlock(ctx context.Context, r reader, first int64) (*block, error) {
	var answers, batches, rows []byte
	found, err := one(ctx, r, "SELECT answers, batches, rows FROM block_index WHERE first = ?1", []any{first}, &answers, &batches, &rows)
	if err == nil && !found {
		err = errBlock
	}
	if err != nil {
		return nil, err
	}
	return decodeBlock(first, answers, batches, rows)
}

// parseAnswers reads record.answers.
func parseAnswers(s string, dst []int64) ([]int64, error) {
	dst = dst[:0]
	for part := range strings.SplitSeq(s, ",") {
		id, err := strconv.ParseInt(part, 10, 64)
		if err != nil || id < 0 {
			return nil, errors.New("store: a record's answers are damaged: run 'datafordeler rebuild'")
		}
		dst = append(dst, id)
	}
	return dst, nil
}
