package webhook

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
)

// The poison is its owner's: it can be seen, replayed and dropped, also across restarts,
// and what stands behind it goes on.
func TestPoison(t *testing.T) {
	bubble(t, func(r *rig) {
		r.cfg.Attempts = 3
		var k taken
		var mu sync.Mutex
		bad := map[int]bool{0: true, 1: true, 3: true}
		r.endpoints["a.example"] = k.endpoint(func(_ byte, n int) (int, time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if bad[n] {
				return 422, 0
			}
			return 200, 0
		})
		r.prove("m", "https://a.example/")
		s, end := r.start()
		for range 5 {
			r.deliver("m", 1)
		}
		ctx := context.Background()
		poison := func(want ...int) {
			t.Helper()
			all, _, err := s.Poison(ctx, "m", -1, 100)
			var got []int
			for _, p := range all {
				got = append(got, int(p.Offset))
			}
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("poison %v, want %v (%v)", got, want, err)
			}
		}
		time.Sleep(time.Hour)
		poison(0, 1, 3)
		if all := k.accepted(); !slices.Equal(all, []int{2, 4}) {
			t.Fatalf("%v", all)
		}
		if page, more, _ := s.Poison(ctx, "m", 0, 1); len(page) != 1 || page[0].Offset != 1 || !more {
			t.Errorf("%+v %v", page, more)
		}
		end(true)
		s, end = r.start()
		poison(0, 1, 3)
		if err := s.Drop(ctx, caller, "m", idOf(1)); err != nil {
			t.Fatal(err)
		}
		poison(0, 3)
		if err := s.Drop(ctx, caller, "m", idOf(1)); err == nil {
			t.Error("dropped twice")
		}
		tries := len(k.list())
		if err := s.Replay(ctx, caller, "m", idOf(3)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		poison(0, 3) // it fails again
		if n := len(k.list()) - tries; n != 3 {
			t.Errorf("a replay was tried %d times, want 3", n)
		}
		mu.Lock()
		clear(bad)
		mu.Unlock()
		if err := s.Replay(ctx, caller, "m", idOf(3)); err != nil {
			t.Fatal(err)
		}
		end(true) // before or after it was sent: it is ordered
		s, end = r.start()
		time.Sleep(time.Minute)
		poison(0)
		end(false)
		s, end = r.start()
		defer end(false)
		time.Sleep(time.Minute)
		poison(0)
		if all := k.accepted(); !slices.Equal(all, []int{2, 4, 3}) {
			t.Errorf("%v", all)
		}
		time.Sleep(2 * imageEvery)
		poison(0)
		// What is kept no more leaves the poison when it is replayed.
		r.mu.Lock()
		r.oldest = 2
		r.mu.Unlock()
		if err := s.Replay(ctx, caller, "m", idOf(0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		poison()
	})
}

// An instance that was taken for dead and wakes up undoes nothing.
func TestRivalDoesNotCount(t *testing.T) {
	b := newBook()
	fold := func(offset int64, r record) {
		t.Helper()
		r.V, r.Mailbox = 1, "m"
		v, err := json.Marshal(&r)
		if err == nil {
			err = b.fold(0, offset, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(n int64) *progress { return &progress{Next: n} }
	fold(0, record{Kind: kindClaim, Writer: "a"})
	fold(1, record{Kind: kindProgress, Writer: "a", Progress: at(5)})
	fold(2, record{Kind: kindClaim, Writer: "b"})
	fold(3, record{Kind: kindProgress, Writer: "b", Progress: at(9)})
	fold(4, record{Kind: kindPoison, Writer: "b", AsOf: 3, Poison: &Poisoned{ID: idOf(1), Offset: 1}})
	fold(5, record{Kind: kindProgress, Writer: "a", Progress: at(6)})
	fold(6, record{Kind: kindDone, Writer: "a", ID: idOf(1)})
	if p := b.progressOf("m"); p.Next != 9 || b.poisonCount("m") != 1 {
		t.Errorf("%+v, %d", p, b.poisonCount("m"))
	}
	// An owner's order that came while an image was written stands.
	fold(7, record{Kind: kindDrop, ID: idOf(1)})
	fold(8, record{Kind: kindPoison, Writer: "b", AsOf: 6, Poison: &Poisoned{ID: idOf(1), Offset: 1}})
	if b.poisonCount("m") != 0 {
		t.Error("what was dropped came back with an image")
	}
	fold(9, record{Kind: kindReplay, ID: idOf(2)})
	if b.poisonCount("m") != 0 {
		t.Error("an order made poison of nothing")
	}
	for _, bad := range []string{"", "{}", `{"v":2,"kind":"claim"}`, `{"v":1,"kind":"other"}`, "null"} {
		if b.fold(0, 10, []byte(bad)) == nil {
			t.Errorf("%q is passed over", bad)
		}
	}
}

// A kill between what puts a delivery with the poison and what says that it waits no
// more: it lies with the poison, and is not sent again.
func TestKilledAfterPoison(t *testing.T) {
	bubble(t, func(r *rig) {
		var k taken
		r.endpoints["a.example"] = k.endpoint(always(200))
		r.prove("m", "https://a.example/")
		r.deliver("m", 1)
		r.deliver("m", 1)
		for _, x := range []record{
			{Kind: kindClaim, Writer: "a"},
			{Kind: kindProgress, Writer: "a", Mailbox: "m", Progress: &progress{Topic: broker.Digest{1}, Next: 2, Waiting: []waiting{{Offset: 0, ID: idOf(0), Tries: 17}, {Offset: 1, ID: idOf(1)}}}},
			{Kind: kindPoison, Writer: "a", Mailbox: "m", AsOf: 1, Poison: &Poisoned{ID: idOf(0), Tries: 18}},
		} {
			x.V = recordVersion
			v, err := json.Marshal(&x)
			if err != nil {
				t.Fatal(err)
			}
			r.journal = append(r.journal, v)
		}
		s, end := r.start()
		defer end(false)
		time.Sleep(time.Hour)
		all, _, err := s.Poison(context.Background(), "m", -1, 10)
		if got := k.accepted(); err != nil || len(all) != 1 || !slices.Equal(got, []int{1}) {
			t.Errorf("sent %v, poison %+v, %v", got, all, err)
		}
	})
}
