package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

// Self is what the broker sees of a caller.
type Self struct {
	Organisation broker.OrgNumber `json:"organisation,omitempty" doc:"for whom the call is made"`
	Supplier     broker.OrgNumber `json:"supplier,omitempty" doc:"who makes it, where that is another"`
	Client       string           `json:"client" doc:"the token's client"`
	Scopes       []string         `json:"scopes" doc:"the token's scopes"`
	Expires      time.Time        `json:"expires" doc:"when the token ends"`
}

func (s *Server) registerSelf() {
	type out struct{ Body Self }
	Register(s, huma.Operation{
		OperationID: "whoami", Method: http.MethodGet, Path: "/whoami", Tags: []string{"caller"},
		Summary: "Who is calling, as the token says",
	}, Rule{Action: access.ReadSelf}, func(ctx context.Context, _ *struct{}) (*out, error) {
		c := CallerOf(ctx)
		return &out{Self{c.Organisation, c.Supplier, c.Client, append([]string{}, c.Scopes...), c.Expires}}, nil
	})
	s.Handle(huma.Operation{
		OperationID: "openapi", Method: http.MethodGet, Path: "/openapi.json", Tags: []string{"caller"},
		Summary:   "This API, in OpenAPI 3.1",
		Responses: map[string]*huma.Response{"200": {Description: "the document", Content: map[string]*huma.MediaType{"application/vnd.oai.openapi+json;version=3.1": {}}}},
	}, Rule{Public: true, Why: "it says what there is, not what is in it"}, func(w http.ResponseWriter, _ *http.Request) error {
		doc, err := s.api.OpenAPI().MarshalJSON()
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
		_, err = w.Write(doc)
		return err
	})
}
