package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// FreezeView is a freeze that stands.
type FreezeView struct {
	Kind     registry.FreezeKind `json:"kind" enum:"dataset,organisation,mailbox"`
	ID       string              `json:"id"`
	By       registry.Authority  `json:"by" enum:"operator,owner" doc:"by whose right: each lifts its own, and an operator lifts all"`
	Why      string              `json:"why"`
	Since    time.Time           `json:"since"`
	Actor    string              `json:"actor" doc:"who did it"`
	Revision broker.Revision     `json:"revision"`
}

func (x *commands) registerStops() {
	x.registerSuspensions()
	x.registerFreezes()
	Register(x.s, commandOperation("withdraw-delegation", http.MethodPost, "/delegations/{delegation}/withdraw", "stops", "Withdraw a supplier's leave to act, for good",
		"The next one has a name of its own."),
		Rule{Action: access.EndDelegation, Or: access.Operate, Once: &Once{}}, func(ctx context.Context, in *struct {
			CommandInput
			Delegation broker.DelegationID `path:"delegation" doc:"a delegation that the caller gave"`
		}) (*changed[ChangeView], error) {
			return do(ctx, x, in.CommandInput, string(registry.DelegationWithdrawn), func(st *registry.State, now time.Time) ([]registry.Change, error) {
				d := st.Delegation(in.Delegation)
				if d == nil {
					return nil, NewProblem(http.StatusNotFound, "there is no delegation of that name")
				}
				if err := mayChange(ctx, d); err != nil {
					return nil, err
				}
				if _, ok := st.DelegationWithdrawn(in.Delegation); ok {
					return nil, nil
				}
				return []registry.Change{registry.WithdrawDelegation(in.Delegation, now)}, nil
			}, func(v ChangeView) ChangeView { return v })
		})
}

// registerSuspensions adds what takes an agreement, a subscription or a mailbox out of
// use. Each party may; to let it go on takes an operator, since who suspended it stands
// in the log alone, and no party is to undo what the other did.
func (x *commands) registerSuspensions() {
	type verb struct {
		name, summary string
		suspend       bool
	}
	for _, v := range []verb{{"suspend", "Suspend", true}, {"resume", "Let go on", false}} {
		once := &Once{}
		stop := func(a access.Action) Rule {
			if v.suspend {
				return Rule{Action: a, Or: access.Operate, Once: once}
			}
			return Rule{Action: access.Operate, Once: once}
		}
		describe := "All that it concerns is denied, visibly, until an operator lets it go on."
		if !v.suspend {
			describe = "What was denied meanwhile stays denied."
		}
		Register(x.s, commandOperation(v.name+"-agreement", http.MethodPost, "/agreements/{agreement}/"+v.name, "stops", v.summary+" an agreement", describe),
			stop(access.Suspend), func(ctx context.Context, in *struct {
				CommandInput
				Agreement broker.AgreementID `path:"agreement" doc:"an agreement that the caller is party to"`
			}) (*changed[ChangeView], error) {
				return do(ctx, x, in.CommandInput, "agreement."+v.name, func(st *registry.State, _ time.Time) ([]registry.Change, error) {
					a := st.Agreement(in.Agreement)
					if a == nil {
						return nil, NewProblem(http.StatusNotFound, "there is no agreement of that name")
					}
					if err := mayChange(ctx, a); err != nil {
						return nil, err
					}
					from, to := broker.Active, broker.Suspended
					if !v.suspend {
						from, to = to, from
					}
					switch a.Status {
					case to:
						return nil, nil
					case from:
						b := *a
						b.Status = to
						return put(b)
					}
					return nil, conflict(st, "the agreement is "+string(a.Status)+", so this is nothing to do with it")
				}, func(v ChangeView) ChangeView { return v })
			})
		Register(x.s, commandOperation(v.name+"-subscription", http.MethodPost, "/subscriptions/{subscription}/"+v.name, "stops", v.summary+" a subscription", describe),
			stop(access.Suspend), func(ctx context.Context, in *struct {
				CommandInput
				Subscription broker.SubscriptionID `path:"subscription" doc:"a subscription under an agreement that the caller is party to"`
			}) (*changed[ChangeView], error) {
				return do(ctx, x, in.CommandInput, "subscription."+v.name, func(st *registry.State, _ time.Time) ([]registry.Change, error) {
					s := st.Subscription(in.Subscription)
					if s == nil {
						return nil, NewProblem(http.StatusNotFound, "there is no subscription of that name")
					}
					if err := mayChange(ctx, s); err != nil || s.Suspended == v.suspend {
						return nil, err
					}
					b := *s
					b.Suspended = v.suspend
					return put(b)
				}, func(v ChangeView) ChangeView { return v })
			})
		Register(x.s, commandOperation(v.name+"-mailbox", http.MethodPost, "/mailboxes/{mailbox}/"+v.name, "stops", v.summary+" a mailbox",
			describe+" What is in the mailbox stays until its retention ends."),
			stop(access.StopMailbox), func(ctx context.Context, in *struct {
				CommandInput
				Mailbox broker.MailboxID `path:"mailbox" doc:"a mailbox of the caller's"`
			}) (*changed[ChangeView], error) {
				return do(ctx, x, in.CommandInput, "mailbox."+v.name, func(st *registry.State, _ time.Time) ([]registry.Change, error) {
					m := st.Mailbox(in.Mailbox)
					if m == nil {
						return nil, NewProblem(http.StatusNotFound, "there is no mailbox of that name")
					}
					if err := mayChange(ctx, m); err != nil || m.Suspended == v.suspend {
						return nil, err
					}
					b := *m
					b.Suspended = v.suspend
					return put(b)
				}, func(v ChangeView) ChangeView { return v })
			})
	}
}

