package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/ledger"
)

// What is decided comes under a signed head, once each, in an order that verifies,
// whichever instance leads and however often that changes.
func TestDecisionsComeUnderHeads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r.event()
	instances := []*instance{r.start(), r.start()}
	last := map[int32]int64{}
	records := int64(0)
	for range 12 {
		for range rnd.IntN(5) {
			r.event()
		}
		for range 1 + rnd.IntN(8) {
			p, n := rnd.Int32N(3), 1+rnd.IntN(40)
			last[p] = r.decide(p, n)
			records += int64(n)
		}
		// One goes, which may be the leader, and another comes.
		if rnd.IntN(3) == 0 {
			i := rnd.IntN(len(instances))
			instances[i].stop()
			instances[i] = r.start()
		}
	}
	for p, offset := range last {
		for _, i := range instances {
			r.covered(i.ledger, p, offset)
		}
	}
	report, err := r.verify()
	if err != nil {
		t.Fatal(err)
	}
	if report.Records != records || report.Revision != r.revision() || report.Uncovered != 0 || len(report.Overlaps)+len(report.Skips) != 0 {
		t.Errorf("%+v; want %d records at revision %d, all covered", report, records, r.revision())
	}
	if a, b := instances[0].ledger.Head(), instances[1].ledger.Head(); a.Checkpoint != b.Checkpoint {
		t.Errorf("two instances know different heads: %v and %v", a.Checkpoint, b.Checkpoint)
	}
}

// A batch waits for the control events that it rests on, however late they are read.
func TestBatchWaitsForItsRevision(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	value := r.encode(0, 0, 4, r.revision()+1) // of a revision that is not there yet
	early := r.produce(r.topics.Decisions(), 0, value)
	r.next[0] = 4
	other := r.decide(1, 3)
	r.covered(i.ledger, 1, other)
	if i.ledger.due.covered(0) > early {
		t.Fatal("a batch was entered before the events that it rests on")
	}
	r.event()
	r.covered(i.ledger, 0, early)
	if _, err := r.verify(); err != nil {
		t.Error(err)
	}
}

// Offsets that nobody accounts for stop the sequence, and in time deliveries.
func TestGapHoldsDeliveries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	r.produce(r.topics.Source("d"), 0, []byte("{}")) // so that offset 0 is not gone
	i := r.start()
	first := r.decide(0, 5)
	r.covered(i.ledger, 0, first)
	if err := i.ledger.Late(); err != nil {
		t.Fatal(err)
	}
	lost := r.produce(r.topics.Decisions(), 0, r.encode(0, 7, 2, r.revision()))
	i.ledger.Decided(0, lost)
	for !r.logged("are in no entry") {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the gap was not found")
		}
	}
	now := time.Now()
	i.ledger.due.mu.Lock()
	i.ledger.due.now = func() time.Time { return now.Add(2 * time.Minute) }
	i.ledger.due.mu.Unlock()
	if err := i.ledger.Late(); err == nil || !strings.Contains(err.Error(), "stop_after") {
		t.Errorf("deliveries go on: %v", err)
	}
	// An instance that starts now knows of it too, by what stands in the topic.
	later := r.open(time.Nanosecond)
	if err := later.Late(); err == nil {
		t.Error("an instance that starts does not know of decisions that wait")
	}
}

// On the embedded engine records may be decided twice after a kill: that is said,
// and no fault.
func TestOverlapIsLabelled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.decide(0, 5)
	r.next[0] = 3
	r.covered(i.ledger, 0, r.decide(0, 5))
	report, err := r.verify()
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Overlaps) != 1 || report.Overlaps[0].Amount != 2 {
		t.Errorf("overlaps %+v, want one of 2 offsets", report.Overlaps)
	}
}

