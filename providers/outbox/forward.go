package outbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"datafordeler/providers"
)

// Options are a forwarder's. All have defaults.
type Options struct {
	// Batch is the most events in one call to the publisher, default 500.
	Batch int
	// Poll is how often an empty outbox is looked at, default 1 s.
	Poll time.Duration
	// Lease is how long another forwarder waits for one that does not answer any
	// more, default 1 min. It should be longer than the publisher's Timeout.
	Lease time.Duration
	// Log gets what people should know of. Nothing in it is from an event.
	Log *slog.Logger
}

// Forwarder publishes what stands in an outbox, in its order.
type Forwarder struct {
	box    *Box
	db     *sql.DB
	o      Options
	holder string
}

// Forwarder makes one. Any number may exist, here and in other processes.
func (b *Box) Forwarder(db *sql.DB, o Options) *Forwarder {
	if o.Batch <= 0 {
		o.Batch = 500
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{box: b, db: db, o: o, holder: rand.Text()}
}

// Done is what one round came to.
type Done struct {
	Published int
	SetAside  int
	Left      int  // of the round: to be tried again
	Other     bool // another forwarder is at work
}

// Run forwards until ctx ends, which is no error. It rides out failures of database
// and broker, with growing waits.
func (f *Forwarder) Run(ctx context.Context) error {
	defer f.release()
	for failures := 0; ; {
		done, err := f.Forward(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := f.o.Poll
		switch {
		case err != nil || done.Left > 0 && done.SetAside == 0:
			failures++
			bound := min(f.o.Poll<<min(failures, 5), 30*time.Second)
			wait = bound/2 + mathrand.N(bound/2+1)
			if err != nil {
				f.o.Log.Warn("the outbox cannot be forwarded; it is tried again", "table", f.box.table, "failures", failures, "wait", wait, "err", err)
			}
		case done.Published+done.SetAside > 0:
			failures, wait = 0, 0 // there may be more
		default:
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// Forward is one round: the oldest events are published, and those that were
// accepted leave the outbox.
func (f *Forwarder) Forward(ctx context.Context) (done Done, err error) {
	ours, err := f.lease(ctx)
	if err != nil {
		return done, fmt.Errorf("outbox: %w", err)
	}
	if !ours {
		return Done{Other: true}, nil
	}
	rows, err := f.box.first(ctx, f.db, f.o.Batch)
	if err != nil {
		return done, fmt.Errorf("outbox: %w", err)
	}
	var events []providers.Event
	var place []row
	aside := map[int64]error{}
	for _, r := range rows {
		if r.bad != nil {
			aside[r.seq] = r.bad
			continue
		}
		events, place = append(events, r.event), append(place, r)
	}
	// Were the program to end here or later, the events would still stand in the
	// outbox, and be published again under the same ids.
	why := f.box.publisher.Publish(ctx, events...)
	failures, known := providers.Failures(why)
	if !known {
		return done, why
	}
	failed := map[int]error{}
	for _, x := range failures {
		failed[x.Index] = x.Err
	}
	var told *providers.Error
	refused := errors.As(why, &told) && told.Refused
	var gone []int64
	for i, r := range place {
		switch err, bad := failed[i]; {
		case bad && providers.Permanent(err):
			aside[r.seq] = err
		case bad || refused: // a refusal sends nothing, also of the others
			done.Left++
		default:
			gone = append(gone, r.seq)
		}
	}
	if err := f.settle(ctx, gone, aside); err != nil {
		return done, err
	}
	done.Published, done.SetAside = len(gone), len(aside)
	for seq, err := range aside {
		f.o.Log.Error("an event was set aside: it can never be published as it is", "table", f.box.table, "seq", seq, "err", err)
	}
	// Where a refusal was because of events that are out of the way now, the others
	// have nothing against them.
	if done.Left == 0 || done.SetAside > 0 {
		return done, nil
	}
	return done, why
}

// settle takes events out of the outbox: those that were accepted, and those that
// go aside with their reason.
func (f *Forwarder) settle(ctx context.Context, gone []int64, aside map[int64]error) error {
	if len(gone)+len(aside) == 0 {
		return nil
	}
	// What is known is written down also when the caller has no more time.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return f.box.inTx(ctx, f.db, func(tx *sql.Tx) error {
		for seq, why := range aside {
			q := f.box.query("INSERT INTO BOX_aside (seq, event, reason, at) SELECT seq, event, $1, $2 FROM BOX WHERE seq = $3 ON CONFLICT (seq) DO NOTHING")
			if _, err := tx.ExecContext(ctx, q, why.Error(), time.Now().UnixMilli(), seq); err != nil {
				return err
			}
			gone = append(gone, seq)
		}
		for len(gone) > 0 {
			n := min(len(gone), 500)
			args, marks := make([]any, n), make([]string, n)
			for i, seq := range gone[:n] {
				args[i], marks[i] = seq, fmt.Sprintf("$%d", i+1)
			}
			if _, err := tx.ExecContext(ctx, f.box.query("DELETE FROM BOX WHERE seq IN ("+strings.Join(marks, ",")+")"), args...); err != nil {
				return err
			}
			gone = gone[n:]
		}
		return nil
	})
}

// lease takes or renews the lease, by this process's clock. It spares work; the
// order does not rest on it.
func (f *Forwarder) lease(ctx context.Context) (bool, error) {
	now := time.Now()
	res, err := f.db.ExecContext(ctx, f.box.query("UPDATE BOX_lease SET holder = $1, until = $2 WHERE one = 1 AND (holder = $3 OR until < $4)"),
		f.holder, now.Add(f.o.Lease).UnixMilli(), f.holder, now.UnixMilli())
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

func (f *Forwarder) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = f.db.ExecContext(ctx, f.box.query("UPDATE BOX_lease SET until = 0 WHERE one = 1 AND holder = $1"), f.holder)
}
