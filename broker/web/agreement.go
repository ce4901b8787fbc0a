package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// By is the function that acts for the caller's organisation.
type By struct {
	By string `json:"by" minLength:"1" maxLength:"200" doc:"the function that acts for your organisation, such as Juridisk seksjon; no person's name"`
}

// NeedView is a need as any organisation sees it.
type NeedView struct {
	ID           broker.NeedID      `json:"id"`
	Organisation broker.OrgNumber   `json:"organisation"`
	Dataset      broker.DatasetID   `json:"dataset,omitempty"`
	Concept      string             `json:"concept,omitempty"`
	Purpose      broker.Purpose     `json:"purpose"`
	Fields       []broker.Pointer   `json:"fields"`
	Why          string             `json:"why"`
	Sector       string             `json:"sector"`
	Cosigned     []broker.OrgNumber `json:"cosigned" doc:"those who have it too"`
	Closed       string             `json:"closed,omitempty" doc:"why it was closed; left out: it is open"`
}

func needView(st *registry.State, n *broker.Need) NeedView {
	v := NeedView{n.ID, n.Organisation, n.Dataset, n.Concept, n.Purpose, append([]broker.Pointer{}, n.Fields...), n.Why, n.Sector, []broker.OrgNumber{}, ""}
	for _, c := range st.Cosignatures(n.ID) {
		v.Cosigned = append(v.Cosigned, c.Organisation)
	}
	if c, ok := st.NeedClosed(n.ID); ok {
		v.Closed = c.Why
	}
	return v
}

// NeedNamed is a command on a need.
type NeedNamed struct {
	CommandInput
	Need broker.NeedID `path:"need" doc:"a need, by its name"`
}

