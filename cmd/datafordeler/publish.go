package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/providers"
)

func publishCommand() command {
	return command{
		name:    "publish",
		summary: "publish records to a dataset, as its provider",
		help: `Usage: datafordeler publish --dataset D [flags] FILE.ndjson|-

Publishes each line of the file (- is standard input) as one event. A line is
either the record itself or a CloudEvent in JSON. Every line is checked before
it is sent; at the first that is not right the command stops and names it. An
event's id comes from its content, so publishing a file again repeats nothing:
mend the line and run the same command once more.

  --dataset D      the dataset to publish to
  --source URI     the publishing system (default urn:datafordeler:publish)
  --type T         the CloudEvents type of bare records (default no.datafordeler.record)
  --key POINTER    where in a record its subject stands (JSON Pointer), such as
                   /norskident; records of one subject stay in order
  --schema FILE    the JSON Schema to check against
  --dry-run        check all lines, send nothing
  --json           print what was done as one JSON object

With --data or --config, key and schema come from the registry unless given.
` + connectionHelp + `
Or over HTTP, which needs a token of the provider's in place of a Kafka:
  --url URL          of the broker's API; what it rejects is an error at once
  --token-file FILE  the token, read anew for each request: something else renews it
  --issuer URL       or get tokens oneself, as datafordeler token does, with the
                     client's --client ID and --client-key FILE (and --kid NAME);
                     a local issuer that lets everybody be anybody needs no key

Examples:
  datafordeler publish --data ./data --dataset inntekt november.ndjson
  datafordeler publish --config broker.yaml --dataset inntekt --dry-run november.ndjson
  datafordeler publish --url https://deling.example.no --token-file token --dataset inntekt november.ndjson
  ./export | datafordeler publish --brokers kafka-1:9092 --dataset inntekt --key /norskident -
`,
		run: publish,
	}
}

// publishSummary is what --json prints.
type publishSummary struct {
	Dataset   broker.DatasetID `json:"dataset"`
	Published int64            `json:"published"`
	Checked   int64            `json:"checked"`
	Faulty    int64            `json:"faulty"`
	Bytes     int64            `json:"bytes"` // of payload
	DryRun    bool             `json:"dryRun"`
	Seconds   float64          `json:"seconds"`
}

func publish(ctx context.Context, std stdio, args []string) (err error) {
	fs := newFlags("publish")
	conn := connectionFlags(fs)
	dataset := fs.String("dataset", "", "")
	source := fs.String("source", "urn:datafordeler:publish", "")
	typ := fs.String("type", "no.datafordeler.record", "")
	key := fs.String("key", "", "")
	schemaFile := fs.String("schema", "", "")
	dryRun := fs.Bool("dry-run", false, "")
	asJSON := fs.Bool("json", false, "")
	over := httpFlags(fs)
	if err := parse(fs, args, 1, 1); err != nil {
		return err
	}
	if err := broker.CheckName(*dataset); err != nil {
		return usagef("--dataset: %w", err)
	}
	cfg := providers.Config{Dataset: broker.DatasetID(*dataset), Source: *source, Type: *typ, Subject: broker.Pointer(*key), Timeout: reach}
	if *schemaFile != "" {
		if cfg.Schema, err = os.ReadFile(*schemaFile); err != nil {
			return usagef("--schema: %w", err)
		}
	}
	var in io.Reader = std.in
	if name := fs.Arg(0); name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return usageError{err}
		}
		defer f.Close()
		in = f
	}
	// A dry run needs no Kafka, unless schema and key are to come from there.
	if over.given() {
		if *conn.brokers != "" || *conn.data != "" || *conn.config != "" || *conn.prefix != "" {
			return usagef("--url and a Kafka (--brokers, --data, --config, --prefix) exclude each other")
		}
		if err := over.provide(&cfg); err != nil {
			return err
		}
	} else if !*dryRun || *conn.brokers != "" || *conn.data != "" || *conn.config != "" {
		l, err := conn.open(ctx, std)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.close()) }()
		if err := l.provide(ctx, std, &cfg); err != nil {
			return err
		}
	} else {
		cfg.Brokers = []string{"localhost:9092"} // never connected to
	}
	p, err := providers.New(cfg)
	if err != nil {
		return usageError{err}
	}
	defer p.Close()

	began := time.Now()
	line := newProgress(std.err)
	stop := line.watch(func() string {
		n := line.count.Load()
		return fmt.Sprintf("%d events, %.0f/s", n, float64(n)/time.Since(began).Seconds())
	})
	job := publishJob{p: p, progress: line, dryRun: *dryRun, err: std.err, sum: publishSummary{Dataset: cfg.Dataset, DryRun: *dryRun}}
	failed := job.run(ctx, in)
	stop()
	job.sum.Seconds = time.Since(began).Seconds()
	if *asJSON {
		if err := json.NewEncoder(std.out).Encode(job.sum); err != nil {
			return err
		}
	} else if s := job.sum; *dryRun {
		fmt.Fprintf(std.err, "checked %d lines for dataset %q: %d not right\n", s.Checked, s.Dataset, s.Faulty)
	} else {
		fmt.Fprintf(std.err, "published %d events (%d bytes) to dataset %q in %.1f s\n", s.Published, s.Bytes, s.Dataset, s.Seconds)
	}
	if failed != nil && errors.Is(failed, context.Canceled) && ctx.Err() != nil {
		return errors.New("interrupted; run the same command again to publish the rest: what was published is not repeated")
	}
	return failed
}

