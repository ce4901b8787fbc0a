package evidence

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/ledger"
	"datafordeler/broker/registry"
)

// drawChange is something to append that is often not so: of an organisation, a
// dataset or a mailbox that may not be there.
func drawChange(rt *rapid.T) registry.Change {
	numbers := []broker.OrgNumber{"964338531", "958935420", "974761076", "1"}
	number := func(name string) broker.OrgNumber { return rapid.SampledFrom(numbers).Draw(rt, name) }
	id := func(name string) string {
		return rapid.SampledFrom([]string{"a", "b", "c", "01017012345"}).Draw(rt, name)
	}
	put := func(thing any) registry.Change {
		c, err := registry.Put(thing)
		if err != nil {
			rt.Fatal(err)
		}
		return c
	}
	switch rapid.IntRange(0, 6).Draw(rt, "kind") {
	case 0, 1:
		return put(broker.Organisation{Number: number("number"), Name: id("name")})
	case 2:
		return put(broker.Mailbox{ID: broker.MailboxID(id("mailbox")), Organisation: number("owner")})
	case 3:
		return registry.RegisterKeystore(id("check"), rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(rt, "replaces"))
	case 4:
		return registry.RegisterLedger(registry.Ledger{Origin: "o", Key: id("key"), Replaces: rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "replaces")})
	case 5:
		return registry.EndCase("s", broker.CaseID(id("case")), time.Unix(1_800_000_000, 0))
	}
	return registry.LookUpSubject(registry.SubjectLookup{Reason: rapid.SampledFrom([]string{"", "asked"}).Draw(rt, "reason")})
}

// Whatever comes in the topic control, from writers that are late or wrong, the
// ledger's chain accepts just what the registry's fold does, with its labels.
func TestLedgerAcceptsWhatTheRegistryDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		state, now := registry.New(), time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		var held []registry.Event // of writers that come late
		var b ledger.ControlBuilder
		var chain ledger.Chain
		sequence := ledger.NewSequence()
		b.Begin(chain)
		for offset := range int64(rapid.IntRange(1, 30).Draw(rt, "events")) {
			events, err := state.Link(now, "test", drawChange(rt))
			if err != nil {
				rt.Fatal(err)
			}
			e := events[0]
			switch rapid.IntRange(0, 3).Draw(rt, "late") {
			case 0:
				held = append(held, e)
				fallthrough
			case 1:
				if len(held) > 0 {
					e = rapid.SampledFrom(held).Draw(rt, "held")
				}
			}
			fits := e.On == state.Revision() && e.Prev == state.Head()
			before := state.Revision()
			accepted, err := state.Fold(e)
			if err != nil {
				rt.Fatal(err)
			}
			value, err := registry.Encode(e)
			if err != nil {
				rt.Fatal(err)
			}
			took := b.Accepted()
			if _, err := b.Add(offset, value, fits && !accepted); err != nil {
				rt.Fatalf("offset %d: %v", offset, err)
			}
			if (b.Accepted() > took) != accepted || accepted != (state.Revision() > before) {
				rt.Fatalf("offset %d: the registry says %t, the ledger %t", offset, accepted, b.Accepted() > took)
			}
			if rapid.IntRange(0, 4).Draw(rt, "end") == 0 {
				var entry ledger.Entry
				if entry, chain = b.End(); sequence.Accept(&entry) != nil || chain.Revision != state.Revision() || chain.Digest != state.Head() {
					rt.Fatalf("chain %+v, the registry is at %d %v", chain, state.Revision(), state.Head())
				}
				b.Begin(chain)
			}
		}
	})
}

// An event that the registry refuses, though it came first, is in the ledger under
// its label, and nothing stops: not the sequencer, not the fold, not the verifier.
func TestRefusedEventStopsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	put, err := registry.Put(broker.Mailbox{ID: "m", Organisation: "958935420"}) // which nobody registered
	if err != nil {
		t.Fatal(err)
	}
	events, err := r.state.Link(r.now, "test", put)
	if err != nil {
		t.Fatal(err)
	}
	value, err := registry.Encode(events[0])
	if err != nil {
		t.Fatal(err)
	}
	r.produce(r.topics.Control(), 0, value)
	r.event() // on what stood before it
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	j := r.start() // which reads it all from the start
	r.event()
	r.covered(j.ledger, 0, r.decide(0, 5))
	report, err := r.verify()
	if err != nil {
		t.Fatal(err)
	}
	if report.ControlRefused != 1 || report.ControlEvents != 3 || report.ControlLosers != 0 || report.Revision != r.revision() {
		t.Errorf("%+v", report)
	}
}

// A sequencer that was not given an event which the registry has enters nothing.
func TestSequencerAgreesWithTheRegistry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		r.event()
	}
	s := &Sequencer{judge: r.judge()}
	all := r.records(r.topics.Control(), kgo.ReadCommitted())
	for lost := range 3 {
		var b ledger.ControlBuilder
		b.Begin(ledger.Chain{})
		var err error
		for n := 0; n < len(all) && err == nil; n++ {
			if n != lost {
				err = s.add(t.Context(), &b, all[n])
			}
		}
		if last := lost == len(all)-1; last != (err == nil) {
			t.Errorf("without event %d: %v", lost, err)
		}
	}
}

// A record of decisions that cannot be read stops its partition, by name, and no other.
func TestUnreadableRecordStopsItsPartition(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	bad := r.produce(r.topics.Decisions(), 0, []byte("no record of decisions"))
	behind := r.decide(0, 5)
	r.covered(i.ledger, 1, r.decide(1, 5))
	r.says("a record of decisions cannot be read")
	if sum := fmt.Sprintf("%x", sha256.Sum256([]byte("no record of decisions"))); !r.logged(sum) {
		t.Error("its hash was not said")
	}
	r.covered(i.ledger, 1, r.decide(1, 5))
	if i.ledger.due.covered(0) > bad {
		t.Errorf("the record at %d, or the one at %d behind it, came into the ledger", bad, behind)
	}
	i.stop()
	report, err := r.verify()
	if err != nil || report.Records != 15 {
		t.Errorf("%+v: %v", report, err)
	}
}