func (x *commands) registerNeeds() {
	offer := func() Rule { return Rule{Action: access.Offer, Once: &Once{}} }
	op := func(id, method, path, summary, description string) huma.Operation {
		return commandOperation(id, method, path, "needs", summary, description)
	}
	same := func(v ChangeView) ChangeView { return v }
	Register(x.s, op("put-need", http.MethodPost, "/needs", "Say what your organisation would use, and for what", "Whether or not the law lets it yet. Others co-sign it; after that it does not change."),
		offer(), func(ctx context.Context, in *struct {
			CommandInput
			Body struct {
				ID      broker.NeedID    `json:"id" minLength:"1" maxLength:"100"`
				Dataset broker.DatasetID `json:"dataset,omitempty" doc:"what is wanted; or else concept"`
				Concept string           `json:"concept,omitempty" maxLength:"2000" doc:"a URI, where it is not known who has it"`
				Purpose broker.Purpose   `json:"purpose"`
				Fields  []broker.Pointer `json:"fields,omitempty" maxItems:"500"`
				Why     string           `json:"why" minLength:"1" maxLength:"2000" doc:"no person's number"`
				Sector  string           `json:"sector" minLength:"1" maxLength:"100" doc:"such as oppvekst"`
			}
		}) (*changed[ChangeView], error) {
			b := &in.Body
			return do(ctx, x, in.CommandInput, string(registry.NeedPut), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
				n := broker.Need{ID: b.ID, Organisation: CallerOf(ctx).Organisation, Dataset: b.Dataset, Concept: b.Concept, Purpose: b.Purpose, Fields: b.Fields, Why: b.Why, Sector: b.Sector}
				return put(n)
			}, same)
		})
	Register(x.s, op("cosign-need", http.MethodPost, "/needs/{need}/cosignatures", "Say that your organisation has the need too", "It cannot be said twice."),
		offer(), func(ctx context.Context, in *struct {
			NeedNamed
			Body By
		}) (*changed[ChangeView], error) {
			return do(ctx, x, in.CommandInput, string(registry.NeedCosigned), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
				if st.Need(in.Need) == nil {
					return nil, NewProblem(http.StatusNotFound, "there is no need of that name")
				}
				return []registry.Change{registry.CosignNeed(broker.Cosignature{Need: in.Need, Organisation: CallerOf(ctx).Organisation, By: in.Body.By})}, nil
			}, same)
		})
	Register(x.s, op("close-need", http.MethodPost, "/needs/{need}/close", "Say that a need is met, or is no more", "Whoever put it does."),
		offer(), func(ctx context.Context, in *struct {
			NeedNamed
			Body struct {
				By
				Why string `json:"why" minLength:"1" maxLength:"2000" doc:"no person's number"`
			}
		}) (*changed[ChangeView], error) {
			return do(ctx, x, in.CommandInput, string(registry.NeedClosedType), func(st *registry.State, _ time.Time) ([]registry.Change, error) {
				n := st.Need(in.Need)
				switch {
				case n == nil:
					return nil, NewProblem(http.StatusNotFound, "there is no need of that name")
				case n.Organisation != CallerOf(ctx).Organisation:
					return nil, NewProblem(http.StatusForbidden, "the need is another's to close")
				}
				return []registry.Change{registry.CloseNeed(broker.NeedClosure{Need: in.Need, By: in.Body.By.By, Why: in.Body.Why})}, nil
			}, same)
		})
	type needList struct {
		Needs []NeedView `json:"needs"`
	}
	type out struct{ Body needList }
	Register(x.s, huma.Operation{OperationID: "list-needs", Method: http.MethodGet, Path: "/needs", Tags: []string{"needs"}, Summary: "What organisations say that they need"},
		Rule{Action: access.ReadCatalogue}, func(ctx context.Context, _ *struct{}) (*out, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			o := &out{needList{[]NeedView{}}}
			x.s.view(func(st *registry.State) {
				for _, n := range st.Needs() {
					o.Body.Needs = append(o.Body.Needs, needView(st, n))
				}
			})
			return o, nil
		})
	type gapList struct {
		At   time.Time `json:"at" doc:"the time that the law was read at"`
		Gaps []gapView `json:"gaps"`
	}
	type gaps struct{ Body gapList }
	Register(x.s, huma.Operation{OperationID: "list-gaps", Method: http.MethodGet, Path: "/gaps", Tags: []string{"needs"},
		Summary: "Open needs that no legal basis in force covers, the most asked for first", Description: "For those who make rules: what is needed, by how many and of which sector, and what stands in the way."},
		Rule{Action: access.ReadCatalogue}, func(ctx context.Context, in *struct {
			At time.Time `query:"at" doc:"read the law as of then; left out: now"`
		}) (*gaps, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			o := &gaps{gapList{At: in.At, Gaps: []gapView{}}}
			x.s.view(func(st *registry.State) {
				if o.Body.At.IsZero() {
					o.Body.At = asOf(st)
				}
				for _, g := range st.Gaps(o.Body.At) {
					o.Body.Gaps = append(o.Body.Gaps, gapView{g.Dataset, g.Concept, g.Purpose, g.Why, g.Why.Words(&g), g.Sides, g.Bases, len(g.Organisations), g.Organisations, g.Sectors, g.Needs})
				}
			})
			return o, nil
		})
}

type gapView struct {
	Dataset       broker.DatasetID      `json:"dataset,omitempty"`
	Concept       string                `json:"concept,omitempty"`
	Purpose       broker.Purpose        `json:"purpose"`
	Code          registry.GapReason    `json:"code" enum:"no_dataset,no_basis,purpose_not_covered,recipient_not_covered,side_not_covered,lapsed,not_yet_in_force"`
	Why           string                `json:"why"`
	Sides         []broker.Side         `json:"sides"`
	Bases         []broker.LegalBasisID `json:"bases" doc:"those that come closest"`
	Count         int                   `json:"count" doc:"how many organisations ask"`
	Organisations []broker.OrgNumber    `json:"organisations"`
	Sectors       []string              `json:"sectors"`
	Needs         []broker.NeedID       `json:"needs"`
}

