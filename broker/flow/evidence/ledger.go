package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger"
)

// Ledger is the fold of the topics ledger and checkpoints, kept current. Every
// instance folds all of both.
type Ledger struct {
	topics kafka.Topics
	client *kgo.Client
	policy *ledger.Policy
	log    *slog.Logger
	now    func() time.Time
	done   chan struct{}

	mu       sync.RWMutex // guards all below
	sequence *ledger.Sequence
	hashes   *ledger.MemHashes
	tree     *ledger.Tree
	entries  int64             // offset in the topic ledger after the last one folded
	heads    int64             // offset in the topic checkpoints after the last one folded
	early    []signed          // heads over more entries than were read yet
	chain    ledger.Chain      // of control, after the latest control entry
	head     Head              // the newest that counts
	latest   ledger.Checkpoint // the newest, counting or not
	changed  chan struct{}     // closed and replaced at each fold
	broken   bool              // what was read contradicts itself
	regress  error             // what stands there does not continue what was signed
	err      error             // why folding stopped

	due due
}

// signed is a head as it was published.
type signed struct {
	ledger.Checkpoint
	note      []byte
	cosigners int
}

// Head is a signed head of the ledger.
type Head struct {
	ledger.Checkpoint
	// Note is the text with its signatures, as published.
	Note []byte
	// Seen is when this instance read it.
	Seen time.Time
}

// Open folds both topics up to their present ends, and goes on folding until ctx
// ends. The topics must exist. stopAfter is for how long decisions may be without
// a head that counts; 0 is for ever.
func Open(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, policy *ledger.Policy, stopAfter time.Duration, log *slog.Logger) (*Ledger, error) {
	client, err := follow(engine, map[partition]int64{{topics.Ledger(), 0}: 0, {topics.Checkpoints(), 0}: 0}, kgo.FetchMaxWait(time.Second))
	if err != nil {
		return nil, err
	}
	l := &Ledger{topics: topics, client: client, policy: policy, log: log, now: time.Now, done: make(chan struct{}),
		sequence: ledger.NewSequence(), hashes: &ledger.MemHashes{}, changed: make(chan struct{})}
	l.due = due{after: stopAfter, now: l.now}
	if l.tree, err = ledger.NewTree(l.hashes, 0); err != nil {
		client.Close()
		return nil, err
	}
	ends, err := kafka.CommittedEnds(ctx, kadm.NewClient(client), topics.Ledger(), topics.Checkpoints())
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("reading where topics %s and %s end: %w", topics.Ledger(), topics.Checkpoints(), err)
	}
	go l.follow(ctx)
	if err := l.await(ctx, func() bool { return l.entries >= ends[topics.Ledger()][0] && l.heads >= ends[topics.Checkpoints()][0] }); err != nil {
		l.Close()
		return nil, err
	}
	if err := l.backlog(ctx, engine); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// backlog finds what in each partition has waited longest for its head: it may
// have since before this instance began.
func (l *Ledger) backlog(ctx context.Context, engine *kafka.Engine) error {
	adm := kadm.NewClient(l.client)
	starts, err := kafka.Starts(ctx, adm, l.topics.Decisions())
	if err != nil {
		return fmt.Errorf("reading where topic %s begins: %w", l.topics.Decisions(), err)
	}
	ends, err := kafka.CommittedEnds(ctx, adm, l.topics.Decisions())
	if err != nil {
		return fmt.Errorf("reading where topic %s ends: %w", l.topics.Decisions(), err)
	}
	var waiting []decision
	for number, end := range ends[l.topics.Decisions()] {
		from := max(starts[l.topics.Decisions()][number], l.due.covered(number))
		t, err := openTail(engine, partition{l.topics.Decisions(), number}, from, end)
		if err != nil {
			return err
		}
		first, err := t.read(ctx)
		t.close()
		switch {
		case err == nil:
			waiting = append(waiting, decision{number, first.Offset, first.Timestamp})
		case !errors.Is(err, io.EOF):
			return err
		}
	}
	slices.SortFunc(waiting, func(a, b decision) int { return a.since.Compare(b.since) })
	for _, w := range waiting {
		l.due.decidedAt(w.partition, w.offset, w.since)
	}
	return nil
}

