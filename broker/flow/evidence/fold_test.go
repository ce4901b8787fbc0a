package evidence

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker/ledger"
)

// records are a topic's, with the markers of its transactions.
func (r *rig) records(topic string, isolation kgo.IsolationLevel) (all []*kgo.Record) {
	r.t.Helper()
	client, err := r.engine.NewClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}),
		kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords())
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	end := r.end(topic)
	for len(all) == 0 || all[len(all)-1].Offset < end-1 {
		all = append(all, client.PollFetches(r.t.Context()).Records()...)
		if r.t.Context().Err() != nil {
			r.t.Fatal(r.t.Context().Err())
		}
	}
	return all
}

// misses makes an instance have read all but some entries, as a client that loses
// records would.
func (r *rig) misses(l *Ledger, lost func(*kgo.Record) bool) {
	r.t.Helper()
	f := l.anew(&due{now: l.now})
	for _, rec := range r.records(r.topics.Ledger(), kgo.ReadCommitted()) {
		if lost(rec) {
			f.entries = rec.Offset + 1
		} else if err := f.take(rec); err != nil {
			r.t.Fatal(err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f.heads = l.fold.heads
	f.due, l.fold = &l.due, f
}

// A reader that was not given a record is found out by the next one, whatever the
// entry says: only aborted records may be missing, and their marker tells.
func TestRecordNotReadIsMissed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	all := r.records(r.topics.Ledger(), kgo.ReadCommitted())
	for n, rec := range all {
		f := i.ledger.anew(&due{now: time.Now})
		var err error
		for m := 0; m < len(all) && err == nil; m++ {
			if m != n {
				err = f.take(all[m])
			}
		}
		var lost *lostError
		if last := n == len(all)-1; last != (err == nil) || !last && (!errors.As(err, &lost) || lost.from != rec.Offset || lost.to != rec.Offset+1) {
			t.Errorf("without offset %d: %v", rec.Offset, err)
		}
	}
	// What was aborted is not given to any reader, and is not missed.
	f := i.ledger.anew(&due{now: time.Now})
	marker := func(offset int64, kind kmsg.ControlRecordKeyType) *kgo.Record {
		key := kmsg.ControlRecordKey{Type: kind}
		// Attributes are the client's to set, so a marker is one that was read.
		m := *all[len(all)-1]
		if !m.Attrs.IsControl() {
			t.Fatal("a transaction without its marker")
		}
		m.Offset, m.Key = offset, key.AppendTo(nil)
		return &m
	}
	if err := f.take(marker(7, kmsg.ControlRecordKeyTypeAbort)); err != nil || f.entries != 8 {
		t.Errorf("after an aborted transaction: %v, at %d", err, f.entries)
	}
	if err := f.take(marker(10, kmsg.ControlRecordKeyTypeCommit)); err == nil || f.entries != 8 {
		t.Errorf("records of a committed transaction are gone: %v, at %d", err, f.entries)
	}
}

// A reading that breaks is tried once more from the start. Where the second is
// whole, the instance goes on with it, and says what happened.
func TestMisreadIsReadAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i, follower := r.start(), r.open(time.Minute)
	r.covered(i.ledger, 0, r.decide(0, 5))
	r.covered(follower, 0, 0)
	r.misses(follower, func(rec *kgo.Record) bool { return !rec.Attrs.IsControl() })
	offset := r.decide(0, 5)
	r.covered(i.ledger, 0, offset)
	r.covered(follower, 0, offset)
	if err := follower.Late(); err != nil {
		t.Errorf("deliveries are held for a record that was read wrongly: %v", err)
	}
	if n := follower.misread.Load(); n != 1 {
		t.Errorf("%d misreadings counted", n)
	}
	if !r.logged("was read wrongly the first time") || !r.logged("differ_at_entry=0") {
		t.Error("nobody was told of it")
	}
	// It goes on as before: with what comes, and with how long decisions wait.
	offset = r.decide(1, 3)
	follower.Decided(1, offset)
	r.covered(follower, 1, offset)
	if follower.Age() != 0 || follower.Size() != i.ledger.Size() {
		t.Errorf("age %v, %d entries; the leader has %d", follower.Age(), follower.Size(), i.ledger.Size())
	}
}

// Where the leader itself misread, what it writes and signs is right all the same.
func TestMisreadLeader(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	r.misses(i.ledger, func(rec *kgo.Record) bool { return bytes.Contains(rec.Value, []byte(`"type":"batch"`)) })
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	if report, err := r.verify(); err != nil || report.Records != 10 {
		t.Errorf("%+v: %v", report, err)
	}
	if i.ledger.misread.Load() != 1 {
		t.Error("the misreading was not found")
	}
}

// standby is a candidate that followed the ledger and was not given its batches.
func (r *rig) standby() *Sequencer {
	r.t.Helper()
	l := r.open(time.Minute)
	r.covered(l, 0, 0)
	s, err := NewSequencer(SequencerOptions{Config: Config{Origin: origin, Witnesses: r.witnesses, Need: r.need, Patience: time.Minute},
		Engine: r.engine, Ledger: l, Key: r.key, Topics: r.topics, Log: r.log})
	if err != nil {
		r.t.Fatal(err)
	}
	r.misses(l, func(rec *kgo.Record) bool { return bytes.Contains(rec.Value, []byte(`"type":"batch"`)) })
	return s
}

// Whose reading is behind what was signed reads again before it says that the
// ledger was set back, though nothing new comes that would show what was lost.
func TestMisreadIsNotSetBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	s := r.standby()
	// What it would sign is less than it signed, and nothing is held for that yet.
	var regress *RegressError
	if err := s.sign(t.Context(), r.client); err == nil || errors.As(err, &regress) {
		t.Errorf("signed a head over less: %v", err)
	}
	if err := s.continuesKey(t.Context()); err != nil {
		t.Error(err)
	}
	if s.ledger.misread.Load() != 1 || s.ledger.Size() != i.ledger.Size() {
		t.Errorf("%d misreadings; %d entries, and the leader had %d", s.ledger.misread.Load(), s.ledger.Size(), i.ledger.Size())
	}
	// One that was set back stays so however often it is read, and is read for it once.
	if _, err := s.key.sign(ledger.Checkpoint{Origin: origin, Size: 9}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.continuesKey(t.Context()); !errors.As(err, &regress) {
			t.Errorf("set back, and: %v", err)
		}
		s.ledger.setBack(regress)
	}
	if s.ledger.rereads != 2 || s.ledger.misread.Load() != 1 {
		t.Errorf("read %d times for it; %d misreadings", s.ledger.rereads-1, s.ledger.misread.Load())
	}
}

