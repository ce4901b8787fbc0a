package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/audit"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// deviations are the endpoints by which a receiver tells a provider that its data is
// wrong, and is told what comes of it.
type deviations struct {
	s    *Server
	c    Commands
	desk *audit.Desk
}

// RegisterDeviations adds them. Both parties see a deviation, and auditors all of them;
// its report names a decision, and never what the record says.
func (s *Server) RegisterDeviations(c Commands, desk *audit.Desk) {
	x := &deviations{s, c, desk}
	op := func(id, method, path, summary, description string, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{"deviations"}, DefaultStatus: http.StatusOK,
			Summary: summary, Description: description, RejectUnknownQueryParameters: true,
			Errors: append([]int{400, 401, 403, 422, 429, 503}, errors...)}
	}
	const forEver = " It stands in the registry's log for ever, so a note holds no person's number and nothing of what the record says."
	report := Rule{Action: access.ReportDeviation, Once: &Once{}}
	Register(s, op("report-deviation", http.MethodPost, "/subscriptions/{subscription}/deviations", "Say that what was delivered is wrong",
		"The decision stands with each delivery and answer. Its provider finds the record by it, and answers. The same again changes nothing while it is open, and opens it anew once it is closed."+forEver, 404, 409),
		report, x.report)
	Register(s, op("withdraw-deviation", http.MethodPost, "/subscriptions/{subscription}/deviations/{deviation}/withdraw", "Take back what was reported", "While it is open."+forEver, 404, 409),
		report, x.withdraw)
	Register(s, op("answer-deviation", http.MethodPost, "/datasets/{dataset}/deviations/{deviation}/answer", "Say what comes of a deviation",
		"received: it is being looked into; confirmed: it is wrong, and will be corrected; corrected: the correction or retraction is published; refused: it is right as it stands, and the note says why."+forEver, 404, 409),
		Rule{Action: access.AnswerDeviation, Once: &Once{}}, x.answer)
	parties := Rule{Action: access.AuditOwn, Or: access.Audit, Query: true}
	const own = " An auditor sees all; a provider, a consumer or its supplier those that it is party to. A supplier names the agreement."
	Register(s, op("list-deviations", http.MethodGet, "/deviations", "What was said to be wrong, the last changed first", "What follows a page stands in next."+own), parties, x.list)
	Register(s, op("get-deviation", http.MethodGet, "/deviations/{deviation}", "A deviation as it stands now", strings.TrimSpace(own), 404), parties, x.get)
}

// DeviationView is a deviation as its parties see it.
type DeviationView struct {
	ID           broker.Digest            `json:"id"`
	Decision     broker.DecisionID        `json:"decision" doc:"by which the data was delivered: GET /audit/decisions/{decision} tells which record it is"`
	Dataset      broker.DatasetID         `json:"dataset"`
	Agreement    broker.AgreementID       `json:"agreement"`
	Subscription broker.SubscriptionID    `json:"subscription"`
	Kind         registry.DeviationKind   `json:"kind" enum:"wrong-value,missing-value,outdated,wrong-subject,unexpected"`
	Fields       []broker.Pointer         `json:"fields" doc:"JSON Pointers of what is wrong; none is the record as a whole"`
	Note         string                   `json:"note,omitempty"`
	Status       registry.DeviationStatus `json:"status" enum:"reported,received,confirmed,corrected,refused,withdrawn"`
	Since        time.Time                `json:"since" doc:"when it was reported"`
	Actor        string                   `json:"actor" doc:"who reported it"`
	Answer       string                   `json:"answer,omitempty" doc:"the note of the last answer"`
	Answered     *time.Time               `json:"answered,omitempty" doc:"when that was; left out: nobody has answered"`
	Revision     broker.Revision          `json:"revision" doc:"of the registry, at the last change"`
}

// see is the deviation as the caller sees it; false where it is no party to it.
func (x *deviations) see(ctx context.Context, st *registry.State, d *registry.DeviationState, all bool) (v DeviationView, ok bool) {
	sub := st.Subscription(d.Subscription)
	if sub == nil {
		return v, false
	}
	a := st.Agreement(sub.Agreement)
	if a == nil {
		return v, false
	}
	if c := CallerOf(ctx); !all && !audit.PartyTo(c.Organisation, c.Supplier).Sees(a) {
		return v, false
	}
	v = DeviationView{d.ID, d.Decision, a.Dataset, a.ID, sub.ID, d.Kind, append([]broker.Pointer{}, d.Fields...), d.Note, d.Status, d.Since, d.Actor, d.Answer, nil, d.Revision}
	if !d.Answered.IsZero() {
		v.Answered = &d.Answered
	}
	return v, true
}

