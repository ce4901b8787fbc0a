package broker

import "encoding/json"

// Dataset is a provider's stream of records.
type Dataset struct {
	ID    DatasetID `json:"id"`
	Title string    `json:"title"`
	Owner OrgNumber `json:"owner"`
	// Purpose is what the provider collected the data for.
	Purpose Purpose `json:"purpose"`
	// AccessRights follows the EU authority table: PUBLIC, RESTRICTED, NON_PUBLIC.
	AccessRights AccessRights `json:"accessRights"`
	// Schemas are the declared versions; a record names one by the CloudEvents
	// attribute dataschema, or else is held to Current.
	Schemas []Schema `json:"schemas"`
	Current string   `json:"current"`
	// Subject says where the record's subject is.
	Subject SubjectRule `json:"subject"`
	// Attributes are all that scope, filter and policy may see of a record.
	Attributes []Attribute `json:"attributes"`
	// Concepts give each field its meaning: pointer → concept URI.
	Concepts map[Pointer]string `json:"concepts,omitempty"`
	// Retention is for how long its records stand at the broker; nil = the
	// configuration's defaults.
	Retention *Retention `json:"retention,omitempty"`
	// Partitions of source.<dataset>; 0 = the configuration's default.
	Partitions int32 `json:"partitions,omitempty"`
	// Endpoint is set where the records stay with their provider: nothing is
	// published, and lookups go there.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
	// Lifecycle: required, where agreements on it come about by steps alone.
	Lifecycle Lifecycle `json:"lifecycle,omitempty"`
	// FourEyes: no step towards an agreement on it counts that is by the function
	// which made the offer.
	FourEyes bool `json:"fourEyes,omitempty"`
	// RequiresTruthTable: no agreement on it may be put in force without a truth table
	// that is signed off.
	RequiresTruthTable bool `json:"requiresTruthTable,omitempty"`
}

// Endpoint is where a provider answers lookups itself.
type Endpoint struct {
	// URL is an https address without credentials, query or fragment. Configuration
	// says which hosts may be called at all.
	URL string `json:"url"`
	// TimeoutMillis is how long an answer may take; 0 is 2,000.
	TimeoutMillis int32 `json:"timeoutMillis,omitempty"`
}

// Retention is for how long a dataset's records stand at the broker, in days;
// 0 = the configuration's default. It bounds both ways: what is younger is
// there, and what is older goes within a thirtieth of the time more.
type Retention struct {
	// SourceDays is for what the provider published. At least as long as repeats
	// are recognised for, and as long as decisions shall be computed again.
	SourceDays int32 `json:"sourceDays,omitempty"`
	// RejectedDays is for what intake refused of it.
	RejectedDays int32 `json:"rejectedDays,omitempty"`
	// DeliveriesDays is for its deliveries, in whichever mailbox they stand. A
	// topic that holds deliveries of several datasets keeps them for the
	// shortest of their times.
	DeliveriesDays int32 `json:"deliveriesDays,omitempty"`
}

// Schema is one version of a dataset's JSON Schema, drafts 4 to 2020-12.
type Schema struct {
	Version  string          `json:"version"`
	URI      string          `json:"uri,omitempty"` // what dataschema says
	Document json.RawMessage `json:"document"`
}

// AccessRights of a dataset (DCAT-AP-NO, dct:accessRights).
type AccessRights string

// The EU authority table's three.
const (
	Public     AccessRights = "PUBLIC"
	Restricted AccessRights = "RESTRICTED"
	NonPublic  AccessRights = "NON_PUBLIC"
)

// SubjectKind is what a record is about.
type SubjectKind string

// The kinds of subject.
const (
	Person              SubjectKind = "person"
	OrganisationSubject SubjectKind = "organisation"
	PropertySubject     SubjectKind = "property"
	NoSubject           SubjectKind = "none"
)

// SubjectRule says where the subject's identifier lies. Every place that the
// pointer reaches must yield the same one.
type SubjectRule struct {
	Kind    SubjectKind `json:"kind"`
	Pointer Pointer     `json:"pointer,omitempty"`
	// Follow: what was registered on an organisation or a property that was merged into
	// this one since holds for it too. A case goes on against whoever took over.
	Follow bool `json:"follow,omitempty"`
}

// Attribute is a named value of a record: from the payload by Pointer, from a
// CloudEvents extension, or from a register that the broker keeps on its subject.
// Exactly one of the three is set. Where the pointer reaches several values, all must
// be equal, or the record is rejected.
type Attribute struct {
	Name      string  `json:"name"`
	Pointer   Pointer `json:"pointer,omitempty"`
	Extension string  `json:"extension,omitempty"`
	// Register is where the value is looked up when a record is decided on: what it
	// was when the record was published does not count.
	Register Register `json:"register,omitempty"`
	// Optional attributes may be absent, and are then the empty string.
	Optional bool `json:"optional,omitempty"`
}

// AttributeIndex is the position of an attribute in Dataset.Attributes and in
// Record.Attributes, or −1.
func (d *Dataset) AttributeIndex(name string) int {
	for i := range d.Attributes {
		if d.Attributes[i].Name == name {
			return i
		}
	}
	return -1
}

// Register is something that the broker knows of subjects. The set is closed.
type Register string

// ProtectionRegister gives the subject's Protection, of a dataset on persons. It is
// the empty string as long as the register has told of nobody: who is protected is
// not known then, so nobody is taken to be unprotected.
const ProtectionRegister Register = "protection"

// Protection (adressebeskyttelse) is how a person's whereabouts are protected, in the
// words of Folkeregisteret (folkeregisterloven § 10-4).
type Protection string

// The grades.
const (
	Unprotected          Protection = "ugradert"
	ClientAddress        Protection = "klientadresse"
	Confidential         Protection = "fortrolig"
	StrictlyConfidential Protection = "strengtFortrolig"
)

// Protections are all of them.
var Protections = []Protection{Unprotected, ClientAddress, Confidential, StrictlyConfidential}
