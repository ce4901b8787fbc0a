package flow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

type topicPartition struct {
	topic     string
	partition int32
}

// session is one membership in the group with one transactional producer. When
// a transaction ends in doubt the session ends too, and a new one reads what
// is committed.
type session struct {
	broker *Broker
	txn    *kgo.GroupTransactSession
	adm    *kadm.Client

	// Written by the client's callbacks, read by run.
	mu       sync.Mutex
	assigned map[topicPartition]uint64 // → generation of the assignment
	owned    map[topicPartition]bool   // what the group's last assignment names
	gen      uint64

	// Owned by run.
	loaded  map[topicPartition]loadedPartition
	waiting map[topicPartition]time.Time // assigned and not settled yet → since
	topics  []string                     // consumed
	works   []*work
	builder builder
	world   *world
	memo    policy.SharedMemo // of the transaction being computed
}

type loadedPartition struct {
	*partition
	gen uint64
}

func (b *Broker) newSession(topics []string) (*session, error) {
	s := &session{
		broker:   b,
		assigned: map[topicPartition]uint64{},
		loaded:   map[topicPartition]loadedPartition{},
		waiting:  map[topicPartition]time.Time{},
		topics:   slices.Clone(topics),
		builder:  builder{topics: b.topics, limits: b.limits, log: b.log},
	}
	opts := b.engine.Options(append(b.cfg.ClientOptions(),
		kgo.ConsumerGroup(b.cfg.Group),
		kgo.ConsumeTopics(topics...),
		kgo.TransactionalID(b.cfg.Group+"-"+b.cfg.Slot),
		kgo.Balancers(assignments{kgo.CooperativeStickyBalancer(), s}),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { s.assign(added) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { s.revoke(gone) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { s.revoke(gone) }),
	)...)
	var err error
	if s.txn, err = kgo.NewGroupTransactSession(opts...); err != nil {
		return nil, err
	}
	s.adm = kadm.NewClient(s.txn.Client())
	return s, nil
}

func (s *session) assign(added map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen++
	for t, ps := range added {
		for _, p := range ps {
			s.assigned[topicPartition{t, p}] = s.gen
		}
	}
}

func (s *session) revoke(gone map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, ps := range gone {
		for _, p := range ps {
			delete(s.assigned, topicPartition{t, p})
		}
	}
}

// assignments hands each assignment to the session as the group made it. The
// callbacks do not do for this: GroupTransactSession keeps a revocation to
// itself when there was one before since the last transaction, and an instance
// without records has none.
type assignments struct {
	kgo.GroupBalancer
	s *session
}

// ParseSyncAssignment is called by the client while it holds off commits.
func (a assignments) ParseSyncAssignment(b []byte) (map[string][]int32, error) {
	assigned, err := a.GroupBalancer.ParseSyncAssignment(b)
	if err == nil {
		a.s.own(assigned)
	}
	return assigned, err
}

// own takes note of all that this member has in the group's new generation.
func (s *session) own(all map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned = map[topicPartition]bool{}
	for t, ps := range all {
		for _, p := range ps {
			s.owned[topicPartition{t, p}] = true
		}
	}
	for tp := range s.assigned {
		if !s.owned[tp] {
			delete(s.assigned, tp)
		}
	}
}

func (s *session) owns(tp topicPartition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owned[tp]
}

// run goes on until ctx ends (nil), or until the session cannot be trusted.
func (s *session) run(ctx context.Context) error {
	b := s.broker
	// A transaction that this slot left open, by a kill or in doubt, ends now.
	// Until it does its partitions are nobody's, on whichever instance.
	beginning, cancel := context.WithTimeout(ctx, 2*b.cfg.TransactionTimeout)
	_, _, err := s.txn.Client().ProducerID(beginning)
	cancel()
	if errors.Is(err, kerr.InvalidTransactionTimeout) {
		return stop(fmt.Errorf("transaction_timeout: Kafka does not take %v; choose one that it does (transaction.max.timeout.ms): %w", b.cfg.TransactionTimeout, err))
	}
	if err != nil {
		return fmt.Errorf("beginning as transactional id %s-%s: %w", b.cfg.Group, b.cfg.Slot, err)
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil
		}
		if err := b.control.Err(); err != nil {
			return stop(err)
		}
		if err := s.consume(ctx); err != nil {
			return err
		}
		if err := b.gate(); err != nil {
			b.hold(ctx, err)
			// Nothing is delivered meanwhile, but a withdrawal binds all the same.
			if b.engine.Err() == nil {
				if err := s.sync(ctx); err != nil && ctx.Err() == nil {
					return err
				}
				if err := s.commitIdle(ctx); err != nil {
					return err
				}
			}
			continue
		}
		fetches := s.poll(ctx)
		if fetches.IsClientClosed() {
			return errors.New("the client was closed")
		}
		for _, e := range fetches.Errors() {
			if errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) {
				continue
			}
			err := fmt.Errorf("reading %s/%d: %w", e.Topic, e.Partition, e.Err)
			if errors.Is(err, kerr.OffsetOutOfRange) {
				return stop(err) // jumping over records must be somebody's decision
			}
			if errors.Is(err, kerr.InvalidSessionTimeout) {
				return stop(fmt.Errorf("session_timeout: Kafka does not take %v; choose one that it does: %w", b.cfg.SessionTimeout, e.Err))
			}
			return err
		}
		if err := s.sync(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if fetches.NumRecords() > 0 {
			if err := s.transact(ctx, fetches); err != nil {
				return err
			}
		}
		if err := s.commitIdle(ctx); err != nil {
			return err
		}
		b.alive()
	}
}

