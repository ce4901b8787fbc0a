package flow

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	engine    *policy.Engine
	index     *match.Index
	datasets  map[broker.DatasetID]*intake.Dataset
	declared  map[broker.DatasetID]*broker.Dataset // that datasets were compiled from
	cuts      map[*broker.RightsPackage]*minimise.Projection
	routes    map[*broker.Terms]*route
	numbered  []*route // as index numbers them
	fresh     []*route // those that were not in the world before, to compile
}

// route is what a subscription's records go through. Records come for one
// subscription after another, each of whose routes and terms has long left the
// processor's caches: what every record asks for is here, near together.
type route struct {
	terms      *broker.Terms
	prepared   *policy.Prepared // nil: policy could not be prepared, so all is denied
	projection *minimise.Projection
	id         broker.SubscriptionID
	consumer   broker.OrgNumber
	purpose    broker.Purpose
	ends       []time.Time // of what every permit rests on; most have no end
	topic      string
	partitions int32         // of the mailbox's own topic; 0 when it has a bucket of deliveries
	ceiling    bool          // the agreement has one
	notify     bool          // of corrections and retractions, without data
	wanted     atomic.Bool   // asked while not compiled
	bucket     atomic.Uint64 // the bucket of deliveries, under their number
	envelope   deliver.Envelope
	series     atomic.Pointer[series]
}

// newRoute is a route that policy and projection are yet to be given to.
func newRoute(t *broker.Terms, topics kafka.Topics) *route {
	// Of the names each has a copy beside those of the other routes.
	r := &route{terms: t, id: broker.SubscriptionID(strings.Clone(string(t.Subscription.ID))), consumer: t.Agreement.Consumer, purpose: t.Agreement.Purpose,
		ceiling: t.Agreement.Cost.Ceiling > 0, notify: t.Agreement.Corrections == broker.NotifyCorrections, envelope: *deliver.NewEnvelope(t)}
	if t.Mailbox.Channel == broker.KafkaChannel {
		r.topic, r.partitions = topics.Mailbox(string(t.Mailbox.ID)), max(1, t.Mailbox.Partitions)
	} else {
		r.topic = topics.Deliveries()
	}
	end := func(to time.Time) {
		if !to.IsZero() {
			r.ends = append(r.ends, to)
		}
	}
	end(t.Agreement.Valid.To)
	for i := range t.Bases {
		end(t.Bases[i].Valid.To)
	}
	for i := range t.Delegations {
		end(t.Delegations[i].Valid.To)
	}
	return r
}

// bucketOf is the mailbox's among so many buckets.
func (r *route) bucketOf(buckets int32) int32 {
	if known := r.bucket.Load(); int32(known>>32) == buckets {
		return int32(uint32(known))
	}
	n := broker.Bucket(r.terms.Mailbox.ID, buckets)
	r.bucket.Store(uint64(buckets)<<32 | uint64(n))
	return n
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
		engine:    b.engine,
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
		r := newRoute(t, b.topics)
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
	w.numbered = make([]*route, 0, len(all))
	for _, t := range w.index.Terms() {
		w.numbered = append(w.numbered, w.routes[t])
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
