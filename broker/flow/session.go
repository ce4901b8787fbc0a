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
	id     string // transactional
	pulse  *pulse
	txn    *kgo.GroupTransactSession
	adm    *kadm.Client

	// Written by the client's callbacks, read by run.
	mu       sync.Mutex
	assigned map[topicPartition]uint64 // → generation of the assignment
	owned    map[topicPartition]bool   // what the group's last assignment names
	member   string                    // that it was made to
	ownedAt  int32                     // the group's generation then
	gen      uint64

	// Owned by run.
	loaded    map[topicPartition]loadedPartition
	waiting   map[topicPartition]time.Time // assigned and not settled yet → since
	unsettled kadm.TopicsSet               // written to by a transaction whose end is not seen there; nil: anything may be. See settle
	offsets   topicPartition               // where Kafka keeps the group's offsets
	moved     map[topicPartition]bool      // set to another offset in this turn: what was fetched is void
	topics    []string                     // consumed
	works     []*work
	sum       tally // of a transaction
	pace      pace
	memo      policy.SharedMemo // of the transaction being computed
	filler    filler
}

type loadedPartition struct {
	*partition
	gen uint64
}

func (b *Broker) newSession(n int, topics []string) (*session, error) {
	s := &session{
		broker:   b,
		id:       b.cfg.transactionalID(n),
		pulse:    &b.pulses[n],
		assigned: map[topicPartition]uint64{},
		loaded:   map[topicPartition]loadedPartition{},
		waiting:  map[topicPartition]time.Time{},
		moved:    map[topicPartition]bool{},
		topics:   slices.Clone(topics),
		pace:     newPace(b.cfg),
	}
	opts := b.engine.Options(append(b.cfg.ClientOptions(),
		kgo.ConsumerGroup(b.cfg.Group),
		kgo.ConsumeTopics(topics...),
		kgo.TransactionalID(s.id),
		kgo.Balancers(assignments{kgo.CooperativeStickyBalancer(), s}),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { s.assign(added) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { s.revoke(gone) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { s.revoke(gone) }),
	)...)
	// The group may answer before this returns; own waits for the lock.
	s.mu.Lock()
	var err error
	s.txn, err = kgo.NewGroupTransactSession(opts...)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s.adm = kadm.NewClient(s.txn.Client())
	return s, nil
}

// close leaves the group.
func (s *session) close() {
	for _, p := range s.loaded {
		p.backfill.close()
	}
	s.txn.Close()
	for tp := range s.loaded {
		s.broker.metrics.forget(tp)
	}
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

// own takes note of all that this member has in the group's new generation. A
// new member had lost everything in between, whatever it gets back: others may
// have gone on, so nothing that is loaded may be committed. That the client has
// handed over what was lost is not to be relied on; see above.
func (s *session) own(all map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	member, generation := s.txn.Client().GroupMetadata()
	s.ownedAt = generation
	if s.member != member {
		s.member = member
		clear(s.assigned)
	}
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

// owns reports whether a partition is this member's, and what was loaded of it
// under gen is still what counts.
func (s *session) owns(tp topicPartition, gen uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owned[tp] && s.assigned[tp] == gen
}

// run goes on until ctx ends (nil), or until the session cannot be trusted.
func (s *session) run(ctx context.Context) error {
	b := s.broker
	// A transaction that this slot left open, by a kill or in doubt, ends now.
	// Until it does its partitions are nobody's, on whichever instance.
	beginning, cancel := context.WithTimeout(ctx, 2*b.cfg.TransactionTimeout)
	_, _, err := s.txn.Client().ProducerID(beginning)
	cancel()
	if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		return stop(fmt.Errorf("transactional id %s: this user may not write under it; allow all that begin with %q, "+
			"for each session has one: %w", s.id, b.cfg.transactionalID(0), err))
	}
	if errors.Is(err, kerr.InvalidTransactionTimeout) {
		return stop(fmt.Errorf("transaction_timeout: Kafka does not take %v; choose one that it does (transaction.max.timeout.ms): %w", b.cfg.TransactionTimeout, err))
	}
	if err != nil {
		return fmt.Errorf("beginning as transactional id %s: %w", s.id, err)
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
			s.hold(ctx, err)
			// Nothing is delivered meanwhile, but a withdrawal binds all the same.
			if b.engine.Err() == nil {
				if err := s.sync(ctx); err != nil && ctx.Err() == nil {
					return err
				}
				if err := s.commitIdle(ctx); err != nil {
					return err
				}
			}
			clear(s.moved)
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
			if errors.Is(err, kerr.OffsetOutOfRange) { // to jump over records must be somebody's decision
				return stop(fmt.Errorf("%w: %w. Set the group's offset to where the topic begins now, to go on without them", errRetention, err))
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
			s.filler.live = time.Now()
			if err := s.transact(ctx, fetches); err != nil {
				return err
			}
		}
		clear(s.moved)
		if err := s.backfill(ctx); err != nil {
			return err
		}
		if err := s.commitIdle(ctx); err != nil {
			return err
		}
		s.pulse.beat()
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
	if s.filler.more { // so many records of backfill a second, and then it is its turn
		if wait := s.filler.wait(s.broker, time.Now()); wait <= 0 {
			cancel()
		} else {
			defer time.AfterFunc(wait, cancel).Stop()
		}
	}
	if wait := s.pace.wait(s.broker.cfg, time.Now()); wait > 0 {
		s.broker.pause(pollCtx, wait)
	}
	fetches := s.txn.PollRecords(pollCtx, s.pace.limit)
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
			p.backfill.close()
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
		s.broker.metrics.own(tp)
		s.broker.log.Info("partition taken over", "topic", tp.topic, "partition", tp.partition,
			"offset", p.next, "revision", p.committed)
	}
	return nil
}
