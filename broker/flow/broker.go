package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"datafordeler/broker"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// Broker is one instance: it decides and routes the records of the source
// partitions that its group gives it.
type Broker struct {
	cfg     Config
	engine  *kafka.Engine
	kafka   kafka.Config
	topics  kafka.Topics
	limits  intake.Limits
	hasher  Hasher
	control *Control
	log     *slog.Logger
	metrics *Metrics
	actor   string
	// now is the clock. Tests set it.
	now      func() time.Time
	evidence Evidence

	deliveryBuckets    atomic.Int32
	decisionPartitions atomic.Int32

	unmended atomic.Pointer[string] // a partition that is stuck and needs a person; see lost.go
	worlds   worlds
	pulses   []pulse       // one a session
	stopped  chan struct{} // closed when Run has returned
	totals   totals
	leases   *leaser
	// positions is nil where the instance has no index.
	positions Positions
	unindexed sync.Once // said that it has none
	filling   rate
	counting  sync.RWMutex // held for reading from before a commit until it is counted

	committing sync.Once // makes committer
	committer  *Committer
}

// Options are what a Broker is made of.
type Options struct {
	Config  Config
	Kafka   kafka.Config
	Intake  intake.Limits
	Engine  *kafka.Engine
	Hasher  Hasher
	Control *Control
	Log     *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Evidence is what becomes of the decisions; nil asks nobody.
	Evidence Evidence
	// Positions is where subjects' records lie; nil: cases and consents bring nothing
	// of what was published before them.
	Positions Positions
}

// Evidence follows decisions until they are evident. It is used by several
// goroutines.
type Evidence interface {
	// Late is asked before each transaction; an error, which says why, holds
	// deliveries until it is gone.
	Late() error
	// Decided is told of each committed record of decisions that was the last of
	// its transaction in its partition of the topic decisions.
	Decided(partition int32, offset int64)
}

