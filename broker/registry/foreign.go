package registry

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// ForeignConsent is a consent that was given to another system, such as Altinn, and
// that has been proven.
type ForeignConsent struct {
	// External is its identifier there; case does not count.
	External string
	Subject  broker.SubjectKey
	Consumer broker.OrgNumber
	Valid    broker.Interval
	Rights   []ForeignRight
}

// ForeignRight is what was consented to, in the other system's words.
type ForeignRight struct {
	Resource string            // see [broker.LegalBasis.ConsentResource]
	Metadata map[string]string // see [broker.LegalBasis.ConsentMetadata]
}

// fits reports whether a right is what a basis asks for: nothing that bounds it may be
// passed over, and nothing that the basis is bounded by be missing.
func (r *ForeignRight) fits(b *broker.LegalBasis) bool {
	if r.Resource == "" || b.ConsentResource != r.Resource || b.Type != broker.Samtykke || len(r.Metadata) != len(b.ConsentMetadata) {
		return false
	}
	for name, want := range b.ConsentMetadata {
		if got, ok := r.Metadata[name]; !ok || want != broker.AnyMetadata && got != want {
			return false
		}
	}
	return true
}

// ErrConsentEnded: a consent has ended where it was given, and its proof, which may be
// good a while longer, does not give it any more.
var ErrConsentEnded = errors.New("the consent was withdrawn where it was given; ask for a new one")

// ErrConsentWithdrawn: a consent was withdrawn here, and its proof does not give it again.
var ErrConsentWithdrawn = errors.New("the consent was withdrawn here; a withdrawn consent is not given again by its old proof: ask for a new one")

// TakeConsent is what records a foreign consent: one consent for each dataset and
// purpose of the legal bases that name its resources. What was recorded before is
// left as it is, so a proof may be brought as often as one likes. A right that no
// legal basis asks for is an error: nobody would know what was consented to. stands are
// all consents that are recorded then.
func (s *State) TakeConsent(f ForeignConsent) (stands []broker.Consent, changes []Change, err error) {
	external := strings.ToLower(f.External)
	if external == "" || len(f.Rights) == 0 {
		return nil, nil, errors.New("a consent given elsewhere has an identifier, and says to what it was given")
	}
	if s.EndedElsewhere(external) {
		return nil, nil, ErrConsentEnded
	}
	if s.organisations[f.Consumer] == nil {
		return nil, nil, fmt.Errorf("organisation %s is not registered here", f.Consumer)
	}
	var want []broker.Consent
	for i := range f.Rights {
		known := false
		for _, b := range s.Bases() {
			if !f.Rights[i].fits(b) {
				continue
			}
			for _, d := range b.Datasets {
				for _, p := range b.Purposes {
					known = true
					want = append(want, broker.Consent{ID: foreignID(external, d, p), Subject: f.Subject, Consumer: f.Consumer, Dataset: d, Purpose: p, Valid: f.Valid, External: external})
				}
			}
		}
		if !known {
			return nil, nil, errors.New("no legal basis of the type samtykke covers a dataset and a purpose and asks for what was consented to: its consentResource names the resource, and its consentMetadata all that the consent is bounded by, no more and no less")
		}
	}
	slices.SortFunc(want, func(a, b broker.Consent) int { return strings.Compare(string(a.ID), string(b.ID)) })
	want = slices.CompactFunc(want, func(a, b broker.Consent) bool { return a.ID == b.ID })
	for i, c := range want {
		have, ok := s.Consent(c.ID)
		switch {
		case !ok:
			changes = append(changes, GiveConsent(c))
		case have.Subject != c.Subject || have.Consumer != c.Consumer:
			return nil, nil, fmt.Errorf("the consent with this identifier was given by another person, or to another organisation")
		case !have.Withdrawn.IsZero():
			return nil, nil, ErrConsentWithdrawn
		default:
			want[i] = have
		}
	}
	return want, changes, nil
}

// withdrawForeign is what withdraws all that [State.TakeConsent] recorded of a consent
// and that stands, of what is meant.
func (s *State) withdrawForeign(external string, at time.Time, meant func(*broker.Consent) bool) []Change {
	external = strings.ToLower(external)
	var changes []Change
	seen := map[broker.ConsentID]bool{}
	for _, d := range s.Datasets() {
		for _, p := range s.consentPurposes(d.ID) {
			id := foreignID(external, d.ID, p)
			if c, ok := s.Consent(id); ok && !seen[id] && c.Withdrawn.IsZero() && meant(&c) {
				seen[id] = true
				changes = append(changes, WithdrawConsent(id, at))
			}
		}
	}
	return changes
}

// consentPurposes are the purposes for which anybody ever consented to a dataset.
func (s *State) consentPurposes(d broker.DatasetID) (all []broker.Purpose) {
	for _, k := range s.subjects.consents.groups {
		if k.dataset == d {
			all = append(all, k.purpose)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// foreignID is what a foreign consent to one dataset for one purpose is called here.
// The identifier itself is not a part: it may hold eleven digits in a row.
func foreignID(external string, d broker.DatasetID, p broker.Purpose) broker.ConsentID {
	h := sha256.Sum256([]byte(external + "\x00" + string(d) + "\x00" + string(p)))
	return broker.ConsentID("x-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:16])))
}
