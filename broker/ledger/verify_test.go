package ledger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

func TestHonestLogVerifies(t *testing.T) {
	l := newLog(t, 1, 2)
	l.grow(200)
	l.batch(0, 0, 900, 40) // of several chunks, with records that span them
	l.batch(0, 0, 1, 2000) // one record of several chunks
	l.sign(2)
	l.batch(1, 0, 3, 3)
	l.sign(1) // awaits a witness
	l.batch(1, 0, 3, 3)
	report, err := l.verify(l.notes[1], l.notes[len(l.notes)-1])
	if err != nil {
		t.Fatal(err)
	}
	var decisions, permits, lines int64
	for _, x := range l.items {
		lines += int64(len(x.lines))
		for _, line := range x.lines {
			if d, err := ParseDecision(line); err == nil {
				decisions++
				if d.Outcome.Permit {
					permits++
				}
			}
		}
	}
	if report.Entries != int64(len(l.items)) || report.Lines != lines || report.Decisions != decisions || report.Permits != permits ||
		report.Checkpoints != int64(len(l.notes)) || report.Awaiting != 1 || report.Uncovered != 2 || report.Counted.Size != report.Entries-2 ||
		report.Last.Size != report.Entries-1 || len(report.Cosigners) != 1 || len(report.CountedCosigners) != 2 || report.Fault != nil ||
		report.Revision != l.sequence.Revision() || report.ControlLosers == 0 || len(report.Ranges) != 6 {
		t.Errorf("report %+v, of %d entries, %d lines, %d decisions, %d permits, %d checkpoints", report, len(l.items), lines, decisions, permits, len(l.notes))
	}
}