type deviationOut struct{ Body DeviationView }

// change makes one change of a deviation, and shows it as it stands then.
func (x *deviations) change(ctx context.Context, id broker.Digest, plan Plan) (*deviationOut, error) {
	if _, err := x.c.Do(ctx, CallerOf(ctx).Actor(), plan); err != nil {
		return nil, err
	}
	out, found := &deviationOut{}, false
	x.s.view(func(st *registry.State) {
		if d, ok := st.Deviation(id); ok {
			out.Body, found = x.see(ctx, st, &d, true) // the gate let the caller change it
		}
	})
	if !found {
		return nil, errNoSuchThing
	}
	return out, nil
}

func checkNote(note string) error {
	if err := registry.CheckDeviationNote(note); err != nil {
		return NewProblem(http.StatusUnprocessableEntity, err.Error())
	}
	return nil
}

// DeviationNote is what one party tells the other.
type DeviationNote struct {
	Note string `json:"note,omitempty" maxLength:"500" doc:"what the other party must know; no person's number, and nothing of what the record says"`
}

type reportIn struct {
	Subscription broker.SubscriptionID `path:"subscription" doc:"a subscription of the caller's"`
	Body         struct {
		Decision string                 `json:"decision" minLength:"32" maxLength:"32" doc:"the decision by which it was delivered: 32 hexadecimal digits"`
		Kind     registry.DeviationKind `json:"kind" enum:"wrong-value,missing-value,outdated,wrong-subject,unexpected"`
		Fields   []broker.Pointer       `json:"fields,omitempty" maxItems:"50" doc:"JSON Pointers of the delivered fields that are wrong, or of values in them; none: the record as a whole"`
		DeviationNote
	}
}

func (x *deviations) report(ctx context.Context, in *reportIn) (*deviationOut, error) {
	b := &in.Body
	if err := checkNote(b.Note); err != nil {
		return nil, err
	}
	decision, err := broker.ParseDigest(b.Decision)
	if err != nil {
		return nil, NewProblem(http.StatusUnprocessableEntity, "a decision's id is 32 hexadecimal digits")
	}
	c := CallerOf(ctx)
	hit, err := x.desk.Find(ctx, audit.PartyTo(c.Organisation, c.Supplier), decision, store.Query{Subscription: in.Subscription})
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return nil, NewProblem(http.StatusNotFound, "no decision of that id is known for this subscription; one that was made this minute may be known in a moment: try again")
	case err != nil:
		return nil, told(err)
	case !hit.Decision.Outcome.Permit:
		return nil, NewProblem(http.StatusUnprocessableEntity, "that decision was a refusal: nothing was delivered by it that could be wrong")
	}
	for _, f := range b.Fields {
		if !slices.ContainsFunc(hit.Decision.Fields, func(d broker.Pointer) bool { return d.Covers(f) || f.Covers(d) }) {
			return nil, NewProblem(http.StatusUnprocessableEntity, fmt.Sprintf("the field %q was not delivered by that decision", string(f)))
		}
	}
	d := registry.NewDeviation(decision, in.Subscription, b.Kind, b.Fields, b.Note)
	return x.change(ctx, d.ID, func(st *registry.State, _ time.Time) ([]registry.Change, error) {
		if old, ok := st.Deviation(d.ID); ok && old.Status.Open() {
			return nil, nil
		}
		return []registry.Change{registry.ReportDeviation(d)}, nil
	})
}

// move takes a deviation that is mine further.
func (x *deviations) move(ctx context.Context, id string, status registry.DeviationStatus, note string, mine func(*registry.State, *registry.DeviationState) bool) (*deviationOut, error) {
	if err := checkNote(note); err != nil {
		return nil, err
	}
	none := NewProblem(http.StatusNotFound, "no deviation of that id is reported here")
	digest, err := broker.ParseDigest(id)
	if err != nil {
		return nil, none
	}
	return x.change(ctx, digest, func(st *registry.State, _ time.Time) ([]registry.Change, error) {
		d, ok := st.Deviation(digest)
		switch {
		case !ok || !mine(st, &d):
			return nil, none
		case d.Status == status && d.Answer == note:
			return nil, nil
		}
		return []registry.Change{registry.AnswerDeviation(registry.DeviationAnswer{ID: digest, Status: status, Note: note})}, nil
	})
}

