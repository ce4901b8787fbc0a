package registry

import (
	"datafordeler/broker"
)

// Concerns tells of which subjects the events are, each as often as it is named; ok is
// false where one of them may change anything else. What is so of one subject's cases and
// consents does not depend on another's, so that events of different subjects which were
// made on one state may follow each other in any order.
func (s *State) Concerns(events []Event) (subjects []broker.SubjectKey, ok bool) {
	for i := range events {
		p, err := parse(&events[i])
		if err != nil {
			return nil, false
		}
		switch v := p.(type) {
		case *broker.Case:
			subjects = append(subjects, v.Subject)
		case *broker.Consent:
			subjects = append(subjects, v.Subject)
		case *CaseEnd:
			c, found := s.Case(v.Subscription, v.ID)
			if !found {
				return nil, false
			}
			subjects = append(subjects, c.Subject)
		case *Withdrawal:
			c, found := s.Consent(broker.ConsentID(v.ID))
			if events[i].Type != ConsentWithdrawn || !found {
				return nil, false
			}
			subjects = append(subjects, c.Subject)
		case *Receipt:
			c, found := s.Consent(v.Consent)
			if !found {
				return nil, false
			}
			subjects = append(subjects, c.Subject)
		default:
			return nil, false
		}
	}
	return subjects, true
}

// Relink lets events that [State.Link] made rest on another than the state's last, in
// place.
func Relink(after *Event, events []Event) {
	on, prev := after.Seq, after.Hash()
	for i := range events {
		e := &events[i]
		e.Seq, e.On, e.Prev = on+1, on, prev
		on, prev = e.Seq, e.Hash()
	}
}
