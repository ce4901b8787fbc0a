package ledger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// testLog is an honest ledger that tests make and then tamper with.
type testLog struct {
	tb       testing.TB
	rand     *rand.Rand
	items    []item
	notes    [][]byte
	sequence *Sequence
	chain    Chain
	hashes   MemHashes
	tree     *Tree
	signer   note.Signer
	witness  []note.Signer
	policy   *Policy
	build    Builder
	control  ControlBuilder
	clock    time.Time
	offsets  int64 // of decisions, in the only partition
}

type item struct {
	entry []byte
	lines [][]byte
}

func (x item) clone() item {
	lines := make([][]byte, len(x.lines))
	for i := range lines {
		lines[i] = bytes.Clone(x.lines[i])
	}
	return item{bytes.Clone(x.entry), lines}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// signers are the same in every process, for the fuzzer's workers; other ones for
// another seed.
func signers(witnesses int, seed byte) (note.Signer, []note.Signer, *Policy) {
	secret := func(name string, kind Kind, n byte) (string, string) {
		private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed, n}, ed25519.SeedSize/2))
		k := newKey(name, kind, private.Public().(ed25519.PublicKey))
		return "PRIVATE+KEY+" + keyText(k, private.Seed()), k.vkey()
	}
	skey, vkey := secret("log.example", LogKey, 0)
	policy := &Policy{Origin: "log.example/ledger", Log: must(ParseVerifier(vkey)), Need: witnesses}
	var all []note.Signer
	for i := range witnesses {
		skey, _ := secret(fmt.Sprintf("witness%d.example", i), WitnessKey, byte(i+1))
		c := must(NewCosigner(skey, func() time.Time { return time.Unix(1_800_000_000, 0) }))
		all = append(all, c)
		policy.Witnesses = append(policy.Witnesses, c.Verifier())
	}
	return must(note.NewSigner(skey)), all, policy
}

func newLog(tb testing.TB, seed uint64, witnesses int) *testLog {
	l := &testLog{tb: tb, rand: rand.New(rand.NewPCG(seed, 1)), sequence: NewSequence(), clock: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	l.tree = must(NewTree(&l.hashes, 0))
	l.signer, l.witness, l.policy = signers(witnesses, 1)
	return l
}

func (l *testLog) digest() (d broker.Digest) {
	binary.BigEndian.PutUint64(d[:], l.rand.Uint64()|1)
	binary.BigEndian.PutUint64(d[8:], l.rand.Uint64())
	return d
}

// add puts an entry into the log, as a sequencer does.
func (l *testLog) add(e Entry, lines [][]byte) {
	l.tb.Helper()
	if err := l.sequence.Accept(&e); err != nil {
		l.tb.Fatal(err)
	}
	x := item{AppendEntry(nil, &e), lines}
	if err := l.tree.Append(tlog.RecordHash(x.entry)); err != nil {
		l.tb.Fatal(err)
	}
	l.items = append(l.items, x)
}

// events adds control events, of which every third loses and the fourth of five is
// refused.
func (l *testLog) events(n int) {
	l.control.Begin(l.chain)
	next := l.sequence.ControlNext()
	chain := l.chain
	var lines [][]byte
	for i := range n {
		on := chain
		if i%3 == 2 && on.Revision > 1 {
			on.Revision-- // validated on an older one
		}
		refused := i%5 == 3 && on == chain
		v := must(json.Marshal(map[string]any{"v": 1, "seq": on.Revision + 1, "on": on.Revision, "prev": on.Digest,
			"at": l.clock, "actor": "test", "type": "case.opened", "data": map[string]int{"n": l.rand.IntN(1000)}}))
		line := must(l.control.Add(next+int64(i), v, refused))
		lines = append(lines, bytes.Clone(line))
		x := must(readLink(line))
		if !refused {
			chain.take(&x)
		}
	}
	e, after := l.control.End()
	l.chain = after
	l.add(e, lines)
}

// source partitions of the test.
var topics = []broker.Digest{{1}, {2}, {3}}

// batch adds a batch of rows records in scope, each with up to fan decisions.
func (l *testLog) batch(topic, partition, rows, fan int) {
	h, ds := l.decisions(topic, partition, rows, fan)
	l.make(h, ds)
}

func (l *testLog) make(h Head, ds []broker.Decision) {
	lines := [][]byte{bytes.Clone(l.build.Begin(&h, Place{0, l.offsets}, sha256.Sum256([]byte("value"))))}
	for i := range ds {
		lines = append(lines, bytes.Clone(l.build.Add(&ds[i])))
	}
	e := l.build.End()
	l.sequence.Label(&e)
	l.offsets += 2
	l.add(e, lines)
}

func (l *testLog) decisions(topic, partition, rows, fan int) (Head, []broker.Decision) {
	l.clock = l.clock.Add(time.Duration(l.rand.IntN(1e9)))
	first := l.sequence.Next(topics[topic], int32(partition))
	h := Head{Kind: "stream", Dataset: broker.DatasetID(fmt.Sprintf("data-%d", topic)), TopicID: topics[topic], Partition: int32(partition), First: first,
		Limits: Limits{900_000, 64, 100_000, 86_400_000, 900_000}, Period: "2026-11", Policy: "sha256:aa", Revision: l.sequence.Revision(), Time: l.clock}
	if l.rand.IntN(2) == 0 {
		h.Usage = map[broker.AgreementID]int64{"b": 2, "a": int64(l.rand.IntN(9))}
	}
	at := first
	var ds []broker.Decision
	for range rows {
		for l.rand.IntN(3) == 0 {
			switch l.rand.IntN(4) {
			case 0:
				h.RejectedAt = append(h.RejectedAt, at)
				h.Rejected++
			case 1:
				h.Repeated++
			case 2:
				h.OutOfScope++
			default:
				h.Records-- // nothing there: a marker
			}
			h.Records++
			at++
		}
		d := broker.Decision{Kind: broker.StreamDecision, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, Offset: at},
			Event: l.digest(), PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time, Period: h.Period, RecordKind: broker.RecordKind(l.rand.IntN(3))}
		if l.rand.IntN(2) == 0 {
			d.Subject = l.digest()
		}
		for i := range 1 + l.rand.IntN(fan) {
			d.Subscription = broker.SubscriptionID(fmt.Sprintf("kommune-%d", i))
			d.Agreement, d.Package = "avtale-"+broker.AgreementID(d.Subscription), broker.PackageRef{ID: "pakke", Version: 1 + i}
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, d.Position.Partition, at, d.Subscription)
			d.Outcome, d.Fields, d.Delivery, d.Shielded = broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}, nil, broker.DeliveryID{}, false
			if l.rand.IntN(3) > 0 {
				d.Outcome = broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1", "lov-2"}}
				d.Fields, d.Shielded = []broker.Pointer{"/inntekt/beloep", "/aar"}, l.rand.IntN(5) == 0
				d.Delivery = broker.NewDeliveryID(d.Event, d.Subscription)
			}
			ds = append(ds, d)
		}
		h.Records++
		at++
	}
	if at == first { // nothing but out of scope
		h.Records, h.OutOfScope = 1, 1
		at++
	}
	h.Last = at - 1
	return h, ds
}

