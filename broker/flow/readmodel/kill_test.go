package readmodel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/store"
	"datafordeler/broker/store/pgtest"
)

// The victim is this test's program again: it follows until it is killed.
const (
	victimDSN  = "DATAFORDELER_READMODEL_VICTIM"
	victimData = "DATAFORDELER_READMODEL_DATA"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimDSN) != "" {
		fmt.Println("error", victim())
		os.Exit(2)
	}
	code := m.Run()
	if err := pgtest.StopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// victim says a line each time that it has come further.
func victim() error {
	ctx := context.Background()
	cfg := kafka.Defaults()
	cfg.Data = os.Getenv(victimData)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	engine, err := kafka.Open(ctx, cfg, log, kafka.Attach)
	if err != nil {
		return err
	}
	control, err := flow.OpenControl(ctx, engine, cfg.Topics(), log)
	if err != nil {
		return err
	}
	f := New(Options{DSN: os.Getenv(victimDSN), Engine: engine, Topics: cfg.Topics(), Control: control, Log: log})
	go f.Run(ctx)
	for told := int64(-1); ; {
		f.mu.Lock()
		sum, changed := int64(0), f.changed
		for _, at := range f.applied {
			sum += at
		}
		ready := f.applied != nil
		f.mu.Unlock()
		if ready && sum > told {
			told = sum
			fmt.Println(sum)
		}
		<-changed
	}
}

// One that fills and is killed, over and over, leaves what the log holds, no more
// and no less; its claim is free at once.
func TestKilled(t *testing.T) {
	onBoth(t, func(t *testing.T, newRig func() *rig) {
		r := newRig()
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		draw := rand.New(rand.NewPCG(seed, 0))
		for range 5 {
			r.decide(draw.Int32N(3), 1+draw.IntN(40))
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), victimDSN+"="+r.opts.DSN, victimData+"="+r.cfg.Data)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for range 1 + draw.IntN(4) {
				if !lines.Scan() {
					t.Fatal("the one that is to be killed ended by itself")
				}
				for range 1 + draw.IntN(3) { // while it fills
					r.decide(draw.Int32N(3), 1+draw.IntN(40))
				}
				r.transaction(kgo.TryAbort, draw.Int32N(3))
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for lines.Scan() {
			}
			cmd.Wait()
		}
		f, stop := r.start(r.opts)
		r.caughtUp(f)
		stop()
		if got, want := r.held(r.opts), r.rebuild(r.another()); got != want || got.Decisions == 0 {
			t.Errorf("holds %+v; made anew %+v", got, want)
		}
	})
}

// A server that drops its connections, the one with the claim among them, is come
// back to; the one that fills has never written without its claim.
func TestConnectionsLost(t *testing.T) {
	r := newRig(t, pgtest.Shared(t).DSN)
	db, err := pgx.Connect(t.Context(), r.opts.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	f, _ := r.start(r.opts)
	for range 5 {
		r.decide(0, 10)
		r.caughtUp(f)
		f.mu.Lock()
		failed := f.failed
		f.mu.Unlock()
		if _, err := db.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datafordeler' AND pid <> pg_backend_pid()"); err != nil {
			t.Fatal(err)
		}
		r.decide(1, 10)
		f.failedTimes(failed + 1)
		r.decide(2, 10)
	}
	r.caughtUp(f)
	if got, want := r.held(r.opts), r.rebuild(r.another()); got != want || got.Decisions != decisionsOf(50)*3 {
		t.Errorf("holds %+v; made anew %+v", got, want)
	}
}

// One whose claim went to another writes nothing more: the server had dropped that
// connection alone, and the ones for writing are as good as ever.
func TestClaimLost(t *testing.T) {
	r := newRig(t, pgtest.Shared(t).DSN)
	db, err := pgx.Connect(t.Context(), r.opts.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	f, _ := r.start(r.opts)
	r.decide(0, 10)
	r.caughtUp(f)
	f.mu.Lock()
	failed := f.failed
	f.mu.Unlock()
	const drop = "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid WHERE l.locktype = 'advisory' AND a.state = 'idle' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
	if _, err := db.Exec(t.Context(), drop); err != nil {
		t.Fatal(err)
	}
	var claim *store.Claim
	for claim == nil && t.Context().Err() == nil { // the server takes a moment
		if claim, err = store.TakeClaim(t.Context(), r.opts.DSN); err != nil && !errors.Is(err, store.ErrClaimed) {
			t.Fatal(err)
		}
	}
	r.decide(1, 10)
	for again := false; !again; {
		f.mu.Lock()
		again = f.failed > failed
		f.mu.Unlock()
		if got := r.held(r.opts); got.Decisions != decisionsOf(10) {
			t.Fatalf("%d decisions are in it: some were written without the claim", got.Decisions)
		}
	}
	if err := claim.Release(); err != nil {
		t.Fatal(err)
	}
	r.caughtUp(f)
	if got := r.held(r.opts); got.Decisions != 2*decisionsOf(10) {
		t.Errorf("%d decisions", got.Decisions)
	}
}

// One claims, however the schema is named: what else is searched, and the case of
// a name that is not quoted, make it no other read model.
func TestOneSchemaOneClaim(t *testing.T) {
	dsn := pgtest.Shared(t).DSN()
	claim, err := store.TakeClaim(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Release()
	for _, other := range []string{dsn + ",public", dsn + "%20,%20public", strings.Replace(dsn, "path=s", "path=S", 1)} {
		if c, err := store.TakeClaim(t.Context(), other); err == nil {
			c.Release()
			t.Errorf("%s is claimed, too", other)
		} else if !errors.Is(err, store.ErrClaimed) {
			t.Error(err)
		}
	}
}
