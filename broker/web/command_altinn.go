package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

type consentsChange struct {
	ChangeView
	Consents []ConsentView `json:"consents" doc:"one for each dataset and purpose of the legal bases that ask for what was consented to"`
}

// Foreign is what the registry is told of a consent that a token proves.
func Foreign(g *access.ConsentGrant, subject broker.SubjectKey) registry.ForeignConsent {
	f := registry.ForeignConsent{External: g.ID, Subject: subject, Consumer: g.To, Valid: broker.Interval{From: g.Given.UTC(), To: g.Until.UTC()}}
	for _, r := range g.Rights {
		f.Rights = append(f.Rights, registry.ForeignRight{Resource: r.Resource, Metadata: r.Metadata})
	}
	return f
}

// maxConsentToken is in bytes; the most that a token may be, in any door.
const maxConsentToken = 16 << 10

// registerForeignConsents adds what brings consents that were given in Altinn.
func (x *commands) registerForeignConsents() {
	op := commandOperation("bring-consents", http.MethodPost, "/consents/altinn", "consents", "Bring the proof of consents that were given in Altinn",
		"The token is Maskinporten's, with the consents in authorization_details; it must count when it comes. "+
			"What it proves is recorded until it ends or is withdrawn, here or in Altinn. To bring it again changes nothing; once withdrawn, a consent is not given again by its old proof. The token is not kept.")
	op.MaxBodyBytes = maxConsentToken + 1<<10
	Register(x.s, op, Rule{Action: access.BringConsents, Or: access.Operate, Once: &Once{}}, func(ctx context.Context, in *struct {
		CommandInput
		Body struct {
			Token string `json:"token" minLength:"1" maxLength:"16384" doc:"as Maskinporten gave it to the consumer"`
		}
	}) (*changed[consentsChange], error) {
		grants, err := x.c.Consents(ctx, in.Body.Token)
		if bad, ok := errors.AsType[*access.TokenError](err); ok {
			return nil, NewProblem(http.StatusUnprocessableEntity, "token: "+bad.Why)
		}
		if err != nil {
			return nil, err
		}
		var all []registry.ForeignConsent
		for i := range grants {
			g := &grants[i]
			if g.To != CallerOf(ctx).Organisation {
				if err := x.s.Allow(ctx, access.Operate, access.Resource{}); err != nil {
					return nil, NewProblem(http.StatusForbidden, "the consent was given to another organisation: it brings it, or an operator does")
				}
			}
			subject, err := x.c.Subject(broker.Person, g.From.Number())
			if err != nil {
				return nil, err
			}
			all = append(all, Foreign(g, subject))
		}
		var views []ConsentView
		return do(ctx, x, in.CommandInput, string(registry.ConsentGiven), func(st *registry.State, now time.Time) (changes []registry.Change, err error) {
			views = []ConsentView{}
			for _, f := range all {
				stands, more, err := st.TakeConsent(f)
				switch {
				case errors.Is(err, registry.ErrConsentWithdrawn), errors.Is(err, registry.ErrConsentEnded):
					return nil, conflict(st, err.Error())
				case err != nil:
					return nil, NewProblem(http.StatusUnprocessableEntity, err.Error())
				}
				changes = append(changes, more...)
				for _, c := range stands {
					views = append(views, consentView(st, c, now))
				}
			}
			return changes, nil
		}, func(v ChangeView) consentsChange { return consentsChange{v, views} })
	})
}
