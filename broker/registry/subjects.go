package registry

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"datafordeler/broker"
)

// subjects is all that was ever registered on people and other subjects. Nothing
// is taken out: who was ever listed stays in scope, to be denied visibly.
type subjects struct {
	rows     pages[subjectRow]
	byKey    index
	cases    caseTable
	consents consentTable
	times    times
}

// subjectRow has a ring of cases and one of consents, each in the order of the
// log: the latest one, which points to the first. Numbers are a row's plus one; 0
// is none.
type subjectRow struct {
	key             broker.SubjectKey
	cases, consents uint32
}

type caseTable struct {
	rows   pages[caseRow]
	names  texts // the case's
	byName index
	groups []caseGroup
	group  map[broker.SubscriptionID]uint32
}

// caseGroup is what a subscription's cases have in common.
type caseGroup struct {
	subscription broker.SubscriptionID
	dataset      broker.DatasetID // of the subscription; it never changes
}

type caseRow struct {
	from, to instant
	subject  uint32
	next     uint32 // of the subject's ring
	name     uint32
	group    uint32 // and caseEnded
	since    broker.Revision
}

const caseEnded = 1 << 31

type consentTable struct {
	rows   pages[consentRow]
	names  texts // its own, and its external one
	byName index
	groups []consentKey
	group  map[consentKey]uint32
}

type consentRow struct {
	from, to, withdrawn instant
	subject             uint32
	next                uint32
	name                uint32
	group               uint32
	since               broker.Revision
}

func newSubjects() subjects {
	return subjects{
		cases:    caseTable{group: map[broker.SubscriptionID]uint32{}},
		consents: consentTable{group: map[consentKey]uint32{}},
	}
}

func (u *subjects) find(k broker.SubjectKey) *subjectRow {
	i, ok := u.byKey.find(maphash.Bytes(hashSeed, k[:]), func(i uint32) bool { return u.rows.at(i).key == k })
	if !ok {
		return nil
	}
	return u.rows.at(i)
}

func (u *subjects) findOrAdd(k broker.SubjectKey) uint32 {
	h := maphash.Bytes(hashSeed, k[:])
	i, ok := u.byKey.find(h, func(i uint32) bool { return u.rows.at(i).key == k })
	if !ok {
		i = u.rows.add(subjectRow{key: k})
		u.byKey.add(h, i)
	}
	return i
}

// hash mixes the subscription in: many count their cases from one.
func (t *caseTable) hash(g uint32, id broker.CaseID) uint64 {
	return maphash.String(hashSeed, string(id)) ^ uint64(g)*0x9e3779b97f4a7c15
}

func (t *caseTable) find(sub broker.SubscriptionID, id broker.CaseID) (i uint32, ok bool) {
	g, ok := t.group[sub]
	if !ok {
		return 0, false
	}
	return t.byName.find(t.hash(g, id), func(i uint32) bool {
		r := t.rows.at(i)
		name, _ := t.names.get(i, r.name)
		return r.group&^caseEnded == g && name == string(id)
	})
}

func (t *caseTable) id(i uint32) broker.CaseID {
	name, _ := t.names.get(i, t.rows.at(i).name)
	return broker.CaseID(name)
}

func (t *consentTable) find(id broker.ConsentID) (i uint32, ok bool) {
	return t.byName.find(maphash.String(hashSeed, string(id)), func(i uint32) bool {
		name, _ := t.names.get(i, t.rows.at(i).name)
		return name == string(id)
	})
}

func (s *State) openCase(c *broker.Case) {
	u, t := &s.subjects, &s.subjects.cases
	g, ok := t.group[c.Subscription]
	if !ok {
		sub := s.subscriptions[c.Subscription]
		g = uint32(len(t.groups))
		t.groups = append(t.groups, caseGroup{sub.ID, s.agreements[sub.Agreement].Dataset})
		t.group[sub.ID] = g
	}
	subject := u.findOrAdd(c.Subject)
	n := t.rows.len()
	i := t.rows.add(caseRow{from: u.times.pack(c.Open.From), to: u.times.pack(c.Open.To), subject: subject, name: t.names.put(n, string(c.ID)), group: g, since: s.revision})
	t.byName.add(t.hash(g, c.ID), i)
	last := &u.rows.at(subject).cases
	t.rows.at(i).next = i + 1
	if *last != 0 {
		l := t.rows.at(*last - 1)
		t.rows.at(i).next, l.next = l.next, i+1
	}
	*last = i + 1
}

func (s *State) endCase(e *CaseEnd) {
	i, _ := s.subjects.cases.find(e.Subscription, e.ID) // refuse has had its say
	r := s.subjects.cases.rows.at(i)
	r.to = s.subjects.times.pack(e.At)
	r.group |= caseEnded
}

