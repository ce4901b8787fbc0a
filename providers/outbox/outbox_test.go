package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/store/pgtest"
	"datafordeler/providers"
	"datafordeler/providers/internal/apitest"
	"datafordeler/providers/outbox"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("OUTBOX_CHILD_URL"); url != "" {
		child(url)
		return
	}
	code := m.Run()
	if err := pgtest.StopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// child forwards until it is killed.
func child(url string) {
	db, dialect, err := open(os.Getenv("OUTBOX_CHILD_DSN"))
	if err == nil {
		var p *providers.Publisher
		if p, err = providers.New(config(url)); err == nil {
			var box *outbox.Box
			if box, err = outbox.New(dialect, p, ""); err == nil {
				err = box.Forwarder(db, outbox.Options{Batch: 7, Poll: time.Millisecond, Lease: time.Millisecond}).Run(context.Background())
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func config(url string) providers.Config {
	return providers.Config{
		URL: url, Dataset: "inntekt", Source: "urn:test:payroll", Type: "t", Subject: "/norskident", Timeout: 2 * time.Second,
		Token: func(context.Context) (string, error) { return apitest.Token, nil },
	}
}

func open(dsn string) (*sql.DB, outbox.Dialect, error) {
	if strings.HasPrefix(dsn, "postgres") {
		db, err := sql.Open("pgx", dsn)
		return db, outbox.PostgreSQL, err
	}
	db, err := sql.Open("sqlite", dsn+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_txlock=immediate")
	return db, outbox.SQLite, err
}

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, "file:"+filepath.Join(t.TempDir(), "payroll.db")) })
	t.Run("postgresql", func(t *testing.T) { test(t, pgtest.Shared(t).DSN()) })
}

type fixture struct {
	t   testing.TB
	api *apitest.API
	db  *sql.DB
	box *outbox.Box
}

func setup(t *testing.T, dsn, address string, api *apitest.API) *fixture {
	t.Helper()
	db, dialect, err := open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if u, err := url.Parse(dsn); err == nil && dialect == outbox.PostgreSQL {
		if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA IF NOT EXISTS "+u.Query().Get("search_path")); err != nil {
			t.Fatal(err)
		}
	}
	p, err := providers.New(config(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	box, err := outbox.New(dialect, p, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time it changes nothing
		if err := box.Create(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	return &fixture{t, api, db, box}
}

func income(who, n int) providers.Event {
	return providers.Event{ID: fmt.Sprintf("%d-%d", who, n), Data: fmt.Appendf(nil, `{"norskident":"159100%05d","beloep":%d}`, who, n)}
}

// add commits events in one transaction, or rolls them back.
func (f *fixture) add(commit bool, events ...providers.Event) error {
	tx, err := f.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	if err := f.box.Add(context.Background(), tx, events...); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if !commit {
		return tx.Rollback()
	}
	return tx.Commit()
}

// drain forwards until nothing is left.
func (f *fixture) drain(o outbox.Options) {
	f.t.Helper()
	o.Lease = time.Nanosecond // the next one need not wait
	fw := f.box.Forwarder(f.db, o)
	for {
		done, err := fw.Forward(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		if done == (outbox.Done{}) {
			return
		}
	}
}

func TestOnlyWhatWasCommitted(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		api := apitest.Start(t, apitest.Income())
		f := setup(t, dsn, api.Server.URL, api)
		if err := errors.Join(f.add(true, income(1, 0), income(2, 0)), f.add(false, income(1, 1)), f.add(true, income(1, 2))); err != nil {
			t.Fatal(err)
		}
		// By a Watermill publisher in the transaction, as well.
		tx, err := f.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		m := message.NewMessage("2-1", income(2, 1).Data)
		m.Metadata.Set("ce_supersedes", "2-0")
		if err := errors.Join(f.box.In(tx).Publish("inntekt", m), tx.Commit()); err != nil {
			t.Fatal(err)
		}
		if n, since, err := f.box.Waiting(t.Context(), f.db); n != 4 || since.IsZero() || err != nil {
			t.Error(n, since, err)
		}
		f.drain(outbox.Options{Batch: 3})
		taken, repeats, rejected := api.Taken(t)
		if len(taken) != 4 || repeats != 0 || len(rejected) != 0 {
			t.Errorf("%v, %d repeats, %v", taken, repeats, rejected)
		}
		for _, r := range taken {
			if r.ID == "1-1" {
				t.Error("what was rolled back was published")
			}
			if r.ID == "2-1" && r.Kind != broker.Correction {
				t.Error("no correction")
			}
		}
		// An event that is not right does not come in.
		bad := income(1, 3)
		bad.Data = []byte("{")
		if err := f.add(true, bad); !errors.Is(err, providers.ErrInvalid) {
			t.Error(err)
		}
	})
}

// What the broker will never take stands in nobody's way, and can be seen.
func TestPoisonIsSetAside(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		api := apitest.Start(t, apitest.Income())
		f := setup(t, dsn, api.Server.URL, api)
		bad := income(1, 1)
		bad.Data = []byte(`{"norskident":"15910000001","beloep":"15910000001"}`)
		if err := f.add(true, income(1, 0), bad, income(1, 2), income(2, 0)); err != nil {
			t.Fatal(err)
		}
		f.drain(outbox.Options{})
		if taken, _, _ := api.Taken(t); len(taken) != 3 {
			t.Errorf("%v", taken)
		}
		aside, err := f.box.Aside(t.Context(), f.db, 10)
		if err != nil || len(aside) != 1 || !strings.Contains(aside[0].Reason, "schema_violation at /beloep") || strings.Contains(aside[0].Reason, "15910000001") {
			t.Fatalf("%v %+v", err, aside)
		}
		if err := f.box.Requeue(t.Context(), f.db, aside[0].Seq); err != nil {
			t.Fatal(err)
		}
		f.drain(outbox.Options{})
		again, err := f.box.Aside(t.Context(), f.db, 10)
		if err != nil || len(again) != 1 || string(again[0].Event) != string(aside[0].Event) {
			t.Fatalf("%v %+v", err, again)
		}
		if err := f.box.Drop(t.Context(), f.db, again[0].Seq); err != nil {
			t.Error(err)
		}
		if err := f.box.Drop(t.Context(), f.db, again[0].Seq); err == nil {
			t.Error("what is not there was dropped")
		}
	})
}

// On PostgreSQL a number drawn first may be committed last: Add holds the second
// transaction on the same subject until the first has ended.
func TestOrderIsThatOfCommits(t *testing.T) {
	api := apitest.Start(t, apitest.Income())
	f := setup(t, pgtest.Shared(t).DSN(), api.Server.URL, api)
	ctx := t.Context()
	first, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.box.Add(ctx, first, income(1, 0)); err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() { second <- f.add(true, income(1, 1), income(2, 0)) }()
	for waiting := 0; waiting == 0; {
		if err := f.db.QueryRowContext(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-second:
			t.Fatalf("the second transaction went ahead of the first: %v", err)
		default:
		}
	}
	if err := f.add(true, income(3, 0)); err != nil { // another subject waits for nobody
		t.Fatal(err)
	}
	f.drain(outbox.Options{})
	if err := errors.Join(first.Commit(), <-second); err != nil {
		t.Fatal(err)
	}
	f.drain(outbox.Options{})
	taken, _, _ := api.Taken(t)
	check(t, taken, map[int]int{1: 2, 2: 1, 3: 1})
}

// check holds what intake took to want: for each subject, events 0 to n−1, once
// each, in order.
func check(t testing.TB, taken []apitest.Taken, want map[int]int) {
	t.Helper()
	next := map[int]int{}
	for _, r := range taken {
		var who, n int
		fmt.Sscanf(r.ID, "%d-%d", &who, &n)
		if n != next[who] {
			t.Fatalf("subject %d: event %d comes where %d is due", who, n, next[who])
		}
		next[who]++
	}
	for who, n := range want {
		if next[who] != n {
			t.Errorf("subject %d: %d events, want %d", who, next[who], n)
		}
	}
}

// Several forwarders, each of which believes that it is alone, and a broker whose
// answers are lost: for each subject nothing is lost, doubled or out of order.
func TestForwardersWithoutLease(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		api := apitest.Start(t, apitest.Income())
		f := setup(t, dsn, api.Server.URL, api)
		want, round := map[int]int{}, 0
		rapid.Check(t, func(rt *rapid.T) {
			if round++; round > 15 {
				return // each round is some dozens of transactions
			}
			random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
			var mu sync.Mutex
			lossy := func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				lost := random.IntN(4)
				mu.Unlock()
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err == nil && lost == 0 {
					resp.Body.Close()
					return nil, errors.New("the answer was lost")
				}
				return resp, err
			}
			for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
				var events []providers.Event
				for range 1 + random.IntN(3) {
					who := random.IntN(4)
					events = append(events, income(who, want[who]))
					want[who]++
				}
				if err := f.add(true, events...); err != nil {
					rt.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			for range 3 {
				cfg := config(api.Server.URL)
				cfg.HTTPClient = &http.Client{Transport: roundTripper(lossy)}
				p, err := providers.New(cfg)
				if err != nil {
					rt.Fatal(err)
				}
				box, _ := outbox.New(dialectOf(dsn), p, "")
				mu.Lock()
				fw := box.Forwarder(f.db, outbox.Options{Batch: 1 + random.IntN(5), Lease: time.Nanosecond})
				mu.Unlock()
				wg.Go(func() {
					defer p.Close()
					for {
						done, err := fw.Forward(context.Background())
						// What failed is tried again; the test ends by its time limit if it never ends.
						if err == nil && done == (outbox.Done{}) {
							return
						}
					}
				})
			}
			wg.Wait()
		})
		taken, repeats, rejected := api.Taken(t)
		t.Logf("%d taken, %d repeats dropped", len(taken), repeats)
		if len(rejected) > 0 {
			t.Error(rejected)
		}
		check(t, taken, want)
		if aside, _ := f.box.Aside(t.Context(), f.db, 1); len(aside) > 0 {
			t.Errorf("%+v", aside)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func dialectOf(dsn string) outbox.Dialect {
	if strings.HasPrefix(dsn, "postgres") {
		return outbox.PostgreSQL
	}
	return outbox.SQLite
}

// The process that forwards is killed, again and again, when the broker has taken a
// request and not answered it, or has not yet got it; transactions go on meanwhile.
func TestForwarderKilled(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		api := apitest.Start(t, apitest.Income())
		target, _ := url.Parse(api.Server.URL)
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		var (
			mu     sync.Mutex
			left   int // requests until the kill
			before bool
			kill   func()
		)
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			left--
			now, early, do := left == 0, before, kill
			mu.Unlock()
			if now && early {
				do()
				return
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if !now {
				proxy.ServeHTTP(w, r)
				return
			}
			proxy.ServeHTTP(httptest.NewRecorder(), r) // taken, and nobody is told
			do()
		}))
		defer front.Close()
		f := setup(t, dsn, api.Server.URL, api)
		random := rand.New(rand.NewPCG(uint64(time.Now().Unix()), 3))
		want := map[int]int{}
		for range 8 {
			mu.Lock()
			left, before = 1+random.IntN(4), random.IntN(2) == 0
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "OUTBOX_CHILD_URL="+front.URL, "OUTBOX_CHILD_DSN="+dsn)
			cmd.Stderr = os.Stderr
			kill = func() { _ = cmd.Process.Kill() }
			err := cmd.Start()
			mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			for range 30 {
				who := random.IntN(5)
				if err := f.add(true, income(who, want[who]), income(who, want[who]+1)); err != nil {
					t.Fatal(err)
				}
				want[who] += 2
			}
			_ = cmd.Wait()
		}
		f.drain(outbox.Options{})
		taken, repeats, rejected := api.Taken(t)
		t.Logf("%d taken, %d repeats dropped", len(taken), repeats)
		if len(rejected) > 0 {
			t.Error(rejected)
		}
		check(t, taken, want)
	})
}

// While the broker is away everything stays, and goes out when it is back.
func TestBrokerAway(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		api := apitest.Start(t, apitest.Income())
		f := setup(t, dsn, api.Server.URL, api)
		if err := f.add(true, income(1, 0), income(1, 1)); err != nil {
			t.Fatal(err)
		}
		cfg := config(api.Server.URL)
		cfg.Timeout = time.Millisecond
		cfg.HTTPClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("away") })}
		p, err := providers.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		box, err := outbox.New(dialectOf(dsn), p, "")
		if err != nil {
			t.Fatal(err)
		}
		done, err := box.Forwarder(f.db, outbox.Options{Lease: time.Nanosecond}).Forward(t.Context())
		if err == nil || done.Left != 2 || done.Published != 0 || done.SetAside != 0 {
			t.Errorf("%+v %v", done, err)
		}
		if n, _, err := f.box.Waiting(t.Context(), f.db); n != 2 || err != nil {
			t.Error(n, err)
		}
		f.drain(outbox.Options{})
		taken, _, _ := api.Taken(t)
		check(t, taken, map[int]int{1: 2})
	})
}