// provide fills in how to reach Kafka and, where the registry can be read, what
// it says about the dataset.
func (l *link) provide(ctx context.Context, std stdio, cfg *providers.Config) error {
	cfg.Brokers, cfg.Prefix, cfg.TLS = l.brokers, l.prefix, l.tls
	if l.sasl.Mechanism != "" {
		cfg.SASL = &providers.SASL{Mechanism: l.sasl.Mechanism, Username: l.sasl.Username, Password: l.sasl.Password}
	}
	if l.engine == nil {
		return nil
	}
	var unknown error
	err := l.registry(ctx, std, func(state *registry.State) {
		d := state.Dataset(cfg.Dataset)
		if d == nil {
			unknown = unregistered(state, cfg.Dataset)
			return
		}
		if d.Endpoint != nil {
			unknown = usagef("dataset %q stays with its provider: it is declared with an endpoint, where lookups go; to publish instead, declare it without", string(d.ID))
			return
		}
		if cfg.Subject == "" {
			cfg.Subject = d.Subject.Pointer
		}
		if len(cfg.Schema) > 0 {
			return
		}
		for _, s := range d.Schemas {
			if s.Version == d.Current {
				cfg.Schema, cfg.SchemaURI = s.Document, s.URI
			}
		}
	})
	return errors.Join(err, unknown)
}

func unregistered(state *registry.State, dataset broker.DatasetID) error {
	var known []string
	for _, d := range state.Datasets() {
		known = append(known, string(d.ID))
	}
	if len(known) == 0 {
		known = []string{"none"}
	}
	return fmt.Errorf("dataset %q is not registered; there are: %s; register it with: datafordeler registry apply", dataset, strings.Join(known, ", "))
}

type publishJob struct {
	p        *providers.Publisher
	progress *progress
	dryRun   bool
	err      io.Writer
	sum      publishSummary
}

// One call to Publish takes so many events, and no more bytes than this once it
// has one: enough to fill a batch for each partition, little enough to read the
// next call's while this one's are written.
const (
	publishEvents = 20_000
	publishBytes  = 16 << 20
)

// run publishes, or checks, all that in holds.
func (j *publishJob) run(ctx context.Context, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type chunk struct {
		events []providers.Event
		err    error // after the events
	}
	chunks := make(chan chunk, 1) // one is read ahead
	go func() {
		defer close(chunks)
		for events, err := range gather(providers.ReadNDJSON(in), j.dryRun) {
			select {
			case chunks <- chunk{events, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		var c chunk
		var more bool
		select {
		case c, more = <-chunks:
		case <-ctx.Done(): // the input may be a terminal that stays silent
			return ctx.Err()
		}
		if !more {
			break
		}
		if err := j.take(ctx, c.events); err != nil {
			return err
		}
		var line *providers.LineError
		switch {
		case c.err == nil:
		case j.dryRun && errors.As(c.err, &line):
			j.sum.Checked++
			j.faulty(c.err)
		default:
			return fmt.Errorf("%w; the lines before it are published: mend it, and run the same command again", c.err)
		}
	}
	if j.sum.Faulty > 0 {
		return fmt.Errorf("%d of %d lines are not right", j.sum.Faulty, j.sum.Checked)
	}
	return nil
}

// gather collects events into chunks; an error ends its chunk.
func gather(lines iter.Seq2[providers.Event, error], all bool) iter.Seq2[[]providers.Event, error] {
	return func(yield func([]providers.Event, error) bool) {
		var events []providers.Event
		size := 0
		for e, err := range lines {
			if err == nil {
				events, size = append(events, e), size+len(e.Data)
				if len(events) < publishEvents && size < publishBytes {
					continue
				}
			}
			if !yield(events, err) || err != nil && !all {
				return
			}
			events, size = nil, 0
		}
		if len(events) > 0 {
			yield(events, nil)
		}
	}
}

func (j *publishJob) take(ctx context.Context, events []providers.Event) error {
	if len(events) == 0 {
		return nil
	}
	j.sum.Checked += int64(len(events))
	var size int64
	for _, e := range events {
		size += int64(len(e.Data))
	}
	var failed *providers.Error
	if j.dryRun {
		if errors.As(j.p.Check(events...), &failed) {
			for _, f := range failed.Failures {
				j.faulty(&providers.LineError{Line: f.Line, Err: f.Err})
			}
		}
		j.sum.Bytes += size
		j.progress.count.Add(int64(len(events)))
		return nil
	}
	err := j.p.Publish(ctx, events...)
	if errors.As(err, &failed) && !failed.Refused {
		j.sum.Published += int64(failed.Total - len(failed.Failures))
	}
	if err != nil {
		return err
	}
	j.sum.Published += int64(len(events))
	j.sum.Bytes += size
	j.progress.count.Add(int64(len(events)))
	return nil
}

// faulty tells of the first bad lines of a dry run, and counts the rest.
func (j *publishJob) faulty(err error) {
	const shown = 20
	if j.sum.Faulty++; j.sum.Faulty <= shown {
		j.progress.end()
		fmt.Fprintln(j.err, err)
	} else if j.sum.Faulty == shown+1 {
		fmt.Fprintln(j.err, "…")
	}
}
