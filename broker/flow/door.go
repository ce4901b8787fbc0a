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
	// Told: it is a notice, whose data was denied.
	Told bool
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
	var err error
	var x asking
	b.control.View(func(st *registry.State) {
		var w *world
		if w, err = b.worlds.at(st); err != nil {
			return
		}
		now := b.now()
		if st.At().After(now) {
			now = st.At() // a clock that is behind: what is withdrawn is withdrawn
		}
		in := &instant{world: w, state: st, now: now}
		for i := range held {
			if ctx.Err() != nil {
				// Whoever asked is gone: nothing is handed over, and nothing was withheld.
				err = ctx.Err()
				return
			}
			// That they go must not reach into policy: a cancelled evaluation is a denial.
			out[i] = x.judge(context.WithoutCancel(ctx), b, in, &held[i])
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// asking is the scratch of one goroutine that puts cases to policy.
type asking struct {
	memo     policy.Memo
	cases    []broker.Interval
	consents []broker.Consent
}

// judge asks whether a delivery may be handed over at an instant. Whatever goes wrong
// is a denial.
func (x *asking) judge(ctx context.Context, b *Broker, in *instant, h *Held) *broker.Outcome {
	r := in.world.routes[in.state.Terms(h.Subscription)]
	if r == nil || r.prepared == nil || len(h.Door.Attributes) != len(r.terms.Dataset.Attributes) ||
		r.terms.Mailbox.ID != h.Mailbox || r.terms.Agreement.ID != h.Agreement || r.terms.Dataset.ID != h.Dataset {
		return denyPolicyError
	}
	rec := broker.Record{Subject: h.Door.Subject, Attributes: slices.Clone(h.Door.Attributes)}
	rec.Dataset = h.Dataset
	in.state.Consult(&rec)
	facts := broker.Facts{Time: in.now, Kind: h.Kind, Attributes: rec.Attributes, Usage: broker.Usage{Granted: 1}}
	if h.Told && h.Kind != broker.Original { // it has no data that could be reduced
		return in.world.engine.Notice(x.ask(ctx, b, in, r, h.Door.Subject, &facts))
	}
	if !covers(r.terms.Package, in.state.Package(h.Door.Package)) {
		return denyNotMinimisable
	}
	if r.projection.Shields(rec.Attributes) && !r.projection.Shields(h.Door.Attributes) {
		return denyNotMinimisable // the subject has been protected since: what lies here is not shielded
	}
	return x.ask(ctx, b, in, r, h.Door.Subject, &facts)
}

// ask puts facts to a route's policy, with what cases and consents there are of a
// subject, unless that is zero.
func (x *asking) ask(ctx context.Context, b *Broker, in *instant, r *route, subject broker.SubjectKey, facts *broker.Facts) *broker.Outcome {
	if r.prepared == nil {
		return denyPolicyError
	}
	if !subject.IsZero() {
		x.cases = in.state.Cases(x.cases[:0], r.id, subject)
		x.consents = in.state.Consents(x.consents[:0], r.consumer, r.terms.Dataset.ID, r.purpose, subject)
		facts.Cases, facts.Consents = x.cases, x.consents
	}
	if r.prepared.State() == policy.Pending {
		b.worlds.compiler.want(r)
	}
	outcome, err := r.prepared.Decide(ctx, facts, &x.memo)
	if err != nil || outcome == nil || !outcome.Permit && len(outcome.Reasons) == 0 {
		b.log.Error("policy gave no answer: denied", "subscription", r.id, "err", err)
		return denyPolicyError
	}
	return outcome
}

// covers reports whether what was reduced by one package may still leave under
// another: all its fields are agreed now, what it derives is derived by the same
// rules, and protected subjects are shielded alike.
func covers(now, then *broker.RightsPackage) bool {
	switch {
	case now == then:
		return now != nil
	case now == nil || then == nil || !reflect.DeepEqual(now.Shielding, then.Shielding) || !now.Derives(then):
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
