package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger/witness"
)

// Sequencer is one instance's candidate for writing the ledger. Of all that run,
// one leads: the one to which the group gave the ledger's only partition.
type Sequencer struct {
	cfg      Config
	group    string // of the instances; the sequencer's own is named after it
	engine   *kafka.Engine
	topics   kafka.Topics
	ledger   *Ledger
	key      *Key
	judge    Judge
	timeouts Timeouts
	log      *slog.Logger
	metrics  *Metrics
	gather   *witness.Gatherer // nil without witnesses
	tooFew   atomic.Bool       // cosigned the last head, as was logged
	heard    map[string]string // by witness, why it did not cosign; of the one that signs

	mu      sync.Mutex
	chosen  bool
	changed chan struct{} // closed and replaced when chosen changes
}

// Timeouts are the flow's own: how long a silent instance leads, and how long
// Kafka waits for the end of its transaction.
type Timeouts struct {
	Session, Transaction time.Duration
}

// SequencerOptions are what a Sequencer is made of.
type SequencerOptions struct {
	Config   Config
	Group    string
	Engine   *kafka.Engine
	Topics   kafka.Topics
	Ledger   *Ledger
	Key      *Key
	Judge    Judge // the flow's Control
	Timeouts Timeouts
	Log      *slog.Logger
	Metrics  *Metrics
}

// NewSequencer makes a candidate. It does nothing before Run.
func NewSequencer(o SequencerOptions) (*Sequencer, error) {
	if n := len(o.Ledger.policy.Witnesses); n != len(o.Config.Witnesses) {
		return nil, fmt.Errorf("the ledger is followed with %d witnesses, and the configuration has %d", n, len(o.Config.Witnesses))
	}
	s := &Sequencer{cfg: o.Config, group: o.Group, engine: o.Engine, topics: o.Topics, ledger: o.Ledger, key: o.Key, judge: o.Judge,
		timeouts: o.Timeouts, log: o.Log, metrics: o.Metrics, changed: make(chan struct{}), heard: map[string]string{}}
	s.gather = s.gatherer()
	if err := s.key.forked(); err != nil { // found before this instance was started
		s.log.Error("a fork of the ledger was proved, and is not settled: deliveries are held", "err", err)
		s.ledger.setBack(err)
	}
	return s, nil
}

