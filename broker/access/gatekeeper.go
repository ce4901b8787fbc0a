package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// Options are what a gatekeeper needs.
type Options struct {
	// View shows the registry. The state must not be kept.
	View func(func(*registry.State))
	// Checker is the access policy.
	Checker Checker
	Log     *slog.Logger
	// Clock is what time it is; nil is the machine's clock.
	Clock func() time.Time
	// Client asks the issuers; nil is one that bounds what they may answer and
	// follows no redirection.
	Client *http.Client
}

// Gatekeeper is the Guard of every door. Any number of goroutines may use it.
type Gatekeeper struct {
	*Verifier
	view  func(func(*registry.State))
	judge judge
	log   *slog.Logger
	index atomic.Pointer[index]
}

var _ Guard = (*Gatekeeper)(nil)

// New makes a gatekeeper, or says what is wrong with its configuration. It asks no
// issuer before the first token comes. Close it when no request is left.
func New(cfg Config, o Options) (*Gatekeeper, error) {
	switch {
	case len(cfg.Issuers) == 0:
		return nil, errors.New("access.issuers: nobody could come in; name the issuers whose tokens count")
	case o.View == nil || o.Checker == nil || o.Log == nil:
		return nil, errors.New("access: a gatekeeper needs a registry, a policy and a log")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	v, err := newVerifier(cfg, o.Clock, o.Client, newMetrics())
	if err != nil {
		return nil, err
	}
	return &Gatekeeper{Verifier: v, view: o.View, judge: judge{checker: o.Checker}, log: o.Log}, nil
}

// Collectors are for main to register.
func (g *Gatekeeper) Collectors() []prometheus.Collector { return g.metrics.Collectors() }

// PolicyDigest names the access policy that decides beside this program.
func (g *Gatekeeper) PolicyDigest() string { return g.judge.checker.Digest() }

// Identify verifies what stands in the Authorization header.
func (g *Gatekeeper) Identify(ctx context.Context, authorization string) (Caller, error) {
	token, err := bearer(authorization)
	if err != nil {
		return Caller{}, err
	}
	return g.Verify(ctx, token)
}

// scopes are what a token must be allowed, by action. Actions that are not here ask
// for no scope of their own.
var scopes = map[Action]string{
	PublishRecords: "publish", ReadRejections: "publish", Receive: "receive", LookUp: "lookup",
	ManageCases: "manage", BringConsents: "manage", Suspend: "manage", StopMailbox: "manage", FreezeDataset: "manage", EndDelegation: "manage", ReportDeviation: "receive", GiveReceipt: "receive", AnswerDeviation: "publish",
	Agree: "manage", Offer: "manage",
	Audit: "audit", AuditOwn: "audit", AuditSubject: "audit", Operate: "operate",
}

// ScopeOf is the scope that an action asks for; "" where it asks for none.
func (c Config) ScopeOf(a Action) string {
	if s := scopes[a]; s != "" {
		return c.ScopePrefix + ":" + s
	}
	return ""
}

// Allow says whether the caller may do it.
func (g *Gatekeeper) Allow(ctx context.Context, c Caller, a Action, r Resource) error {
	q, err := g.question(c, a, r)
	if gone := g.gone(&c); err == nil && gone != "" && a != ReadSelf {
		g.metrics.Decisions.WithLabelValues(string(a), "refuse").Inc()
		return &Refusal{Action: a, Why: gone}
	}
	if err == nil {
		var permit bool
		if permit, err = g.judge.ask(q); err == nil {
			if permit {
				g.metrics.Decisions.WithLabelValues(string(a), "permit").Inc()
				return nil
			}
			g.metrics.Decisions.WithLabelValues(string(a), "refuse").Inc()
			return &Refusal{Action: a, Why: g.why(q)}
		}
	}
	g.metrics.Decisions.WithLabelValues(label(a), "error").Inc()
	if errors.Is(err, errDisagree) {
		g.metrics.Disagreements.Inc()
		g.log.ErrorContext(ctx, "the program and the access policy disagree, so nobody comes in", "question", q, "policy", g.PolicyDigest())
	}
	return err
}

func label(a Action) string {
	if slices.Contains(Actions, a) {
		return string(a)
	}
	return "unknown"
}

// gone says that an organisation that calls, or its supplier, is no more. Neither
// decider is asked then: nobody acts for what does not exist.
func (g *Gatekeeper) gone(c *Caller) (why string) {
	g.view(func(st *registry.State) {
		for _, n := range []broker.OrgNumber{c.Organisation, c.Supplier} {
			if u, ended := st.Ended(n); ended {
				why = fmt.Sprintf("organisation %s is no more, says the register of legal entities: it was deleted or merged on %s", n, u.On.Format(time.DateOnly))
			}
		}
	})
	return why
}

// question reduces a request to what its decision rests on.
func (g *Gatekeeper) question(c Caller, a Action, r Resource) (Question, error) {
	q := Question{Action: a, Citizen: c.Organisation == "", Scope: true}
	switch {
	case !slices.Contains(Actions, a):
		return q, errors.New("access: an endpoint asks for an action that there is not: a mistake in the program")
	case c.Organisation == "" && c.Person.IsZero():
		return q, errors.New("access: nobody calls: a mistake in the program")
	}
	if scope := g.config.ScopeOf(a); scope != "" {
		q.Scope = c.HasScope(scope)
	}
	g.view(func(st *registry.State) {
		// Not before what the registry knows of: a withdrawal that is recorded counts.
		now := g.clock()
		if st.At().After(now) {
			now = st.At()
		}
		x := g.index.Load()
		if x == nil || x.structure != st.Structure() {
			x = newIndex(st)
			g.index.Store(x)
		}
		q.Relation, q.Via = x.relate(st, &c, a, &r, now)
		if c.Organisation != "" {
			q.Auditor = st.HasRole(c.Organisation, broker.Auditor, now)
			q.Operator = st.HasRole(c.Organisation, broker.Operator, now)
		}
	})
	return q, nil
}

// why is what a caller is told. It is the same for what is another's and for what
// there is not.
func (g *Gatekeeper) why(q Question) string {
	switch {
	case q.Action == OwnDisclosures:
		return "this is for citizens, by their own login; an organisation asks GET /audit/decisions"
	case q.Action == OwnConsents:
		return "this is for citizens, by their own login; an organisation has no consents to give"
	case q.Citizen:
		return "this is for organisations; a citizen's login does not open it"
	case !q.Scope:
		return "the token lacks the scope " + g.config.ScopeOf(q.Action)
	}
	switch q.Action {
	case PublishRecords, ReadRejections:
		return "no dataset of that name is yours to publish"
	case FreezeDataset:
		return "no dataset of that name is yours to freeze"
	case AnswerDeviation:
		return "no dataset of that name is yours to answer for"
	case ReportDeviation:
		return "no subscription of that name is yours to report on; a supplier needs a delegation that is recorded and in force"
	case GiveReceipt:
		return "no agreement of that name is yours to give receipts under; a supplier needs a delegation that is recorded and in force"
	case EndDelegation:
		return "no delegation of that name is yours to withdraw: whoever gave it does"
	case Suspend:
		return "no agreement or subscription of that name is yours to suspend: its provider or its consumer does, by its own hands"
	case Agree:
		return "no agreement of that name is yours to take steps in: its provider or its consumer does, by its own hands"
	case Offer, BringConsents:
		return "an organisation does this by its own hands, not a supplier for it"
	case StopMailbox:
		return "no mailbox of that name is yours to stop; a supplier needs a delegation that is recorded and in force"
	case ManageCases:
		return "no subscription of that name is yours to have cases under; a supplier needs a delegation that is recorded and in force"
	case Receive:
		return "no mailbox of that name is yours to read; a supplier needs a delegation that is recorded and in force"
	case LookUp:
		return "no agreement of that name is yours to look up under; a supplier needs a delegation that is recorded and in force"
	case AuditOwn:
		return "you are no party to what you ask about; a supplier names the agreement, and needs a delegation that is recorded and in force"
	case Audit, AuditSubject:
		return "this is for auditors; the registry does not name your organisation as one"
	case Operate:
		return "this is for operators; the registry does not name your organisation as one"
	}
	return "this is not yours to do"
}
