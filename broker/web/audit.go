package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/audit"
	"datafordeler/broker/store"
)

// auditing are the endpoints of those who ask what was decided.
type auditing struct {
	server *Server
	desk   *audit.Desk
	heavy  chan struct{} // a place for each question that reads much at once
}

// RegisterAudit adds the questions. Auditors ask of all decisions; a provider, a
// consumer or its supplier of those that it is party to.
func (s *Server) RegisterAudit(desk *audit.Desk) {
	a := &auditing{server: s, desk: desk, heavy: make(chan struct{}, 4)}
	a.registerOwn()
	parties := Rule{Action: access.AuditOwn, Or: access.Audit, Query: true}
	get := func(id, path, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"audit"}, Summary: summary, Description: description,
			RejectUnknownQueryParameters: true, Errors: []int{400, 401, 403, 422, 429, 503}, Middlewares: huma.Middlewares{noPersons}}
	}
	const own = " An auditor is told of all; another organisation of the decisions in which it is provider, consumer or supplier, and of nothing else."
	const pages = " What follows a page stands in next, and in the header Link (rel=\"next\"). CSV with Accept: text/csv or format=csv: the names of its columns stay, new ones come last."

	op := get("searchDecisions", "/audit/decisions", "Find decisions, the newest first", "All filters that are given must hold."+own+pages)
	op.Errors = append(op.Errors, 410)
	tabular(s, &op, reflect.TypeFor[DecisionsPage]())
	Register(s, op, parties, a.search)

	op = get("explainDecision", "/audit/decisions/{decision}", "Why was this decided", "On which law and agreement, who answers for it, by which policy, which fields left, "+
		"and whether it stands under a signed head of the ledger: all of it as it was when it was decided. A supplier names the agreement too."+own)
	op.Errors = append(op.Errors, 404, 409)
	Register(s, op, parties, a.explain)

	op = get("proveDecision", "/audit/decisions/{decision}/proof", "The proof of a decision", "The file that `datafordeler audit check` verifies with nothing but the ledger's public key. "+
		"409 while no signed head covers the decision: ask again after some seconds. A supplier names the agreement too."+own)
	op.Errors = append(op.Errors, 404, 409)
	op.Responses = map[string]*huma.Response{"200": {Description: "the proof", Content: map[string]*huma.MediaType{"application/json": {}}}}
	Register(s, op, parties, a.prove)

	op = get("coverage", "/audit/coverage", "Is every record accounted for", "published = rejected + repeated + out of every scope + in some scope, and decisions = permits + denials, "+
		"for each partition. For auditors and for the dataset's owner: the counts are of all consumers."+strings.Replace(pages, " What follows a page stands in next, and in the header Link (rel=\"next\").", "", 1))
	op.Errors = append(op.Errors, 404)
	tabular(s, &op, reflect.TypeFor[CoverageAnswer]())
	Register(s, op, parties, a.coverage)

	op = get("fields", "/audit/fields", "Did only agreed fields leave", "What was agreed against what was delivered, for each agreement and version of its rights package."+own)
	tabular(s, &op, reflect.TypeFor[FieldsAnswer]())
	Register(s, op, parties, a.fields)

	op = get("expiring", "/audit/expiring", "What ends or is due for review", "Agreements, legal bases, rights packages, delegations; and how many consents, by consumer, dataset and purpose: no person is named."+own)
	tabular(s, &op, reflect.TypeFor[ExpiringAnswer]())
	Register(s, op, Rule{Action: access.AuditOwn, Or: access.Audit}, a.expiring)

	op = huma.Operation{OperationID: "auditSubject", Method: http.MethodPost, Path: "/audit/subject", Tags: []string{"audit"},
		Summary: "Who got one subject's data", Errors: []int{400, 401, 403, 422, 429, 503, 410}, MaxBodyBytes: 8 << 10,
		Description: "The identifier stands in the body, never in the address. That the caller asked, and why, is in the registry's log before the answer is given, for each page; " +
			"the identifier is not. All months are searched whose keys stand; destroyed names the others. For auditors." + strings.Replace(pages, "next, and in the header Link (rel=\"next\")", "next: send it as cursor, with the same body", 1)}
	tabular(s, &op, reflect.TypeFor[SubjectAnswer]())
	Register(s, op, Rule{Action: access.AuditSubject}, a.subject)
}

// noPersons refuses an address that may hold a person's number: addresses stand in
// the logs of what lies between.
func noPersons(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	for name, values := range u.Query() {
		for _, v := range append(values, name) {
			if _, err := broker.ParseDigest(v); err != nil && name != "cursor" && audit.ElevenDigits(v) {
				_, w := humago.Unwrap(ctx)
				writeProblem(w, NewProblem(http.StatusUnprocessableEntity, "the address has eleven digits in a row, which may be a person's number: it belongs in no address; ask for a subject by POST /audit/subject"))
				return
			}
		}
	}
	next(ctx)
}

