package web

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// FrameworkView is standard terms, as an organisation reads them before it accedes.
type FrameworkView struct {
	Terms    broker.Framework `json:"terms"`
	On       broker.Digest    `json:"on" doc:"what an accession is on"`
	Eligible bool             `json:"eligible" doc:"the caller may accede, by who it is or because it was invited"`
	Missing  []registry.Lack  `json:"missing" doc:"what keeps the caller from acceding, its eligibility aside"`
	Parties  int              `json:"parties" doc:"how many have acceded"`
}

// FrameworkNamed is a command on a framework.
type FrameworkNamed struct {
	CommandInput
	Framework broker.AgreementID `path:"framework" doc:"a framework, by its name"`
}

// FrameworkBody are standard terms, as their provider publishes them.
type FrameworkBody struct {
	By
	ID      broker.AgreementID    `json:"id" minLength:"1" maxLength:"100"`
	Title   string                `json:"title" minLength:"1" maxLength:"2000"`
	Dataset broker.DatasetID      `json:"dataset"`
	Package broker.PackageRef     `json:"package"`
	Purpose broker.Purpose        `json:"purpose"`
	Bases   []broker.LegalBasisID `json:"bases" maxItems:"100"`
	// The three are those of each agreement under it.
	Justification string            `json:"justification,omitempty" maxLength:"1000" doc:"why a public authority asks for consent; whoever is asked reads it"`
	OnWithdrawal  *OnWithdrawalBody `json:"onWithdrawal,omitempty" doc:"what the receiver does when a consent is withdrawn; left out: deletes within 30 days"`
	Visibility    *VisibilityBody   `json:"visibility,omitempty" doc:"where a law lets the citizen learn later of what was decided"`
	Cost          struct {
		Model   broker.CostModel `json:"model" enum:"free,per-record,per-inhabitant,yearly-band,pool-share,joining-fee"`
		Payer   broker.OrgNumber `json:"payer,omitempty" doc:"one for all; left out: whoever accedes"`
		Ceiling int64            `json:"ceiling,omitempty" minimum:"0" doc:"deliveries in each agreement's life; left out: none"`
	} `json:"cost"`
	Corrections broker.Corrections    `json:"corrections" enum:"deliver,notify,refuse"`
	From        time.Time             `json:"from,omitzero"`
	To          time.Time             `json:"to,omitzero"`
	Eligible    []string              `json:"eligible,omitempty" maxItems:"1000" doc:"organisation numbers and types; others may when they are invited"`
	Assessments []AssessmentBody      `json:"assessments" maxItems:"20"`
	Mapping     []broker.FieldMeaning `json:"mapping" maxItems:"500"`
	Closed      bool                  `json:"closed,omitempty" doc:"no more accessions; those that were made stand"`
	FourEyes    bool                  `json:"fourEyes,omitempty" doc:"another function approves the terms before anybody accedes; so it is anyhow where you or the dataset ask for four eyes"`
}

