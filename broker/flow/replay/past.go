package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// errBeyond is a revision that control does not reach.
var errBeyond = errors.New("control does not reach so far")

// past is control as it was: folded forward to one revision after another.
// Whoever moves it is alone; at one revision any number may read it.
type past struct {
	tape  *tape
	state *registry.State
	other *overlay // nil unless the candidate has declarations
	docs  []registry.Document
}

// to moves to a revision. Going back folds control anew from its beginning.
func (p *past) to(ctx context.Context, rev broker.Revision) error {
	if p.state == nil || rev < p.state.Revision() {
		if err := p.tape.seek(0); err != nil {
			return err
		}
		p.state = registry.New()
		if p.docs != nil {
			p.other = &overlay{state: registry.New(), docs: p.docs}
		}
	}
	for p.state.Revision() < rev {
		r, err := p.tape.peek(ctx)
		if err != nil {
			return err
		}
		if r == nil {
			return fmt.Errorf("revision %d: %w", rev, errBeyond)
		}
		e, err := registry.Decode(r.Value)
		if err != nil {
			return fmt.Errorf("control event at offset %d: %w", r.Offset, err)
		}
		accepted, err := p.state.Fold(e)
		if err != nil {
			return fmt.Errorf("control event at offset %d: %w", r.Offset, err)
		}
		p.tape.take()
		if accepted && p.other != nil {
			if err := p.other.fold(e); err != nil {
				return fmt.Errorf("control event at offset %d: %w", r.Offset, err)
			}
		}
	}
	if p.other != nil {
		p.other.declare()
	}
	return nil
}

// overlay is control as it would have been with the candidate's declarations on
// top. It takes the same changes, linked to events of its own, and the
// declarations again after each change of structure: they have the last word.
type overlay struct {
	state    *registry.State
	docs     []registry.Document
	declared broker.Revision // the structure that has them on top
	at       time.Time
	tried    broker.Revision // the structure that they were last tried on
	fault    error           // why there is no such state; clears when a later change mends it
	lost     error           // likewise, for good: an event of the log cannot be taken
}

func (o *overlay) fold(e registry.Event) error {
	if o.lost != nil {
		return nil
	}
	o.at = e.At
	if e.Type == registry.BudgetLeased {
		o.declare() // a candidate's ceiling is there before anything is leased from it
	}
	events, err := o.state.Link(e.At, e.Actor, registry.Change{Type: e.Type, Data: e.Data})
	if err != nil {
		return err
	}
	err = o.state.Check(events[0])
	var refused *registry.RefusedError
	if errors.As(err, &refused) {
		// A lease that a candidate's ceiling has no room for is not given: how
		// much is left to lease counts instead (see judge.usage).
		if e.Type != registry.BudgetLeased {
			o.lost = fmt.Errorf("with the candidate, the change of revision %d would have been refused: %w", e.Seq, refused)
		}
		return nil
	}
	if err != nil {
		return err
	}
	_, err = o.state.Fold(events[0])
	return err
}

// declare puts the declarations on top of the present structure.
func (o *overlay) declare() {
	if now := o.state.Structure(); o.lost != nil || o.declared == now && o.fault == nil || o.tried == now && o.fault != nil {
		return
	}
	o.tried = o.state.Structure()
	plan, err := registry.NewPlan(o.state, o.docs, "candidate", o.at)
	if err != nil {
		o.fault = err
		return
	}
	for _, e := range plan.Events {
		if ok, err := o.state.Fold(e); err != nil || !ok {
			o.fault = errors.Join(errors.New("the candidate's declarations could not be put on top"), err)
			return
		}
	}
	o.fault, o.declared = nil, o.state.Structure()
}

func (o *overlay) err() error {
	if o.lost != nil {
		return o.lost
	}
	return o.fault
}
