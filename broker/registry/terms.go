package registry

import (
	"maps"
	"slices"

	"datafordeler/broker"
)

// resolved is what follows from the catalogue alone. It is read-only once it is
// stored; what a later one has in common with it, it shares.
type resolved struct {
	stale     bool // kept only for what of it can be used again
	all       []*broker.Terms
	at        map[broker.SubscriptionID]int32        // where in all
	byConsent map[consentKey][]broker.SubscriptionID // each list by name
	byGroup   [][]broker.SubscriptionID              // the same, by consentTable's number; the groups of later are not in it
	parts     []parts                                // of all, in its order
}

type consentKey struct {
	consumer broker.OrgNumber
	dataset  broker.DatasetID
	purpose  broker.Purpose
}

// parts are what a subscription's terms were made of. Declared things are never
// changed in place, so the same pointers mean the same terms.
type parts struct {
	subscription *broker.Subscription
	mailbox      *broker.Mailbox
	agreement    *broker.Agreement
	dataset      *broker.Dataset
	pack         *broker.RightsPackage
	consumer     *broker.Organisation
	bases        []*broker.LegalBasis
	ended        bool // a party is no more
	delegations  []delegated
	frozen       bool
}

type delegated struct {
	*broker.Delegation
	withdrawn Withdrawal
}

type pair struct{ from, to broker.OrgNumber }

// resolve is asked for each record, and makes what it answers anew once after each
// change of structure: with tens of thousands of subscriptions, of which a change
// touches one.
func (s *State) resolve() *resolved {
	old := s.resolved.Load()
	if old != nil && !old.stale {
		return old
	}
	// A subscription is never taken out: as many are the same ones.
	n := len(s.subscriptions)
	r := &resolved{all: make([]*broker.Terms, n), parts: make([]parts, n)}
	var names []broker.SubscriptionID
	alike := old != nil && len(old.all) == n
	if alike {
		r.at, r.byConsent = old.at, old.byConsent
	} else {
		names = slices.Sorted(maps.Keys(s.subscriptions))
		r.at = make(map[broker.SubscriptionID]int32, n)
		for i, id := range names {
			r.at[id] = int32(i)
		}
	}
	given := map[pair][]delegated{}
	for _, id := range slices.Sorted(maps.Keys(s.delegations)) {
		d := s.delegations[id]
		given[pair{d.From, d.To}] = append(given[pair{d.From, d.To}], delegated{d, s.withdrawn[id]})
	}
	moved := !alike // whether anyone's consents may list for others than before
	for i := range n {
		was := -1 // where it was
		var id broker.SubscriptionID
		if alike {
			was, id = i, old.all[i].Subscription.ID
		} else {
			id = names[i]
			if old != nil {
				if at, ok := old.at[id]; ok {
					was = int(at)
				}
			}
		}
		var before parts
		if was >= 0 {
			before = old.parts[was]
		}
		p := s.partsOf(id, &before, given)
		r.parts[i] = p
		if was >= 0 && p.same(&before) {
			r.all[i] = old.all[was] // so that what was compiled for it stays good
			continue
		}
		r.all[i] = p.terms()
		moved = moved || keyOf(p.agreement) != keyOf(before.agreement)
	}
	if moved {
		r.byConsent = map[consentKey][]broker.SubscriptionID{}
		for _, t := range r.all {
			k := keyOf(&t.Agreement)
			r.byConsent[k] = append(r.byConsent[k], t.Subscription.ID)
		}
	}
	for _, k := range s.subjects.consents.groups {
		r.byGroup = append(r.byGroup, r.byConsent[k])
	}
	s.resolved.Store(r)
	return r
}

func keyOf(a *broker.Agreement) consentKey { return consentKey{a.Consumer, a.Dataset, a.Purpose} }

// partsOf finds a subscription's parts. What hangs on an agreement that is the
// same as before has the same name.
func (s *State) partsOf(id broker.SubscriptionID, before *parts, given map[pair][]delegated) parts {
	sub := s.subscriptions[id]
	a := s.agreements[sub.Agreement]
	p := parts{
		subscription: sub,
		mailbox:      s.mailboxes[sub.Mailbox],
		agreement:    a,
		dataset:      s.datasets[a.Dataset],
		pack:         s.packages[a.Package],
		consumer:     s.organisations[a.Consumer],
		bases:        before.bases,
		frozen:       s.stopped(sub, a),
		ended:        s.partyEnded(a),
	}
	if len(p.bases) != len(a.Bases) {
		p.bases = make([]*broker.LegalBasis, len(a.Bases))
	}
	for i, name := range a.Bases {
		if b := s.bases[name]; p.bases[i] != b {
			if len(before.bases) == len(p.bases) && &before.bases[0] == &p.bases[0] {
				p.bases = slices.Clone(p.bases)
			}
			p.bases[i] = b
		}
	}
	if a.Supplier != "" {
		p.delegations = given[pair{a.Consumer, a.Supplier}]
	}
	return p
}

func (p *parts) same(o *parts) bool {
	return p.subscription == o.subscription && p.mailbox == o.mailbox && p.agreement == o.agreement &&
		p.dataset == o.dataset && p.pack == o.pack && p.consumer == o.consumer && p.frozen == o.frozen && p.ended == o.ended &&
		slices.Equal(p.bases, o.bases) && slices.Equal(p.delegations, o.delegations)
}

// listed are the subscriptions that a consent of the group lists its subject for.
func (r *resolved) listed(group uint32, k *consentKey) []broker.SubscriptionID {
	if int(group) < len(r.byGroup) {
		return r.byGroup[group]
	}
	return r.byConsent[*k]
}

func (p parts) terms() *broker.Terms {
	t := &broker.Terms{
		Subscription: *p.subscription,
		Agreement:    *p.agreement,
		Dataset:      p.dataset,
		Package:      p.pack,
		Consumer:     *p.consumer,
		Frozen:       p.frozen,
	}
	if p.ended {
		t.Agreement.Status = broker.Ended
	}
	if p.mailbox != nil {
		t.Mailbox = *p.mailbox
	} else { // what is looked up goes into the answer to whoever receives
		t.Mailbox = broker.Mailbox{Organisation: p.agreement.Receiver(), Channel: broker.LookupChannel}
	}
	for _, b := range p.bases {
		t.Bases = append(t.Bases, *b)
	}
	for _, d := range p.delegations {
		v := *d.Delegation
		if at := d.withdrawn.At; !at.IsZero() && (v.Valid.To.IsZero() || at.Before(v.Valid.To)) {
			v.Valid.To = at // before From too: then it never held
		}
		t.Delegations = append(t.Delegations, v)
	}
	return t
}

// Terms are a subscription with all that it rests on; nil if there is none by
// that name. A change of structure makes new terms for the subscriptions that it
// touches; the others keep theirs, pointer and all.
func (s *State) Terms(id broker.SubscriptionID) *broker.Terms {
	r := s.resolve()
	i, ok := r.at[id]
	if !ok {
		return nil
	}
	return r.all[i]
}

// AllTerms are those of all subscriptions, by name. The slice is shared: read it only.
func (s *State) AllTerms() []*broker.Terms { return s.resolve().all }
