package registry

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"datafordeler/broker"
)

// State is the fold of the control topic so far. It belongs to one owner: Fold
// needs the owner's lock for itself, everything else may share it. What it
// returns by pointer or slice is shared and read-only, and stays as it was when
// the state moves on.
type State struct {
	revision  broker.Revision
	structure broker.Revision
	head      broker.Digest // hash of the last accepted event
	at        time.Time     // the latest that an accepted event names

	catalogue
	regime
	withdrawn map[broker.DelegationID]Withdrawal
	leased    map[broker.AgreementID]*leases
	// credentials are all that were ever issued.
	credentials map[string]IssuedCredential
	logins      broker.Revision // the last that changed them
	// webhooks are all that were ever set.
	webhooks map[broker.MailboxID]WebhookState
	hooked   broker.Revision // the last that changed them
	// frozen are the freezes that stand. One that was lifted is in the log only.
	frozen    map[frozenThing]map[Authority]Frozen
	protected protections
	units     units
	// registers are the places of attributes that come from registers, by dataset.
	registers map[broker.DatasetID][]int
	// deviations are all that were ever reported.
	deviations  map[broker.Digest]DeviationState
	obligations obligations

	subjects subjects // cases and consents
	foreign  foreign
	// declared is when each subscription first was, and starts those that begin
	// earlier than that, in the order of the log.
	declared map[broker.SubscriptionID]broker.Revision
	starts   []Start

	// approved are the truth tables as they were last signed off.
	approved map[broker.TruthTableID]ApprovedTable

	policy   *Policy
	policies map[string]broker.Revision // all ever active, by digest: when last
	keystore string
	ledger   Ledger
	// keystores are all fingerprints ever registered, by when they were, and
	// destroyed the periods whose keys are gone.
	keystores map[string]time.Time
	destroyed map[string]Destroyed

	// resolved is made on the first read after a change of structure. Readers
	// that share the lock may make it twice, and equal.
	resolved atomic.Pointer[resolved]
}

// catalogue is what declarations can declare.
type catalogue struct {
	organisations map[broker.OrgNumber]*broker.Organisation
	datasets      map[broker.DatasetID]*broker.Dataset
	bases         map[broker.LegalBasisID]*broker.LegalBasis
	packages      map[broker.PackageRef]*broker.RightsPackage
	mailboxes     map[broker.MailboxID]*broker.Mailbox
	agreements    map[broker.AgreementID]*broker.Agreement
	subscriptions map[broker.SubscriptionID]*broker.Subscription
	delegations   map[broker.DelegationID]*broker.Delegation
	roles         map[broker.RoleID]*broker.Role
	assessments   map[broker.AssessmentID]*broker.LegalAssessment
	tables        map[broker.TruthTableID]*broker.TruthTable // as they were declared last
	needs         map[broker.NeedID]*broker.Need
	frameworks    map[broker.AgreementID]*broker.Framework

	// used are the package versions that any agreement ever named: decisions
	// name them, so they keep their meaning.
	used map[broker.PackageRef]bool
	// receivesFor is the consumer whose data a mailbox has been given, for good:
	// what was delivered stays in it.
	receivesFor map[broker.MailboxID]broker.OrgNumber
}

type leases struct {
	sum int64
	by  map[leaseKey]int64
}

type leaseKey struct {
	topic     broker.Digest
	partition int32
}

// New is the state before any event: revision 0.
func New() *State {
	return &State{
		catalogue: catalogue{
			organisations: map[broker.OrgNumber]*broker.Organisation{},
			datasets:      map[broker.DatasetID]*broker.Dataset{},
			bases:         map[broker.LegalBasisID]*broker.LegalBasis{},
			packages:      map[broker.PackageRef]*broker.RightsPackage{},
			mailboxes:     map[broker.MailboxID]*broker.Mailbox{},
			agreements:    map[broker.AgreementID]*broker.Agreement{},
			subscriptions: map[broker.SubscriptionID]*broker.Subscription{},
			delegations:   map[broker.DelegationID]*broker.Delegation{},
			roles:         map[broker.RoleID]*broker.Role{},
			assessments:   map[broker.AssessmentID]*broker.LegalAssessment{},
			tables:        map[broker.TruthTableID]*broker.TruthTable{},
			needs:         map[broker.NeedID]*broker.Need{},
			frameworks:    map[broker.AgreementID]*broker.Framework{},
			used:          map[broker.PackageRef]bool{},
			receivesFor:   map[broker.MailboxID]broker.OrgNumber{},
		},
		regime:      newRegime(),
		withdrawn:   map[broker.DelegationID]Withdrawal{},
		leased:      map[broker.AgreementID]*leases{},
		credentials: map[string]IssuedCredential{},
		approved:    map[broker.TruthTableID]ApprovedTable{},
		webhooks:    map[broker.MailboxID]WebhookState{},
		frozen:      map[frozenThing]map[Authority]Frozen{},
		protected:   protections{grades: map[broker.SubjectKey]broker.Protection{}},
		units:       newUnits(),
		registers:   map[broker.DatasetID][]int{},
		deviations:  map[broker.Digest]DeviationState{},
		obligations: newObligations(),
		subjects:    newSubjects(),
		foreign:     foreign{ended: map[uuidKey]instant{}, feeds: map[string]ConsentFeedState{}},
		declared:    map[broker.SubscriptionID]broker.Revision{},
		policies:    map[string]broker.Revision{},
		keystores:   map[string]time.Time{},
		destroyed:   map[string]Destroyed{},
	}
}

