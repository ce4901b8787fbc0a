package flow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/registry"
)

// Committer decides what must be committed before it is answered: lookups, and what
// a door withholds. Those who come while one turn is under way go together into the
// next, so that a request costs less the more there are. A turn:
//
//  1. learns where control ends, and folds up to there;
//  2. decides all that wait, at one revision and one reading of the clock;
//  3. writes their decisions, and waits until they are durable;
//  4. learns again where control ends. Where the revision has moved, what was
//     permitted is judged again, and what is permitted no more is withheld, by a
//     decision of its own; until a look at control finds nothing new;
//  5. answers.
//
// So what is answered was permitted at a revision that was still the newest after
// its decision was durable (docs/decisions/0021-lookups.md). A result of 3 that is
// not known is an error, never an answer. Any number of goroutines may ask.
type Committer struct {
	broker  *Broker
	metrics committerMetrics
	// written is called between 3 and 4. Tests set it.
	written func()
	// patience is how long a turn may take. Tests set it.
	patience time.Duration

	mu      sync.Mutex // guards the next five
	waiting []*asked
	running bool
	closed  bool
	idle    chan struct{} // closed when no turn is under way
	cancel  context.CancelFunc

	// What follows belongs to the turn that is under way.
	life    context.Context
	client  *kgo.Client
	lease   broker.Digest // whose part of the ceilings is used here; new with each client
	usage   map[broker.AgreementID]int64
	spent   map[broker.AgreementID]spending
	last    time.Time // the latest that was judged at
	singles deliver.Singles
	asking  asking
	noted   notes
}

// HeldError says that nothing may be decided just now, and why. It passes.
type HeldError struct{ Why error }

func (e *HeldError) Error() string { return "nothing is decided just now: " + e.Why.Error() }

func (e *HeldError) Unwrap() error { return e.Why }

// ErrInDoubt says that it is not known whether a decision was written. It may stand
// in the log, and nothing was handed over by it.
var ErrInDoubt = errors.New("it is not known whether the decision was written; nothing is handed over")

// ErrUnanswered says that a decision was written and stands in the log, and that
// nothing was handed over by it: whether it still held could not be learnt. It passes.
// Who asks again is decided upon anew, by another decision.
var ErrUnanswered = errors.New("the decision stands in the log, and it could not be learnt whether it still holds: nothing is handed over by it; ask again, for a new decision")

// errTooMuch is of decisions that do not fit into one record.
var errTooMuch = errors.New("the decisions of one request do not fit into one record; ask for less at once")

var errCommitterClosed = errors.New("the instance stops")

const (
	// turnRows bounds a turn, so that its decisions stand in one record.
	turnRows = 2_000
	// turnPatience is how long a turn may take.
	turnPatience = 10 * time.Second
)

// asked is one who waits for a turn: for a lookup, or for what a door withholds.
type asked struct {
	ctx       context.Context
	request   broker.Digest
	questions []Question
	held      []Held

	answers  []Answer
	outcomes []*broker.Outcome
	news     []bool // of held: what was not noted before
	err      error
	done     chan struct{}

	rows     []row    // of the turn
	combined [][]byte // of the turn: a household's answer, by its number less one
}

// rooms is how many rows it may take, from above.
func (a *asked) rooms() (n int) {
	n = len(a.held)
	for i := range a.questions {
		n += max(1, len(a.questions[i].Found))
	}
	return n
}

// Committer is the instance's. Whoever closes the instance's doors closes it.
func (b *Broker) Committer() *Committer {
	b.committing.Do(func() {
		c := &Committer{broker: b, metrics: newCommitterMetrics(), idle: make(chan struct{}), usage: map[broker.AgreementID]int64{}, patience: turnPatience}
		c.life, c.cancel = context.WithCancel(context.Background())
		close(c.idle)
		b.committer = c
	})
	return b.committer
}

// Close ends the turn under way, and lets nobody begin another.
func (c *Committer) Close() {
	c.mu.Lock()
	c.closed = true
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(turnPatience):
		c.cancel()
		<-idle
	}
	c.cancel()
	c.drop()
}

// ask waits for a turn.
func (c *Committer) ask(ctx context.Context, a *asked) error {
	a.ctx, a.done = ctx, make(chan struct{})
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return &HeldError{errCommitterClosed}
	}
	c.waiting = append(c.waiting, a)
	if !c.running {
		c.running, c.idle = true, make(chan struct{})
		go c.turns()
	}
	c.mu.Unlock()
	// Who is gone is passed over when the turn begins; after that the turn decides.
	<-a.done
	return a.err
}

