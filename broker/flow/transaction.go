package flow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// transact decides the fetched records and commits, or leaves no trace.
func (s *session) transact(ctx context.Context, fetches kgo.Fetches) error {
	works := s.takeWorks(fetches)
	if len(works) == 0 {
		return nil
	}
	_, err := s.conclude(ctx, works)
	return err
}

// conclude decides what works hold, records of the stream or of backfill, and
// commits, or leaves no trace. It has committed where it says so.
func (s *session) conclude(ctx context.Context, works []*work) (done bool, err error) {
	b := s.broker
	filling := works[0].fill != nil
	defer func() {
		for _, w := range works {
			w.release()
			w.part = nil // it may be another's next
		}
	}()
	begun, records := time.Now(), 0
	for _, w := range works {
		records += len(w.records)
	}
	if !filling {
		s.pace.begin(begun, records)
	}
	in, err := s.compute(ctx, works)
	if errors.Is(err, errNoPolicy) || errors.Is(err, errClock) {
		s.rewind(works)
		s.hold(ctx, err)
		return false, nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return false, nil // nothing was begun
		}
		return false, err
	}
	if filling && len(works[0].batches) == 0 {
		return s.advance(works[0], in), nil // nothing to say of what was looked at
	}
	computed := time.Since(begun)

	if err := s.settle(ctx); err != nil {
		abort(works)
		if ctx.Err() != nil {
			return false, nil // nothing was begun
		}
		return false, err
	}
	b.counting.RLock() // Drain waits for what is visible to be counted
	defer b.counting.RUnlock()
	if err := s.txn.Begin(); err != nil {
		abort(works)
		return false, fmt.Errorf("beginning a transaction: %w", err)
	}
	// From here the transaction is ended, whatever ctx says: half-way is the
	// one place not to be stopped in.
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.TransactionTimeout+b.cfg.SessionTimeout)
	defer cancel()
	written, produceErr := s.produce(endCtx, works)
	s.wrote(works)
	for _, w := range works { // where it ends is committed with the offset
		if p := w.part; w.fill != nil && w.fill.notices {
			p.notices.settled = w.fill.looked
		} else if produceErr == nil {
			for i := range w.owing {
				w.owing[i].decisions = written[w].mark.decisions
			}
			p.notices.fresh = w.owing
		}
	}
	try := kgo.TryCommit
	// What ends by the clock, such as a consent, must not have ended meanwhile:
	// the records are read again and decided at the later time.
	late := lapsed(works, b.now())
	if produceErr != nil || late {
		try = kgo.TryAbort
	}
	if filling && try == kgo.TryCommit {
		if try, err = s.stampFill(endCtx, works, in.revision, written); err != nil {
			produceErr = err
		}
	}
	var idle []*partition
	var committed bool
	if filling {
		committed, err = s.endFill(endCtx, try)
	} else {
		committed, err = s.txn.End(kgo.PreTxnCommitFnContext(endCtx, func(req *kmsg.TxnOffsetCommitRequest) (err error) {
			idle, err = s.stamp(req, works, in.revision, written)
			return err
		}), try)
	}
	// If we were to crash here, recovery would be clean: what is committed is
	// committed with its offsets, and load reads it back.
	switch {
	case err != nil:
		abort(works)
		return false, fmt.Errorf("ending a transaction: %w", errors.Join(err, produceErr))
	case !committed:
		abort(works)
		b.metrics.aborted.Inc()
		if produceErr != nil {
			return false, fmt.Errorf("writing a transaction: %w", produceErr)
		}
		b.log.Info("transaction aborted, to be decided anew: the group is rebalancing, or a validity ended", "partitions", len(works), "lapsed", late)
		return false, nil
	}
	if err := b.engine.Err(); err != nil {
		return false, stop(err) // the embedded engine answers success after a failed write
	}
	for _, p := range idle {
		p.committed, p.stored, p.backfill.saved = in.revision, true, p.backfill.done
	}
	var short []shortage
	for _, w := range works {
		p := w.part
		p.committed, p.stored, p.last = in.revision, true, in.now
		usage := maps.Clone(w.usage())
		if len(usage) > 0 {
			b.control.View(func(st *registry.State) { short = p.spend(b, st, time.Now(), usage, short) })
		}
		p.usage = usage
		if filling {
			s.advance(w, in)
		} else {
			p.window.Commit()
			p.next = w.end()
			p.marks, _ = floor(append(p.marks, written[w].mark), p.window.Floor(p.next))
			p.step(in.revision, written[w].mark.first, written[w].mark.decisions)
			p.notices.commit()
			p.backfill.done.told = p.told(p.next)
		}
		p.backfill.saved = p.backfill.done
		if b.evidence != nil {
			b.evidence.Decided(written[w].partition, written[w].last)
		}
	}
	if len(short) > 0 {
		b.leases.ask(short, false)
	}
	if !filling {
		s.pace.end(b.cfg, records, computed, time.Since(begun))
	}
	b.metrics.committed(works, &s.sum, in.world, computed, time.Since(begun))
	b.log.Debug("transaction committed", "records", records, "partitions", len(works),
		"revision", in.revision, "computed", computed, "total", time.Since(begun))
	return true, nil
}

