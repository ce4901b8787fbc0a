package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
)

// What a dataset declares anew an instance brings about while it runs, whoever
// wrote the event and whether or not they got as far as the topics.
func TestInstanceFollowsRetention(t *testing.T) {
	dir := t.TempDir()
	n, err := openNode(context.Background(), dataConfig(filepath.Join(dir, "data")), slog.New(slog.DiscardHandler), kafka.Own, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	declare := func(days int32) {
		put := func(v any) registry.Change {
			c, err := registry.Put(v)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		d := broker.Dataset{ID: "d", Title: "D", Owner: "974761076", Purpose: "skatt", AccessRights: broker.NonPublic,
			Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}}, Current: "1", Subject: broker.SubjectRule{Kind: broker.NoSubject}}
		if days > 0 {
			d.Retention = &broker.Retention{SourceDays: days}
		}
		if _, err := n.control.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
			return st.Link(time.Now(), "test", put(broker.Organisation{Number: "974761076", Name: "Skatteetaten"}), put(d))
		}); err != nil {
			t.Fatal(err)
		}
	}
	declare(0)
	if err := n.ensureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	adm, err := n.engine.Admin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(adm.Close)
	source := n.cfg.Topics().Source("d")
	kept := func() time.Duration {
		h, err := kafka.Holdings(t.Context(), adm, source)
		if err != nil {
			t.Fatal(err)
		}
		return h[source].Retention
	}
	if got := kept(); got != 90*24*time.Hour {
		t.Fatalf("it keeps for %v", got)
	}
	declare(10)
	tick, limit := time.NewTicker(5*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for kept() != 10*24*time.Hour {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("it keeps for %v, 10 days are declared", kept())
		}
	}
}

// Two instances with copies of one keystore. A month is destroyed by way of one:
// the other loses it, in memory and in its file, while it runs; a third that was
// away meanwhile loses it when it starts, and one that cannot is refused.
func TestDestructionReachesAllInstances(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	now := time.Now().UTC()
	month := now.AddDate(-1, 0, 1-now.Day()).Format("2006-01")
	first := filepath.Join(dir, "first.keys")
	if _, err := keys.Create(first, now.AddDate(-1, 0, 1-now.Day())); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	instance := func(name string, mode kafka.Mode) (*node, error) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := dataConfig(data)
		cfg.Keystore.Path = path
		n, err := openNode(context.Background(), cfg, slog.New(slog.DiscardHandler), mode, true)
		if err == nil {
			t.Cleanup(n.close)
		}
		return n, err
	}
	one, err := instance("first.keys", kafka.Own)
	if err != nil {
		t.Fatal(err)
	}
	two, err := instance("second.keys", kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	subject := one.ring.Subject(broker.Person, "x")
	was, err := two.ring.Pseudonym(month, subject)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := one.ring.Pseudonym(month, subject); err != nil || same != was {
		t.Fatalf("two instances, two pseudonyms (%v)", err)
	}

	config := filepath.Join(dir, "broker.yaml")
	if err := os.WriteFile(config, []byte("data: "+data+"\nkeystore: {path: "+first+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errText := call(t, "", "keys", "destroy", "--config", config, "--period", month, "--actor", "archivist", "--reason", "as agreed", "--yes")
	if code != exitOK {
		t.Fatalf("code %d: %s%s", code, out, errText)
	}
	gone := func(n *node) bool {
		var missing *keys.MissingPeriodError
		_, err := n.ring.Pseudonym(month, subject)
		if !errors.As(err, &missing) || !missing.Destroyed {
			return false
		}
		i, err := keys.Inspect(keys.File(n.cfg.keystorePath()))
		return err == nil && len(i.Holds([]string{month})) == 0
	}
	// The fold and what follows it are other goroutines: there is nothing to wait
	// on but what they do.
	tick, limit := time.NewTicker(5*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for !gone(one) || !gone(two) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("gone from the first: %v, from the second: %v", gone(one), gone(two))
		}
	}
	for _, n := range []*node{one, two} {
		if p, err := n.ring.Period(now); err != nil {
			t.Errorf("this month is gone too: %s, %v", p, err)
		}
	}

	late, err := instance("late.keys", kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	if !gone(late) {
		t.Error("an old copy was put in use with the destroyed key in it")
	}
	// No room for a temporary file beside one with such a name.
	_, err = instance(strings.Repeat("k", 250), kafka.Attach)
	if err == nil || !strings.Contains(err.Error(), "could not be rewritten") || !strings.Contains(err.Error(), month) {
		t.Errorf("a copy that holds the key and cannot lose it: %v", err)
	}
}