// poll waits for records, or for a new revision that idle partitions must
// commit, or for Idle.
func (s *session) poll(ctx context.Context) kgo.Fetches {
	pollCtx, cancel := context.WithTimeout(ctx, s.broker.cfg.Idle)
	defer cancel()
	changed := s.broker.control.Changed()
	if s.behind(s.broker.control.Revision()) {
		// commitIdle comes at once; only take what is there.
		cancel()
	}
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		select {
		case <-changed:
			cancel()
		case <-pollCtx.Done():
		}
	}()
	fetches := s.txn.PollRecords(pollCtx, s.broker.cfg.MaxRecords)
	cancel()
	<-woken
	return fetches
}

// consume takes up topics of datasets registered since.
func (s *session) consume(ctx context.Context) error {
	var want []string
	s.broker.control.View(func(st *registry.State) {
		for _, d := range st.Datasets() {
			if t := s.broker.topics.Source(string(d.ID)); !slices.Contains(s.topics, t) {
				want = append(want, t)
			}
		}
	})
	if len(want) == 0 {
		return nil
	}
	if err := s.broker.EnsureTopics(ctx); err != nil {
		return err
	}
	s.txn.Client().AddConsumeTopics(want...)
	s.topics = append(s.topics, want...)
	return nil
}

// sync makes loaded agree with what the group assigned.
func (s *session) sync(ctx context.Context) error {
	s.mu.Lock()
	assigned := maps.Clone(s.assigned)
	s.mu.Unlock()
	for tp, p := range s.loaded {
		if assigned[tp] != p.gen {
			delete(s.loaded, tp)
			s.broker.metrics.forget(tp)
		}
	}
	for tp := range s.waiting {
		if _, ok := assigned[tp]; !ok {
			delete(s.waiting, tp)
		}
	}
	for tp, gen := range assigned {
		if _, ok := s.loaded[tp]; ok {
			continue
		}
		p, err := s.load(ctx, tp.topic, tp.partition)
		if errors.Is(err, errUnsettled) {
			// Another instance's transaction is open. Kafka ends it in its time;
			// the other partitions go on meanwhile.
			if s.waiting[tp].IsZero() {
				s.waiting[tp] = time.Now()
				s.broker.log.Info("waiting to take a partition over", "topic", tp.topic, "partition", tp.partition, "err", err)
			}
			if since := time.Since(s.waiting[tp]); since < 3*s.broker.cfg.TransactionTimeout+s.broker.cfg.SessionTimeout {
				continue
			}
		}
		delete(s.waiting, tp)
		if err != nil {
			return fmt.Errorf("taking over %s/%d: %w", tp.topic, tp.partition, err)
		}
		s.loaded[tp] = loadedPartition{p, gen}
		s.broker.log.Info("partition taken over", "topic", tp.topic, "partition", tp.partition,
			"offset", p.next, "revision", p.committed)
	}
	return nil
}

