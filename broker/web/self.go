package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// Self is what the broker sees of a caller, and which doors are open to it.
type Self struct {
	Organisation broker.OrgNumber `json:"organisation,omitempty" doc:"for whom the call is made"`
	Supplier     broker.OrgNumber `json:"supplier,omitempty" doc:"who makes it, where that is another"`
	Client       string           `json:"client" doc:"the token's client"`
	Scopes       []string         `json:"scopes" doc:"the token's scopes"`
	Expires      time.Time        `json:"expires" doc:"when the token ends"`
	Doors        []Door           `json:"doors" doc:"what the registry names as the caller's, and whether this token opens it"`
}

// Door is one thing that is the caller's.
type Door struct {
	Action    access.Action      `json:"action" doc:"what there is to do"`
	Dataset   broker.DatasetID   `json:"dataset,omitempty"`
	Mailbox   broker.MailboxID   `json:"mailbox,omitempty"`
	Agreement broker.AgreementID `json:"agreement,omitempty"`
	Open      bool               `json:"open" doc:"whether this token may"`
	Why       string             `json:"why,omitempty" doc:"why not, and what to do"`
}

func (s *Server) registerSelf() {
	type out struct{ Body Self }
	Register(s, huma.Operation{
		OperationID: "whoami", Method: http.MethodGet, Path: "/whoami", Tags: []string{"caller"},
		Summary: "Who is calling, as the token says, and what is open to them",
	}, Rule{Action: access.ReadSelf}, func(ctx context.Context, _ *struct{}) (*out, error) {
		c := CallerOf(ctx)
		doors, err := s.doors(ctx, c)
		if err != nil {
			return nil, err
		}
		self := Self{c.Organisation, c.Supplier, c.Client, append([]string{}, c.Scopes...), c.Expires, doors}
		tag, err := TagOfJSON(self)
		if err != nil {
			return nil, err
		}
		if err := Tagged(ctx, tag); err != nil {
			return nil, err
		}
		return &out{self}, nil
	})
	s.Handle(huma.Operation{
		OperationID: "openapi", Method: http.MethodGet, Path: "/openapi.json", Tags: []string{"caller"},
		Summary:   "This API, in OpenAPI 3.1",
		Responses: map[string]*huma.Response{"200": {Description: "the document", Content: map[string]*huma.MediaType{"application/vnd.oai.openapi+json;version=3.1": {}}}},
	}, Rule{Public: true, Why: "it says what there is, not what is in it"}, func(w http.ResponseWriter, r *http.Request) error {
		doc, err := s.api.OpenAPI().MarshalJSON()
		if err != nil {
			return err
		}
		return writeTagged(w, r, "application/vnd.oai.openapi+json;version=3.1", doc)
	})
}

// doors are those that the registry names as the caller's, each asked of the guard
// itself, so that what is told here is what happens there.
func (s *Server) doors(ctx context.Context, c access.Caller) ([]Door, error) {
	doors := []Door{}
	if c.Organisation == "" || s.view == nil {
		return doors, nil
	}
	s.view(func(st *registry.State) {
		for _, d := range st.Datasets() {
			if d.Owner == c.Organisation {
				doors = append(doors, Door{Action: access.PublishRecords, Dataset: d.ID}, Door{Action: access.ReadRejections, Dataset: d.ID})
			}
		}
		for _, m := range st.Mailboxes() {
			if m.Organisation == c.Acting() {
				doors = append(doors, Door{Action: access.Receive, Mailbox: m.ID})
			}
		}
		for _, a := range st.Agreements() {
			if a.Consumer == c.Organisation && (c.Supplier == "" || c.Supplier == a.Supplier) {
				doors = append(doors, Door{Action: access.LookUp, Agreement: a.ID})
			}
		}
		for _, r := range st.Roles() {
			switch {
			case r.Organisation != c.Organisation:
			case r.Role == broker.Auditor:
				doors = append(doors, Door{Action: access.Audit}, Door{Action: access.AuditSubject})
			case r.Role == broker.Operator:
				doors = append(doors, Door{Action: access.Operate})
			}
		}
	})
	slices.SortStableFunc(doors, func(a, b Door) int { return cmp.Compare(a.Action, b.Action) })
	doors = slices.Compact(doors) // a role may be declared twice, for two times
	for i := range doors {
		d := &doors[i]
		err := s.guard.Allow(ctx, c, d.Action, access.Resource{Dataset: d.Dataset, Mailbox: d.Mailbox, Agreement: d.Agreement})
		var no *access.Refusal
		switch {
		case err == nil:
			d.Open = true
		case errors.As(err, &no):
			d.Why = no.Why
		default:
			return nil, err
		}
	}
	return doors, nil
}
