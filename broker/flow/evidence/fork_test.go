package evidence

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"datafordeler/broker/ledger"
)

// restored is a rig with the key and the witnesses of another, and other data; the
// note of what was signed is lost, as with a machine that was set back as a whole.
func (r *rig) restored() *rig {
	r.t.Helper()
	other := newRig(r.t)
	other.now = other.now.Add(time.Hour) // another history from the first event on
	other.useKey(r.keyPath())
	if err := os.Remove(r.key.head.String()); err != nil {
		r.t.Fatal(err)
	}
	other.witnesses = r.witnesses
	other.trust(r.need)
	other.event()
	return other
}

func (r *rig) keyPath() string { return strings.TrimSuffix(r.key.head.String(), ".head") }

// held says that an instance signs nothing and holds deliveries for a fork.
func (r *rig) held(i *instance, signed int64) {
	r.t.Helper()
	var fork *ForkError
	for !errors.As(i.ledger.Late(), &fork) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-r.t.Context().Done():
			r.t.Fatalf("deliveries go on: %v", i.ledger.Late())
		}
	}
	if fork.Signed != signed || fork.File != r.key.fork.String() {
		r.t.Errorf("%+v, want a head over %d entries", fork, signed)
	}
	if _, err := r.key.sign(ledger.Checkpoint{Origin: origin, Size: 1000}); !errors.As(err, &fork) {
		r.t.Errorf("the key signs: %v", err)
	}
}

// A machine that was set back with its note of what was signed learns from the
// witnesses what that was, before it signs anything: whether it has fewer entries
// than they remember, or as many others.
func TestWitnessesRememberForTheSequencer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		batches int
	}{{"fewer", 0}, {"more", 6}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			away := r.useWitnesses(3, 2)
			r.event()
			i := r.start()
			for range 3 {
				r.covered(i.ledger, 0, r.decide(0, 5))
			}
			i.stop()
			signed := i.ledger.Head().Size
			other := r.restored()
			if c.batches > 0 { // another history, signed while nobody who remembers was asked
				other.witnesses = nil
				other.trust(0)
				alone := other.start()
				for range c.batches {
					other.covered(alone.ledger, 0, other.decide(0, 5))
				}
				alone.stop()
				if alone.ledger.Size() <= signed {
					t.Fatalf("%d entries, not more than %d", alone.ledger.Size(), signed)
				}
				if err := os.Remove(other.key.head.String()); err != nil {
					t.Fatal(err)
				}
				other.witnesses = r.witnesses
				other.trust(r.need)
			}
			published := other.end(other.topics.Checkpoints())
			// While too few can be asked, nothing is signed: who knows what they know.
			away[0].Store(true)
			away[1].Store(true)
			j := other.start()
			other.says("must say which they cosigned last")
			away[1].Store(false)
			other.held(j, signed)
			j.stop()
			if other.end(other.topics.Checkpoints()) != published {
				t.Error("a head was signed")
			}
			// It is not forgotten, nor asked for again.
			for _, a := range away {
				a.Store(true)
			}
			k := other.start()
			if err := k.ledger.Late(); err == nil {
				t.Error("after a restart deliveries go on")
			}
			other.held(k, signed)
			k.stop()
			if b, err := os.ReadFile(other.key.fork.String()); err != nil || !strings.Contains(string(b), origin) {
				t.Errorf("the proof is %q, %v", b, err)
			}
		})
	}
}

// A witness that comes back with another history stops what has begun to sign.
func TestWitnessProvesForkWhileSigning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	away := r.useWitnesses(1, 1)
	r.event()
	i := r.start()
	for range 3 {
		r.covered(i.ledger, 0, r.decide(0, 5))
	}
	i.stop()
	signed := i.ledger.Head().Size
	other := r.restored()
	away[0].Store(true)
	other.useWitnesses(1, 1) // one that has seen nothing
	j := other.start()
	other.covered(j.ledger, 0, other.decide(0, 5))
	away[0].Store(false)
	other.decide(0, 5) // something to sign
	other.held(j, signed)
}

// What a witness shows counts by the log's signature alone: a witness that lies
// stops nobody.
func TestWitnessThatLies(t *testing.T) {
	t.Parallel()
	liar := newRig(t)
	away := liar.useWitnesses(1, 1)
	liar.event()
	i := liar.start()
	liar.covered(i.ledger, 0, liar.decide(0, 5))
	i.stop()

	r := newRig(t) // another key
	r.witnesses = liar.witnesses
	r.trust(0)
	r.event()
	j := r.start()
	r.says("does not tell the last head")
	away[0].Store(true)
	r.covered(j.ledger, 0, r.decide(0, 5))
	if err := j.ledger.Late(); err != nil {
		t.Error(err)
	}
}
