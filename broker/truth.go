package broker

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"
)

// TruthTableID names a truth table, and AssessmentID an assessment in the library.
type (
	TruthTableID string
	AssessmentID string
)

// TruthTable is a sannhetstabell: situations that a lawyer can read, and what
// must come out in each. It belongs to one of an agreement, a version of a rights
// package, or a dataset, and then holds for every agreement on that.
type TruthTable struct {
	ID        TruthTableID `json:"id"`
	Title     string       `json:"title"`
	Agreement AgreementID  `json:"agreement,omitempty"`
	Package   *PackageRef  `json:"package,omitempty"`
	Dataset   DatasetID    `json:"dataset,omitempty"`
	// CSV is the table in its canonical form; see package truthtable.
	CSV string `json:"csv"`
}

// Digest names the table's whole content: what it belongs to, and every row.
// Whoever signs it off signs this.
func (t *TruthTable) Digest() Digest {
	b, err := json.Marshal(t)
	if err != nil {
		panic(fmt.Sprintf("broker: %v", err)) // it is texts and a number
	}
	sum := sha256.Sum256(b)
	return Digest(sum[:16])
}

// Concerns reports whether the table holds for an agreement.
func (t *TruthTable) Concerns(a *Agreement) bool {
	switch {
	case t.Agreement != "":
		return t.Agreement == a.ID
	case t.Package != nil:
		return *t.Package == a.Package
	}
	return t.Dataset != "" && t.Dataset == a.Dataset
}

// LegalAssessment is a juridisk vurdering that is made once and that many legal
// bases and rights packages rest on: Assessment.RestsOn names it.
type LegalAssessment struct {
	ID    AssessmentID `json:"id"`
	Title string       `json:"title"`
	// Question is what was asked, and Conclusion the answer, in whole sentences.
	Question   string   `json:"question"`
	Conclusion string   `json:"conclusion"`
	Sources    []Source `json:"sources"`
	By         string   `json:"by"` // a function, not a person's name
	// At is when it was concluded, and Review until when it stands without another look.
	At     time.Time `json:"at"`
	Review time.Time `json:"review,omitzero"`
}

// Source is a rettskilde: what an assessment reads.
type Source struct {
	Title string `json:"title"`
	// ELI is its European Legislation Identifier, where it has one; Paragraph the place in it.
	ELI       string `json:"eli,omitempty"`
	Paragraph string `json:"paragraph,omitempty"`
}
