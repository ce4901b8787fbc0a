package registry

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"datafordeler/broker"
	"datafordeler/broker/derive"
)

// refuse says why an event that nobody overtook is still not accepted; "" if it
// is. It keeps whole what the rest of the package takes for granted: names point
// at things, a mailbox serves one consumer, leases stay within the ceiling. All
// else that declarations are held to is in validate.go, before anything is
// written.
//
// These rules are a part of the format, since every instance must refuse alike,
// old and new, now and when the log is read again in ten years. A rule that
// changes does so with a new Version, and for events of that version on.
func (s *State) refuse(p payload, t Type) string {
	switch v := p.(type) {
	case *broker.Organisation:
		if _, err := broker.ParseOrgNumber(string(v.Number)); err != nil {
			return err.Error()
		}
	case *broker.Dataset:
		if old := s.datasets[v.ID]; old != nil && old.Subject.Kind != v.Subject.Kind {
			return fmt.Sprintf("dataset %s is about subjects of kind %s: under another kind no case or consent would be found; declare a new dataset", v.ID, old.Subject.Kind)
		}
		if v.Subject.Follow && v.Subject.Kind != broker.OrganisationSubject && v.Subject.Kind != broker.PropertySubject {
			return fmt.Sprintf("subject: one of kind %s follows no other (follow)", v.Subject.Kind)
		}
		return first(name(v.ID), s.organisation("owner", v.Owner))
	case *broker.LegalBasis:
		if r := name(v.ID); r != "" {
			return r
		}
		for _, d := range v.Datasets {
			if s.datasets[d] == nil {
				return unknown("dataset", d)
			}
		}
		return s.refuseRests(&v.Assessed)
	case *broker.RightsPackage:
		return first(s.refusePackage(v), s.refuseRests(&v.Assessment))
	case *broker.LegalAssessment:
		return name(v.ID)
	case *broker.TruthTable:
		return s.refuseTable(v)
	case *Approval:
		return s.refuseApproval(v)
	case *broker.Mailbox:
		if old := s.mailboxes[v.ID]; old != nil && old.Organisation != v.Organisation {
			return fmt.Sprintf("mailbox %s belongs to %s and cannot pass to %s: what it holds stays", v.ID, old.Organisation, v.Organisation)
		}
		return first(name(v.ID), s.organisation("organisation", v.Organisation))
	case *broker.Agreement:
		return s.refuseAgreement(v)
	case *broker.Subscription:
		return s.refuseSubscription(v)
	case *broker.Delegation:
		if _, ok := s.withdrawn[v.ID]; ok {
			return fmt.Sprintf("delegation %s was withdrawn: declare a new one under another id", v.ID)
		}
		return first(name(v.ID), s.organisation("from", v.From), s.organisation("to", v.To))
	case *broker.Role:
		if v.Role != broker.Auditor && v.Role != broker.Operator {
			return fmt.Sprintf("role %s: there is no role %q", v.ID, string(v.Role))
		}
		if old := s.roles[v.ID]; old != nil && (old.Organisation != v.Organisation || old.Role != v.Role) {
			return fmt.Sprintf("role %s makes %s %s, and stays so: end it and declare another", v.ID, old.Organisation, old.Role)
		}
		return first(name(v.ID), s.organisation("organisation", v.Organisation))
	case *broker.Case:
		return s.refuseCase(v)
	case *CaseEnd:
		open, ended, ok := s.caseOpen(v.Subscription, v.ID)
		switch {
		case !ok:
			return fmt.Sprintf("no case %q was opened for subscription %s", v.ID, v.Subscription)
		case ended:
			return fmt.Sprintf("case %q of subscription %s has ended already", v.ID, v.Subscription)
		case !open.To.IsZero() && v.At.After(open.To):
			return fmt.Sprintf("case %q of subscription %s was to end before that: it is not prolonged by ending it", v.ID, v.Subscription)
		case v.At.Before(open.From):
			return fmt.Sprintf("case %q of subscription %s cannot end before it was opened", v.ID, v.Subscription)
		}
	case *broker.Consent:
		return s.refuseConsent(v)
	case *Withdrawal:
		return s.refuseWithdrawal(v, t)
	case *ForeignEnd:
		return s.refuseForeignEnd(v)
	case *ConsentFeed:
		return refuseConsentFeed(v)
	case *Policy:
		if v.Digest == "" || len(v.Modules) == 0 {
			return "a policy needs its digest and its modules"
		}
	case *Keystore:
		switch {
		case v.Check == "":
			return "a keystore is registered by its fingerprint (check)"
		case v.Replaces != s.keystore:
			return fmt.Sprintf("the keystore registered is %q, not %q", s.keystore, v.Replaces)
		}
	case *Ledger:
		switch {
		case v.Origin == "" || v.Key == "":
			return "a ledger is registered by its origin and its public key"
		case v.Replaces != s.ledger.Key:
			return fmt.Sprintf("the ledger's registered key is %q, not %q", s.ledger.Key, v.Replaces)
		case s.ledger.Origin != "" && v.Origin != s.ledger.Origin:
			return fmt.Sprintf("the ledger's origin is %q, and stays so: a key replaces a key of the same ledger", s.ledger.Origin)
		}
	case *Destruction:
		return s.refuseDestruction(v)
	case *SubjectLookup:
		switch {
		case v.Periods < 0 || v.Found < 0:
			return "a lookup counts no fewer than 0 periods and decisions"
		case strings.TrimSpace(v.Reason) == "":
			return "a subject is looked up for a reason"
		}
		return faultyReason(v.Reason)
	case *Lease:
		return s.refuseLease(v)
	case *Credential:
		return s.refuseCredential(v)
	case *CredentialEnd:
		return s.refuseCredentialEnd(v)
	case *Webhook:
		return s.refuseWebhook(v)
	case *WebhookProof:
		return s.refuseWebhookChange(v.Mailbox, v)
	case *WebhookRotation:
		return s.refuseWebhookChange(v.Mailbox, v)
	case *WebhookStop:
		return s.refuseWebhookChange(v.Mailbox, v)
	case *WebhookRemoval:
		return s.refuseWebhookChange(v.Mailbox, v)
	case *Freeze:
		return s.refuseFreezeSet(v)
	case *FreezeEnd:
		return s.refuseFreezeEnd(v)
	case *Protect:
		return s.refuseProtection(v)
	case *ProtectionSync:
		return s.refuseProtectionSync(v)
	case *UnitEnd:
		return s.refuseUnitEnd(v)
	case *UnitRestoration:
		return s.refuseUnitRestoration(v)
	case *UnitSync:
		return s.refuseUnitSync(v)
	case *SubjectSuccession:
		return s.refuseSuccession(v)
	case *Deviation:
		return s.refuseDeviation(v)
	case *DeviationAnswer:
		return s.refuseDeviationAnswer(v)
	case *Receipt:
		return s.refuseReceipt(v)
	case *broker.Need:
		return s.refuseNeed(v)
	case *broker.Cosignature:
		return s.refuseCosignature(v)
	case *broker.NeedClosure:
		return s.refuseNeedClosure(v)
	case *broker.Framework:
		return s.refuseFramework(v)
	case *broker.FrameworkApproval:
		return s.refuseFrameworkApproval(v)
	case *broker.Invitation:
		return s.refuseInvitation(v)
	case *broker.AgreementStep, *broker.Accession:
		return "" // admit asks, since their rules rest on the time
	default:
		panic(fmt.Sprintf("registry: %T is not held to any rule", p))
	}
	return ""
}

