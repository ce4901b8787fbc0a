package registry

import (
	"slices"

	"datafordeler/broker"
)

// standingAs is what is registered under the body's name, or nil: the thing, or the
// deed as it was done.
func (s *State) standingAs(body any) any {
	switch v := body.(type) {
	case *broker.Agreement:
		return s.agreementAs(v)
	case *broker.Cosignature:
		if c, ok := s.cosigned[v.Need][v.Organisation]; ok {
			return &c.Cosignature
		}
		return nil
	case *broker.FrameworkApproval:
		if a, ok := s.approvals[v.Framework]; ok {
			b := a.FrameworkApproval
			return &b
		}
		return nil
	case *broker.Invitation:
		for _, n := range v.Organisations {
			if _, ok := s.invited[v.Framework][n]; !ok {
				return nil
			}
		}
		return v // all of them have been invited
	case *broker.Accession:
		if a, ok := s.acceded[v.Agreement]; ok {
			b := a.Accession
			return &b
		}
		return nil
	case *broker.AgreementStep:
		if l := s.lifecycles[v.Agreement]; l != nil && v.Number >= 1 && v.Number <= len(l.Steps) {
			b := l.Steps[v.Number-1].AgreementStep
			return &b
		}
		return nil
	}
	return s.catalogue.get(body)
}

// agreementAs is the agreement as it was declared: one that steps have taken on from a
// declared proposal is not taken back by applying the proposal again.
func (s *State) agreementAs(v *broker.Agreement) any {
	if s.lifecycles[v.ID] != nil && v.Status == broker.Proposed {
		return v
	}
	return s.catalogue.get(v)
}

// fill gives a declared deed what it is on, where it does not say: in a file it stands
// beside that. One that was done before is on what it was on then.
func (s *State) fill(body any) {
	switch v := body.(type) {
	case *broker.AgreementStep:
		if !v.On.IsZero() {
			return
		}
		if old, ok := s.standingAs(v).(*broker.AgreementStep); ok {
			v.On = old.On
			return
		}
		if s.agreements[v.Agreement] != nil && slices.Contains(broker.Steps, v.Step) && v.Terms == nil {
			v.On = s.StepDigest(v.Agreement, v.Step)
		}
	case *broker.FrameworkApproval:
		if f := s.frameworks[v.Framework]; f != nil && v.On.IsZero() {
			v.On = s.FrameworkDigest(f)
		}
	case *broker.Accession:
		if !v.On.IsZero() {
			return
		}
		if old, ok := s.standingAs(v).(*broker.Accession); ok {
			v.On = old.On
		} else if f := s.frameworks[v.Framework]; f != nil {
			v.On = s.FrameworkDigest(f)
		}
	}
}
