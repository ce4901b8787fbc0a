package poller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/providers"
	"datafordeler/providers/internal/apitest"
	"datafordeler/providers/poller"
)

// register is a list of {sekvensnummer, identifikator, gjelderPeriode}, with numbers
// that are left out.
type register struct {
	entries []map[string]any
}

func (g *register) add(who, n int) {
	seq := 1
	if k := len(g.entries); k > 0 {
		seq = g.entries[k-1]["sekvensnummer"].(int) + 1 + (who+n)%11
	}
	g.entries = append(g.entries, map[string]any{"sekvensnummer": seq, "identifikator": fmt.Sprintf("159100%05d", who), "gjelderPeriode": strconv.Itoa(n)})
}

func (g *register) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.FormValue("fraSekvensnummer"))
	count, _ := strconv.Atoi(r.FormValue("antall"))
	page := []map[string]any{}
	for _, e := range g.entries {
		if e["sekvensnummer"].(int) >= from && len(page) < count {
			page = append(page, e)
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"hendelser": page})
}

func toEvent(_ context.Context, e poller.Entry) (*providers.Event, error) {
	var entry struct{ Identifikator, GjelderPeriode string }
	if err := json.Unmarshal(e.Raw, &entry); err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(entry.GjelderPeriode)
	if err != nil {
		return nil, nil // nothing to publish
	}
	return &providers.Event{Data: fmt.Appendf(nil, `{"norskident":%q,"beloep":%d}`, entry.Identifikator, n)}, nil
}

// crashing is a store that fails before or after it saves, as told.
type crashing struct {
	poller.Store
	fate func() int
}

var errCrash = errors.New("the program ended")

func (c crashing) Save(ctx context.Context, at poller.Checkpoint) error {
	switch c.fate() {
	case 1:
		return errCrash
	case 2:
		return errors.Join(c.Store.Save(ctx, at), errCrash)
	}
	return c.Store.Save(ctx, at)
}

func start(t testing.TB) (*register, *httptest.Server, *apitest.API, *providers.Publisher) {
	g := new(register)
	list := httptest.NewServer(g)
	t.Cleanup(list.Close)
	api := apitest.Start(t, apitest.Income())
	p, err := providers.New(providers.Config{URL: api.Server.URL, Dataset: "inntekt", Source: "urn:test", Type: "t", Subject: "/norskident",
		Token: func(context.Context) (string, error) { return apitest.Token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return g, list, api, p
}

// Whenever the program ends, each entry is with the broker once, in order.
func TestPollerRestarts(t *testing.T) {
	g, list, api, p := start(t)
	store := poller.File(filepath.Join(t.TempDir(), "checkpoint.json"))
	made := map[int]int{}
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(0, 5).Draw(rt, "entries") {
			who := rapid.IntRange(0, 3).Draw(rt, "who")
			g.add(who, made[who])
			made[who]++
		}
		cfg := poller.Config{
			List: poller.HTTPList{URL: list.URL}.Page, Event: toEvent, Publisher: p, Page: rapid.IntRange(2, 5).Draw(rt, "page"),
			Checkpoint: crashing{store, func() int { return rapid.IntRange(0, 3).Draw(rt, "crash") }},
		}
		one, err := poller.New(cfg) // as after a start of the program
		if err != nil {
			rt.Fatal(err)
		}
		for more := true; more; {
			if more, err = one.Poll(context.Background()); err != nil && !errors.Is(err, errCrash) {
				rt.Fatal(err)
			}
		}
	})
	one, err := poller.New(poller.Config{List: poller.HTTPList{URL: list.URL}.Page, Event: toEvent, Publisher: p, Checkpoint: store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken, repeats, rejected := api.Taken(t)
	t.Logf("%d entries, %d taken, %d repeats dropped", len(g.entries), len(taken), repeats)
	if len(taken) != len(g.entries) || len(rejected) > 0 {
		t.Errorf("%d entries, %d taken, rejected %v", len(g.entries), len(taken), rejected)
	}
	next := map[string]int{}
	for _, r := range taken {
		var v struct{ Beloep int }
		if err := json.Unmarshal([]byte(r.Data), &v); err != nil {
			t.Fatal(err)
		}
		if v.Beloep != next[r.Subject] {
			t.Fatalf("%d comes where %d is due", v.Beloep, next[r.Subject])
		}
		next[r.Subject]++
	}
}

// A list that does not go on where it ended stops the poller.
func TestListThatIsAnother(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*register)
		want error
	}{
		"nothing new":       {func(*register) {}, nil},
		"the last is gone":  {func(g *register) { g.entries = []map[string]any{{"sekvensnummer": 900}} }, poller.ErrGap},
		"cut":               {func(g *register) { g.entries = g.entries[:2] }, poller.ErrBackwards},
		"empty":             {func(g *register) { g.entries = nil }, poller.ErrBackwards},
		"numbered anew":     {func(g *register) { g.entries[2]["identifikator"] = "15910000009" }, poller.ErrChanged},
		"numbers that fall": {func(g *register) { g.entries = append(g.entries, g.entries[2]) }, poller.ErrBackwards},
	} {
		g, list, _, p := start(t)
		for n := range 3 {
			g.add(1, n)
		}
		one, err := poller.New(poller.Config{List: poller.HTTPList{URL: list.URL}.Page, Event: toEvent, Publisher: p,
			Checkpoint: poller.File(filepath.Join(t.TempDir(), "c"))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := one.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.edit(g)
		_, err = one.Poll(t.Context())
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != nil {
			if err := one.Run(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("%s: Run: %v", name, err)
			}
		}
	}
}

// What can never be published stops the poller, unless somebody takes note of it.
func TestPollerRejected(t *testing.T) {
	g, list, api, p := start(t)
	g.add(1, 0)
	g.add(1, 1)
	g.entries[0]["identifikator"] = "nobody"
	g.entries = append(g.entries, map[string]any{"sekvensnummer": 90, "identifikator": "x", "gjelderPeriode": "x"})
	var told []int64
	cfg := poller.Config{List: poller.HTTPList{URL: list.URL}.Page, Event: toEvent, Publisher: p, Checkpoint: poller.File(filepath.Join(t.TempDir(), "c")), Interval: time.Nanosecond}
	one, err := poller.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Run(t.Context()); !errors.Is(err, providers.ErrRejected) {
		t.Errorf("%v", err)
	}
	cfg.Rejected = func(_ context.Context, e poller.Entry, _ error) error { told = append(told, e.Seq); return nil }
	if one, err = poller.New(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := one.Stats(); st.Seq != 90 || st.Rejected != 1 || st.Skipped != 1 || len(told) != 1 || told[0] != 1 {
		t.Errorf("%+v, told of %v", st, told)
	}
	if taken, _, _ := api.Taken(t); len(taken) != 1 {
		t.Errorf("%v", taken)
	}
}

func FuzzPage(f *testing.F) {
	f.Add([]byte(`{"hendelser":[{"sekvensnummer":1,"identifikator":"09848000830","gjelderPeriode":"2018"},{"sekvensnummer":12}]}`))
	f.Add([]byte(`{"hendelser":[{"sekvensnummer":1e3}]}`))
	f.Add([]byte(`{"hendelser":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
		defer srv.Close()
		page, err := poller.HTTPList{URL: srv.URL}.Page(t.Context(), 1, 10)
		if err != nil {
			return
		}
		for _, e := range page {
			if e.Seq < 1 || !json.Valid(e.Raw) {
				t.Errorf("%d %s", e.Seq, e.Raw)
			}
		}
	})
}
