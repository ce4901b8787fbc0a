package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
	"datafordeler/broker/ledger/witness"
)

// Trust is whom a ledger's readers go by: the key that signs it, and the witnesses
// of the configuration.
func Trust(c Config, key string) (*ledger.Policy, error) {
	p := &ledger.Policy{Origin: c.Origin, Need: c.Need}
	var err error
	if p.Log, err = ledger.ParseVerifier(key); err != nil {
		return nil, fmt.Errorf("the ledger's public key: %w", err)
	}
	for i, w := range c.Witnesses {
		v, err := ledger.ParseVerifier(w.Key)
		if err != nil {
			return nil, fmt.Errorf("ledger.witnesses[%d].key: %w", i, err)
		}
		p.Witnesses = append(p.Witnesses, v)
	}
	return p, p.Check()
}

// gatherer asks the witnesses of the configuration; nil where there are none.
func (s *Sequencer) gatherer() *witness.Gatherer {
	if len(s.cfg.Witnesses) == 0 {
		return nil
	}
	policy := s.ledger.policy
	g := &witness.Gatherer{Policy: policy, Timeout: s.cfg.Patience, Linger: 500 * time.Millisecond,
		Prove: func(_ context.Context, size, old int64) (tlog.TreeProof, error) {
			s.ledger.mu.RLock()
			defer s.ledger.mu.RUnlock()
			return tlog.ProveTree(size, old, s.ledger.fold.hashes)
		}}
	for i, w := range s.cfg.Witnesses {
		g.Witnesses = append(g.Witnesses, &witness.Client{URL: w.URL, Key: policy.Witnesses[i]})
	}
	return g
}

// cosign asks the witnesses, and returns the head with what they answered, and how
// many have cosigned. An error is that nothing more may be signed now: a witness
// holds another history, or is ahead of what was read here.
func (s *Sequencer) cosign(ctx context.Context, note []byte) ([]byte, int, error) {
	if s.gather == nil {
		return note, 0, nil
	}
	merged, outcomes, err := s.gather.Gather(ctx, note)
	for _, o := range outcomes {
		outcome, said := "cosigned", ""
		if o.Err != nil && !errors.Is(o.Err, witness.ErrNotAwaited) {
			outcome, said = "failed", o.Err.Error()
		}
		s.metrics.witness.WithLabelValues(o.Name, outcome).Inc()
		var ahead *witness.AheadError
		switch old := s.heard[o.Name]; {
		case ctx.Err() != nil:
		case errors.As(o.Err, &ahead) && old != said:
			s.log.Error("a witness has cosigned more than this ledger has: its data were set back, or another instance is ahead", "witness", o.Name, "err", o.Err)
		case said != "" && old == "":
			s.log.Warn("a witness does not cosign", "witness", o.Name, "err", o.Err)
		case said == "" && old != "":
			s.log.Info("a witness cosigns again", "witness", o.Name)
		}
		s.heard[o.Name] = said
	}
	if err := s.suspect(ctx, outcomes); err != nil {
		return note, 0, err
	}
	if err != nil {
		if ctx.Err() == nil && !s.tooFew.Swap(true) {
			s.log.Warn("too few witnesses have cosigned the ledger's head, so it does not count yet; they are asked again", "err", err)
		}
	} else if s.tooFew.Swap(false) {
		s.log.Info("enough witnesses cosign the ledger's head again")
	}
	if len(merged) == 0 {
		merged = note
	}
	_, cosigners, err := s.ledger.policy.Open(merged)
	if err != nil {
		return note, 0, nil
	}
	return merged, len(cosigners), nil
}