// sign adds a checkpoint of the present size, cosigned by the first n witnesses.
func (l *testLog) sign(n int) {
	l.notes = append(l.notes, l.note(Checkpoint{l.policy.Origin, l.tree.Size(), l.tree.Root()}, n))
}

func (l *testLog) note(c Checkpoint, n int) []byte {
	return must(SignCheckpoint(c, append([]note.Signer{l.signer}, l.witness[:n]...)...))
}

// grow adds entries of all sorts, with checkpoints between.
func (l *testLog) grow(entries int) {
	if len(l.items) == 0 {
		l.events(4)
	}
	for range entries {
		switch l.rand.IntN(8) {
		case 0:
			l.events(1 + l.rand.IntN(5))
		case 1:
			l.sign(len(l.witness))
		case 2:
			l.singles(singleKinds[l.rand.IntN(len(singleKinds))], 1+l.rand.IntN(6))
		default:
			l.batch(l.rand.IntN(len(topics)), l.rand.IntN(2), l.rand.IntN(8), 4)
		}
	}
	l.sign(len(l.witness))
}

func (l *testLog) copy() *testLog {
	c := &testLog{tb: l.tb, policy: l.policy, signer: l.signer, witness: l.witness, notes: slices.Clone(l.notes)}
	for _, x := range l.items {
		c.items = append(c.items, x.clone())
	}
	return c
}

// text are the log's two streams.
func (l *testLog) text() (entries, checkpoints []byte) {
	for _, x := range l.items {
		entries = append(append(entries, x.entry...), '\n')
		for _, line := range x.lines {
			entries = append(append(entries, line...), '\n')
		}
	}
	for _, n := range l.notes {
		checkpoints = append(AppendNoteLine(checkpoints, n), '\n')
	}
	return entries, checkpoints
}

func (l *testLog) verify(known ...[]byte) (*Report, error) {
	entries, checkpoints := l.text()
	v := &Verifier{Policy: l.policy, Known: known, Workers: 3}
	return v.Run(l.tb.Context(), NewStream(bytes.NewReader(entries), bytes.NewReader(checkpoints)))
}

// reroot makes an item's entry fit its lines again, as an operator would who
// tampers and has a hand in everything but the signed checkpoints.
func (x *item) reroot(change func(*Entry)) {
	e := must(ParseEntry(x.entry))
	var rows Rows
	for _, line := range x.lines {
		rows.Add(line)
	}
	e.Rows, e.Lines = rows.Root(), rows.Size()
	if e.Type != ControlEntry {
		e.Batch.Decisions = e.Lines - 1
	}
	if change != nil {
		change(&e)
	}
	x.entry = AppendEntry(nil, &e)
}
