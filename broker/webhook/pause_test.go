package webhook

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// The broker's own pauses: they double from the first to the longest, never shorter than
// half, never shorter than asked for, never longer than the longest.
func TestPause(t *testing.T) {
	c := Defaults()
	total := time.Duration(0)
	for n := 1; n < c.Attempts; n++ {
		d := c.pause(n, 0, 0)
		if want := min(c.FirstRetry<<(n-1), c.LongestRetry); d != want {
			t.Errorf("pause %d is %v, want %v", n, d, want)
		}
		total += d
	}
	if total < 60*time.Hour || total > 84*time.Hour {
		t.Errorf("a delivery is tried for %v; it should be about three days", total)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "failures")
		after := time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "after"))
		d := c.pause(n, after, rapid.Float64Range(0, .999).Draw(t, "lot"))
		if d > c.LongestRetry || d < min(after, c.LongestRetry) || d < c.pause(n, 0, 0)/2 {
			t.Fatalf("pause %d after %v: %v", n, after, d)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	now := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "x": 0, "Thu, 05 Nov 2026 12:00:30 GMT": 30 * time.Second, "Thu, 05 Nov 2026 11:00:30 GMT": 0, "99999999999999999999": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	bubble(t, func(r *rig) {
		var k taken
		first := true
		h := k.endpoint(always(200))
		r.endpoints["a.example"] = func(w http.ResponseWriter, req *http.Request) {
			if first {
				first = false
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(503)
				return
			}
			h(w, req)
		}
		r.prove("m", "https://a.example/")
		_, end := r.start()
		defer end(false)
		begun := time.Now()
		r.deliver("m", 1)
		synctest.Wait()
		r.deliver("m", 2)
		time.Sleep(2 * time.Hour)
		for _, g := range k.list() {
			if g.at.Sub(begun) < time.Hour {
				t.Errorf("%d was sent after %v", g.n, g.at.Sub(begun))
			}
		}
		if len(k.accepted()) != 2 {
			t.Error("they did not arrive")
		}
	})
}

// Subjects that fail, be they more than the breaker takes, stop no other.
func TestBadSubjectsStopNoOther(t *testing.T) {
	for _, n := range []int{1, breaker + 2} {
		bubble(t, func(r *rig) {
			var k taken
			r.endpoints["a.example"] = k.endpoint(func(s byte, _ int) (int, time.Duration) {
				if int(s) < n {
					return 500, 0
				}
				return 200, 0
			})
			r.prove("m", "https://a.example/")
			_, end := r.start()
			defer end(false)
			for s := range n {
				r.deliver("m", byte(s))
			}
			time.Sleep(3 * time.Hour)
			for i := range 3 {
				r.deliver("m", 200)
				if time.Sleep(time.Second); n == 1 && len(k.accepted()) != i+1 {
					t.Errorf("one bad subject holds up another")
				}
				time.Sleep(15 * time.Hour)
			}
			if all := k.accepted(); len(all) != 3 {
				t.Errorf("with %d bad subjects: %v", n, all)
			}
		})
	}
}

// What held a subject up is over for all of them at once.
func TestHasten(t *testing.T) {
	q, now := newQueue(), time.Unix(1000, 0)
	for i := range 5 {
		q.add(&item{Offset: int64(i), Lane: lane{byte(i)}, Due: now.Add(time.Duration(10-i) * time.Hour)})
	}
	if q.take(now) != nil {
		t.Fatal("it is not due")
	}
	q.hasten(now)
	for i := range 5 {
		if it := q.take(now); it == nil || it.Offset != int64(i) {
			t.Fatalf("%d: %+v", i, it)
		}
	}
}