// takeWorks groups the fetched records by partition.
func (s *session) takeWorks(fetches kgo.Fetches) []*work {
	n := 0
	at := map[topicPartition]*work{}
	back := map[string]map[int32]kgo.EpochOffset{}
	defer func() {
		if len(back) > 0 {
			s.txn.Client().SetOffsets(back)
			s.broker.pause(context.Background(), 20*time.Millisecond)
		}
	}()
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		tp := topicPartition{f.Topic, f.Partition}
		if s.moved[tp] {
			return // fetched before it was moved; it is fetched again from there
		}
		p, ok := s.loaded[tp]
		if _, waiting := s.waiting[tp]; waiting && len(f.Records) > 0 {
			// Not settled yet: to be read again when it is.
			if back[f.Topic] == nil {
				back[f.Topic] = map[int32]kgo.EpochOffset{}
			}
			if o, ok := back[f.Topic][f.Partition]; !ok || f.Records[0].Offset < o.Offset {
				back[f.Topic][f.Partition] = kgo.EpochOffset{Epoch: -1, Offset: f.Records[0].Offset}
			}
			return
		}
		if !ok {
			return // revoked since; End will abort, and the new owner reads them
		}
		// The client may hand out what is decided already, fetched before a
		// reset. To decide it again would be a duplicate.
		records := f.Records
		for len(records) > 0 && records[0].Offset < p.next {
			records = records[1:]
		}
		if len(records) == 0 {
			return
		}
		if w := at[tp]; w != nil { // one fetch may have it in two pieces
			w.records, w.high = append(w.records, records...), f.HighWatermark
			return
		}
		if n == len(s.works) {
			s.works = append(s.works, &work{})
		}
		w := s.works[n]
		n++
		w.part, w.high, w.records = p.partition, f.HighWatermark, append(w.records[:0], records...)
		at[tp] = w
	})
	return s.works[:n]
}

// compute runs the stages over all works at one revision and one time. Where
// agreements with a ceiling need a larger lease, it gets one and computes
// again at the revision that has it.
func (s *session) compute(ctx context.Context, works []*work) (*instant, error) {
	for {
		in, short, err := s.computeOnce(ctx, works)
		if err != nil {
			abort(works)
			return nil, stop(err)
		}
		if len(short) == 0 {
			return in, nil
		}
		abort(works)
		// This one passes: Kafka was away, or the registry busy.
		if err := s.broker.lease(ctx, short); err != nil {
			return nil, fmt.Errorf("leasing a part of a ceiling: %w", err)
		}
	}
}

func (s *session) computeOnce(ctx context.Context, works []*work) (in *instant, short []shortage, err error) {
	b := s.broker
	b.control.View(func(st *registry.State) {
		var now *world
		if now, err = b.worlds.at(st); err != nil {
			return
		}
		in = &instant{world: now, state: st, revision: st.Revision(), now: b.now()}
		for _, w := range works {
			if w.part.last.After(in.now) {
				in.now = w.part.last
			}
		}
		if in.now, err = notBefore(in.now, st.At()); err != nil {
			return
		}
		if in.period, err = b.hasher.Period(in.now); err != nil {
			return
		}
		var g errgroup.Group
		g.SetLimit(b.workers())
		// A stop must not reach into policy: a cancelled evaluation would be an
		// error, and an error is a denial that stands for ever.
		pure := context.WithoutCancel(ctx)
		s.memo.Reset()
		for _, w := range works {
			w.memo.Shared = &s.memo
			g.Go(func() error {
				switch {
				case w.fill == nil:
				case w.fill.notices:
					return w.tell(pure, b, in)
				default:
					return w.backfill(pure, b, in)
				}
				return w.process(pure, b, in)
			})
		}
		if err = g.Wait(); err != nil {
			return
		}
		for _, w := range works {
			short = w.shortages(b, st, time.Now(), short)
		}
	})
	return in, short, err
}