// turns takes turns until nobody waits.
func (c *Committer) turns() {
	for {
		c.mu.Lock()
		var turn []*asked
		rows := 0
		for len(c.waiting) > 0 {
			a := c.waiting[0]
			if n := a.rooms(); len(turn) > 0 && rows+n > turnRows {
				break
			} else {
				rows += n
			}
			turn = append(turn, a)
			c.waiting[0], c.waiting = nil, c.waiting[1:]
		}
		if len(turn) == 0 {
			c.running = false
			close(c.idle)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.turn(turn)
	}
}

// turn decides for all, commits and answers.
func (c *Committer) turn(all []*asked) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(c.life, c.patience)
	defer cancel()
	live := all[:0:0]
	for _, a := range all {
		if err := a.ctx.Err(); err != nil {
			a.err = context.Cause(a.ctx)
			continue
		}
		live = append(live, a)
	}
	err := c.commit(ctx, live)
	if errors.Is(err, errTooMuch) && len(live) > 1 {
		err = nil
		for i := range live {
			c.settle(live[i:i+1], c.commit(ctx, live[i:i+1]))
		}
	}
	c.settle(live, err)
	for _, a := range all {
		close(a.done)
	}
	c.metrics.turn.Observe(time.Since(begun).Seconds())
	c.metrics.requests.Observe(float64(len(all)))
}

// settle tells those whose turn failed.
func (c *Committer) settle(all []*asked, err error) {
	if err == nil {
		return
	}
	for _, a := range all {
		if a.err == nil {
			a.answers, a.outcomes, a.err = nil, nil, err
		}
	}
	c.broker.log.Warn("what was asked could not be decided and committed", "requests", len(all), "err", err)
}