func (s *State) refusePackage(v *broker.RightsPackage) string {
	if old := s.packages[v.Ref()]; old != nil && s.used[v.Ref()] && !equal(old, v) {
		return fmt.Sprintf("rights package %s version %d is in use and never changes: declare version %d", v.ID, v.Version, v.Version+1)
	}
	if s.datasets[v.Dataset] == nil {
		return unknown("dataset", v.Dataset)
	}
	return first(name(v.ID), derive.Refuse(v))
}

func (s *State) refuseAgreement(v *broker.Agreement) string {
	old := s.agreements[v.ID]
	if r := s.refuseTerms(v, old); r != "" {
		return r
	}
	return s.refuseDeclared(old, v)
}

// refuseTerms is what any agreement is held to, however it comes about.
func (s *State) refuseTerms(v, old *broker.Agreement) string {
	if s.frameworks[v.ID] != nil {
		return fmt.Sprintf("%s is a framework: name the agreement otherwise", v.ID)
	}
	if r := first(name(v.ID), s.organisation("provider", v.Provider), s.organisation("consumer", v.Consumer)); r != "" {
		return r
	}
	if v.Supplier != "" && s.organisations[v.Supplier] == nil {
		return unknown("supplier", v.Supplier)
	}
	if s.datasets[v.Dataset] == nil {
		return unknown("dataset", v.Dataset)
	}
	p := s.packages[v.Package]
	if p == nil || p.Dataset != v.Dataset {
		return fmt.Sprintf("rights package %s version %d is not one of dataset %s", v.Package.ID, v.Package.Version, v.Dataset)
	}
	for _, b := range v.Bases {
		if s.bases[b] == nil {
			return unknown("legal basis", b)
		}
	}
	if old != nil && old.Status == broker.Ended && v.Status != broker.Ended {
		return fmt.Sprintf("agreement %s has ended, and stays so: declare a new one under another id", v.ID)
	}
	if old != nil && identity(old) != identity(v) {
		return fmt.Sprintf("agreement %s keeps its parties, dataset and purpose: end it and declare a new one", v.ID)
	}
	if sum := s.leasedSum(v.ID); v.Cost.Ceiling < 0 || v.Cost.Ceiling > 0 && v.Cost.Ceiling < sum {
		return fmt.Sprintf("agreement %s cannot have ceiling %d: %d is leased to partitions already", v.ID, v.Cost.Ceiling, sum)
	}
	return first(refuseDuty(v.OnWithdrawal), refuseVisibility(v.Visibility), s.refuseEndedParties(v))
}

