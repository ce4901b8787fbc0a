package flow

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// Held is a committed delivery on its way out by a door of the broker's own.
type Held struct {
	Mailbox      broker.MailboxID
	Subscription broker.SubscriptionID
	Agreement    broker.AgreementID
	Dataset      broker.DatasetID
	Kind         broker.RecordKind
	Door         deliver.Door
}

// Doorkeeper asks policy again before a delivery is handed over: a delivery lies in
// its mailbox for days, and what it rested on may have ended since. It may be used
// from several goroutines.
type Doorkeeper struct{ broker *Broker }

// Doorkeeper is the instance's.
func (b *Broker) Doorkeeper() *Doorkeeper { return &Doorkeeper{b} }

// Judge answers for each delivery whether it may be handed over now: by the newest
// control state there is on any instance, and by its policy, which sees all that it
// saw when the delivery was decided. A ceiling counts deliveries when they commit,
// and is not asked again. An error is that nothing may be handed over.
func (d *Doorkeeper) Judge(ctx context.Context, held []Held) ([]*broker.Outcome, error) {
	b := d.broker
	if _, err := b.control.Latest(ctx); err != nil {
		return nil, fmt.Errorf("what has been withdrawn by now could not be learnt: %w", err)
	}
	if err := b.control.Err(); err != nil {
		return nil, err
	}
	out := make([]*broker.Outcome, len(held))
	var (
		err      error
		memo     policy.Memo
		cases    []broker.Interval
		consents []broker.Consent
	)
	b.control.View(func(st *registry.State) {
		var w *world
		if w, err = b.worlds.at(st); err != nil {
			return
		}
		now := b.now()
		if st.At().After(now) {
			now = st.At() // a clock that is behind: what is withdrawn is withdrawn
		}
		for i := range held {
			h := &held[i]
			r := w.routes[st.Terms(h.Subscription)]
			if r == nil || r.prepared == nil || len(h.Door.Attributes) != len(r.terms.Dataset.Attributes) ||
				r.terms.Mailbox.ID != h.Mailbox || r.terms.Agreement.ID != h.Agreement || r.terms.Dataset.ID != h.Dataset {
				out[i] = denyPolicyError
				continue
			}
			if !covers(r.terms.Package, st.Package(h.Door.Package)) {
				out[i] = denyNotMinimisable
				continue
			}
			facts := broker.Facts{Time: now, Kind: h.Kind, Attributes: h.Door.Attributes, Usage: broker.Usage{Granted: 1}}
			if !h.Door.Subject.IsZero() {
				cases = st.Cases(cases[:0], r.id, h.Door.Subject)
				consents = st.Consents(consents[:0], r.consumer, h.Dataset, r.purpose, h.Door.Subject)
				facts.Cases, facts.Consents = cases, consents
			}
			outcome, failed := r.prepared.Decide(ctx, &facts, &memo)
			if failed != nil || outcome == nil || !outcome.Permit && len(outcome.Reasons) == 0 {
				b.log.Error("policy gave no answer at the door: withheld", "subscription", r.id, "err", failed)
				outcome = denyPolicyError
			}
			out[i] = outcome
		}
	})
	return out, err
}

// covers reports whether what was reduced by one package may still leave under
// another: all its fields are agreed now, and protected subjects are shielded alike.
func covers(now, then *broker.RightsPackage) bool {
	switch {
	case now == then:
		return now != nil
	case now == nil || then == nil || !reflect.DeepEqual(now.Shielding, then.Shielding):
		return false
	}
	for _, f := range then.Fields {
		if !slices.Contains(now.Fields, f) {
			return false
		}
	}
	return true
}

// Withheld tells the log of a delivery that was not handed over, by the id under
// which the ledger says why it was decided in the first place.
func (d *Doorkeeper) Withheld(h *Held, decision broker.DecisionID, o *broker.Outcome, at time.Time) {
	d.broker.log.Error("withheld at the door: what this delivery rested on has ended since it was decided",
		"decision", decision, "door", broker.NewDecisionID(broker.DoorDecision, h.Door.TopicID, h.Door.Partition, h.Door.Offset, h.Subscription),
		"subscription", h.Subscription, "mailbox", h.Mailbox, "reasons", o.Reasons, "revision", d.broker.control.Revision(), "at", at)
}
