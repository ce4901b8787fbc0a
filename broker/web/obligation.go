package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/audit"
	"datafordeler/broker/registry"
)

// obligations are the endpoints by which a receiver learns of withdrawn consents, and
// says what it did about them.
type obligations struct {
	s    *Server
	c    Commands
	desk *audit.Desk
}

// RegisterObligations adds them. Both parties see an obligation, and auditors all of
// them.
func (s *Server) RegisterObligations(c Commands, desk *audit.Desk) {
	x := &obligations{s, c, desk}
	const path = "/agreements/{agreement}/obligations/{consent}"
	op := func(id, method, path, summary, description string, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{"obligations"}, DefaultStatus: http.StatusOK,
			Summary: summary, Description: description, RejectUnknownQueryParameters: true,
			Errors: append([]int{400, 401, 403, 422, 429, 503}, errors...)}
	}
	see := func() Rule { return Rule{Action: access.AuditOwn, Or: access.Audit} }
	list := see()
	list.Query = true
	Register(s, op("list-obligations", http.MethodGet, "/obligations", "What withdrawn consents lay on receivers, the oldest first",
		"When a citizen withdraws a consent, whoever received by it must stop using, delete or keep what it has, as its agreement says, and give a receipt by due. "+
			"Send next as after for what follows, for ever: with wait, the answer comes as soon as there is more. An auditor sees all; a provider, a consumer or its supplier those that it is party to. A supplier names the agreement."),
		list, x.list)
	Register(s, op("get-obligation", http.MethodGet, path, "What the withdrawal of one consent lays on the receiver under an agreement", "", 404), see(), x.get)
	Register(s, op("list-received", http.MethodGet, path+"/decisions", "What was received on whoever withdrew the consent",
		"The permits by which it was delivered or answered, the oldest first: their ids stand with each delivery and answer. What was decided in a month whose key was destroyed cannot be found here any more.", 404), see(), x.received)
	Register(s, op("give-receipt", http.MethodPost, path+"/receipt", "Say what was done about a withdrawn consent",
		"deleted, nothing-held: there is no more to be done; stopped: it is no longer used; kept: by the law that the agreement cites, or by the one cited here; "+
			"consented: another consent of the same person to the same is in force. It stands in the registry's log for ever, so a note holds no person's number.", 404, 409),
		Rule{Action: access.GiveReceipt, Once: &Once{}}, x.receipt)
}

// ObligationView is an obligation as its parties see it.
type ObligationView struct {
	Agreement broker.AgreementID    `json:"agreement"`
	Consent   broker.ConsentID      `json:"consent" doc:"the consent that was withdrawn"`
	External  string                `json:"external,omitempty" doc:"its id where it was given, such as Altinn"`
	Consumer  broker.OrgNumber      `json:"consumer"`
	Supplier  broker.OrgNumber      `json:"supplier,omitempty"`
	Provider  broker.OrgNumber      `json:"provider"`
	Dataset   broker.DatasetID      `json:"dataset"`
	Purpose   broker.Purpose        `json:"purpose"`
	Do        broker.WithdrawalDuty `json:"do" enum:"stop,delete,keep"`
	ELI       string                `json:"eli,omitempty" doc:"the act by which it is kept"`
	Paragraph string                `json:"paragraph,omitempty"`
	Since     time.Time             `json:"since" doc:"when the withdrawal was recorded"`
	Due       time.Time             `json:"due" doc:"when the receipt is to be given at the latest"`
	Status    string                `json:"status" enum:"open,overdue,receipted"`
	Receipt   *ReceiptView          `json:"receipt,omitempty" doc:"the last that was given"`
	Revision  broker.Revision       `json:"revision" doc:"of the registry, at the withdrawal"`
}

// ReceiptView is what was done, and who says so.
type ReceiptView struct {
	Did       registry.Deed `json:"did" enum:"stopped,deleted,kept,nothing-held,consented"`
	ELI       string        `json:"eli,omitempty"`
	Paragraph string        `json:"paragraph,omitempty"`
	Note      string        `json:"note,omitempty"`
	At        time.Time     `json:"at"`
	Actor     string        `json:"actor"`
}

