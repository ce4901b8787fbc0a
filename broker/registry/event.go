package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"datafordeler/broker"
)

// Version is the format that this program writes. It reads all versions up to
// it, for ever.
const Version = 1

// Event is one control event, as it stands in the control topic: JSON, one a
// message, no key.
//
// Seq is its place among the accepted ones and always On+1. On and Prev say what
// its writer had folded when validating it: the revision, and the hash of the
// event that made it. Both must be so when the event's turn comes, or it loses.
// The number alone would not do: when the first of a writer's consecutive events
// loses to a rival, the second finds the number that it expects, made by someone
// else.
type Event struct {
	V     int             `json:"v"`
	Seq   broker.Revision `json:"seq"`
	On    broker.Revision `json:"on"`
	Prev  broker.Digest   `json:"prev"`
	At    time.Time       `json:"at"`
	Actor string          `json:"actor"` // who or what decided: a function or a client, never a person's number
	Type  Type            `json:"type"`
	Data  json.RawMessage `json:"data"`
}

// Type says what happened. The set is closed: an instance that meets a type it
// does not know stops, because to skip it would be to decide on half the rules.
type Type string

// All types, with what Data holds.
const (
	// A ".put" declares a thing as a whole, new or changed; Data is the struct
	// of package broker by that name.
	OrganisationPut Type = "organisation.put" // broker.Organisation
	DatasetPut      Type = "dataset.put"      // broker.Dataset
	BasisPut        Type = "basis.put"        // broker.LegalBasis
	PackagePut      Type = "package.put"      // broker.RightsPackage; a version in use never changes
	MailboxPut      Type = "mailbox.put"      // broker.Mailbox
	AgreementPut    Type = "agreement.put"    // broker.Agreement; parties, dataset and purpose never change, nor that it ended
	SubscriptionPut Type = "subscription.put" // broker.Subscription; its consumer and dataset never change
	DelegationPut   Type = "delegation.put"   // broker.Delegation
	RolePut         Type = "role.put"         // broker.Role; its organisation and role never change
	AssessmentPut   Type = "assessment.put"   // broker.LegalAssessment
	TruthTablePut   Type = "truthtable.put"   // broker.TruthTable; what it belongs to never changes

	// TruthTableApproved signs a table off, by its digest: it holds from then on.
	TruthTableApproved Type = "truthtable.approved" // Approval

	// DelegationWithdrawn ends a delegation for good; putting the same one
	// again does not bring it back.
	DelegationWithdrawn Type = "delegation.withdrawn" // Withdrawal

	CaseOpened       Type = "case.opened"       // broker.Case
	CaseEnded        Type = "case.ended"        // CaseEnd
	ConsentGiven     Type = "consent.given"     // broker.Consent, not withdrawn
	ConsentWithdrawn Type = "consent.withdrawn" // Withdrawal

	// A consent that was given to another system has ended there, and how far that
	// system's feed of such has been followed; see feed.go.
	ConsentEnded    Type = "consent.ended"    // ForeignEnd
	ConsentFollowed Type = "consent.followed" // ConsentFeed

	PolicyActivated    Type = "policy.activated"    // Policy
	KeystoreRegistered Type = "keystore.registered" // Keystore
	BudgetLeased       Type = "budget.leased"       // Lease
	LedgerRegistered   Type = "ledger.registered"   // Ledger

	// PeriodDestroyed says that a period's pseudonyms lead nowhere any more, on
	// any instance: each destroys that key in its copy of the keystore as it
	// folds this, and never uses a copy that brings it back.
	PeriodDestroyed Type = "keystore.period_destroyed" // Destruction

	// SubjectLookedUp says that somebody asked what was decided on one subject.
	// It changes nothing but the log, and is there to be seen.
	SubjectLookedUp Type = "audit.subject_lookup" // SubjectLookup

	// A login with Kafka, without its secret. What it may do follows from the
	// rest of the registry; see [State.KafkaAccess].
	CredentialIssued  Type = "kafka.credential_issued"  // Credential
	CredentialRevoked Type = "kafka.credential_revoked" // CredentialEnd

	// A mailbox's endpoint, by its owner's hand, without its secret.
	WebhookSet     Type = "webhook.set"     // Webhook; not in use before it is proven
	WebhookProven  Type = "webhook.proven"  // WebhookProof
	WebhookRotated Type = "webhook.rotated" // WebhookRotation
	WebhookStopped Type = "webhook.stopped" // WebhookStop
	WebhookRemoved Type = "webhook.removed" // WebhookRemoval

	// A dataset, an organisation or a mailbox is stopped at once, and let go on.
	FreezeSet    Type = "freeze.set"    // Freeze
	FreezeLifted Type = "freeze.lifted" // FreezeEnd

	// How a person's whereabouts are protected, after the population register.
	ProtectionSet    Type = "protection.set"    // Protect
	ProtectionSynced Type = "protection.synced" // ProtectionSync

	// Which organisations are no more, after their register, and what was merged.
	UnitEnded        Type = "unit.ended"        // UnitEnd
	UnitRestored     Type = "unit.restored"     // UnitRestoration
	UnitsSynced      Type = "units.synced"      // UnitSync
	SubjectSucceeded Type = "subject.succeeded" // SubjectSuccession

	// What was delivered is said to be wrong, and what came of that.
	DeviationReport   Type = "deviation.reported" // Deviation
	DeviationAnswered Type = "deviation.answered" // DeviationAnswer

	// What was done about what a withdrawn consent lays on its receiver; see
	// obligation.go.
	ReceiptGiven Type = "obligation.receipted" // Receipt

	// What is needed and has no law yet; see [State.Gaps].
	NeedPut        Type = "need.put"      // broker.Need; does not change once it is co-signed
	NeedCosigned   Type = "need.cosigned" // broker.Cosignature
	NeedClosedType Type = "need.closed"   // broker.NeedClosure

	// How agreements come about; see lifecycle.go and framework.go.
	AgreementStepped Type = "agreement.step" // broker.AgreementStep
	FrameworkPut     Type = "framework.put"  // broker.Framework; its terms never change once it has a party
	// FrameworkApproved is a second pair of eyes, where the framework asks for them.
	FrameworkApproved Type = "framework.approved" // broker.FrameworkApproval
	FrameworkInvited  Type = "framework.invited"  // broker.Invitation
	FrameworkAcceded  Type = "framework.acceded"  // broker.Accession
)

