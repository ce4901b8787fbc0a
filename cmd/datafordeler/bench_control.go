package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/registry"
)

// controlResult is what bench control --json prints.
type controlResult struct {
	Commands *commandsResult `json:"commands,omitempty"`
	Start    *startResult    `json:"start,omitempty"`
	machine
}

// commandsResult is of consents that were given and withdrawn by commands, each on its
// own, while records were routed. Times are in milliseconds: a consent given is recorded,
// and one withdrawn binds, after.
type commandsResult struct {
	Consents  int         `json:"consents"` // given, and then withdrawn
	Asked     int         `json:"asked"`    // commands a second
	Rate      float64     `json:"rate"`     // that were answered
	Given     boundResult `json:"given"`
	Withdrawn boundResult `json:"withdrawn"`
	Records   int64       `json:"records"` // decided meanwhile
	// Obligations is what the withdrawals laid on receivers.
	Obligations int `json:"obligations"`
}

// startResult is of two starts on one log: from its beginning, and from an image of the
// state before its last part.
type startResult struct {
	Events  int64   `json:"events"`
	Tail    int64   `json:"tail"` // of them, later than the image
	Fold    float64 `json:"fold_s"`
	Image   float64 `json:"image_s"`
	Written float64 `json:"written_s"` // to write the image
	Bytes   int64   `json:"image_bytes"`
	Same    bool    `json:"same"` // the hash of the whole state
}

// benchControl gives and withdraws consents, and starts on a long log.
func benchControl(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench control")
	var f benchFlags
	f.declare(fs, 0)
	consents := fs.Int("consents", 50_000, "")
	rate := fs.Int("rate", 5_000, "")
	routed := fs.Int("record-rate", 1_000, "")
	events := fs.Int64("events", 1_000_000, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *consents < 0 || *consents > 10_000_000:
		return usagef("consents: %d is outside 0 to 10,000,000", *consents)
	case *rate < 1 || *rate > 100_000:
		return usagef("rate: %d is outside 1 to 100,000 commands a second", *rate)
	case *routed < 0 || *routed > 20_000:
		return usagef("record-rate: %d is outside 0 to 20,000 records a second", *routed)
	case *events < 0 || *events > 100_000_000:
		return usagef("events: %d is outside 0 to 100,000,000", *events)
	}
	// As many as may be needed, twice over: commands may take longer than they are asked to.
	f.scenario.Records = max(10_000, 4**consents / *rate * *routed)
	if f.scenario.ConsentShare == 0 {
		f.scenario.ConsentShare = 0.25
	}
	if err := f.check(); err != nil {
		return err
	}
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	b := &controlBench{benchRun: r}
	if err := b.choose(); err != nil {
		return err
	}
	res := controlResult{machine: r.machine()}
	if *consents > 0 {
		if res.Commands, err = b.commands(ctx, *consents, *rate, *routed); err != nil {
			return err
		}
		r.progress.end()
		c := res.Commands
		fmt.Fprintf(r.out, "%s consents given and withdrawn while %s records were decided: %s commands a second of %s asked for\n",
			thousands(int64(c.Consents)), thousands(c.Records), thousands(int64(c.Rate)), thousands(int64(c.Asked)))
		fmt.Fprintf(r.out, "%28s %10s %10s %10s %10s\n", "ms", "p50", "p95", "p99", "max")
		fmt.Fprintf(r.out, "%28s %10.1f %10.1f %10.1f %10.1f\n", "given: recorded after", c.Given.P50, c.Given.P95, c.Given.P99, c.Given.Max)
		fmt.Fprintf(r.out, "%28s %10.1f %10.1f %10.1f %10.1f\n", "withdrawn: binds after", c.Withdrawn.P50, c.Withdrawn.P95, c.Withdrawn.P99, c.Withdrawn.Max)
	}
	if *events > 0 {
		if res.Start, err = b.start(ctx, *events); err != nil {
			return err
		}
		r.progress.end()
		s := res.Start
		fmt.Fprintf(r.out, "a log of %s events is folded in %.1f s; from an image (%.0f MB, written in %.1f s) and the last %s events in %.1f s\n",
			thousands(s.Events), s.Fold, float64(s.Bytes)/1e6, s.Written, thousands(s.Tail), s.Image)
		if !s.Same {
			return errors.New("the two are not the same state")
		}
		fmt.Fprintln(r.out, "both are the same state, by the hash of all of it")
	}
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	_, err = fmt.Fprintf(std.out, "%s engine, %d CPUs, %s\n", res.Engine, res.CPUs, res.Go)
	return err
}