// The statuses.
const (
	obligationOpen      = "open"
	obligationOverdue   = "overdue"
	obligationReceipted = "receipted"
)

func obligationView(o *registry.Obligation, a *broker.Agreement, now time.Time) ObligationView {
	v := ObligationView{Agreement: a.ID, Consent: o.Consent, External: o.External, Consumer: a.Consumer, Supplier: a.Supplier, Provider: a.Provider, Dataset: a.Dataset, Purpose: a.Purpose,
		Do: o.Do, ELI: o.ELI, Paragraph: o.Paragraph, Since: o.Since, Due: o.Due, Status: obligationOpen, Revision: o.Revision}
	switch r := o.Receipt; {
	case r != nil:
		v.Status = obligationReceipted
		v.Receipt = &ReceiptView{r.Did, r.ELI, r.Paragraph, r.Note, r.At, r.Actor}
	case o.Overdue(now):
		v.Status = obligationOverdue
	}
	return v
}

// seesAll reports whether the caller is shown everybody's.
func (x *obligations) scope(ctx context.Context) (audit.Scope, error) {
	err := x.s.Allow(ctx, access.Audit, access.Resource{})
	if _, refused := errors.AsType[*access.Refusal](err); refused {
		c := CallerOf(ctx)
		return audit.PartyTo(c.Organisation, c.Supplier), nil
	}
	return audit.Everything(), err
}

type listObligationsIn struct {
	Agreement broker.AgreementID `query:"agreement"`
	Status    string             `query:"status" enum:"open,overdue,receipted,all" default:"all" doc:"open: without a receipt, those that are overdue too"`
	After     broker.Revision    `query:"after" minimum:"0" doc:"next, as the page before said it; 0: from the beginning"`
	Limit     int                `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"about so many: those of one withdrawal stand on one page"`
	Wait      int                `query:"wait" minimum:"0" maximum:"60" doc:"seconds to wait for the first where there is none yet"`
}

// ObligationsPage is a part of the obligations.
type ObligationsPage struct {
	Obligations []ObligationView `json:"obligations"`
	Next        broker.Revision  `json:"next" doc:"send it as after for what follows, now or later"`
	More        bool             `json:"more" doc:"more may be there now"`
}

const (
	obligationsLooked = 50_000 // at the most, for one page
	obligationsPause  = 200 * time.Millisecond
)

func (x *obligations) list(ctx context.Context, in *listObligationsIn) (*struct{ Body ObligationsPage }, error) {
	scope, err := x.scope(ctx)
	if err == nil {
		err = x.c.Latest(ctx)
	}
	if err != nil {
		return nil, err
	}
	out := &struct{ Body ObligationsPage }{ObligationsPage{Obligations: []ObligationView{}, Next: in.After}}
	for end := time.Now().Add(time.Duration(in.Wait) * time.Second); ; {
		x.page(scope, in, &out.Body)
		if len(out.Body.Obligations) > 0 || out.Body.More || !time.Now().Before(end) {
			return out, nil
		}
		select {
		case <-time.After(obligationsPause):
		case <-ctx.Done():
			return out, nil // what is known is an answer
		}
	}
}

func (x *obligations) page(scope audit.Scope, in *listObligationsIn, p *ObligationsPage) {
	now, looked := time.Now(), 0
	x.s.view(func(st *registry.State) {
		for o := range st.ObligationsAfter(p.Next) {
			// Those of one withdrawal have one revision: a page ends between two.
			if looked++; o.Revision != p.Next && (len(p.Obligations) >= in.Limit || looked > obligationsLooked) {
				p.More = true
				return
			}
			p.Next = o.Revision
			a := st.Agreement(o.Agreement)
			if a == nil || !scope.Sees(a) || in.Agreement != "" && in.Agreement != o.Agreement {
				continue
			}
			v := obligationView(&o, a, now)
			switch in.Status {
			case v.Status, "all":
			case obligationOpen:
				if v.Status == obligationReceipted {
					continue
				}
			default:
				continue
			}
			p.Obligations = append(p.Obligations, v)
		}
	})
}

