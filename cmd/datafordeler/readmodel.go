package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/flow/readmodel"
	"datafordeler/broker/kafka"
	"datafordeler/broker/store"
)

// storeOff turns the read model off.
const storeOff = "off"

// storeDSN is where the read model is; "off" where there is none.
func (c Config) storeDSN() string {
	switch {
	case c.Store.DSN != "":
		return c.Store.DSN
	case c.Engine == kafka.EngineKafka:
		return "sqlite:datafordeler.decisions.db"
	}
	// As the keystore, beside the data directory that is meant.
	dir := filepath.Clean(c.Data)
	if base := filepath.Base(dir); base == "." || base == ".." {
		if full, err := filepath.Abs(dir); err == nil {
			dir = full
		}
	}
	return "sqlite:" + dir + ".decisions.db"
}

// Validate names the fault and its remedy, and repeats nothing: there may be a
// password in it.
func (s Store) Validate() error {
	scheme, rest, _ := strings.Cut(s.DSN, ":")
	switch {
	case s.DSN == "" || s.DSN == storeOff:
		return nil
	case scheme != "sqlite" && scheme != "postgres" && scheme != "postgresql":
		return fmt.Errorf("dsn: is neither sqlite:PATH nor postgres://USER@HOST/DATABASE nor off; write one of them")
	case rest == "":
		return fmt.Errorf("dsn: names no database after %s:; write sqlite:PATH or postgres://USER@HOST/DATABASE", scheme)
	}
	return nil
}

// readOptions are which log fills which read model.
func (n *node) readOptions() (readmodel.Options, error) {
	o := readmodel.Options{DSN: n.cfg.storeDSN(), Engine: n.engine, Topics: n.cfg.Topics(), Control: n.control, Log: n.log}
	if o.DSN == storeOff {
		return o, usagef("the read model is turned off (store.dsn: off): name a database in the configuration")
	}
	return o, nil
}

// following is a running instance's part in filling the read model; all of it does
// nothing where that is turned off.
type following struct {
	follower *readmodel.Follower // nil where it is turned off
}

func (n *node) newFollowing() following {
	o, err := n.readOptions()
	if err != nil {
		return following{}
	}
	return following{readmodel.New(o)}
}

func (f following) collectors() []prometheus.Collector {
	if f.follower == nil {
		return nil
	}
	return f.follower.Collectors()
}

// run follows until ctx ends; then wait returns, once it has stopped.
func (f following) run(ctx context.Context) (wait func()) {
	if f.follower == nil {
		return func() {}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.follower.Run(ctx)
	}()
	return func() { <-ended }
}

// settle waits until what is committed now is in the read model, or for so long.
func (f following) settle(ctx context.Context, patience time.Duration) error {
	if f.follower == nil {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.follower.CaughtUp(waiting)
}

// openStore opens the read model to ask it. It says on standard error how far it
// is behind the log, if it is: what was decided last is then not in the answer.
func (n *node) openStore(ctx context.Context, std stdio) (*store.Store, error) {
	o, err := n.readOptions()
	if err != nil {
		return nil, err
	}
	if err := n.engine.EnsureTopics(ctx, n.cfg.DecisionsSpec()); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, o.DSN)
	if err != nil {
		return nil, err
	}
	records, exact, err := readmodel.Behind(ctx, o, s)
	if err != nil {
		s.Close()
		return nil, err
	}
	if records > 0 {
		about := ""
		if !exact {
			about = "about "
		}
		fmt.Fprintf(std.err, "the read model lags: %s%s records of the log are not in it yet; a running broker fills it, or datafordeler rebuild\n", about, thousands(records))
	}
	return s, nil
}
