package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/broker/webhook/scheme"
)

// answer is a response that a handler writes.
type answer struct {
	header http.Header
	code   int // 0: the connection breaks
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// taken is what an endpoint was sent.
type taken struct {
	mu  sync.Mutex
	all []got
}

type got struct {
	subject byte
	n       int
	id      string
	at      time.Time
	code    int
	under   int // others of its subject that were under way
}

func (k *taken) list() []got {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.all)
}

// accepted are the numbers in the order in which they were first taken.
func (k *taken) accepted() (all []int) {
	for _, g := range k.list() {
		if g.code/100 == 2 && !slices.Contains(all, g.n) {
			all = append(all, g.n)
		}
	}
	return all
}

// endpoint answers with what says returns.
func (k *taken) endpoint(says func(subject byte, n int) (code int, takes time.Duration)) http.HandlerFunc {
	under := map[byte]int{}
	return func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		var e struct {
			ID   string
			Data struct {
				Subject byte
				N       int
			}
		}
		_ = json.Unmarshal(b, &e)
		k.mu.Lock()
		g := got{subject: e.Data.Subject, n: e.Data.N, id: req.Header.Get("webhook-id"), at: time.Now(), under: under[e.Data.Subject]}
		under[g.subject]++
		k.mu.Unlock()
		code, takes := says(g.subject, g.n)
		if e.ID != g.id {
			code = 499
		}
		timer := time.NewTimer(takes)
		select {
		case <-timer.C:
		case <-req.Context().Done():
			code = 0
		}
		timer.Stop()
		g.code = code
		k.mu.Lock()
		under[g.subject]--
		k.all = append(k.all, g)
		k.mu.Unlock()
		w.WriteHeader(code)
	}
}

func always(code int) func(byte, int) (int, time.Duration) {
	return func(byte, int) (int, time.Duration) { return code, time.Millisecond }
}

// Whatever the endpoint answers, and whenever an instance is killed or stops: each
// delivery arrives, those of a subject first arrive in their order, never two at once.
func TestOrderAndNothingLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		n, subjects := rapid.IntRange(1, 60).Draw(rt, "deliveries"), rapid.IntRange(1, 6).Draw(rt, "subjects")
		bad := rapid.IntRange(0, 80).Draw(rt, "percent that fail")
		restarts := rapid.IntRange(0, 4).Draw(rt, "restarts")
		crash := rapid.Bool().Draw(rt, "crash")
		var fault string
		bubble(t, func(r *rig) {
			rng := mathrand.New(mathrand.NewPCG(seed, 1))
			var mu sync.Mutex
			draw := func(most int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(most) }
			r.cfg.Attempts, r.cfg.Waiting, r.cfg.Concurrency = 1000, 10, 1+draw(4)
			r.cfg.LongestRetry = time.Minute
			var k taken
			r.endpoints["a.example"] = k.endpoint(func(byte, int) (int, time.Duration) {
				takes := time.Duration(draw(3000)) * time.Millisecond
				if draw(100) < bad {
					return []int{500, 400, 302, 429, 503, 0}[draw(6)], takes
				}
				return 204, takes
			})
			r.prove("m", "https://a.example/")
			_, end := r.start()
			want := map[byte][]int{}
			for range n {
				s := byte(draw(subjects))
				want[s] = append(want[s], r.deliver("m", s))
				time.Sleep(time.Duration(draw(4000)) * time.Millisecond)
			}
			for range restarts {
				time.Sleep(time.Duration(draw(100_000)) * time.Millisecond)
				end(crash)
				_, end = r.start()
			}
			for range 24 * 60 {
				if time.Sleep(time.Minute); len(k.accepted()) == n {
					break
				}
			}
			time.Sleep(2 * time.Second)
			end(false)
			got := map[byte][]int{}
			for _, n := range k.accepted() {
				for s, all := range want {
					if slices.Contains(all, n) {
						got[s] = append(got[s], n)
					}
				}
			}
			for s, all := range want {
				if !slices.Equal(got[s], all) {
					fault = fmt.Sprintf("subject %d: %v, want %v", s, got[s], all)
				}
			}
			twice := map[int]int{}
			for _, g := range k.list() {
				if g.under > 0 {
					fault = "two of a subject at once"
				}
				if g.code/100 == 2 {
					twice[g.n]++
				}
			}
			if restarts == 0 || !crash {
				for n, times := range twice {
					// An instance that stops may have been told of no answer.
					if times > 1+restarts {
						fault = fmt.Sprintf("delivery %d was taken %d times", n, times)
					}
				}
			}
			r.senders = nil
		})
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

