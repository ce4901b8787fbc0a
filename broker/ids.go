package broker

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Names of things. Each is its own type, so that one cannot be passed for
// another and an API says what it wants.
type (
	// OrgNumber is a Norwegian organisation number: nine digits, the last a
	// check digit. ParseOrgNumber checks it.
	OrgNumber string
	// DatasetID names a dataset and, as source.<dataset>, its topic.
	DatasetID string
	// LegalBasisID names a legal basis (hjemmel).
	LegalBasisID string
	// AgreementID names an agreement (avtale).
	AgreementID string
	// SubscriptionID names a subscription (abonnement).
	SubscriptionID string
	// MailboxID names a mailbox (postkasse) and, as mailbox.<id>, its topic.
	MailboxID string
	// CaseID names a case (sak); never a number that a person is known by.
	CaseID string
	// ConsentID names a consent (samtykke).
	ConsentID string
	// DelegationID names a delegation to a supplier.
	DelegationID string
	// RoleID names a role that an organisation was given.
	RoleID string
	// Purpose is what data is used for, a short stable code.
	Purpose string
	// Revision is the number of control events folded: the sequence number of
	// the last accepted one.
	Revision uint64
)

// ParseOrgNumber checks nine digits and the modulus-11 check digit (weights
// 3,2,7,6,5,4,3,2).
func ParseOrgNumber(s string) (OrgNumber, error) {
	if len(s) != 9 {
		// Not repeated: what has another length may be a person's number.
		return "", fmt.Errorf("organisation number: want 9 digits, have %d characters", len(s))
	}
	weights := [8]int{3, 2, 7, 6, 5, 4, 3, 2}
	sum := 0
	for i := range 9 {
		d := int(s[i]) - '0'
		if d < 0 || d > 9 {
			return "", fmt.Errorf("organisation number %q: want digits only", s)
		}
		if i < 8 {
			sum += d * weights[i]
		}
	}
	check := 11 - sum%11
	if check == 11 {
		check = 0
	}
	if check != int(s[8])-'0' { // a check value of 10 matches no digit
		return "", fmt.Errorf("organisation number %q: the check digit does not fit", s)
	}
	return OrgNumber(s), nil
}

// CheckName says what is wrong with an identifier that becomes part of a topic
// name or a key: 1 to 80 of a–z, 0–9, '-' and '_', beginning with a letter or
// digit. Eleven digits in a row are refused: that is how a person is numbered.
func CheckName(s string) error {
	if s == "" || len(s) > 80 {
		return fmt.Errorf("name %q: want 1 to 80 characters", s)
	}
	run := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			if run++; run >= 11 {
				return fmt.Errorf("a name may not hold eleven digits in a row: it could be a person's number")
			}
			continue
		case c >= 'a' && c <= 'z':
		case (c == '-' || c == '_') && i > 0:
		default:
			return fmt.Errorf("name %q: want a–z, 0–9, '-' and '_', beginning with a letter or digit", s)
		}
		run = 0
	}
	return nil
}

// Digest is the first 16 bytes of a SHA-256 or HMAC-SHA-256.
type Digest [16]byte

// String is lower-case hexadecimal, 32 characters.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether nothing was set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads hexadecimal.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 32 {
		return fmt.Errorf("identifier %q: want 32 hexadecimal characters", b)
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// ParseDigest reads 32 hexadecimal characters.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	err := d.UnmarshalText([]byte(strings.ToLower(s)))
	return d, err
}
