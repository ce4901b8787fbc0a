package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	dto "github.com/prometheus/client_model/go"

	"datafordeler/broker/access"
)

// onceRig is a server with one operation that counts how often it was done.
type onceRig struct {
	*Server
	mu    sync.Mutex
	done  int
	hold  chan struct{} // if set, the operation waits for it
	inn   chan struct{}
	again error
	now   time.Time
}

func newOnceRig(t *testing.T, o Once) *onceRig {
	r := &onceRig{Server: testServer(t, nil), now: time.Unix(1_000_000, 0), inn: make(chan struct{}, 100)}
	r.answers.clock = func() time.Time { return r.now }
	o.Again = func(req *http.Request) error {
		if b, err := io.ReadAll(req.Body); err != nil || !strings.HasPrefix(string(b), `{`) {
			return fmt.Errorf("the body is not there: %q %v", b, err)
		}
		return r.again
	}
	type in struct {
		Body struct {
			Do string `json:"do"`
		}
	}
	type out struct {
		Where string `header:"Location"`
		Body  string
	}
	Register(r.Server, huma.Operation{OperationID: "make", Method: "POST", Path: "/things", DefaultStatus: 201}, Rule{Action: access.ReadSelf, Once: &o},
		func(ctx context.Context, in *in) (*out, error) {
			r.mu.Lock()
			r.done++
			n := r.done
			r.mu.Unlock()
			r.inn <- struct{}{}
			if r.hold != nil {
				<-r.hold
			}
			switch in.Body.Do {
			case "refuse":
				return nil, NewProblem(422, "no")
			case "conflict":
				return nil, NewProblem(409, "no")
			case "fail":
				return nil, io.ErrUnexpectedEOF
			case "panic":
				panic("a mistake")
			case "long":
				return &out{Body: strings.Repeat("x", onceAnswer+1)}, nil
			}
			return &out{"/things/1", fmt.Sprint("secret ", n)}, nil
		})
	return r
}

func (r *onceRig) send(token, key, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/things", strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set(idempotencyHeader, key)
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return w
}

const made = `{"do":"make"}`