// Who misread does not call a witness's head the proof of a fork.
func TestMisreadIsNoFork(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.useWitnesses(1, 1)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	s := r.standby()
	heads, err := s.askWitnesses(t.Context())
	if err != nil || len(heads) != 1 {
		t.Fatalf("%d heads: %v", len(heads), err)
	}
	if err := s.continues(t.Context(), heads, true); err != nil {
		t.Errorf("a fork by misreading: %v", err)
	}
	if err := r.key.forked(); err != nil || s.ledger.misread.Load() != 1 {
		t.Errorf("%d misreadings; %v", s.ledger.misread.Load(), err)
	}
}

// What contradicts itself however often it is read holds deliveries.
func TestContradictionHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	l := r.open(0)
	// An entry that is there twice: nobody's reading is to blame.
	r.produce(r.topics.Ledger(), 0, r.read(r.topics.Ledger())[1])
	<-l.done
	if err := l.Late(); ledger.NameOf(err) != ledger.BatchOutOfOrder || !strings.Contains(err.Error(), "read twice") {
		t.Errorf("deliveries go on: %v", err)
	}
	if l.misread.Load() != 0 {
		t.Error("it was called a misreading")
	}
}

// What was committed and is not there is not built on.
func TestCommittedIsReadBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	all := r.read(r.topics.Ledger())
	for _, c := range []struct {
		before  int64
		entries [][]byte
		ok      bool
	}{{0, all, true}, {1, all[1:], true}, {2, nil, true}, {1, all[:1], false}, {2, all[1:], false}, {0, all[:1], false}} {
		if err := i.ledger.ends(c.before, c.entries); (err == nil) != c.ok {
			t.Errorf("%d entries after %d: %v", len(c.entries), c.before, err)
		}
	}
}