// Close stops folding.
func (l *Ledger) Close() {
	l.client.Close()
	<-l.done
}

// Err is why folding stopped, or nil. A ledger that contradicts itself is folded
// no further: that is a *ledger.Fault or one of the errors of ledger.Sequence.
func (l *Ledger) Err() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.err
}

// Changed is closed at the next fold.
func (l *Ledger) Changed() <-chan struct{} {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.changed
}

// Head is the newest head that counts: signed by the log, and cosigned by as many
// witnesses as are needed. It is of size 0 where there is none yet.
func (l *Ledger) Head() Head {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.head
}

// Size is how many entries were folded.
func (l *Ledger) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tree.Size()
}

// Covered returns when a head that counts covers the record of decisions at an
// offset, and so all before it in its partition.
func (l *Ledger) Covered(ctx context.Context, partition int32, offset int64) error {
	return l.await(ctx, func() bool { return l.due.covered(partition) > offset })
}

// await returns when ready says so. It is called with the lock held for reading.
func (l *Ledger) await(ctx context.Context, ready func() bool) error {
	for {
		l.mu.RLock()
		ok, err, changed := ready(), l.err, l.changed
		l.mu.RUnlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Ledger) follow(ctx context.Context) {
	defer close(l.done)
	for {
		fetches := l.client.PollFetches(ctx)
		var final, passing error
		if fetches.IsClientClosed() || ctx.Err() != nil {
			final = errors.New("the ledger's reader was closed")
		}
		for _, e := range fetches.Errors() {
			err := fmt.Errorf("reading topic %s: %w", e.Topic, e.Err)
			var lost *kgo.ErrDataLoss // the client would go on behind what is gone
			if errors.Is(e.Err, kerr.OffsetOutOfRange) || errors.As(e.Err, &lost) {
				final = errors.Join(final, err)
			} else {
				passing = err
			}
		}
		l.mu.Lock()
		broken := false
		fetches.EachRecord(func(r *kgo.Record) {
			if final == nil {
				if final = l.fold(r); final != nil {
					broken = true
				}
			}
		})
		l.err, l.broken = final, broken
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
		if final != nil {
			if ctx.Err() == nil && !fetches.IsClientClosed() {
				l.log.Error("the ledger is followed no further: deliveries are held", "err", final)
			}
			return
		}
		if passing != nil {
			l.log.Warn("the ledger cannot be read for now", "err", passing)
			sleep(ctx, time.Second)
		}
	}
}

// fold takes in one record of either topic.
func (l *Ledger) fold(r *kgo.Record) error {
	take, at := l.foldEntry, &l.entries
	if r.Topic == l.topics.Checkpoints() {
		take, at = l.foldHead, &l.heads
	}
	if r.Offset < *at {
		return nil
	}
	if !r.Attrs.IsControl() {
		if err := take(r.Value); err != nil {
			return fmt.Errorf("topic %s, offset %d: %w", r.Topic, r.Offset, err)
		}
	}
	*at = r.Offset + 1
	return nil
}

func (l *Ledger) foldEntry(value []byte) error {
	e, err := ledger.ParseEntry(value)
	if err != nil {
		return err
	}
	if err := l.sequence.Accept(&e); err != nil {
		return err
	}
	if err := l.tree.Append(tlog.RecordHash(value)); err != nil {
		return err
	}
	if e.Type == ledger.BatchEntry {
		l.due.entered(l.tree.Size(), e.Batch.At.Partition, e.Batch.At.Offset)
	}
	for len(l.early) > 0 && l.early[0].Size <= l.tree.Size() {
		if err := l.count(l.early[0]); err != nil {
			return err
		}
		l.early = l.early[1:]
	}
	return nil
}

// foldHead takes in a published head. What is not signed by the log is nobody's,
// and passed over loudly: whoever may write to the topic could else stop us.
func (l *Ledger) foldHead(note []byte) error {
	c, cosigners, err := l.policy.Open(note)
	if err != nil {
		l.log.Error("a head in the topic checkpoints is not signed by this ledger's key, and is passed over", "err", err)
		return nil
	}
	s := signed{c, note, len(cosigners)}
	if c.Size > l.tree.Size() || len(l.early) > 0 { // read ahead of its entries; or they are gone
		l.early = append(l.early, s)
		return nil
	}
	return l.count(s)
}

// count holds a head to the entries, and takes it if it is newer.
func (l *Ledger) count(s signed) error {
	root, err := l.rootAt(s.Size)
	if err != nil {
		return err
	}
	if root != s.Root {
		return &ledger.Fault{Kind: ledger.WrongRoot, Entry: s.Size - 1, Line: -1, Checkpoint: l.heads,
			Err: errors.New("the head that was signed is not that of the entries that stand here: entries were changed, or the key signed two ledgers")}
	}
	if s.Size > l.latest.Size {
		l.latest = s.Checkpoint
	}
	if s.cosigners >= l.policy.Need && s.Size >= l.head.Size {
		l.head = Head{s.Checkpoint, s.note, l.now()}
		l.due.counted(s.Size)
	}
	return nil
}

// rootAt is the root of the tree's first entries.
func (l *Ledger) rootAt(size int64) (tlog.Hash, error) {
	if size == l.tree.Size() {
		return l.tree.Root(), nil
	}
	return tlog.TreeHash(size, l.hashes)
}

// Continues says why the ledger as folded does not continue what was signed
// before with this key, or nil. It is to be asked where no transaction is open in
// the ledger: what that holds may be what was signed.
func (l *Ledger) Continues(key *Key) error {
	last, err := key.last()
	if err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.early) > 0 {
		return &RegressError{Signed: l.early[len(l.early)-1].Size, Have: l.tree.Size(), Note: l.topics.Checkpoints()}
	}
	if last.Size > l.tree.Size() {
		return &RegressError{Signed: last.Size, Have: l.tree.Size(), Note: key.head.String()}
	}
	if last.Size > 0 {
		root, err := l.rootAt(last.Size)
		if err != nil {
			return err
		}
		if root != last.Root {
			return &RegressError{Signed: last.Size, Have: l.tree.Size(), Note: key.head.String()}
		}
	}
	return nil
}

// setBack notes that the ledger does not continue what was signed; other errors
// are nothing to hold deliveries for yet, and nil says that it does.
func (l *Ledger) setBack(err error) {
	var regress *RegressError
	if err != nil && !errors.As(err, &regress) {
		return
	}
	l.mu.Lock()
	l.regress = err
	l.mu.Unlock()
}

// Late says why deliveries must stop, or nil: the ledger contradicts itself or what
// was signed, or what was decided has been without a head that counts for too long.
func (l *Ledger) Late() error {
	l.mu.RLock()
	err, broken, regress := l.err, l.broken, l.regress
	l.mu.RUnlock()
	switch {
	case broken:
		return fmt.Errorf("the ledger is at fault: %w", err)
	case regress != nil:
		return fmt.Errorf("the ledger is at fault: %w", regress)
	}
	return l.due.late(err)
}

// Decided notes that decisions were committed up to an offset of a partition of
// the topic decisions.
func (l *Ledger) Decided(partition int32, offset int64) { l.due.decided(partition, offset) }

// Age is how long the oldest decision that this instance knows of has waited for
// a head that counts; 0 where none waits.
func (l *Ledger) Age() time.Duration { return l.due.age() }
