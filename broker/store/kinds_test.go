package store

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// checkKinds holds Kinds to counting by hand, for some span of time.
func checkKinds(t *rapid.T, s *Store, m *naive) {
	var from, to time.Time
	if len(m.hits) > 0 && rapid.Bool().Draw(t, "a span") {
		from = m.hits[len(m.hits)/3].Decision.Time
		to = from.Add(300 * time.Hour)
	}
	type key struct {
		dataset broker.DatasetID
		kind    broker.DecisionKind
	}
	type sum struct{ decisions, permits, denials, nowhere int64 }
	want, got := map[key]sum{}, map[key]sum{}
	for i := range m.hits {
		d := &m.hits[i].Decision
		if d.Kind == broker.StreamDecision || !from.IsZero() && (d.Time.Before(from) || !d.Time.Before(to)) {
			continue
		}
		k := key{d.Position.Dataset, d.Kind}
		v := want[k]
		v.decisions++
		v.permits += bit(d.Outcome.Permit)
		v.denials += bit(!d.Outcome.Permit)
		v.nowhere += bit(d.Position.Offset == broker.Nowhere)
		want[k] = v
	}
	all, err := s.Kinds(context.Background(), "", from, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if !c.Balanced() || c.Kind == broker.DoorDecision && c.Permits > 0 || c.Nowhere > 0 && c.Kind != broker.LookupDecision || c.Nowhere > c.Decisions || c.From.After(c.To) {
			t.Fatalf("it does not balance: %+v", c)
		}
		got[key{c.Dataset, c.Kind}] = sum{c.Decisions, c.Permits, c.Denials, c.Nowhere}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("kinds of %s to %s: %v, want %v", from, to, got, want)
	}
}

// TestWithheldAgain: the same delivery is withheld at the door at several times,
// under one id. Each is kept, and the first is the decision of that id.
func TestWithheldAgain(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		s := small(open1(t, dsn()))
		at := time.Date(2026, 11, 3, 8, 0, 0, 0, time.UTC)
		d := broker.Decision{Kind: broker.DoorDecision, Position: broker.Position{Dataset: "inntekt", TopicID: [16]byte{7}, Offset: 4}, Event: hashOf(1),
			Subscription: "sub-1", Agreement: "agreement-1", PolicyDigest: "x", Period: "2026-11", Outcome: broker.Outcome{Reasons: []broker.Reason{"no_case"}}}
		d.ID, _ = identify(d.Kind, d.Position, d.Event, d.Request, d.Subscription, false)
		for n := range int64(40) {
			d.Time = at.Add(time.Duration(n) * time.Minute)
			b := Batch{LogFrom: n, LogOffset: n, Head: Head{Kind: d.Kind, Last: -1, Time: d.Time, Policy: "x", Period: d.Period, Decisions: 2}, Decisions: []broker.Decision{d, d}}
			apply1(t, s, b)
		}
		h, ok, err := s.Decision(t.Context(), d.ID)
		if err != nil || !ok || !h.Decision.Time.Equal(at) {
			t.Fatalf("by its id: %v %v %v", h.Decision.Time, ok, err)
		}
		page, err := s.Search(t.Context(), Query{Decision: d.ID})
		if err != nil || len(page.Hits) != 80 || !page.Hits[0].Decision.Time.Equal(d.Time) {
			t.Fatalf("%d hits, the newest of %v: %v", len(page.Hits), page.Hits[0].Decision.Time, err)
		}
	})
}

// TestSingleRefusals: a batch of single decisions that contradicts itself is not
// applied.
func TestSingleRefusals(t *testing.T) {
	s := open1(t, dbPath(t.TempDir()))
	for name, change := range map[string]func(*Batch){
		"range":      func(b *Batch) { b.Head.Last = 5 },
		"records":    func(b *Batch) { b.Head.Records = 1 },
		"dataset":    func(b *Batch) { b.Head.Dataset = "inntekt" },
		"decisions":  func(b *Batch) { b.Head.Decisions++ },
		"permits":    func(b *Batch) { b.Head.Permits++ },
		"time":       func(b *Batch) { b.Head.Time = b.Head.Time.Add(1) },
		"kind":       func(b *Batch) { b.Decisions[1].Kind = broker.DoorDecision },
		"request":    func(b *Batch) { b.Decisions[1].Request = broker.Digest{} },
		"partition":  func(b *Batch) { b.Decisions[1].Position.Partition = -1 },
		"no event":   func(b *Batch) { b.Decisions[1].Event = broker.EventHash{}; b.Decisions[1].Position.Offset = 3 },
		"no dataset": func(b *Batch) { b.Decisions[1].Position.Dataset = "" },
		"not text":   func(b *Batch) { b.Decisions[1].Position.Dataset = "\xff" },
		"nowhere": func(b *Batch) {
			b.Decisions[1].Position.Offset, b.Decisions[1].Position.TopicID = broker.Nowhere, [16]byte{1}
		},
		"a permit at the door": func(b *Batch) {
			b.Head.Kind = broker.DoorDecision
			setAll(b, func(d *broker.Decision) {
				d.Kind, d.Request, d.Event, d.Position.Offset = b.Head.Kind, broker.Digest{}, hashOf(3), 1
			})
		},
	} {
		g := newGen(5)
		var b Batch
		for b.Head.Kind != broker.LookupDecision || len(b.Decisions) < 3 || b.Head.Permits == 0 {
			b = g.singles(g.sources[0])
		}
		b.LogFrom, b.LogOffset = 0, 0
		b.Decisions = slices.Clone(b.Decisions)
		change(&b)
		if err := s.Apply(t.Context(), []Batch{b}, partiesOf); err == nil {
			t.Errorf("%s: applied", name)
		}
	}
	if got := digest(t, s); !strings.HasSuffix(got, " 0") {
		t.Errorf("something was kept: %s", got)
	}
}
