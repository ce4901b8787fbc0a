package evidence

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger"
)

// input is what the sequencer reads: control and decisions, from where the ledger
// ends, and puts in order.
type input struct {
	s        *Sequencer
	client   *kgo.Client
	adm      *kadm.Client
	sequence *ledger.Sequence // as of what was handed out
	chain    ledger.Chain
	// waiting are batches whose revision control has not reached yet, by partition
	// of decisions, in order: what follows in the partition waits too.
	waiting map[int32][]ready
	since   map[int32]time.Time // when the first of them came; zero once it was said
	// stuck are the partitions of decisions with a record that cannot be read:
	// neither it nor what follows it can be entered, since its range is not known.
	stuck   map[int32]bool
	workers []ledger.Builder // one a goroutine
}

// ready is a record of decisions made ready to be entered.
type ready struct {
	entry ledger.Entry
	topic string // of its source
	at    ledger.Place
	err   error // why it cannot be read
}

// open begins where the ledger ends.
func (s *Sequencer) open(ctx context.Context, adm *kadm.Client) (*input, error) {
	in := &input{s: s, adm: adm, sequence: ledger.NewSequence(), waiting: map[int32][]ready{}, since: map[int32]time.Time{}, stuck: map[int32]bool{}, workers: make([]ledger.Builder, runtime.GOMAXPROCS(0))}
	l := s.ledger
	l.mu.RLock()
	state, err := l.fold.sequence.MarshalJSON()
	l.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if err := in.sequence.UnmarshalJSON(state); err != nil {
		return nil, err
	}
	if in.chain, err = s.chainAt(ctx, in.sequence.ControlNext()); err != nil {
		return nil, err
	}
	topics, err := kafka.Describe(ctx, adm, s.topics.Decisions())
	if err != nil {
		return nil, err
	}
	from := map[partition]int64{{s.topics.Control(), 0}: in.sequence.ControlNext()}
	for number := range topics[s.topics.Decisions()].Partitions {
		from[partition{s.topics.Decisions(), int32(number)}] = in.sequence.LogNext(int32(number))
	}
	s.metrics.unreadable.Set(0) // until they are met again
	in.client, err = follow(s.engine, from, kgo.FetchMaxWait(time.Second))
	return in, err
}

func (in *input) close() { in.client.Close() }

// chainAt folds the chain of control events up to an offset, which the ledger has
// entered already.
func (s *Sequencer) chainAt(ctx context.Context, end int64) (ledger.Chain, error) {
	t, err := openTail(s.engine, partition{s.topics.Control(), 0}, 0, end)
	if err != nil {
		return ledger.Chain{}, err
	}
	defer t.close()
	var b ledger.ControlBuilder
	b.Begin(ledger.Chain{})
	for {
		r, err := t.read(ctx)
		if errors.Is(err, io.EOF) {
			_, chain := b.End()
			return chain, nil
		}
		if err == nil {
			err = s.add(ctx, &b, r)
		}
		if err != nil {
			return ledger.Chain{}, err
		}
	}
}

// most bounds what is made ready at once, in records.
const most = 500

