package broker

import (
	"slices"
	"time"
)

// Organisation is a virksomhet: a provider, consumer or supplier, public or private.
type Organisation struct {
	Number OrgNumber `json:"number"`
	Name   string    `json:"name"`
	// Types are classes that a legal basis may name as recipients, such as "kommune".
	Types []string `json:"types,omitempty"`
	// Contact is where to ask; a function's address, not a person's.
	Contact string `json:"contact,omitempty"`
	// FourEyes: no step of this organisation's towards an agreement counts that is by
	// the function which made its offer.
	FourEyes bool `json:"fourEyes,omitempty"`
}

// PublicTypes are the classes of organisations that are public authorities.
var PublicTypes = []string{"kommune", "fylkeskommune", "statlig"}

// Public reports whether it is a public authority.
func (o *Organisation) Public() bool {
	return slices.ContainsFunc(o.Types, func(t string) bool { return slices.Contains(PublicTypes, t) })
}

// Delegation is a consumer's recorded leave for a supplier to act for it.
type Delegation struct {
	ID   DelegationID `json:"id"`
	From OrgNumber    `json:"from"` // the consumer
	To   OrgNumber    `json:"to"`   // the supplier
	// Datasets that the supplier may receive; none listed is none delegated.
	Datasets []DatasetID `json:"datasets"`
	Valid    Interval    `json:"valid"`
}

// RoleName is what an organisation is trusted with beside sharing data itself.
type RoleName string

// The roles. Who provides, consumes or supplies follows from datasets, agreements
// and delegations, and is no role that is given.
const (
	// Auditor may ask what was decided on everybody's data, and read the ledger.
	Auditor RoleName = "auditor"
	// Operator may change the registry and stop what is wrong.
	Operator RoleName = "operator"
)

// Role gives an organisation a role for a time. It is taken back by declaring it
// again with an end.
type Role struct {
	ID           RoleID    `json:"id"`
	Organisation OrgNumber `json:"organisation"`
	Role         RoleName  `json:"role"`
	Valid        Interval  `json:"valid"`
}

// SubjectKey is a subject under the stable matching key: it finds cases and
// consents, and stands in control events. It is a secret's output, not an
// identity number, but whoever holds the key can enumerate it.
type SubjectKey = Digest

// Pseudonym is a subject under the key of one period: it stands in decisions,
// and means nothing once that period's key is destroyed.
type Pseudonym = Digest

// Case is a sak: a subject on whom a consumer has an open case.
type Case struct {
	ID           CaseID         `json:"id"`
	Subscription SubscriptionID `json:"subscription"`
	Subject      SubjectKey     `json:"subject"`
	Open         Interval       `json:"open"`
}

// Consent is a samtykke: a subject lets a consumer have a dataset for a purpose.
type Consent struct {
	ID       ConsentID  `json:"id"`
	Subject  SubjectKey `json:"subject"`
	Consumer OrgNumber  `json:"consumer"`
	Dataset  DatasetID  `json:"dataset"`
	Purpose  Purpose    `json:"purpose"`
	Valid    Interval   `json:"valid"`
	// Withdrawn is when it was withdrawn; zero while it stands.
	Withdrawn time.Time `json:"withdrawn,omitzero"`
	// External is its identifier where it was given (Altinn).
	External string `json:"external,omitempty"`
}