// ErrLost says that an event was written on a revision that is no longer, or not
// yet, this state's. Its writer validates again on the new state and appends anew.
var ErrLost = errors.New("another control event came first")

// RefusedError says that an event names something that does not exist, or asks
// for what is not there to give. Every state refuses it alike.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Check says whether Fold would accept the event, and changes nothing: nil,
// [ErrLost], a [*RefusedError], or an error on which Fold would make its caller
// stop. Writers ask before they append.
func (s *State) Check(e Event) error {
	_, err := s.admit(&e)
	return err
}

func (s *State) admit(e *Event) (payload, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if e.V > Version {
		return nil, newer(e.V)
	}
	if e.On != s.revision || e.Prev != s.head {
		return nil, ErrLost
	}
	p, err := parse(e)
	if err != nil {
		return nil, err
	}
	reason := s.refuse(p, e.Type)
	if reason == "" {
		reason = s.refuseAt(p, e.At)
	}
	if reason != "" {
		return nil, &RefusedError{reason}
	}
	return p, nil
}

// refuseAt has the rules that rest on the time which an event's writer gave it.
func (s *State) refuseAt(p payload, at time.Time) string {
	switch v := p.(type) {
	case *Destruction:
		return tooEarly(v, at)
	case *Receipt:
		return s.refuseReceiptAt(v, at)
	case *broker.AgreementStep:
		return s.refuseStep(v, at)
	case *broker.Accession:
		return s.refuseAccession(v, at)
	}
	return ""
}

// Fold takes the next event of the control topic. accepted is false when it lost
// or was refused: it stays in the topic and means nothing to anyone. On an error
// the state is unchanged and the caller must stop: to go on would be to decide on
// half the rules.
func (s *State) Fold(e Event) (accepted bool, err error) {
	p, err := s.admit(&e)
	var refused *RefusedError
	if errors.Is(err, ErrLost) || errors.As(err, &refused) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.revision, s.head = e.Seq, e.Hash()
	if e.At.After(s.at) {
		s.at = e.At
	}
	if s.apply(p, &e) {
		s.structure = s.revision
		if old := s.resolved.Load(); old != nil {
			kept := *old
			kept.stale = true
			s.resolved.Store(&kept)
		}
	}
	return true, nil
}

