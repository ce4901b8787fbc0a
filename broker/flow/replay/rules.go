package replay

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/match"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// rules are what one side, the recorded or the candidate's, decides by. They
// follow a state from structure to structure and keep what has not changed.
type rules struct {
	fixed   *policy.Engine            // the candidate's; nil for the state's own
	engines map[string]*policy.Engine // by digest; nil for one that cannot be made here
	why     map[string]string         // why it cannot
	now     *world

	mu       sync.Mutex // guards datasets
	datasets map[datasetKey]*intake.Dataset
}

type datasetKey struct {
	declared     *broker.Dataset
	bytes, depth int
}

func newRules(fixed *policy.Engine) *rules {
	return &rules{fixed: fixed, engines: map[string]*policy.Engine{}, why: map[string]string{}, datasets: map[datasetKey]*intake.Dataset{}}
}

// world is a structure, compiled. It is shared by the workers.
type world struct {
	structure broker.Revision
	state     *registry.State
	digest    string // of the policy that was active; "" before the first
	engine    *policy.Engine
	unable    string // why there is no engine
	index     *match.Index
	routes    map[*broker.Terms]*route
	numbered  []*route // as index numbers them
}

// route is what a subscription's records go through. It is made when first asked
// for: few of many subscriptions are met in a short stretch of the log.
type route struct {
	terms      *broker.Terms
	once       sync.Once
	prepared   *policy.Prepared // nil: policy could not be prepared, so all is denied
	projection *minimise.Projection
	scope      *match.Scope // for lookups, which ask about one record
	err        error
	asked      atomic.Int64
	compile    sync.Once
}

// at is the world of a state. The caller holds the state still.
func (r *rules) at(st *registry.State) *world {
	if r.now != nil && r.now.structure == st.Structure() && r.now.state == st {
		return r.now
	}
	w := &world{structure: st.Structure(), state: st, routes: map[*broker.Terms]*route{}}
	if p := st.Policy(); p != nil {
		w.digest = p.Digest
		w.engine, w.unable = r.engine(p)
	} else {
		w.unable = "no policy was active"
	}
	if r.fixed != nil {
		w.engine, w.unable = r.fixed, ""
	}
	all := st.AllTerms()
	w.index = match.New(all)
	for _, t := range all {
		if r.now != nil && r.now.engine == w.engine {
			if have := r.now.routes[t]; have != nil {
				w.routes[t] = have
				continue
			}
		}
		w.routes[t] = &route{terms: t}
	}
	for _, t := range w.index.Terms() {
		w.numbered = append(w.numbered, w.routes[t])
	}
	r.now = w
	return w
}

// engine compiles the bytes that control holds. Another version of the evaluator
// might answer otherwise, and its digest says so: then nothing is claimed.
func (r *rules) engine(p *registry.Policy) (*policy.Engine, string) {
	if e, ok := r.engines[p.Digest]; ok {
		return e, r.why[p.Digest]
	}
	bundle := policy.Bundle{Modules: p.Modules}
	var e *policy.Engine
	why := ""
	if have := bundle.Digest(); have != p.Digest {
		why = fmt.Sprintf("policy %s was activated by a version with another evaluator (here its digest is %s): replay with that version", p.Digest, have)
	} else if made, err := policy.Compile(bundle); err != nil {
		why = fmt.Sprintf("policy %s does not compile: %v", p.Digest, err)
	} else {
		e = made
	}
	r.engines[p.Digest], r.why[p.Digest] = e, why
	return e, why
}

// dataset is a declaration compiled under a batch's limits.
func (r *rules) dataset(d *broker.Dataset, l deliver.Limits) (*intake.Dataset, error) {
	k := datasetKey{d, l.RecordBytes, l.Depth}
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := r.datasets[k]; have != nil {
		return have, nil
	}
	limits := intake.Defaults()
	limits.MaxBytes, limits.MaxDepth = l.RecordBytes, l.Depth
	made, err := intake.Compile(d, limits)
	if err == nil {
		r.datasets[k] = made
	}
	return made, err
}

// compileAfter is how many times a subscription is asked for in full before its
// policy is compiled: for a few records that costs more than it saves.
const compileAfter = 16

// ready makes the route, once.
func (x *route) ready(e *policy.Engine) *route {
	x.once.Do(func() {
		x.prepared, _ = e.Prepare(x.terms) // without it all is denied, as it was then
		p, err := minimise.Compile(x.terms.Package, x.terms.Dataset)
		if err != nil {
			x.err = fmt.Errorf("rights package %s: %w", x.terms.Package.ID, err)
			return
		}
		x.projection, x.scope = p.OnlyValues(), match.ScopeOf(x.terms)
	})
	return x
}

func (x *route) decide(ctx context.Context, f *broker.Facts, m *policy.Memo) (*broker.Outcome, error) {
	if x.asked.Add(1) == compileAfter {
		x.compile.Do(func() { _ = x.prepared.Compile(ctx) }) // else it stays with full evaluation: slower, and the same
	}
	return x.prepared.Decide(ctx, f, m)
}