// errClock holds deliveries while two clocks are too far apart.
var errClock = errors.New("the clocks do not agree")

// notBefore is the time to judge as of: never before the latest event of control
// by its writer's clock, or a withdrawal that is recorded, and shown as binding,
// would not count until this clock had caught up.
func notBefore(now, latest time.Time) (time.Time, error) {
	const bearable = time.Minute
	switch ahead := latest.Sub(now); {
	case ahead <= 0:
		return now, nil
	case ahead <= bearable:
		return latest, nil
	default:
		return now, fmt.Errorf("%w: the latest event of control is from %s, %v ahead of this machine's clock; set the clocks", errClock,
			latest.Format(time.RFC3339), ahead.Round(time.Second))
	}
}

// place is where a work's batches of decisions went.
type place struct {
	mark      mark
	partition int32 // of the topic decisions
	last      int64 // offset of the last of them
}

// produce writes everything; it returns where the batches of decisions went.
func (s *session) produce(ctx context.Context, works []*work) (map[*work]place, error) {
	var mu sync.Mutex
	var failed error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			failed = err
		}
	}
	var wg sync.WaitGroup
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			fail(fmt.Errorf("topic %s: %w", r.Topic, err))
		}
		wg.Done()
	}
	written := map[*work]place{}
	decisions := make(map[*work][]*kgo.Record, len(works))
	for _, w := range works {
		wg.Add(len(w.out) + len(w.batches))
		for _, r := range w.out {
			s.txn.Produce(ctx, r, promise)
		}
		for _, value := range w.batches {
			r := &kgo.Record{Topic: s.broker.topics.Decisions(), Partition: w.part.number % s.broker.decisionPartitions.Load(), Value: value}
			decisions[w] = append(decisions[w], r)
			s.txn.Produce(ctx, r, promise)
		}
	}
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	for _, w := range works {
		all := decisions[w]
		written[w] = place{mark{first: w.part.next, decisions: all[0].Offset}, all[0].Partition, all[len(all)-1].Offset}
	}
	return written, nil
}

// stamp writes each partition's metadata into the commit of its offset. The
// client may name partitions of which this transaction has nothing; they stay
// where they are, and take the revision along.
func (s *session) stamp(req *kmsg.TxnOffsetCommitRequest, works []*work, rev broker.Revision, written map[*work]place) (idle []*partition, err error) {
	if err := asMember(req.MemberID, req.Generation); err != nil {
		return nil, err
	}
	decided := make(map[topicPartition]*work, len(works))
	for _, w := range works {
		decided[topicPartition{w.part.topic, w.part.number}] = w
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			tp := topicPartition{t.Topic, p.Partition}
			part, want := s.loaded[tp].partition, int64(-1)
			w := decided[tp]
			switch {
			case w != nil:
				part, want = w.part, w.end()
				delete(decided, tp)
			case part != nil:
				want = part.next
				idle = append(idle, part)
				// Behind it lies what was decided already and is skipped.
				p.Offset = max(p.Offset, want)
			}
			if p.Offset != want {
				return nil, fmt.Errorf("the commit of %s/%d is at offset %d, but decisions end before %d", t.Topic, p.Partition, p.Offset, want)
			}
			var marks []mark
			if w != nil && w.fill == nil {
				marks = []mark{written[w].mark}
			}
			m := part.metadata(p.Offset, rev, marks...).String()
			p.Metadata = &m
		}
	}
	if len(decided) > 0 && works[0].fill == nil { // backfill's stands in a commit of its own
		return nil, fmt.Errorf("the commit leaves out %d partitions that were decided", len(decided))
	}
	return idle, nil
}

// rewind hands the fetched records back, to be read again.
func (s *session) rewind(works []*work) {
	if works[0].fill != nil {
		return // the stream is where it was
	}
	back := map[string]map[int32]kgo.EpochOffset{}
	for _, w := range works {
		if back[w.part.topic] == nil {
			back[w.part.topic] = map[int32]kgo.EpochOffset{}
		}
		back[w.part.topic][w.part.number] = kgo.EpochOffset{Epoch: -1, Offset: w.part.next}
	}
	s.txn.Client().SetOffsets(back)
}

func abort(works []*work) {
	for _, w := range works {
		w.part.window.Abort()
		w.part.backfill.pending = nil
		w.part.notices.abort()
		if w.fill != nil && w.fill.job != nil {
			w.fill.job.window.Abort()
		}
	}
}
