package access

import (
	"errors"
	"fmt"
	"sync"
)

// Question is everything that a decision rests on: a few words of a closed set
// each. Whatever is known of caller, registry and resource is reduced to it first,
// so that both deciders judge the same.
type Question struct {
	Action Action
	// Citizen is true for a person who is logged in, false for an organisation.
	Citizen bool
	// Scope is true when the token has the scope that the action asks for.
	Scope    bool
	Relation Relation
	Via      Via
	// Auditor and Operator are the roles that the organisation has now.
	Auditor, Operator bool
}

// Relation is what the caller's organisation is to the resource.
type Relation string

// The relations.
const (
	Unnamed  Relation = "unnamed"  // the request names none
	Other    Relation = "other"    // it is another's, or there is none
	Owner    Relation = "owner"    // it owns the dataset, or gave the delegation
	Receiver Relation = "receiver" // the mailbox is its own, or that of the supplier who calls for it
	Consumer Relation = "consumer" // it is the agreement's consumer
	Party    Relation = "party"    // it is provider or consumer of all that is named
)

// Relations are all of them.
var Relations = []Relation{Unnamed, Other, Owner, Receiver, Consumer, Party}

// Via is by whose hands it acts.
type Via string

// The ways.
const (
	Self        Via = "self"        // its own
	Delegated   Via = "delegated"   // a supplier's, by a delegation that is recorded and in force
	Undelegated Via = "undelegated" // a supplier's, without
)

// Vias are all of them.
var Vias = []Via{Self, Delegated, Undelegated}

// input is the question as the policy has it.
func (q Question) input() map[string]any {
	kind := "organisation"
	if q.Citizen {
		kind = "citizen"
	}
	return map[string]any{
		"action": string(q.Action), "kind": kind, "scope": q.Scope, "relation": string(q.Relation), "via": string(q.Via),
		"auditor": q.Auditor, "operator": q.Operator,
	}
}

// permits is the decision, in Go. What is not named here is refused.
func permits(q Question) bool {
	if q.Action == ReadSelf {
		return true
	}
	if q.Citizen {
		return q.Action == OwnConsents || q.Action == OwnDisclosures
	}
	owned := q.Via == Self || q.Via == Delegated
	switch q.Action {
	case ReadCatalogue:
		return true
	case PublishRecords, ReadRejections, FreezeDataset, EndDelegation, AnswerDeviation:
		return q.Scope && q.Relation == Owner && q.Via == Self
	case Receive, StopMailbox:
		return q.Scope && q.Relation == Receiver && owned
	case LookUp, ManageCases, ReportDeviation, GiveReceipt:
		return q.Scope && q.Relation == Consumer && owned
	case AuditOwn:
		return q.Scope && q.Relation == Party && owned
	case Suspend, Agree:
		return q.Scope && q.Relation == Party && q.Via == Self
	case Offer, BringConsents:
		return q.Scope && q.Via == Self
	case Audit, AuditSubject:
		return q.Scope && q.Auditor && q.Via == Self
	case Operate:
		return q.Scope && q.Operator && q.Via == Self
	}
	return false
}

// Checker decides by policy. Its input has the fields of Question: action, kind
// (organisation or citizen), scope, relation, via, auditor, operator. Any number of
// goroutines may ask.
type Checker interface {
	Permits(input map[string]any) (bool, error)
	// Digest names the policy.
	Digest() string
}

var errDisagree = errors.New("access: the program and the access policy disagree, so nobody comes in")

// judge asks both deciders. There are few questions, so each is asked of the policy
// once.
type judge struct {
	checker Checker
	known   sync.Map // Question → bool, what the policy answers
}

func (j *judge) ask(q Question) (bool, error) {
	answer, ok := j.known.Load(q)
	if !ok {
		permit, err := j.checker.Permits(q.input())
		if err != nil {
			return false, fmt.Errorf("access: the access policy gives no answer: %w", err)
		}
		answer, _ = j.known.LoadOrStore(q, permit)
	}
	if answer.(bool) != permits(q) {
		return false, errDisagree
	}
	return answer.(bool), nil
}