type controlBench struct {
	*benchRun
	to broker.Consent // what all of them say, but for who and which
}

// choose finds an agreement that stands on consent.
func (b *controlBench) choose() error {
	b.node.control.View(func(st *registry.State) {
		for _, a := range st.Agreements() {
			for _, id := range a.Bases {
				if st.Basis(id).Type == broker.Samtykke {
					b.to = broker.Consent{Consumer: a.Consumer, Dataset: a.Dataset, Purpose: a.Purpose}
				}
			}
		}
	})
	if b.to.Consumer == "" {
		return errors.New("no agreement stands on consent")
	}
	return nil
}

func (b *controlBench) consent(name string, i int, now time.Time) broker.Consent {
	c := b.to
	c.ID = broker.ConsentID(name + strconv.Itoa(i))
	c.Subject = b.node.ring.Subject(broker.Person, name+strconv.Itoa(i)) // nobody
	c.Valid = broker.Interval{From: now.UTC()}
	return c
}

// controlWorkers is how many commands may be under way at once.
const controlWorkers = 1024

// commands gives consents and withdraws each some time after, at a rate.
func (b *controlBench) commands(ctx context.Context, consents, rate, routed int) (*commandsResult, error) {
	running, stop := b.governed(ctx, "control")
	defer stop()
	b.node.cfg.Flow.Group = b.prefix + "control" // whose offsets say what binds
	adm, err := b.node.engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	binder := flow.NewBinder(flow.Barrier{Adm: adm, Control: b.node.control, Topics: b.node.cfg.Topics(), Group: b.node.cfg.Flow.Group})
	defer binder.Close()
	api := &commandAPI{node: b.node, binder: binder}

	loading, end := context.WithCancel(ctx)
	defer end()
	loaded := make(chan error, 1)
	go func() { loaded <- b.load(loading, routed) }()
	before := running.Records()

	// A consent is withdrawn when a second's worth more were given.
	lag := min(consents, max(1, rate/2))
	total := 2 * consents
	plan := func(k int) (i int, give bool) { // the k-th command
		switch {
		case k < lag:
			return k, true
		case k >= total-lag:
			return k - consents, false
		case (k-lag)%2 == 0:
			return lag + (k-lag)/2, true
		}
		return (k - lag) / 2, false
	}
	var (
		next      atomic.Int64
		answered  atomic.Int64
		given     = make([]int64, consents)
		withdrawn = make([]int64, consents)
		there     = make([]chan struct{}, consents)
		wait      sync.WaitGroup
		failed    atomic.Pointer[error]
	)
	for i := range there {
		there[i] = make(chan struct{})
	}
	defer b.progress.watch(func() string {
		return fmt.Sprintf("answered %s of %s commands", thousands(answered.Load()), thousands(int64(total)))
	})()
	begun := time.Now()
	for range controlWorkers {
		wait.Go(func() {
			for failed.Load() == nil && ctx.Err() == nil {
				k := int(next.Add(1) - 1)
				if k >= total {
					return
				}
				time.Sleep(time.Until(begun.Add(time.Duration(float64(k) / float64(rate) * float64(time.Second)))))
				i, give := plan(k)
				if !give {
					select {
					case <-there[i]:
					case <-ctx.Done():
						return
					}
				}
				asked := time.Now()
				if err := b.one(ctx, api, i, give); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				took := int64(time.Since(asked))
				if give {
					given[i] = took
					close(there[i])
				} else {
					withdrawn[i] = took
				}
				answered.Add(1)
			}
		})
	}
	wait.Wait()
	seconds := time.Since(begun).Seconds()
	res := &commandsResult{Consents: consents, Asked: rate, Rate: float64(total) / seconds, Records: running.Records() - before}
	end()
	if err := <-loaded; err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	b.node.control.View(func(st *registry.State) { res.Obligations, _ = st.ObligationsOpen(time.Now()) })
	for _, x := range []struct {
		took []int64
		to   *boundResult
	}{{given, &res.Given}, {withdrawn, &res.Withdrawn}} {
		slices.Sort(x.took)
		*x.to = boundResult{percentile(x.took, 0.50), percentile(x.took, 0.95), percentile(x.took, 0.99), percentile(x.took, 1)}
	}
	return res, ctx.Err()
}

