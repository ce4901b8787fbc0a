package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/deploy/demo"
	"datafordeler/policy"
	"datafordeler/providers/synthetic"
)

func demoCommand() command {
	return command{
		name:    "demo",
		summary: "show the whole walk on this machine, with synthetic records",
		help: `Usage: datafordeler demo [--people N] [--seed S] [--data DIR] [--once] [--json]

Starts the embedded engine, applies a registry of fictitious agreements,
publishes a month of synthetic income records and property tax bases, and routes
them under policy. Then prints, for each subscription, what was in its scope,
permitted and denied, and why.

  --people N     how many people (10,000)
  --seed S       the same seed gives the same records and the same counts (1)
  --data DIR     keep the data there; default is a directory that is removed
  --once         end after the table; else stay up with /metrics, /healthz and
                 the HTTP API, publishing gently
  --json         one JSON object instead of the table; implies --once
  --listen ADDR  where /metrics and /healthz are served (127.0.0.1:8080)
  --api ADDR     where the HTTP API is served (127.0.0.1:8081); "" turns it off
  --issuer ADDR  where a local issuer gives out its tokens (127.0.0.1:8082)
  --verbose      log what the broker does on standard error

Examples:
  datafordeler demo --once
  datafordeler demo --people 1000 --seed 7 --json
  datafordeler demo --data data     then, elsewhere: datafordeler consume --data data --mailbox oslo-sosialhjelp
`,
		run: runDemo,
	}
}

// demoRun is one run of the demonstration.
type demoRun struct {
	node     *node
	broker   *flow.Broker
	config   synthetic.Config
	gen      *synthetic.Generator
	people   int
	out      io.Writer // steps
	progress *progress
	before   flow.Handed // what that stood in the mailboxes when it began
}

func runDemo(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("demo")
	people := fs.Int("people", 10_000, "")
	seed := fs.Uint64("seed", 1, "")
	data := fs.String("data", "", "")
	once := fs.Bool("once", false, "")
	asJSON := fs.Bool("json", false, "")
	listen := fs.String("listen", "127.0.0.1:8080", "")
	api := fs.String("api", "127.0.0.1:8081", "")
	issue := fs.String("issuer", "127.0.0.1:8082", "")
	verbose := fs.Bool("verbose", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	gen := synthetic.Config{People: *people, Seed: *seed}
	if err := gen.Validate(); err != nil {
		return usageError{err}
	}
	*once = *once || *asJSON
	dir := *data
	if dir == "" {
		tmp, err := os.MkdirTemp("", "datafordeler-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = filepath.Join(tmp, "data")
	}
	cfg := dataConfig(dir)
	cfg.HTTP.Listen, cfg.API.Listen, cfg.Flow.Group = *listen, *api, "datafordeler"
	cfg.Webhooks.Loopback = true // all of it is on this machine
	if *once {
		cfg.HTTP.Listen, cfg.API.Listen = "", ""
	}
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelDebug
	}
	log := commandLog(std.err, level)
	var issuer *demoIssuer
	if cfg.API.Listen != "" {
		var err error
		if issuer, err = openDemoIssuer(&cfg, *issue, log); err != nil {
			return err
		}
		defer issuer.close()
	}

	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	n, err := openNode(life, cfg, log, kafka.Own, true)
	if err != nil {
		return err
	}
	defer n.close()
	d := &demoRun{node: n, config: gen, gen: synthetic.New(gen), people: *people, out: std.out, progress: newProgress(std.err)}
	if *asJSON {
		d.out = io.Discard
	}
	if err := d.prepare(ctx, dir); err != nil {
		return err
	}
	book, err := n.openBook(life)
	if err != nil {
		return err
	}
	read, located := n.newFollowing(), n.newLocating()
	d.broker = n.newBroker(book)
	if d.before, err = d.broker.Delivered(ctx); err != nil {
		return err
	}
	doors, err := n.newDoors(d.broker, book, nil) // the embedded engine has no access lists
	if err != nil {
		book.ledger.Close()
		return err
	}
	probes, err := serveHTTP(cfg.HTTP.Listen, d.broker, n.control, slices.Concat(book.collectors(), read.collectors(), located.collectors(), doors.collectors())...)
	if err != nil {
		book.ledger.Close()
		return err
	}
	defer probes.close()
	if err := doors.open(); err != nil {
		book.ledger.Close()
		return err
	}
	defer doors.close()
	sequencing, stopSequencing := context.WithCancel(life)
	left, followed, indexed := book.run(sequencing), read.run(sequencing), located.run(sequencing)

	// The broker runs beside the demonstration, and is drained when that ends.
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.broker.Run(running) }()
	begun := time.Now()
	err = d.play(ctx)
	seconds := time.Since(begun).Seconds()
	d.progress.end()
	if err == nil {
		err = d.report(ctx, std.out, *asJSON, seconds)
	}
	if err == nil {
		err = d.evident(ctx, book)
	}
	if err == nil && *once {
		err = read.settle(ctx, 5*time.Minute)
	}
	if err == nil && !*once {
		fmt.Fprintf(std.out, "\nStill running: http://%s/metrics, /healthz. Publishing gently; end with Ctrl-C.\n", probes.addr)
		if issuer != nil {
			issuer.explain(std.out, doors.server.Addr())
		}
		err = d.goOn(ctx)
	}
	stop()
	runErr := <-ended
	book.leave(life, log)
	stopSequencing()
	runErr = errors.Join(runErr, left())
	followed()
	indexed()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // the user ended it
	}
	return errors.Join(err, runErr)
}