func TestIdempotency(t *testing.T) {
	for _, c := range []struct {
		name            string
		once            Once
		first, second   [3]string // token, key, body
		wait            time.Duration
		again           error
		code, code2     int
		done            int
		repeated, other bool // the second is the first's answer; says nothing of it
	}{
		{name: "no key", first: [3]string{"oslo", "", made}, second: [3]string{"oslo", "", made}, code: 201, code2: 201, done: 2},
		{name: "the same again", first: [3]string{"oslo", "k", made}, second: [3]string{"oslo", "k", made}, code: 201, code2: 201, done: 1, repeated: true},
		{name: "quoted is the same key", first: [3]string{"oslo", `"k"`, made}, second: [3]string{"oslo", "k", made}, code: 201, code2: 201, done: 1, repeated: true},
		{name: "another key", first: [3]string{"oslo", "k", made}, second: [3]string{"oslo", "l", made}, code: 201, code2: 201, done: 2},
		{name: "another body", first: [3]string{"oslo", "k", made}, second: [3]string{"oslo", "k", `{"do":"else"}`}, code: 201, code2: 422, done: 1, other: true},
		{name: "another caller's key", first: [3]string{"oslo", "k", made}, second: [3]string{"bergen", "k", made}, code: 201, code2: 201, done: 2},
		{name: "nobody", first: [3]string{"oslo", "k", made}, second: [3]string{"x", "k", made}, code: 201, code2: 401, done: 1, other: true},
		{name: "too late", first: [3]string{"oslo", "k", made}, second: [3]string{"oslo", "k", made}, wait: onceKeep, code: 201, code2: 201, done: 2},
		{name: "just in time", first: [3]string{"oslo", "k", made}, second: [3]string{"oslo", "k", made}, wait: onceKeep - 1, code: 201, code2: 201, done: 1, repeated: true},
		{name: "its own time", once: Once{Keep: time.Minute}, first: [3]string{"oslo", "k", made}, second: [3]string{"oslo", "k", made}, wait: time.Minute, code: 201, code2: 201, done: 2},
		{name: "a refusal frees the key", first: [3]string{"oslo", "k", `{"do":"refuse"}`}, second: [3]string{"oslo", "k", made}, code: 422, code2: 201, done: 2},
		{name: "a refusal that is kept", once: Once{Refusals: true}, first: [3]string{"oslo", "k", `{"do":"refuse"}`}, second: [3]string{"oslo", "k", `{"do":"refuse"}`}, code: 422, code2: 422, done: 1, repeated: true},
		{name: "a conflict passes", once: Once{Refusals: true}, first: [3]string{"oslo", "k", `{"do":"conflict"}`}, second: [3]string{"oslo", "k", made}, code: 409, code2: 201, done: 2},
		{name: "a failure frees the key", once: Once{Refusals: true}, first: [3]string{"oslo", "k", `{"do":"fail"}`}, second: [3]string{"oslo", "k", made}, code: 500, code2: 201, done: 2},
		{name: "a panic frees the key", first: [3]string{"oslo", "k", `{"do":"panic"}`}, second: [3]string{"oslo", "k", made}, code: 500, code2: 201, done: 2},
		{name: "too long to keep", first: [3]string{"oslo", "k", `{"do":"long"}`}, second: [3]string{"oslo", "k", `{"do":"long"}`}, code: 201, code2: 409, done: 1, other: true},
		{name: "may not be handed over any more", first: [3]string{"oslo", "k", made}, second: [3]string{"oslo", "k", made}, again: NewProblem(403, "it has ended"), code: 201, code2: 403, done: 1, other: true},
		{name: "no key at all", first: [3]string{"oslo", `""`, made}, second: [3]string{"oslo", "a,b", made}, code: 400, code2: 400},
		{name: "keys that are none", first: [3]string{"oslo", strings.Repeat("a", 201), made}, second: [3]string{"oslo", "å", made}, code: 400, code2: 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newOnceRig(t, c.once)
			first := r.send(c.first[0], c.first[1], c.first[2])
			r.now, r.again = r.now.Add(c.wait), c.again
			second := r.send(c.second[0], c.second[1], c.second[2])
			if first.Code != c.code || second.Code != c.code2 || r.done != c.done {
				t.Fatalf("%d, then %d %s; done %d times", first.Code, second.Code, second.Body, r.done)
			}
			if same := first.Body.String() == second.Body.String() && first.Header().Get("Location") == second.Header().Get("Location"); same != c.repeated && c.code < 400 {
				t.Errorf("%s, then %s", first.Body, second.Body)
			}
			if got := second.Header().Get("Idempotency-Replayed"); (got == "true") != c.repeated {
				t.Errorf("Idempotency-Replayed: %q", got)
			}
			if first.Header().Get(requestIDHeader) == second.Header().Get(requestIDHeader) {
				t.Error("two requests have one id")
			}
			if c.other && strings.Contains(second.Body.String(), "secret") {
				t.Errorf("another's answer: %s", second.Body)
			}
		})
	}
}

// While the first is being answered nobody begins a second, and none waits.
func TestIdempotencyAtOnce(t *testing.T) {
	r := newOnceRig(t, Once{})
	r.hold = make(chan struct{})
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- r.send("oslo", "k", made) }()
	<-r.inn
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if w := r.send("oslo", "k", made); w.Code != 409 || w.Header().Get("Retry-After") != "1" {
				t.Errorf("%d %s", w.Code, w.Header())
			}
		})
	}
	wg.Wait()
	close(r.hold)
	if w := <-first; w.Code != 201 {
		t.Error(w.Code)
	}
	if w := r.send("oslo", "k", made); w.Code != 201 || r.done != 1 {
		t.Errorf("%d; done %d times", w.Code, r.done)
	}
}

