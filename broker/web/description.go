package web

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/inwords"
)

// Describer puts agreements into words. Any number of goroutines may ask.
type Describer interface {
	// Describe is one in a language, as of a time; nil where there is none.
	Describe(ctx context.Context, id broker.AgreementID, language string, at time.Time) (*inwords.Description, error)
}

// RegisterDescriptions adds what an agreement permits, in words. Its parties, auditors
// and operators may read it.
func (s *Server) RegisterDescriptions(d Describer) {
	x := &descriptions{d, make(chan struct{}, 2)}
	op := huma.Operation{OperationID: "describeAgreement", Method: http.MethodGet, Path: "/agreements/{agreement}/description", Tags: []string{"agreements"},
		Summary: "What an agreement permits, in plain words",
		Description: "To whom, which fields, when, why and on which conditions; who answers for it; what the rules answer now, and what they withhold for. " +
			"For the agreement's parties, auditors and operators. Text with Accept: text/plain or format=text.",
		RejectUnknownQueryParameters: true, Errors: []int{400, 401, 403, 404, 422, 429, 503}}
	op.Responses = map[string]*huma.Response{"200": {
		Description: "the agreement in words", Content: map[string]*huma.MediaType{
			"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[inwords.Description](), true, "")},
			"text/plain":       {Schema: &huma.Schema{Type: "string"}}},
		Headers: map[string]*huma.Param{"Content-Language": {Description: "the language that it is in", Schema: &huma.Schema{Type: "string"}}},
	}}
	Register(s, op, Rule{Action: access.AuditOwn, Or: access.Audit, OrElse: access.Operate}, x.describe)
}

type descriptions struct {
	describer Describer
	places    chan struct{} // each asks the policy some questions
}

type describeIn struct {
	Agreement string `path:"agreement" doc:"the agreement's name"`
	Lang      string `query:"lang" enum:"nb,nn,en" doc:"bokmål, nynorsk or English; else as Accept-Language says, and nb"`
	Format    string `query:"format" enum:"json,text" doc:"json unless Accept says text/plain"`
	Languages string `header:"Accept-Language" hidden:"true"`
	Accept    string `header:"Accept" hidden:"true"`
}

func (x *descriptions) describe(ctx context.Context, in *describeIn) (*huma.StreamResponse, error) {
	lang := in.Lang
	if lang == "" {
		lang = language(in.Languages)
	}
	select {
	case x.places <- struct{}{}:
		defer func() { <-x.places }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(5 * time.Second):
		return nil, NewProblem(http.StatusServiceUnavailable, "too many agreements are being described; ask again in a minute")
	}
	d, err := x.describer.Describe(ctx, broker.AgreementID(in.Agreement), lang, time.Now())
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, NewProblem(http.StatusNotFound, "there is no such agreement")
	}
	text := in.Format == "text" || in.Format == "" && prefers(in.Accept, "text/plain", "application/json")
	var body strings.Builder
	if text {
		err = d.Text(&body)
	} else {
		enc := json.NewEncoder(&body)
		enc.SetEscapeHTML(false)
		err = enc.Encode(d)
	}
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Vary", "Accept, Accept-Language")
		ctx.SetHeader("Content-Language", lang)
		kind := "application/json"
		if text {
			kind = "text/plain; charset=utf-8"
		}
		ctx.SetHeader("Content-Type", kind)
		_, _ = ctx.BodyWriter().Write([]byte(body.String())) // who asked may be gone
	}}, nil
}