// evident waits until all that was decided is under a signed head, and says which.
func (d *demoRun) evident(ctx context.Context, b *book) error {
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := b.settle(waiting); err != nil {
		return err
	}
	h := b.ledger.Head()
	_, err := fmt.Fprintf(d.out, "\nEvidence: all of it is under a signed head of the ledger, of %s entries, by the key %s.\n",
		thousands(h.Size), short(b.key.Public()))
	return err
}

// prepare registers the policy, the organisations and their agreements, and
// opens the cases and consents.
func (d *demoRun) prepare(ctx context.Context, dir string) error {
	fmt.Fprintf(d.out, "Data in %s\n", dir)
	if _, err := d.node.activatePolicy(ctx, "demo", policy.Embedded()); err != nil {
		return err
	}
	docs, err := demoRegistry()
	if err != nil {
		return err
	}
	plan, _, err := d.node.apply(ctx, docs, "demo", false)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "Registry: %d declarations applied, %d already there\n", plan.Count(registry.Create)+plan.Count(registry.Update), plan.Count(registry.Same))
	if err := d.node.ensureTopics(ctx); err != nil {
		return err
	}
	cases, consents, err := d.openSubjects(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "Subjects: %d cases opened, %d consents given\n", cases, consents)
	return nil
}

// demoRegistry reads the declarations that the binary carries.
func demoRegistry() ([]registry.Document, error) {
	tmp, err := os.MkdirTemp("", "datafordeler-registry-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := os.CopyFS(tmp, demo.Files); err != nil {
		return nil, err
	}
	return registry.Load(tmp)
}

// onCase says who has a case with a municipality's service, and whether it has
// ended: every third of its people, one in eight of them ended.
func (d *demoRun) onCase(i int, p synthetic.Person, municipality string) (has, ended bool) {
	return p.Municipality == municipality && i%3 == 0, i%24 == 0
}

// consents: every eighth person.
func (d *demoRun) consents(i int) bool { return i%8 == 0 }

// openSubjects lists subjects for the subscriptions that go by case or consent.
func (d *demoRun) openSubjects(ctx context.Context) (cases, consents int, err error) {
	numbers := map[broker.OrgNumber]string{}
	for _, m := range synthetic.Municipalities() {
		if m.OrgNumber != "" {
			numbers[broker.OrgNumber(m.OrgNumber)] = m.Number
		}
	}
	now := time.Now()
	always := broker.Interval{From: now.AddDate(-1, 0, 0)}
	over := broker.Interval{From: now.AddDate(-1, 0, 0), To: now.AddDate(0, -1, 0)}
	_, err = d.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		cases, consents = 0, 0
		s := subjects{state: st, ring: d.node.ring, now: now}
		var changes []registry.Change
		for _, t := range st.AllTerms() {
			if t.Subscription.Scope.Kind != broker.ScopeListed {
				continue
			}
			var open, ended, given []string
			for i, p := range d.gen.People() {
				if consentBased(t) {
					if d.consents(i) {
						given = append(given, p.ID)
					}
				} else if has, over := d.onCase(i, p, numbers[t.Agreement.Consumer]); has && over {
					ended = append(ended, p.ID)
				} else if has {
					open = append(open, p.ID)
				}
			}
			for _, list := range []struct {
				ids   []string
				valid broker.Interval
			}{{open, always}, {ended, over}} {
				s.valid = list.valid
				c, err := s.cases(t, list.ids, false)
				if err != nil {
					return nil, err
				}
				changes, cases = append(changes, c...), cases+len(c)
			}
			s.valid = always
			c, err := s.consents(t.Dataset, t.Agreement.Consumer, t.Agreement.Purpose, given, false)
			if err != nil {
				return nil, err
			}
			changes, consents = append(changes, c...), consents+len(c)
		}
		return st.Link(now, "demo", changes...)
	})
	return cases, consents, err
}

