package registry

import (
	"maps"
	"slices"

	"datafordeler/broker"
)

// resolved is what follows from the catalogue alone.
type resolved struct {
	stale     bool // kept only for what of it can be used again
	all       []*broker.Terms
	byID      map[broker.SubscriptionID]*broker.Terms
	byConsent map[consentKey][]broker.SubscriptionID // each list by name
	byGroup   [][]broker.SubscriptionID              // the same, by consentTable's number; the groups of later are not in it
	parts     map[broker.SubscriptionID]parts
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
	delegations  []delegated
}

type delegated struct {
	*broker.Delegation
	withdrawn Withdrawal
}

func (p parts) same(o parts) bool {
	return p.subscription == o.subscription && p.mailbox == o.mailbox && p.agreement == o.agreement &&
		p.dataset == o.dataset && p.pack == o.pack && p.consumer == o.consumer &&
		slices.Equal(p.bases, o.bases) && slices.Equal(p.delegations, o.delegations)
}

type pair struct{ from, to broker.OrgNumber }

func (s *State) resolve() *resolved {
	old := s.resolved.Load()
	if old != nil && !old.stale {
		return old
	}
	n := len(s.subscriptions)
	r := &resolved{
		all:       make([]*broker.Terms, 0, n),
		byID:      make(map[broker.SubscriptionID]*broker.Terms, n),
		byConsent: map[consentKey][]broker.SubscriptionID{},
		parts:     make(map[broker.SubscriptionID]parts, n),
	}
	given := map[pair][]delegated{}
	for _, id := range slices.Sorted(maps.Keys(s.delegations)) {
		d := s.delegations[id]
		given[pair{d.From, d.To}] = append(given[pair{d.From, d.To}], delegated{d, s.withdrawn[id]})
	}
	for _, id := range slices.Sorted(maps.Keys(s.subscriptions)) {
		sub := s.subscriptions[id]
		a := s.agreements[sub.Agreement]
		p := parts{
			subscription: sub,
			mailbox:      s.mailboxes[sub.Mailbox],
			agreement:    a,
			dataset:      s.datasets[a.Dataset],
			pack:         s.packages[a.Package],
			consumer:     s.organisations[a.Consumer],
			bases:        make([]*broker.LegalBasis, len(a.Bases)),
		}
		for i, b := range a.Bases {
			p.bases[i] = s.bases[b]
		}
		if a.Supplier != "" {
			p.delegations = given[pair{a.Consumer, a.Supplier}]
		}
		var t *broker.Terms
		if old != nil && old.parts[id].same(p) {
			t = old.byID[id] // so that what was compiled for it stays good
		} else {
			t = p.terms()
		}
		r.all = append(r.all, t)
		r.byID[id] = t
		r.parts[id] = p
		k := consentKey{a.Consumer, a.Dataset, a.Purpose}
		r.byConsent[k] = append(r.byConsent[k], id)
	}
	for _, k := range s.subjects.consents.groups {
		r.byGroup = append(r.byGroup, r.byConsent[k])
	}
	s.resolved.Store(r)
	return r
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
		Mailbox:      *p.mailbox,
		Agreement:    *p.agreement,
		Dataset:      p.dataset,
		Package:      p.pack,
		Consumer:     *p.consumer,
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
func (s *State) Terms(id broker.SubscriptionID) *broker.Terms { return s.resolve().byID[id] }

// AllTerms are those of all subscriptions, by name. The slice is shared: read it only.
func (s *State) AllTerms() []*broker.Terms { return s.resolve().all }