// NamedObligation names one.
type NamedObligation struct {
	Agreement broker.AgreementID `path:"agreement"`
	Consent   broker.ConsentID   `path:"consent" maxLength:"200" doc:"the consent's id"`
}

var errNoObligation = NewProblem(http.StatusNotFound, "no withdrawal of a consent by that id lays anything on the receiver under this agreement")

// find is the obligation that is named; the gate let the caller see the agreement, or
// all of them.
func (x *obligations) find(ctx context.Context, in *NamedObligation) (o registry.Obligation, v ObligationView, err error) {
	scope, err := x.scope(ctx)
	if err == nil {
		err = x.c.Latest(ctx)
	}
	if err != nil {
		return o, v, err
	}
	err = errNoObligation
	x.s.view(func(st *registry.State) {
		a := st.Agreement(in.Agreement)
		if a == nil || !scope.Sees(a) {
			return
		}
		if got, ok := st.Obligation(in.Consent, in.Agreement); ok {
			o, v, err = got, obligationView(&got, a, time.Now()), nil
		}
	})
	return o, v, err
}

type obligationOut struct{ Body ObligationView }

func (x *obligations) get(ctx context.Context, in *NamedObligation) (*obligationOut, error) {
	_, v, err := x.find(ctx, in)
	if err != nil {
		return nil, err
	}
	return &obligationOut{v}, nil
}

// ReceivedPage is a part of what was received.
type ReceivedPage struct {
	DecisionsPage
	Destroyed []string `json:"destroyed" doc:"months that cannot be searched any more: their keys were destroyed"`
}

func (x *obligations) received(ctx context.Context, in *struct {
	NamedObligation
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" doc:"next, as the page before said it"`
}) (*struct{ Body ReceivedPage }, error) {
	o, _, err := x.find(ctx, &in.NamedObligation)
	if err != nil {
		return nil, err
	}
	scope, err := x.scope(ctx)
	if err != nil {
		return nil, err
	}
	page, destroyed, err := x.desk.Received(ctx, scope, &o, in.Limit, in.Cursor)
	if err != nil {
		return nil, told(err)
	}
	return &struct{ Body ReceivedPage }{ReceivedPage{DecisionsPage{newHits(&page), page.Next}, append([]string{}, destroyed...)}}, nil
}

type receiptIn struct {
	NamedObligation
	Body struct {
		Did       registry.Deed `json:"did" enum:"stopped,deleted,kept,nothing-held,consented"`
		ELI       string        `json:"eli,omitempty" maxLength:"300" doc:"the act by which it is kept, where the agreement cites none, such as https://lovdata.no/eli/lov/2004/11/19/73"`
		Paragraph string        `json:"paragraph,omitempty" maxLength:"100"`
		Note      string        `json:"note,omitempty" maxLength:"500" doc:"what the other party and auditors should know; no person's number"`
	}
}

func (x *obligations) receipt(ctx context.Context, in *receiptIn) (*obligationOut, error) {
	b := &in.Body
	r := registry.Receipt{Consent: in.Consent, Agreement: in.Agreement, Did: b.Did, ELI: b.ELI, Paragraph: b.Paragraph, Note: b.Note}
	if why := registry.CheckReceiptNote(b.Note); why != "" {
		return nil, NewProblem(http.StatusUnprocessableEntity, why)
	}
	out := &obligationOut{}
	see := func(st *registry.State) error {
		o, ok := st.Obligation(r.Consent, r.Agreement)
		if !ok {
			return errNoObligation
		}
		out.Body = obligationView(&o, st.Agreement(r.Agreement), time.Now())
		return nil
	}
	_, err := x.c.Do(ctx, CallerOf(ctx).Actor(), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
		o, ok := st.Obligation(r.Consent, r.Agreement)
		if !ok {
			return nil, errNoObligation
		}
		if old := o.Receipt; old != nil && old.Did == r.Did && old.ELI == r.ELI && old.Paragraph == r.Paragraph && old.Note == r.Note {
			return nil, nil
		}
		return []registry.Change{registry.GiveReceipt(r)}, nil
	})
	if err != nil {
		return nil, err
	}
	x.s.view(func(st *registry.State) { err = see(st) })
	if err != nil {
		return nil, err
	}
	return out, nil
}