// A dead endpoint costs the others nothing, and is asked seldom; when it lives again,
// all arrives at once.
func TestDeadBesideLiving(t *testing.T) {
	bubble(t, func(r *rig) {
		r.do(put(t, broker.Mailbox{ID: "dead", Organisation: org, Channel: broker.Webhook}))
		var living, dead taken
		var mu sync.Mutex
		lives, under, most := false, 0, 0
		r.endpoints["a.example"] = living.endpoint(always(200))
		begun := time.Now()
		answers := dead.endpoint(func(byte, int) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if lives {
				return 200, 0
			}
			return 200, time.Hour
		})
		r.endpoints["dead.example"] = func(w http.ResponseWriter, req *http.Request) {
			mu.Lock()
			if under++; !lives && time.Since(begun) > time.Hour {
				most = max(most, under)
			}
			mu.Unlock()
			answers(w, req)
			mu.Lock()
			under--
			mu.Unlock()
		}
		r.prove("m", "https://a.example/")
		r.prove("dead", "https://dead.example/")
		s, end := r.start()
		for i := range 500 {
			r.deliver("dead", byte(i))
		}
		for i := range 100 {
			begun := time.Now()
			n := r.deliver("m", byte(i))
			time.Sleep(10 * time.Millisecond)
			if all := living.list(); len(all) != i+1 || all[i].n != n || all[i].at.Sub(begun) > 5*time.Millisecond {
				t.Fatalf("%d of %d arrived", len(all), i+1)
			}
		}
		time.Sleep(48 * time.Hour)
		if n := len(dead.list()); n < 5 || n > 60 {
			t.Errorf("a dead endpoint was asked %d times in two days", n)
		}
		if v, err := s.View(context.Background(), "dead"); err != nil || v.Status != StatusPaused || v.Waiting != 500 || v.NextAttempt == nil || v.LastOutcome != string(Slow) {
			t.Errorf("%+v %v", v, err)
		}
		mu.Lock()
		if lives = true; most != 1 {
			t.Errorf("a paused endpoint was sent %d at once", most)
		}
		mu.Unlock()
		time.Sleep(12*time.Hour + time.Minute)
		if n := len(dead.accepted()); n != 500 {
			t.Errorf("%d of 500 arrived when it lived again", n)
		}
		end(false)
	})
}

// A restart goes on with the attempts where they were, also after a crash.
func TestRetriesSurvive(t *testing.T) {
	for _, crash := range []bool{false, true} {
		bubble(t, func(r *rig) {
			r.cfg.Attempts = 6
			var k taken
			r.endpoints["a.example"] = k.endpoint(always(400))
			r.prove("m", "https://a.example/")
			r.deliver("m", 1)
			var s *Sender
			for range 8 {
				var end func(bool)
				s, end = r.start()
				time.Sleep(3 * time.Minute)
				end(crash)
			}
			if n := len(k.list()); n != 6 {
				t.Errorf("crash %v: tried %d times, want 6", crash, n)
			}
			all, _, err := s.Poison(context.Background(), "m", -1, 10)
			if err != nil || len(all) != 1 || all[0].Attempts != 6 || all[0].ID != idOf(0) || !strings.Contains(all[0].Why, "400") {
				t.Errorf("%+v %v", all, err)
			}
		})
	}
}

