package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// node is what every command that touches the broker's state needs, opened in
// one order and closed in the other.
type node struct {
	cfg     Config
	log     *slog.Logger
	engine  *kafka.Engine
	ring    *keys.Ring // nil unless asked for
	control *flow.Control
	located locating // what newLocating made, for the doors
	// outward is by what lookups reach providers; nil verifies by the system's roots.
	outward http.RoundTripper

	mode     kafka.Mode
	life     context.Context
	ended    int           // destroyed periods that are gone here; of open, then of follow
	followed chan struct{} // closed when follow has returned; nil before it begins
}

// reach is how long a command waits for Kafka before it says that it is gone.
const reach = 15 * time.Second

// openNode opens the engine and folds control. withKeys opens the keystore,
// makes it where missing, and holds it to the one registered in control.
func openNode(ctx context.Context, cfg Config, log *slog.Logger, mode kafka.Mode, withKeys bool) (*node, error) {
	engine, err := kafka.Open(ctx, cfg.Config, log, mode)
	if err != nil {
		return nil, err
	}
	n := &node{cfg: cfg, log: log, engine: engine, mode: mode, life: ctx}
	if err := n.open(ctx, withKeys); err != nil {
		n.close()
		return nil, err
	}
	if withKeys {
		n.followed = make(chan struct{})
		go n.follow()
	}
	return n, nil
}

func (n *node) open(ctx context.Context, withKeys bool) error {
	opening, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	if err := n.engine.Ready(opening); err != nil {
		return err
	}
	if err := n.engine.EnsureTopics(opening, n.cfg.ControlSpec()); err != nil {
		return err
	}
	var err error
	// The fold goes on for as long as the command runs.
	if n.control, err = flow.OpenControlFrom(ctx, n.engine, n.cfg.Topics(), n.log, n.cfg.imagePath()); err != nil {
		return err
	}
	if !withKeys {
		return nil
	}
	var registered string
	n.control.View(func(st *registry.State) { registered = st.Keystore() })
	var created bool
	if registered == "" {
		n.ring, created, err = keys.OpenOrCreate(n.cfg.keystorePath(), time.Now())
	} else if n.ring, err = keys.Open(n.cfg.keystorePath()); errors.Is(err, fs.ErrNotExist) {
		// A new one would find no case and no consent that stands.
		return fmt.Errorf("keystore %s is not there, and what is registered was hashed with one (fingerprint %s): "+
			"put a copy of it there, with mode 0600", n.cfg.keystorePath(), registered)
	}
	if err != nil {
		return err
	}
	if created {
		n.log.Info("made a keystore: keep a copy of it, apart from the data", "path", n.cfg.keystorePath())
	}
	if err := n.holdKeys(ctx); err != nil {
		return err
	}
	// A copy that brings a destroyed key back loses it before it is used.
	return n.endPeriods()
}

// holdKeys registers the keystore's fingerprint, or refuses another one.
func (n *node) holdKeys(ctx context.Context) error {
	check := n.ring.Check()
	_, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		switch st.Keystore() {
		case check:
			return nil, nil
		case "":
			return st.Link(time.Now(), "datafordeler", registry.RegisterKeystore(check, ""))
		}
		return nil, fmt.Errorf("the keystore %s is not the one that this broker's records were hashed with (fingerprint %s, registered %s): "+
			"put a copy of the right one there", n.cfg.keystorePath(), check, st.Keystore())
	})
	return err
}

// ensureTopics makes the topics that the registry calls for.
func (n *node) ensureTopics(ctx context.Context) error {
	var specs []kafka.TopicSpec
	var err error
	n.control.View(func(st *registry.State) { specs, err = flow.BrokerTopics(n.cfg.Config, n.cfg.Intake.WindowAge, st) })
	if err != nil {
		return err
	}
	return n.engine.EnsureTopics(ctx, specs...)
}

// activatePolicy makes a bundle the active policy, unless it is.
func (n *node) activatePolicy(ctx context.Context, actor string, bundle policy.Bundle) (changed bool, err error) {
	if _, err := policy.Compile(bundle); err != nil {
		return false, err
	}
	digest := bundle.Digest()
	_, err = n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		if p := st.Policy(); p != nil && p.Digest == digest {
			return nil, nil
		}
		changed = true
		return st.Link(time.Now(), actor, registry.ActivatePolicy(registry.Policy{Digest: digest, Modules: bundle.Modules}))
	})
	return changed, err
}

// bind waits until a revision binds in every source partition, on every instance.
func (n *node) bind(ctx context.Context, rev broker.Revision) error {
	adm, err := n.engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	b := flow.Barrier{Adm: adm, Control: n.control, Topics: n.cfg.Topics(), Group: n.cfg.Flow.Group}
	return b.Await(ctx, rev)
}

func (n *node) close() {
	if n.control != nil {
		n.control.Close()
	}
	if n.followed != nil {
		<-n.followed
	}
	if err := n.engine.Close(); err != nil {
		n.log.Error("closing the engine", "err", err)
	}
}