// apply changes the state, and says whether its structure changed. Nothing may
// fail here: refuse has had its say.
func (s *State) apply(p payload, e *Event) (structural bool) {
	switch v := p.(type) {
	case *broker.Case:
		s.openCase(v)
		return false
	case *CaseEnd:
		s.endCase(v)
		return false
	case *broker.Consent:
		s.giveConsent(v)
		return false
	case *Withdrawal:
		if e.Type == ConsentWithdrawn {
			s.oblige(s.withdrawConsent(v), e)
			return false
		}
		s.withdrawn[broker.DelegationID(v.ID)] = *v
	case *ForeignEnd, *ConsentFeed:
		s.applyForeign(v, e)
		return false // what ends with it is withdrawn by events of its own
	case *Lease:
		l := s.leased[v.Agreement]
		if l == nil {
			l = &leases{by: map[leaseKey]int64{}}
			s.leased[v.Agreement] = l
		}
		l.sum += v.Amount
		l.by[leaseKey{v.TopicID, v.Partition}] += v.Amount
		return false
	case *Policy:
		s.policy = v
		s.policies[v.Digest] = s.revision
	case *Keystore:
		s.keystore = v.Check
		s.keystores[v.Check] = e.At
	case *Ledger:
		s.ledger = *v
	case *Destruction:
		s.destroyed[v.Period] = Destroyed{Destruction: *v, At: e.At, Actor: e.Actor, Revision: e.Seq}
		return false // no decision to come rests on a month that is over
	case *SubjectLookup:
		return false // the log keeps it; nothing rests on it
	case *broker.Role:
		s.catalogue.put(v)
		return false // it opens doors; no decision on a record rests on it
	case *broker.LegalAssessment, *broker.TruthTable:
		s.catalogue.put(v)
		return false // they are for people, and for what may be put in force
	case *Approval:
		s.approve(v, e)
		return false
	case *Credential:
		s.credentials[v.ID] = IssuedCredential{Credential: *v, At: e.At, Actor: e.Actor}
		s.logins = s.revision
		return false // no decision rests on who fetches what was delivered
	case *CredentialEnd:
		c := s.credentials[v.ID]
		c.Ends = v.At
		s.credentials[v.ID] = c
		s.logins = s.revision
		return false
	case *Webhook, *WebhookProof, *WebhookRotation, *WebhookStop, *WebhookRemoval:
		s.applyWebhook(v, e)
		return false // nor on where it is sent
	case *Freeze, *FreezeEnd:
		s.applyFreeze(p, e)
	case *Protect, *ProtectionSync:
		s.applyProtection(p, e)
		return false // it is consulted for each record
	case *UnitEnd, *UnitRestoration, *UnitSync, *SubjectSuccession:
		return s.applyUnits(p, e)
	case *Receipt:
		s.giveReceipt(v, e)
		return false
	case *Deviation, *DeviationAnswer:
		s.applyDeviation(p, e)
		return false // what is wrong is still decided on as before
	case *broker.Need, *broker.Cosignature, *broker.NeedClosure, *broker.AgreementStep, *broker.Framework, *broker.FrameworkApproval, *broker.Invitation, *broker.Accession:
		structural = s.applyRegime(v, e)
		switch v := p.(type) {
		case *broker.AgreementStep:
			s.asks(v.Agreement)
		case *broker.Accession:
			s.asks(v.Agreement)
		}
		return structural
	case *broker.Agreement:
		s.catalogue.put(v)
		s.asks(v.ID)
	case *broker.Dataset:
		s.catalogue.put(v)
		if delete(s.registers, v.ID); len(consulted(v)) > 0 {
			s.registers[v.ID] = consulted(v)
		}
	case *broker.Subscription:
		s.declare(v)
		s.catalogue.put(v)
	default:
		s.catalogue.put(p)
	}
	return true
}

// put declares one thing.
func (c *catalogue) put(p payload) {
	switch v := p.(type) {
	case *broker.Organisation:
		c.organisations[v.Number] = v
	case *broker.Dataset:
		c.datasets[v.ID] = v
	case *broker.LegalBasis:
		c.bases[v.ID] = v
	case *broker.RightsPackage:
		c.packages[v.Ref()] = v
	case *broker.Mailbox:
		c.mailboxes[v.ID] = v
	case *broker.Agreement:
		c.agreements[v.ID] = v
		c.used[v.Package] = true
	case *broker.Subscription:
		c.subscriptions[v.ID] = v
		if a := c.agreements[v.Agreement]; a != nil && v.Mailbox != "" {
			if _, taken := c.receivesFor[v.Mailbox]; !taken {
				c.receivesFor[v.Mailbox] = a.Consumer
			}
		}
	case *broker.Delegation:
		c.delegations[v.ID] = v
	case *broker.Role:
		c.roles[v.ID] = v
	case *broker.LegalAssessment:
		c.assessments[v.ID] = v
	case *broker.TruthTable:
		c.tables[v.ID] = v
	case *broker.Need:
		c.needs[v.ID] = v
	case *broker.Framework:
		c.frameworks[v.ID] = v
		c.used[v.Package] = true
	default:
		panic(fmt.Sprintf("registry: %T cannot be put", p)) // parse and this switch name the same types
	}
}

// clone copies the maps; what they hold is never changed in place.
func (c *catalogue) clone() catalogue {
	return catalogue{
		maps.Clone(c.organisations), maps.Clone(c.datasets), maps.Clone(c.bases), maps.Clone(c.packages),
		maps.Clone(c.mailboxes), maps.Clone(c.agreements), maps.Clone(c.subscriptions), maps.Clone(c.delegations),
		maps.Clone(c.roles), maps.Clone(c.assessments), maps.Clone(c.tables), maps.Clone(c.needs), maps.Clone(c.frameworks),
		maps.Clone(c.used), maps.Clone(c.receivesFor),
	}
}

// At is the latest time that an accepted event's writer gave it. A reader whose
// clock is behind must not judge as of before it: a withdrawal that is recorded
// would not count yet.
func (s *State) At() time.Time { return s.at }

// Revision is the sequence number of the last accepted event; 0 before any.
func (s *State) Revision() broker.Revision { return s.revision }

// Structure is the last revision that changed anything but cases, consents, leases
// and roles. What was built from terms, datasets and policy stays good while it stands.
func (s *State) Structure() broker.Revision { return s.structure }

// Head is the hash of the last accepted event; zero before any.
func (s *State) Head() broker.Digest { return s.head }

// Organisation, Dataset and the rest find one thing by its name; nil if there is none.
func (s *State) Organisation(n broker.OrgNumber) *broker.Organisation { return s.organisations[n] }

