package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"datafordeler/broker/flow"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/ledger"
)

// ledgerResult is what bench ledger prints.
type ledgerResult struct {
	Records int           `json:"records"`
	Rounds  []ledgerRound `json:"rounds"`
	machine
	// Medians: decisions a second without and with the ledger beside, what of the
	// rate remains, how long after the last decision a head covered it, and
	// decisions verified a second.
	Alone, With, Share, Behind, Verified float64
}

type ledgerRound struct {
	Alone    float64 `json:"alone"`
	With     float64 `json:"with"`
	Behind   float64 `json:"behind_seconds"`
	Entries  int64   `json:"entries"`
	Verified float64 `json:"verified"`
}

// benchLedger routes the same records without and with the ledger beside, on one
// machine, and verifies what was entered.
func benchLedger(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench ledger")
	var f benchFlags
	f.declare(fs, 200_000)
	rounds := fs.Int("rounds", 3, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *rounds < 3 {
		return usagef("rounds: %d is too few for a median: give 3 or more", *rounds)
	}
	if err := f.check(); err != nil {
		return err
	}
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	step := "publishing"
	defer r.progress.watch(func() string { return step + " · " + thousands(r.progress.count.Load()) + " records" })()
	if err := r.publish(ctx, 0, f.scenario.Records); err != nil {
		return err
	}
	res := ledgerResult{Records: f.scenario.Records, machine: r.machine()}
	fmt.Fprintf(r.out, "%8s %16s %16s %8s %14s %14s\n", "", "decisions/s", "with ledger/s", "share", "head after, s", "verified/s")
	row := func(name string, b ledgerRound, share float64) {
		r.progress.end()
		fmt.Fprintf(r.out, "%8s %16s %16s %8.2f %14.2f %14s\n", name, thousands(int64(b.Alone)), thousands(int64(b.With)), share, b.Behind, thousands(int64(b.Verified)))
	}
	for i := range *rounds {
		step = fmt.Sprintf("round %d of %d", i+1, *rounds)
		var b ledgerRound
		if b.Alone, _, err = r.evident(ctx, "alone-"+strconv.Itoa(i), nil); err != nil {
			return fmt.Errorf("%s, without the ledger: %w", step, err)
		}
		if b.With, _, err = r.evident(ctx, "ledger-"+strconv.Itoa(i), &b); err != nil {
			return fmt.Errorf("%s, with the ledger: %w", step, err)
		}
		res.Rounds = append(res.Rounds, b)
		row("round "+strconv.Itoa(i+1), b, over(b.With, b.Alone))
	}
	of := func(get func(ledgerRound) float64) float64 {
		var all []benchRound // median takes these
		for _, b := range res.Rounds {
			all = append(all, benchRound{Raw: get(b)})
		}
		return median(all, func(b benchRound) float64 { return b.Raw })
	}
	res.Alone, res.With = of(func(b ledgerRound) float64 { return b.Alone }), of(func(b ledgerRound) float64 { return b.With })
	res.Behind, res.Verified = of(func(b ledgerRound) float64 { return b.Behind }), of(func(b ledgerRound) float64 { return b.Verified })
	res.Share = over(res.With, res.Alone)
	r.progress.end()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	row("median", ledgerRound{Alone: res.Alone, With: res.With, Behind: res.Behind, Verified: res.Verified}, res.Share)
	_, err = fmt.Fprintf(std.out, "%s records, %s subscriptions, fan-out %d; %s engine, %d CPUs, %s\n", thousands(int64(res.Records)),
		thousands(int64(f.scenario.Subscriptions)), f.scenario.Fanout, res.Engine, res.CPUs, res.Go)
	return err
}

// evident routes all records, in topics made anew, and gives the decisions a second
// once transactions have found their size. With b, the ledger is written and signed
// beside, and verified afterwards.
func (r *benchRun) evident(ctx context.Context, group string, b *ledgerRound) (rate float64, t flow.Totals, err error) {
	cfg := r.node.cfg
	topics := cfg.Topics()
	if err := bench.Delete(ctx, r.node.engine, topics.Deliveries(), topics.Decisions(), topics.Ledger(), topics.Checkpoints()); err != nil {
		return 0, t, err
	}
	if err := r.node.engine.EnsureTopics(ctx, cfg.DeliveriesSpec(), cfg.DecisionsSpec(), cfg.LedgerSpec(), cfg.CheckpointsSpec()); err != nil {
		return 0, t, err
	}
	r.progress.count.Store(0)
	n := *r.node
	n.cfg.Flow.Group = r.prefix + group
	var book *book
	if b != nil {
		dir := filepath.Dir(n.cfg.keystorePath())
		key, _, err := evidence.OpenKey(filepath.Join(dir, group+".key"), n.cfg.Ledger.Origin)
		if err != nil {
			return 0, t, err
		}
		if book, err = n.openBookWith(ctx, key); err != nil {
			return 0, t, err
		}
	}
	broker := n.newBroker(book)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	left := func() error { return nil }
	if book != nil {
		left = book.run(running)
	}
	ended := make(chan error, 1)
	go func() { ended <- broker.Run(running) }()
	var p bench.Progress
	all, counting := int64(r.scenario.Records), false
	err = r.await(ctx, broker, all, func(done int64) {
		r.progress.count.Store(done)
		if counting = counting || done >= all/settledAfter && (broker.PoliciesPending() == 0 || done >= all/2); counting {
			p.Committed(done)
		}
	})
	if err == nil && book != nil {
		decided := time.Now()
		if err = book.settle(ctx); err == nil {
			b.Behind = time.Since(decided).Seconds()
			err = r.verified(ctx, book, b)
		}
	}
	cancel()
	for _, e := range []error{<-ended, left()} {
		if err == nil {
			err = e
		}
	}
	if err != nil {
		return 0, t, err
	}
	t = broker.Totals()
	return p.Rate() * float64(r.scenario.Fanout), t, r.whole(t)
}

// verified reads the ledger back as an auditor does.
func (r *benchRun) verified(ctx context.Context, book *book, b *ledgerRound) error {
	src, err := evidence.OpenSource(ctx, r.node.engine, r.node.cfg.Topics())
	if err != nil {
		return err
	}
	defer src.Close()
	begun := time.Now()
	report, err := (&ledger.Verifier{Policy: book.policy}).Run(ctx, src)
	if err != nil {
		return err
	}
	if want := int64(r.scenario.Records) * int64(r.scenario.Fanout); report.Decisions != want {
		return fmt.Errorf("the ledger has %d decisions, and %d were made", report.Decisions, want)
	}
	b.Entries, b.Verified = report.Entries, float64(report.Decisions)/time.Since(begun).Seconds()
	return nil
}
