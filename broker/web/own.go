package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/audit"
	"datafordeler/broker/registry"
)

// DisclosuresPage is who got data on the citizen who asks, and who asked and got none.
type DisclosuresPage struct {
	Disclosures []Disclosure `json:"disclosures"`
	Next        string       `json:"next,omitempty" doc:"cursor to what follows; without it there is no more"`
	// Later is the same for everybody: it tells nobody that something is hidden.
	Later     string   `json:"later" doc:"that some laws let a citizen learn later of what was decided; it says the same to all"`
	Destroyed []string `json:"destroyed" doc:"months that cannot be searched any more: the keys of their pseudonyms were destroyed"`
}

// Disclosure is a decision as the citizen that it is about sees it.
type Disclosure struct {
	Decision     string             `json:"decision" doc:"its id: name it when you ask about it"`
	Time         time.Time          `json:"time"`
	Kind         string             `json:"kind" enum:"stream,backfill,lookup,door,notice"`
	Dataset      broker.DatasetID   `json:"dataset"`
	DatasetTitle string             `json:"datasetTitle"`
	Provider     OrganisationName   `json:"provider" doc:"who had the data"`
	Consumer     OrganisationName   `json:"consumer" doc:"who asked for it"`
	Supplier     *OrganisationName  `json:"supplier,omitempty" doc:"who received it for them"`
	Purpose      broker.Purpose     `json:"purpose"`
	Outcome      string             `json:"outcome" enum:"permit,deny" doc:"deny: they got nothing"`
	Reasons      []string           `json:"reasons" doc:"of a denial"`
	Bases        []DisclosureBasis  `json:"bases" doc:"the legal bases of a permit"`
	Fields       []broker.Pointer   `json:"fields" doc:"what of the data they got"`
	Shielded     bool               `json:"shielded" doc:"fields were taken out, because the person is protected"`
	Agreement    broker.AgreementID `json:"agreement"`
}

// OrganisationName is an organisation and its name.
type OrganisationName struct {
	Number broker.OrgNumber `json:"number"`
	Name   string           `json:"name"`
}

// DisclosureBasis is a law as a citizen may look it up.
type DisclosureBasis struct {
	ID        broker.LegalBasisID `json:"id"`
	Title     string              `json:"title"`
	ELI       string              `json:"eli,omitempty"`
	Paragraph string              `json:"paragraph,omitempty"`
}

// laterTexts are what everybody is told.
var laterTexts = map[string]string{
	"nb": "Der en lov sier det, vises det som er avgjort, her først en tid etterpå. Ingen får vite før den tid om det er noe slikt.",
	"nn": "Der ei lov seier det, blir det som er avgjort, vist her først ei tid etterpå. Ingen får vite før den tid om det er noko slikt.",
	"en": "Where a law says so, what was decided is shown here some time later. Whether there is anything such is told to nobody before that time.",
}

type ownIn struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"the most on a page"`
	Cursor string `query:"cursor" maxLength:"100" doc:"next of the page before, with the same times"`
	Accept string `header:"Accept-Language" hidden:"true"`
	Window
}

func (a *auditing) registerOwn() {
	Register(a.server, huma.Operation{OperationID: "ownDisclosures", Method: http.MethodGet, Path: "/me/disclosures", Tags: []string{"audit"},
		Summary: "Who got data on me, and by which law", RejectUnknownQueryParameters: true, Errors: []int{400, 401, 403, 410, 422, 429, 503}, Middlewares: huma.Middlewares{noPersons},
		Description: "What was decided on whoever is logged in, the newest first: no number stands in the request. What was refused stands here too. " +
			"Where a law lets it wait, it is shown later. What follows a page stands in next."},
		Rule{Action: access.OwnDisclosures}, a.own)
}

func (a *auditing) own(ctx context.Context, in *ownIn) (*struct{ Body *DisclosuresPage }, error) {
	from, to, err := in.times()
	if err != nil {
		return nil, told(err)
	}
	end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	got, err := a.desk.Own(ctx, audit.OwnQuestion{ID: audit.NewIdentifier(CallerOf(ctx).Person.Number()), From: from, To: to, Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, told(err)
	}
	out := &DisclosuresPage{Disclosures: make([]Disclosure, len(got.Hits)), Next: got.Next, Later: laterTexts[language(in.Accept)], Destroyed: append([]string{}, got.Destroyed...)}
	a.desk.Control.View(func(st *registry.State) {
		for i := range got.Hits {
			h := audit.NewHit(&got.Hits[i])
			out.Disclosures[i] = disclosure(st, &h)
		}
	})
	return &struct{ Body *DisclosuresPage }{out}, nil
}

func disclosure(st *registry.State, h *audit.Hit) Disclosure {
	org := func(n broker.OrgNumber) OrganisationName {
		v := OrganisationName{Number: n}
		if o := st.Organisation(n); o != nil {
			v.Name = o.Name
		}
		return v
	}
	v := Disclosure{Decision: h.ID.String(), Time: h.Time.UTC(), Kind: h.Kind, Dataset: h.Dataset, Provider: org(h.Provider), Consumer: org(h.Consumer),
		Outcome: h.Outcome, Reasons: []string{}, Bases: []DisclosureBasis{}, Fields: append([]broker.Pointer{}, h.Fields...), Shielded: h.Shielded, Agreement: h.Agreement}
	if d := st.Dataset(h.Dataset); d != nil {
		v.DatasetTitle = d.Title
	}
	if h.Supplier != "" {
		o := org(h.Supplier)
		v.Supplier = &o
	}
	if g := st.Agreement(h.Agreement); g != nil {
		v.Purpose = g.Purpose
	}
	for _, r := range h.Reasons {
		v.Reasons = append(v.Reasons, string(r))
	}
	for _, id := range h.Bases {
		b := DisclosureBasis{ID: id}
		if x := st.Basis(id); x != nil {
			b.Title, b.ELI, b.Paragraph = x.Title, x.ELI, x.Paragraph
		}
		v.Bases = append(v.Bases, b)
	}
	return v
}