// one is a command as a citizen gives it, but for HTTP: it is not taken for done before
// it is recorded, and a withdrawal not before it binds.
func (b *controlBench) one(ctx context.Context, api *commandAPI, i int, give bool) error {
	done, err := api.Do(ctx, "bench", func(st *registry.State, now time.Time) ([]registry.Change, error) {
		if give {
			return []registry.Change{registry.GiveConsent(b.consent("bench-", i, now))}, nil
		}
		return []registry.Change{registry.WithdrawConsent(broker.ConsentID("bench-"+strconv.Itoa(i)), now)}, nil
	})
	if err != nil || give {
		return err
	}
	_, binds, err := api.Await(ctx, done, string(registry.ConsentWithdrawn))
	if err == nil && !binds {
		err = errors.New("a withdrawal does not bind")
	}
	return err
}

// load publishes records at a rate, as long as there are any.
func (b *controlBench) load(ctx context.Context, rate int) error {
	if rate == 0 {
		return nil
	}
	begun := time.Now()
	for from := 0; from < b.scenario.Records; {
		to := min(b.scenario.Records, max(from+1, int(time.Since(begun).Seconds()*float64(rate))))
		if err := b.publish(ctx, from, to); err != nil {
			return err
		}
		from = to
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// start makes the log long, and starts on it twice.
func (b *controlBench) start(ctx context.Context, events int64) (*startResult, error) {
	res := &startResult{Events: events, Tail: events / 20}
	var made atomic.Int64
	defer b.progress.watch(func() string {
		return fmt.Sprintf("wrote %s of %s events", thousands(made.Load()), thousands(events))
	})()
	path := filepath.Join(filepath.Dir(b.node.cfg.Keystore.Path), "bench.image")
	made.Store(int64(b.node.control.Revision()))
	for i := 0; made.Load() < events; {
		before := made.Load()
		// Half of the events give a consent, and half withdraw one.
		part := min(4_000, events-before)
		if tail := events - res.Tail; before < tail {
			part = min(part, tail-before)
		}
		if _, err := b.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
			changes := make([]registry.Change, 0, part)
			now := notBefore(st, time.Now())
			for ; int64(len(changes)) < part; i++ {
				c := b.consent("log-", i, now)
				if changes = append(changes, registry.GiveConsent(c)); int64(len(changes)) < part {
					changes = append(changes, registry.WithdrawConsent(c.ID, now))
				}
			}
			return st.Link(now, "bench", changes...)
		}); err != nil {
			return nil, err
		}
		made.Store(int64(b.node.control.Revision()))
		if at := made.Load(); at >= events-res.Tail && res.Bytes == 0 {
			begun := time.Now()
			var err error
			if _, res.Bytes, err = b.node.control.WriteImage(ctx, path); err != nil {
				return nil, err
			}
			res.Written = time.Since(begun).Seconds()
		}
	}
	res.Events = made.Load()
	if res.Bytes == 0 {
		return nil, fmt.Errorf("the log has %d events already: give more --events", res.Events)
	}
	open := func(path string) (hash broker.Digest, seconds float64, err error) {
		begun := time.Now()
		c, err := flow.OpenControlFrom(ctx, b.node.engine, b.node.cfg.Topics(), b.log, path)
		if err != nil {
			return hash, 0, err
		}
		seconds = time.Since(begun).Seconds()
		defer c.Close()
		if path != "" && c.Imaged() == 0 {
			return hash, 0, errors.New("it did not begin from the image")
		}
		c.View(func(st *registry.State) { hash = st.Hash() })
		return hash, seconds, nil
	}
	from, seconds, err := open(path)
	if err != nil {
		return nil, err
	}
	res.Image = seconds
	whole, seconds, err := open("")
	if err != nil {
		return nil, err
	}
	res.Fold, res.Same = seconds, whole == from
	return res, os.Remove(path)
}