// TermsBody are the terms of an agreement, as somebody offers them.
type TermsBody struct {
	Provider           broker.OrgNumber      `json:"provider"`
	Consumer           broker.OrgNumber      `json:"consumer"`
	Supplier           broker.OrgNumber      `json:"supplier,omitempty" doc:"who receives for the consumer; needs a delegation"`
	Dataset            broker.DatasetID      `json:"dataset"`
	Package            broker.PackageRef     `json:"package"`
	Purpose            broker.Purpose        `json:"purpose"`
	Bases              []broker.LegalBasisID `json:"bases" maxItems:"100"`
	Justification      string                `json:"justification,omitempty" maxLength:"1000" doc:"why a public authority asks for consent; whoever is asked reads it"`
	OnWithdrawal       *OnWithdrawalBody     `json:"onWithdrawal,omitempty" doc:"what the receiver does when a consent is withdrawn; left out: deletes within 30 days"`
	Visibility         *VisibilityBody       `json:"visibility,omitempty" doc:"where a law lets the citizen learn later of what was decided"`
	ProviderController broker.OrgNumber      `json:"providerController,omitempty"`
	ConsumerController broker.OrgNumber      `json:"consumerController,omitempty"`
	ProviderContact    string                `json:"providerContact,omitempty" maxLength:"200" doc:"a function's address, not a person's; left out: the organisation's own"`
	ConsumerContact    string                `json:"consumerContact,omitempty" maxLength:"200"`
	Processors         []broker.Processor    `json:"processors,omitempty" maxItems:"50" doc:"those who process the data for one of the controllers"`
	Locations          []broker.Country      `json:"locations,omitempty" maxItems:"50" doc:"where the consumer itself processes the data, as ISO 3166-1 alpha-2"`
	Transfer           broker.Transfer       `json:"transfer,omitempty" enum:"adequacy,standard-clauses,binding-rules,public-bodies" doc:"what lets the data leave the European Economic Area"`
	Cost               struct {
		Model   broker.CostModel `json:"model,omitempty" enum:"free,per-record,per-inhabitant,yearly-band,pool-share,joining-fee"`
		Payer   broker.OrgNumber `json:"payer,omitempty"`
		Ceiling int64            `json:"ceiling,omitempty" minimum:"0" doc:"deliveries in the agreement's life; left out: none"`
	} `json:"cost,omitzero"`
	Corrections broker.Corrections `json:"corrections" enum:"deliver,notify,refuse"`
	From        time.Time          `json:"from,omitzero"`
	To          time.Time          `json:"to,omitzero"`
}

// OnWithdrawalBody is a duty as it is agreed on.
type OnWithdrawalBody struct {
	Do        broker.WithdrawalDuty `json:"do" enum:"stop,delete,keep"`
	Days      int                   `json:"days,omitempty" minimum:"1" maximum:"31" doc:"until the receipt is to be given; left out: 30"`
	ELI       string                `json:"eli,omitempty" maxLength:"300" doc:"the act by which it is kept, such as https://lovdata.no/eli/lov/2004/11/19/73"`
	Paragraph string                `json:"paragraph,omitempty" maxLength:"100"`
}

func (b *OnWithdrawalBody) duty() *broker.OnWithdrawal {
	if b == nil {
		return nil
	}
	return &broker.OnWithdrawal{Do: b.Do, Days: b.Days, ELI: b.ELI, Paragraph: b.Paragraph}
}

// VisibilityBody is a delay as it is agreed on.
type VisibilityBody struct {
	Days      int    `json:"days" minimum:"1" maximum:"731" doc:"from a decision until the citizen sees it"`
	ELI       string `json:"eli" minLength:"1" maxLength:"300" doc:"the act that says so"`
	Paragraph string `json:"paragraph" minLength:"1" maxLength:"100"`
}

func (b *VisibilityBody) visibility() *broker.Visibility {
	if b == nil {
		return nil
	}
	return &broker.Visibility{Days: b.Days, ELI: b.ELI, Paragraph: b.Paragraph}
}

