package consumers_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"datafordeler/consumers"
)

// api is a broker's feed of n deliveries; some of its answers fail.
type api struct {
	mu     sync.Mutex
	n      int
	low    int
	limit  int
	repeat bool  // each page begins with what the one before ended with
	faults []int // statuses to answer with first; 0 cuts the connection
	tokens map[string]bool
	asked  []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := r.URL.Query()
	a.asked = append(a.asked, r.URL.RawQuery)
	if len(a.faults) > 0 {
		status := a.faults[0]
		a.faults = a.faults[1:]
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"about:blank","detail":"told so"}`)
		return
	}
	if word, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); a.tokens != nil && !a.tokens[word] {
		w.WriteHeader(401)
		return
	}
	at := a.low
	if c := q.Get("after"); c != "" {
		at, _ = strconv.Atoi(strings.TrimPrefix(c, "c"))
	}
	if at < a.low {
		w.WriteHeader(410)
		fmt.Fprint(w, `{"type":"urn:datafordeler:problem:cursor-gone","detail":"older than what is kept"}`)
		return
	}
	end := min(a.n, at+a.limit)
	var lines []string
	if a.repeat && at > a.low {
		at--
	}
	for n := at; n < end; n++ {
		lines = append(lines, fmt.Sprintf(`{"specversion":"1.0","id":"%032x","source":"urn:datafordeler:dataset:inntekt","type":"t","datacontenttype":"application/json","mailbox":%q,"subscription":"s","agreement":"a","dataset":"inntekt","provider":"313876144","decision":"%032x","recordkind":"original","later":7,"data":{"n": %d}}`, n, box, n+1<<20, n))
	}
	fmt.Fprintf(w, `{"deliveries":[%s],"next":"c%d","more":%t}`, strings.Join(lines, ","), end, end < a.n)
}

func feedConfig(t testing.TB, a *api) consumers.Config {
	t.Helper()
	if a.limit == 0 {
		a.limit = 4
	}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	return consumers.Config{URL: s.URL, Mailbox: box, Token: func(context.Context) (string, error) { return "t1", nil }, Backoff: time.Microsecond, Patience: time.Minute}
}

func TestFeedIsReceivedInOrder(t *testing.T) {
	a := &api{n: 10, faults: []int{503, 0, 429}, repeat: true}
	r := receiver(t, feedConfig(t, a))
	expect(t, r, upTo(0, 10))
	expect(t, r, nil)
	a.n = 12
	expect(t, r, upTo(10, 12))
	if s := r.Stats(); s.Handled != 12 || s.Repeats == 0 {
		t.Errorf("%+v", s)
	}
}

func TestFeedTokens(t *testing.T) {
	a := &api{n: 3, tokens: map[string]bool{"t2": true}}
	cfg := feedConfig(t, a)
	n := 0
	cfg.Token = func(context.Context) (string, error) { n++; return fmt.Sprint("t", n), nil }
	expect(t, receiver(t, cfg), upTo(0, 3))
	cfg.Token = func(context.Context) (string, error) { return "never", nil }
	if _, err := receive(t, receiver(t, cfg)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a token that never counts: %v", err)
	}
	a.faults = []int{403}
	if _, err := receive(t, receiver(t, cfg)); !errors.Is(err, consumers.ErrNoMailbox) || !strings.Contains(err.Error(), "told so") {
		t.Errorf("another's mailbox: %v", err)
	}
}

func TestFeedGone(t *testing.T) {
	a := &api{n: 6}
	cfg := feedConfig(t, a)
	cfg.Checkpoints = consumers.MemoryStore()
	expect(t, receiver(t, cfg), upTo(0, 6))
	a.n, a.low = 12, 9
	var gone *consumers.GoneError
	if _, err := receive(t, receiver(t, cfg)); !errors.As(err, &gone) || !strings.Contains(err.Error(), "older than what is kept") {
		t.Fatalf("%v", err)
	}
	cfg.OnGone = func(context.Context, *consumers.GoneError) (consumers.Start, error) {
		return consumers.FromBeginning(), nil
	}
	expect(t, receiver(t, cfg), upTo(9, 12))
}

func TestRetryAndDeadLetters(t *testing.T) {
	cfg := feedConfig(t, &api{n: 6})
	cfg.Attempts = 3
	var dead []int
	cfg.DeadLetter = func(_ context.Context, d consumers.Delivery, _ error) error {
		dead = append(dead, number(d))
		return nil
	}
	tries := map[int]int{}
	r := receiver(t, cfg)
	err := r.Receive(t.Context(), func(_ context.Context, d consumers.Delivery) error {
		n := number(d)
		if tries[n]++; n == 3 || n == 1 && tries[n] < 3 {
			return errors.New("no")
		}
		return nil
	})
	if s := r.Stats(); err != nil || !slices.Equal(dead, []int{3}) || tries[3] != 3 || tries[1] != 3 || s.Dead != 1 || s.Retries != 4 || s.Handled != 6 {
		t.Errorf("%v %v %v %+v", err, dead, tries, s)
	}
}

// Deliveries of one key keep their order, whatever runs beside them.
func TestConcurrencyKeepsTheOrderOfAKey(t *testing.T) {
	cfg := feedConfig(t, &api{n: 200, limit: 50})
	cfg.Key = func(d consumers.Delivery) string { return fmt.Sprint(number(d) % 7) }
	var mu sync.Mutex
	got := map[int][]int{}
	running, most := 0, 0
	both := make(chan struct{}, 1)
	err := receiver(t, cfg).Receive(t.Context(), func(_ context.Context, d consumers.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		running++
		most = max(most, running)
		if running > 1 {
			select {
			case both <- struct{}{}:
			default:
			}
		}
		alone := most < 2
		mu.Unlock()
		if alone { // until two have met
			select {
			case <-both:
			case <-time.After(5 * time.Second):
			}
		}
		mu.Lock()
		running--
		got[number(d)%7] = append(got[number(d)%7], number(d))
		return nil
	})
	if err != nil || most < 2 {
		t.Fatal(err, most)
	}
	n := 0
	for _, ns := range got {
		n += len(ns)
		if !slices.IsSorted(ns) {
			t.Errorf("out of order: %v", ns)
		}
	}
	if n != 200 {
		t.Errorf("%d handled", n)
	}
}

// TestKilledAnywhere kills the receiver at random points, also between an effect and
// its checkpoint. What is done in the database is done once for each delivery.
func TestKilledAnywhere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := &api{n: rapid.IntRange(0, 30).Draw(rt, "n"), limit: rapid.IntRange(1, 9).Draw(rt, "limit"), repeat: rapid.Bool().Draw(rt, "repeat")}
		cfg := feedConfig(t, a)
		db, err := sql.Open("sqlite", ":memory:")
		if err != nil {
			rt.Fatal(err)
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		ctx := context.Background()
		if _, err := db.Exec(`CREATE TABLE effects (n BIGINT)`); err != nil {
			rt.Fatal(err)
		}
		open := func() *consumers.SQL {
			s, err := consumers.OpenSQL(ctx, db, box)
			if err != nil {
				rt.Fatal(err)
			}
			return s
		}
		for kills := rapid.IntRange(0, 5).Draw(rt, "kills"); ; kills-- {
			store := open()
			cfg.CheckpointEvery = rapid.IntRange(1, 10).Draw(rt, "every")
			killed := &killedStore{Store: store, left: 1 << 30}
			left := 1 << 30
			if kills > 0 {
				left = rapid.IntRange(0, 12).Draw(rt, "left")
				killed.left = rapid.IntRange(0, 4).Draw(rt, "saves")
			}
			cfg.Checkpoints = killed
			r, err := consumers.New(cfg)
			if err != nil {
				rt.Fatal(err)
			}
			err = r.Receive(ctx, store.Handler(func(ctx context.Context, tx *sql.Tx, d consumers.Delivery) error {
				if _, err := tx.ExecContext(ctx, `INSERT INTO effects VALUES ($1)`, number(d)); err != nil {
					return err
				}
				if left--; left < 0 {
					killed.left = 0 // a process that is gone keeps no checkpoint either
					return errors.New("killed")
				}
				return nil
			}))
			if kills <= 0 {
				if err != nil {
					rt.Fatal(err)
				}
				break
			}
		}
		rows, err := db.Query(`SELECT n FROM effects ORDER BY rowid`)
		if err != nil {
			rt.Fatal(err)
		}
		defer rows.Close()
		var got []int
		for rows.Next() {
			var n int
			if err := rows.Scan(&n); err != nil {
				rt.Fatal(err)
			}
			got = append(got, n)
		}
		if !slices.Equal(got, upTo(0, a.n)) {
			rt.Fatalf("effects %v, delivered were 0 to %d", got, a.n)
		}
	})
}

// killedStore fails from some save on.
type killedStore struct {
	consumers.Store
	left int
}

func (s *killedStore) Save(ctx context.Context, c *consumers.Checkpoint) error {
	if s.left--; s.left < 0 {
		return errors.New("killed")
	}
	return s.Store.Save(ctx, c)
}

func TestFeedUnreadable(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"deliveries":[{"specversion":"1.0","id":"15810412345","mailbox":%q}],"next":"c1","more":false}`, box)
	}))
	defer s.Close()
	r := receiver(t, consumers.Config{URL: s.URL, Mailbox: box, Token: func(context.Context) (string, error) { return "t", nil }})
	for range 2 { // it is not skipped
		var me *consumers.MessageError
		if _, err := receive(t, r); !errors.As(err, &me) || strings.Contains(err.Error(), "15810412345") {
			t.Errorf("%v", err)
		}
	}
	for _, cfg := range []consumers.Config{{URL: "ftp://x", Mailbox: box}, {URL: s.URL, Mailbox: box}, {URL: s.URL, Brokers: []string{"a:1"}, Mailbox: box}} {
		if _, err := consumers.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
