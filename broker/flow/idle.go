package flow

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker"
)

// behind reports whether some partition's committed revision is older than rev, or
// backfill has come further than is committed.
func (s *session) behind(rev broker.Revision) bool {
	now := time.Now()
	for _, p := range s.loaded {
		if !p.stored || p.committed < rev || s.unsaved(&p.backfill, now) {
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
	gens := map[topicPartition]uint64{}
	var idle []*partition
	now := time.Now()
	for tp, p := range s.loaded {
		if p.stored && p.committed >= rev && !s.unsaved(&p.backfill, now) {
			continue
		}
		if offsets[tp.topic] == nil {
			offsets[tp.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[tp.topic][tp.partition] = kgo.EpochOffset{Epoch: -1, Offset: p.next}
		meta[tp], gens[tp] = p.metadata(p.next, rev).String(), p.gen
		idle = append(idle, p.partition)
	}
	commitCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.broker.cfg.SessionTimeout)
	defer cancel()
	var failed error
	commitCtx = kgo.PreCommitFnContext(commitCtx, func(req *kmsg.OffsetCommitRequest) error {
		if err := asMember(req.MemberID, req.Generation); err != nil {
			return err
		}
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				p := &req.Topics[i].Partitions[j]
				tp := topicPartition{req.Topics[i].Topic, p.Partition}
				if !s.owns(tp, gens[tp]) {
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
		p.committed, p.stored, p.backfill.saved = rev, true, p.backfill.done
	}
	s.filler.saved = now
	return nil
}

// asMember refuses a commit in nobody's name. A client that the group has
// dropped forgets its member id and generation, and what it commits then looks
// like the commit of a consumer without a group: Kafka takes that from anyone
// when the group is empty, and in a transaction always. An instance that woke
// after all others had gone would set offsets back.
func asMember(member string, generation int32) error {
	if member == "" || generation < 0 {
		return fmt.Errorf("%w: the group has dropped this instance", errNotOwned)
	}
	return nil
}