// tamper is what somebody did to an honest log, and the name it is found by.
var tamper = []struct {
	name string
	do   func(l *testLog, p *places)
	want FaultName
}{
	{"a byte changed in a decision", func(l *testLog, p *places) { flip(l.items[p.batch].lines[1], 60) }, RowChanged},
	{"a denial made a permit", func(l *testLog, p *places) {
		x := &l.items[p.denial]
		x.lines[p.denied] = bytes.Replace(x.lines[p.denied], []byte(`"deny"`), []byte(`"permit"`), 1)
	}, RowChanged},
	{"a denial made a permit, and its root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.denial]
		x.lines[p.denied] = bytes.Replace(x.lines[p.denied], []byte(`"outcome":"deny","reasons":["no_open_case"]`), []byte(`"outcome":"permit"`), 1)
		x.reroot(func(e *Entry) { e.Batch.Permits++ })
	}, RowChanged},
	{"a reason changed, and its root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.denial]
		x.lines[p.denied] = bytes.Replace(x.lines[p.denied], []byte(`no_open_case`), []byte(`other_reason`), 1)
		x.reroot(nil)
	}, WrongRoot},
	{"a byte changed in a head", func(l *testLog, p *places) { flip(l.items[p.batch].lines[0], 120) }, RowChanged},
	{"a head's limits changed, and its root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		x.lines[0] = bytes.Replace(x.lines[0], []byte(`"depth":64`), []byte(`"depth":65`), 1)
		x.reroot(nil)
	}, WrongRoot},
	{"a head's policy changed, and its root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		x.lines[0] = bytes.Replace(x.lines[0], []byte(`"sha256:aa"`), []byte(`"sha256:ab"`), 1)
		x.reroot(nil)
	}, EntryChanged},
	{"an entry's root changed", func(l *testLog, p *places) {
		e := &l.items[p.batch].entry
		flip(*e, len(*e)-10)
	}, RowChanged},
	{"an entry's sum changed", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		x.reroot(func(e *Entry) { e.Batch.Sum[3] ^= 1 })
	}, WrongRoot},
	{"an entry's permits changed", func(l *testLog, p *places) {
		l.items[p.batch].reroot(func(e *Entry) { e.Batch.Permits ^= 1 })
	}, EntryChanged},
	{"an entry's repeats passed for rejections", func(l *testLog, p *places) {
		l.items[p.batch].reroot(func(e *Entry) { e.Batch.OutOfScope, e.Batch.Records = e.Batch.OutOfScope+1, e.Batch.Records+1 })
	}, EntryChanged},
	{"an entry written otherwise", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		x.entry = bytes.Replace(x.entry, []byte(`"partition":`), []byte(`"partition": `), 1)
	}, EntryChanged},
	{"a row dropped", func(l *testLog, p *places) { x := &l.items[p.batch]; x.lines = slices.Delete(x.lines, 1, 2) }, RowChanged},
	{"a row dropped, and its root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		permit := must(ParseDecision(x.lines[len(x.lines)-1])).Outcome.Permit
		x.lines = x.lines[:len(x.lines)-1]
		x.reroot(func(e *Entry) {
			if permit {
				e.Batch.Permits--
			}
		})
	}, EntryChanged},
	{"a row moved to another batch", func(l *testLog, p *places) {
		x, y := &l.items[p.batch], &l.items[p.other]
		row := x.lines[1]
		x.lines, y.lines = slices.Delete(x.lines, 1, 2), append(y.lines, row)
	}, RowChanged},
	{"a row moved to another batch, and the roots made to fit", func(l *testLog, p *places) {
		x, y := &l.items[p.batch], &l.items[p.other]
		row := x.lines[len(x.lines)-1]
		x.lines, y.lines = x.lines[:len(x.lines)-1], append(y.lines, row)
		y.reroot(nil)
		x.reroot(nil)
	}, EntryChanged},
	{"two rows swapped, and the root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		x.lines[1], x.lines[len(x.lines)-1] = x.lines[len(x.lines)-1], x.lines[1]
		x.reroot(nil)
	}, RowChanged},
	{"a row twice, and the root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		d := must(ParseDecision(x.lines[1]))
		x.lines = slices.Insert(x.lines, 1, bytes.Clone(x.lines[1]))
		x.reroot(func(e *Entry) {
			if d.Outcome.Permit {
				e.Batch.Permits++
			}
		})
	}, RowChanged},
	{"a batch dropped that others follow", func(l *testLog, p *places) { l.items = slices.Delete(l.items, p.batch, p.batch+1) }, Gap},
	{"the last batch of a partition dropped", func(l *testLog, p *places) { l.items = slices.Delete(l.items, p.final, p.final+1) }, WrongRoot},
	{"the last entry dropped", func(l *testLog, p *places) { l.items = l.items[:len(l.items)-1] }, BatchMissing},
	{"control events dropped", func(l *testLog, p *places) { l.items = l.items[1:] }, UnknownRevision},
	{"later control events dropped", func(l *testLog, p *places) { l.items = slices.Delete(l.items, p.control, p.control+1) }, UnknownRevision},
	{"a control event changed", func(l *testLog, p *places) { flip(l.items[p.control].lines[0], 90) }, RowChanged},
	{"a control event changed, and its root made to fit", func(l *testLog, p *places) {
		x := &l.items[0]
		x.lines[0] = bytes.Replace(x.lines[0], []byte(`"test"`), []byte(`"jest"`), 1)
		x.reroot(nil)
	}, ControlBroken},
	{"a loser passed for accepted", func(l *testLog, p *places) {
		l.items[0].reroot(func(e *Entry) { e.Control.Events++; e.Revision++ })
	}, ControlBroken},
	{"two batches of a partition swapped", func(l *testLog, p *places) {
		l.items[p.batch], l.items[p.next] = l.items[p.next], l.items[p.batch]
	}, Gap},
	{"two batches of different partitions swapped", func(l *testLog, p *places) {
		l.items[p.final], l.items[p.last] = l.items[p.last], l.items[p.final]
	}, BatchOutOfOrder},
	{"a batch twice", func(l *testLog, p *places) { l.items = slices.Insert(l.items, p.batch, l.items[p.batch].clone()) }, BatchOutOfOrder},
	{"a batch twice, at another place in decisions", func(l *testLog, p *places) {
		x := l.items[p.batch].clone()
		x.reroot(func(e *Entry) { e.Batch.At.Offset++ })
		l.items = slices.Insert(l.items, p.batch+1, x)
	}, Overlap},
	{"a batch that covers another's offsets, labelled as skipped", func(l *testLog, p *places) {
		l.items = slices.Delete(l.items, p.batch, p.batch+1)
		for i := p.batch; i < len(l.items); i++ {
			if e := must(ParseEntry(l.items[i].entry)); e.Type == BatchEntry && e.Batch.TopicID == p.of.TopicID && e.Batch.Partition == p.of.Partition {
				l.items[i].reroot(func(e *Entry) { e.Batch.Skipped = e.Batch.First - p.of.First })
				return
			}
		}
	}, WrongRoot},
	{"the last checkpoint rolled back", func(l *testLog, p *places) { l.notes[len(l.notes)-1] = l.notes[0] }, CheckpointRolledBack},
	{"an older checkpoint added", func(l *testLog, p *places) { l.notes = append(l.notes, l.notes[0]) }, CheckpointRolledBack},
	{"a checkpoint of another history signed", func(l *testLog, p *places) {
		c := mustOpen(l, len(l.notes)-1)
		c.Root[0] ^= 1
		l.notes = append(l.notes, l.note(c, 2))
	}, CheckpointForked},
	{"the only checkpoint signs another root", func(l *testLog, p *places) {
		c := mustOpen(l, 0)
		c.Root[0] ^= 1
		l.notes = [][]byte{l.note(c, 2)}
	}, WrongRoot},
	{"a checkpoint covers more than there is", func(l *testLog, p *places) {
		c := mustOpen(l, len(l.notes)-1)
		c.Size++
		l.notes = append(l.notes, l.note(c, 2))
	}, BatchMissing},
	{"the key swapped", func(l *testLog, p *places) {
		signer, witness, _ := signers(2, 2)
		l.signer, l.witness = signer, witness
		l.notes[len(l.notes)-1] = l.note(mustOpen(l, len(l.notes)-1), 2)
	}, WrongKey},
	{"another log's checkpoint", func(l *testLog, p *places) {
		c := mustOpen(l, 0)
		c.Origin = "other.example/ledger"
		l.notes[0] = l.note(c, 2)
	}, WrongOrigin},
	{"a cosignature that does not fit", func(l *testLog, p *places) {
		if c := &l.notes[0][len(l.notes[0])-20]; *c == 'A' {
			*c = 'B'
		} else {
			*c = 'A'
		}
	}, BadSignature},
	{"a checkpoint's size changed", func(l *testLog, p *places) {
		l.notes[0] = bytes.Replace(l.notes[0], []byte("/ledger\n"), []byte("/ledger\n1"), 1)
	}, BadSignature},
	{"the witnesses' lines dropped", func(l *testLog, p *places) {
		for i := range l.notes {
			l.notes[i] = l.note(mustOpen(l, i), 1)
		}
	}, TooFewWitnesses},
	{"all checkpoints dropped", func(l *testLog, p *places) { l.notes = nil }, NoCheckpoint},
	{"a newer format of entries", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		x.entry = bytes.Replace(x.entry, []byte(`"v":1`), []byte(`"v":2`), 1)
	}, UnknownFormat},
	{"a newer format of lines, and its root made to fit", func(l *testLog, p *places) {
		x := &l.items[p.batch]
		x.lines[1] = bytes.Replace(x.lines[1], []byte(`"v":1`), []byte(`"v":2`), 1)
		x.reroot(nil)
	}, UnknownFormat},
	{"the stream cut off within an entry", func(l *testLog, p *places) {
		x := &l.items[len(l.items)-1]
		x.lines = x.lines[:len(x.lines)-1]
	}, Truncated},
}

