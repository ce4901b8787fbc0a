package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	finding "datafordeler/broker/flow/lookup"
	"datafordeler/broker/flow/positions"
	"datafordeler/broker/registry"
	index "datafordeler/broker/store/positions"
	"datafordeler/broker/web"
	"datafordeler/policy"
)

// addLookups adds the questions about one subject to the API.
func (d *doors) addLookups() (more []prometheus.Collector, end func(), err error) {
	n, c := d.node, d.broker.Committer()
	var where finding.Positions
	if f := n.located.follower; f != nil {
		where = located{f}
	}
	service, err := finding.New(finding.Options{
		Committer: c, View: n.control.View, Hasher: n.ring, Topics: n.cfg.Topics(), Engine: n.engine,
		Positions: where, Providers: finding.NewProviders(n.cfg.Lookups, n.outward, nil), Log: n.log,
	})
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	d.server.RegisterLookups(&lookupAPI{service: service, view: n.control.View})
	return append(service.Collectors(), c.Collectors()...), func() {
		c.Close()
		service.Close()
	}, nil
}

// located is the index of positions, for lookups.
type located struct{ *positions.Follower }

func (l located) Current(ctx context.Context, ds broker.DatasetID, subject broker.SubjectKey, most int) ([]broker.Position, error) {
	entries, err := l.Follower.Current(ctx, ds, subject, index.Bound{}, most)
	out := make([]broker.Position, len(entries))
	for i := range entries {
		out[i] = entries[i].Position
	}
	return out, err
}

// lookupAPI puts the broker's answers into the words of the API.
type lookupAPI struct {
	service *finding.Service
	view    func(func(*registry.State))

	mu     sync.Mutex
	engine *policy.Engine // of the active policy, for its words; guarded by mu
}

func (l *lookupAPI) LookUp(ctx context.Context, items []web.LookupItem, subject string) ([]web.LookupAnswer, error) {
	asked := make([]finding.Item, len(items))
	var fault error
	l.view(func(st *registry.State) {
		for i, x := range items {
			asked[i] = finding.Item{Subscription: x.Subscription, Records: x.Records}
			t := st.Terms(x.Subscription)
			if t == nil || fault != nil {
				continue
			}
			ids, err := subjectsOf(t.Dataset, []listedID{{subject, 1}})
			if err != nil {
				// Never the error itself: it may repeat what was asked for.
				fault = web.SubjectFault(0, fmt.Sprintf("dataset %s is about subjects of kind %s, and this is no identifier of one", t.Dataset.ID, t.Dataset.Subject.Kind))
				continue
			}
			subject = ids[0]
		}
	})
	if fault != nil {
		return nil, fault
	}
	results, err := l.service.LookUp(ctx, asked, subject)
	if err != nil {
		return nil, heldBack(err)
	}
	answers := make([]web.LookupAnswer, len(results))
	for i := range results {
		if answers[i], err = l.answer(items[i].Subscription, &results[i]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func (l *lookupAPI) answer(sub broker.SubscriptionID, r *finding.Result) (web.LookupAnswer, error) {
	a := web.LookupAnswer{Subscription: sub, Outcome: "unavailable"}
	if r.Terms != nil {
		a.Agreement, a.Dataset = r.Terms.Agreement.ID, r.Terms.Dataset.ID
	}
	switch {
	case r.Unavailable != nil:
		// The log has the error itself.
		a.Why, a.Status = "what there is on the subject could not be found out just now; nothing was decided", http.StatusServiceUnavailable
		if p, ok := errors.AsType[*finding.ProviderError](r.Unavailable); ok {
			a.Why, a.RetryAfter = "the provider did not answer", int(math.Ceil(p.After.Seconds()))
			if p.Timeout {
				a.Status = http.StatusGatewayTimeout
			}
		}
		return a, nil
	case r.Outcome == nil:
		return a, errors.New("a question has no answer")
	case len(r.Records) > 0:
		a.Outcome = "found"
	case r.Nothing:
		a.Outcome = "nothing"
	default:
		a.Outcome = "refused"
		a.Reasons = l.words(r.Outcome.Reasons)
	}
	a.Decision = r.Decision.String()
	for i := range r.Records {
		x := &r.Records[i]
		rec := web.LookedUp{Delivery: x.Delivery.String(), Decision: x.Decision.String(), Type: x.Type, Time: x.Time, Kind: x.Kind, Provisional: x.Provisional, Data: x.Data}
		if !x.Of.IsZero() {
			rec.Of = x.Of.String()
		}
		event, err := web.LookupEvent(&a, r.Terms.Dataset.Owner, &rec)
		if err != nil {
			return a, err
		}
		a.Records = append(a.Records, event)
	}
	for _, x := range r.Refused {
		a.Refused = append(a.Refused, web.LookupRefused{Decision: x.Decision.String(), Reasons: l.words(x.Outcome.Reasons)})
	}
	return a, nil
}

// words says reasons as the active policy does.
func (l *lookupAPI) words(reasons []broker.Reason) []web.LookupReason {
	var active *registry.Policy
	l.view(func(st *registry.State) { active = st.Policy() })
	l.mu.Lock()
	defer l.mu.Unlock()
	if active != nil && (l.engine == nil || l.engine.Digest() != active.Digest) {
		l.engine, _ = policy.Compile(policy.Bundle{Modules: active.Modules}) // without it there are codes, and no words
	}
	out := make([]web.LookupReason, len(reasons))
	for i, code := range reasons {
		out[i] = web.LookupReason{Code: code}
		if l.engine == nil {
			continue
		}
		if info, ok := l.engine.Reason(code); ok {
			out[i].Message, out[i].Remedy = info.Message, info.Remedy
		}
	}
	return out
}

// heldBack is an error of the Committer's in the words of the API: what passes is 503.
func heldBack(err error) error {
	if errors.Is(err, flow.ErrInDoubt) || errors.Is(err, flow.ErrUnanswered) {
		return &web.HeldBack{Why: err, Stands: true}
	}
	if _, held := errors.AsType[*flow.HeldError](err); held {
		return &web.HeldBack{Why: err}
	}
	return err
}
