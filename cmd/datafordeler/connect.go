package main

import (
	"context"
	"crypto/tls"
	"flag"
	"log/slog"
	"strings"

	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// connection is the flags of the commands that need no more than a Kafka to
// talk to: those of providers and consumers.
type connection struct {
	place
	brokers, prefix *string
}

func connectionFlags(fs *flag.FlagSet) connection {
	return connection{placeFlags(fs), fs.String("brokers", "", ""), fs.String("prefix", "", "")}
}

const connectionHelp = `
Which Kafka:
  --brokers HOST:PORT,…   addresses to begin with (no TLS, no login)
  --data DIR              a data directory of the embedded engine, running or not
  --config FILE           a configuration as serve takes it, with TLS and login
  --prefix PREFIX         what topic names begin with; with --config, the file says it
`

// link is a Kafka that can be reached, as the SDK packages want it.
type link struct {
	brokers []string
	prefix  string
	tls     *tls.Config
	sasl    kafka.SASL
	cfg     Config // with --data or --config; its engine is open
	engine  *kafka.Engine
}

// open reads the flags. It connects to the embedded engine, or opens it; an
// Apache Kafka is connected to on first use.
func (c connection) open(ctx context.Context, std stdio) (*link, error) {
	given := 0
	for _, s := range []string{*c.brokers, *c.data, *c.config} {
		if s != "" {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, usagef("which Kafka? Give --brokers HOST:PORT, --data DIR or --config FILE")
	case given > 1:
		return nil, usagef("--brokers, --data and --config exclude each other")
	case *c.config != "" && *c.prefix != "":
		return nil, usagef("--prefix: the configuration file says it")
	}
	if *c.brokers != "" {
		l := &link{prefix: *c.prefix}
		for b := range strings.SplitSeq(*c.brokers, ",") {
			l.brokers = append(l.brokers, strings.TrimSpace(b))
		}
		return l, nil
	}
	var cfg Config
	if *c.config != "" {
		var err error
		if cfg, err = loadConfig(*c.config); err != nil {
			return nil, err
		}
	} else {
		if err := dataThere(*c.data); err != nil {
			return nil, err
		}
		cfg = dataConfig(*c.data)
		cfg.Prefix = *c.prefix
	}
	tlsConfig, err := cfg.TLS.Config()
	if err != nil {
		return nil, usageError{err}
	}
	engine, err := kafka.Open(ctx, cfg.Config, warnings(std), kafka.Attach)
	if err != nil {
		return nil, err
	}
	return &link{brokers: engine.Brokers(), prefix: cfg.Prefix, tls: tlsConfig, sasl: cfg.SASL, cfg: cfg, engine: engine}, nil
}

// close stops the embedded engine where this command opened it.
func (l *link) close() error {
	if l.engine == nil {
		return nil
	}
	return l.engine.Close()
}

// registry shows what the registry says now. It can only be read where --data
// or --config says how to reach the broker's own topics.
func (l *link) registry(ctx context.Context, std stdio, view func(*registry.State)) error {
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	if err := l.engine.Ready(ctx); err != nil {
		return err
	}
	if err := l.engine.EnsureTopics(ctx, l.cfg.ControlSpec()); err != nil {
		return err
	}
	control, err := flow.OpenControlFrom(ctx, l.engine, l.cfg.Topics(), warnings(std), l.cfg.imagePath())
	if err != nil {
		return err
	}
	defer control.Close()
	control.View(view)
	return nil
}

func warnings(std stdio) *slog.Logger {
	return commandLog(std.err, slog.LevelWarn)
}