// An old copy of the data under a key that has signed more is refused.
func TestSetBackDataAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	path := string(r.key.head)[:len(r.key.head)-len(".head")]

	other := newRig(t) // data that never had those decisions
	other.event()
	other.useKey(path)
	j := other.start()
	other.decide(0, 1)
	for !other.logged("set back or replaced") {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("nothing was refused")
		}
	}
	if h := j.ledger.Head(); h.Size != 0 {
		t.Errorf("a head over %d entries was signed", h.Size)
	}
	var h head
	b, err := keys.File(path + ".head").Read()
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil || h.Size != i.ledger.Head().Size {
		t.Errorf("the note of the last head is %+v, %v; want size %d", h, err, i.ledger.Head().Size)
	}
}

// The key refuses to go back, and to sign two heads of one size.
func TestKeyNeverGoesBack(t *testing.T) {
	t.Parallel()
	k, created, err := OpenKey(filepath.Join(t.TempDir(), "k"), origin)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	sign := func(size int64, root byte) error {
		_, err := k.sign(ledger.Checkpoint{Origin: origin, Size: size, Root: tlog.Hash{root}})
		return err
	}
	var regress *RegressError
	for _, c := range []struct {
		size int64
		root byte
		ok   bool
	}{{3, 1, true}, {3, 1, true}, {3, 2, false}, {2, 1, false}, {4, 2, true}, {3, 1, false}} {
		if err := sign(c.size, c.root); (err == nil) != c.ok || err != nil && !errors.As(err, &regress) {
			t.Errorf("size %d, root %d: %v", c.size, c.root, err)
		}
	}
	if _, _, err := OpenKey(string(k.head)[:len(k.head)-5], "other.example/log"); err == nil || !strings.Contains(err.Error(), "other.example/log") {
		t.Errorf("another origin: %v", err)
	}
}

// A head that the key did not sign is passed over; one that it signed, over other
// entries, stops the ledger.
func TestForgedHeads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()

	forger, _, err := OpenKey(filepath.Join(t.TempDir(), "k"), origin)
	if err != nil {
		t.Fatal(err)
	}
	size := i.ledger.Head().Size
	forged, err := forger.sign(ledger.Checkpoint{Origin: origin, Size: size, Root: tlog.Hash{1}})
	if err != nil {
		t.Fatal(err)
	}
	r.produce(r.topics.Checkpoints(), 0, forged)
	l := r.open(0)
	if !r.logged("not signed by this ledger's key") || l.Head().Size != size {
		t.Errorf("a forged head: size %d", l.Head().Size)
	}

	// Whoever has the key and signs another history contradicts the entries.
	twice, err := ledger.SignCheckpoint(ledger.Checkpoint{Origin: origin, Size: size, Root: tlog.Hash{1}}, r.key.signer)
	if err != nil {
		t.Fatal(err)
	}
	r.produce(r.topics.Checkpoints(), 0, twice)
	if _, err := Open(t.Context(), r.engine, r.topics, r.policy, 0, r.log); ledger.NameOf(err) != ledger.WrongRoot {
		t.Errorf("two histories under one key: %v", err)
	}
	if _, err := r.verify(); ledger.NameOf(err) == "" {
		t.Errorf("the verifier says %v", err)
	}
}

// What is changed in the topics after it was entered is found by who reads them.
func TestChangedRecordIsFound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	value := r.encode(0, 0, 5, r.revision())
	r.next[0] = 5
	r.covered(i.ledger, 0, r.produce(r.topics.Decisions(), 0, value))
	i.stop()

	// The same ledger over other decisions: topics made anew, with one byte changed.
	entries, heads := r.read(r.topics.Ledger()), r.read(r.topics.Checkpoints())
	other := newRig(t)
	other.policy = r.policy
	for _, v := range r.read(r.topics.Control()) {
		other.produce(other.topics.Control(), 0, v)
	}
	changed := append([]byte(nil), value...)
	changed[len(changed)-1] ^= 1
	other.produce(other.topics.Decisions(), 0, changed)
	for _, v := range entries {
		other.produce(other.topics.Ledger(), 0, v)
	}
	for _, v := range heads {
		other.produce(other.topics.Checkpoints(), 0, v)
	}
	if _, err := other.verify(); ledger.NameOf(err) != ledger.RowChanged {
		t.Errorf("a changed byte: %v", err)
	}
}