func (x *commands) registerFrameworks() {
	offer := func() Rule { return Rule{Action: access.Offer, Once: &Once{}} }
	op := func(id, method, path, summary, description string) huma.Operation {
		return commandOperation(id, method, path, "frameworks", summary, description)
	}
	same := func(v ChangeView) ChangeView { return v }
	Register(x.s, op("publish-framework", http.MethodPost, "/frameworks", "Publish standard terms on your own dataset, or close them",
		"Terms that have a party never change: close them, and publish others."),
		offer(), func(ctx context.Context, in *struct {
			CommandInput
			Body FrameworkBody
		}) (*changed[ChangeView], error) {
			b := &in.Body
			f := broker.Framework{ID: b.ID, Title: b.Title, Provider: CallerOf(ctx).Organisation, Dataset: b.Dataset, Package: b.Package, Purpose: b.Purpose, Bases: b.Bases,
				Justification: b.Justification, OnWithdrawal: b.OnWithdrawal.duty(), Visibility: b.Visibility.visibility(),
				Cost: broker.Cost{Model: b.Cost.Model, Payer: b.Cost.Payer, Ceiling: b.Cost.Ceiling}, Corrections: b.Corrections, Valid: broker.Interval{From: b.From.UTC(), To: b.To.UTC()},
				Eligible: append([]string{}, b.Eligible...), Mapping: b.Mapping, By: b.By.By, Closed: b.Closed}
			for _, a := range b.Assessments {
				v := broker.SideAssessment{Side: a.Side, Basis: a.Basis, Holds: a.Holds, Note: a.Note, RestsOn: a.RestsOn}
				if !a.Review.IsZero() {
					v.Review = a.Review.UTC()
				}
				f.Assessments = append(f.Assessments, v)
			}
			return do(ctx, x, in.CommandInput, string(registry.FrameworkPut), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
				if d := st.Dataset(b.Dataset); d == nil || d.Owner != f.Provider {
					return nil, NewProblem(http.StatusUnprocessableEntity, "no dataset of that name is yours to offer")
				}
				old := st.Framework(f.ID)
				f.FourEyes = b.FourEyes || st.AsksFourEyes(f.Provider, f.Dataset) || old != nil && old.FourEyes
				return put(f)
			}, same)
		})
	Register(x.s, op("approve-framework", http.MethodPost, "/frameworks/{framework}/approvals", "Approve your standard terms, by another function than declared them",
		"Where a framework asks for four eyes, nobody accedes before that. When the terms, the rights package or a basis change, they are approved anew."),
		offer(), func(ctx context.Context, in *struct {
			FrameworkNamed
			Body struct {
				By
				On string `json:"on" minLength:"32" maxLength:"32" doc:"as GET told it: so that you have read these terms"`
			}
		}) (*changed[ChangeView], error) {
			on, err := broker.ParseDigest(in.Body.On)
			if err != nil {
				return nil, NewProblem(http.StatusUnprocessableEntity, "on is 32 hexadecimal digits, as GET /frameworks/{framework} told them")
			}
			return do(ctx, x, in.CommandInput, string(registry.FrameworkApproved), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
				switch f := st.Framework(in.Framework); {
				case f == nil:
					return nil, NewProblem(http.StatusNotFound, "there is no framework of that name")
				case f.Provider != CallerOf(ctx).Organisation:
					return nil, NewProblem(http.StatusForbidden, "the framework is another's to approve")
				}
				return []registry.Change{registry.ApproveFramework(broker.FrameworkApproval{Framework: in.Framework, By: in.Body.By.By, On: on})}, nil
			}, same)
		})
	Register(x.s, op("invite-to-framework", http.MethodPost, "/frameworks/{framework}/invitations", "Invite organisations to accede", "Up to 2,000 at once. Whoever was invited before stays so."),
		offer(), func(ctx context.Context, in *struct {
			FrameworkNamed
			Body struct {
				By
				Organisations []broker.OrgNumber `json:"organisations" minItems:"1" maxItems:"2000"`
			}
		}) (*changed[ChangeView], error) {
			return do(ctx, x, in.CommandInput, string(registry.FrameworkInvited), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
				f := st.Framework(in.Framework)
				switch {
				case f == nil:
					return nil, NewProblem(http.StatusNotFound, "there is no framework of that name")
				case f.Provider != CallerOf(ctx).Organisation:
					return nil, NewProblem(http.StatusForbidden, "the framework is another's to invite to")
				}
				return []registry.Change{registry.Invite(broker.Invitation{Framework: in.Framework, Organisations: in.Body.Organisations, By: in.Body.By.By})}, nil
			}, same)
		})
	Register(x.s, op("accede", http.MethodPost, "/frameworks/{framework}/accessions", "Accede to standard terms in one step",
		"It makes an active agreement of the framework's terms and nothing else."),
		offer(), func(ctx context.Context, in *struct {
			FrameworkNamed
			Body struct {
				By
				Agreement broker.AgreementID `json:"agreement" minLength:"1" maxLength:"100" doc:"the new agreement's name"`
				Supplier  broker.OrgNumber   `json:"supplier,omitempty" doc:"who receives for you; needs a delegation"`
				On        string             `json:"on" minLength:"32" maxLength:"32" doc:"as GET told it: so that you have read these terms"`
			}
		}) (*changed[ChangeView], error) {
			b := &in.Body
			on, err := broker.ParseDigest(b.On)
			if err != nil {
				return nil, NewProblem(http.StatusUnprocessableEntity, "on is 32 hexadecimal digits, as GET /frameworks/{framework} told them")
			}
			return do(ctx, x, in.CommandInput, string(registry.FrameworkAcceded), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
				if st.Framework(in.Framework) == nil {
					return nil, NewProblem(http.StatusNotFound, "there is no framework of that name")
				}
				return []registry.Change{registry.Accede(broker.Accession{Framework: in.Framework, Agreement: b.Agreement, Organisation: CallerOf(ctx).Organisation, Supplier: b.Supplier, By: b.By.By, On: on})}, nil
			}, same)
		})
	view := func(ctx context.Context, st *registry.State, f *broker.Framework) FrameworkView {
		c := CallerOf(ctx)
		return FrameworkView{*f, st.FrameworkDigest(f), st.MayAccede(f.ID, c.Organisation), append([]registry.Lack{}, st.FrameworkMissing(f.ID, c.Organisation, asOf(st))...), len(st.Parties(f.ID))}
	}
	type frameworkList struct {
		Frameworks []FrameworkView `json:"frameworks"`
	}
	type all struct{ Body frameworkList }
	Register(x.s, huma.Operation{OperationID: "list-frameworks", Method: http.MethodGet, Path: "/frameworks", Tags: []string{"frameworks"}, Summary: "Standard terms that there are, and whether you may accede to them"},
		Rule{Action: access.ReadCatalogue}, func(ctx context.Context, _ *struct{}) (*all, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			o := &all{frameworkList{[]FrameworkView{}}}
			x.s.view(func(st *registry.State) {
				for _, f := range st.Frameworks() {
					o.Body.Frameworks = append(o.Body.Frameworks, view(ctx, st, f))
				}
			})
			return o, nil
		})
	type one struct{ Body FrameworkView }
	type named struct {
		Framework broker.AgreementID `path:"framework" doc:"a framework, by its name"`
	}
	none := NewProblem(http.StatusNotFound, "there is no framework of that name")
	Register(x.s, huma.Operation{OperationID: "get-framework", Method: http.MethodGet, Path: "/frameworks/{framework}", Tags: []string{"frameworks"}, Summary: "Standard terms, and what keeps you from acceding"},
		Rule{Action: access.ReadCatalogue}, func(ctx context.Context, in *named) (*one, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			var o *one
			x.s.view(func(st *registry.State) {
				if f := st.Framework(in.Framework); f != nil {
					o = &one{view(ctx, st, f)}
				}
			})
			if o == nil {
				return nil, none
			}
			return o, nil
		})
	type report struct {
		Parties []registry.AccededParty `json:"parties"`
		Same    int                     `json:"same" doc:"how many of them have the framework's terms, and nothing else"`
	}
	type reported struct{ Body report }
	Register(x.s, huma.Operation{OperationID: "list-accessions", Method: http.MethodGet, Path: "/frameworks/{framework}/accessions", Tags: []string{"frameworks"},
		Summary:     "Who has acceded, and whether their terms are the same",
		Description: "The provider and an auditor see all; a party sees its own, and how many have the same."},
		Rule{Action: access.ReadCatalogue}, func(ctx context.Context, in *named) (*reported, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			c := CallerOf(ctx)
			audits := x.s.Allow(ctx, access.Audit, access.Resource{}) == nil
			var o *reported
			x.s.view(func(st *registry.State) {
				f := st.Framework(in.Framework)
				if f == nil {
					return
				}
				o = &reported{report{Parties: st.Parties(f.ID)}}
				for _, p := range o.Body.Parties {
					if len(p.Deviations) == 0 {
						o.Body.Same++
					}
				}
				o.Body.Parties = append([]registry.AccededParty{}, slices.DeleteFunc(o.Body.Parties, func(p registry.AccededParty) bool {
					return !audits && (c.Supplier != "" || f.Provider != c.Organisation && p.Organisation != c.Organisation)
				})...)
			})
			if o == nil {
				return nil, none
			}
			return o, nil
		})
}
