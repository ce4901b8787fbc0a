package lookup

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

const someone = "01815012345" // a synthetic number's form

// rig is a provider's endpoint over TLS, and who asks it on a clock that is set.
type rig struct {
	*Providers
	ds     *broker.Dataset
	calls  atomic.Int32
	mu     sync.Mutex // guards answer
	answer func(w http.ResponseWriter, r *http.Request)
	now    time.Time
}

func newRig(t *testing.T, c func(host string) Config) *rig {
	r := &rig{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.calls.Add(1)
		if strings.Contains(q.URL.String(), someone) {
			t.Error("the subject stands in the address")
		}
		r.mu.Lock()
		answer := r.answer
		r.mu.Unlock()
		answer(w, q)
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.ds = &broker.Dataset{ID: "d", Endpoint: &broker.Endpoint{URL: server.URL + "/oppslag"}}
	r.Providers = NewProviders(c(u.Host), server.Client().Transport, func() time.Time { return r.now })
	return r
}

func allowed(host string) Config { return Config{Providers: []Provider{{Host: host}}} }

func batch(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/cloudevents-batch+json")
	_, _ = w.Write([]byte(text))
}

func TestProvider(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hemmelig\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(host string) Config { return Config{Providers: []Provider{{Host: host, TokenFile: token}}} })
	r.answer = func(w http.ResponseWriter, q *http.Request) {
		if q.Method != http.MethodPost || q.Header.Get("Authorization") != "Bearer hemmelig" || q.URL.Path != "/oppslag" {
			t.Error(q.Method, q.Header, q.URL)
		}
		batch(w, `[{"id":"1"},{"id":"2"},{"id":"3"}]`)
	}
	events, err := r.Ask(t.Context(), r.ds, someone, 2)
	if err != nil || len(events) != 2 || string(events[1]) != `{"id":"2"}` {
		t.Errorf("%s %v", events, err)
	}
	r.answer = func(w http.ResponseWriter, _ *http.Request) { batch(w, `[]`) }
	if events, err := r.Ask(t.Context(), r.ds, someone, 2); err != nil || len(events) != 0 {
		t.Errorf("%s %v", events, err)
	}
}

func TestProviderFails(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = w.Write([]byte(someone)) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/"+"elsewhere", http.StatusTemporaryRedirect)
		},
		"not a batch":      func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) },
		"no array":         func(w http.ResponseWriter, _ *http.Request) { batch(w, `{"id":"`+someone+`"}`) },
		"null":             func(w http.ResponseWriter, _ *http.Request) { batch(w, `null`) },
		"cut off":          func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"without an end":   func(w http.ResponseWriter, _ *http.Request) { batch(w, "["+strings.Repeat(" ", answerMost)+"]") },
		"half of an array": func(w http.ResponseWriter, _ *http.Request) { batch(w, `[{"id":"1"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, allowed)
			r.answer = answer
			events, err := r.Ask(t.Context(), r.ds, someone, 2)
			var p *ProviderError
			if !errors.As(err, &p) || events != nil || r.calls.Load() != 1 || strings.Contains(err.Error(), someone) || p.Timeout {
				t.Errorf("%s, %v, asked %d times", events, err, r.calls.Load())
			}
		})
	}
	for name, c := range map[string]func(string) Config{
		"a host that is not configured": func(string) Config { return Config{} },
		"another port":                  func(host string) Config { return allowed(strings.Split(host, ":")[0]) },
		"a token that is not there": func(host string) Config {
			return Config{Providers: []Provider{{Host: host, TokenFile: "/finnes/ikke"}}}
		},
	} {
		r := newRig(t, c)
		r.answer = func(w http.ResponseWriter, _ *http.Request) { batch(w, `[]`) }
		if _, err := r.Ask(t.Context(), r.ds, someone, 1); err == nil || r.calls.Load() != 0 {
			t.Errorf("%s: %v, asked %d times", name, err, r.calls.Load())
		}
	}
	r := newRig(t, allowed)
	r.ds.Endpoint.URL = strings.Replace(r.ds.Endpoint.URL, "https:", "http:", 1)
	if _, err := r.Ask(t.Context(), r.ds, someone, 1); err == nil {
		t.Error("asked without TLS")
	}
}

// Who does not answer is waited for no longer than the dataset says, and after some
// times not asked at all; then one may try.
func TestProviderBreaks(t *testing.T) {
	r := newRig(t, allowed)
	r.ds.Endpoint.TimeoutMillis = 20
	over := make(chan struct{})
	r.answer = func(http.ResponseWriter, *http.Request) { <-over }
	ask := func() *ProviderError {
		_, err := r.Ask(t.Context(), r.ds, someone, 1)
		p, _ := errors.AsType[*ProviderError](err)
		return p
	}
	for range breakAfter {
		if p := ask(); p == nil || !p.Timeout {
			t.Fatal(p)
		}
	}
	if p := ask(); p == nil || p.Timeout || p.After != breakFor || r.calls.Load() > breakAfter {
		t.Fatalf("%+v, asked %d times", p, r.calls.Load())
	}
	close(over)
	r.now = r.now.Add(breakFor)
	r.mu.Lock() // one that was given up may only come now
	r.answer = func(w http.ResponseWriter, _ *http.Request) { batch(w, `[]`) }
	r.mu.Unlock()
	r.ds.Endpoint.TimeoutMillis = 0
	for range 2 {
		if p := ask(); p != nil {
			t.Fatal(p)
		}
	}
	// Who went away says nothing of the provider.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 * breakAfter {
		_, _ = r.Ask(ctx, r.ds, someone, 1)
	}
	if p := ask(); p != nil {
		t.Error(p)
	}
}

// A breaker lets nobody through while it is open, one at a time after that, and all
// once one was answered.
func TestBreaker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b breaker
		now := time.Unix(0, 0)
		failed, until, trying := 0, time.Time{}, false
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			_, ok := b.allow(now)
			want := until.IsZero() || !now.Before(until) && !trying
			if ok != want {
				t.Fatalf("allowed %v, want %v, after %d failures", ok, want, failed)
			}
			if !ok {
				continue
			}
			if !until.IsZero() {
				trying = true
				if _, second := b.allow(now); second {
					t.Fatal("two try at once")
				}
			}
			switch rapid.SampledFrom([]string{"good", "bad", "gone"}).Draw(t, "result") {
			case "good":
				b.done(now, true, false)
				failed, until = 0, time.Time{}
			case "bad":
				b.done(now, false, true)
				if failed++; failed >= breakAfter {
					until = now.Add(min(breakMost, breakFor<<min(failed-breakAfter, 8)))
				}
			case "gone":
				b.done(now, false, false)
			}
			trying = false
			if b.open() == until.IsZero() {
				t.Fatal("open, or not")
			}
		}
	})
}

func TestConfig(t *testing.T) {
	for host, good := range map[string]bool{"data.example.no": true, "data.example.no:8443": true, "": false, "https://x.no": false, "x.no/a": false, "u@x.no": false} {
		if err := (Config{Providers: []Provider{{Host: host}}}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", host, err)
		}
	}
	if (Config{Providers: []Provider{{Host: "x.no"}, {Host: "x.no"}}}).Validate() == nil {
		t.Error("a host twice")
	}
}
