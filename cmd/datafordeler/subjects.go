package main

import (
	"encoding/hex"
	"fmt"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
)

// subjects makes the changes for lists of subjects. Names of cases and consents
// derive from the keyed hash, so that the same list again changes nothing.
type subjects struct {
	state *registry.State
	ring  *keys.Ring
	now   time.Time
	valid broker.Interval
}

// cases opens a case on each subject that has none open in the subscription, or
// ends those that are. One that was ended is never opened again: the next has a
// name of its own.
func (s *subjects) cases(t *broker.Terms, ids []string, end bool) ([]registry.Change, error) {
	var changes []registry.Change
	keys := make([]broker.SubjectKey, 0, len(ids))
	for _, id := range ids {
		key := s.ring.Subject(t.Dataset.Subject.Kind, id)
		if keys = append(keys, key); end { // those on whom it took over hold for it too
			keys = append(keys, s.state.Predecessors(t.Dataset.ID, key)...)
		}
	}
	// Who took over may be named beside whom it took over.
	seen := make(map[broker.SubjectKey]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		standing := false
		name := broker.CaseID("c-" + letters(key))
		for n := 2; ; n++ {
			c, known := s.state.Case(t.Subscription.ID, name)
			if !known {
				break
			}
			over := !s.valid.To.IsZero() && !s.valid.To.After(s.now)
			if over || c.Open.To.IsZero() || c.Open.To.After(s.now) {
				standing = true // of what is over already, one is enough
				if end && !over {
					changes = append(changes, registry.EndCase(t.Subscription.ID, name, s.now))
				}
			}
			name = broker.CaseID(fmt.Sprintf("c-%s-%d", letters(key), n))
		}
		if !end && !standing {
			changes = append(changes, registry.OpenCase(broker.Case{ID: name, Subscription: t.Subscription.ID, Subject: key, Open: s.valid}))
		}
	}
	return changes, nil
}

func (s *subjects) consents(d *broker.Dataset, consumer broker.OrgNumber, purpose broker.Purpose, ids []string, withdraw bool) ([]registry.Change, error) {
	if _, err := broker.ParseOrgNumber(string(consumer)); err != nil {
		return nil, usageError{err}
	}
	var changes []registry.Change
	var have []broker.Consent
	for _, id := range ids {
		key := s.ring.Subject(d.Subject.Kind, id)
		have = s.state.Consents(have[:0], consumer, d.ID, purpose, key)
		if !withdraw {
			standing := false
			for _, c := range have {
				standing = standing || c.Withdrawn.IsZero() && (c.Valid.To.IsZero() || c.Valid.To.After(s.now))
			}
			if !standing {
				name := broker.ConsentID("s-" + letters(key)[:24] + "-" + string(consumer) + "-" + s.now.UTC().Format("20060102t150405"))
				changes = append(changes, registry.GiveConsent(broker.Consent{ID: name, Subject: key, Consumer: consumer, Dataset: d.ID, Purpose: purpose, Valid: s.valid}))
			}
			continue
		}
		for _, c := range have {
			if c.Withdrawn.IsZero() {
				changes = append(changes, registry.WithdrawConsent(c.ID, s.now))
			}
		}
	}
	return changes, nil
}

// letters spells a hash in a–p: no run of digits that could be taken for a
// person's number.
func letters(d broker.Digest) string {
	b := []byte(hex.EncodeToString(d[:]))
	for i, c := range b {
		if c <= '9' {
			b[i] = 'a' + c - '0'
		} else {
			b[i] = 'k' + c - 'a'
		}
	}
	return string(b)
}