// Withdrawal takes back a delegation or a consent, from At on.
type Withdrawal struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// CaseEnd ends a case at At, which may lie before the event: what was decided in
// between stands as decided.
type CaseEnd struct {
	Subscription broker.SubscriptionID `json:"subscription"`
	ID           broker.CaseID         `json:"id"`
	At           time.Time             `json:"at"`
}

// Policy is the whole of an active policy: its modules' bytes by file name, and
// the digest over them and over the engine's version that decisions name.
type Policy struct {
	Digest  string            `json:"digest"`
	Modules map[string]string `json:"modules"`
}

// Keystore is the fingerprint of the keystore that all instances must hold.
// Replaces is the one registered before, "" for the first: two first runs cannot
// both win.
type Keystore struct {
	Check    string `json:"check"`
	Replaces string `json:"replaces,omitempty"`
}

// Ledger is the name and the public key by which the ledger's heads are signed,
// as a verifier key of C2SP signed-note. Every instance that signs must hold its
// secret half. Replaces is the key registered before, "" for the first: a swapped
// key cannot come in unseen.
type Ledger struct {
	Origin   string `json:"origin"`
	Key      string `json:"key"`
	Replaces string `json:"replaces,omitempty"`
}

// Destruction ends a period's key, in the keystore and in every copy of it. Who
// and when stand in the event. Check is the fingerprint of the keystore meant;
// it outlives the key.
type Destruction struct {
	Period string `json:"period"` // a month, "2026-01", over when the event was written
	Check  string `json:"check"`
	Reason string `json:"reason"`
}

// SubjectLookup is a question about one subject, asked by the event's actor. Who
// the subject is stands nowhere, neither as a number nor as a pseudonym.
type SubjectLookup struct {
	Reason  string `json:"reason"`
	Periods int    `json:"periods"` // months whose pseudonyms were searched
	Found   int64  `json:"found"`   // decisions
}

