package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Ledger is the fold of the topics ledger and checkpoints, kept current. Every
// instance folds all of both.
type Ledger struct {
	engine *kafka.Engine
	topics kafka.Topics
	policy *ledger.Policy
	log    *slog.Logger
	now    func() time.Time
	stop   context.CancelFunc
	done   chan struct{}

	misread atomic.Int64 // readings that a second one proved wrong

	mu      sync.RWMutex  // guards all below
	fold    *fold         // written by follow alone
	changed chan struct{} // closed and replaced at each fold
	doubt   error         // what was read may be wrong, and is being read once more
	asked   error         // why somebody else asked that it be; taken by follow
	wake    func()        // ends follow's present poll
	rereads int64         // readings from the start that were asked for and done
	broken  bool          // it does so however often it is read
	regress error         // what stands there does not continue what was signed
	err     error         // why folding stopped

	due due
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
	l := &Ledger{engine: engine, topics: topics, policy: policy, log: log, now: time.Now, done: make(chan struct{}), changed: make(chan struct{})}
	l.due = due{after: stopAfter, now: l.now}
	l.fold = l.anew(&l.due)
	adm, err := engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	ends, err := kafka.CommittedEnds(ctx, adm, topics.Ledger(), topics.Checkpoints())
	if err != nil {
		return nil, fmt.Errorf("reading where topics %s and %s end: %w", topics.Ledger(), topics.Checkpoints(), err)
	}
	client, err := l.reader()
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(ctx)
	l.stop = stop
	go l.follow(following, client)
	if err := l.await(ctx, func() bool {
		return l.fold.entries >= ends[topics.Ledger()][0] && l.fold.heads >= ends[topics.Checkpoints()][0]
	}); err != nil {
		l.Close()
		return nil, err
	}
	if err := l.backlog(ctx, engine, adm); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// reader reads both topics from their starts.
func (l *Ledger) reader() (*kgo.Client, error) {
	return follow(l.engine, map[partition]int64{{l.topics.Ledger(), 0}: 0, {l.topics.Checkpoints(), 0}: 0}, kgo.FetchMaxWait(time.Second))
}

// backlog finds what in each partition has waited longest for its head: it may
// have since before this instance began.
func (l *Ledger) backlog(ctx context.Context, engine *kafka.Engine, adm *kadm.Client) error {
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
	l.stop()
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
	return l.fold.head
}

// Size is how many entries were folded.
func (l *Ledger) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.fold.tree.Size()
}

// Covered returns when a head that counts covers the record of decisions at an
// offset, and so all before it in its partition.
func (l *Ledger) Covered(ctx context.Context, partition int32, offset int64) error {
	return l.await(ctx, func() bool { return l.due.covered(partition) > offset })
}

