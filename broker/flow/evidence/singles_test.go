package evidence

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/ledger"
	"datafordeler/broker/ledger/archive"
)

// single encodes n single decisions of a kind. Of lookups every second is about what
// lies nowhere in the log, and the first of these found nothing.
func (r *rig) single(kind broker.DecisionKind, n int, rev broker.Revision, at time.Time) []byte {
	r.t.Helper()
	h := deliver.SinglesHeader{Kind: kind, TopicID: broker.Digest{8}, Partition: 2, Time: at, Revision: rev, Policy: "sha256:0", Period: "2026-11",
		Limits: deliver.Limits{RecordBytes: 1, Depth: 2, Window: 3, WindowMillis: 4, DeliveryBytes: 5}, Usage: map[broker.AgreementID]int64{"a": 3}}
	outcome := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"h1"}}
	fields := []broker.Pointer{"/a", "/b"}
	if kind == broker.DoorDecision {
		outcome, fields = &broker.Outcome{Reasons: []broker.Reason{"no_case"}}, nil
	}
	terms := &broker.Terms{Subscription: broker.Subscription{ID: "s"}, Agreement: broker.Agreement{ID: "a", Package: broker.PackageRef{ID: "p", Version: 1}, Cost: broker.Cost{Ceiling: 99}}}
	var s deliver.Singles
	s.Reset(h)
	for i := range n {
		row := deliver.Single{Position: broker.Position{Dataset: "d", TopicID: broker.Digest{7}, Partition: 1, Offset: int64(i)}, Event: broker.EventHash{byte(i), 1}, Subject: broker.Pseudonym{byte(i), 2}}
		if kind == broker.LookupDecision {
			row.Request = broker.Digest{byte(i), byte(at.UnixNano()), 9}
			if i%2 == 1 {
				row.Position = broker.Position{Dataset: "d", Offset: broker.Nowhere}
				if i == 1 {
					row.Event = broker.EventHash{}
				}
			}
		}
		s.Add(row, []deliver.Decision{{Terms: terms, Outcome: outcome, Fields: fields}})
	}
	out := s.Finish()
	if len(out) != 1 {
		r.t.Fatalf("%d records of single decisions", len(out))
	}
	return out[0]
}

var singleKinds = []broker.DecisionKind{broker.BackfillDecision, broker.LookupDecision, broker.DoorDecision}

// Every field of a header changes the head's line.
func TestEvidenceForgetsNoFieldOfSingles(t *testing.T) {
	base := deliver.SinglesHeader{Kind: broker.LookupDecision, Time: time.Unix(1_800_000_000, 0)}
	line := func(h deliver.SinglesHeader) string {
		head := headOfSingles(&h)
		return string(ledger.AppendSinglesHead(nil, &head))
	}
	plain := line(base)
	try := func(name string, index ...[]int) {
		h := base
		v := reflect.ValueOf(&h).Elem()
		for _, i := range index {
			v = v.FieldByIndex(i)
		}
		switch x := v.Addr().Interface().(type) {
		case *broker.Digest:
			x[3] = 7
		case *broker.DecisionKind:
			*x = broker.DoorDecision
		case *time.Time:
			*x = x.Add(time.Nanosecond)
		case *map[broker.AgreementID]int64:
			*x = map[broker.AgreementID]int64{"a": 1}
		default:
			switch {
			case v.CanInt():
				v.SetInt(v.Int() + 1)
			case v.CanUint():
				v.SetUint(v.Uint() + 1)
			default:
				v.SetString("other")
			}
		}
		if line(h) == plain {
			t.Errorf("%s is no part of the head's line", name)
		}
	}
	for f := range reflect.TypeFor[deliver.SinglesHeader]().Fields() {
		if f.Type == reflect.TypeFor[deliver.Limits]() {
			for l := range f.Type.Fields() {
				try(l.Name, f.Index, l.Index)
			}
			continue
		}
		try(f.Name, f.Index)
	}
}