// Lease gives a source partition leave to deliver Amount more under an
// agreement's ceiling. Leases only add up; none is handed back.
type Lease struct {
	Agreement broker.AgreementID `json:"agreement"`
	TopicID   broker.Digest      `json:"topicId"` // Kafka's 16 bytes, as hexadecimal
	Partition int32              `json:"partition"`
	Amount    int64              `json:"amount"`
}

// payload is what Data may hold; each pairs with its types in typeOf and parse.
type payload any

// Encode is the message's value.
func Encode(e Event) ([]byte, error) { return json.Marshal(e) }

// Decode reads a message's value. Whatever it does not wholly understand is an
// error: the caller stops, and says that this instance is older than the event,
// or that someone else writes to the control topic. Data may share b's memory.
func Decode(b []byte) (Event, error) {
	if e, ok := decodeCanonical(b); ok && e.V <= Version {
		return e, e.check()
	}
	return decodeAny(b)
}

func decodeAny(b []byte) (Event, error) {
	var e Event
	if err := strict(b, &e); err != nil {
		// Not even its version can be trusted; find it if it is there, for a better message.
		var v struct {
			V int `json:"v"`
		}
		if json.Unmarshal(b, &v) == nil && v.V > Version {
			return Event{}, newer(v.V)
		}
		return Event{}, fmt.Errorf("control event cannot be read: %w: something other than datafordeler writes to the control topic, or a message was damaged", err)
	}
	if e.V > Version {
		return Event{}, newer(e.V)
	}
	return e, e.check()
}

func newer(v int) error {
	return fmt.Errorf("control event has format version %d; this program reads up to %d: upgrade this instance before it goes on", v, Version)
}

// check says what is wrong with the envelope.
func (e *Event) check() error {
	switch {
	case e.V < 1:
		return fmt.Errorf("control event has no format version (v)")
	case e.Seq != e.On+1:
		return fmt.Errorf("control event seq %d was written on revision %d; want seq %d", e.Seq, e.On, e.On+1)
	case e.On == 0 != e.Prev.IsZero():
		return fmt.Errorf("control event seq %d: only the first has no predecessor (prev)", e.Seq)
	case e.At.IsZero():
		return fmt.Errorf("control event seq %d has no time (at)", e.Seq)
	}
	if err := checkActor(e.Actor); err != nil {
		return fmt.Errorf("control event seq %d: %w", e.Seq, err)
	}
	if _, ok := empty(e.Type); !ok {
		return fmt.Errorf("control event seq %d has type %q, which this program does not know: upgrade this instance before it goes on", e.Seq, e.Type)
	}
	return nil
}

func checkActor(a string) error {
	if a == "" {
		return errors.New("no actor: say who decides, by function or client")
	}
	if len(a) > 200 {
		return errors.New("the actor is longer than 200 bytes")
	}
	if elevenDigits(a) {
		return errors.New("the actor holds eleven digits in a row: it could be a person's number; name a function or a client")
	}
	return nil
}

// Hash names the event, content and place. The next one carries it as Prev.
func (e *Event) Hash() broker.Digest {
	h := sha256.New()
	var b []byte
	b = binary.AppendUvarint(b, uint64(e.V))
	b = binary.AppendUvarint(b, uint64(e.Seq))
	b = append(b, e.Prev[:]...)
	b = binary.AppendVarint(b, e.At.Unix())
	b = binary.AppendUvarint(b, uint64(e.At.Nanosecond()))
	b = binary.AppendUvarint(b, uint64(len(e.Actor)))
	b = append(b, e.Actor...)
	b = binary.AppendUvarint(b, uint64(len(e.Type)))
	b = append(b, e.Type...)
	h.Write(b)
	h.Write(e.Data)
	return broker.Digest(h.Sum(b[:0])[:16])
}

