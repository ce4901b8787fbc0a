package web

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// ConsentView is a consent as the citizen who gave it sees it.
type ConsentView struct {
	ID           broker.ConsentID `json:"id"`
	Consumer     broker.OrgNumber `json:"consumer"`
	ConsumerName string           `json:"consumerName"`
	Dataset      broker.DatasetID `json:"dataset"`
	DatasetTitle string           `json:"datasetTitle"`
	Purpose      broker.Purpose   `json:"purpose"`
	From         time.Time        `json:"from"`
	To           *time.Time       `json:"to,omitempty" doc:"when it ends by itself"`
	Withdrawn    *time.Time       `json:"withdrawn,omitempty"`
	InForce      bool             `json:"inForce" doc:"as of now"`
	// Justification is the agreement's, by which the consent is asked for.
	Justification string `json:"justification,omitempty" doc:"why a public authority asks for consent"`
	// Obligations are what a withdrawal laid on whoever had received by it.
	Obligations []ConsentObligation `json:"obligations,omitempty" doc:"once it is withdrawn: what whoever received by it must do, and says that it did"`
}

// ConsentObligation is an obligation as the citizen sees it.
type ConsentObligation struct {
	Agreement broker.AgreementID    `json:"agreement"`
	Do        broker.WithdrawalDuty `json:"do" enum:"stop,delete,keep"`
	ELI       string                `json:"eli,omitempty" doc:"the act by which it is kept"`
	Paragraph string                `json:"paragraph,omitempty"`
	Due       time.Time             `json:"due" doc:"when they must have answered"`
	Status    string                `json:"status" enum:"open,overdue,receipted"`
	Did       registry.Deed         `json:"did,omitempty" enum:"stopped,deleted,kept,nothing-held,consented" doc:"what they say that they did"`
	At        *time.Time            `json:"at,omitempty" doc:"when they said so"`
}

type consentChange struct {
	ChangeView
	Consent ConsentView `json:"consent"`
}

func consentView(st *registry.State, c broker.Consent, now time.Time) ConsentView {
	v := ConsentView{ID: c.ID, Consumer: c.Consumer, Dataset: c.Dataset, Purpose: c.Purpose, From: c.Valid.From}
	if o := st.Organisation(c.Consumer); o != nil {
		v.ConsumerName = o.Name
	}
	if d := st.Dataset(c.Dataset); d != nil {
		v.DatasetTitle = d.Title
	}
	for _, a := range st.Agreements() {
		if a.Consumer == c.Consumer && a.Dataset == c.Dataset && a.Purpose == c.Purpose && a.Status != broker.Ended && a.Justification != "" {
			v.Justification = a.Justification
		}
	}
	if !c.Valid.To.IsZero() {
		v.To = &c.Valid.To
	}
	if !c.Withdrawn.IsZero() {
		v.Withdrawn = &c.Withdrawn
		for _, o := range st.ObligationsOf(c.ID) {
			u := obligationView(&o, st.Agreement(o.Agreement), now)
			w := ConsentObligation{Agreement: u.Agreement, Do: u.Do, ELI: u.ELI, Paragraph: u.Paragraph, Due: u.Due, Status: u.Status}
			if r := u.Receipt; r != nil {
				w.Did, w.At = r.Did, &r.At
				if r.ELI != "" {
					w.ELI, w.Paragraph = r.ELI, r.Paragraph
				}
			}
			v.Obligations = append(v.Obligations, w)
		}
	}
	v.InForce = c.Valid.Contains(now) && (c.Withdrawn.IsZero() || now.Before(c.Withdrawn))
	return v
}

// citizen is the key of whoever is logged in.
func (x *commands) citizen(ctx context.Context) (broker.SubjectKey, error) {
	return x.c.Subject(broker.Person, CallerOf(ctx).Person.Number())
}

