package providers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/providers"
	"datafordeler/providers/internal/apitest"
)

func overHTTP(a *apitest.API) providers.Config {
	return providers.Config{
		URL: a.Server.URL, Dataset: a.Dataset.ID, Source: "urn:test:payroll", Type: "no.test.inntekt.v1", Subject: "/norskident",
		Token: func(context.Context) (string, error) { return apitest.Token, nil },
	}
}

func income(who, n int) providers.Event {
	return providers.Event{ID: fmt.Sprintf("%d-%d", who, n), Data: fmt.Appendf(nil, `{"norskident":"159100%05d","beloep":%d}`, who, n)}
}

func TestPublishOverHTTP(t *testing.T) {
	a := apitest.Start(t, apitest.Income())
	p := publisher(t, overHTTP(a))
	first := income(1, 1)
	if err := p.Publish(t.Context(), first, income(1, 2), income(2, 1)); err != nil {
		t.Fatal(err)
	}
	pretty := providers.Event{Data: []byte("{\n  \"norskident\": \"15910000001\",\n  \"beloep\": 3\n}")}
	if err := p.Supersede(t.Context(), first.ID, pretty); err != nil {
		t.Fatal(err)
	}
	gone := income(1, 4)
	id, err := p.ID(providers.Event{Data: gone.Data})
	if err != nil || id == "" {
		t.Fatal(id, err)
	}
	if err := p.Retract(t.Context(), id, gone); err != nil {
		t.Fatal(err)
	}
	if err := p.Retract(t.Context(), gone.ID, gone); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("an event that retracts itself: %v", err)
	}
	taken, repeats, rejected := a.Taken(t)
	if len(taken) != 5 || repeats != 0 || len(rejected) != 0 {
		t.Fatalf("%v, %d repeats, %v", taken, repeats, rejected)
	}
	kinds := map[broker.RecordKind]int{}
	for _, r := range taken {
		kinds[r.Kind]++
		if r.Kind == broker.Correction && r.Data != string(pretty.Data) {
			t.Errorf("the payload changed on the way: %q", r.Data)
		}
	}
	if kinds[broker.Correction] != 1 || kinds[broker.Retraction] != 1 {
		t.Error(kinds)
	}
	if st := p.Stats(); st.Published != 5 || st.Rejected != 1 || st.Failed != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// What the broker rejects is told at once, and holds nothing back.
func TestRejectedOverHTTP(t *testing.T) {
	a := apitest.Start(t, apitest.Income())
	p := publisher(t, overHTTP(a))
	bad := income(1, 2)
	bad.Data = bytes.Replace(bad.Data, []byte(`:2}`), []byte(`:"2"}`), 1)
	err := p.Publish(t.Context(), income(1, 1), bad, income(1, 3))
	failures, ok := providers.Failures(err)
	var rejected *providers.RejectedError
	if !ok || len(failures) != 1 || failures[0].Index != 1 || !errors.As(failures[0].Err, &rejected) {
		t.Fatalf("%v", err)
	}
	if rejected.Code != broker.RejectSchema || rejected.Pointer != "/beloep" || !providers.Permanent(failures[0].Err) || failures[0].Maybe {
		t.Errorf("%+v", failures[0])
	}
	if taken, _, _ := a.Taken(t); len(taken) != 2 {
		t.Errorf("%v", taken)
	}
}

