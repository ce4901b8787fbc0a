package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/providers/synthetic"
)

// Whoever watches cannot tell a follower that has ended from a register without news: so
// it says now and then that it reads on, and not at each reading.
func TestFollowersOfRegistersSayThatTheyLive(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens an embedded engine")
	}
	people := synthetic.New(synthetic.Config{People: 1, Seed: 4})
	persons := &personRegister{grades: map[string]string{}}
	persons.happens(people.Person(0).ID, "d0", `[]`)
	units := &unitRegister{}
	units.happens("310149942", "Sletting")
	personServer, unitServer := httptest.NewServer(persons), httptest.NewServer(units)
	defer personServer.Close()
	defer unitServer.Close()

	n, err := openNode(t.Context(), dataConfig(filepath.Join(t.TempDir(), "data")), slog.New(slog.DiscardHandler), kafka.Own, true)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	for _, c := range []struct {
		name   string
		follow func(ctx context.Context, std stdio, alive time.Duration) error
		at     func(st *registry.State) (time.Time, int64)
	}{
		{"protection", func(ctx context.Context, std stdio, alive time.Duration) error {
			f := follower{source: "folkeregisteret", list: personServer.URL + "/hendelser", documents: personServer.URL + "/personer/" + documentMark, actor: "drift", from: 1,
				interval: time.Minute, once: true, alive: alive, node: n, log: slog.New(slog.DiscardHandler)}
			return f.run(ctx, std)
		}, func(st *registry.State) (time.Time, int64) {
			p, _ := st.ProtectionFollowed()
			return p.At, p.Sequence
		}},
		{"units", func(ctx context.Context, std stdio, alive time.Duration) error {
			f := unitFollower{source: "enhetsregisteret", list: unitServer.URL, actor: "drift", from: 1, interval: time.Minute, once: true, alive: alive,
				node: n, log: slog.New(slog.DiscardHandler)}
			return f.run(ctx, std)
		}, func(st *registry.State) (time.Time, int64) {
			u, _ := st.UnitsFollowed()
			return u.At, u.Sequence
		}},
	} {
		follow := func(alive time.Duration) (at time.Time, sequence int64, rev broker.Revision) {
			t.Helper()
			var b bytes.Buffer
			if err := c.follow(t.Context(), stdio{strings.NewReader(""), &b, &b}, alive); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			n.control.View(func(st *registry.State) { at, sequence = c.at(st) })
			return at, sequence, n.control.Revision()
		}
		was, sequence, before := follow(time.Hour)
		if sequence == 0 {
			t.Fatalf("%s: nothing was read", c.name)
		}
		if _, _, rev := follow(time.Hour); rev != before {
			t.Errorf("%s: nothing is new, and it is said at once", c.name)
		}
		if is, same, rev := follow(time.Nanosecond); rev != before+1 || same != sequence || !is.After(was) {
			t.Errorf("%s: %v at revision %d after %v at %d", c.name, is, rev, was, before)
		}
	}
}