// What is kept is bounded, and one caller's answers do not push out another's.
func TestIdempotencyIsBounded(t *testing.T) {
	a := newAnswers(1 << 20)
	now := time.Unix(0, 0)
	a.clock = func() time.Time { return now }
	put := func(caller byte, n, size int) *onceEntry {
		e := &onceEntry{caller: [32]byte{caller}, key: digest(nil, []byte{caller}, fmt.Append(nil, n))}
		if a.claim(e) != nil {
			t.Fatal("the key is taken")
		}
		k := &keeping{answer: &answer{ResponseWriter: httptest.NewRecorder()}}
		k.WriteHeader(200)
		_, _ = k.Write(bytes.Repeat([]byte("x"), size))
		a.settle(e, k, true, 0)
		return e
	}
	kept := func(e *onceEntry) bool { return a.entries[e.key] == e }
	quiet := put(1, 0, 100)
	for i := range onceCallerMost + 50 {
		put(2, i, 10)
	}
	if n := a.callers[[32]byte{2}].byAge.Len(); n != onceCallerMost || !kept(quiet) {
		t.Errorf("%d answers are kept; the other's: %t", n, kept(quiet))
	}
	for i := range 100 {
		put(3, i, onceAnswer)
	}
	if n := a.callers[[32]byte{3}].bytes; n > onceCaller || !kept(quiet) {
		t.Errorf("%d bytes are kept; the other's: %t", n, kept(quiet))
	}
	for c := range 40 {
		for i := range 8 {
			put(byte(10+c), i, onceAnswer)
		}
	}
	if a.bytes > onceAll || kept(quiet) {
		t.Errorf("%d bytes are kept, and the oldest: %t", a.bytes, kept(quiet))
	}
	var told dto.Metric
	if err := a.outcomes.WithLabelValues("evicted").Write(&told); err != nil || told.Counter.GetValue() == 0 {
		t.Error("nobody hears of it", err)
	}
	now = now.Add(onceKeep)
	put(9, 0, 1)
	if len(a.entries) != 1 || a.byAge.Len() != 1 || len(a.callers) != 1 {
		t.Errorf("after their time %d are kept, of %d callers", len(a.entries), len(a.callers))
	}
}

// A key is the same to every instance, and another caller's is another.
func TestIdempotencyOf(t *testing.T) {
	digestOf := func(token, key string) (d [32]byte, ok bool) {
		s := testServer(t, nil)
		Register(s, huma.Operation{OperationID: "make", Method: "POST", Path: "/make"}, Rule{Action: access.ReadSelf, Once: &Once{}},
			func(ctx context.Context, _ *struct{}) (*struct{}, error) {
				d, ok = IdempotencyOf(ctx)
				return nil, nil
			})
		r := httptest.NewRequest("POST", "/make", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if key != "" {
			r.Header.Set(idempotencyHeader, key)
		}
		s.Handler().ServeHTTP(httptest.NewRecorder(), r)
		return d, ok
	}
	a, ok := digestOf("oslo", "k")
	b, _ := digestOf("oslo", `"k"`)
	c, _ := digestOf("bergen", "k")
	if !ok || a != b || a == c {
		t.Error(a, b, c)
	}
	if _, ok := digestOf("oslo", ""); ok {
		t.Error("a digest of no key")
	}
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"8e03978e-40d5-43e8-bc93-6894a57f9324", `"a"`, `""`, `"`, "a b", "å"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := readKey([]string{s})
		if err != nil {
			return
		}
		if key == "" || len(key) > 200 || strings.ContainsAny(key, "\",\\ \r\n\t") {
			t.Fatalf("%q: %q", s, key)
		}
		for _, again := range []string{key, `"` + key + `"`} {
			if k, err := readKey([]string{again}); err != nil || k != key {
				t.Fatalf("%q: %q %v", again, k, err)
			}
		}
	})
}
