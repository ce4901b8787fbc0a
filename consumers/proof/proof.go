// Package proof lets a receiver check, with nothing but public keys, that a delivery
// was decided as the broker's ledger says: for whoever must show later on what it
// acted. It is apart from package consumers, so that who does not ask for proofs does
// not build the ledger.
//
// A proof is what GET /audit/decisions/{decision}/proof answers, or datafordeler audit
// prove writes; it can be had some seconds after the delivery. The keys come by another
// way than the proof: from the broker's operator and its witnesses.
package proof

import (
	"errors"
	"fmt"

	"datafordeler/broker/ledger"
	"datafordeler/consumers"
)

// Keys says whom to trust: the ledger's name, its key and the witnesses' keys, as
// verifier keys (C2SP signed-note), the ledger's first; and how many witnesses must
// have cosigned.
func Keys(origin string, keys []string, witnesses int) (*ledger.Policy, error) {
	return ledger.NewPolicy(origin, keys, witnesses)
}

// Verify says that the delivery was permitted by the decision that it names, and that
// this decision stands in the ledger whose keys are given. The error says what does not
// fit; then the delivery proves nothing.
func Verify(d *consumers.Delivery, file []byte, keys *ledger.Policy) (*ledger.Checked, error) {
	p, err := ledger.ParseProof(file)
	if err != nil {
		return nil, err
	}
	checked, err := p.Check(keys)
	if err != nil {
		return nil, err
	}
	x := checked.Decision
	differs := func(what string) error {
		return fmt.Errorf("the proof is of another delivery: its %s is not this one's", what)
	}
	switch {
	case x == nil:
		return nil, errors.New("the proof is not of a decision")
	case x.ID != d.Decision:
		return nil, differs("decision")
	case !x.Outcome.Permit:
		return nil, errors.New("the decision is a denial: this should never have been delivered; tell the provider")
	case x.Delivery != d.ID:
		return nil, differs("delivery")
	case x.Subscription != d.Subscription:
		return nil, differs("subscription")
	case x.Agreement != d.Agreement:
		return nil, differs("agreement")
	case x.Position.Dataset != d.Dataset:
		return nil, differs("dataset")
	case x.RecordKind != d.Kind:
		return nil, differs("kind of record")
	}
	return checked, nil
}
