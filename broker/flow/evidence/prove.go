package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger"
)

// Wanted is which decision a proof is asked for: by its id, or, of the stream's, by
// the record's position and the subscription. Where somebody decided again under the
// same id, as a backfill or a door may, it is the first.
type Wanted struct {
	ID broker.DecisionID // zero: by what follows
	// At is where its batch stands in the topic of decisions, where that is known:
	// then no other is read.
	At *ledger.Place

	Dataset      broker.DatasetID
	Partition    int32
	Offset       int64
	Subscription broker.SubscriptionID
}

// may says whether a record of decisions may hold the decision.
func (w *Wanted) may(e *ledger.Entry) bool {
	b := &e.Batch
	if w.At != nil {
		return b.At == *w.At
	}
	if !w.ID.IsZero() {
		return b.Decisions > 0
	}
	return e.Type == ledger.BatchEntry && b.Dataset == w.Dataset && b.Partition == w.Partition && b.First <= w.Offset && w.Offset <= b.Last
}

func (w *Wanted) is(d *broker.Decision) bool {
	if !w.ID.IsZero() {
		return d.ID == w.ID
	}
	return d.Position.Offset == w.Offset && d.Subscription == w.Subscription
}

// ErrNotDecided is that no decision in the ledger is the one that was asked for.
var ErrNotDecided = errors.New("no decision in the ledger is that one")

// AwaitsHeadError is a decision that is in the ledger, and under no head yet that
// the policy believes.
type AwaitsHeadError struct {
	Line    []byte // the decision's
	Entry   int64
	Covered int64 // entries under the newest head
}

func (e *AwaitsHeadError) Error() string {
	return fmt.Sprintf("the decision is in the ledger, and under no head yet that counts: it is in entry %d, and the newest head covers %d; try again in some seconds", e.Entry, e.Covered)
}

// Prove makes the proof of a decision, from a broker's topics, under the newest head
// that the policy believes. progress, if set, is told how many entries were read.
func Prove(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, policy *ledger.Policy, want Wanted, progress func(entries int64)) (*ledger.Proof, error) {
	adm, err := engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	stand := map[string]int64{}
	for _, topic := range []string{topics.Checkpoints(), topics.Ledger()} {
		one, err := kafka.CommittedEnds(ctx, adm, topic)
		if err != nil {
			return nil, notThere(err, topic)
		}
		stand[topic] = one[topic][0]
	}
	var note []byte
	var size int64
	if err := each(ctx, engine, partition{topics.Checkpoints(), 0}, 0, stand[topics.Checkpoints()], func(r *kgo.Record) error {
		// What nobody believes is no head; the newest one that counts will do.
		if c, _, err := policy.OpenWitnessed(r.Value); err == nil && c.Size >= size {
			note, size = r.Value, c.Size
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var hashes ledger.MemHashes
	tree, err := ledger.NewTree(&hashes, 0)
	if err != nil {
		return nil, err
	}
	var found, value []byte
	var index, at int64
	if err := each(ctx, engine, partition{topics.Ledger(), 0}, 0, stand[topics.Ledger()], func(r *kgo.Record) error {
		e, err := ledger.ParseEntry(r.Value)
		if err != nil {
			return err
		}
		if found == nil && e.Type != ledger.ControlEntry && want.may(&e) {
			v, err := one(ctx, engine, partition{topics.Decisions(), e.Batch.At.Partition}, e.Batch.At.Offset)
			if err != nil {
				return err
			}
			i, err := find(v, &want)
			if err != nil {
				return err
			}
			if i > 0 {
				found, value, index, at = r.Value, v, i, tree.Size()
			}
		}
		if progress != nil {
			progress(tree.Size())
		}
		return tree.Append(tlog.RecordHash(r.Value))
	}); err != nil {
		return nil, err
	}
	switch {
	case found == nil:
		return nil, ErrNotDecided
	}
	e, err := ledger.ParseEntry(found)
	if err != nil {
		return nil, err
	}
	if at >= size {
		awaits := &AwaitsHeadError{Entry: at, Covered: size}
		for line := range linesOf(e.Batch.At, value) {
			if index--; index < 0 {
				awaits.Line = slices.Clone(line)
				break
			}
		}
		return nil, awaits
	}
	return ledger.BuildProof(policy, index, linesOf(e.Batch.At, value), found, at, &hashes, note)
}

// find is the number of a decision's line in its batch; 0 where it is not there.
func find(value []byte, want *Wanted) (index int64, err error) {
	n := int64(0)
	err = decode(value, func(d *broker.Decision) error {
		if n++; want.is(d) {
			index = n
			return io.EOF
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return index, err
}

// linesOf are a batch's lines.
func linesOf(at ledger.Place, value []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var b ledger.Builder
		stopped := errors.New("stopped")
		_, err := Lines(&b, at, value, func(line []byte) error {
			if !yield(line, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(nil, err)
		}
	}
}

// each calls fn with each committed record of a partition, from an offset to an end.
func each(ctx context.Context, engine *kafka.Engine, p partition, from, end int64, fn func(*kgo.Record) error) error {
	t, err := openTail(engine, p, from, end)
	if err != nil {
		return err
	}
	defer t.close()
	for {
		r, err := t.read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = fn(r)
		}
		if err != nil {
			return err
		}
	}
}

// one reads one record.
func one(ctx context.Context, engine *kafka.Engine, p partition, offset int64) (value []byte, err error) {
	err = each(ctx, engine, p, offset, offset+1, func(r *kgo.Record) error {
		value = r.Value
		return nil
	})
	if err == nil && value == nil {
		err = fmt.Errorf("%s: nothing stands at offset %d, where the ledger says decisions do", p, offset)
	}
	return value, err
}

// Export copies a broker's ledger, as far as it stands, to whoever keeps it.
func Export(src *Source, entry, line, head func([]byte) error) error {
	if err := ExportEntries(src, math.MaxInt64, entry, line); err != nil {
		return err
	}
	for {
		h, err := src.Checkpoint()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = head(h)
		}
		if err != nil {
			return err
		}
	}
}

// ExportEntries copies so many entries, or all that there are.
func ExportEntries(src *Source, most int64, entry, line func([]byte) error) error {
	for range most {
		e, err := src.Entry()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = entry(e)
		}
		for err == nil {
			var l []byte
			if l, err = src.Line(); err == nil {
				err = line(l)
			}
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}