// places are where the tamper suite does its work.
type places struct {
	batch, other, next int // a batch of several rows, another, and the next of its partition
	of                 Batch
	denial, denied     int
	control            int
	final, last        int // the last batch of some partition, not the last entry; one after it
}

func flip(b []byte, at int) {
	switch c := b[at]; {
	case c == '0':
		b[at] = '1'
	case c >= '1' && c <= '9', c > 'a' && c <= 'f':
		b[at]--
	default:
		b[at] ^= 1
	}
}

func mustOpen(l *testLog, i int) Checkpoint {
	c, _, err := l.policy.Open(l.notes[i])
	return must(c, err)
}

func tampered(t *testing.T) (*testLog, *places) {
	l := newLog(t, 7, 2)
	l.events(4)
	l.batch(0, 0, 6, 3) // 1
	l.batch(1, 0, 3, 3) // 2
	l.sign(2)
	l.batch(0, 0, 6, 3) // 3: batch
	l.batch(0, 0, 6, 3) // 4: next
	l.events(3)         // 5
	l.batch(1, 0, 4, 4) // 6: other
	l.batch(2, 1, 4, 4) // 7: final
	l.batch(0, 0, 6, 4) // 8: last
	l.sign(2)
	l.batch(1, 0, 3, 3) // 9
	l.sign(2)
	p := &places{batch: 3, next: 4, other: 6, control: 5, final: 7, last: 8, of: must(ParseEntry(l.items[3].entry)).Batch}
	for i, x := range l.items {
		for j, line := range x.lines {
			if d, err := ParseDecision(line); err == nil && !d.Outcome.Permit {
				p.denial, p.denied = i, j
			}
		}
	}
	if p.denied == 0 {
		t.Fatal("the test's log has no denial")
	}
	if _, err := l.verify(); err != nil {
		t.Fatal(err)
	}
	return l, p
}