// Dataset finds a dataset.
func (s *State) Dataset(id broker.DatasetID) *broker.Dataset { return s.datasets[id] }

// Basis finds a legal basis.
func (s *State) Basis(id broker.LegalBasisID) *broker.LegalBasis { return s.bases[id] }

// Package finds a version of a rights package.
func (s *State) Package(ref broker.PackageRef) *broker.RightsPackage { return s.packages[ref] }

// Mailbox finds a mailbox.
func (s *State) Mailbox(id broker.MailboxID) *broker.Mailbox { return s.mailboxes[id] }

// Agreement finds an agreement.
func (s *State) Agreement(id broker.AgreementID) *broker.Agreement { return s.agreements[id] }

// Subscription finds a subscription.
func (s *State) Subscription(id broker.SubscriptionID) *broker.Subscription {
	return s.subscriptions[id]
}

// Delegation finds a delegation as it was declared; see [State.DelegationWithdrawn].
func (s *State) Delegation(id broker.DelegationID) *broker.Delegation { return s.delegations[id] }

// DelegationWithdrawn says from when a delegation was withdrawn.
func (s *State) DelegationWithdrawn(id broker.DelegationID) (Withdrawal, bool) {
	w, ok := s.withdrawn[id]
	return w, ok
}

// Role finds a role that was given.
func (s *State) Role(id broker.RoleID) *broker.Role { return s.roles[id] }

// HasRole reports whether an organisation has a role at a time.
func (s *State) HasRole(n broker.OrgNumber, role broker.RoleName, at time.Time) bool {
	for _, r := range s.roles {
		if r.Organisation == n && r.Role == role && r.Valid.Contains(at) {
			return true
		}
	}
	return false
}

// ReceivesFor is the consumer whose data a mailbox holds, for good; "" before any
// subscription used it.
func (s *State) ReceivesFor(id broker.MailboxID) broker.OrgNumber { return s.receivesFor[id] }

// Organisations and the rest list all of a kind, by name, in a fresh slice.
func (s *State) Organisations() []*broker.Organisation { return sorted(s.organisations) }

// Datasets lists all datasets.
func (s *State) Datasets() []*broker.Dataset { return sorted(s.datasets) }

// Bases lists all legal bases.
func (s *State) Bases() []*broker.LegalBasis { return sorted(s.bases) }

// Packages lists all versions of all rights packages.
func (s *State) Packages() []*broker.RightsPackage {
	return slices.SortedFunc(maps.Values(s.packages), func(a, b *broker.RightsPackage) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Version, b.Version))
	})
}

// Mailboxes lists all mailboxes.
func (s *State) Mailboxes() []*broker.Mailbox { return sorted(s.mailboxes) }

// Agreements lists all agreements.
func (s *State) Agreements() []*broker.Agreement { return sorted(s.agreements) }

// Subscriptions lists all subscriptions.
func (s *State) Subscriptions() []*broker.Subscription { return sorted(s.subscriptions) }

// Delegations lists all delegations.
func (s *State) Delegations() []*broker.Delegation { return sorted(s.delegations) }

// Roles lists all roles that were given.
func (s *State) Roles() []*broker.Role { return sorted(s.roles) }

func sorted[K cmp.Ordered, V any](m map[K]*V) []*V {
	out := make([]*V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// Policy is the active policy; nil before the first.
func (s *State) Policy() *Policy { return s.policy }

// PolicyActivated is the revision at which a policy was last activated; ok is
// false for one that never was. Its bytes are in that event.
func (s *State) PolicyActivated(digest string) (at broker.Revision, ok bool) {
	at, ok = s.policies[digest]
	return at, ok
}

// Keystore is the fingerprint that every instance's keystore must have; "" before
// one is registered.
func (s *State) Keystore() string { return s.keystore }

// Ledger is by what name and key the ledger's heads are signed; zero before the
// first instance registered it.
func (s *State) Ledger() Ledger { return s.ledger }

// Granted is how much of an agreement's ceiling a partition has been leased.
func (s *State) Granted(a broker.AgreementID, topicID [16]byte, partition int32) int64 {
	if l := s.leased[a]; l != nil {
		return l.by[leaseKey{topicID, partition}]
	}
	return 0
}

// Unleased is what is left of an agreement's ceiling to lease; 0 where there is no
// ceiling, or no such agreement.
func (s *State) Unleased(a broker.AgreementID) int64 {
	g := s.agreements[a]
	if g == nil || g.Cost.Ceiling == 0 {
		return 0
	}
	return max(0, g.Cost.Ceiling-s.leasedSum(a))
}

func (s *State) leasedSum(a broker.AgreementID) int64 {
	if l := s.leased[a]; l != nil {
		return l.sum
	}
	return 0
}