type withdrawIn struct {
	Subscription broker.SubscriptionID `path:"subscription" doc:"a subscription of the caller's"`
	Deviation    string                `path:"deviation" maxLength:"32" doc:"the deviation's id"`
	Body         DeviationNote
}

func (x *deviations) withdraw(ctx context.Context, in *withdrawIn) (*deviationOut, error) {
	return x.move(ctx, in.Deviation, registry.DeviationWithdrawn, in.Body.Note, func(_ *registry.State, d *registry.DeviationState) bool {
		return d.Subscription == in.Subscription
	})
}

type answerIn struct {
	Dataset   broker.DatasetID `path:"dataset" doc:"a dataset of the caller's"`
	Deviation string           `path:"deviation" maxLength:"32" doc:"the deviation's id"`
	Body      struct {
		Status registry.DeviationStatus `json:"status" enum:"received,confirmed,corrected,refused"`
		DeviationNote
	}
}

func (x *deviations) answer(ctx context.Context, in *answerIn) (*deviationOut, error) {
	b := &in.Body
	if b.Status == registry.DeviationRefused && strings.TrimSpace(b.Note) == "" {
		return nil, NewProblem(http.StatusUnprocessableEntity, "say in note why it is right as it stands: the receiver is told")
	}
	return x.move(ctx, in.Deviation, b.Status, b.Note, func(st *registry.State, d *registry.DeviationState) bool {
		t := st.Terms(d.Subscription)
		return t != nil && t.Dataset.ID == in.Dataset
	})
}

// seesAll reports whether the caller is shown everybody's.
func (x *deviations) seesAll(ctx context.Context) (bool, error) {
	err := x.s.Allow(ctx, access.Audit, access.Resource{})
	if _, refused := errors.AsType[*access.Refusal](err); refused {
		return false, nil
	}
	return err == nil, err
}

type listDeviationsIn struct {
	Dataset      broker.DatasetID      `query:"dataset"`
	Agreement    broker.AgreementID    `query:"agreement"`
	Subscription broker.SubscriptionID `query:"subscription"`
	Status       string                `query:"status" enum:"open,reported,received,confirmed,corrected,refused,withdrawn" doc:"open: reported, received or confirmed"`
	Limit        int                   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Before       broker.Revision       `query:"before" doc:"next, as the page before said it"`
}

// DeviationsPage is a part of the deviations.
type DeviationsPage struct {
	Deviations []DeviationView `json:"deviations"`
	Next       broker.Revision `json:"next,omitempty" doc:"send it as before for what follows; left out: there is no more"`
}

func (x *deviations) list(ctx context.Context, in *listDeviationsIn) (*struct{ Body DeviationsPage }, error) {
	all, err := x.seesAll(ctx)
	if err == nil {
		err = x.c.Latest(ctx)
	}
	if err != nil {
		return nil, err
	}
	out := &struct{ Body DeviationsPage }{DeviationsPage{Deviations: []DeviationView{}}}
	x.s.view(func(st *registry.State) {
		for _, d := range st.Deviations() {
			if in.Before != 0 && d.Revision >= in.Before ||
				in.Status != "" && in.Status != string(d.Status) && !(in.Status == "open" && d.Status.Open()) {
				continue
			}
			v, ok := x.see(ctx, st, &d, all)
			if !ok || in.Dataset != "" && v.Dataset != in.Dataset || in.Agreement != "" && v.Agreement != in.Agreement || in.Subscription != "" && v.Subscription != in.Subscription {
				continue
			}
			p := &out.Body
			if len(p.Deviations) == in.Limit {
				p.Next = p.Deviations[in.Limit-1].Revision
				return
			}
			p.Deviations = append(p.Deviations, v)
		}
	})
	return out, nil
}

func (x *deviations) get(ctx context.Context, in *struct {
	Deviation string             `path:"deviation" maxLength:"32" doc:"the deviation's id"`
	Agreement broker.AgreementID `query:"agreement" doc:"its agreement; a supplier must name it"`
}) (*deviationOut, error) {
	all, err := x.seesAll(ctx)
	if err == nil {
		err = x.c.Latest(ctx)
	}
	if err != nil {
		return nil, err
	}
	out, found := &deviationOut{}, false
	if id, err := broker.ParseDigest(in.Deviation); err == nil {
		x.s.view(func(st *registry.State) {
			if d, ok := st.Deviation(id); ok {
				out.Body, found = x.see(ctx, st, &d, all)
			}
		})
	}
	if !found || in.Agreement != "" && out.Body.Agreement != in.Agreement {
		return nil, NewProblem(http.StatusNotFound, "you are party to no deviation of that id")
	}
	return out, nil
}
