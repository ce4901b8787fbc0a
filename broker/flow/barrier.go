package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// Unbound is a source partition in which a revision does not bind yet.
type Unbound struct {
	Topic     string
	Partition int32
	Revision  broker.Revision // decided at, so far
	Pending   bool            // a transaction stands open on it

	id broker.Digest // the topic's
}

// shown is the latest revision that each partition was ever seen to show. What a
// partition shows it never goes back on, so to have seen it once is enough: under load
// there is hardly a moment without a transaction open on one partition or another.
type shown map[Unbound]broker.Revision // under what names the partition

// see takes what the partitions show now, tells which of them never showed rev, and up
// to which revision all are known to bind.
func (s shown) see(all []Unbound, rev broker.Revision) (unbound []Unbound, low broker.Revision) {
	for i, u := range all {
		key := Unbound{Topic: u.Topic, Partition: u.Partition, id: u.id}
		if !u.Pending && u.Revision > s[key] {
			s[key] = u.Revision
		}
		if i == 0 || s[key] < low {
			low = s[key]
		}
		if s[key] < rev {
			unbound = append(unbound, u)
		}
	}
	return unbound, low
}

// Barrier tells when a revision binds: when no delivery that relied on an
// older one can commit any more, on any instance.
//
// It does, for a partition, when the stable committed offset carries that
// revision or a later one. Whoever decided at an older revision either has
// committed already, and so shows the older revision; or holds the partition
// with an open transaction, which makes the offset unstable until it ends; or
// no longer is its owner, and then the group refuses its commit (KIP-447).
type Barrier struct {
	Adm     *kadm.Client
	Control *Control
	Topics  kafka.Topics
	Group   string
}

// Check lists the partitions in which rev does not bind. None is binding.
func (b *Barrier) Check(ctx context.Context, rev broker.Revision) ([]Unbound, error) {
	all, err := b.survey(ctx)
	var unbound []Unbound
	for _, u := range all {
		if u.Pending || u.Revision < rev {
			unbound = append(unbound, u)
		}
	}
	return unbound, err
}

// survey reads of each source partition the revision that its stable offset shows; 0
// where it shows none. Partition -1 is of a topic that is not made yet.
func (b *Barrier) survey(ctx context.Context) ([]Unbound, error) {
	var topics []string
	b.Control.View(func(s *registry.State) {
		for _, d := range s.Datasets() {
			topics = append(topics, b.Topics.Source(string(d.ID)))
		}
	})
	if len(topics) == 0 {
		return nil, nil
	}
	details, err := kafka.Describe(ctx, b.Adm, topics...)
	if err != nil {
		return nil, err
	}
	committed, err := committedOffsets(kadm.RequireStable(ctx), b.Adm, b.Group, topics...)
	if err != nil && !errors.Is(err, kerr.UnstableOffsetCommit) {
		return nil, err
	}
	var all []Unbound
	for _, t := range topics {
		if details[t].Partitions == 0 {
			// Not made yet: an instance that lags behind may still make it, and
			// decide its first records at an older revision.
			all = append(all, Unbound{Topic: t, Partition: -1})
		}
		for p := range details[t].Partitions {
			u := Unbound{Topic: t, Partition: p, id: broker.Digest(details[t].ID)}
			o, ok := committed.Lookup(t, p)
			switch {
			case !ok, o.Err == nil && o.At < 0:
			case errors.Is(o.Err, kerr.UnstableOffsetCommit):
				u.Pending = true
			case o.Err != nil:
				return nil, fmt.Errorf("committed offset of %s/%d: %w", t, p, o.Err)
			default:
				m, err := parseMetadata(o.Metadata)
				if err != nil {
					return nil, fmt.Errorf("%s/%d: %w", t, p, err)
				}
				// Of another topic that had the name it says nothing.
				if m.topic == u.id {
					u.Revision = m.revision
				}
			}
			all = append(all, u)
		}
	}
	return all, nil
}

// committedOffsets reads a group's offsets; a group that does not exist has none.
func committedOffsets(ctx context.Context, adm *kadm.Client, group string, topics ...string) (kadm.OffsetResponses, error) {
	offsets, err := adm.FetchOffsetsForTopics(ctx, group, topics...)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return kadm.OffsetResponses{}, nil
	}
	if err != nil {
		return offsets, fmt.Errorf("reading the committed offsets of group %s: %w", group, err)
	}
	return offsets, nil
}

// Running reports whether a group has instances. A cluster that never had a
// group makes room for them first, which takes a moment.
func Running(ctx context.Context, engine *kafka.Engine, group string) (bool, error) {
	adm, err := engine.Admin()
	if err != nil {
		return false, err
	}
	defer adm.Close()
	for {
		groups, err := adm.DescribeGroups(ctx, group)
		if err == nil {
			err = groups.Error()
		}
		switch {
		case err == nil:
			return len(groups[group].Members) > 0, nil
		case errors.Is(err, kerr.GroupIDNotFound):
			return false, nil
		case !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.NotCoordinator):
			return false, fmt.Errorf("asking for the instances of group %s: %w", group, err)
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("asking for the instances of group %s: %w", group, err)
		case <-time.After(100 * time.Millisecond): // the cluster says when only by answering
		}
	}
}

// Await returns when rev binds, or with what does not when ctx ends.
func (b *Barrier) Await(ctx context.Context, rev broker.Revision) error {
	const every = 10 * time.Millisecond // the log has no call that waits
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last []Unbound
	seen := shown{}
	for {
		all, err := b.survey(ctx)
		switch {
		case err == nil:
			if last, _ = seen.see(all, rev); len(last) == 0 {
				return nil
			}
		case ctx.Err() == nil:
			return err
		}
		select {
		case <-ctx.Done():
			return &NotBinding{Revision: rev, Unbound: last, Cause: ctx.Err()}
		case <-tick.C:
		}
	}
}

// NotBinding is a change that was accepted and recorded, and does not bind yet.
type NotBinding struct {
	Revision broker.Revision
	Unbound  []Unbound
	Cause    error
}

func (e *NotBinding) Error() string {
	if len(e.Unbound) == 0 {
		return fmt.Sprintf("revision %d is recorded; whether it binds could not be read: %v", e.Revision, e.Cause)
	}
	u := e.Unbound[0]
	return fmt.Sprintf("revision %d is recorded but does not bind yet in %d source partitions (first: %s/%d, at revision %d): is every instance running?",
		e.Revision, len(e.Unbound), u.Topic, u.Partition, u.Revision)
}

func (e *NotBinding) Unwrap() error { return e.Cause }
