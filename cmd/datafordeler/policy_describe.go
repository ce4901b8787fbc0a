package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/inwords"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable"
	"datafordeler/broker/truthtable/check"
	"datafordeler/policy"
)

func policyDescribe(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy describe")
	where := placeFlags(fs)
	lang := fs.String("lang", "nb", "")
	asJSON := fs.Bool("json", false, "")
	if err := parseMixed(fs, args, 1, 1); err != nil {
		return err
	}
	if !slices.Contains(inwords.Languages, *lang) {
		return usagef("--lang: %q is not nb, nn or en", *lang)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	d, err := (&describer{control: n.control}).Describe(ctx, broker.AgreementID(fs.Arg(0)), *lang, time.Now())
	switch {
	case err != nil:
		return err
	case d == nil:
		return fmt.Errorf("no agreement%s is registered; see: datafordeler registry get agreement", quoted(fs.Arg(0)))
	case *asJSON:
		return printJSON(std.out, d, true)
	}
	return d.Text(std.out)
}

// describer puts agreements into words. Its methods may be called at the same time.
type describer struct {
	control *flow.Control

	mu     sync.Mutex
	digest string
	engine *policy.Engine // of that digest
}

// Describe is an agreement in words, as the registry has it now; nil where it has none
// by that name.
func (d *describer) Describe(ctx context.Context, id broker.AgreementID, language string, at time.Time) (*inwords.Description, error) {
	in := inwords.Input{Agreement: id, At: at, Frozen: map[broker.SubscriptionID]bool{}}
	var err error
	d.control.View(func(st *registry.State) {
		if st.Agreement(id) == nil {
			return
		}
		// The policy is asked without the lock, of what stood at one revision.
		in.State, err = st.Preview(nil)
		for _, s := range st.Subscriptions() {
			if s.Agreement == id {
				in.Frozen[s.ID] = st.Terms(s.ID).Frozen
			}
		}
	})
	if err != nil || in.State == nil {
		return nil, err
	}
	if in.State.Policy() != nil {
		engine, err := d.compiled(in.State.Policy())
		if err != nil {
			return nil, err
		}
		if in.Policy, err = policySays(ctx, engine, &in); err != nil {
			return nil, err
		}
	}
	return inwords.Agreement(&in, language)
}

// compiled is the policy, which takes a while to compile and seldom changes.
func (d *describer) compiled(p *registry.Policy) (*policy.Engine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.engine == nil || d.digest != p.Digest {
		engine, err := policy.Compile(policy.Bundle{Modules: p.Modules})
		if err != nil {
			return nil, err
		}
		d.engine, d.digest = engine, p.Digest
	}
	return d.engine, nil
}

// policySays asks the policy what comes of the agreement now, and which of its reasons
// the agreement settles.
func policySays(ctx context.Context, engine *policy.Engine, in *inwords.Input) (inwords.Policy, error) {
	out := inwords.Policy{Digest: in.State.Policy().Digest}
	terms := in.State.AgreementTerms(in.Agreement)
	for _, s := range inwords.Situations {
		row := &truthtable.Row{Name: string(s), At: in.At, Expect: truthtable.Permit, Set: map[truthtable.Column]string{
			truthtable.Status: string(terms.Agreement.Status),
		}}
		if s == inwords.Case || s == inwords.Both {
			row.Set[truthtable.Case] = truthtable.Open
		}
		if s == inwords.Consent || s == inwords.Both {
			row.Set[truthtable.Consent] = truthtable.Given
		}
		r, err := check.Row(ctx, engine, in.State, terms, row)
		if err != nil {
			return out, err
		}
		a := inwords.Answer{Situation: s, Permit: r.Fault == "" && r.Got != truthtable.Deny, Reasons: r.Reasons, Fault: r.Fault}
		if a.Permit {
			a.Bases = r.Bases
		}
		out.Answers = append(out.Answers, a)
	}
	settled := settles(ctx, engine, terms)
	// What hangs on the subscription, its mailbox or a freeze is not settled by the
	// agreement: it may be so tomorrow.
	other := *terms
	other.Frozen, other.Subscription.Suspended, other.Mailbox.Suspended, other.Mailbox.Organisation = true, true, true, ""
	for of, how := range settles(ctx, engine, &other) {
		if settled[of] != how {
			settled[of] = policy.Open
		}
	}
	for _, r := range engine.Reasons() {
		stands := inwords.Unsettled
		switch settled[string(r.Code)] {
		case policy.Always:
			stands = inwords.Met
		case policy.Never:
			stands = inwords.Unmet
		case policy.Open:
			stands = inwords.Depends
		default:
			if len(settled) > 0 { // of the broker itself: it comes of a record
				stands = inwords.Depends
			}
		}
		out.Reasons = append(out.Reasons, inwords.Reason{Code: r.Code, Cites: r.Cites, Message: r.Message, Remedy: r.Remedy, Stands: stands})
	}
	return out, ctx.Err()
}

// settles is what the terms alone make of each requirement; nothing where that cannot
// be told.
func settles(ctx context.Context, engine *policy.Engine, terms *broker.Terms) map[string]policy.Settled {
	out := map[string]policy.Settled{}
	if p, err := engine.Prepare(terms); err == nil {
		_ = p.Compile(ctx) // its error is in the form
		for _, r := range p.Form().Requirements {
			out[r.Of] = r.Holds
		}
	}
	return out
}