// New makes an instance. It does nothing before Run.
func New(o Options) *Broker {
	b := &Broker{
		cfg: o.Config, engine: o.Engine, kafka: o.Kafka, topics: o.Kafka.Topics(), limits: o.Intake,
		hasher: o.Hasher, control: o.Control, log: o.Log, now: o.Now, evidence: o.Evidence,
		actor: "datafordeler/" + o.Config.Group + "-" + o.Config.Slot,
	}
	if b.now == nil {
		b.now = time.Now
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.stopped = make(chan struct{})
	b.positions, b.filling.per = o.Positions, float64(o.Config.Backfill.RecordsPerSecond)
	b.leases = newLeaser()
	b.worlds.builder = builder{topics: b.topics, limits: b.limits, log: b.log}
	b.worlds.compiler.wake = make(chan struct{}, 1)
	b.pulses = make([]pulse, b.cfg.sessions())
	b.metrics = newMetrics(b)
	return b
}

// Metrics are the instance's collectors, for main to register.
func (b *Broker) Metrics() *Metrics { return b.metrics }

// Stopped is closed when Run has returned.
func (b *Broker) Stopped() <-chan struct{} { return b.stopped }

// Run decides and routes until ctx ends; then it finishes the transactions under
// way, leaves the group and returns nil. Any other return is a reason that a
// person must look at.
func (b *Broker) Run(ctx context.Context) error {
	defer close(b.stopped)
	if err := b.EnsureTopics(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { b.worlds.compiler.run(ctx, b); return nil })
	g.Go(func() error { b.leaseLoop(ctx); return nil })
	for n := range b.pulses {
		g.Go(func() error { return b.member(ctx, n) })
	}
	mending, stopMending := context.WithCancel(ctx)
	var mended sync.WaitGroup
	mended.Go(func() { b.mendLoop(mending) })
	defer mended.Wait()
	defer stopMending()
	return g.Wait()
}

// member is one of the instance's memberships in the group: session after
// session, until ctx ends or a reason to stop the instance turns up.
func (b *Broker) member(ctx context.Context, n int) error {
	const firstPause, longestPause = 100 * time.Millisecond, 10 * time.Second
	pause := firstPause
	for ctx.Err() == nil {
		begun := time.Now()
		err := b.session(ctx, n)
		var fatal stopError
		switch {
		case errors.As(err, &fatal):
			return err
		case ctx.Err() != nil:
			return nil
		}
		b.metrics.restarts.Inc()
		b.pulses[n].hold("the session begins anew: " + err.Error()) // until the loop has turned
		if time.Since(begun) > longestPause {
			pause = firstPause
		}
		b.log.Warn("the session ended and begins anew from what is committed", "session", n, "err", err, "pause", pause)
		b.pause(ctx, pause)
		pause = min(2*pause, longestPause)
	}
	return nil
}

func (b *Broker) session(ctx context.Context, n int) error {
	var topics []string
	b.control.View(func(st *registry.State) {
		for _, d := range st.Datasets() {
			topics = append(topics, b.topics.Source(string(d.ID)))
		}
	})
	for len(topics) == 0 { // nothing to consume yet: wait for the first dataset
		changed := b.control.Changed()
		b.control.View(func(st *registry.State) {
			for _, d := range st.Datasets() {
				topics = append(topics, b.topics.Source(string(d.ID)))
			}
		})
		if len(topics) > 0 {
			break
		}
		b.pulses[n].beat()
		select {
		case <-changed:
		case <-time.After(b.cfg.Idle):
		case <-ctx.Done():
			return nil
		}
		if err := b.control.Err(); err != nil {
			return stop(err)
		}
	}
	if err := b.EnsureTopics(ctx); err != nil {
		return err
	}
	s, err := b.newSession(n, topics)
	if err != nil {
		return err
	}
	defer s.close()
	return s.run(ctx)
}

// EnsureTopics makes the topics that the registry calls for, where missing.
func (b *Broker) EnsureTopics(ctx context.Context) error {
	adm, err := b.engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	var specs []kafka.TopicSpec
	b.control.View(func(st *registry.State) { specs, err = BrokerTopics(b.kafka, b.limits.WindowAge, st) })
	if err != nil {
		return err
	}
	if err := kafka.EnsureTopics(ctx, adm, specs...); err != nil {
		return err
	}
	ends, err := adm.ListTopics(ctx, b.topics.Deliveries(), b.topics.Decisions())
	if err != nil {
		return err
	}
	buckets := len(ends[b.topics.Deliveries()].Partitions)
	decisions := len(ends[b.topics.Decisions()].Partitions)
	if buckets == 0 || decisions == 0 {
		return fmt.Errorf("topics %s and %s are not there yet", b.topics.Deliveries(), b.topics.Decisions())
	}
	b.deliveryBuckets.Store(int32(buckets))
	b.decisionPartitions.Store(int32(decisions))
	return nil
}

// BrokerTopics are all topics of a broker but control, with how long each is to
// keep. window is for how long repeats are recognised: a source that kept for
// less could not tell one after a restart, so that is an error, and nobody's
// topic is made shorter.
func BrokerTopics(cfg kafka.Config, window time.Duration, st *registry.State) ([]kafka.TopicSpec, error) {
	kept := Retention(cfg, st)
	for _, d := range st.Datasets() {
		if k := kept.Source[d.ID]; k.For > 0 && k.For < window {
			return nil, fmt.Errorf("the source of dataset %s would keep for %v (%s), and repeats are recognised for %v (intake.window_age): declare at least as long, or shorten the window",
				d.ID, k.For, k.Why, window)
		}
	}
	deliveries := cfg.DeliveriesSpec()
	deliveries.Retention = kept.Deliveries.For
	return append([]kafka.TopicSpec{deliveries, cfg.DecisionsSpec()}, RegistryTopics(cfg, st)...), nil
}

// Retention is how long each topic with records of persons keeps them.
func Retention(cfg kafka.Config, st *registry.State) *registry.Retention {
	return st.Retention(RetentionDefaults(cfg))
}

// RetentionDefaults are the configuration's, for what declares nothing.
func RetentionDefaults(cfg kafka.Config) registry.RetentionDefaults {
	return registry.RetentionDefaults{Source: cfg.Retention.Source, Rejected: cfg.Retention.Rejected, Deliveries: cfg.Retention.Deliveries}
}

// RegistryTopics are the topics that a registry's datasets and mailboxes need.
func RegistryTopics(cfg kafka.Config, st *registry.State) []kafka.TopicSpec {
	var specs []kafka.TopicSpec
	kept := Retention(cfg, st)
	for _, d := range st.Datasets() {
		source := cfg.SourceSpec(string(d.ID))
		if d.Partitions > 0 {
			source.Partitions = d.Partitions
		}
		source.Retention = kept.Source[d.ID].For
		rejected := cfg.RejectedSpec(string(d.ID))
		rejected.Retention = kept.Rejected[d.ID].For
		specs = append(specs, source, rejected)
	}
	for _, m := range st.Mailboxes() {
		if m.Channel == broker.KafkaChannel {
			spec := cfg.MailboxSpec(string(m.ID))
			spec.Partitions = max(1, m.Partitions)
			spec.Retention = kept.Mailbox[m.ID].For
			specs = append(specs, spec)
		}
	}
	return specs
}

// gate says why no transaction may begin now.
func (b *Broker) gate() error {
	if err := b.engine.Err(); err != nil {
		return err
	}
	if b.engine.Embedded() {
		if free, low, err := b.engine.DiskFree(); err != nil {
			return err
		} else if low {
			return fmt.Errorf("only %d MB of disk are free, below the reserve: free some space; nothing is lost meanwhile", free>>20)
		}
	}
	if b.evidence != nil {
		if err := b.evidence.Late(); err != nil {
			return fmt.Errorf("deliveries are held for want of evidence: %w", err)
		}
	}
	return nil
}

func (b *Broker) pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (b *Broker) workers() int {
	if b.cfg.Workers > 0 {
		return b.cfg.Workers
	}
	return runtime.GOMAXPROCS(0)
}
