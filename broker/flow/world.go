package flow

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/match"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// world is what the stages work with, compiled from the registry at one
// structure revision. It is read-only and shared by the workers.
type world struct {
	structure broker.Revision
	digest    string // of the active policy
	index     *match.Index
	datasets  map[broker.DatasetID]*intake.Dataset
	declared  map[broker.DatasetID]*broker.Dataset // that datasets were compiled from
	cuts      map[*broker.RightsPackage]*minimise.Projection
	routes    map[*broker.Terms]*route
	fresh     []*route // those that were not in the world before, to compile
}

// route is what a subscription's records go through.
type route struct {
	terms      *broker.Terms
	prepared   *policy.Prepared // nil: policy could not be prepared, so all is denied
	projection *minimise.Projection
	envelope   *deliver.Envelope
	topic      string
	partitions int32 // of the mailbox's own topic; 0 when it has a bucket of deliveries
	series     atomic.Pointer[series]
	wanted     atomic.Bool // asked while not compiled
}

// errNoPolicy holds deliveries until a policy is active.
var errNoPolicy = errors.New("no policy is active, so nothing may be delivered: datafordeler policy activate")

// worlds is the newest world, shared by an instance's sessions.
type worlds struct {
	mu       sync.Mutex // guards all below
	newest   *world
	builder  builder
	compiler compiler
}

// at is the world of a state, which the caller holds for reading. Whichever
// session comes first builds it.
func (ws *worlds) at(st *registry.State) (*world, error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.newest != nil && ws.newest.structure == st.Structure() {
		return ws.newest, nil
	}
	w, err := ws.builder.build(st, ws.newest)
	if err != nil {
		return nil, err
	}
	ws.newest = w
	ws.compiler.add(w.fresh)
	w.fresh = nil
	return w, nil
}

// has reports whether a route is still one of the newest world's.
func (ws *worlds) has(r *route) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.newest != nil && ws.newest.routes[r.terms] == r
}

// forms counts the subscriptions by the form in which policy decides for them.
func (ws *worlds) forms() map[policy.State]int {
	ws.mu.Lock()
	w := ws.newest
	ws.mu.Unlock()
	n := map[policy.State]int{policy.Pending: 0, policy.Compiled: 0, policy.Full: 0}
	if w == nil {
		return n
	}
	for _, r := range w.routes {
		if r.prepared != nil {
			n[r.prepared.State()]++
		}
	}
	return n
}

// builder makes worlds. It keeps the compiled policy from one to the next.
type builder struct {
	topics kafka.Topics
	limits intake.Limits
	log    *slog.Logger
	engine *policy.Engine // the last compiled
}

// build makes a state's world, with what has not changed since old, which may be
// nil. The registry never changes in place what it has handed out, so what has
// the same address is the same.
func (b *builder) build(s *registry.State, old *world) (*world, error) {
	active := s.Policy()
	if active == nil {
		return nil, errNoPolicy
	}
	if b.engine == nil || b.engine.Digest() != active.Digest {
		bundle := policy.Bundle{Modules: active.Modules}
		if have := bundle.Digest(); have != active.Digest {
			return nil, fmt.Errorf("the active policy's digest is %s, but under this version's evaluator it is %s: "+
				"run the version that activated it, or activate the policy again with this one", active.Digest, have)
		}
		engine, err := policy.Compile(bundle)
		if err != nil {
			return nil, fmt.Errorf("the active policy %s does not compile: %w", active.Digest, err)
		}
		b.engine = engine
	}
	w := &world{
		structure: s.Structure(),
		digest:    active.Digest,
		datasets:  map[broker.DatasetID]*intake.Dataset{},
		declared:  map[broker.DatasetID]*broker.Dataset{},
		cuts:      map[*broker.RightsPackage]*minimise.Projection{},
		routes:    map[*broker.Terms]*route{},
	}
	if old == nil {
		old = &world{}
	}
	for _, d := range s.Datasets() {
		if have := old.datasets[d.ID]; have != nil && old.declared[d.ID] == d {
			w.datasets[d.ID], w.declared[d.ID] = have, d
			continue
		}
		compiled, err := intake.Compile(d, b.limits)
		if err != nil {
			return nil, fmt.Errorf("dataset %s: %w", d.ID, err)
		}
		w.datasets[d.ID], w.declared[d.ID] = compiled, d
	}
	all := s.AllTerms()
	w.index = match.New(all)
	for _, t := range all {
		if r := old.routes[t]; r != nil && old.digest == w.digest {
			w.routes[t], w.cuts[t.Package] = r, r.projection
			continue
		}
		r := &route{terms: t, envelope: deliver.NewEnvelope(t)}
		if t.Mailbox.Channel == broker.KafkaChannel {
			r.topic, r.partitions = b.topics.Mailbox(string(t.Mailbox.ID)), max(1, t.Mailbox.Partitions)
		} else {
			r.topic = b.topics.Deliveries()
		}
		var err error
		if r.projection, err = w.projection(t, old); err != nil {
			return nil, fmt.Errorf("rights package %s: %w", t.Package.ID, err)
		}
		if r.prepared, err = b.engine.Prepare(t); err != nil {
			b.log.Error("policy could not be prepared: every record of this subscription is denied",
				"subscription", t.Subscription.ID, "err", err)
			r.prepared = nil
		} else {
			w.fresh = append(w.fresh, r)
		}
		w.routes[t] = r
	}
	return w, nil
}

// projection is a rights package's, one for all that share it.
func (w *world) projection(t *broker.Terms, old *world) (*minimise.Projection, error) {
	p := w.cuts[t.Package]
	if p == nil && old.declared[t.Dataset.ID] == t.Dataset {
		p = old.cuts[t.Package]
	}
	if p == nil {
		var err error
		if p, err = minimise.Compile(t.Package, t.Dataset); err != nil {
			return nil, err
		}
		p = p.OnlyValues()
	}
	w.cuts[t.Package] = p
	return p, nil
}
