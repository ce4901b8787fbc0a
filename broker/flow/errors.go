package flow

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// errNotOwned is a partition that the group gave to another member.
var errNotOwned = errors.New("the partition is another instance's now")

// errUnsettled is a partition that cannot be taken over before a transaction of
// another instance has ended.
var errUnsettled = errors.New("a transaction of another instance is still open")

// stopError is one that a new session would meet again: the instance stops and
// says why, rather than going round it.
type stopError struct{ err error }

func (e stopError) Error() string { return e.err.Error() }
func (e stopError) Unwrap() error { return e.err }

func stop(err error) error {
	if err == nil {
		return nil
	}
	return stopError{err}
}

// commitError is the first error of an offset commit.
func commitError(resp *kmsg.OffsetCommitResponse, err error) error {
	if err != nil || resp == nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("%s/%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// transient errors of a commit come and go with a rebalance; the group's next
// assignment settles them.
func transient(err error) bool {
	for _, e := range []error{errNotOwned, kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.StaleMemberEpoch,
		kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.UnknownTopicID} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