// Nothing is sent to an endpoint that has not answered its challenge, and a URL that is
// another must answer anew.
func TestChallenge(t *testing.T) {
	bubble(t, func(r *rig) {
		var k taken
		echo := true
		takes := k.endpoint(always(200))
		r.endpoints["a.example"] = func(w http.ResponseWriter, req *http.Request) {
			b, _ := io.ReadAll(req.Body)
			var c scheme.Challenge
			if json.Unmarshal(b, &c) == nil && c.Type == scheme.ChallengeType {
				if !echo {
					c.Challenge = "another"
				}
				_ = json.NewEncoder(w).Encode(scheme.Challenge{Challenge: c.Challenge})
				return
			}
			req.Body = io.NopCloser(bytes.NewReader(b))
			takes(w, req)
		}
		r.endpoints["b.example"] = r.endpoints["a.example"]
		s, end := r.start()
		defer end(false)
		r.deliver("m", 1)
		problem := func(err error, code int, says string) {
			t.Helper()
			var p *web.Problem
			if !errors.As(err, &p) || p.Status != code || !strings.Contains(p.Detail, says) {
				t.Errorf("%v, want %d %q", err, code, says)
			}
		}
		ctx := context.Background()
		_, err := s.View(ctx, "m")
		problem(err, 404, "set one")
		_, err = s.Challenge(ctx, caller, "m")
		problem(err, 404, "set one")
		_, _, err = s.Set(ctx, caller, "m", "https://10.0.0.1/", "")
		problem(err, 422, "internet")
		v, secret, err := s.Set(ctx, caller, "m", "https://a.example/", "")
		if err != nil || secret == "" || v.Status != StatusUnproven {
			t.Fatalf("%+v %q %v", v, secret, err)
		}
		time.Sleep(time.Hour)
		echo = false
		_, err = s.Challenge(ctx, caller, "m")
		problem(err, 409, "not with the challenge")
		time.Sleep(time.Hour)
		if n := len(k.list()); n != 0 {
			t.Fatalf("%d sent to an endpoint that is not proven", n)
		}
		echo = true
		if v, err = s.Challenge(ctx, caller, "m"); err != nil || v.Status != StatusInUse || v.Proven == nil {
			t.Fatalf("%+v %v", v, err)
		}
		time.Sleep(time.Second)
		if n := len(k.accepted()); n != 1 {
			t.Fatalf("%d arrived", n)
		}
		_, again, err := s.Set(ctx, caller, "m", "https://a.example/", "")
		if err != nil || again != "" {
			t.Errorf("the secret was told again: %v", err)
		}
		_, _, err = s.Set(ctx, caller, "m", "https://b.example/", "")
		problem(err, 428, "If-Match")
		_, _, err = s.Set(ctx, caller, "m", "https://b.example/", web.WebhookETag(v.Version-1))
		problem(err, 412, "changed since")
		if v, again, err = s.Set(ctx, caller, "m", "https://b.example/", web.WebhookETag(v.Version)); err != nil || again != "" || v.Status != StatusUnproven {
			t.Fatalf("%+v %v", v, err)
		}
		r.deliver("m", 1)
		time.Sleep(time.Hour)
		if n := len(k.accepted()); n != 1 {
			t.Fatalf("%d arrived at a URL that is not proven", n)
		}
		if _, err = s.Challenge(ctx, caller, "m"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := len(k.accepted()); n != 2 {
			t.Fatalf("%d arrived", n)
		}
		if err := s.Remove(ctx, caller, "m", ""); err != nil {
			t.Fatal(err)
		}
		r.deliver("m", 1)
		time.Sleep(time.Hour)
		if n := len(k.list()); n != 2 {
			t.Errorf("%d sent after it was removed", n)
		}
		if _, anew, err := s.Set(ctx, caller, "m", "https://a.example/", ""); err != nil || anew == "" || anew == secret {
			t.Errorf("a webhook that is new has another secret: %v", err)
		}
	})
}

// While a rotation overlaps both secrets sign, and after it the new one alone.
func TestRotation(t *testing.T) {
	bubble(t, func(r *rig) {
		var mu sync.Mutex
		secrets := map[string]scheme.Verifier{}
		good := map[string]int{}
		r.endpoints["a.example"] = func(w http.ResponseWriter, req *http.Request) {
			b, _ := io.ReadAll(req.Body)
			mu.Lock()
			defer mu.Unlock()
			for name, v := range secrets {
				if id, err := scheme.Verify(req.Header, b, time.Now(), time.Minute, v); err == nil && id != "" {
					good[name]++
				}
			}
			var c scheme.Challenge
			_ = json.Unmarshal(b, &c)
			_ = json.NewEncoder(w).Encode(c)
		}
		s, end := r.start()
		defer end(false)
		ctx := context.Background()
		hold := func(name, text string) {
			t.Helper()
			v, err := scheme.ParseVerifier(text)
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			secrets[name] = v
			mu.Unlock()
		}
		expect := func(want map[string]int) {
			t.Helper()
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(good) != fmt.Sprint(want) {
				t.Errorf("%v, want %v", good, want)
			}
			clear(good)
		}
		v, secret, err := s.Set(ctx, caller, "m", "https://a.example/", "")
		if err != nil {
			t.Fatal(err)
		}
		hold("old", secret)
		hold("old public", v.PublicKey)
		if _, err := s.Challenge(ctx, caller, "m"); err != nil {
			t.Fatal(err)
		}
		expect(map[string]int{"old": 1, "old public": 1})
		v, secret, err = s.Rotate(ctx, caller, "m", time.Hour)
		if err != nil || v.Overlap == nil || v.Status != StatusInUse {
			t.Fatalf("%+v %v", v, err)
		}
		hold("new", secret)
		hold("new public", v.PublicKey)
		r.deliver("m", 1)
		expect(map[string]int{"old": 1, "old public": 1, "new": 1, "new public": 1})
		time.Sleep(time.Hour)
		r.deliver("m", 1)
		expect(map[string]int{"new": 1, "new public": 1})
		if v, _ = s.View(ctx, "m"); v.Overlap != nil {
			t.Error("the overlap is over")
		}
	})
}

// What the door withholds is not sent, also where it was tried before; where the door
// cannot be asked, nothing is.
func TestDoor(t *testing.T) {
	bubble(t, func(r *rig) {
		var k taken
		r.endpoints["a.example"] = k.endpoint(func(s byte, _ int) (int, time.Duration) {
			if s == 1 {
				return 500, 0
			}
			return 200, 0
		})
		r.prove("m", "https://a.example/")
		_, end := r.start()
		defer end(false)
		r.deliver("m", 1)
		time.Sleep(2 * time.Minute)
		before := len(k.list())
		if before < 2 {
			t.Fatal(before)
		}
		r.mu.Lock()
		r.withheld[idOf(0)] = true // its consent was withdrawn
		r.mu.Unlock()
		time.Sleep(24 * time.Hour)
		if n := len(k.list()); n != before {
			t.Fatalf("%d attempts after the withdrawal", n-before)
		}
		r.mu.Lock()
		r.door = func(broker.DeliveryID) (bool, error) { return true, errors.New("Kafka is away") }
		r.mu.Unlock()
		r.deliver("m", 2)
		time.Sleep(time.Hour)
		if n := len(k.list()); n != before {
			t.Fatal("sent while the door could not be asked")
		}
		r.mu.Lock()
		r.door = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		if all := k.accepted(); !slices.Equal(all, []int{1}) {
			t.Errorf("%v", all)
		}
	})
}

// A suspended mailbox is sent nothing, and goes on when it is none any more. An endpoint
// that answers 410 is out of use until it is challenged again.
func TestSuspendedAndGone(t *testing.T) {
	bubble(t, func(r *rig) {
		var k taken
		var mu sync.Mutex
		code := 200
		r.endpoints["a.example"] = k.endpoint(func(byte, int) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			return code, 0
		})
		r.prove("m", "https://a.example/")
		s, end := r.start()
		defer end(false)
		box := broker.Mailbox{ID: "m", Organisation: org, Channel: broker.Webhook}
		box.Suspended = true
		r.do(put(t, box))
		r.deliver("m", 1)
		time.Sleep(time.Hour)
		if v, _ := s.View(context.Background(), "m"); len(k.list()) != 0 || v.Status != StatusSuspended {
			t.Fatalf("%+v %v", v, k.list())
		}
		box.Suspended = false
		r.do(put(t, box))
		time.Sleep(time.Second)
		if len(k.accepted()) != 1 {
			t.Fatal("it does not go on")
		}
		mu.Lock()
		code = 410
		mu.Unlock()
		r.deliver("m", 1)
		time.Sleep(time.Hour)
		v, _ := s.View(context.Background(), "m")
		if v.Status != StatusStopped || !strings.Contains(v.Why, "410") || len(k.list()) != 2 {
			t.Fatalf("%+v %v", v, k.list())
		}
		mu.Lock()
		code = 200
		mu.Unlock()
		var at broker.Revision
		r.View(func(st *registry.State) { w, _ := st.Webhook("m"); at = w.Endpoint })
		r.do(registry.ProveWebhook("m", at))
		time.Sleep(10 * time.Second)
		if len(k.accepted()) != 2 {
			t.Error("it does not go on when it is proven again")
		}
	})
}