// signable says whether there is something to sign, and no doubt about it. It is
// called with the lock held for reading.
func (l *Ledger) signable() bool {
	return l.doubt == nil && l.fold.tree.Size() > l.fold.head.Size
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

// follow folds what client reads, until ctx ends or folding cannot go on. It owns
// the client.
func (l *Ledger) follow(ctx context.Context, client *kgo.Client) {
	defer close(l.done)
	defer func() { client.Close() }()
	for {
		polling, wake := context.WithCancel(ctx)
		l.mu.Lock()
		if l.wake = wake; l.asked != nil {
			wake()
		}
		l.mu.Unlock()
		fetches := client.PollFetches(polling)
		woken := polling.Err() != nil
		wake()
		var final, passing error
		if ctx.Err() != nil {
			final = errors.New("the ledger's reader was closed")
		} else {
			final, passing = readErrors(fetches)
		}
		if woken {
			passing = nil // the poll that was ended
		}
		var broke error
		asked := false
		l.tell(func() {
			fetches.EachRecord(func(r *kgo.Record) {
				if final == nil && broke == nil {
					broke = l.fold.take(r)
				}
			})
			if broke == nil && l.asked != nil {
				broke, asked = l.asked, true
			}
			l.err, l.doubt, l.asked = final, broke, nil
		})
		if broke != nil && final == nil {
			if right, reader, err := l.again(ctx, broke, asked); right != nil {
				client.Close()
				client = reader
				l.due.adopt(right.due)
				right.due = &l.due
				l.tell(func() {
					l.rereads++
					l.fold, l.doubt = right, nil
				})
			} else {
				final = err
				l.tell(func() { l.err, l.broken, l.doubt = final, ctx.Err() == nil, nil })
			}
		}
		if final != nil {
			if ctx.Err() == nil {
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

// tell changes what others see, and wakes them.
func (l *Ledger) tell(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

// readErrors are a fetch's errors: those after which nothing may be read any more,
// and those that pass.
func readErrors(fetches kgo.Fetches) (final, passing error) {
	if fetches.IsClientClosed() {
		return errors.New("the ledger's reader was closed"), nil
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
	return final, passing
}

// again reads both topics once more from their starts, after a reading that broke:
// what is wrong may be the reading. Where the second one breaks as well, nothing
// is right and err says why. Else it is right, it goes on with its own reader, and
// the first is reported for what it was.
//
// Where it was asked for, the first reading may turn out to have been right as well.
//
// Nothing is signed meanwhile, and deliveries go on: they are held for what stands
// in the topics, not for what a client made of it.
func (l *Ledger) again(ctx context.Context, broke error, asked bool) (right *fold, reader *kgo.Client, err error) {
	l.log.Warn("the ledger as it was read contradicts itself or what is known of it; it is read once more from its start", "err", broke, "reading", l.fold.reading())
	adm, err := l.engine.Admin()
	if err != nil {
		return nil, nil, errors.Join(broke, err)
	}
	defer adm.Close()
	var ends map[string]map[int32]int64
	for {
		if ends, err = kafka.CommittedEnds(ctx, adm, l.topics.Ledger(), l.topics.Checkpoints()); err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil, nil, errors.Join(broke, ctx.Err())
		}
		l.log.Warn("the ledger cannot be read once more for now", "err", err)
		sleep(ctx, time.Second)
	}
	if reader, err = l.reader(); err != nil {
		return nil, nil, errors.Join(broke, err)
	}
	first, second := l.fold, l.anew(&due{now: l.now})
	second.log = slog.New(slog.DiscardHandler) // it was all said the first time
	var then int64                             // entries that it had where the first is now
	for second.entries < ends[l.topics.Ledger()][0] || second.heads < ends[l.topics.Checkpoints()][0] {
		fetches := reader.PollFetches(ctx)
		final, passing := readErrors(fetches)
		if ctx.Err() != nil {
			final = ctx.Err()
		}
		var broken error
		fetches.EachRecord(func(r *kgo.Record) {
			if final == nil && broken == nil {
				broken = second.take(r)
			}
			if second.entries <= first.entries {
				then = second.tree.Size()
			}
		})
		switch {
		case final != nil:
			reader.Close()
			return nil, nil, errors.Join(broke, final)
		case broken != nil:
			reader.Close()
			if !first.same(second, broke, broken) {
				l.misread.Add(1)
				l.log.Error("the ledger contradicts itself in two ways, read twice: disks, network or Kafka may be faulty too",
					"first", first.reading(), "first_err", broke, "second", second.reading(), "second_err", broken, "differ_at_entry", first.parts(second))
				return nil, nil, fmt.Errorf("%w; read once more from its start, it broke otherwise: %w", broke, broken)
			}
			return nil, nil, fmt.Errorf("%w (read twice, with one result)", broke)
		case passing != nil:
			l.log.Warn("the ledger cannot be read once more for now", "err", passing)
			sleep(ctx, time.Second)
		}
	}
	second.log = l.log
	if asked && then == first.tree.Size() && first.parts(second) == then && (len(first.early) == 0 || len(second.early) > 0) {
		return second, reader, nil
	}
	l.misread.Add(1)
	l.log.Error("the ledger was read wrongly the first time, and rightly the second: nothing is wrong with it, but this must not happen; report it with these lines",
		"first", first.reading(), "first_err", broke, "second", second.reading(), "differ_at_entry", first.parts(second))
	return second, reader, nil
}

// reread has both topics read once more from their starts, for what seems not to
// fit the reading. Whoever finds the ledger at odds with what was signed asks for
// this before believing it.
func (l *Ledger) reread(ctx context.Context, why error) error {
	l.mu.Lock()
	want := l.rereads + 1
	if l.asked == nil {
		l.asked = why
	}
	if l.wake != nil {
		l.wake()
	}
	l.mu.Unlock()
	return l.await(ctx, func() bool { return l.rereads >= want && l.doubt == nil })
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
	if len(l.fold.early) > 0 {
		return &RegressError{Signed: l.fold.early[len(l.fold.early)-1].Size, Have: l.fold.tree.Size(), Note: l.topics.Checkpoints()}
	}
	if last.Size > l.fold.tree.Size() {
		return &RegressError{Signed: last.Size, Have: l.fold.tree.Size(), Note: key.head.String()}
	}
	if last.Size > 0 {
		root, err := l.fold.rootAt(last.Size)
		if err != nil {
			return err
		}
		if root != last.Root {
			return &RegressError{Signed: last.Size, Have: l.fold.tree.Size(), Note: key.head.String()}
		}
	}
	return nil
}

// isSetBack says whether that was noted already.
func (l *Ledger) isSetBack() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.regress != nil
}

// setBack notes that the ledger does not continue what was signed; other errors
// are nothing to hold deliveries for yet, and nil says that it does.
func (l *Ledger) setBack(err error) {
	var regress *RegressError
	var fork *ForkError
	if err != nil && !errors.As(err, &regress) && !errors.As(err, &fork) {
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