func put(thing any) ([]registry.Change, error) {
	c, err := registry.Put(thing)
	return []registry.Change{c}, err
}

// reasonBody is what freezing and lifting take.
type reasonBody struct {
	Why string `json:"why" minLength:"1" maxLength:"500" doc:"those who are stopped are told; no person's number"`
}

func (x *commands) registerFreezes() {
	freeze := func(ctx context.Context, in CommandInput, kind registry.FreezeKind, id string, own access.Resource, why string) (*changed[ChangeView], error) {
		by := registry.ByOperator
		if err := x.owner(ctx, kind, own); err == nil {
			by = registry.ByOwner
		}
		return do(ctx, x, in, string(registry.FreezeSet), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
			if err := registry.CheckFreezeWhy(why); err != nil {
				return nil, NewProblem(http.StatusUnprocessableEntity, err.Error())
			}
			if !freezable(st, kind, id) {
				return nil, NewProblem(http.StatusNotFound, "there is no "+string(kind)+" of that name")
			}
			for _, f := range st.FrozenBy(kind, id) {
				if f.By == by {
					return nil, nil
				}
			}
			return []registry.Change{registry.SetFreeze(registry.Freeze{Kind: kind, ID: id, By: by, Why: why})}, nil
		}, func(v ChangeView) ChangeView { return v })
	}
	lift := func(ctx context.Context, in CommandInput, kind registry.FreezeKind, id, why string) (*changed[ChangeView], error) {
		operator := x.s.Allow(ctx, access.Operate, access.Resource{}) == nil
		return do(ctx, x, in, string(registry.FreezeLifted), func(st *registry.State, _ time.Time) (changes []registry.Change, err error) {
			if err := registry.CheckFreezeWhy(why); err != nil {
				return nil, NewProblem(http.StatusUnprocessableEntity, err.Error())
			}
			standing := st.FrozenBy(kind, id)
			for _, f := range standing {
				if operator || f.By == registry.ByOwner {
					changes = append(changes, registry.LiftFreeze(registry.FreezeEnd{Kind: kind, ID: id, By: f.By, Why: why}))
				}
			}
			if len(standing) > 0 && len(changes) == 0 {
				return nil, conflict(st, "the broker's operator froze it, and lifts it: ask them")
			}
			return changes, nil
		}, func(v ChangeView) ChangeView { return v })
	}
	const frozen = "Everything that it concerns is denied with the reason frozen, visibly; it is not kept for later. "
	op := func(verb, kind, path, what string) huma.Operation {
		description := frozen + "Whoever froze it lifts it, or an operator."
		if verb == "lift" {
			description = "What was denied meanwhile stays denied: look it up, or have it delivered by a new case or subscription with a start."
		}
		return commandOperation(verb+"-"+kind, http.MethodPost, path, "stops", what, description)
	}
	for _, verb := range []string{"freeze", "lift"} {
		act := func(ctx context.Context, in CommandInput, kind registry.FreezeKind, id string, own access.Resource, why string) (*changed[ChangeView], error) {
			if verb == "freeze" {
				return freeze(ctx, in, kind, id, own, why)
			}
			return lift(ctx, in, kind, id, why)
		}
		what := map[string]string{"freeze": "Stop at once ", "lift": "Lift the freeze of "}[verb]
		Register(x.s, op(verb, "dataset", "/datasets/{dataset}/"+verb, what+"a dataset"), Rule{Action: access.FreezeDataset, Or: access.Operate, Once: &Once{}},
			func(ctx context.Context, in *struct {
				CommandInput
				Dataset broker.DatasetID `path:"dataset" doc:"a dataset of the caller's"`
				Body    reasonBody
			}) (*changed[ChangeView], error) {
				return act(ctx, in.CommandInput, registry.FreezeDataset, string(in.Dataset), access.Resource{Dataset: in.Dataset}, in.Body.Why)
			})
		Register(x.s, op(verb, "mailbox", "/mailboxes/{mailbox}/"+verb, what+"a mailbox"), Rule{Action: access.StopMailbox, Or: access.Operate, Once: &Once{}},
			func(ctx context.Context, in *struct {
				CommandInput
				Mailbox broker.MailboxID `path:"mailbox" doc:"a mailbox of the caller's"`
				Body    reasonBody
			}) (*changed[ChangeView], error) {
				return act(ctx, in.CommandInput, registry.FreezeMailbox, string(in.Mailbox), access.Resource{Mailbox: in.Mailbox}, in.Body.Why)
			})
		Register(x.s, op(verb, "organisation", "/organisations/{organisation}/"+verb, what+"all that an organisation gets"), Rule{Action: access.Operate, Once: &Once{}},
			func(ctx context.Context, in *struct {
				CommandInput
				Organisation broker.OrgNumber `path:"organisation" doc:"as consumer or as supplier"`
				Body         reasonBody
			}) (*changed[ChangeView], error) {
				return act(ctx, in.CommandInput, registry.FreezeOrganisation, string(in.Organisation), access.Resource{}, in.Body.Why)
			})
	}
	type freezeList struct {
		Freezes []FreezeView `json:"freezes"`
	}
	type out struct{ Body freezeList }
	Register(x.s, huma.Operation{OperationID: "list-freezes", Method: http.MethodGet, Path: "/freezes", Tags: []string{"stops"},
		Summary:     "What is frozen: by whom, since when and why",
		Description: "An operator and an auditor see all; others see datasets, and what is their own."},
		Rule{Action: access.ReadCatalogue}, func(ctx context.Context, _ *struct{}) (*out, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			c := CallerOf(ctx)
			all := x.s.Allow(ctx, access.Operate, access.Resource{}) == nil || x.s.Allow(ctx, access.Audit, access.Resource{}) == nil
			o := &out{}
			o.Body.Freezes = []FreezeView{}
			x.s.view(func(st *registry.State) {
				for _, f := range st.Freezes() {
					own := f.Kind == registry.FreezeDataset || f.Kind == registry.FreezeOrganisation && f.ID == string(c.Acting())
					if m := st.Mailbox(broker.MailboxID(f.ID)); f.Kind == registry.FreezeMailbox && m != nil {
						own = m.Organisation == c.Acting() || st.ReceivesFor(m.ID) == c.Acting()
					}
					if all || own {
						o.Body.Freezes = append(o.Body.Freezes, FreezeView{f.Kind, f.ID, f.By, f.Why, f.At, f.Actor, f.Revision})
					}
				}
			})
			return o, nil
		})
}

// owner says whether the caller may freeze it as its own.
func (x *commands) owner(ctx context.Context, kind registry.FreezeKind, own access.Resource) error {
	switch kind {
	case registry.FreezeDataset:
		return x.s.Allow(ctx, access.FreezeDataset, own)
	case registry.FreezeMailbox:
		return x.s.Allow(ctx, access.StopMailbox, own)
	}
	return errNoSuchThing
}

func freezable(st *registry.State, kind registry.FreezeKind, id string) bool {
	switch kind {
	case registry.FreezeDataset:
		return st.Dataset(broker.DatasetID(id)) != nil
	case registry.FreezeMailbox:
		return st.Mailbox(broker.MailboxID(id)) != nil
	case registry.FreezeOrganisation:
		return st.Organisation(broker.OrgNumber(id)) != nil
	}
	return false
}
