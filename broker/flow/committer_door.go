package flow

import (
	"context"
	"errors"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
)

var errOtherSubject = errors.New("a record that was looked up is not about the subject that was asked for: the index of subjects is wrong; nothing is handed over")

// Admit judges what lies in a mailbox, as Judge does, and commits what it withholds:
// when it returns, a decision of kind door stands in the log for each, with the same
// reasons once, however often it is asked for. An error is that nothing may be handed
// over. What names nothing that a decision could be about is withheld, and logged.
func (d *Doorkeeper) Admit(ctx context.Context, held []Held, decisions []broker.DecisionID) ([]*broker.Outcome, error) {
	written := make([]bool, len(held))
	// To write takes time, in which more may be withdrawn: what is handed over was
	// judged after the last was written.
	for range 5 {
		outcomes, err := d.Judge(ctx, held)
		if err != nil {
			return nil, err
		}
		var at []int
		var withheld []Held
		for i, o := range outcomes {
			if o == nil {
				outcomes[i] = denyPolicyError
			}
			if !outcomes[i].Permit && !written[i] {
				at, withheld = append(at, i), append(withheld, held[i])
			}
		}
		if len(at) == 0 {
			return outcomes, nil
		}
		a := &asked{held: withheld}
		if err := d.broker.Committer().ask(ctx, a); err != nil {
			return nil, err
		}
		for j, i := range at {
			if written[i] = !a.outcomes[j].Permit; written[i] && a.news[j] {
				d.Withheld(&held[i], decisions[i], a.outcomes[j], d.broker.now())
			}
		}
	}
	return nil, &HeldError{errors.New("the registry changes faster than can be decided")}
}

// door makes rows of what a door withholds. It was judged before, and is judged again
// at the turn's instant, so that what is written is true of it.
func (t *turn) door(ctx context.Context, a *asked) error {
	c, in := t.c, t.in
	for i := range a.held {
		h := &a.held[i]
		o := c.asking.judge(ctx, c.broker, in, h)
		a.outcomes[i], a.news[i] = o, !o.Permit
		if o.Permit || h.Subscription == "" || h.Dataset == "" || h.Agreement == "" || h.Door.Event.IsZero() {
			continue
		}
		x := row{kind: broker.DoorDecision, question: -1,
			single: deliver.Single{Position: broker.Position{Dataset: h.Dataset, TopicID: h.Door.TopicID, Partition: h.Door.Partition, Offset: h.Door.Offset},
				Event: h.Door.Event, Kind: h.Kind},
			decision: deliver.Decision{Outcome: o, Terms: termsOf(h)}}
		if r := in.world.routes[in.state.Terms(h.Subscription)]; r != nil {
			x.route = r
		}
		if c.noted.has(&x) {
			a.news[i] = false
			continue
		}
		if !h.Door.Subject.IsZero() {
			var err error
			if x.single.Subject, err = c.broker.hasher.Pseudonym(in.period, h.Door.Subject); err != nil {
				return err
			}
		}
		a.rows = append(a.rows, x)
	}
	return nil
}

// termsOf names what a delivery says of itself. It may not be declared any more.
func termsOf(h *Held) *broker.Terms {
	t := &broker.Terms{}
	t.Subscription.ID, t.Agreement.ID, t.Agreement.Package = h.Subscription, h.Agreement, h.Door.Package
	return t
}

// notesMost is how many withheld deliveries are remembered.
const notesMost = 1 << 16

// notes remember what stands in the log already, so that one who polls does not fill
// it. After a restart it is written once more.
type notes struct {
	known map[note]struct{}
	order []note // a ring, once it is full
	next  int
}

// note is a decision with its reasons.
type note struct {
	decision broker.DecisionID
	reasons  string
}

func noteOf(x *row) note {
	n := note{decision: x.id()}
	for _, r := range x.decision.Outcome.Reasons {
		n.reasons += string(r) + " "
	}
	return n
}

func (n *notes) has(x *row) bool {
	_, ok := n.known[noteOf(x)]
	return ok
}

// add is called for what is durable.
func (n *notes) add(x *row) {
	if n.known == nil {
		n.known = map[note]struct{}{}
	}
	key := noteOf(x)
	if _, ok := n.known[key]; ok {
		return
	}
	n.known[key] = struct{}{}
	if len(n.order) < notesMost {
		n.order = append(n.order, key)
		return
	}
	delete(n.known, n.order[n.next])
	n.order[n.next] = key
	n.next = (n.next + 1) % notesMost
}
