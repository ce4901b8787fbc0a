package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// Commands is what changes the registry on a caller's word. Its errors for the caller
// are [*Problem]s.
type Commands interface {
	// Do appends what plan makes of the newest registry; it may be asked several times,
	// as others come first. No change is that it is so already. begun is when the change
	// was handed over; the revision is that after it, folded here.
	Do(ctx context.Context, actor string, plan Plan) (done Done, err error)
	// Await returns when a revision binds, and how long that took since begun, or says
	// that it does not yet when ctx ends. kind is one of a closed set.
	Await(ctx context.Context, done Done, kind string) (took time.Duration, binds bool, err error)
	// Binding says how far a revision has come; known is false where there is none yet.
	Binding(ctx context.Context, rev broker.Revision) (b Binding, known bool, err error)
	// Latest returns when all that was acknowledged anywhere is folded here.
	Latest(ctx context.Context) error
	// Keyed is a hash that nobody without the keystore can guess the text of: what it is
	// made of may be a person's number, and what it makes stands in the log.
	Keyed(text string) broker.Digest
	// Subject hashes an identifier, or says that it is none of its kind.
	Subject(kind broker.SubjectKind, id string) (broker.SubjectKey, error)
	// Consents says what a consent token proves; *access.TokenError is that it does not.
	Consents(ctx context.Context, token string) ([]access.ConsentGrant, error)
}

// Plan makes changes of a state. now is the time that they are made at.
type Plan func(st *registry.State, now time.Time) ([]registry.Change, error)

// Done is a change that was appended.
type Done struct {
	Revision broker.Revision
	Changed  bool
	Begun    time.Time
}

// Binding is how far a revision has come.
type Binding struct {
	Revision broker.Revision `json:"revision"`
	Binds    bool            `json:"binds" doc:"true: nothing that relies on what was before is delivered or answered any more, by any instance"`
	// All are the places where it must bind.
	All     int `json:"partitions" doc:"the partitions of all datasets: in each of them it must bind"`
	Waiting int `json:"waiting" doc:"those in which it does not bind yet"`
	Pending int `json:"pending" doc:"those of them on which a transaction is under way"`
}

// Conflict is the problem type of a command that another change has overtaken.
const Conflict = "urn:datafordeler:problem:conflict"

// NewConflict says what stands in the way of a command, as of a revision.
func NewConflict(rev broker.Revision, why string) *Problem {
	p := NewProblem(http.StatusConflict, why)
	p.Type, p.Revision = Conflict, rev
	return p
}

// ChangeView is what a command came to.
type ChangeView struct {
	Revision broker.Revision `json:"revision" doc:"of the registry, with the change in it"`
	Changed  bool            `json:"changed" doc:"false: it was so already"`
	Binds    bool            `json:"binds" doc:"true: nothing that relies on what was before is delivered or answered any more, by any instance; false: ask the address in Location"`
	Seconds  float64         `json:"seconds,omitempty" doc:"from when the change was handed over until it bound, where it did while the request waited"`
}

// changed is an answer to a command: 200 where it binds, 202 where it does not yet.
type changed[T any] struct {
	Status     int
	Location   string `header:"Location"`
	RetryAfter string `header:"Retry-After"`
	Applied    string `header:"Preference-Applied"`
	Body       T
}

// CommandInput is what every command takes, beside what it is about.
type CommandInput struct {
	Prefer string `header:"Prefer" maxLength:"200" doc:"wait=SECONDS: how long to wait for the change to bind before it is answered 202, 5 where nothing is said and 30 at the most; respond-async: not at all (RFC 7240)"`
	Match  string `header:"If-Match" maxLength:"200" doc:"the ETag of what is changed, as it was seen: 412 where it is another by now"`
}

const (
	defaultBindWait = 5 * time.Second
	longestBindWait = 30 * time.Second
)

// wait reads Prefer (RFC 7240): preferences in any case, some with a value in quotes.
// What is not understood is passed over, as section 2 says.
func (in CommandInput) wait() (d time.Duration, applied string) {
	for p := range strings.SplitSeq(in.Prefer, ",") {
		p, _, _ = strings.Cut(p, ";")
		name, value, _ := strings.Cut(p, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "respond-async":
			return 0, "respond-async"
		case "wait":
			n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err != nil {
				continue
			}
			d = min(time.Duration(n)*time.Second, longestBindWait)
			return d, fmt.Sprintf("wait=%d", int(d.Seconds()))
		}
	}
	return defaultBindWait, ""
}

