package registry

import (
	"slices"
	"time"

	"datafordeler/broker"
)

// Trigger is an event after which a subject's earlier records may concern a
// subscription that they did not concern before: a case opened, a consent given.
type Trigger struct {
	Revision broker.Revision
	Subject  broker.SubjectKey
	// Subscriptions that it lists the subject for, of those declared by now; in
	// order of name.
	Subscriptions []broker.SubscriptionID
}

// Triggers are those on a dataset after a revision, in the order of the log, most
// at the most. It returns the revision up to which they are all: the state's, or
// the last trigger's where there are more.
func (s *State) Triggers(ds broker.DatasetID, after broker.Revision, most int) (list []Trigger, through broker.Revision) {
	u := &s.subjects
	by := s.resolve()
	c, n := firstAfter(&u.cases.rows, after, func(r *caseRow) broker.Revision { return r.since }), u.cases.rows.len()
	k, m := firstAfter(&u.consents.rows, after, func(r *consentRow) broker.Revision { return r.since }), u.consents.rows.len()
	for c < n || k < m {
		if len(list) == most {
			return list, list[most-1].Revision
		}
		if k == m || c < n && u.cases.rows.at(uint32(c)).since < u.consents.rows.at(uint32(k)).since {
			r := u.cases.rows.at(uint32(c))
			c++
			if g := &u.cases.groups[r.group&^caseEnded]; g.dataset == ds {
				list = append(list, Trigger{r.since, u.rows.at(r.subject).key, []broker.SubscriptionID{g.subscription}})
			}
			continue
		}
		r := u.consents.rows.at(uint32(k))
		k++
		if g := &u.consents.groups[r.group]; g.dataset == ds {
			subs := slices.DeleteFunc(slices.Clone(by.listed(r.group, g)), func(id broker.SubscriptionID) bool { return s.declared[id] > r.since })
			if len(subs) > 0 {
				list = append(list, Trigger{r.since, u.rows.at(r.subject).key, subs})
			}
		}
	}
	return list, s.revision
}

// TriggersLeft counts the cases and consents on a dataset after a revision. It looks
// at each of them.
func (s *State) TriggersLeft(ds broker.DatasetID, after broker.Revision) (n int64) {
	u := &s.subjects
	for i := firstAfter(&u.cases.rows, after, func(r *caseRow) broker.Revision { return r.since }); i < u.cases.rows.len(); i++ {
		if u.cases.groups[u.cases.rows.at(uint32(i)).group&^caseEnded].dataset == ds {
			n++
		}
	}
	for i := firstAfter(&u.consents.rows, after, func(r *consentRow) broker.Revision { return r.since }); i < u.consents.rows.len(); i++ {
		if u.consents.groups[u.consents.rows.at(uint32(i)).group].dataset == ds {
			n++
		}
	}
	return n
}

// firstAfter is the first row that a later event than after made; rows are in the order
// of the log.
func firstAfter[T any](rows *pages[T], after broker.Revision, since func(*T) broker.Revision) int {
	lo, hi := 0, rows.len()
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if since(rows.at(uint32(mid))) <= after {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// ListedSince is the last revision before one at which a case or consent listed the
// subject for a subscription, which cannot be before the subscription was declared;
// 0 where none did.
func (s *State) ListedSince(sub broker.SubscriptionID, k broker.SubjectKey, before broker.Revision) (since broker.Revision) {
	u := s.subjects.find(k)
	if u == nil {
		return 0
	}
	declared := s.declared[sub]
	listed := func(at broker.Revision) {
		if at = max(at, declared); at < before {
			since = max(since, at)
		}
	}
	if u.cases != 0 {
		t := &s.subjects.cases
		for i := u.cases; ; {
			r := t.rows.at(i - 1)
			if t.groups[r.group&^caseEnded].subscription == sub {
				listed(r.since)
			}
			if i = r.next; i == u.cases {
				break
			}
		}
	}
	if u.consents != 0 {
		t, by := &s.subjects.consents, s.resolve()
		for i := u.consents; ; {
			r := t.rows.at(i - 1)
			if slices.Contains(by.listed(r.group, &t.groups[r.group]), sub) {
				listed(r.since)
			}
			if i = r.next; i == u.consents {
				break
			}
		}
	}
	return since
}

// Start is a subscription that begins before it was declared.
type Start struct {
	Revision     broker.Revision // that declared it
	Subscription broker.SubscriptionID
	Dataset      broker.DatasetID
	From         time.Time
}

// Starts are those on a dataset after a revision, in the order of the log.
func (s *State) Starts(ds broker.DatasetID, after broker.Revision) (list []Start) {
	i, _ := slices.BinarySearchFunc(s.starts, after+1, func(x Start, rev broker.Revision) int { return int(int64(x.Revision) - int64(rev)) })
	for ; i < len(s.starts); i++ {
		if s.starts[i].Dataset == ds {
			list = append(list, s.starts[i])
		}
	}
	return list
}

// Declared is the revision at which a subscription first was; 0 for none.
func (s *State) Declared(sub broker.SubscriptionID) broker.Revision { return s.declared[sub] }

// declare takes note of a subscription that is put, before it is.
func (s *State) declare(v *broker.Subscription) {
	if s.subscriptions[v.ID] != nil {
		return
	}
	s.declared[v.ID] = s.revision
	if a := s.agreements[v.Agreement]; !v.Start.IsZero() && a != nil {
		s.starts = append(s.starts, Start{s.revision, v.ID, a.Dataset, v.Start})
	}
}