func TestTamper(t *testing.T) {
	honest, p := tampered(t)
	for _, c := range tamper {
		t.Run(c.name, func(t *testing.T) {
			l := honest.copy()
			for i := range l.notes {
				l.notes[i] = bytes.Clone(l.notes[i])
			}
			c.do(l, p)
			report, err := l.verify()
			f, ok := errors.AsType[*Fault](err)
			if !ok || f.Name() != c.want || report.Fault != f {
				t.Errorf("found %v, want %s", err, c.want)
			}
		})
	}
}

// Two verifiers of two logs that one operator signed: each is right by itself.
func TestFork(t *testing.T) {
	a := newLog(t, 3, 1)
	a.grow(10)
	common := a.tree.Size()
	b := a.copy()
	b.rand, b.sequence, b.chain, b.clock, b.offsets = a.rand, NewSequence(), a.chain, a.clock, a.offsets
	b.tree = must(NewTree(&b.hashes, 0))
	for _, x := range b.items {
		e := must(ParseEntry(x.entry))
		if err := b.sequence.Accept(&e); err != nil {
			t.Fatal(err)
		}
		if err := b.tree.Append(tlog.RecordHash(x.entry)); err != nil {
			t.Fatal(err)
		}
	}
	if b.tree.Root() != a.tree.Root() {
		t.Fatal("the copy is another tree")
	}
	a.batch(0, 0, 3, 3)
	a.sign(1)
	b.batch(0, 0, 4, 3)
	b.sign(1)
	b.batch(0, 1, 4, 3)
	b.sign(1)
	for _, l := range []*testLog{a, b} {
		if _, err := l.verify(); err != nil {
			t.Fatal(err)
		}
	}
	last := func(l *testLog, back int) []byte { return l.notes[len(l.notes)-1-back] }
	if err := CompareCheckpoints(a.policy, last(a, 0), last(b, 1), nil); NameOf(err) != CheckpointForked {
		t.Errorf("two roots of one size: %v", err)
	}
	proof := must(tlog.ProveTree(b.tree.Size(), a.tree.Size(), &b.hashes))
	if err := CompareCheckpoints(a.policy, last(a, 0), last(b, 0), proof); NameOf(err) != CheckpointForked {
		t.Errorf("two roots of two sizes: %v", err)
	}
	if err := CompareCheckpoints(a.policy, last(b, 0), last(b, 1), proof); err != nil {
		t.Errorf("one log: %v", err)
	}
	proof = must(tlog.ProveTree(b.tree.Size(), common, &b.hashes))
	if err := CompareCheckpoints(a.policy, last(b, 2), last(b, 0), proof); err != nil {
		t.Errorf("one log: %v", err)
	}
	// And with the whole of one log at hand.
	if _, err := a.verify(last(b, 1)); NameOf(err) != CheckpointForked {
		t.Errorf("a known checkpoint of the other log: %v", err)
	}
	if _, err := a.verify(last(b, 0)); NameOf(err) != CheckpointRolledBack {
		t.Errorf("a known checkpoint of a longer log: %v", err)
	}
	old := a.copy()
	old.items, old.notes = old.items[:common], old.notes[:len(old.notes)-1]
	if _, err := old.verify(); err != nil {
		t.Fatal(err)
	}
	if _, err := old.verify(last(a, 0)); NameOf(err) != CheckpointRolledBack {
		t.Errorf("an old disk: %v", err)
	}
}

