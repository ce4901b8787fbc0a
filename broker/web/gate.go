package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

const requestIDHeader = "Request-Id"

// Rule says who may use an endpoint. Its action is judged for the dataset, mailbox,
// agreement, subscription or delegation that stands in the path as {dataset}, {mailbox},
// {agreement}, {subscription} or {delegation}. An operation that finds what it is about in its
// body asks Server.Allow itself.
type Rule struct {
	Action access.Action
	// Or lets in a caller who may do that instead, whatever is named.
	Or access.Action
	// OrElse lets in a caller who may do that, as Or does.
	OrElse access.Action
	// Query is true where dataset, agreement and subscription may stand in the query
	// too, as filters, and the caller must be entitled to those that do.
	Query bool
	// Public lets everybody in, with no token. Why says for what reason.
	Public bool
	Why    string
	// Once, if not nil, lets callers send an Idempotency-Key.
	Once *Once
}

// gate stands before every endpoint.
type gate struct {
	server *Server
	mux    *http.ServeMux
	rules  map[string]Rule // by "METHOD /path"
}

// HandleFunc registers an endpoint. One without a rule is a mistake in the program.
func (g *gate) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	rule, ok := g.rules[pattern]
	if !ok {
		panic("web: no rule says who may use " + pattern)
	}
	g.mux.Handle(pattern, g.server.guarded(pattern, rule, handler))
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

// visit is a request that came in, for those who have its context.
type visit struct {
	id     string
	caller access.Caller // nobody on a public endpoint
	header http.Header   // the request's
	answer http.Header   // of the answer; nil where there is none
	once   [32]byte      // see IdempotencyOf
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{}
}

// CallerOf is who makes the request that ctx belongs to. It is nobody on a public
// endpoint.
func CallerOf(ctx context.Context) access.Caller { return visitOf(ctx).caller }

// Register adds an operation, and who may use it, to the API and its document.
func Register[I, O any](s *Server, op huma.Operation, rule Rule, handler func(context.Context, *I) (*O, error)) {
	s.declare(&op, rule)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, s.failed(ctx, op, err)
		}
		return out, nil
	})
}

// Handle adds an operation that reads and writes the connection itself, such as a
// stream. Its handler's error is answered as a problem, if nothing was written yet.
func (s *Server) Handle(op huma.Operation, rule Rule, handler func(http.ResponseWriter, *http.Request) error) {
	s.declare(&op, rule)
	s.api.OpenAPI().AddOperation(&op)
	s.gate.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
		if err := handler(w, r); err != nil {
			p := s.failed(r.Context(), op, err)
			if a, ok := w.(interface{ begun() bool }); ok && a.begun() {
				panic(http.ErrAbortHandler)
			}
			writeProblem(w, p)
		}
	})
}

// declare notes the rule, and says in the document what it asks for.
func (s *Server) declare(op *huma.Operation, rule Rule) {
	if op.Extensions == nil {
		op.Extensions = map[string]any{}
	}
	if rule.Public {
		op.Extensions["x-datafordeler-public"] = rule.Why
		op.Security = []map[string][]string{}
	} else {
		op.Extensions["x-datafordeler-action"] = string(rule.Action)
		if rule.Or != "" {
			op.Extensions["x-datafordeler-or"] = string(rule.Or)
		}
		if rule.OrElse != "" {
			op.Extensions["x-datafordeler-or-else"] = string(rule.OrElse)
		}
		op.Security = []map[string][]string{{"token": {}}}
	}
	if rule.Once != nil {
		if rule.Public {
			panic("web: " + op.OperationID + " is for nobody in particular, so no answer of it can be kept for anybody")
		}
		describeOnce(op, rule.Once)
	}
	s.gate.rules[op.Method+" "+op.Path] = rule
}

// failed is what the caller is told of an error; the log has the rest.
func (s *Server) failed(ctx context.Context, op huma.Operation, err error) *Problem {
	if errors.Is(err, errNotModified) {
		return errNotModified
	}
	p := problemOf(err)
	p.Instance = requestID(ctx)
	if _, held := errors.AsType[*HeldBack](err); held && visitOf(ctx).answer != nil {
		visitOf(ctx).answer.Set("Retry-After", "5")
	}
	if p.Status >= 500 && ctx.Err() == nil {
		s.log.Error("a request failed", "operation", op.OperationID, "request", p.Instance, "err", err)
	}
	return p
}

func requestID(ctx context.Context) string { return visitOf(ctx).id }

// Allow asks whether the request's caller may do it, for operations whose resource
// stands in their body.
func (s *Server) Allow(ctx context.Context, a access.Action, r access.Resource) error {
	return s.guard.Allow(ctx, CallerOf(ctx), a, r)
}