type agreementIdentity struct {
	provider, consumer, supplier broker.OrgNumber
	dataset                      broker.DatasetID
	purpose                      broker.Purpose
}

func identity(a *broker.Agreement) agreementIdentity {
	return agreementIdentity{a.Provider, a.Consumer, a.Supplier, a.Dataset, a.Purpose}
}

func (s *State) refuseSubscription(v *broker.Subscription) string {
	a := s.agreements[v.Agreement]
	if a == nil {
		return unknown("agreement", v.Agreement)
	}
	if v.Mailbox == "" && !v.Lookup {
		return fmt.Sprintf("subscription %s neither delivers into a mailbox nor looks up", v.ID)
	}
	if v.Mailbox != "" {
		m := s.mailboxes[v.Mailbox]
		if m == nil {
			return unknown("mailbox", v.Mailbox)
		}
		if m.Organisation != a.Receiver() {
			return fmt.Sprintf("mailbox %s belongs to %s, but agreement %s is received by %s", m.ID, m.Organisation, a.ID, a.Receiver())
		}
		if c, ok := s.receivesFor[v.Mailbox]; ok && c != a.Consumer {
			return fmt.Sprintf("mailbox %s holds what was delivered for %s and cannot serve %s as well", v.Mailbox, c, a.Consumer)
		}
	}
	if old := s.subscriptions[v.ID]; old != nil {
		b := s.agreements[old.Agreement]
		if b.Consumer != a.Consumer || b.Dataset != a.Dataset {
			return fmt.Sprintf("subscription %s keeps its consumer and dataset: declare a new one", v.ID)
		}
		if !old.Start.Equal(v.Start) {
			return fmt.Sprintf("subscription %s keeps its start: what lies before it was declared is decided once; declare a new one", v.ID)
		}
	}
	return name(v.ID)
}