// What was decoded from a record of single decisions is what its lines say.
func TestEvidenceOfSingles(t *testing.T) {
	r := &rig{t: t}
	for _, kind := range singleKinds {
		value := r.single(kind, 5, 17, time.Unix(1_800_000_000, 5))
		var lines [][]byte
		var b ledger.Builder
		place := ledger.Place{Partition: 1, Offset: 9}
		entry, err := Lines(&b, place, value, func(line []byte) error { lines = append(lines, bytes.Clone(line)); return nil })
		if err != nil {
			t.Fatal(err)
		}
		var want []broker.Decision
		header, err := deliver.DecodeSingles(value, func(d *broker.Decision) error { want = append(want, *d); return nil })
		if err != nil {
			t.Fatal(err)
		}
		head, err := ledger.ParseSinglesHead(lines[0])
		if err != nil || !reflect.DeepEqual(head, headOfSingles(&header)) {
			t.Errorf("%s: head %+v, %v", kind, head, err)
		}
		var rows ledger.Rows
		permits := int64(0)
		for i, line := range lines {
			if rows.Add(line); i == 0 {
				continue
			}
			d, err := ledger.ParseDecision(line)
			if err != nil || !reflect.DeepEqual(d, want[i-1]) {
				t.Errorf("%s, line %d: %+v, %v\nwant %+v", kind, i, d, err, want[i-1])
			}
			if d.Outcome.Permit {
				permits++
			}
		}
		x := entry.Batch
		if entry.Type != ledger.SinglesEntry || entry.Rows != rows.Root() || entry.Lines != 6 || x.Decisions != 5 || x.Permits != permits || x.Sum != sha256.Sum256(value) || x.At != place || x.Kind != kind.String() {
			t.Errorf("%s: entry %+v", kind, entry)
		}
		if _, err := Lines(&b, ledger.Place{}, value[:len(value)-1], nil); err == nil {
			t.Errorf("half a record of %s decisions gave an entry", kind)
		}
	}
}

// Single decisions come under signed heads, each once, whoever writes them: a plain
// producer beside the stream's batches, or a transaction, of which some are aborted.
// What stands there verifies from the topics and from an archive.
func TestSinglesComeUnderHeads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r.event()
	instances := []*instance{r.start(), r.start()}
	session, err := r.engine.NewClient(kgo.TransactionalID("singles"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	want := map[broker.DecisionKind]int64{}
	last := map[int32]int64{}
	records := int64(0)
	for range 10 {
		r.event()
		for range 1 + rnd.IntN(4) {
			p, n := rnd.Int32N(3), 1+rnd.IntN(20)
			last[p] = r.decide(p, n)
			records += int64(n)
		}
		for range 1 + rnd.IntN(4) {
			kind, p, n := singleKinds[rnd.IntN(3)], rnd.Int32N(3), 1+rnd.IntN(9)
			// An instance that has folded less, by a clock that is behind.
			rev := broker.Revision(1 + rnd.Uint64N(uint64(r.revision())))
			value := r.single(kind, n, rev, r.now.Add(time.Duration(rnd.IntN(2e9))-time.Second))
			if rnd.IntN(2) == 0 {
				last[p] = r.produce(r.topics.Decisions(), p, value)
				want[kind] += int64(n)
				continue
			}
			if err := session.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			rec := &kgo.Record{Topic: r.topics.Decisions(), Partition: p, Value: value}
			if err := session.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
				t.Fatal(err)
			}
			commit := kgo.TransactionEndTry(rnd.IntN(4) > 0)
			if err := session.EndTransaction(t.Context(), commit); err != nil {
				t.Fatal(err)
			}
			if commit {
				last[p] = rec.Offset
				want[kind] += int64(n)
			}
		}
		if rnd.IntN(4) == 0 {
			i := rnd.IntN(len(instances))
			instances[i].stop()
			instances[i] = r.start()
		}
	}
	for p, offset := range last {
		for _, i := range instances {
			i.ledger.Decided(p, offset)
			r.covered(i.ledger, p, offset)
			if err := i.ledger.Late(); err != nil {
				t.Errorf("deliveries are held: %v", err)
			}
		}
	}
	check := func(what string, report *ledger.Report, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, kind := range singleKinds {
			if got := report.Kinds[kind].Decisions; got != want[kind] {
				t.Errorf("%s: %d decisions of kind %s, want %d", what, got, kind, want[kind])
			}
		}
		if report.Records != records || report.Uncovered != 0 || report.Kinds[broker.DoorDecision].Permits != 0 {
			t.Errorf("%s: %+v; want %d records, all covered", what, report, records)
		}
	}
	report, err := r.verify()
	check("the topics", report, err)
	report, err = (&ledger.Verifier{Policy: r.policy}).Run(t.Context(), r.export())
	check("an archive", report, err)
}