func TestHTTPRefusals(t *testing.T) {
	a := apitest.Start(t, apitest.Income())
	for name, c := range map[string]struct {
		edit func(*providers.Config)
		want error
	}{
		"a wrong token": {func(c *providers.Config) {
			c.Token = func(context.Context) (string, error) { return "x", nil }
		}, providers.ErrDenied},
		"no such dataset": {func(c *providers.Config) { c.Dataset = "other" }, providers.ErrUnknownDataset},
		"nobody there":    {func(c *providers.Config) { c.URL = "http://127.0.0.1:1"; c.Timeout = 50 * time.Millisecond }, nil},
		"no token to be had": {func(c *providers.Config) {
			c.Token = func(context.Context) (string, error) { return "", errors.New("the issuer is away") }
			c.Timeout = 50 * time.Millisecond
		}, nil},
	} {
		cfg := overHTTP(a)
		c.edit(&cfg)
		err := publisher(t, cfg).Publish(t.Context(), income(1, 1))
		failures, _ := providers.Failures(err)
		if len(failures) != 1 || c.want != nil && !errors.Is(err, c.want) || failures[0].Maybe || providers.Permanent(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(*providers.Config){
		"plain http":     func(c *providers.Config) { c.URL = "http://datafordeler.example" },
		"no token":       func(c *providers.Config) { c.Token = nil },
		"both":           func(c *providers.Config) { c.Brokers = []string{"kafka:9092"} },
		"another scheme": func(c *providers.Config) { c.URL = "ftp://x" },
		"a password":     func(c *providers.Config) { c.URL = "https://u:p@x" },
	} {
		cfg := overHTTP(a)
		edit(&cfg)
		if _, err := providers.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A token that ends on the way costs nothing but another.
func TestTokenEnds(t *testing.T) {
	a := apitest.Start(t, apitest.Income())
	cfg := overHTTP(a)
	tokens := []string{"ended", apitest.Token}
	var mu sync.Mutex
	cfg.Token = func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		token := tokens[0]
		tokens = tokens[min(1, len(tokens)-1):]
		return token, nil
	}
	if err := publisher(t, cfg).Publish(t.Context(), income(1, 1)); err != nil {
		t.Fatal(err)
	}
}

// unsteady loses requests before the broker gets them, answers after it did, parts
// of answers, and answers in its place that it is busy.
type unsteady struct {
	mu     sync.Mutex
	random *rand.Rand
	faults int // left
}

func (u *unsteady) fate() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.faults == 0 || u.random.IntN(3) == 0 {
		return 0
	}
	u.faults--
	return 1 + u.random.IntN(5)
}

func (u *unsteady) RoundTrip(r *http.Request) (*http.Response, error) {
	fate := u.fate()
	switch fate {
	case 1:
		return nil, errors.New("lost on the way")
	case 2:
		rec := httptest.NewRecorder()
		rec.Header().Set("Retry-After", "0")
		rec.WriteHeader([]int{429, 500, 502, 503}[rand.IntN(4)])
		return rec.Result(), nil
	case 3: // half of it arrives
		body, _ := io.ReadAll(r.Body)
		half := body[:len(body)/2]
		half = half[:bytes.LastIndexByte(half, '\n')+1]
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(half)), int64(len(half))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if fate >= 4 {
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if fate == 4 {
			return nil, errors.New("the answer was lost")
		}
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{}))
	}
	return resp, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Whatever is lost on the way, after intake nothing is lost, doubled or out of order
// for any subject.
func TestHTTPFaultsKeepOrder(t *testing.T) {
	a := apitest.Start(t, apitest.Income())
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		cfg := overHTTP(a)
		cfg.BatchSize = rapid.IntRange(1, 20).Draw(rt, "batch size")
		u := &unsteady{random: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)), faults: rapid.IntRange(0, 6).Draw(rt, "faults")}
		cfg.HTTPClient = &http.Client{Transport: u}
		p, err := providers.New(cfg)
		if err != nil {
			rt.Fatal(err)
		}
		defer p.Close()
		// Several callers, each with subjects of its own.
		var wg sync.WaitGroup
		errs := make([]error, 3)
		sizes := make([]int, 3)
		for c := range errs {
			sizes[c] = rapid.IntRange(1, 40).Draw(rt, "events")
			wg.Go(func() {
				var events []providers.Event
				for i := range sizes[c] {
					e := income(c*3+i%3, i)
					e.ID = fmt.Sprintf("%d-%d-%d", round, c, i)
					events = append(events, e)
				}
				errs[c] = p.Publish(context.Background(), events...)
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			rt.Fatal(err)
		}
	})
	taken, repeats, rejected := a.Taken(t)
	t.Logf("%d taken, %d repeats dropped", len(taken), repeats)
	if len(rejected) > 0 {
		t.Fatalf("rejected: %v", rejected)
	}
	checkOrder(t, taken)
}

// checkOrder holds ids of the form round-caller-number to their order per subject,
// and looks for gaps: the numbers of a subject are three apart.
func checkOrder(t *testing.T, taken []apitest.Taken) {
	t.Helper()
	last := map[string]int{}
	for _, r := range taken {
		var round, caller, i int
		fmt.Sscanf(r.ID, "%d-%d-%d", &round, &caller, &i)
		key := fmt.Sprint(round, " ", caller, " ", r.Subject)
		before, seen := last[key]
		if seen && i != before+3 || !seen && i > 2 {
			t.Fatalf("after %d of a subject comes %d (%s)", before, i, r.ID)
		}
		last[key] = i
	}
}

// Rejections never repeat what they are about; nor do errors, logs aside.
func TestErrorsTellNoValue(t *testing.T) {
	a := apitest.Start(t, apitest.Income())
	e := income(1, 1)
	e.Data = []byte(`{"norskident":"15910000001","beloep":"15910000001"}`)
	err := publisher(t, overHTTP(a)).Publish(t.Context(), e)
	if err == nil || strings.Contains(err.Error(), "15910000001") {
		t.Error(err)
	}
}