func (t *TermsBody) terms(id broker.AgreementID) *broker.Agreement {
	return &broker.Agreement{ID: id, Provider: t.Provider, Consumer: t.Consumer, Supplier: t.Supplier, Dataset: t.Dataset, Package: t.Package, Purpose: t.Purpose, Bases: t.Bases,
		Justification: t.Justification, OnWithdrawal: t.OnWithdrawal.duty(), Visibility: t.Visibility.visibility(),
		Responsibility: broker.Responsibility{ProviderController: t.ProviderController, ConsumerController: t.ConsumerController, ProviderContact: t.ProviderContact,
			ConsumerContact: t.ConsumerContact, Processors: t.Processors, Locations: t.Locations, Transfer: t.Transfer},
		Cost:        broker.Cost{Model: t.Cost.Model, Payer: t.Cost.Payer, Ceiling: t.Cost.Ceiling},
		Corrections: t.Corrections, Status: broker.Proposed, Valid: broker.Interval{From: t.From.UTC(), To: t.To.UTC()}}
}

// StepBody is a step to take.
type StepBody struct {
	By
	Step       broker.StepName       `json:"step" enum:"assessed,mapped,mapping-approved,package-approved,cost-covered,accepted,activated,suspended,resumed,amended,renewed,declined,ended"`
	Number     int                   `json:"number" minimum:"2" doc:"next, as GET told it: so that you have seen the steps before"`
	On         string                `json:"on,omitempty" maxLength:"32" doc:"what the step is on, as GET told it; accepted and activated need it"`
	Terms      *TermsBody            `json:"terms,omitempty" doc:"amended: an offer; the old terms bind until it is activated"`
	Until      time.Time             `json:"until,omitzero" doc:"renewed: an offer too"`
	Assessment *AssessmentBody       `json:"assessment,omitempty"`
	Mapping    []broker.FieldMeaning `json:"mapping,omitempty" maxItems:"500"`
	Why        string                `json:"why,omitempty" maxLength:"2000" doc:"suspended, resumed, declined and ended; no person's number"`
}

// AssessmentBody is what one side of the law was found to be.
type AssessmentBody struct {
	Side    broker.Side           `json:"side" enum:"disclosure,collection,confidentiality,compatibility"`
	Basis   broker.LegalBasisID   `json:"basis,omitempty" doc:"the one relied on; none for compatibility"`
	Holds   bool                  `json:"holds"`
	Note    string                `json:"note" minLength:"1" maxLength:"2000" doc:"why; no person's number"`
	Review  time.Time             `json:"review,omitzero"`
	RestsOn []broker.AssessmentID `json:"restsOn,omitempty" maxItems:"100"`
}

// StepView is what a step came to.
type StepView struct {
	ChangeView
	Number  int                    `json:"number"`
	Status  broker.AgreementStatus `json:"status" doc:"of the agreement in force"`
	Missing []registry.Lack        `json:"missing" doc:"what the agreement lacks before it can be activated"`
}

