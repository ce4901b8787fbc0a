package broker

import "time"

// BasisType is statute or consent.
type BasisType string

// The two legal bases that the strategy names.
const (
	Lov      BasisType = "lov"
	Samtykke BasisType = "samtykke"
)

// Side is what a legal basis permits.
type Side string

// The sides of a legal basis.
const (
	Disclosure      Side = "disclosure"      // the provider may give
	Collection      Side = "collection"      // the consumer may ask
	Confidentiality Side = "confidentiality" // the duty of confidentiality is lifted
)

// LegalBasis is a hjemmel.
type LegalBasis struct {
	ID    LegalBasisID `json:"id"`
	Type  BasisType    `json:"type"`
	Sides []Side       `json:"sides"`
	Title string       `json:"title"`
	// ELI is the act's European Legislation Identifier; Paragraph the place in it.
	ELI       string `json:"eli,omitempty"`
	Paragraph string `json:"paragraph,omitempty"`
	// GDPR is the article relied on, in DPV's notation: "A6-1-c", "A6-1-e", "A6-1-a".
	GDPR string `json:"gdpr"`
	// Datasets, Purposes and Recipients bound it; none listed is none covered.
	// A recipient is an organisation number or an organisation type.
	Datasets   []DatasetID `json:"datasets"`
	Purposes   []Purpose   `json:"purposes"`
	Recipients []string    `json:"recipients"`
	// RequiresCase: the statute gives access only to subjects with an open case.
	RequiresCase bool `json:"requiresCase,omitempty"`
	// ConsentResource is the resource in Altinn's register by which a citizen is
	// asked for the consent that this basis rests on.
	ConsentResource string `json:"consentResource,omitempty"`
	// ConsentMetadata is what such a consent is bounded by, in the words that the
	// citizen saw, such as inntektsaar: "2025"; [AnyMetadata] is any value. A consent
	// that is bounded otherwise is none to this basis.
	ConsentMetadata map[string]string `json:"consentMetadata,omitempty"`
	Valid           Interval          `json:"valid"`
	// About bounds the period that a record may be about.
	About    *AboutBound `json:"about,omitempty"`
	Assessed Assessment  `json:"assessed"`
}

// AnyMetadata says that it does not matter to which value a consent is bounded.
const AnyMetadata = "*"

// AboutBound compares an attribute's text, such as "2026-10", with From ≤ text
// ≤ To; an empty bound is open. ISO 8601 periods order as text does.
type AboutBound struct {
	Attribute string `json:"attribute"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
}

// Assessment is who judged that the basis holds, in what role, and until when
// that judgement stands without another look.
type Assessment struct {
	By     string    `json:"by"` // a function, not a person's name
	At     time.Time `json:"at,omitzero"`
	Review time.Time `json:"review,omitzero"`
	Note   string    `json:"note,omitempty"`
	// RestsOn names assessments in the library that it was concluded from.
	RestsOn []AssessmentID `json:"restsOn,omitempty"`
}

// PackageRef names a version of a rights package.
type PackageRef struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
}

// RightsPackage is a rettighetspakke: what may leave, of which records, and how
// protected subjects are shielded.
type RightsPackage struct {
	ID      string    `json:"id"`
	Version int       `json:"version"`
	Dataset DatasetID `json:"dataset"`
	Title   string    `json:"title"`
	// Fields is the allow-list. A pointer permits the value and all below it.
	Fields []Pointer `json:"fields"`
	// Derivations are answers that leave, worked out of what may stay behind.
	Derivations []Derivation `json:"derivations,omitempty"`
	// Tests are what the derivations are held to before the package is registered.
	Tests []DerivationTest `json:"tests,omitempty"`
	// Household is a rule across several subjects, in place of fields and derivations.
	Household *Household `json:"household,omitempty"`
	// Filter: all conditions must hold for a record to be in scope.
	Filter     []Condition `json:"filter,omitempty"`
	Shielding  *Shielding  `json:"shielding,omitempty"`
	Assessment Assessment  `json:"assessment"`
}

// Ref names the package.
func (p *RightsPackage) Ref() PackageRef { return PackageRef{p.ID, p.Version} }

// Condition compares an attribute with listed values.
type Condition struct {
	Attribute string   `json:"attribute"`
	In        []string `json:"in,omitempty"`
	NotIn     []string `json:"notIn,omitempty"`
}

// Holds reports whether the value satisfies the condition.
func (c *Condition) Holds(value string) bool {
	for _, v := range c.NotIn {
		if v == value {
			return false
		}
	}
	if len(c.In) == 0 {
		return true
	}
	for _, v := range c.In {
		if v == value {
			return true
		}
	}
	return false
}

// Shielding (skjerming) is what happens to a protected subject's record: the
// named fields go, or the whole body, and "skjermet": true is set.
type Shielding struct {
	When   Condition `json:"when"`
	Remove []Pointer `json:"remove,omitempty"`
	Body   bool      `json:"body,omitempty"` // remove everything
}