func (x *commands) registerConsents() {
	const path = "/me/consents"
	rule := Rule{Action: access.OwnConsents, Once: &Once{}}
	Register(x.s, commandOperation("give-consent", http.MethodPost, path, "consents", "Consent to that an organisation has a dataset for a purpose",
		"The consent is the caller's own, whoever that is: no number stands in the request. Where one stands already that is as good, it is that one."),
		rule, func(ctx context.Context, in *struct {
			CommandInput
			Body struct {
				Consumer broker.OrgNumber `json:"consumer" minLength:"9" maxLength:"9" doc:"who may have it"`
				Dataset  broker.DatasetID `json:"dataset" minLength:"1" maxLength:"100"`
				Purpose  broker.Purpose   `json:"purpose" minLength:"1" maxLength:"100" doc:"as in their agreement"`
				To       time.Time        `json:"to,omitzero" doc:"when it ends by itself; left out: when it is withdrawn"`
			}
		}) (*changed[consentChange], error) {
			b := &in.Body
			subject, err := x.citizen(ctx)
			if err != nil {
				return nil, err
			}
			var name broker.Digest
			if once, ok := IdempotencyOf(ctx); ok { // the same on every instance, and made of who calls
				name = x.c.Keyed(string(once[:]))
			} else {
				_, _ = rand.Read(name[:]) // it never fails
			}
			id := broker.ConsentID("c-" + spell(name[:]))
			var view ConsentView
			return do(ctx, x, in.CommandInput, string(registry.ConsentGiven), func(st *registry.State, now time.Time) ([]registry.Change, error) {
				if !consentable(st, b.Consumer, b.Dataset, b.Purpose) {
					return nil, NewProblem(http.StatusUnprocessableEntity, "no agreement lets that organisation have that dataset for that purpose by consent")
				}
				if !b.To.IsZero() && !b.To.After(now) {
					return nil, NewProblem(http.StatusUnprocessableEntity, "the consent would be over already: give a time to come, or none")
				}
				for _, c := range st.Consents(nil, b.Consumer, b.Dataset, b.Purpose, subject) {
					v := consentView(st, c, now)
					if c.ID == id || v.InForce && c.Valid.To.Equal(b.To) {
						view = v
						return nil, nil
					}
				}
				c := broker.Consent{ID: id, Subject: subject, Consumer: b.Consumer, Dataset: b.Dataset, Purpose: b.Purpose, Valid: broker.Interval{From: now.UTC()}}
				if !b.To.IsZero() {
					c.Valid.To = b.To.UTC()
				}
				view = consentView(st, c, now)
				return []registry.Change{registry.GiveConsent(c)}, nil
			}, func(v ChangeView) consentChange { return consentChange{v, view} })
		})
	Register(x.s, commandOperation("withdraw-consent", http.MethodPost, path+"/{consent}/withdraw", "consents", "Withdraw a consent of one's own",
		"When it binds, nothing that relied on it is delivered or answered any more. To withdraw one that is withdrawn changes nothing."),
		rule, func(ctx context.Context, in *struct {
			CommandInput
			Consent broker.ConsentID `path:"consent" maxLength:"200" doc:"its id, as listed"`
		}) (*changed[consentChange], error) {
			subject, err := x.citizen(ctx)
			if err != nil {
				return nil, err
			}
			var view ConsentView
			return do(ctx, x, in.CommandInput, string(registry.ConsentWithdrawn), func(st *registry.State, now time.Time) ([]registry.Change, error) {
				c, ok := st.Consent(in.Consent)
				if !ok || c.Subject != subject { // another's reads as none
					return nil, NewProblem(http.StatusNotFound, "no consent of yours has that id")
				}
				var changes []registry.Change
				if c.Withdrawn.IsZero() {
					c.Withdrawn = now.UTC()
					changes = append(changes, registry.WithdrawConsent(c.ID, now))
				}
				view = consentView(st, c, now)
				return changes, nil
			}, func(v ChangeView) consentChange { return consentChange{v, view} })
		})
	type consentList struct {
		Consents []ConsentView `json:"consents"`
	}
	type out struct{ Body consentList }
	Register(x.s, huma.Operation{OperationID: "list-consents", Method: http.MethodGet, Path: path, Tags: []string{"consents"},
		Summary: "The consents that the caller ever gave, those that are withdrawn or over too, the latest first"},
		Rule{Action: access.OwnConsents}, func(ctx context.Context, _ *struct{}) (*out, error) {
			subject, err := x.citizen(ctx)
			if err != nil {
				return nil, err
			}
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			o := &out{}
			o.Body.Consents = []ConsentView{}
			x.s.view(func(st *registry.State) {
				now := time.Now()
				if st.At().After(now) {
					now = st.At()
				}
				for _, c := range st.ConsentsOf(nil, subject) {
					o.Body.Consents = append(o.Body.Consents, consentView(st, c, now))
				}
			})
			slices.Reverse(o.Body.Consents)
			return o, nil
		})
}

// consentable reports whether some agreement rests on such a consent.
func consentable(st *registry.State, consumer broker.OrgNumber, d broker.DatasetID, p broker.Purpose) bool {
	if ds := st.Dataset(d); ds == nil || ds.Subject.Kind != broker.Person {
		return false
	}
	return slices.ContainsFunc(st.Agreements(), func(a *broker.Agreement) bool {
		return a.Consumer == consumer && a.Dataset == d && a.Purpose == p && a.Status != broker.Ended &&
			slices.ContainsFunc(a.Bases, func(id broker.LegalBasisID) bool {
				b := st.Basis(id)
				return b != nil && b.Type == broker.Samtykke
			})
	})
}

// spell writes bytes in letters alone: no run of digits that could be a person's number.
func spell(b []byte) string {
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, 'a'+c>>4, 'a'+c&15)
	}
	return string(out)
}