// scope is what the request's caller may be told. It is decided here alone.
func (a *auditing) scope(ctx context.Context) (audit.Scope, error) {
	err := a.server.Allow(ctx, access.Audit, access.Resource{})
	if err == nil {
		return audit.Everything(), nil
	}
	if _, refused := errors.AsType[*access.Refusal](err); !refused {
		return audit.Scope{}, err
	}
	c := CallerOf(ctx)
	return audit.PartyTo(c.Organisation, c.Supplier), nil
}

// begin takes a place for a question that reads much, and gives it back by end.
func (a *auditing) begin(ctx context.Context) (end func(), err error) {
	select {
	case a.heavy <- struct{}{}:
		return func() { <-a.heavy }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(5 * time.Second):
		return nil, NewProblem(http.StatusServiceUnavailable, "too many large questions are being answered; ask again in a minute")
	}
}

// told is what the caller is told of a question's error.
func told(err error) error {
	var q *audit.QuestionError
	var s *audit.SubjectError
	switch {
	case errors.As(err, &q):
		p := NewProblem(http.StatusUnprocessableEntity, "the question makes no sense as it stands")
		fault := &Fault{Message: q.Why}
		if q.Field == "cursor" {
			p.Status, p.Title = http.StatusBadRequest, http.StatusText(http.StatusBadRequest)
		}
		if q.Field != "" {
			fault.Location = "query." + q.Field
		}
		p.Faults = []*Fault{fault}
		return p
	case errors.As(err, &s):
		p := NewProblem(http.StatusUnprocessableEntity, "the identifier is none of its kind")
		p.Faults = []*Fault{{Message: s.Why, Location: "body.identifier"}}
		return p
	case errors.Is(err, audit.ErrNotFound):
		return NewProblem(http.StatusNotFound, audit.ErrNotFound.Error())
	case errors.Is(err, audit.ErrNotYet):
		return NewProblem(http.StatusConflict, audit.ErrNotYet.Error())
	case errors.Is(err, store.ErrOldCursor):
		return NewProblem(http.StatusGone, "the cursor is of another version of the broker; begin again without it")
	case errors.Is(err, store.ErrRebuild), errors.Is(err, store.ErrNewer):
		return NewProblem(http.StatusServiceUnavailable, "the tables that are asked are being made anew; ask again later")
	}
	return err
}

