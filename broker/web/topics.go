package web

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

// RegisterTopics adds the description of the Kafka topics. describe gives one
// organisation's, in AsyncAPI 3.1.
func (s *Server) RegisterTopics(describe func(broker.OrgNumber) ([]byte, error)) {
	s.Handle(huma.Operation{
		OperationID: "asyncapi", Method: http.MethodGet, Path: "/asyncapi.json", Tags: []string{"caller"},
		Summary: "The caller's Kafka topics and their messages, in AsyncAPI 3.1",
		Responses: map[string]*huma.Response{"200": {
			Description: "the document", Content: map[string]*huma.MediaType{"application/vnd.aai.asyncapi+json;version=3.1.0": {}},
		}},
	}, Rule{Action: access.ReadCatalogue}, func(w http.ResponseWriter, r *http.Request) error {
		doc, err := describe(CallerOf(r.Context()).Acting())
		if err != nil {
			return err
		}
		return writeTagged(w, r, "application/vnd.aai.asyncapi+json;version=3.1.0", doc)
	})
}