func consentBased(t *broker.Terms) bool {
	for _, b := range t.Bases {
		if b.Type == broker.Samtykke {
			return true
		}
	}
	return false
}

// withdraw takes back every other consent, and waits until that binds.
func (d *demoRun) withdraw(ctx context.Context) (n int, took time.Duration, err error) {
	now := time.Now()
	rev, err := d.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		n = 0
		s := subjects{state: st, ring: d.node.ring, now: now}
		var changes []registry.Change
		for _, t := range st.AllTerms() {
			if t.Subscription.Scope.Kind != broker.ScopeListed || !consentBased(t) {
				continue
			}
			var ids []string
			for i, p := range d.gen.People() {
				if d.consents(i) && i%16 == 0 {
					ids = append(ids, p.ID)
				}
			}
			c, err := s.consents(t.Dataset, t.Agreement.Consumer, t.Agreement.Purpose, ids, true)
			if err != nil {
				return nil, err
			}
			changes, n = append(changes, c...), n+len(c)
		}
		return st.Link(now, "demo", changes...)
	})
	if err != nil {
		return n, 0, err
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = d.node.bind(waiting, rev)
	return n, time.Since(now), err
}

// play is the month: the first half of the people, with what providers get
// wrong; a drain; the withdrawal; the other half, with corrections.
func (d *demoRun) play(ctx context.Context) error {
	watch := d.progress.watch(func() string {
		t := d.broker.Totals()
		return fmt.Sprintf("decided %s of %s records · %s decisions · %s permitted", thousands(t.Records), thousands(d.progress.count.Load()),
			thousands(t.Decisions), thousands(t.Permitted))
	})
	defer watch()
	half := d.people / 2
	step := func(what string, fn func() error) error {
		begun := time.Now()
		if err := fn(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		fmt.Fprintf(d.out, "%s (%v)\n", what, time.Since(begun).Round(time.Millisecond))
		return nil
	}
	if err := step("Published the first half, and what providers get wrong", func() error {
		if err := d.publish(ctx, 0, half); err != nil {
			return err
		}
		return d.publishFaults(ctx)
	}); err != nil {
		return err
	}
	if err := step("Decided and delivered", func() error { return d.drain(ctx) }); err != nil {
		return err
	}
	var n int
	if err := step("Withdrew every other consent, binding on every instance", func() error {
		var err error
		n, _, err = d.withdraw(ctx)
		return err
	}); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "  %d consents withdrawn\n", n)
	if err := step("Published the other half, with corrections and retractions", func() error {
		if err := d.publish(ctx, half, d.people); err != nil {
			return err
		}
		return d.publishChanges(ctx)
	}); err != nil {
		return err
	}
	return step("Decided and delivered", func() error { return d.drain(ctx) })
}

// drain waits for the broker, or for what ended it.
func (d *demoRun) drain(ctx context.Context) error {
	draining, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	stopped := d.broker.Stopped()
	go func() {
		select {
		case <-stopped:
			cancel(errors.New("the broker stopped"))
		case <-done:
		}
	}()
	err := d.broker.Drain(draining)
	if err == nil {
		err = d.caughtUp(draining)
	}
	if err == nil {
		err = d.broker.Drain(draining) // and counted
	}
	if cause := context.Cause(draining); err != nil && cause != nil {
		return cause
	}
	return err
}

// caughtUp waits for what cases and consents bring of what was published before them.
func (d *demoRun) caughtUp(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := flow.BackfillLeft(ctx, d.node.engine, d.node.cfg.Topics(), d.node.cfg.Flow.Group, d.node.control)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(left, func(p flow.BackfillProgress) bool { return !p.Done() }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// thousands groups digits.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