// guarded is the walk of a request, up to its operation.
func (s *Server) guarded(pattern string, rule Rule, handler http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var id [12]byte
		_, _ = rand.Read(id[:]) // it never fails
		request := hex.EncodeToString(id[:])
		a := &answer{ResponseWriter: w}
		a.Header().Set(requestIDHeader, request)
		a.Header().Set("X-Content-Type-Options", "nosniff")
		a.Header().Set("Cache-Control", "no-store") // an operation may say otherwise
		begun := time.Now()
		caller, err := s.admit(a, r, rule)
		s.metrics.InFlight.Inc()
		defer func() {
			s.metrics.InFlight.Dec()
			thrown := recover()
			if thrown != nil && thrown != http.ErrAbortHandler {
				s.log.Error("a request failed: a mistake in the program", "operation", pattern, "request", request, "err", fmt.Sprint(thrown))
				if a.status == 0 {
					writeProblem(a, problemOf(errors.New("panic")))
				}
			}
			// The rest of a body that nobody read is not waited for without end.
			_ = http.NewResponseController(a).SetReadDeadline(time.Now().Add(5 * time.Second))
			took := time.Since(begun)
			s.metrics.Requests.WithLabelValues(pattern, strconv.Itoa(a.status)).Inc()
			s.metrics.Seconds.WithLabelValues(pattern).Observe(took.Seconds())
			s.log.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("operation", pattern), slog.String("request", request),
				slog.Int("status", a.status), slog.Duration("took", took), slog.String("caller", caller.Actor()))
			if thrown == http.ErrAbortHandler {
				panic(thrown) // the connection is cut, so that nobody takes half an answer for all of it
			}
		}()
		if err != nil {
			p := problemOf(err)
			if p.Status >= 500 {
				s.log.Error("a caller could not be checked, so nobody comes in", "operation", pattern, "request", request, "err", err)
				p = NewProblem(http.StatusServiceUnavailable, "who you are could not be checked just now, so nobody comes in; try again, and report the request id if it goes on")
				a.Header().Set("Retry-After", "5")
			}
			writeProblem(a, p)
			return
		}
		v := &visit{id: request, header: r.Header, answer: a.Header()}
		ctx := context.WithValue(r.Context(), visitKey{}, v)
		if !rule.Public {
			v.caller = caller
			// A stream does not outlive the token that opened it.
			if !caller.Expires.IsZero() {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadlineCause(ctx, caller.Expires, errTokenEnded)
				defer cancel()
			}
		}
		r = r.WithContext(ctx)
		if key := r.Header.Values(idempotencyHeader); rule.Once != nil && len(key) > 0 {
			if err := s.answers.serve(a, r, v, *rule.Once, pattern, handler); err != nil {
				writeProblem(a, s.failed(ctx, huma.Operation{OperationID: pattern}, err))
			}
			return
		}
		handler(a, r)
	})
}

var errTokenEnded = &access.TokenError{Why: "the token has ended; get a new one and go on from the last cursor"}

// admit says who calls, or why they may not.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, rule Rule) (access.Caller, error) {
	now := time.Now()
	// Before the token is looked at: whoever sends rubbish is bounded too.
	if err := limited429(w, s.strangers, "from "+remoteHost(r), now); err != nil {
		return access.Caller{}, err
	}
	if err := tidy(r); err != nil {
		return access.Caller{}, err
	}
	if rule.Public {
		return access.Caller{}, nil
	}
	c, err := s.guard.Identify(r.Context(), r.Header.Get("Authorization"))
	if err != nil {
		return access.Caller{}, err
	}
	who := string(c.Organisation) + " " + c.Client
	if !c.Person.IsZero() {
		who = "person " + c.Person.Number() // a key in memory, never printed
	}
	if err := limited429(w, s.clients, who, now); err != nil {
		return c, err
	}
	named := r.PathValue
	if rule.Query {
		named = r.URL.Query().Get
	}
	err = s.guard.Allow(r.Context(), c, rule.Action, access.Resource{
		Dataset:      broker.DatasetID(named("dataset")),
		Mailbox:      broker.MailboxID(r.PathValue("mailbox")),
		Agreement:    broker.AgreementID(named("agreement")),
		Subscription: broker.SubscriptionID(named("subscription")),
		Delegation:   broker.DelegationID(r.PathValue("delegation")),
	})
	if _, refused := errors.AsType[*access.Refusal](err); refused {
		for _, instead := range []access.Action{rule.Or, rule.OrElse} {
			if instead != "" && s.guard.Allow(r.Context(), c, instead, access.Resource{}) == nil {
				return c, nil
			}
		}
	}
	return c, err
}

func limited429(w http.ResponseWriter, l *limiter, client string, now time.Time) error {
	wait, ok := l.take(client, now)
	if ok {
		return nil
	}
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds)))
	return NewProblem(http.StatusTooManyRequests, "too many requests; go on after the seconds that Retry-After names")
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if i := strings.IndexByte(host, '%'); i >= 0 {
		host = host[:i]
	}
	return host
}

// answer remembers the status that was written.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) begun() bool { return a.status != 0 }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach deadlines and flushing.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
