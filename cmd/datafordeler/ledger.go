package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/ledger"
	"datafordeler/broker/registry"
)

// ledgerKeyPath is where the key is that signs the ledger's heads.
func (c Config) ledgerKeyPath() string {
	if c.Ledger.Key != "" {
		return c.Ledger.Key
	}
	return c.keystorePath() + ".ledger"
}

// book is the ledger as a running instance has it: followed, and sequenced when
// it is this instance's turn.
type book struct {
	ledger    *evidence.Ledger
	sequencer *evidence.Sequencer
	metrics   *evidence.Metrics
	key       *evidence.Key
	policy    *ledger.Policy
}

// openBook opens the ledger and the key that signs it, made where there is none,
// and holds the key to the one registered in control.
func (n *node) openBook(ctx context.Context) (*book, error) {
	if err := n.engine.EnsureTopics(ctx, n.cfg.DecisionsSpec(), n.cfg.LedgerSpec(), n.cfg.CheckpointsSpec()); err != nil {
		return nil, err
	}
	path := n.cfg.ledgerKeyPath()
	var registered registry.Ledger
	n.control.View(func(st *registry.State) { registered = st.Ledger() })
	if _, err := os.Stat(path); registered.Key != "" && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key that signs the ledger, %s, is not there, and this broker's ledger is signed by %s: put a copy of it there, with mode 0600", path, registered.Key)
	}
	key, created, err := evidence.OpenKey(path, n.cfg.Ledger.Origin)
	if err != nil {
		return nil, err
	}
	if created {
		n.log.Info("made the key that signs the ledger: keep a copy of it, apart from the data, and tell those who check the public one",
			"path", path, "public", key.Public())
	}
	b, err := n.openBookWith(ctx, key)
	if err != nil {
		return nil, err
	}
	// Last, so that a key that does not fit is not registered on the way.
	if err := n.holdLedger(ctx, key.Public()); err != nil {
		b.ledger.Close()
		return nil, err
	}
	return b, nil
}

// openBookWith opens the ledger as it is signed by a key.
func (n *node) openBookWith(ctx context.Context, key *evidence.Key) (*book, error) {
	policy, err := evidence.Trust(n.cfg.Ledger, key.Public())
	if err != nil {
		return nil, err
	}
	b := &book{key: key, policy: policy}
	if b.ledger, err = evidence.Open(ctx, n.engine, n.cfg.Topics(), policy, n.cfg.Ledger.StopAfter, n.log); err != nil {
		return nil, err
	}
	if n.engine.Embedded() { // no transaction is open there: what is missing is gone
		if err := b.ledger.Continues(key); err != nil {
			b.ledger.Close()
			return nil, err
		}
	}
	b.metrics = evidence.NewMetrics(b.ledger)
	b.sequencer, err = evidence.NewSequencer(evidence.SequencerOptions{Config: n.cfg.Ledger, Group: n.cfg.Flow.Group, Engine: n.engine,
		Topics: n.cfg.Topics(), Ledger: b.ledger, Key: key, Judge: n.control, Log: n.log, Metrics: b.metrics,
		Timeouts: evidence.Timeouts{Session: n.cfg.Flow.SessionTimeout, Transaction: n.cfg.Flow.TransactionTimeout}})
	if err != nil {
		b.ledger.Close()
		return nil, err
	}
	return b, nil
}

// holdLedger registers the ledger's name and key, or refuses others.
func (n *node) holdLedger(ctx context.Context, public string) error {
	mine := registry.Ledger{Origin: n.cfg.Ledger.Origin, Key: public}
	_, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		switch have := st.Ledger(); {
		case have.Origin == mine.Origin && have.Key == mine.Key:
			return nil, nil
		case have.Key == "":
			return st.Link(time.Now(), "datafordeler", registry.RegisterLedger(mine))
		default:
			return nil, fmt.Errorf("this broker's ledger is %s, signed by %s; the key in %s is another (%s, %s): put a copy of the right one there",
				have.Origin, have.Key, n.cfg.ledgerKeyPath(), mine.Origin, mine.Key)
		}
	})
	return err
}

func (b *book) collectors() []prometheus.Collector { return b.metrics.Collectors() }

// run sequences when it is this instance's turn, until ctx ends. Then wait
// returns, once it has left.
func (b *book) run(ctx context.Context) (wait func() error) {
	ended := make(chan error, 1)
	go func() { ended <- b.sequencer.Run(ctx) }()
	return func() error {
		err := <-ended
		b.ledger.Close()
		return err
	}
}

// leave gives what was decided last a little time to come under a head, before the
// instance stops; another one sees to it otherwise, or this one when it starts.
func (b *book) leave(ctx context.Context, log *slog.Logger) {
	waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := b.settle(waiting); err != nil {
		log.Warn("stopping before all decisions are under a signed head of the ledger; that comes when an instance runs again", "err", err)
	}
}

// settle waits until what was decided is under a head that counts.
func (b *book) settle(ctx context.Context) error {
	for b.ledger.Age() > 0 {
		if err := b.ledger.Err(); err != nil {
			return err
		}
		select {
		case <-b.ledger.Changed():
		case <-ctx.Done():
			return errors.Join(errors.New("the ledger has no signed head yet over all that was decided"), ctx.Err())
		}
	}
	return nil
}

// short is a key in few characters, to compare by eye.
func short(vkey string) string {
	name, rest, _ := strings.Cut(vkey, "+")
	hash, _, _ := strings.Cut(rest, "+")
	return name + " " + hash
}