// A record of decisions that nobody entered is found between those that were, and
// counted after them.
func TestRecordOutsideTheLedger(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	r.decide(0, 5) // after the sequencer has gone
	count := func(r *rig) (between, after int64) {
		src, err := OpenSource(t.Context(), r.engine, r.topics)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if _, err := (&ledger.Verifier{Policy: r.policy}).Run(t.Context(), src); err != nil {
			t.Fatal(err)
		}
		after, err = src.Rest()
		if err != nil {
			t.Fatal(err)
		}
		return src.Unnamed(), after
	}
	if between, after := count(r); between != 0 || after != 1 {
		t.Errorf("%d between and %d after, want 0 and 1", between, after)
	}
	// The same with a forged record in the midst: the ledger names the others by
	// where they stand, so it is made anew around it.
	other := newRig(t)
	other.event()
	value := other.encode(0, 0, 5, other.revision())
	other.produce(other.topics.Decisions(), 0, value)
	j := other.start()
	other.covered(j.ledger, 0, 0)
	j.stop()
	other.produce(other.topics.Decisions(), 0, value)
	last := other.encode(0, 5, 5, other.revision())
	at := ledger.Place{Partition: 0, Offset: other.produce(other.topics.Decisions(), 0, last)}
	var b ledger.Builder
	e, err := Lines(&b, at, last, nil)
	if err != nil {
		t.Fatal(err)
	}
	other.produce(other.topics.Ledger(), 0, ledger.AppendEntry(nil, &e))
	if between, after := count(other); between != 1 || after != 0 {
		t.Errorf("%d between and %d after, want 1 and 0", between, after)
	}
}

func (r *rig) end(topic string) int64 {
	r.t.Helper()
	adm, err := r.engine.Admin()
	if err != nil {
		r.t.Fatal(err)
	}
	defer adm.Close()
	e, err := kafka.CommittedEnds(r.t.Context(), adm, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	return e[topic][0]
}

func (r *rig) read(topic string) (all [][]byte) {
	r.t.Helper()
	t, err := openTail(r.engine, partition{topic, 0}, 0, r.end(topic))
	if err != nil {
		r.t.Fatal(err)
	}
	defer t.close()
	for {
		rec, err := t.read(r.t.Context())
		if err != nil {
			return all
		}
		all = append(all, rec.Value)
	}
}

// Whoever writes by the ledger's transactional id last is the only one who writes.
func TestRivalIsFenced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	// A rival that believes it leads begins, and so fences the leader.
	rival, err := r.engine.NewClient(kgo.TransactionalID("test-ledger"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer rival.Close()
	if _, _, err := rival.ProducerID(t.Context()); err != nil {
		t.Fatal(err)
	}
	offset := r.decide(0, 5)
	r.covered(i.ledger, 0, offset) // it noticed, and began anew
	if err := rival.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	err = rival.ProduceSync(t.Context(), &kgo.Record{Topic: r.topics.Ledger(), Value: []byte("x")}).FirstErr()
	if err == nil {
		err = rival.EndTransaction(context.Background(), kgo.TryCommit)
	}
	if err == nil {
		t.Error("the fenced rival wrote")
	}
	if _, err := r.verify(); err != nil {
		t.Error(err)
	}
}

// A head counts when enough witnesses have cosigned it, and not before.
func TestHeadsNeedWitnesses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	away := r.useWitnesses(2, 1)
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	away[0].Store(true) // one is enough
	r.covered(i.ledger, 0, r.decide(0, 5))
	away[1].Store(true)
	offset := r.decide(0, 5)
	i.ledger.Decided(0, offset)
	for !r.logged("too few witnesses") {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("nobody missed the witnesses")
		}
	}
	if i.ledger.due.covered(0) > offset || i.ledger.Age() == 0 {
		t.Error("a head counts that nobody cosigned")
	}
	away[1].Store(false)
	r.covered(i.ledger, 0, offset)
	i.stop()
	report, err := r.verify()
	if err != nil || len(report.CountedCosigners) == 0 {
		t.Errorf("%v, cosigned by %v", err, report.CountedCosigners)
	}
}
