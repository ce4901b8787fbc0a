package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/audit"
)

// Problem is an error as RFC 9457 has it. It never repeats what the caller sent,
// which may be a person's number.
type Problem struct {
	Type     string   `json:"type" doc:"names the kind of problem, for programs; about:blank where the status says all" example:"about:blank"`
	Title    string   `json:"title" doc:"the kind of problem, in words" example:"Forbidden"`
	Status   int      `json:"status" doc:"the HTTP status" example:"403"`
	Detail   string   `json:"detail,omitempty" doc:"what is wrong with this request, and what to do"`
	Instance string   `json:"instance,omitempty" doc:"the request's id, as in the header Request-Id and in the broker's log"`
	Faults   []*Fault `json:"errors,omitempty" doc:"where the request is at fault"`
	// Revision is set where another change stands in the way.
	Revision broker.Revision `json:"revision,omitempty" doc:"the registry's, as of which a command cannot be: read what has changed, and decide anew"`
	// Resync is set where a cursor is of no more use.
	Resync string `json:"resync,omitempty" doc:"the cursor to go on from instead of the one that was given; what stood before it is gone"`
}

// Fault is one place where a request is at fault.
type Fault struct {
	Message  string `json:"message" doc:"what is wrong"`
	Location string `json:"location,omitempty" doc:"where: body.limit, query.after, …"`
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// NewProblem is a problem that an operation answers with.
func NewProblem(status int, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

// problems makes the framework's own errors look the same. It is a global of the
// framework's, so it is set once.
var problems = sync.OnceFunc(func() {
	of := func(status int, msg string, errs ...error) huma.StatusError {
		p := NewProblem(status, msg)
		for _, err := range errs {
			var d huma.ErrorDetailer
			switch {
			case err == nil:
			case errors.As(err, &d):
				detail := d.ErrorDetail() // its value is left out: it may be a person's number
				where := detail.Location
				if audit.ElevenDigits(where) { // a parameter may be called anything
					where, _, _ = strings.Cut(where, ".")
				}
				p.Faults = append(p.Faults, &Fault{Message: detail.Message, Location: where})
			default:
				p.Faults = append(p.Faults, &Fault{Message: err.Error()})
			}
		}
		return p
	}
	huma.NewError = of
	huma.NewErrorWithContext = func(_ huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return of(status, msg, errs...)
	}
})

// problemOf is what an error of the guard or of an operation is answered with. An
// error that is not meant for the caller is not told: the log has it, by request id.
func problemOf(err error) *Problem {
	var (
		p *Problem
		t *access.TokenError
		r *access.Refusal
	)
	var held *HeldBack
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &held) && held.Stands:
		return NewProblem(http.StatusServiceUnavailable, "nothing is handed over just now; a decision may stand in the log all the same, and count under a ceiling: ask again after the seconds that Retry-After names, for a new decision")
	case errors.As(err, &held):
		return NewProblem(http.StatusServiceUnavailable, "nothing is decided just now, so nothing is handed over; ask again after the seconds that Retry-After names")
	case errors.As(err, &t):
		return NewProblem(http.StatusUnauthorized, t.Why)
	case errors.As(err, &r):
		return NewProblem(http.StatusForbidden, r.Why)
	}
	return NewProblem(http.StatusInternalServerError, "something failed here, not in your request; try again, and report the request id if it goes on")
}

// writeProblem answers with a problem.
func writeProblem(w http.ResponseWriter, p *Problem) {
	if p.Status == http.StatusNotModified {
		w.WriteHeader(p.Status)
		return
	}
	q := *p
	q.Instance = w.Header().Get(requestIDHeader)
	w.Header().Set("Content-Type", "application/problem+json")
	if q.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="datafordeler"`)
	}
	w.WriteHeader(q.Status)
	_ = json.NewEncoder(w).Encode(&q)
}
