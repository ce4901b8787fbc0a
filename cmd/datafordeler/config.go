package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker/access"
	"datafordeler/broker/flow"
	"datafordeler/broker/flow/evidence"
	finding "datafordeler/broker/flow/lookup"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/web"
	"datafordeler/broker/webhook"
)

//go:generate go test -run ^TestConfigurationDoc$ -update .

// Config is the one configuration, for serve, demo, bench and the command
// line. Each field is documented where it is declared; docs/configuration.md
// is made from the same structs.
type Config struct {
	kafka.Config `yaml:",inline"`
	// Keystore is the file with the keys of all pseudonyms. It is the one thing
	// that cannot be rebuilt: keep a copy, apart from the data. Every instance
	// needs the same one. Made on the first run.
	Keystore Keystore `yaml:"keystore"`
	// Intake bounds what a record may be, and the window of repeats.
	Intake intake.Limits `yaml:"intake"`
	// Flow steers sessions and transactions.
	Flow flow.Config `yaml:"flow"`
	// Ledger steers the evidence: who signs it, and who cosigns.
	Ledger evidence.Config `yaml:"ledger"`
	// Store is the read model: every decision in tables, to be searched.
	Store Store `yaml:"store"`
	// Positions is the index of where the records on a subject lie.
	Positions Positions `yaml:"positions"`
	// Registry is from where a start folds the registry.
	Registry Registry `yaml:"registry"`
	// API is the HTTP API: to publish, receive, look up and audit.
	API web.Config `yaml:"api"`
	// Lookups says whose own endpoints lookups may go to.
	Lookups finding.Config `yaml:"lookups"`
	// Webhooks steers how deliveries are sent to endpoints. Instances with an HTTP API
	// send them.
	Webhooks webhook.Config `yaml:"webhooks"`
	// Access says whose tokens count at the doors, and for how long.
	Access access.Config `yaml:"access"`
	// HTTP is where /metrics, /healthz and /readyz are served.
	HTTP HTTP `yaml:"http"`
	// Log is what is written on standard error.
	Log Log `yaml:"log"`
}

// Keystore says where the keys are.
type Keystore struct {
	// Path of the file, with mode 0600, outside the data directory. Left empty,
	// it is the data directory's name with .keys after it, beside that; for
	// Apache Kafka it is datafordeler.keys.
	Path string `yaml:"path"`
}

// keystorePath is where the keys are: what every command goes by, so that
// --data and --config mean the same file.
func (c Config) keystorePath() string {
	switch {
	case c.Keystore.Path != "":
		return c.Keystore.Path
	case c.Engine == kafka.EngineKafka:
		return "datafordeler.keys"
	}
	dir := filepath.Clean(c.Data)
	if base := filepath.Base(dir); base == "." || base == ".." {
		// Beside the directory that is meant: "..keys" would be inside it.
		if full, err := filepath.Abs(dir); err == nil {
			dir = full
		}
	}
	return dir + ".keys"
}

// Store is the read model: every decision in tables, to be searched.
type Store struct {
	// DSN names its database: sqlite:PATH, or postgres://USER@HOST/DATABASE with
	// the options of libpq. Left empty, it is a file: the data directory's name
	// with .decisions.db after it, beside that; for Apache Kafka it is
	// datafordeler.decisions.db. "off" turns it off. Instances that name the same
	// one share it: one of them fills it. It can be made anew at any time:
	// datafordeler rebuild.
	DSN string `yaml:"dsn"`
}

// Positions is the index of where the records on a subject lie in the source log.
// Lookups, and deliveries to cases that open late, ask it.
type Positions struct {
	// Path of its file. Left empty, it is the data directory's name with
	// .positions.db after it, beside that; for Apache Kafka it is
	// datafordeler.positions.db. "off" turns it off, and with it what asks it. Each
	// instance has one of its own, on its own disk: about 0.1 kB for each record that
	// the source log keeps, and a part of a processor to fill it. It holds keyed
	// hashes and offsets, no identifier. It is disposable: delete it while the
	// instance is down, and it is made anew from the log.
	Path string `yaml:"path"`
}

// Registry is from where a start folds the registry.
type Registry struct {
	// Image is the file that an instance writes what it has folded to, now and then and
	// when it stops, once the registry's log is long, and that a start begins from. Left
	// empty, it is the data directory's name with .registry.image after it, beside that;
	// for Apache Kafka it is datafordeler.registry.image. "off" turns it off. Each
	// instance has one of its own, of about 0.1 kB for each case and consent. It holds
	// keyed hashes of identifiers, no identifier, and is as trusted as the keystore. It
	// is disposable: delete it, and the next start folds the whole log.
	Image string `yaml:"image"`
}