// poll returns the next entries' lines, in order; none if nothing came within a
// moment.
func (in *input) poll(ctx context.Context) ([][]byte, error) {
	fetches := in.client.PollRecords(ctx, most)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if fetches.IsClientClosed() {
		return nil, errors.New("the reader was closed")
	}
	for _, e := range fetches.Errors() {
		return nil, fmt.Errorf("reading %s/%d: %w", e.Topic, e.Partition, e.Err)
	}
	var events, batches []*kgo.Record
	fetches.EachRecord(func(r *kgo.Record) {
		switch {
		case r.Attrs.IsControl():
		case r.Topic == in.s.topics.Control():
			events = append(events, r)
		default:
			batches = append(batches, r)
		}
	})
	for i, m := range in.prepare(batches) {
		number := m.at.Partition
		switch {
		case in.stuck[number]:
		case m.err != nil:
			in.stuck[number] = true
			in.s.metrics.unreadable.Set(float64(len(in.stuck)))
			in.s.log.Error("a record of decisions cannot be read, so neither it nor what follows it in its partition comes into the ledger; "+
				"deliveries are held in time: see 'A record that cannot be read' in docs/guides/audit-the-ledger.md",
				"partition", number, "offset", m.at.Offset, "sha256", fmt.Sprintf("%x", sha256.Sum256(batches[i].Value)), "bytes", len(batches[i].Value), "err", m.err)
		default:
			in.waiting[number] = append(in.waiting[number], m)
		}
	}
	var out [][]byte
	if len(events) > 0 {
		e, err := in.control(ctx, events)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return in.release(ctx, out)
}

// Judge knows what became of each control event, by the registry's own fold.
type Judge interface {
	// Fate waits until the event at an offset was folded. One that is neither
	// accepted nor refused had lost to another writer. The error is why the
	// registry is folded no further, or the context's.
	Fate(ctx context.Context, offset int64) (accepted, refused bool, err error)
}

// add adds a control event as what the registry took it for. The ledger tells by
// its own chain which events were accepted; where the two do not agree, one of
// them was not given an event that the other was, and nothing may be entered.
func (s *Sequencer) add(ctx context.Context, b *ledger.ControlBuilder, r *kgo.Record) error {
	accepted, refused, err := s.judge.Fate(ctx, r.Offset)
	if err != nil {
		return err
	}
	before := b.Accepted()
	if _, err := b.Add(r.Offset, r.Value, refused); err != nil {
		return err
	}
	if took := b.Accepted() > before; took != accepted {
		return fmt.Errorf("the control event at offset %d: the registry says accepted is %t, and by what the ledger's sequencer read before it, it is %t; it is read again", r.Offset, accepted, took)
	}
	return nil
}

// control makes the entry of control events.
func (in *input) control(ctx context.Context, events []*kgo.Record) ([]byte, error) {
	var b ledger.ControlBuilder
	b.Begin(in.chain)
	for _, r := range events {
		if err := in.s.add(ctx, &b, r); err != nil {
			return nil, err
		}
	}
	e, chain := b.End()
	if err := in.sequence.Accept(&e); err != nil {
		return nil, err
	}
	in.chain = chain
	return ledger.AppendEntry(nil, &e), nil
}

// prepare makes batches ready, side by side, and keeps their order.
func (in *input) prepare(batches []*kgo.Record) []ready {
	made := make([]ready, len(batches))
	var all sync.WaitGroup
	for w := range in.workers {
		all.Go(func() {
			for i := w; i < len(batches); i += len(in.workers) {
				m := &made[i]
				m.at = ledger.Place{Partition: batches[i].Partition, Offset: batches[i].Offset}
				m.entry, m.err = Lines(&in.workers[w], m.at, batches[i].Value, nil)
				m.topic = in.s.topics.Source(string(m.entry.Batch.Dataset))
			}
		})
	}
	all.Wait()
	return made
}

// release returns the lines of the batches whose revision the ledger has reached.
func (in *input) release(ctx context.Context, out [][]byte) ([][]byte, error) {
	for number, all := range in.waiting {
		n := 0
		for ; n < len(all) && all[n].entry.Revision <= in.sequence.Revision(); n++ {
			if err := in.accept(ctx, &all[n]); err != nil {
				return nil, err
			}
			out = append(out, ledger.AppendEntry(nil, &all[n].entry))
		}
		if in.waiting[number] = all[n:]; n == len(all) {
			delete(in.waiting, number)
			delete(in.since, number)
			continue
		}
		// Control comes before what rests on it, within a moment. More than that
		// many, and memory would be theirs.
		const patience, many = 10 * time.Second, 100_000
		first := &all[n].entry
		switch since, known := in.since[number]; {
		case !known:
			in.since[number] = time.Now()
		case !since.IsZero() && time.Since(since) > patience:
			in.since[number] = time.Time{}
			in.s.log.Error("decisions name a revision of the registry that control does not reach, so they and what follows them in their partition come into no ledger",
				"partition", number, "offset", first.Batch.At.Offset, "revision", first.Revision, "control", in.sequence.Revision())
		}
		if len(in.waiting[number]) > many {
			return nil, fmt.Errorf("decisions at %d/%d name revision %d, which control does not reach", number, first.Batch.At.Offset, first.Revision)
		}
	}
	return out, nil
}

// accept puts a record of decisions in its place. Of batches, offsets that are passed over must be gone from
// the source, and overlaps are the embedded engine's alone.
func (in *input) accept(ctx context.Context, r *ready) error {
	if r.entry.Type == ledger.SinglesEntry { // they stand in no range
		return in.sequence.Accept(&r.entry)
	}
	b := &r.entry.Batch
	next := in.sequence.Next(b.TopicID, b.Partition)
	switch {
	case b.First < next && in.s.engine.Embedded():
		in.sequence.Label(&r.entry)
		in.s.log.Warn("decisions were made twice for some records, after an unclean stop; the ledger says so",
			"dataset", b.Dataset, "partition", b.Partition, "first", b.First, "expected", next)
	case b.First > next:
		starts, err := kafka.Starts(ctx, in.adm, r.topic)
		if err != nil {
			return err
		}
		if start, ok := starts[r.topic][b.Partition]; ok && start >= b.First {
			in.sequence.Label(&r.entry)
		}
	}
	return in.sequence.Accept(&r.entry)
}