// empty is a new value of what a type's Data holds.
func empty(t Type) (payload, bool) {
	switch t {
	case OrganisationPut:
		return new(broker.Organisation), true
	case DatasetPut:
		return new(broker.Dataset), true
	case BasisPut:
		return new(broker.LegalBasis), true
	case PackagePut:
		return new(broker.RightsPackage), true
	case MailboxPut:
		return new(broker.Mailbox), true
	case AgreementPut:
		return new(broker.Agreement), true
	case SubscriptionPut:
		return new(broker.Subscription), true
	case DelegationPut:
		return new(broker.Delegation), true
	case RolePut:
		return new(broker.Role), true
	case AssessmentPut:
		return new(broker.LegalAssessment), true
	case TruthTablePut:
		return new(broker.TruthTable), true
	case TruthTableApproved:
		return new(Approval), true
	case DelegationWithdrawn, ConsentWithdrawn:
		return new(Withdrawal), true
	case CaseOpened:
		return new(broker.Case), true
	case CaseEnded:
		return new(CaseEnd), true
	case ConsentGiven:
		return new(broker.Consent), true
	case ConsentEnded:
		return new(ForeignEnd), true
	case ConsentFollowed:
		return new(ConsentFeed), true
	case PolicyActivated:
		return new(Policy), true
	case KeystoreRegistered:
		return new(Keystore), true
	case BudgetLeased:
		return new(Lease), true
	case LedgerRegistered:
		return new(Ledger), true
	case PeriodDestroyed:
		return new(Destruction), true
	case SubjectLookedUp:
		return new(SubjectLookup), true
	case CredentialIssued:
		return new(Credential), true
	case CredentialRevoked:
		return new(CredentialEnd), true
	case WebhookSet:
		return new(Webhook), true
	case WebhookProven:
		return new(WebhookProof), true
	case WebhookRotated:
		return new(WebhookRotation), true
	case WebhookStopped:
		return new(WebhookStop), true
	case WebhookRemoved:
		return new(WebhookRemoval), true
	case FreezeSet:
		return new(Freeze), true
	case FreezeLifted:
		return new(FreezeEnd), true
	case ProtectionSet:
		return new(Protect), true
	case ProtectionSynced:
		return new(ProtectionSync), true
	case UnitEnded:
		return new(UnitEnd), true
	case UnitRestored:
		return new(UnitRestoration), true
	case UnitsSynced:
		return new(UnitSync), true
	case SubjectSucceeded:
		return new(SubjectSuccession), true
	case DeviationReport:
		return new(Deviation), true
	case DeviationAnswered:
		return new(DeviationAnswer), true
	case ReceiptGiven:
		return new(Receipt), true
	case NeedPut:
		return new(broker.Need), true
	case NeedCosigned:
		return new(broker.Cosignature), true
	case NeedClosedType:
		return new(broker.NeedClosure), true
	case AgreementStepped:
		return new(broker.AgreementStep), true
	case FrameworkPut:
		return new(broker.Framework), true
	case FrameworkApproved:
		return new(broker.FrameworkApproval), true
	case FrameworkInvited:
		return new(broker.Invitation), true
	case FrameworkAcceded:
		return new(broker.Accession), true
	}
	return nil, false
}

// parse reads Data. An unknown field is an error: a newer writer means something
// by it.
func parse(e *Event) (payload, error) {
	if p, ok := parseCanonical(e); ok {
		return p, nil
	}
	return parseAny(e)
}

func parseAny(e *Event) (payload, error) {
	p, ok := empty(e.Type)
	if !ok {
		return nil, fmt.Errorf("control event seq %d has type %q, which this program does not know: upgrade this instance before it goes on", e.Seq, e.Type)
	}
	if err := strict(e.Data, p); err != nil {
		return nil, fmt.Errorf("control event seq %d, %s: %w: upgrade this instance, or find what else writes to the control topic", e.Seq, e.Type, err)
	}
	return p, nil
}

func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.InputOffset() != int64(len(b)) {
		if _, err := dec.Token(); err != io.EOF {
			return errors.New("something follows the JSON value")
		}
	}
	return nil
}

// elevenDigits is how a person is numbered in Norway.
func elevenDigits(s string) bool {
	run := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			run = 0
		} else if run++; run == 11 {
			return true
		}
	}
	return false
}

// Change is something to append, not yet tied to a revision: its Type and Data.
type Change struct {
	Type Type
	Data json.RawMessage
}

func change(t Type, p payload) Change {
	b, err := json.Marshal(p)
	if err != nil {
		// Only a value of package broker that is not JSON gets here, which is
		// a dataset whose schema was never parsed.
		panic(fmt.Sprintf("registry: %s: %v", t, err))
	}
	return Change{t, b}
}