func (s *State) refuseCase(v *broker.Case) string {
	_, _, known := s.caseOpen(v.Subscription, v.ID)
	switch {
	case s.subscriptions[v.Subscription] == nil:
		return unknown("subscription", v.Subscription)
	case v.Subject.IsZero():
		return "a case is on a subject"
	case v.Open.From.IsZero():
		return "a case has a day on which it was opened"
	case known:
		return fmt.Sprintf("case %q of subscription %s was opened before: a case that is taken up again has a new name", v.ID, v.Subscription)
	}
	if err := v.Open.Check(); err != nil {
		return err.Error()
	}
	return checkRef(string(v.ID))
}

func (s *State) refuseConsent(v *broker.Consent) string {
	_, known := s.subjects.consents.find(v.ID)
	switch {
	case s.organisations[v.Consumer] == nil:
		return unknown("consumer", v.Consumer)
	case s.datasets[v.Dataset] == nil:
		return unknown("dataset", v.Dataset)
	case v.Subject.IsZero():
		return "a consent is given by a subject"
	case v.Purpose == "":
		return "a consent is given for a purpose"
	case !v.Withdrawn.IsZero():
		return "a consent is given first, and withdrawn by an event of its own"
	case known:
		return fmt.Sprintf("consent %q was given before: a new consent has a new name", v.ID)
	case s.EndedElsewhere(v.External):
		return ErrConsentEnded.Error()
	}
	if err := v.Valid.Check(); err != nil {
		return err.Error()
	}
	return checkRef(string(v.ID))
}

func (s *State) refuseWithdrawal(v *Withdrawal, t Type) string {
	if v.At.IsZero() {
		return "a withdrawal has its time"
	}
	if t == ConsentWithdrawn {
		c, ok := s.Consent(broker.ConsentID(v.ID))
		if !ok {
			return fmt.Sprintf("no consent %q was given", v.ID)
		}
		if !c.Withdrawn.IsZero() {
			return fmt.Sprintf("consent %q was withdrawn before", v.ID)
		}
		return ""
	}
	id := broker.DelegationID(v.ID)
	if s.delegations[id] == nil {
		return unknown("delegation", id)
	}
	if _, ok := s.withdrawn[id]; ok {
		return fmt.Sprintf("delegation %s was withdrawn before", id)
	}
	return ""
}

func (s *State) refuseLease(v *Lease) string {
	a := s.agreements[v.Agreement]
	switch left := s.Unleased(v.Agreement); {
	case a == nil:
		return unknown("agreement", v.Agreement)
	case a.Cost.Ceiling == 0:
		return fmt.Sprintf("agreement %s has no ceiling to lease from", v.Agreement)
	case v.Amount <= 0 || v.Partition < 0:
		return fmt.Sprintf("a lease is of at least 1 to a partition, not of %d to %d", v.Amount, v.Partition)
	case v.Amount > left:
		return fmt.Sprintf("agreement %s has %d left of its ceiling of %d; cannot lease %d", v.Agreement, left, a.Cost.Ceiling, v.Amount)
	}
	return ""
}

func (s *State) organisation(role string, n broker.OrgNumber) string {
	if s.organisations[n] == nil {
		return unknown(role, n)
	}
	return ""
}

func unknown[T ~string](what string, id T) string {
	return fmt.Sprintf("%s %q is not registered", what, string(id))
}

func name[T ~string](id T) string {
	if err := broker.CheckName(string(id)); err != nil {
		return err.Error()
	}
	return ""
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// CheckRef says what a case's or a consent's name may not be. Its error does not repeat it.
func CheckRef(id string) error {
	if checkRef(id) != "" {
		return errors.New("want a–z, 0–9, '-' and '_', beginning with a letter or digit, or a UUID, and never eleven digits in a row, which could be a person's number")
	}
	return nil
}

// checkRef is for names that others give: a UUID may have eleven digits in a row
// by chance, and is not how a person is numbered.
func checkRef(id string) string {
	if uuid.MatchString(id) {
		return ""
	}
	return name(id)
}

func first(reasons ...string) string {
	for _, r := range reasons {
		if r != "" {
			return r
		}
	}
	return ""
}