func (c *Committer) commit(ctx context.Context, all []*asked) error {
	if len(all) == 0 {
		return nil
	}
	b := c.broker
	if err := c.open(); err != nil {
		return err
	}
	// What is held back is held back even where lookups are not answered.
	for _, a := range all {
		if len(a.questions) > 0 {
			if err := b.gate(); err != nil {
				return &HeldError{err}
			}
			break
		}
	}
	if err := c.learn(ctx); err != nil {
		return err
	}
	in, short, err := c.decide(ctx, all)
	for err == nil && len(short) > 0 {
		if err = b.lease(ctx, short); err != nil {
			return &HeldError{fmt.Errorf("leasing a part of a ceiling: %w", err)}
		}
		in, short, err = c.decide(ctx, all)
	}
	if err != nil {
		return err
	}
	if err := c.write(ctx, in, all, false); err != nil {
		return err
	}
	if c.written != nil {
		c.written()
	}
	if err := c.confirm(ctx, in, all); err != nil {
		if held, ok := errors.AsType[*HeldError](err); ok {
			err = held.Why // something was decided
		}
		return fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	c.answer(all)
	return nil
}

// confirm looks at control until nothing new was found after the last decision was
// durable, and withholds what is permitted no more. The registry changes seldom;
// where it does not come to rest, nothing is answered.
func (c *Committer) confirm(ctx context.Context, in *instant, all []*asked) error {
	for range 10 {
		if err := c.learn(ctx); err != nil {
			return err
		}
		again, moved, err := c.judge(ctx, in, all)
		if err != nil || !moved {
			return err
		}
		in = again
		if err := c.write(ctx, in, all, true); err != nil {
			return err
		}
	}
	return errors.New("the registry changes faster than can be decided")
}

// learn folds all that was acknowledged by now, on whichever instance.
func (c *Committer) learn(ctx context.Context) error {
	if _, err := c.broker.control.Latest(ctx); err != nil {
		return &HeldError{fmt.Errorf("what has been withdrawn by now could not be learnt: %w", err)}
	}
	return c.broker.control.Err()
}

// instant fixes revision, policy and clock. The caller holds the state for reading.
func (c *Committer) instant(st *registry.State) (*instant, error) {
	b := c.broker
	w, err := b.worlds.at(st)
	if err != nil {
		return nil, &HeldError{err}
	}
	in := &instant{world: w, state: st, revision: st.Revision(), now: b.now()}
	if c.last.After(in.now) {
		in.now = c.last
	}
	if in.now, err = notBefore(in.now, st.At()); err != nil {
		return nil, &HeldError{err}
	}
	c.last = in.now
	in.period, err = b.hasher.Period(in.now)
	return in, err
}

// write makes the rows durable that are to be written now. again is after the first
// time, when there is only what is withheld.
func (c *Committer) write(ctx context.Context, in *instant, all []*asked, again bool) error {
	b := c.broker
	head := deliver.SinglesHeader{Time: in.now, Revision: in.revision, Policy: in.world.digest, Period: in.period,
		Limits: deliver.Limits{RecordBytes: b.limits.MaxBytes, Depth: b.limits.MaxDepth, Window: b.limits.Window,
			WindowMillis: b.limits.WindowAge.Milliseconds(), DeliveryBytes: b.cfg.MaxDelivery}}
	var values [][]byte
	used := c.usage
	for _, kind := range [...]broker.DecisionKind{broker.LookupDecision, broker.DoorDecision} {
		head.Kind, head.TopicID, head.Usage = kind, broker.Digest{}, nil
		if kind == broker.LookupDecision && !again {
			head.TopicID, head.Usage = c.lease, c.usage
		}
		c.singles.Reset(head)
		for _, a := range all {
			for i := range a.rows {
				if r := &a.rows[i]; r.kind == kind && !r.durable {
					c.singles.Add(r.single, []deliver.Decision{r.decision})
				}
			}
		}
		records := c.singles.Finish()
		if kind == broker.LookupDecision && len(records) > 1 {
			return errTooMuch
		}
		values = append(values, records...)
		if kind == broker.LookupDecision && !again {
			used = maps.Clone(c.singles.Usage())
		}
	}
	defer c.singles.Release()
	if len(values) == 0 {
		return nil
	}
	if err := c.produce(ctx, values); err != nil {
		c.metrics.doubts.Inc()
		c.drop() // and with it the lease: what was used of it is not known
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	}
	before := c.usage
	c.usage = used
	for _, a := range all {
		for i := range a.rows {
			if r := &a.rows[i]; !r.durable {
				r.durable = true
				if r.kind == broker.DoorDecision && !r.again {
					c.noted.add(r)
				}
				c.count(r)
			}
		}
	}
	c.ahead(before)
	return nil
}

// produce writes to a partition of decisions. Its error may be of something that was
// written.
func (c *Committer) produce(ctx context.Context, values [][]byte) error {
	b := c.broker
	partition := int32(c.lease[0]) % b.decisionPartitions.Load()
	type result struct {
		last int64
		err  error
	}
	results := make(chan result, len(values))
	for _, v := range values {
		r := &kgo.Record{Topic: b.topics.Decisions(), Partition: partition, Value: v}
		c.client.Produce(ctx, r, func(r *kgo.Record, err error) { results <- result{r.Offset, err} })
	}
	last := int64(-1)
	for range values {
		select {
		case r := <-results:
			if r.err != nil {
				return r.err
			}
			last = max(last, r.last)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// The embedded engine answers success after a failed write.
	if err := b.engine.Err(); err != nil {
		return err
	}
	if b.evidence != nil {
		b.evidence.Decided(partition, last)
	}
	return nil
}

// open makes a producer where there is none, and a lease that goes with it.
func (c *Committer) open() error {
	if c.client != nil {
		return nil
	}
	if c.broker.decisionPartitions.Load() == 0 {
		if err := c.broker.EnsureTopics(c.life); err != nil {
			return &HeldError{err}
		}
	}
	cl, err := c.broker.engine.NewClient(
		kgo.RequiredAcks(kgo.AllISRAcks()), // and idempotent, as it is by default
		kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(turnPatience),
	)
	if err != nil {
		return &HeldError{err}
	}
	c.client = cl
	_, _ = rand.Read(c.lease[:]) // it never fails
	c.usage = map[broker.AgreementID]int64{}
	c.spent = map[broker.AgreementID]spending{}
	return nil
}

// drop ends the producer. What it had under way may still be written.
func (c *Committer) drop() {
	if c.client != nil {
		go c.client.Close()
		c.client = nil
	}
}

// ahead takes note of what was used since before, and asks for leases before they
// are needed.
func (c *Committer) ahead(before map[broker.AgreementID]int64) {
	var short []shortage
	c.broker.control.View(func(st *registry.State) {
		for a, n := range c.usage {
			if g := st.Agreement(a); g != nil {
				p := partition{dataset: g.Dataset, topicID: c.lease, usage: before, spending: c.spent}
				short = p.spend(c.broker, st, time.Now(), map[broker.AgreementID]int64{a: n}, short)
			}
		}
	})
	if len(short) > 0 {
		c.broker.leases.ask(short, false)
	}
}

type committerMetrics struct {
	decisions *prometheus.CounterVec // kind, outcome, reason
	turn      prometheus.Histogram
	requests  prometheus.Histogram
	doubts    prometheus.Counter
}

func newCommitterMetrics() committerMetrics {
	const ns = "datafordeler"
	return committerMetrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: "single_decisions_total",
			Help: "Decisions committed before they were answered, by kind (lookup, door), outcome and first reason."}, []string{"kind", "outcome", "reason"}),
		turn: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: "committer_turn_seconds",
			Help: "To decide and commit what had gathered.", Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}}),
		requests: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: "committer_turn_requests",
			Help: "Requests that were decided and committed together.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}}),
		doubts: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "committer_in_doubt_total",
			Help: "Turns of which it is not known whether their decisions were written; nothing was handed over."}),
	}
}

// Collectors are for main to register.
func (c *Committer) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.metrics.decisions, c.metrics.turn, c.metrics.requests, c.metrics.doubts}
}

// count a row that is durable.
func (c *Committer) count(r *row) {
	outcome, reason := "permit", ""
	if o := r.decision.Outcome; !o.Permit {
		outcome, reason = "deny", string(o.Reasons[0])
	} else if !r.single.Event.IsZero() {
		c.broker.metrics.usage.WithLabelValues(string(r.decision.Terms.Agreement.ID)).Inc()
	}
	c.metrics.decisions.WithLabelValues(r.kind.String(), outcome, reason).Inc()
}