// transact decides the fetched records and commits, or leaves no trace.
func (s *session) transact(ctx context.Context, fetches kgo.Fetches) error {
	b := s.broker
	works := s.takeWorks(fetches)
	if len(works) == 0 {
		return nil
	}
	defer func() {
		for _, w := range works {
			w.release()
		}
	}()
	begun := time.Now()
	in, err := s.compute(ctx, works)
	if errors.Is(err, errNoPolicy) || errors.Is(err, errClock) {
		s.rewind(works)
		b.hold(ctx, err)
		return nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // nothing was begun
		}
		return err
	}
	computed := time.Since(begun)

	b.counting.Lock() // Drain waits for what is visible to be counted
	defer b.counting.Unlock()
	if err := s.txn.Begin(); err != nil {
		abort(works)
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	// From here the transaction is ended, whatever ctx says: half-way is the
	// one place not to be stopped in.
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.TransactionTimeout+b.cfg.SessionTimeout)
	defer cancel()
	written, produceErr := s.produce(endCtx, works)
	try := kgo.TryCommit
	// What ends by the clock, such as a consent, must not have ended meanwhile:
	// the records are read again and decided at the later time.
	late := lapsed(works, b.now())
	if produceErr != nil || late {
		try = kgo.TryAbort
	}
	var idle []*partition
	committed, err := s.txn.End(kgo.PreTxnCommitFnContext(endCtx, func(req *kmsg.TxnOffsetCommitRequest) (err error) {
		idle, err = s.stamp(req, works, in.revision, written)
		return err
	}), try)
	// If we were to crash here, recovery would be clean: what is committed is
	// committed with its offsets, and load reads it back.
	switch {
	case err != nil:
		abort(works)
		return fmt.Errorf("ending a transaction: %w", errors.Join(err, produceErr))
	case !committed:
		abort(works)
		b.metrics.aborted.Inc()
		if produceErr != nil {
			return fmt.Errorf("writing a transaction: %w", produceErr)
		}
		b.log.Info("transaction aborted, to be decided anew: the group is rebalancing, or a validity ended", "partitions", len(works), "lapsed", late)
		return nil
	}
	if err := b.engine.Err(); err != nil {
		return stop(err) // the embedded engine answers success after a failed write
	}
	for _, p := range idle {
		p.committed, p.stored = in.revision, true
	}
	records := 0
	for _, w := range works {
		p := w.part
		p.window.Commit()
		p.next = w.end()
		p.committed, p.stored, p.last = in.revision, true, in.now
		p.usage = maps.Clone(w.batch.Usage())
		p.marks, _ = floor(append(p.marks, written[w]...), p.window.Floor(p.next))
		records += len(w.records)
	}
	b.metrics.committed(works, computed, time.Since(begun))
	b.log.Debug("transaction committed", "records", records, "partitions", len(works),
		"revision", in.revision, "computed", computed, "total", time.Since(begun))
	return nil
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
		if s.world == nil || s.world.structure != st.Structure() {
			var w *world
			if w, err = s.builder.build(st); err != nil {
				return
			}
			s.world = w
		}
		in = &instant{world: s.world, state: st, revision: st.Revision(), now: b.now()}
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
		for _, w := range works {
			g.Go(func() error { return w.process(pure, b, in) })
		}
		if err = g.Wait(); err != nil {
			return
		}
		for _, w := range works {
			short = w.shortages(st, short)
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

// produce writes everything; it returns where the batches of decisions went.
func (s *session) produce(ctx context.Context, works []*work) (map[*work][]mark, error) {
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
	written := map[*work][]mark{}
	decisions := make(map[*work][]*kgo.Record, len(works))
	for _, w := range works {
		wg.Add(len(w.out) + len(w.batches))
		for _, r := range w.out {
			s.txn.Produce(ctx, r, promise)
		}
		for _, value := range w.batches {
			r := &kgo.Record{Topic: s.broker.topics.Decisions(), Partition: w.part.number % s.broker.decisionPartitions, Value: value}
			decisions[w] = append(decisions[w], r)
			s.txn.Produce(ctx, r, promise)
		}
	}
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	for _, w := range works {
		written[w] = []mark{{first: w.part.next, decisions: decisions[w][0].Offset}}
	}
	return written, nil
}

// stamp writes each partition's metadata into the commit of its offset. The
// client may name partitions of which this transaction has nothing; they stay
// where they are, and take the revision along.
func (s *session) stamp(req *kmsg.TxnOffsetCommitRequest, works []*work, rev broker.Revision, written map[*work][]mark) (idle []*partition, err error) {
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
			m := part.metadata(p.Offset, rev, written[w]...).String()
			p.Metadata = &m
		}
	}
	if len(decided) > 0 {
		return nil, fmt.Errorf("the commit leaves out %d partitions that were decided", len(decided))
	}
	return idle, nil
}