// OpenCase lists a subject for a subscription while its case is open, and keeps
// it in scope, to be denied visibly, for ever after.
func OpenCase(c broker.Case) Change { return change(CaseOpened, c) }

// EndCase ends a case.
func EndCase(sub broker.SubscriptionID, id broker.CaseID, at time.Time) Change {
	return change(CaseEnded, CaseEnd{sub, id, at.UTC()})
}

// GiveConsent records a consent.
func GiveConsent(c broker.Consent) Change { return change(ConsentGiven, c) }

// WithdrawConsent withdraws a consent.
func WithdrawConsent(id broker.ConsentID, at time.Time) Change {
	return change(ConsentWithdrawn, Withdrawal{string(id), at.UTC()})
}

// WithdrawDelegation ends a supplier's leave to act.
func WithdrawDelegation(id broker.DelegationID, at time.Time) Change {
	return change(DelegationWithdrawn, Withdrawal{string(id), at.UTC()})
}

// ActivatePolicy puts a policy in force.
func ActivatePolicy(p Policy) Change { return change(PolicyActivated, p) }

// RegisterKeystore ties the control topic to a keystore; replaces is the
// fingerprint registered before, "" for the first.
func RegisterKeystore(check, replaces string) Change {
	return change(KeystoreRegistered, Keystore{check, replaces})
}

// RegisterLedger ties the control topic to the key that signs its ledger.
func RegisterLedger(l Ledger) Change { return change(LedgerRegistered, l) }

// DestroyPeriod ends the key of a period that is over, for good.
func DestroyPeriod(d Destruction) Change { return change(PeriodDestroyed, d) }

// LookUpSubject records that somebody asked about a subject.
func LookUpSubject(l SubjectLookup) Change { return change(SubjectLookedUp, l) }

// LeaseBudget asks for amount more deliveries under an agreement's ceiling.
func LeaseBudget(a broker.AgreementID, topicID [16]byte, partition int32, amount int64) Change {
	return change(BudgetLeased, Lease{a, topicID, partition, amount})
}

// Put declares a thing: one of the eleven structs of package broker that Type
// names, as a value.
func Put(thing any) (Change, error) {
	switch v := thing.(type) {
	case broker.Organisation:
		return change(OrganisationPut, v), nil
	case broker.Dataset:
		return change(DatasetPut, v), nil
	case broker.LegalBasis:
		return change(BasisPut, v), nil
	case broker.RightsPackage:
		return change(PackagePut, v), nil
	case broker.Mailbox:
		return change(MailboxPut, v), nil
	case broker.Agreement:
		return change(AgreementPut, v), nil
	case broker.Subscription:
		return change(SubscriptionPut, v), nil
	case broker.Delegation:
		return change(DelegationPut, v), nil
	case broker.Role:
		return change(RolePut, v), nil
	case broker.LegalAssessment:
		return change(AssessmentPut, v), nil
	case broker.TruthTable:
		return change(TruthTablePut, v), nil
	case broker.Need:
		return change(NeedPut, v), nil
	case broker.Framework:
		return change(FrameworkPut, v), nil
	}
	return Change{}, fmt.Errorf("registry: %T is not something that can be put", thing)
}

// Link makes events of changes, in order, to be appended on this state's
// revision. Each rests on the one before, so all that follow a losing one lose.
// at is the writer's clock; actor says who decides.
func (s *State) Link(at time.Time, actor string, changes ...Change) ([]Event, error) {
	if err := checkActor(actor); err != nil {
		return nil, err
	}
	if at.IsZero() {
		return nil, errors.New("registry: a control event needs its time")
	}
	events := make([]Event, len(changes))
	on, prev := s.revision, s.head
	for i, c := range changes {
		data, err := json.Marshal(c.Data) // as Encode will write it, since Hash is over these bytes
		if err != nil {
			return nil, fmt.Errorf("registry: %s: %w", c.Type, err)
		}
		if len(data) > maxEvent {
			return nil, fmt.Errorf("registry: %s is %d bytes; a control event holds %d at the most", c.Type, len(data), maxEvent)
		}
		e := Event{V: Version, Seq: on + 1, On: on, Prev: prev, At: at.UTC(), Actor: actor, Type: c.Type, Data: data}
		events[i] = e
		on, prev = e.Seq, e.Hash()
	}
	return events, nil
}
