package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/consumers"
)

func consumeCommand() command {
	return command{
		name:    "consume",
		summary: "receive a mailbox's deliveries, as its consumer",
		help: `Usage: datafordeler consume --mailbox M [flags]

Writes each delivery as one line of JSON on standard output: a CloudEvent with
the delivered fields in "data" and where they come from beside it. Counts and
news go to standard error. Repeats are left out.

  --mailbox M         the mailbox to read
  --from WHERE        beginning, end, or a time such as 2026-11-05 or
                      2026-11-05T12:00:00Z (default: the checkpoint, else beginning)
  --checkpoint FILE   keep the position here, and go on from it next time
  --follow            wait for more, until Ctrl-C
  --limit N           stop after N deliveries
  --data-only         write only the delivered fields

Over HTTP, with nothing of Kafka:
  --url URL           the broker's API, such as https://deling.example.no
  --token FILE        an access token, from datafordeler token --out FILE; it is read
                      again when it has ended
` + connectionHelp + `
Examples:
  datafordeler consume --data ./data --mailbox oslo-sosialhjelp
  datafordeler consume --data ./data --mailbox oslo-sosialhjelp --data-only --limit 5
  datafordeler consume --url https://deling.example.no --token token.txt --mailbox oslo-sosialhjelp
  datafordeler consume --brokers kafka-1:9092 --mailbox oslo-sosialhjelp --follow --checkpoint oslo.json >> deliveries.ndjson
`,
		run: consume,
	}
}

func consume(ctx context.Context, std stdio, args []string) (err error) {
	fs := newFlags("consume")
	conn := connectionFlags(fs)
	mailbox := fs.String("mailbox", "", "")
	from := fs.String("from", "", "")
	checkpoint := fs.String("checkpoint", "", "")
	follow := fs.Bool("follow", false, "")
	limit := fs.Int64("limit", 0, "")
	dataOnly := fs.Bool("data-only", false, "")
	url := fs.String("url", "", "")
	token := fs.String("token", "", "")
	asJSON := fs.Bool("json", false, "") // the default, for those who want to say it
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *mailbox == "" {
		return usagef("--mailbox is missing")
	}
	if err := broker.CheckName(*mailbox); err != nil {
		return usagef("--mailbox: %w", err)
	}
	if *limit < 0 {
		return usagef("--limit: %d; write how many deliveries, or leave it out", *limit)
	}
	if *asJSON && *dataOnly {
		return usagef("--json and --data-only exclude each other")
	}
	start, err := startFrom(*from)
	if err != nil {
		return err
	}
	if (*url == "") != (*token == "") {
		return usagef("--url and --token belong together; give both, or neither")
	}
	l := &link{}
	if *url == "" {
		if l, err = conn.open(ctx, std); err != nil {
			return err
		}
	} else if *conn.brokers+*conn.data+*conn.config+*conn.prefix != "" {
		return usagef("--url: over HTTP there is no Kafka to name; leave --brokers, --data, --config and --prefix out")
	}
	defer func() { err = errors.Join(err, l.close()) }()

	if l.engine != nil {
		var unknown error
		err := l.registry(ctx, std, func(state *registry.State) {
			if state.Mailbox(broker.MailboxID(*mailbox)) == nil {
				unknown = fmt.Errorf("mailbox %q is not registered; see: datafordeler registry get mailbox", *mailbox)
			}
		})
		if err := errors.Join(err, unknown); err != nil {
			return err
		}
	}
	out := bufio.NewWriterSize(std.out, 64<<10)
	cfg := consumers.Config{
		Brokers: l.brokers, Prefix: l.prefix, TLS: l.tls, Mailbox: broker.MailboxID(*mailbox),
		From: start, Follow: *follow, Patience: reach,
		Notify: func(n consumers.Notice) {
			if n != consumers.CaughtUp || *follow {
				fmt.Fprintln(std.err, n)
			}
		},
	}
	if l.sasl.Mechanism != "" {
		cfg.SASL = &consumers.SASL{Mechanism: l.sasl.Mechanism, Username: l.sasl.Username, Password: l.sasl.Password}
	}
	if *url != "" {
		cfg.URL, cfg.Token = *url, func(context.Context) (string, error) {
			b, err := os.ReadFile(*token)
			return strings.TrimSpace(string(b)), err
		}
	}
	if *checkpoint != "" {
		cfg.Checkpoints = writtenFirst{consumers.FileStore(*checkpoint), out}
	}
	r, err := consumers.New(cfg)
	if err != nil {
		return usageError{err}
	}
	var line []byte
	var n int64
	err = r.Receive(ctx, func(_ context.Context, d consumers.Delivery) error {
		line = line[:0]
		if *dataOnly {
			line = d.AppendData(line)
		} else {
			line = d.AppendJSON(line)
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
		if *follow {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if n++; n == *limit {
			return consumers.ErrStop
		}
		return nil
	})
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	stats := r.Stats()
	fmt.Fprintf(std.err, "%d deliveries, %d repeats left out\n", stats.Handled, stats.Repeats)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // stopping is how following ends
	}
	return err
}

func startFrom(s string) (consumers.Start, error) {
	switch strings.ToLower(s) {
	case "":
		return consumers.FromCheckpoint(), nil
	case "beginning":
		return consumers.FromBeginning(), nil
	case "end":
		return consumers.FromEnd(), nil
	}
	t, err := broker.ParseTime(s)
	if err != nil {
		return consumers.Start{}, usagef("--from: want beginning, end or a time: %w", err)
	}
	return consumers.FromTime(t), nil
}

// writtenFirst keeps a checkpoint only when what it counts as handled has been
// written.
type writtenFirst struct {
	consumers.Store
	out *bufio.Writer
}

// Save writes out what is held back, then keeps the checkpoint.
func (s writtenFirst) Save(ctx context.Context, c *consumers.Checkpoint) error {
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return s.Store.Save(ctx, c)
}