// HTTP is the address that is listened on.
type HTTP struct {
	// Listen is host:port; "" turns it off.
	Listen string `yaml:"listen"`
}

// Log is how much is logged, and how.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is text or json.
	Format string `yaml:"format"`
}

func defaultConfig() Config {
	return Config{
		Config: kafka.Defaults(),
		Intake: intake.Defaults(),
		Flow:   flow.Defaults(),
		Ledger: evidence.Defaults(),
		API:    web.Defaults(),

		Webhooks: webhook.Defaults(),
		Access:   access.Defaults(),
		HTTP:     HTTP{Listen: "127.0.0.1:8080"},
		Log:      Log{Level: "info", Format: "text"},
	}
}

// loadConfig reads a file over the defaults. DATAFORDELER_SLOT in the
// environment gives an instance its slot, so that many can share one file.
func loadConfig(path string) (Config, error) {
	c := defaultConfig()
	b, err := os.ReadFile(path)
	if err != nil {
		return c, usageError{fmt.Errorf("configuration: %w", err)}
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, usagef("configuration %s: %s\nThe keys and their meaning: docs/configuration.md; all of them with their defaults: datafordeler config", path, explainYAML(b, err))
	}
	if slot := os.Getenv("DATAFORDELER_SLOT"); slot != "" {
		c.Flow.Slot = slot
	}
	if err := c.Validate(); err != nil {
		return c, usagef("configuration %s: %w", path, err)
	}
	return c, nil
}

// Validate names what is wrong, with its key.
func (c Config) Validate() error {
	var faults []error
	faults = append(faults, c.Config.Validate())
	for _, part := range []struct {
		key string
		err error
	}{{"intake", c.Intake.Validate()}, {"flow", c.Flow.Validate()}, {"ledger", c.Ledger.Validate()}, {"store", c.Store.Validate()}, {"api", c.API.Validate()}, {"webhooks", c.Webhooks.Validate()}, {"lookups", c.Lookups.Validate()}, {"access", c.Access.Validate()}} {
		for _, err := range each(part.err) {
			faults = append(faults, fmt.Errorf("%s.%w", part.key, err))
		}
	}
	if keys := c.keystorePath(); c.Engine == kafka.EngineEmbedded && within(c.Data, keys) {
		faults = append(faults, fmt.Errorf("keystore.path: %s lies inside the data directory %s; a copy of the data must not carry the keys: name a file outside it", keys, c.Data))
	}
	if key := c.ledgerKeyPath(); c.Engine == kafka.EngineEmbedded && within(c.Data, key) {
		faults = append(faults, fmt.Errorf("ledger.key: %s lies inside the data directory %s; an old copy of the data must not carry the note of what was signed: name a file outside it", key, c.Data))
	}
	if c.Engine == kafka.EngineEmbedded && c.Flow.SessionTimeout < 6*time.Second {
		faults = append(faults, fmt.Errorf("flow.session_timeout: %v is below the 6s that the embedded engine takes", c.Flow.SessionTimeout))
	}
	if c.Retention.Source > 0 && c.Retention.Source < c.Intake.WindowAge {
		faults = append(faults, fmt.Errorf("retention.source: %v is shorter than intake.window_age, %v: repeats could not be recognised after a restart", c.Retention.Source, c.Intake.WindowAge))
	}
	if _, err := newLogger(io.Discard, c.Log); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// each takes apart what errors.Join put together.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

func within(dir, path string) bool {
	d, err1 := filepath.Abs(dir)
	p, err2 := filepath.Abs(path)
	if err1 != nil || err2 != nil {
		return false
	}
	rel, err := filepath.Rel(d, p)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func configCommand() command {
	return command{
		name:    "config",
		summary: "print the effective configuration",
		help: `Usage: datafordeler config [--config FILE]

Prints the configuration that serve would run with, as YAML: the defaults, with
FILE over them. What each key means stands in docs/configuration.md.

Examples:
  datafordeler config > datafordeler.yaml      begin a file of your own
  datafordeler config --config broker.yaml     check a file, see what it comes to
`,
		run: func(_ context.Context, std stdio, args []string) error {
			fs := newFlags("config")
			file := fs.String("config", "", "")
			if err := parse(fs, args, 0, 0); err != nil {
				return err
			}
			c := defaultConfig()
			c.Data = "data"
			if *file != "" {
				var err error
				if c, err = loadConfig(*file); err != nil {
					return err
				}
			}
			enc := yaml.NewEncoder(std.out)
			enc.SetIndent(2)
			if err := enc.Encode(c); err != nil {
				return err
			}
			return enc.Close()
		},
	}
}
