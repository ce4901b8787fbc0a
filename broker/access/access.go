// Package access answers two questions of every request: who is calling, and may
// they do this. Who calls is proven by a token: Maskinporten's for an
// organisation, ID-porten's for a citizen. What a caller may do follows from what
// the registry says of its organisation, never from what the token's client is
// called.
//
// A request goes this way: the token's outside is read strictly ([Gatekeeper.Identify]);
// its issuer's keys are at hand, or are asked for at the issuer alone; signature,
// times, audience and claims are checked, and a [Caller] is what remains. Then the
// request is reduced to a [Question] of a few words, and both the program and the
// access policy must answer yes ([Gatekeeper.Allow]).
//
// # Who may what
//
//   - A dataset is published by its owner, by its own hands: a delegation lets a
//     supplier receive, not publish.
//   - A mailbox is read by the organisation that it belongs to, which is the supplier
//     where its agreement has one. Where it holds another's data, the consumer's
//     delegation must be recorded and in force, whether the supplier calls in its own
//     name or in the consumer's. The consumer itself does not read its supplier's
//     mailbox.
//   - Under an agreement its consumer looks up, or the supplier that the agreement
//     names, in the consumer's name and by a recorded delegation.
//   - The decisions that it is party to are seen by provider and consumer. A supplier
//     names the agreement, subscription or mailbox.
//   - Cases are opened and ended by whoever may look up under their subscription.
//   - A delegation is withdrawn by whoever gave it. Provider and consumer suspend what
//     they are party to, by their own hands; an operator may do all of these.
//   - A citizen has a hold on their own consents, and on nothing else.
//   - The proof of a consent that was given elsewhere is brought by whom it was given
//     to, or by an operator.
//   - Auditors and operators are named in the registry, and act by their own hands.
//
// A mailbox's client ([broker.Mailbox.Client]) says which program it was made for,
// and is for its owner's order: a client_id may change, and is not for access
// control. Whoever has a token of the organisation with the scope reads all of its
// mailboxes; who may have such a token is settled where clients get their scopes.
//
// # Which errand, where
//
//   - the words that everything else uses: this file;
//   - a token was refused, and should not be, or the other way round: token.go;
//   - which keys count, and when an issuer is asked: keys.go; tokens remembered:
//     verifier.go;
//   - a caller was refused: relate.go, which reduces a request to a question, and
//     decide.go, which answers; the same in Rego: policy/access;
//   - settings: config.go; a local issuer: devidp; getting a token: grant.
package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"datafordeler/broker"
)

// Caller is who calls, as a verified token says.
type Caller struct {
	// Organisation is for whom the call is made: Maskinporten's consumer. Empty
	// for a citizen.
	Organisation broker.OrgNumber
	// Supplier is who makes the call on its behalf; empty when it does so itself.
	Supplier broker.OrgNumber
	// Client is the token's client_id: for logs, rates and mailboxes, never a
	// reason to let anybody in.
	Client string
	// Scopes are the token's scopes.
	Scopes []string
	// Person is the citizen who is logged in by ID-porten.
	Person Person
	// Expires is when the token ends. Streams end with it.
	Expires time.Time
}

// Person is a citizen's identity number. It never prints: read it with Number.
type Person struct{ number string }

// NewPerson wraps an identity number that a verified token names.
func NewPerson(number string) Person { return Person{number} }

// Number is the identity number itself: for hashing, at once, and nothing else.
func (p Person) Number() string { return p.number }

// IsZero reports that there is no citizen.
func (p Person) IsZero() bool { return p.number == "" }

// String hides the number from logs and errors.
func (p Person) String() string { return "(a person)" }

// Format hides the number from every verb of fmt, also those that ask no String.
func (p Person) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// MarshalText refuses: a person's number is never encoded by accident.
func (p Person) MarshalText() ([]byte, error) {
	return nil, errors.New("access: a person's number is not to be written")
}

// Acting is the organisation whose hands make the call: the supplier where there
// is one.
func (c Caller) Acting() broker.OrgNumber {
	if c.Supplier != "" {
		return c.Supplier
	}
	return c.Organisation
}

// HasScope reports whether the token has the scope.
func (c Caller) HasScope(scope string) bool { return slices.Contains(c.Scopes, scope) }

// Actor names the caller in control events and logs. It holds no person's number.
func (c Caller) Actor() string {
	switch {
	case c.Organisation == "" && c.Person.IsZero():
		return "nobody"
	case c.Organisation == "":
		return "a citizen"
	case c.Supplier != "":
		return fmt.Sprintf("organisation %s by supplier %s (client %s)", c.Organisation, c.Supplier, short(c.Client))
	}
	return fmt.Sprintf("organisation %s (client %s)", c.Organisation, short(c.Client))
}

// short is a client's name, or its beginning where it is long or has eleven digits
// in a row: then it could be a person's number, and the registry takes no such actor.
// A UUID has them by chance now and then.
func short(client string) string {
	run := 0
	for i := range len(client) {
		if client[i] < '0' || client[i] > '9' {
			run = 0
		} else if run++; run == 11 {
			return client[:8] + "…"
		}
	}
	if len(client) > 100 {
		return client[:100] + "…"
	}
	return client
}

