package flow

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
)

// A month's key is destroyed: that month's decisions still read as they did, byte
// for byte, and nobody can be looked up in them any more. What is decided next
// goes by the next key, also where an instance's clock has not left the month.
func TestDestroyedPeriod(t *testing.T) {
	t.Parallel()
	s := ready(t)
	// Decisions are found by the time that Kafka gave them, which is the real one.
	begun := time.Now().UTC()
	period := begun.Format("2006-01")
	next := time.Date(begun.Year(), begun.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	s.setClock(begun)
	s.change(registry.RegisterKeystore(s.ring.Check(), ""))
	s.start()
	s.publishLine("id=e1 person=p1")
	s.publishLine("id=e2 person=p2")
	s.drain(s.ctx)

	type read struct {
		sums      map[[32]byte]bool
		decisions map[broker.DecisionID]broker.Decision
	}
	all := func() read {
		r := read{map[[32]byte]bool{}, map[broker.DecisionID]broker.Decision{}}
		if err := each(s.ctx, s.engine, s.topics.Decisions(), func(m *kgo.Record) error {
			r.sums[sha256.Sum256(m.Value)] = true
			_, err := deliver.Decode(m.Value, func(d *broker.Decision) error {
				r.decisions[d.ID] = *d
				return nil
			})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := all()
	subject := s.ring.Subject(broker.Person, s.people.Person(1).ID)
	pseudonym, err := s.ring.Pseudonym(period, subject)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, d := range before.decisions {
		if d.Period != period {
			t.Errorf("decided under the key of %s, want %s", d.Period, period)
		}
		if d.Subject == pseudonym {
			found++
		}
	}
	if len(before.decisions) < 2 || found == 0 {
		t.Fatalf("%d decisions, %d of them on the person: the test shows nothing", len(before.decisions), found)
	}
	batches, records, singles, err := InPeriod(s.ctx, s.engine, s.topics, next.AddDate(0, -1, 0))
	if err != nil || batches != int64(len(before.sums)) || records != 2 || singles != 0 {
		t.Errorf("%d records in %d batches of %s (%v), want 2 in %d", records, batches, period, err, len(before.sums))
	}
	if batches, _, _, err = InPeriod(s.ctx, s.engine, s.topics, next); err != nil || batches != 0 {
		t.Errorf("%d batches of a month that has not begun (%v)", batches, err)
	}

	// Ten seconds into the next month by who destroys it, and not into it yet by
	// the instance.
	s.setClock(next.Add(10 * time.Second))
	s.change(registry.DestroyPeriod(registry.Destruction{Period: period, Check: s.ring.Check(), Reason: "as agreed"}))
	if gone := s.ring.Forget(period); len(gone) != 1 {
		t.Fatalf("forgot %v", gone)
	}
	s.setClock(next.Add(-10 * time.Second))
	s.publishLine("id=e3 person=p1")
	s.drain(s.ctx)

	after := all()
	for sum := range before.sums {
		if !after.sums[sum] {
			t.Error("a batch of the destroyed month changed")
		}
	}
	fresh := 0
	for id, d := range after.decisions {
		if _, old := before.decisions[id]; !old {
			fresh++
			if want := next.Format("2006-01"); d.Period != want {
				t.Errorf("decided under the key of %s after it was destroyed, want %s", d.Period, want)
			}
		}
	}
	if fresh == 0 || len(after.decisions) != len(before.decisions)+fresh {
		t.Errorf("%d decisions before, %d after, %d of them new", len(before.decisions), len(after.decisions), fresh)
	}
	var missing *keys.MissingPeriodError
	if _, err := s.ring.Pseudonym(period, subject); !errors.As(err, &missing) || !missing.Destroyed {
		t.Errorf("a lookup in the destroyed month: %v", err)
	}
	s.stop()
}
