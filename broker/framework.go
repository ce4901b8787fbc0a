package broker

// Framework is a rammeavtale: terms that a provider offers to many, and that each of
// them accedes to in one step. Its name is one among the agreements'.
type Framework struct {
	ID       AgreementID    `json:"id"`
	Title    string         `json:"title"`
	Provider OrgNumber      `json:"provider"`
	Dataset  DatasetID      `json:"dataset"`
	Package  PackageRef     `json:"package"`
	Purpose  Purpose        `json:"purpose"`
	Bases    []LegalBasisID `json:"bases"`
	// Justification, OnWithdrawal and Visibility are those of each agreement under it.
	Justification string        `json:"justification,omitempty"`
	OnWithdrawal  *OnWithdrawal `json:"onWithdrawal,omitempty"`
	Visibility    *Visibility   `json:"visibility,omitempty"`
	// Cost of each agreement under it. The payer is whoever accedes, unless it is free
	// or Payer names one for all.
	Cost        Cost        `json:"cost"`
	Corrections Corrections `json:"corrections"`
	Valid       Interval    `json:"valid"`
	// Eligible are organisation numbers and organisation types that may accede; others
	// may when they are invited.
	Eligible []string `json:"eligible"`
	// Assessments are the provider's, of every side, for all who accede. By is the
	// function that made them.
	Assessments []SideAssessment `json:"assessments"`
	Mapping     []FieldMeaning   `json:"mapping"`
	By          string           `json:"by"`
	// Closed takes no more accessions. Those that were made stand.
	Closed bool `json:"closed,omitempty"`
	// FourEyes: nobody accedes before another function of the provider's than By has
	// approved the terms as they stand. It is not taken back.
	FourEyes bool `json:"fourEyes,omitempty"`
}

// FrameworkApproval is another function's word that a framework's terms are the
// provider's.
type FrameworkApproval struct {
	Framework AgreementID `json:"framework"`
	By        string      `json:"by"` // a function, not a person's name
	// On is the digest of the terms, as for an accession.
	On Digest `json:"on,omitzero"`
}

// Invitation invites organisations to accede.
type Invitation struct {
	Framework     AgreementID `json:"framework"`
	Organisations []OrgNumber `json:"organisations"`
	By            string      `json:"by"` // a function, not a person's name
}

// Accession makes an agreement of a framework's terms.
type Accession struct {
	Framework    AgreementID `json:"framework"`
	Agreement    AgreementID `json:"agreement"` // the new one's name
	Organisation OrgNumber   `json:"organisation"`
	// Supplier receives for the organisation, where it has one; needs a delegation.
	Supplier OrgNumber `json:"supplier,omitempty"`
	By       string    `json:"by"` // a function, not a person's name
	// On is the digest of the framework's terms, as they were read. A declaration may
	// leave it out.
	On Digest `json:"on,omitzero"`
}