// Action is what a caller wants to do. Each endpoint names one.
type Action string

// The actions. Those on a dataset, mailbox, subscription or agreement are judged
// for the one that the request names.
const (
	// ReadSelf is to see what the broker knows of the caller: any valid token.
	ReadSelf Action = "self.read"
	// ReadCatalogue is to see which datasets there are and what they hold: any
	// organisation.
	ReadCatalogue Action = "catalogue.read"
	// PublishRecords is a provider's, on a dataset of its own.
	PublishRecords Action = "records.publish"
	// ReadRejections is a provider's, on a dataset of its own.
	ReadRejections Action = "rejections.read"
	// Receive is a consumer's or its supplier's, on a mailbox of its own.
	Receive Action = "mailbox.receive"
	// LookUp is a consumer's or its supplier's, under an agreement of its own.
	LookUp Action = "subject.lookup"
	// Audit is an auditor's: to search and explain all decisions, and to read the
	// ledger.
	Audit Action = "decisions.audit"
	// AuditOwn is a provider's or a consumer's: the decisions that it is party to.
	AuditOwn Action = "decisions.read"
	// AuditSubject is an auditor's: who got one subject's data.
	AuditSubject Action = "decisions.subject"
	// ManageCases is a consumer's or its supplier's, under a subscription of its own: to
	// open, read and end cases.
	ManageCases Action = "cases.manage"
	// OwnConsents is a citizen's: to give, list and withdraw their own.
	OwnConsents Action = "consents.own"
	// OwnDisclosures is a citizen's: who got data on them.
	OwnDisclosures Action = "disclosures.own"
	// BringConsents is any organisation's, by its own hands: to bring the proof of consents
	// that were given to it elsewhere.
	BringConsents Action = "consents.bring"
	// Suspend is a provider's or a consumer's, by its own hands, on an agreement or a
	// subscription that it is party to.
	Suspend Action = "agreement.suspend"
	// StopMailbox is for whoever may receive it: to suspend or freeze a mailbox.
	StopMailbox Action = "mailbox.stop"
	// FreezeDataset is a provider's, on a dataset of its own.
	FreezeDataset Action = "dataset.freeze"
	// EndDelegation is for whoever gave it.
	EndDelegation Action = "delegation.withdraw"
	// ReportDeviation is a consumer's or its supplier's, under a subscription of its own:
	// to say that what was delivered is wrong.
	ReportDeviation Action = "deviation.report"
	// AnswerDeviation is a provider's, on a dataset of its own.
	AnswerDeviation Action = "deviation.answer"
	// GiveReceipt is a consumer's or its supplier's, under an agreement of its own: to say
	// what was done about a withdrawn consent.
	GiveReceipt Action = "obligation.receipt"
	// Agree is a provider's or a consumer's, by its own hands, on an agreement that it is
	// party to, or that is offered to it: to take a step in its life.
	Agree Action = "agreement.step"
	// Offer is any organisation's, by its own hands and for itself: to say what it needs,
	// to propose an agreement, to publish standard terms or accede to them.
	Offer Action = "agreement.offer"
	// Operate is an operator's: the registry, mailboxes of others, the freeze switch.
	Operate Action = "broker.operate"
)

// Actions are all of them.
var Actions = []Action{ReadSelf, ReadCatalogue, PublishRecords, ReadRejections, Receive, LookUp, Audit, AuditOwn, AuditSubject,
	ManageCases, OwnConsents, OwnDisclosures, BringConsents, Suspend, StopMailbox, FreezeDataset, EndDelegation, ReportDeviation, AnswerDeviation, GiveReceipt, Agree, Offer, Operate}

// Resource is what the action is on. What does not apply is empty.
type Resource struct {
	Dataset      broker.DatasetID
	Mailbox      broker.MailboxID
	Agreement    broker.AgreementID
	Subscription broker.SubscriptionID
	Delegation   broker.DelegationID
}

// TokenError says that a request has no token that counts: HTTP's 401.
type TokenError struct {
	// Missing is true when there was none at all.
	Missing bool
	// Why is for the caller: what to do about it. It never repeats the token.
	Why string
}

func (e *TokenError) Error() string { return e.Why }

// Refusal says that a caller may not do this: HTTP's 403. It reads the same
// whether the thing is another's or does not exist.
type Refusal struct {
	Action Action
	Why    string
}

func (e *Refusal) Error() string { return e.Why }

// Guard is what stands in every door.
type Guard interface {
	// Identify verifies what stands in the Authorization header. Its error is a
	// *TokenError, or another when it could not be found out: nobody comes in then.
	Identify(ctx context.Context, authorization string) (Caller, error)
	// Allow says whether the caller may do it. Its error is a *Refusal, or another
	// when it could not be found out: nobody comes in then.
	Allow(ctx context.Context, c Caller, a Action, r Resource) error
}