// behind reports whether some partition's committed revision is older than rev.
func (s *session) behind(rev broker.Revision) bool {
	for _, p := range s.loaded {
		if !p.stored || p.committed < rev {
			return true
		}
	}
	return false
}

// commitIdle commits the revision for partitions in which no transaction did,
// so that a withdrawal binds there too. Their offsets stay as they are.
//
// The group refuses a commit of a generation that is past, but does not look
// whether the partition is the member's: an offset of a partition that was
// taken away would be set back under its new owner. So each partition is held
// to the assignment of the very generation that the commit names: the client
// keeps that from changing while it calls the function below and waits for the
// answer.
func (s *session) commitIdle(ctx context.Context) error {
	rev := s.broker.control.Revision()
	if !s.behind(rev) {
		return nil
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	meta := map[topicPartition]string{}
	var idle []*partition
	for tp, p := range s.loaded {
		if p.stored && p.committed >= rev {
			continue
		}
		if offsets[tp.topic] == nil {
			offsets[tp.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[tp.topic][tp.partition] = kgo.EpochOffset{Epoch: -1, Offset: p.next}
		meta[tp] = p.metadata(p.next, rev).String()
		idle = append(idle, p.partition)
	}
	commitCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.broker.cfg.SessionTimeout)
	defer cancel()
	var failed error
	commitCtx = kgo.PreCommitFnContext(commitCtx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				p := &req.Topics[i].Partitions[j]
				tp := topicPartition{req.Topics[i].Topic, p.Partition}
				if !s.owns(tp) {
					return fmt.Errorf("%s/%d: %w", tp.topic, tp.partition, errNotOwned)
				}
				m, ok := meta[tp]
				if !ok {
					return fmt.Errorf("the commit names %s/%d, which is not idle", req.Topics[i].Topic, p.Partition)
				}
				p.Metadata = &m
			}
		}
		return nil
	})
	s.txn.Client().CommitOffsetsSync(commitCtx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed = commitError(resp, err)
	})
	if failed != nil {
		if transient(failed) {
			s.broker.log.Info("revision not committed for idle partitions: the group is rebalancing", "err", failed)
			s.broker.pause(ctx, 50*time.Millisecond)
			return nil
		}
		return fmt.Errorf("committing the revision for idle partitions: %w", failed)
	}
	for _, p := range idle {
		p.committed, p.stored = rev, true
	}
	return nil
}

// rewind hands the fetched records back, to be read again.
func (s *session) rewind(works []*work) {
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
	}
}
