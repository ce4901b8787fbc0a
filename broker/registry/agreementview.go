package registry

import (
	"time"

	"datafordeler/broker"
)

// AgreementView is an agreement as somebody reads it before a step.
type AgreementView struct {
	Agreement broker.Agreement      `json:"agreement"` // as it is in force, or proposed
	Offer     *broker.Agreement     `json:"offer,omitempty"`
	Offered   int                   `json:"offered,omitempty"` // the step that made the offer
	Mapping   []broker.FieldMeaning `json:"mapping,omitempty"`
	Suspended []broker.OrgNumber    `json:"suspendedBy,omitempty"`
	Steps     []Stepped             `json:"steps"`
	// Missing is what the offer lacks; of what is in force, what would be missing now.
	Missing Lacks `json:"missing"`
	Next    int   `json:"next"` // the next step's number
	// On is what each step would be on, were it taken now.
	On map[broker.StepName]broker.Digest `json:"on"`
}

// ViewAgreement reads one that is registered.
func ViewAgreement(s *State, id broker.AgreementID, at time.Time) AgreementView {
	v := AgreementView{Agreement: *s.agreements[id], Steps: []Stepped{}, Missing: Lacks{}, Next: s.NextStep(id), On: map[broker.StepName]broker.Digest{}}
	if l := s.lifecycles[id]; l != nil {
		v.Offer, v.Offered, v.Mapping, v.Suspended, v.Steps = l.Offer, l.Offered, l.Mapping, l.Suspended, l.Steps
	}
	v.Missing = append(v.Missing, s.Missing(id, at)...)
	for _, step := range broker.Steps {
		if d := s.StepDigest(id, step); !d.IsZero() {
			v.On[step] = d
		}
	}
	return v
}
