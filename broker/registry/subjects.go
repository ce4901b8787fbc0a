package registry

import (
	"slices"

	"datafordeler/broker"
)

type caseKey struct {
	subscription broker.SubscriptionID
	id           broker.CaseID
}

type heldCase struct {
	subscription broker.SubscriptionID
	dataset      broker.DatasetID // of the subscription; it never changes
	subject      broker.SubjectKey
	open         broker.Interval
	ended        bool
}

// subject is all that was ever registered on one, in the order of the log.
// Nothing is taken out: who was ever listed stays in scope, to be denied visibly.
type subject struct {
	cases    []*heldCase
	consents []*broker.Consent
}

func (s *State) subject(k broker.SubjectKey) *subject {
	u := s.subjects[k]
	if u == nil {
		u = &subject{}
		s.subjects[k] = u
	}
	return u
}

func (s *State) openCase(c *broker.Case) {
	sub := s.subscriptions[c.Subscription] // its strings, not a copy for each case
	h := &heldCase{sub.ID, s.agreements[sub.Agreement].Dataset, c.Subject, c.Open, false}
	s.cases[caseKey{sub.ID, c.ID}] = h
	u := s.subject(c.Subject)
	u.cases = append(u.cases, h)
}

func (s *State) endCase(e *CaseEnd) {
	h := s.cases[caseKey{e.Subscription, e.ID}]
	h.open.To, h.ended = e.At, true
}

func (s *State) giveConsent(c *broker.Consent) {
	s.consents[c.ID] = c
	u := s.subject(c.Subject)
	u.consents = append(u.consents, c)
}

// Listed appends the subscriptions to a dataset for which a case or a consent ever
// listed the subject: those that a case names, and those whose agreement has the
// consumer, dataset and purpose of a consent. In order of name, each once.
func (s *State) Listed(dst []broker.SubscriptionID, ds broker.DatasetID, k broker.SubjectKey) []broker.SubscriptionID {
	u := s.subjects[k]
	if u == nil {
		return dst
	}
	from := len(dst)
	for _, c := range u.cases {
		if c.dataset == ds {
			dst = append(dst, c.subscription)
		}
	}
	if len(u.consents) > 0 {
		r := s.resolve()
		for _, c := range u.consents {
			if c.Dataset == ds {
				dst = append(dst, r.byConsent[consentKey{c.Consumer, c.Dataset, c.Purpose}]...)
			}
		}
	}
	if added := dst[from:]; len(added) > 1 {
		slices.Sort(added)
		dst = dst[:from+len(slices.Compact(added))]
	}
	return dst
}

// Cases appends the intervals of the cases that a subscription ever had on a
// subject, in the order of the log.
func (s *State) Cases(dst []broker.Interval, sub broker.SubscriptionID, k broker.SubjectKey) []broker.Interval {
	if u := s.subjects[k]; u != nil {
		for _, c := range u.cases {
			if c.subscription == sub {
				dst = append(dst, c.open)
			}
		}
	}
	return dst
}

// Consents appends the consents that a subject ever gave a consumer to have a
// dataset for a purpose, withdrawn ones too, in the order of the log.
func (s *State) Consents(dst []broker.Consent, consumer broker.OrgNumber, ds broker.DatasetID, p broker.Purpose, k broker.SubjectKey) []broker.Consent {
	if u := s.subjects[k]; u != nil {
		for _, c := range u.consents {
			if c.Consumer == consumer && c.Dataset == ds && c.Purpose == p {
				dst = append(dst, *c)
			}
		}
	}
	return dst
}

// Consent finds a consent by its name.
func (s *State) Consent(id broker.ConsentID) (broker.Consent, bool) {
	if c := s.consents[id]; c != nil {
		return *c, true
	}
	return broker.Consent{}, false
}

// Case finds a case by its subscription and name.
func (s *State) Case(sub broker.SubscriptionID, id broker.CaseID) (broker.Case, bool) {
	if h := s.cases[caseKey{sub, id}]; h != nil {
		return broker.Case{ID: id, Subscription: sub, Subject: h.subject, Open: h.open}, true
	}
	return broker.Case{}, false
}

// Subjects is how many have been listed.
func (s *State) Subjects() int { return len(s.subjects) }