// Any sequence of valid entries verifies; any one byte changed is found.
func TestAnyChangeIsFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLog(t, rapid.Uint64().Draw(rt, "seed"), 1)
		l.grow(rapid.IntRange(1, 12).Draw(rt, "entries"))
		entries, checkpoints := l.text()
		v := &Verifier{Policy: l.policy, Workers: rapid.IntRange(1, 4).Draw(rt, "workers")}
		run := func() error {
			_, err := v.Run(t.Context(), NewStream(bytes.NewReader(entries), bytes.NewReader(checkpoints)))
			return err
		}
		if err := run(); err != nil {
			rt.Fatalf("an honest log: %v", err)
		}
		at := rapid.IntRange(0, len(entries)-1).Draw(rt, "at")
		by := rapid.Byte().Filter(func(b byte) bool { return b != 0 }).Draw(rt, "by")
		entries[at] ^= by
		if err := run(); NameOf(err) == "" {
			rt.Fatalf("byte %d of the entries changed by %#x: %v", at, by, err)
		}
		entries[at] ^= by
		// Every line but the newest checkpoint's may only be taken away whole.
		cut := rapid.IntRange(0, len(entries)-1).Draw(rt, "cut")
		entries = entries[:cut]
		if err := run(); NameOf(err) == "" {
			rt.Fatalf("cut after %d bytes: %v", cut, err)
		}
	})
}

func TestEmptyLog(t *testing.T) {
	l := newLog(t, 1, 0)
	if _, err := l.verify(); NameOf(err) != NoCheckpoint {
		t.Errorf("nothing at all: %v", err)
	}
	l.sign(0)
	if r, err := l.verify(); err != nil || r.Checkpoints != 1 {
		t.Errorf("a checkpoint of nothing: %v", err)
	}
}

// A source that fails is no fault of the ledger's; one that ends with its context
// ends the run.
func TestReadErrors(t *testing.T) {
	l := newLog(t, 1, 0)
	l.grow(5)
	entries, checkpoints := l.text()
	broken := errors.New("broken pipe")
	v := &Verifier{Policy: l.policy}
	_, err := v.Run(t.Context(), NewStream(io.MultiReader(bytes.NewReader(entries), failing{broken}), bytes.NewReader(checkpoints)))
	if !errors.Is(err, broken) || NameOf(err) != "" {
		t.Errorf("entries that cannot be read: %v", err)
	}
	_, err = v.Run(t.Context(), NewStream(bytes.NewReader(entries), failing{broken}))
	if !errors.Is(err, broken) || NameOf(err) != "" {
		t.Errorf("checkpoints that cannot be read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Run(ctx, NewStream(bytes.NewReader(entries), bytes.NewReader(checkpoints))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := (&Verifier{}).Run(t.Context(), nil); err == nil || NameOf(err) != "" {
		t.Errorf("no policy: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestLabelsAreReported(t *testing.T) {
	l := newLog(t, 5, 0)
	l.events(2)
	h, ds := l.decisions(0, 0, 0, 1)
	h.First, h.Last = 500, 509
	l.make(h, ds) // the source began later
	h.First, h.Last = 505, 520
	h.Time = h.Time.Add(-time.Hour) // its writer did not know of the one before
	l.make(h, ds)
	l.sign(0)
	r, err := l.verify()
	if err != nil || len(r.Skips) != 1 || r.Skips[0].Amount != 500 || len(r.Overlaps) != 1 || r.Overlaps[0].Amount != 5 {
		t.Fatalf("%v %+v", err, r)
	}
	if r.Ranges[0].Next != 521 || r.Skips[0].Dataset != broker.DatasetID("data-0") {
		t.Errorf("ranges %+v", r.Ranges)
	}
}