// filters are the query parameters of a search.
type filters struct {
	Dataset      string `query:"dataset" doc:"a dataset's name"`
	Partition    int64  `query:"partition" minimum:"-1" maximum:"2147483647" default:"-1" doc:"of the record; with dataset and offset"`
	Offset       int64  `query:"offset" minimum:"-1" maximum:"9999999999" default:"-1" doc:"of the record; with dataset and partition"`
	Subscription string `query:"subscription" doc:"a subscription's name"`
	Agreement    string `query:"agreement" doc:"an agreement's name"`
	Basis        string `query:"basis" doc:"a legal basis that the permit names"`
	Package      string `query:"package" doc:"a rights package: ID or ID@VERSION" example:"digisos@1"`
	Consumer     string `query:"consumer" doc:"an organisation number" example:"958935420"`
	Provider     string `query:"provider" doc:"an organisation number"`
	Supplier     string `query:"supplier" doc:"an organisation number"`
	Event        string `query:"event" doc:"an event's keyed hash: 32 hexadecimal digits"`
	Request      string `query:"request" doc:"a lookup's request: 32 hexadecimal digits"`
	Delivery     string `query:"delivery" doc:"a delivery's id: 32 hexadecimal digits"`
	Outcome      string `query:"outcome" enum:"permit,deny" doc:"what was answered"`
	Reason       string `query:"reason" doc:"a reason of the denial" example:"no_open_case"`
	Shielded     string `query:"shielded" enum:"only,without" doc:"deliveries from which shielding took fields"`
	Kind         string `query:"kind" enum:"stream,backfill,lookup,door,notice" doc:"kind of decision"`
	Period       string `query:"period" doc:"month of the pseudonym's key" example:"2026-11"`
	Order        string `query:"order" enum:"newest,oldest" default:"newest" doc:"which comes first"`
	Limit        int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"the most decisions on a page"`
	Cursor       string `query:"cursor" maxLength:"100" doc:"next of the page before, with the same filters"`
	Decision     string `query:"decision" doc:"a decision's id: 32 hexadecimal digits"`
	Window
	Format
	address url.URL
}

// Window bounds the time of the decisions.
type Window struct {
	From string `query:"from" doc:"not before this time: a day or RFC 3339" example:"2026-11-01"`
	To   string `query:"to" doc:"before this time" example:"2026-12-01T00:00:00Z"`
}

func (w *Window) times() (from, to time.Time, err error) {
	f := audit.Filters{From: w.From, To: w.To, Partition: -1, Offset: -1, Limit: 1}
	q, err := f.Query()
	return q.From, q.To, err
}

// DecisionsPage is a page of decisions.
type DecisionsPage struct {
	Decisions []audit.Hit `json:"decisions"`
	Next      string      `json:"next,omitempty" doc:"cursor to what follows; without it there is no more"`
}

// CoverageAnswer accounts for a dataset's records.
type CoverageAnswer struct {
	Partitions []audit.Coverage     `json:"partitions"`
	Kinds      []audit.KindCoverage `json:"kinds" doc:"beside the stream's decisions: those that no range of records accounts for"`
	Balanced   bool                 `json:"balanced" doc:"nothing is missing, twice or unaccounted for; on the embedded engine what is labelled as decided twice is let pass"`
}

// FieldsAnswer sets what was agreed against what was delivered.
type FieldsAnswer struct {
	Agreements []audit.Fields `json:"agreements"`
}

// ExpiringAnswer is what falls due, the earliest first.
type ExpiringAnswer struct {
	Due []audit.Due `json:"due"`
}

func hitRows(hits []audit.Hit) table {
	return table{audit.HitColumns, func(write func([]string)) {
		for i := range hits {
			write(hits[i].Row())
		}
	}}
}

func newHits(page *store.Page) []audit.Hit {
	hits := make([]audit.Hit, len(page.Hits))
	for i := range page.Hits {
		hits[i] = audit.NewHit(&page.Hits[i])
	}
	return hits
}

// Resolve keeps the request's address, to make that of the next page.
func (f *filters) Resolve(ctx huma.Context) []error {
	f.address = ctx.URL()
	return nil
}

func (a *auditing) search(ctx context.Context, in *filters) (*huma.StreamResponse, error) {
	f := audit.Filters{Dataset: in.Dataset, Subscription: in.Subscription, Agreement: in.Agreement, Basis: in.Basis, Package: in.Package,
		Consumer: in.Consumer, Provider: in.Provider, Supplier: in.Supplier, Decision: in.Decision, Delivery: in.Delivery, Event: in.Event, Request: in.Request,
		Partition: in.Partition, Offset: in.Offset, Outcome: in.Outcome, Reason: in.Reason, Shielded: in.Shielded, Kind: in.Kind, Period: in.Period,
		From: in.From, To: in.To, Oldest: in.Order == "oldest", Limit: in.Limit, Cursor: in.Cursor}
	q, err := f.Query()
	if err != nil {
		return nil, told(err)
	}
	scope, err := a.scope(ctx)
	if err != nil {
		return nil, err
	}
	page, err := a.desk.Search(ctx, scope, q)
	if err != nil {
		return nil, told(err)
	}
	hits := newHits(&page)
	out := in.write(DecisionsPage{hits, page.Next}, hitRows(hits), "decisions")
	if page.Next == "" {
		return out, nil
	}
	next := in.address.Query()
	next.Set("cursor", page.Next)
	return linked(out, "/audit/decisions?"+next.Encode()), nil
}

// Named names a decision, and what narrows the caller's view of it.
type Named struct {
	Decision  string `path:"decision" doc:"the decision's id: 32 hexadecimal digits"`
	Agreement string `query:"agreement" doc:"the decision's agreement; a supplier must name it"`
}

func (a *auditing) find(ctx context.Context, in *Named) (*audit.Proven, *store.Hit, error) {
	id, err := broker.ParseDigest(in.Decision)
	if err != nil {
		return nil, nil, NewProblem(http.StatusNotFound, audit.ErrNotFound.Error())
	}
	scope, err := a.scope(ctx)
	if err != nil {
		return nil, nil, err
	}
	end, err := a.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	hit, err := a.desk.Find(ctx, scope, id, store.Query{Agreement: broker.AgreementID(in.Agreement)})
	if err != nil {
		return nil, nil, told(err)
	}
	proven, err := a.desk.Ledger.Prove(ctx, hit)
	if err != nil {
		return nil, nil, told(err)
	}
	return proven, hit, nil
}

type explainIn struct {
	Named
	Lang   string `query:"lang" enum:"nb,nn,en" doc:"bokmål, nynorsk or English; else as Accept-Language says, and nb"`
	Accept string `header:"Accept-Language" hidden:"true"`
}

// ExplainAnswer is an explanation, in parts and in words.
type ExplainAnswer struct {
	audit.Explanation
	Language string `json:"language"`
	Text     string `json:"text" doc:"the same in words"`
}

func (a *auditing) explain(ctx context.Context, in *explainIn) (*struct {
	ContentLanguage string `header:"Content-Language"`
	Body            *ExplainAnswer
}, error) {
	proven, _, err := a.find(ctx, &in.Named)
	if err != nil {
		return nil, err
	}
	end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	x, err := a.desk.Explain(ctx, proven)
	if err != nil {
		return nil, told(err)
	}
	lang := in.Lang
	if lang == "" {
		lang = language(in.Accept)
	}
	var text strings.Builder
	if err := x.Text(&text, lang); err != nil {
		return nil, told(err)
	}
	return &struct {
		ContentLanguage string `header:"Content-Language"`
		Body            *ExplainAnswer
	}{lang, &ExplainAnswer{*x, lang, text.String()}}, nil
}

// language is the first that is spoken here of those that a header lists, by weight.
func language(accept string) string {
	best, weight := "nb", 0.0
	for part := range strings.SplitSeq(accept, ",") {
		tag, params, _ := strings.Cut(part, ";")
		tag, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if tag == "no" {
			tag = "nb"
		}
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		if q > weight && slices.Contains(audit.Languages, tag) {
			best, weight = tag, q
		}
	}
	return best
}

func (a *auditing) prove(ctx context.Context, in *Named) (*huma.StreamResponse, error) {
	proven, _, err := a.find(ctx, in)
	if err != nil {
		return nil, err
	}
	if proven.Proof == nil {
		return nil, NewProblem(http.StatusConflict, "the decision is in the ledger, and under no signed head yet that counts; ask again after some seconds")
	}
	b, err := proven.Proof.Append(nil)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/json")
		ctx.SetHeader("Content-Disposition", `attachment; filename="proof.json"`)
		_, _ = io.WriteString(ctx.BodyWriter(), string(b))
	}}, nil
}

type coverageIn struct {
	Dataset string `query:"dataset" required:"true" doc:"the dataset's name"`
	Window
	Format
}

func (a *auditing) coverage(ctx context.Context, in *coverageIn) (*huma.StreamResponse, error) {
	scope, from, to, end, err := a.wide(ctx, &in.Window)
	if err != nil {
		return nil, err
	}
	defer end()
	all, err := a.desk.Coverage(ctx, scope, broker.DatasetID(in.Dataset), from, to)
	if err != nil {
		return nil, told(err)
	}
	kinds, err := a.desk.Kinds(ctx, scope, broker.DatasetID(in.Dataset), from, to)
	if err != nil {
		return nil, told(err)
	}
	out := CoverageAnswer{append([]audit.Coverage{}, all...), append([]audit.KindCoverage{}, kinds...), true}
	for i := range kinds {
		out.Balanced = out.Balanced && kinds[i].Balanced
	}
	for i := range all {
		out.Balanced = out.Balanced && !a.desk.Wrong(&all[i])
	}
	return in.write(out, table{audit.CoverageColumns, func(write func([]string)) {
		for i := range all {
			write(all[i].Row())
		}
		for i := range kinds {
			write(kinds[i].Row())
		}
	}}, "coverage"), nil
}

// wide begins a question about a span of time.
func (a *auditing) wide(ctx context.Context, w *Window) (s audit.Scope, from, to time.Time, end func(), err error) {
	if from, to, err = w.times(); err != nil {
		return s, from, to, nil, told(err)
	}
	if s, err = a.scope(ctx); err == nil {
		end, err = a.begin(ctx)
	}
	return s, from, to, end, err
}

type fieldsIn struct {
	Agreement string `query:"agreement" doc:"only this agreement's"`
	Window
	Format
}

func (a *auditing) fields(ctx context.Context, in *fieldsIn) (*huma.StreamResponse, error) {
	scope, from, to, end, err := a.wide(ctx, &in.Window)
	if err != nil {
		return nil, err
	}
	defer end()
	all, err := a.desk.Fields(ctx, scope, broker.AgreementID(in.Agreement), from, to)
	if err != nil {
		return nil, told(err)
	}
	return in.write(FieldsAnswer{append([]audit.Fields{}, all...)}, table{audit.FieldsColumns, func(write func([]string)) {
		for i := range all {
			for _, row := range all[i].Rows() {
				write(row)
			}
		}
	}}, "fields"), nil
}

type expiringIn struct {
	Days int `query:"days" minimum:"0" maximum:"36500" default:"90" doc:"how far ahead"`
	Format
}

func (a *auditing) expiring(ctx context.Context, in *expiringIn) (*huma.StreamResponse, error) {
	scope, err := a.scope(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.desk.Expiring(scope, in.Days)
	if err != nil {
		return nil, told(err)
	}
	return in.write(ExpiringAnswer{append([]audit.Due{}, all...)}, table{audit.DueColumns, func(write func([]string)) {
		for i := range all {
			write(all[i].Row())
		}
	}}, "expiring"), nil
}