// export writes an archive of the ledger and opens it.
func (r *rig) export() *archive.Reader {
	r.t.Helper()
	src, err := OpenSource(r.t.Context(), r.engine, r.topics)
	if err != nil {
		r.t.Fatal(err)
	}
	defer src.Close()
	dir := r.t.TempDir() + "/archive"
	create, err := archive.Dir(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	w, err := archive.NewWriter(create, origin, []string{r.key.Public()}, r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := Export(src, w.Entry, w.Line, w.Checkpoint); err != nil {
		r.t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		r.t.Fatal(err)
	}
	a, err := archive.Open(os.DirFS(dir))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { a.Close() })
	return a
}

// One lookup is proved, also where nothing was found, and so are the others by id;
// the stream's by its place as before.
func TestProofOfLookup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.decide(1, 3)
	values := map[broker.DecisionKind][]byte{}
	var last int64
	for _, kind := range singleKinds {
		values[kind] = r.single(kind, 4, 1, r.now)
		last = r.produce(r.topics.Decisions(), 1, values[kind])
	}
	r.covered(i.ledger, 1, last)
	for kind, value := range values {
		if _, err := deliver.DecodeSingles(value, func(d *broker.Decision) error {
			proof, err := Prove(t.Context(), r.engine, r.topics, r.policy, Wanted{ID: d.ID}, nil)
			if err != nil {
				return err
			}
			c, err := proof.Check(r.policy)
			if err != nil || !reflect.DeepEqual(c.Decision, d) {
				t.Errorf("%s: proved %+v, %v; want %+v", kind, c, err, d)
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	proof, err := Prove(t.Context(), r.engine, r.topics, r.policy, Wanted{Dataset: "d", Partition: 1, Offset: 1, Subscription: "s0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := proof.Check(r.policy); err != nil || c.Decision.Kind != broker.StreamDecision {
		t.Errorf("by its place: %+v, %v", c, err)
	}
	if _, err := Prove(t.Context(), r.engine, r.topics, r.policy, Wanted{ID: broker.Digest{1}}, nil); err != ErrNotDecided {
		t.Errorf("an id that nobody has: %v", err)
	}
}

// A record of single decisions that cannot be read, or that no reader of the ledger
// could read, stops its partition and no other.
func TestUnreadableSinglesStopTheirPartition(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.event()
	i := r.start()
	r.covered(i.ledger, 0, r.produce(r.topics.Decisions(), 0, r.single(broker.DoorDecision, 2, 1, r.now)))
	whole := r.single(broker.LookupDecision, 3, 1, r.now)
	torn := r.produce(r.topics.Decisions(), 0, whole[:len(whole)-3])
	behind := r.produce(r.topics.Decisions(), 0, whole)
	// A time that is written in more than four digits of a year is no RFC 3339.
	odd := r.produce(r.topics.Decisions(), 2, r.single(broker.LookupDecision, 3, 1, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)))
	for range 2 {
		r.covered(i.ledger, 1, r.produce(r.topics.Decisions(), 1, whole))
		r.covered(i.ledger, 1, r.decide(1, 5))
	}
	r.says("partition=0")
	r.says("partition=2")
	if i.ledger.due.covered(0) > torn || i.ledger.due.covered(2) > odd {
		t.Errorf("what cannot be read came into the ledger, or what stands behind it at %d", behind)
	}
	i.stop()
	if report, err := r.verify(); err != nil || report.Kinds[broker.LookupDecision].Decisions != 6 {
		t.Errorf("%+v: %v", report, err)
	}
}