// commands are the operations that change the registry.
type commands struct {
	s *Server
	c Commands
}

// RegisterCommands adds them: cases, consents, and what stops a flow.
func (s *Server) RegisterCommands(c Commands) {
	x := &commands{s, c}
	x.registerChanges()
	x.registerCases()
	x.registerConsents()
	x.registerForeignConsents()
	x.registerStops()
	x.registerNeeds()
	x.registerAgreements()
	x.registerFrameworks()
}

// commandOperation describes a command.
func commandOperation(id, method, path, tag, summary, description string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{tag}, DefaultStatus: http.StatusOK, Summary: summary,
		Description: strings.TrimSpace(description + " 200 when it binds; 202 where it is recorded and does not bind yet: Location says how far it is."),
		Responses: map[string]*huma.Response{
			"202": {Description: "it is recorded, and does not bind everywhere yet; Location says how far it is", Headers: map[string]*huma.Header{
				"Location": {Schema: &huma.Schema{Type: "string"}, Description: "the state of the change"}}},
			"409": {Description: "it cannot be: another change came first, or what it is about is not as it must be (type " + Conflict + ", with the registry's revision)"},
		},
	}
}

// do appends, waits for the change to bind, and makes the answer. view is asked for its
// body once the change stands.
func do[T any](ctx context.Context, x *commands, in CommandInput, kind string, plan Plan, view func(ChangeView) T) (*changed[T], error) {
	done, err := x.c.Do(ctx, CallerOf(ctx).Actor(), plan)
	if err != nil {
		return nil, err
	}
	wait, applied := in.wait()
	out := &changed[T]{Status: http.StatusOK, Applied: applied}
	v := ChangeView{Revision: done.Revision, Changed: done.Changed}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	took, binds, err := x.c.Await(waiting, done, kind)
	if err != nil {
		return nil, err
	}
	if v.Binds = binds; binds {
		v.Seconds = took.Seconds()
	} else {
		out.Status, out.Location, out.RetryAfter = http.StatusAccepted, changePath(done.Revision), "1"
	}
	out.Body = view(v)
	return out, nil
}

func changePath(rev broker.Revision) string { return "/changes/" + strconv.FormatInt(int64(rev), 10) }

func (x *commands) registerChanges() {
	type out struct {
		RetryAfter string `header:"Retry-After"`
		Body       Binding
	}
	Register(x.s, huma.Operation{
		OperationID: "get-change", Method: http.MethodGet, Path: "/changes/{revision}", Tags: []string{"changes"},
		Summary:     "How far a change of the registry has come to bind",
		Description: "Any instance answers, also after a restart: the answer is read from what the instances have committed.",
	}, Rule{Action: access.ReadSelf}, func(ctx context.Context, in *struct {
		Revision string `path:"revision" maxLength:"19" doc:"as Location named it"`
	}) (*out, error) {
		rev, err := strconv.ParseInt(in.Revision, 10, 63)
		if err != nil || rev < 1 {
			return nil, NewProblem(http.StatusNotFound, "no change has that revision")
		}
		b, known, err := x.c.Binding(ctx, broker.Revision(rev))
		if err != nil {
			return nil, err
		}
		if !known {
			return nil, NewProblem(http.StatusNotFound, "no change has that revision")
		}
		o := &out{Body: b}
		if !b.Binds {
			o.RetryAfter = "1"
		}
		return o, nil
	})
}

// conflict makes a 409 of what a plan finds, at the revision that it found it at.
func conflict(st *registry.State, why string) error { return NewConflict(st.Revision(), why) }

// mayChange is [MayChange] for commands: the tag is of what v is in JSON.
func mayChange(ctx context.Context, v any) error {
	tag, err := TagOfJSON(v)
	if err != nil {
		return err
	}
	return MayChange(ctx, tag, false)
}

var errNoSuchThing = errors.New("what the gate let through is not there")