// Run stands by, leads when it is this instance's turn, and ends with ctx. What
// goes wrong is logged and tried again: the ledger catches up, and meanwhile
// [Ledger.Late] holds deliveries where that takes too long.
func (s *Sequencer) Run(ctx context.Context) error {
	const firstPause, longestPause = 200 * time.Millisecond, 10 * time.Second
	member, err := s.engine.NewClient(
		kgo.ConsumerGroup(s.group+"-ledger"),
		kgo.ConsumeTopics(s.topics.Ledger()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(s.timeouts.Session),
		kgo.HeartbeatInterval(s.timeouts.Session/4),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) { s.choose(len(got) > 0, true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { s.choose(len(gone) > 0, false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { s.choose(len(gone) > 0, false) }),
	)
	if err != nil {
		return err
	}
	// It is there to be chosen, not to read: the ledger's fold does that.
	member.PauseFetchTopics(s.topics.Ledger())
	var listening sync.WaitGroup
	listening.Go(func() { s.listen(ctx, member) })
	defer listening.Wait()
	defer member.Close()

	pause := firstPause
	for ctx.Err() == nil {
		chosen, changed := s.turn()
		if !chosen {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		begun := time.Now()
		leading, stop := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() {
			select {
			case <-changed:
				stop()
			case <-leading.Done():
			}
		})
		s.log.Info("sequencing the ledger")
		s.metrics.leading.Set(1)
		err := s.lead(leading)
		s.metrics.leading.Set(0)
		moved := leading.Err() != nil
		stop()
		watch.Wait()
		if moved && ctx.Err() == nil {
			s.log.Info("another instance sequences the ledger now")
			continue
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.metrics.restarts.Inc()
		s.ledger.setBack(err)
		if time.Since(begun) > longestPause {
			pause = firstPause
		}
		s.log.Warn("sequencing the ledger failed and begins anew from what is committed", "err", err, "pause", pause)
		sleep(ctx, pause)
		pause = min(2*pause, longestPause)
	}
	return nil
}

// listen logs why the group does not take this instance, once for each reason. It
// ends when the client is closed, which leaves the group: the next one leads at once.
func (s *Sequencer) listen(ctx context.Context, member *kgo.Client) {
	last := ""
	for {
		fetches := member.PollFetches(ctx)
		if fetches.IsClientClosed() || ctx.Err() != nil {
			return
		}
		for _, e := range fetches.Errors() {
			if said := e.Err.Error(); said != last {
				s.log.Warn("this instance cannot stand by to sequence the ledger; where Kafka has access lists, allow the group and the transactional id",
					"group", s.group+"-ledger", "err", e.Err)
				last = said
			}
		}
	}
}

// choose notes that this instance was chosen, or is no longer.
func (s *Sequencer) choose(concerned, chosen bool) {
	if !concerned {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chosen = chosen
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Sequencer) turn() (chosen bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chosen, s.changed
}

// lead writes and signs until ctx ends or something is in doubt. Two instances may
// believe that they lead: Kafka lets only the later one write, and both sign the
// same heads, since both sign what they read back.
func (s *Sequencer) lead(ctx context.Context) error {
	if err := s.key.forked(); err != nil {
		return err
	}
	producer, err := s.engine.NewClient(
		kgo.TransactionalID(s.group+"-ledger"),
		kgo.TransactionTimeout(s.timeouts.Transaction),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(s.timeouts.Transaction+s.timeouts.Session),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		return err
	}
	defer producer.Close()
	// From here whoever led before can write no more, and what it left open is ended.
	beginning, cancel := context.WithTimeout(ctx, 2*s.timeouts.Transaction)
	_, _, err = producer.ProducerID(beginning)
	cancel()
	if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		return fmt.Errorf("transactional id %s-ledger: this user may not write under it; allow it: %w", s.group, err)
	}
	if err != nil {
		return fmt.Errorf("beginning as transactional id %s-ledger: %w", s.group, err)
	}
	// Asked before it is read where the ledger ends: all that was signed by then is read.
	heads, err := s.askWitnesses(ctx)
	if err != nil {
		return err
	}
	end, err := s.settled(ctx, kadm.NewClient(producer))
	if err != nil {
		return err
	}
	if err := s.ledger.await(ctx, func() bool { return s.ledger.doubt == nil && s.ledger.fold.entries >= end }); err != nil {
		return err
	}
	if err := s.continuesKey(ctx); err != nil {
		return err
	}
	if err := s.continues(ctx, heads, true); err != nil {
		return err
	}
	s.ledger.setBack(nil)
	in, err := s.open(ctx, kadm.NewClient(producer))
	if err != nil {
		return err
	}
	defer in.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.append(ctx, producer, in) })
	g.Go(func() error { return s.signLoop(ctx) })
	return g.Wait()
}

// continuesKey holds the ledger to what was signed with this copy of the key. One
// that seems set back is read once more first: the reading may be what is wrong.
func (s *Sequencer) continuesKey(ctx context.Context) error {
	err := s.ledger.Continues(s.key)
	if err == nil || s.ledger.isSetBack() {
		return err
	}
	if err := s.ledger.reread(ctx, err); err != nil {
		return err
	}
	return s.ledger.Continues(s.key)
}

// settled waits until no transaction is open in the ledger, and returns where it
// ends. The last one may have been committed without the partition knowing it yet:
// Kafka can lose such an end in a crash (KAFKA-20734; the flow's mending writes it).
// Its entries could not be read back, would be written once more, and the end of
// that transaction would bring both to light.
func (s *Sequencer) settled(ctx context.Context, adm *kadm.Client) (end int64, err error) {
	topic, said := s.topics.Ledger(), false
	for {
		all, err := adm.ListEndOffsets(ctx, topic)
		if err == nil {
			err = all.Error()
		}
		var stable map[string]map[int32]int64
		if err == nil {
			stable, err = kafka.CommittedEnds(ctx, adm, topic)
		}
		if err != nil {
			return 0, fmt.Errorf("reading where topic %s ends: %w", topic, err)
		}
		if last, _ := all.Lookup(topic, 0); stable[topic][0] == last.Offset {
			return last.Offset, nil
		}
		if !said {
			s.log.Info("waiting for the end of the ledger's last transaction")
			said = true
		}
		if sleep(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// append writes entries for what is decided, until ctx ends or something is in doubt.
func (s *Sequencer) append(ctx context.Context, producer *kgo.Client, in *input) error {
	for {
		entries, err := in.poll(ctx)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			continue
		}
		if err := s.write(ctx, producer, entries); err != nil {
			return err
		}
		s.metrics.entries.Add(float64(len(entries)))
	}
}

// write appends entries in one transaction and waits until they are read back: they,
// not just the offsets where they should stand. What Kafka or the client called
// committed, and is not there, must not be built on.
func (s *Sequencer) write(ctx context.Context, producer *kgo.Client, entries [][]byte) error {
	before := s.ledger.Size()
	if err := producer.BeginTransaction(); err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	// Ended whatever ctx says: half-way is the one place not to be stopped in.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeouts.Transaction+s.timeouts.Session)
	defer cancel()
	records := make([]*kgo.Record, len(entries))
	for i, e := range entries {
		records[i] = &kgo.Record{Topic: s.topics.Ledger(), Value: e}
	}
	results := producer.ProduceSync(ending, records...)
	if err := results.FirstErr(); err != nil {
		_ = producer.EndTransaction(ending, kgo.TryAbort) // if this fails too, whoever leads next ends it
		return fmt.Errorf("writing to topic %s: %w", s.topics.Ledger(), err)
	}
	if err := producer.EndTransaction(ending, kgo.TryCommit); err != nil {
		return fmt.Errorf("committing to topic %s: %w", s.topics.Ledger(), err)
	}
	if err := s.engine.Err(); err != nil {
		return err // the embedded engine answers success after a failed write
	}
	last := records[len(records)-1].Offset
	if err := s.ledger.await(ctx, func() bool { return s.ledger.doubt == nil && s.ledger.fold.entries > last }); err != nil {
		return err
	}
	return s.ledger.ends(before, entries)
}

// ends says whether the ledger as folded is one of before entries and then these.
func (l *Ledger) ends(before int64, entries [][]byte) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if size := l.fold.tree.Size(); size != before+int64(len(entries)) {
		return fmt.Errorf("%d entries were committed after the first %d, and the ledger as read back has %d", len(entries), before, size)
	}
	for i, e := range entries {
		leaf, err := l.fold.leaf(before + int64(i))
		if err != nil {
			return err
		}
		if leaf != tlog.RecordHash(e) {
			return fmt.Errorf("entry %d of the ledger as read back is not the one that was committed", before+int64(i))
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