func (s *State) giveConsent(c *broker.Consent) {
	u, t := &s.subjects, &s.subjects.consents
	k := consentKey{c.Consumer, c.Dataset, c.Purpose}
	g, ok := t.group[k]
	if !ok {
		g = uint32(len(t.groups))
		t.groups = append(t.groups, k)
		t.group[k] = g
	}
	subject := u.findOrAdd(c.Subject)
	n := t.rows.len()
	i := t.rows.add(consentRow{from: u.times.pack(c.Valid.From), to: u.times.pack(c.Valid.To), subject: subject,
		name: t.names.put(n, string(c.ID), c.External), group: g, since: s.revision})
	t.byName.add(maphash.String(hashSeed, string(c.ID)), i)
	last := &u.rows.at(subject).consents
	t.rows.at(i).next = i + 1
	if *last != 0 {
		l := t.rows.at(*last - 1)
		t.rows.at(i).next, l.next = l.next, i+1
	}
	*last = i + 1
}

func (s *State) withdrawConsent(w *Withdrawal) (row uint32) {
	i, _ := s.subjects.consents.find(broker.ConsentID(w.ID)) // refuse has had its say
	s.subjects.consents.rows.at(i).withdrawn = s.subjects.times.pack(w.At)
	return i
}

func (u *subjects) consent(i uint32) broker.Consent {
	t := &u.consents
	r := t.rows.at(i)
	g := &t.groups[r.group]
	id, next := t.names.get(i, r.name)
	external, _ := t.names.get(i, next)
	return broker.Consent{
		ID: broker.ConsentID(id), Subject: u.rows.at(r.subject).key, Consumer: g.consumer, Dataset: g.dataset, Purpose: g.purpose,
		Valid: broker.Interval{From: u.times.time(r.from), To: u.times.time(r.to)}, Withdrawn: u.times.time(r.withdrawn), External: external,
	}
}

func (u *subjects) caseAt(i uint32) broker.Case {
	r := u.cases.rows.at(i)
	return broker.Case{ID: u.cases.id(i), Subscription: u.cases.groups[r.group&^caseEnded].subscription, Subject: u.rows.at(r.subject).key, Open: u.open(r)}
}

func (u *subjects) open(r *caseRow) broker.Interval {
	return broker.Interval{From: u.times.time(r.from), To: u.times.time(r.to)}
}

// Listed appends the subscriptions to a dataset for which a case or a consent ever
// listed the subject: those that a case names, and those whose agreement has the
// consumer, dataset and purpose of a consent. In order of name, each once.
func (s *State) Listed(dst []broker.SubscriptionID, ds broker.DatasetID, k broker.SubjectKey) []broker.SubscriptionID {
	from := len(dst)
	dst = s.listed(dst, ds, k)
	if len(s.units.before) > 0 {
		s.predecessors(ds, k, func(p broker.SubjectKey) { dst = s.listed(dst, ds, p) })
	}
	if added := dst[from:]; len(added) > 1 {
		slices.Sort(added)
		dst = dst[:from+len(slices.Compact(added))]
	}
	return dst
}

// listed appends those of one subject, in no order.
func (s *State) listed(dst []broker.SubscriptionID, ds broker.DatasetID, k broker.SubjectKey) []broker.SubscriptionID {
	u := s.subjects.find(k)
	if u == nil {
		return dst
	}
	if u.cases != 0 {
		t := &s.subjects.cases
		for i := t.rows.at(u.cases - 1).next; ; {
			r := t.rows.at(i - 1)
			if g := &t.groups[r.group&^caseEnded]; g.dataset == ds {
				dst = append(dst, g.subscription)
			}
			if i == u.cases {
				break
			}
			i = r.next
		}
	}
	if u.consents != 0 {
		t, by := &s.subjects.consents, s.resolve()
		for i := t.rows.at(u.consents - 1).next; ; {
			r := t.rows.at(i - 1)
			if g := &t.groups[r.group]; g.dataset == ds {
				dst = append(dst, by.listed(r.group, g)...)
			}
			if i == u.consents {
				break
			}
			i = r.next
		}
	}
	return dst
}

// Cases appends the intervals of the cases that a subscription ever had on a
// subject, in the order of the log; then those on whom it took over, where the dataset
// follows.
func (s *State) Cases(dst []broker.Interval, sub broker.SubscriptionID, k broker.SubjectKey) []broker.Interval {
	dst = s.casesOn(dst, sub, k)
	if len(s.units.before) > 0 {
		if v := s.subscriptions[sub]; v != nil {
			s.predecessors(s.agreements[v.Agreement].Dataset, k, func(p broker.SubjectKey) { dst = s.casesOn(dst, sub, p) })
		}
	}
	return dst
}

