package evidence

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger"
)

// fold is one reading of the topics ledger and checkpoints, each from its start.
type fold struct {
	topics kafka.Topics
	policy *ledger.Policy
	log    *slog.Logger
	now    func() time.Time
	due    *due

	sequence *ledger.Sequence
	hashes   *ledger.MemHashes
	tree     *ledger.Tree
	entries  int64             // offset in the topic ledger after the last one folded
	heads    int64             // offset in the topic checkpoints after the last one folded
	early    []signed          // heads over more entries than were read yet
	head     Head              // the newest that counts
	latest   ledger.Checkpoint // the newest, counting or not
}

// signed is a head as it was published.
type signed struct {
	ledger.Checkpoint
	note      []byte
	cosigners int
	offset    int64
}

// anew begins a reading that has read nothing, and tells d what comes under heads.
func (l *Ledger) anew(d *due) *fold {
	f := &fold{topics: l.topics, policy: l.policy, log: l.log, now: l.now, due: d, sequence: ledger.NewSequence(), hashes: &ledger.MemHashes{}}
	f.tree, _ = ledger.NewTree(f.hashes, 0) // an empty tree cannot fail
	return f
}

// lostError is records of one of the two topics that the reader was not given.
type lostError struct{ from, to int64 } // offsets; to is the first that was given

func (e *lostError) Error() string {
	return fmt.Sprintf("offsets %d to %d were not read, and no aborted transaction is where they were", e.from, e.to-1)
}

// take folds one record of either topic. An error is a contradiction, and leaves
// the reading as it was before the record.
func (f *fold) take(r *kgo.Record) error {
	take, at := f.takeEntry, &f.entries
	if r.Topic == f.topics.Checkpoints() {
		take, at = f.takeHead, &f.heads
	}
	if r.Offset < *at {
		return nil
	}
	err := f.follows(r, *at)
	if err != nil {
		err = placed(r.Topic, r.Offset, err)
	} else if !r.Attrs.IsControl() {
		err = take(r)
	}
	if err != nil {
		return err
	}
	*at = r.Offset + 1
	return nil
}

// placed says at which record an error is. It says no more, so that two readings
// of one contradiction say the same.
func placed(topic string, offset int64, err error) error {
	return fmt.Errorf("topic %s, offset %d: %w", topic, offset, err)
}

// follows says whether a record may be the next. Both topics are kept for ever
// and written by one writer at a time, so the only offsets that a reader of
// committed records is not given are those of an aborted transaction; and its
// marker, which a reader is given, stands right behind them.
func (f *fold) follows(r *kgo.Record, at int64) error {
	if r.Offset == at {
		return nil
	}
	var key kmsg.ControlRecordKey
	if r.Attrs.IsControl() && key.ReadFrom(r.Key) == nil && key.Type == kmsg.ControlRecordKeyTypeAbort {
		return nil
	}
	return &lostError{at, r.Offset}
}

func (f *fold) takeEntry(r *kgo.Record) error {
	e, err := ledger.ParseEntry(r.Value)
	if err == nil {
		err = f.sequence.Accept(&e)
	}
	if err == nil {
		err = f.tree.Append(tlog.RecordHash(r.Value))
	}
	if err != nil {
		return placed(r.Topic, r.Offset, err)
	}
	if e.Type != ledger.ControlEntry {
		f.due.entered(f.tree.Size(), e.Batch.At.Partition, e.Batch.At.Offset)
	}
	for len(f.early) > 0 && f.early[0].Size <= f.tree.Size() {
		if err := f.count(f.early[0]); err != nil {
			return err
		}
		f.early = f.early[1:]
	}
	return nil
}

// takeHead takes in a published head. What is not signed by the log is nobody's,
// and passed over loudly: whoever may write to the topic could else stop us.
func (f *fold) takeHead(r *kgo.Record) error {
	c, cosigners, err := f.policy.Open(r.Value)
	if err != nil {
		f.log.Error("a head in the topic checkpoints is not signed by this ledger's key, and is passed over", "err", err)
		return nil
	}
	s := signed{c, r.Value, len(cosigners), r.Offset}
	if c.Size > f.tree.Size() || len(f.early) > 0 { // read ahead of its entries; or they are gone
		f.early = append(f.early, s)
		return nil
	}
	return f.count(s)
}

// count holds a head to the entries, and takes it if it is newer.
func (f *fold) count(s signed) error {
	root, err := f.rootAt(s.Size)
	if err == nil && root != s.Root {
		err = &ledger.Fault{Kind: ledger.WrongRoot, Entry: s.Size - 1, Line: -1, Checkpoint: -1,
			Err: errors.New("the head that was signed is not that of the entries that stand here: entries were changed, or the key signed two ledgers")}
	}
	if err != nil {
		return placed(f.topics.Checkpoints(), s.offset, err)
	}
	if s.Size > f.latest.Size {
		f.latest = s.Checkpoint
	}
	if s.cosigners >= f.policy.Need && s.Size >= f.head.Size {
		f.head = Head{s.Checkpoint, s.note, f.now()}
		f.due.counted(s.Size)
	}
	return nil
}

// rootAt is the root of the tree's first entries.
func (f *fold) rootAt(size int64) (tlog.Hash, error) {
	if size == f.tree.Size() {
		return f.tree.Root(), nil
	}
	return tlog.TreeHash(size, f.hashes)
}

// leaf is the hash of an entry's line.
func (f *fold) leaf(entry int64) (tlog.Hash, error) {
	h, err := f.hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, entry)})
	if err != nil {
		return tlog.Hash{}, err
	}
	return h[0], nil
}

// parts is the first entry that two readings of one topic do not share.
func (f *fold) parts(o *fold) int64 {
	both := min(f.tree.Size(), o.tree.Size())
	for n := range both {
		a, err := f.leaf(n)
		b, other := o.leaf(n)
		if err != nil || other != nil || a != b {
			return n
		}
	}
	return both
}

// reading says in few words what was read, for a log.
func (f *fold) reading() slog.Value {
	return slog.GroupValue(slog.Int64("ledger_offset", f.entries), slog.Int64("checkpoints_offset", f.heads),
		slog.Int64("entries", f.tree.Size()), slog.String("root", f.tree.Root().String()))
}

// same says whether another reading broke at the same contradiction, after the
// same entries. Of two topics one may have been read further than the other, so
// how many entries had been read proves nothing.
func (f *fold) same(o *fold, mine, its error) bool {
	return mine.Error() == its.Error() && f.parts(o) == min(f.tree.Size(), o.tree.Size())
}

// adopt takes over what another reading found to be under heads.
func (d *due) adopt(o *due) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uncounted, d.reached = slices.Clone(o.uncounted), o.reached
	d.settle()
}
