package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// CaseView is a case as its consumer sees it. Its subject is told to nobody: whoever
// opened the case knows it.
type CaseView struct {
	ID           broker.CaseID         `json:"id"`
	Subscription broker.SubscriptionID `json:"subscription"`
	From         time.Time             `json:"from"`
	To           *time.Time            `json:"to,omitempty" doc:"when it ends or ended; left out: not said"`
}

type caseChange struct {
	ChangeView
	Case CaseView `json:"case"`
}

func caseView(c broker.Case) CaseView {
	v := CaseView{ID: c.ID, Subscription: c.Subscription, From: c.Open.From}
	if !c.Open.To.IsZero() {
		v.To = &c.Open.To
	}
	return v
}

func (x *commands) registerCases() {
	const path = "/subscriptions/{subscription}/cases"
	rule := Rule{Action: access.ManageCases, Once: &Once{}}
	type Named struct {
		CommandInput
		Subscription broker.SubscriptionID `path:"subscription" doc:"a subscription of the caller's"`
	}
	type One struct {
		Subscription broker.SubscriptionID `path:"subscription" doc:"a subscription of the caller's"`
		Case         broker.CaseID         `path:"case" maxLength:"200" doc:"the case's id"`
	}
	Register(x.s, commandOperation("open-case", http.MethodPost, path, "cases", "Open a case on a subject",
		"While it is open, a legal basis that asks for a case is met. The same again changes nothing. The subject is hashed at once and stands nowhere else."),
		rule, func(ctx context.Context, in *struct {
			Named
			Body struct {
				ID      broker.CaseID `json:"id" minLength:"1" maxLength:"200" doc:"your own name of it, such as a case number; no person's number"`
				Subject string        `json:"subject" minLength:"1" maxLength:"64" doc:"whom it is on: an identifier of the kind that the dataset is about"`
				From    time.Time     `json:"from,omitzero" doc:"when it was opened; left out: now"`
				To      time.Time     `json:"to,omitzero" doc:"when it ends by itself; left out: when it is ended"`
			}
		}) (*changed[caseChange], error) {
			b := &in.Body
			if err := registry.CheckRef(string(b.ID)); err != nil {
				return nil, NewProblem(http.StatusUnprocessableEntity, "id: "+err.Error())
			}
			if err := (broker.Interval{From: b.From, To: b.To}).Check(); err != nil {
				return nil, NewProblem(http.StatusUnprocessableEntity, "from and to: the case would end before it begins")
			}
			var c broker.Case
			return do(ctx, x, in.CommandInput, string(registry.CaseOpened), func(st *registry.State, now time.Time) ([]registry.Change, error) {
				t := st.Terms(in.Subscription)
				if t == nil {
					return nil, errNoSuchThing
				}
				key, err := x.c.Subject(t.Dataset.Subject.Kind, b.Subject)
				if err != nil {
					return nil, err
				}
				c = broker.Case{ID: b.ID, Subscription: in.Subscription, Subject: key, Open: broker.Interval{From: b.From.UTC(), To: b.To.UTC()}}
				if b.From.IsZero() {
					c.Open.From = now.UTC()
				}
				if old, ok := st.Case(in.Subscription, b.ID); ok {
					same := old.Subject == key && (b.From.IsZero() || old.Open.From.Equal(c.Open.From)) && old.Open.To.Equal(c.Open.To)
					if c = old; same {
						return nil, nil
					}
					return nil, conflict(st, "a case of that id was opened before, on another subject or for another time, or it has ended: a case that is taken up again has a new id")
				}
				return []registry.Change{registry.OpenCase(c)}, nil
			}, func(v ChangeView) caseChange { return caseChange{v, caseView(c)} })
		})
	Register(x.s, commandOperation("end-case", http.MethodPost, path+"/{case}/end", "cases", "End a case",
		"From now on nothing is delivered or answered by it. To end one that has ended changes nothing."),
		rule, func(ctx context.Context, in *struct {
			CommandInput
			One
		}) (*changed[caseChange], error) {
			var c broker.Case
			return do(ctx, x, in.CommandInput, string(registry.CaseEnded), func(st *registry.State, now time.Time) ([]registry.Change, error) {
				var ok bool
				if c, ok = st.Case(in.Subscription, in.Case); !ok {
					return nil, NewProblem(http.StatusNotFound, "no case of that id was opened here")
				}
				if err := mayChange(ctx, caseView(c)); err != nil {
					return nil, err
				}
				if !c.Open.To.IsZero() && !c.Open.To.After(now) {
					return nil, nil
				}
				if now.Before(c.Open.From) {
					return nil, conflict(st, fmt.Sprintf("the case is opened at %s, and cannot end before that", c.Open.From.Format(time.RFC3339)))
				}
				c.Open.To = now.UTC()
				return []registry.Change{registry.EndCase(in.Subscription, in.Case, now)}, nil
			}, func(v ChangeView) caseChange { return caseChange{v, caseView(c)} })
		})
	type out struct{ Body CaseView }
	Register(x.s, huma.Operation{OperationID: "get-case", Method: http.MethodGet, Path: path + "/{case}", Tags: []string{"cases"}, Summary: "A case, without its subject"},
		Rule{Action: access.ManageCases}, func(ctx context.Context, in *struct{ One }) (*out, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			var c broker.Case
			var ok bool
			x.s.view(func(st *registry.State) { c, ok = st.Case(in.Subscription, in.Case) })
			if !ok {
				return nil, NewProblem(http.StatusNotFound, "no case of that id was opened here")
			}
			o := &out{caseView(c)}
			tag, err := TagOfJSON(o.Body)
			if err != nil {
				return nil, err
			}
			return o, Tagged(ctx, tag)
		})
}