func (x *commands) registerAgreements() {
	take := func(ctx context.Context, in CommandInput, v broker.AgreementStep) (*changed[StepView], error) {
		c := CallerOf(ctx)
		v.Organisation = c.Organisation
		return do(ctx, x, in, string(registry.AgreementStepped), func(st *registry.State, now time.Time) ([]registry.Change, error) {
			w := v
			if w.On.IsZero() && w.Terms == nil {
				w.On = st.StepDigest(w.Agreement, w.Step)
			}
			return []registry.Change{registry.TakeStep(w)}, nil
		}, func(ch ChangeView) StepView {
			out := StepView{ChangeView: ch, Number: v.Number, Missing: []registry.Lack{}}
			x.s.view(func(st *registry.State) {
				if a := st.Agreement(v.Agreement); a != nil {
					out.Status = a.Status
					if l := st.Lifecycle(a.ID); l != nil && l.Offer != nil {
						out.Missing = append(out.Missing, st.Missing(a.ID, asOf(st))...)
					}
				}
			})
			return out
		})
	}
	Register(x.s, commandOperation("propose-agreement", http.MethodPost, "/agreements", "agreements", "Propose an agreement", "By its provider or its consumer. The answer lists what it lacks, and whose that is."),
		Rule{Action: access.Offer, Once: &Once{}}, func(ctx context.Context, in *struct {
			CommandInput
			Body struct {
				By
				ID    broker.AgreementID `json:"id" minLength:"1" maxLength:"100" doc:"the new agreement's name"`
				Terms TermsBody          `json:"terms"`
			}
		}) (*changed[StepView], error) {
			return take(ctx, in.CommandInput, broker.AgreementStep{Agreement: in.Body.ID, Number: 1, Step: broker.StepProposed, By: in.Body.By.By, Terms: in.Body.Terms.terms(in.Body.ID)})
		})
	Register(x.s, commandOperation("step-agreement", http.MethodPost, "/agreements/{agreement}/steps", "agreements", "Take a step in an agreement's life",
		"Each party takes its own. 409 where it cannot be taken: the detail says what stands in the way, and of activated the whole list of what is missing."),
		Rule{Action: access.Agree, Once: &Once{}}, func(ctx context.Context, in *struct {
			CommandInput
			Agreement broker.AgreementID `path:"agreement" doc:"an agreement that the caller is party to"`
			Body      StepBody
		}) (*changed[StepView], error) {
			b := &in.Body
			v := broker.AgreementStep{Agreement: in.Agreement, Number: b.Number, Step: b.Step, By: b.By.By, Until: b.Until.UTC(), Mapping: b.Mapping, Why: b.Why}
			if b.Until.IsZero() {
				v.Until = time.Time{}
			}
			if b.Terms != nil {
				v.Terms = b.Terms.terms(in.Agreement)
			}
			if a := b.Assessment; a != nil {
				v.Assessment = &broker.SideAssessment{Side: a.Side, Basis: a.Basis, Holds: a.Holds, Note: a.Note, RestsOn: a.RestsOn}
				if !a.Review.IsZero() {
					v.Assessment.Review = a.Review.UTC()
				}
			}
			switch {
			case b.On != "":
				d, err := broker.ParseDigest(b.On)
				if err != nil {
					return nil, NewProblem(http.StatusUnprocessableEntity, "on is 32 hexadecimal digits, as GET /agreements/{agreement}/steps told them")
				}
				v.On = d
			case slices.Contains([]broker.StepName{broker.StepAccepted, broker.StepActivated}, b.Step):
				return nil, NewProblem(http.StatusUnprocessableEntity, fmt.Sprintf("the step %s says what it is on: give on, as GET /agreements/{agreement}/steps told it", b.Step))
			}
			return take(ctx, in.CommandInput, v)
		})
	type out struct{ Body registry.AgreementView }
	Register(x.s, huma.Operation{OperationID: "list-steps", Method: http.MethodGet, Path: "/agreements/{agreement}/steps", Tags: []string{"agreements"},
		Summary:     "An agreement's steps, the offer on the table, and what is missing",
		Description: "next is the number of the next step, and on what each would be on, were it taken now."},
		Rule{Action: access.Agree, Or: access.Audit}, func(ctx context.Context, in *struct {
			Agreement broker.AgreementID `path:"agreement" doc:"an agreement that the caller is party to"`
		}) (*out, error) {
			if err := x.c.Latest(ctx); err != nil {
				return nil, err
			}
			var o *out
			x.s.view(func(st *registry.State) {
				if st.Agreement(in.Agreement) != nil {
					o = &out{registry.ViewAgreement(st, in.Agreement, asOf(st))}
				}
			})
			if o == nil {
				return nil, NewProblem(http.StatusNotFound, "there is no agreement of that name")
			}
			return o, nil
		})
}

// asOf is now, or the registry's time where that is ahead.
func asOf(st *registry.State) time.Time {
	if now := time.Now(); now.After(st.At()) {
		return now.UTC()
	}
	return st.At()
}
