package web

import (
	"context"
	"errors"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/audit"
	"datafordeler/broker/store"
)

// SubjectAnswer is a page of what was decided on a subject.
type SubjectAnswer struct {
	DecisionsPage
	Months    int             `json:"months" doc:"how many months were searched"`
	Destroyed []string        `json:"destroyed,omitempty" doc:"months that cannot be searched any more, since their keys were destroyed"`
	Revision  broker.Revision `json:"revision" doc:"of the registry's log, where it stands that the caller asked"`
}

type subjectIn struct {
	Format
	Body struct {
		Kind       string `json:"kind" enum:"person,organisation,property" doc:"what the identifier is of"`
		Identifier string `json:"identifier" minLength:"1" maxLength:"64" doc:"the national identity number, organisation number or property's id"`
		Reason     string `json:"reason" minLength:"1" maxLength:"500" doc:"why it is asked; it stands in the registry's log"`
		From       string `json:"from,omitempty" doc:"not before this time"`
		To         string `json:"to,omitempty" doc:"before this time"`
		Order      string `json:"order,omitempty" enum:"newest,oldest" doc:"which comes first; newest"`
		Limit      int    `json:"limit,omitempty" minimum:"1" maximum:"1000" default:"100" doc:"the most decisions on a page"`
		Cursor     string `json:"cursor,omitempty" maxLength:"100" doc:"next of the page before, with the same body"`
	}
}

func (a *auditing) subject(ctx context.Context, in *subjectIn) (*huma.StreamResponse, error) {
	b := &in.Body
	q := audit.SubjectQuestion{Kind: broker.SubjectKind(b.Kind), ID: audit.NewIdentifier(b.Identifier), Actor: CallerOf(ctx).Actor(), Reason: b.Reason,
		Oldest: b.Order == "oldest", Limit: b.Limit, Cursor: b.Cursor}
	b.Identifier = ""
	if q.Limit == 0 {
		q.Limit = store.DefaultLimit
	}
	var err error
	if q.From, q.To, err = (&Window{b.From, b.To}).times(); err != nil {
		return nil, inBody(told(err))
	}
	found, err := a.desk.Subject(ctx, q)
	if err != nil {
		return nil, inBody(told(err))
	}
	hits := newHits(&found.Page)
	out := in.write(SubjectAnswer{DecisionsPage{hits, found.Page.Next}, found.Periods, found.Destroyed, found.Revision}, hitRows(hits), "subject")
	if found.Page.Next != "" {
		write := out.Body
		out.Body = func(ctx huma.Context) {
			ctx.SetHeader("Next-Cursor", found.Page.Next) // a table has no other place for it
			write(ctx)
		}
	}
	return out, nil
}

// inBody says that what is at fault stands in the body.
func inBody(err error) error {
	if p, ok := errors.AsType[*Problem](err); ok {
		for _, f := range p.Faults {
			f.Location = strings.Replace(f.Location, "query.", "body.", 1)
		}
	}
	return err
}