func (s *State) casesOn(dst []broker.Interval, sub broker.SubscriptionID, k broker.SubjectKey) []broker.Interval {
	u := s.subjects.find(k)
	if u == nil || u.cases == 0 {
		return dst
	}
	t := &s.subjects.cases
	for i := t.rows.at(u.cases - 1).next; ; {
		r := t.rows.at(i - 1)
		if t.groups[r.group&^caseEnded].subscription == sub {
			dst = append(dst, s.subjects.open(r))
		}
		if i == u.cases {
			return dst
		}
		i = r.next
	}
}

// Consents appends the consents that a subject ever gave a consumer to have a
// dataset for a purpose, withdrawn ones too, in the order of the log; then those of whom
// it took over, where the dataset follows.
func (s *State) Consents(dst []broker.Consent, consumer broker.OrgNumber, ds broker.DatasetID, p broker.Purpose, k broker.SubjectKey) []broker.Consent {
	dst = s.consentsOf(dst, consumer, ds, p, k)
	if len(s.units.before) > 0 {
		s.predecessors(ds, k, func(before broker.SubjectKey) { dst = s.consentsOf(dst, consumer, ds, p, before) })
	}
	return dst
}

func (s *State) consentsOf(dst []broker.Consent, consumer broker.OrgNumber, ds broker.DatasetID, p broker.Purpose, k broker.SubjectKey) []broker.Consent {
	u := s.subjects.find(k)
	if u == nil || u.consents == 0 {
		return dst
	}
	t, want := &s.subjects.consents, consentKey{consumer, ds, p}
	for i := t.rows.at(u.consents - 1).next; ; {
		r := t.rows.at(i - 1)
		if t.groups[r.group] == want {
			dst = append(dst, s.subjects.consent(i-1))
		}
		if i == u.consents {
			return dst
		}
		i = r.next
	}
}

// ConsentsOf appends all consents that a subject ever gave, in the order of the log.
func (s *State) ConsentsOf(dst []broker.Consent, k broker.SubjectKey) []broker.Consent {
	u := s.subjects.find(k)
	if u == nil || u.consents == 0 {
		return dst
	}
	for i := s.subjects.consents.rows.at(u.consents - 1).next; ; i = s.subjects.consents.rows.at(i - 1).next {
		dst = append(dst, s.subjects.consent(i-1))
		if i == u.consents {
			return dst
		}
	}
}

// Consent finds a consent by its name.
func (s *State) Consent(id broker.ConsentID) (broker.Consent, bool) {
	i, ok := s.subjects.consents.find(id)
	if !ok {
		return broker.Consent{}, false
	}
	return s.subjects.consent(i), true
}

// Case finds a case by its subscription and name.
func (s *State) Case(sub broker.SubscriptionID, id broker.CaseID) (broker.Case, bool) {
	i, ok := s.subjects.cases.find(sub, id)
	if !ok {
		return broker.Case{}, false
	}
	return s.subjects.caseAt(i), true
}

// caseOpen is when a case is open, and whether it was ended by an event.
func (s *State) caseOpen(sub broker.SubscriptionID, id broker.CaseID) (open broker.Interval, ended, ok bool) {
	i, ok := s.subjects.cases.find(sub, id)
	if !ok {
		return open, false, false
	}
	r := s.subjects.cases.rows.at(i)
	return s.subjects.open(r), r.group&caseEnded != 0, true
}

// Subjects is how many have been listed.
func (s *State) Subjects() int { return s.subjects.rows.len() }

// ConsentsDue are the consents of one consumer, dataset and purpose that end within
// a span of time.
type ConsentsDue struct {
	Consumer broker.OrgNumber
	Dataset  broker.DatasetID
	Purpose  broker.Purpose
	Count    int64
	First    time.Time // when the first of them ends
}

// ConsentsEnding counts the consents that are in force at from and end before to or
// then, by consumer, dataset and purpose, in that order. It looks at every consent.
func (s *State) ConsentsEnding(from, to time.Time) []ConsentsDue {
	u := &s.subjects
	t := &u.consents
	all := make([]ConsentsDue, len(t.groups))
	for i := range t.rows.len() {
		r := t.rows.at(uint32(i))
		end := u.times.time(r.to)
		if w := u.times.time(r.withdrawn); !w.IsZero() && (end.IsZero() || w.Before(end)) {
			end = w
		}
		if end.IsZero() || !end.After(from) || end.After(to) || u.times.time(r.from).After(from) {
			continue
		}
		g := &all[r.group]
		if g.Count++; g.Count == 1 || end.Before(g.First) {
			g.First = end
		}
	}
	out := all[:0]
	for i, g := range all {
		if g.Count > 0 {
			g.Consumer, g.Dataset, g.Purpose = t.groups[i].consumer, t.groups[i].dataset, t.groups[i].purpose
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b ConsentsDue) int {
		return cmp.Or(cmp.Compare(a.Consumer, b.Consumer), cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Purpose, b.Purpose))
	})
	return out
}
