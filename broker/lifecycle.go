package broker

import "time"

// Lifecycle says how agreements on a dataset come about.
type Lifecycle string

// LifecycleRequired: by steps alone. "" lets files declare them as well.
const LifecycleRequired Lifecycle = "required"

// StepName is what a step does to an agreement. The set is closed.
type StepName string

// The steps, about in the order in which they come.
const (
	StepProposed  StepName = "proposed"         // by either party, with Terms
	StepAssessed  StepName = "assessed"         // with Assessment; collection by the consumer, all else by the provider
	StepMapped    StepName = "mapped"           // by either party, with Mapping
	StepMapping   StepName = "mapping-approved" // by the party that did not map
	StepPackage   StepName = "package-approved" // by the provider: the package is no more than the purpose needs
	StepCost      StepName = "cost-covered"     // by the payer; by the provider where it is free
	StepAccepted  StepName = "accepted"         // by each party
	StepActivated StepName = "activated"        // by either party, when nothing is missing
	StepSuspended StepName = "suspended"        // by either party, with Why
	StepResumed   StepName = "resumed"          // by whoever suspended
	StepAmended   StepName = "amended"          // by either party, with Terms: an offer until it is activated
	StepRenewed   StepName = "renewed"          // by either party, with Until: the same
	StepDeclined  StepName = "declined"         // by either party, with Why: the offer is off
	StepEnded     StepName = "ended"            // by either party, with Why
)

// Steps are all of them.
var Steps = []StepName{StepProposed, StepAssessed, StepMapped, StepMapping, StepPackage, StepCost, StepAccepted, StepActivated,
	StepSuspended, StepResumed, StepAmended, StepRenewed, StepDeclined, StepEnded}

// Compatibility is the assessment that a purpose can live with what the data was
// collected for (GDPR article 6(4)). It is no side of a legal basis.
const Compatibility Side = "compatibility"

// AgreementStep is one step in an agreement's life.
type AgreementStep struct {
	Agreement AgreementID `json:"agreement"`
	// Number counts the agreement's steps from 1: whoever takes one has seen those before.
	Number       int       `json:"number"`
	Step         StepName  `json:"step"`
	Organisation OrgNumber `json:"organisation"`
	By           string    `json:"by"` // a function that the organisation answers for, not a person's name
	// On is the digest of what the step concerns. A declaration may leave it out: then
	// it is on what stands when it is applied.
	On         Digest          `json:"on,omitzero"`
	Terms      *Agreement      `json:"terms,omitempty"`
	Until      time.Time       `json:"until,omitzero"`
	Assessment *SideAssessment `json:"assessment,omitempty"`
	Mapping    []FieldMeaning  `json:"mapping,omitempty"`
	Why        string          `json:"why,omitempty"`
}

// SideAssessment is what one side of the law was found to be, for one agreement or framework.
type SideAssessment struct {
	Side Side `json:"side"`
	// Basis is the one relied on; none for Compatibility.
	Basis LegalBasisID `json:"basis,omitempty"`
	Holds bool         `json:"holds"`
	Note  string       `json:"note"` // why
	// Review is until when it counts without another look; zero is without end.
	Review time.Time `json:"review,omitzero"`
	// RestsOn are assessments in the library that it draws on.
	RestsOn []AssessmentID `json:"restsOn,omitempty"`
}

// FieldMeaning ties a field that the service uses to the concept that it takes it for.
type FieldMeaning struct {
	Field   Pointer `json:"field"`
	Concept string  `json:"concept"` // a URI, as the dataset has it
	Use     string  `json:"use,omitempty"`
}
