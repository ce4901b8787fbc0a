package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/ledger"
)

// signLoop signs the tree as it was read back, and publishes the head, as often
// as configured while the tree grows. A head that too few witnesses have cosigned
// is published all the same: it is evidence, though it does not count yet, and it
// is tried again.
func (s *Sequencer) signLoop(ctx context.Context) error {
	publisher, err := s.engine.NewClient(
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(s.timeouts.Transaction+s.timeouts.Session),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		return err
	}
	defer publisher.Close()
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		// Signing waits for the time, and for something to sign.
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := s.ledger.await(ctx, func() bool { return s.ledger.signable() }); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := s.sign(ctx, publisher); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// sign signs the present tree, has it cosigned, and publishes it.
func (s *Sequencer) sign(ctx context.Context, publisher *kgo.Client) error {
	l := s.ledger
	l.mu.RLock()
	c := ledger.Checkpoint{Origin: s.key.origin, Size: l.fold.tree.Size(), Root: l.fold.tree.Root()}
	published, sure := l.fold.latest.Size, l.doubt == nil
	l.mu.RUnlock()
	if !sure {
		return nil // what was read may be wrong; signed, it would be for ever
	}
	note, err := s.key.sign(c)
	if regress := (*RegressError)(nil); errors.As(err, &regress) {
		// Nothing is held for it yet: who leads next reads again and judges.
		return fmt.Errorf("a head over %d entries was signed before, and one over %d was to be", regress.Signed, regress.Have)
	}
	if err != nil {
		return err
	}
	note, cosigned, err := s.cosign(ctx, note)
	if err != nil {
		return err
	}
	if cosigned < s.cfg.Need && published >= c.Size {
		return nil // it stands there already; to be cosigned the next time
	}
	if err := publisher.ProduceSync(ctx, &kgo.Record{Topic: s.topics.Checkpoints(), Value: note}).FirstErr(); err != nil {
		return fmt.Errorf("publishing a signed head: %w", err)
	}
	s.metrics.signed.Inc()
	// Read back before the next: what is in the topic is what was published.
	return l.await(ctx, func() bool { return l.fold.latest.Size >= c.Size })
}
