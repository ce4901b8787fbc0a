package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

var update = flag.Bool("update", false, "write the golden files")

// golden are lines with one of each thing. They must be written and read the same
// for ever.
func golden() (lines [][]byte, entries []Entry) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 120_000_000, time.FixedZone("", 3600))
	h := Head{Kind: "stream", Dataset: "inntekt", TopicID: broker.Digest{1, 2, 3}, Partition: 3, First: 100, Last: 119, Records: 8, OutOfScope: 1, Repeated: 1, Rejected: 4,
		RejectedAt: []int64{101, 102, 103, 110}, Limits: Limits{900_000, 64, 100_000, 86_400_000, 950_000},
		Usage: map[broker.AgreementID]int64{"b": 2, "a": 0}, Period: "2026-11", Policy: "sha256:00ff", Revision: 17, Time: at}
	permit := broker.Decision{Kind: broker.StreamDecision, Position: broker.Position{Dataset: "inntekt", TopicID: h.TopicID, Partition: 3, Offset: 100},
		Event: broker.Digest{4}, Subject: broker.Digest{5}, Subscription: "oslo-barnehage", Agreement: "oslo-2026",
		Outcome: broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1", "lov-2"}}, Package: broker.PackageRef{ID: "p", Version: 2},
		Fields: []broker.Pointer{"/inntekt/beloep", "/a\"b\\c\n\x01/æøå/\u2028"}, Shielded: true, PolicyDigest: h.Policy, Revision: 17, Time: at, Period: "2026-11"}
	permit.ID = broker.NewDecisionID(permit.Kind, h.TopicID, 3, 100, permit.Subscription)
	permit.Delivery = broker.NewDeliveryID(permit.Event, permit.Subscription)
	deny := permit
	deny.Position.Offset, deny.Subject, deny.Subscription, deny.RecordKind = 111, broker.Pseudonym{}, "bergen", broker.Correction
	deny.Outcome, deny.Fields, deny.Shielded, deny.Delivery = broker.Outcome{Reasons: []broker.Reason{"no_open_case", "ceiling_reached"}}, nil, false, broker.DeliveryID{}
	deny.ID = broker.NewDecisionID(deny.Kind, h.TopicID, 3, 111, deny.Subscription)
	var b Builder
	lines = append(lines, bytes.Clone(b.Begin(&h, Place{1, 42}, sha256.Sum256([]byte("batch")))))
	lines = append(lines, bytes.Clone(b.Add(&permit)), bytes.Clone(b.Add(&deny)))
	e := b.End()
	labelled := e
	labelled.Batch.Skipped = 7
	overlapped := e
	overlapped.Batch.Overlap = 3
	var c ControlBuilder
	c.Begin(Chain{})
	lines = append(lines, must(c.Add(5, []byte(`{"v":1,"seq":1,"on":0,"prev":"00000000000000000000000000000000","at":"2026-11-22T09:00:00Z","actor":"digdir","type":"keystore.registered","data":{"check":"x"}}`), false)))
	lines = append(lines, must(c.Add(7, []byte("{\"v\":1,\n \"seq\":1,\"on\":0,\"prev\":\"00000000000000000000000000000000\",\"at\":\"2026-11-22T09:00:00Z\",\"actor\":\"skatt\",\"type\":\"keystore.registered\",\"data\":{\"check\":\"y\"}}"), false)))
	ce, _ := c.End()
	return lines, []Entry{e, labelled, overlapped, ce}
}

func TestGoldenLines(t *testing.T) {
	lines, entries := golden()
	for i := range entries {
		lines = append(lines, AppendEntry(nil, &entries[i]))
	}
	got := append(bytes.Join(lines, []byte("\n")), '\n')
	file := filepath.Join("testdata", "lines-1.golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the lines of format 1 changed: evidence written before would no longer be found true. A new layout needs a new version.\n%s", got)
	}
	for i := range entries {
		e, err := ParseEntry(AppendEntry(nil, &entries[i]))
		entries[i].Batch.Time = entries[i].Batch.Time.UTC()
		if entries[i].Type == ControlEntry {
			entries[i].Batch.Time = time.Time{}
		}
		if err != nil || !reflect.DeepEqual(e, entries[i]) {
			t.Errorf("entry %d: %+v, %v\nwant %+v", i, e, err, entries[i])
		}
	}
	if entries[3].Control.Events != 1 || entries[3].Lines != 2 || entries[3].Revision != 1 {
		t.Errorf("control %+v", entries[3])
	}
}

// text is any string, with what JSON escapes more often than not.
var text = rapid.OneOf(rapid.StringMatching(`[a-z0-9/_-]{0,12}`), rapid.String(),
	rapid.StringOf(rapid.SampledFrom([]rune{'"', '\\', '\n', '\t', 0, 0x1f, 0x7f, 'æ', '\u2028', '😀', '<', utf8.RuneError})))

func texts[S ~string](rt *rapid.T, name string) []S {
	var out []S
	for _, s := range rapid.SliceOfN(text, 0, 3).Draw(rt, name) {
		out = append(out, S(s))
	}
	return out
}

func drawDigest(rt *rapid.T, name string) (d broker.Digest) {
	copy(d[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, name))
	return d
}

var moment = rapid.Custom(func(rt *rapid.T) time.Time {
	nano := rapid.SampledFrom([]int64{0, 1, 100, 120_000_000, 999_999_999}).Draw(rt, "nano")
	return time.Unix(rapid.Int64Range(0, 1<<37).Draw(rt, "second"), nano).UTC()
})

func drawDecision(rt *rapid.T) broker.Decision {
	kind := broker.DecisionKind(rapid.IntRange(int(broker.StreamDecision), int(broker.LastDecision)).Draw(rt, "decision's kind"))
	d := broker.Decision{Kind: kind, Position: broker.Position{Dataset: broker.DatasetID(text.Draw(rt, "dataset")), TopicID: drawDigest(rt, "topic"),
		Partition: rapid.Int32Range(0, 1<<31-1).Draw(rt, "partition"), Offset: rapid.Int64Range(0, 1<<62).Draw(rt, "offset")},
		Event: drawDigest(rt, "event"), Subject: drawDigest(rt, "subject"), Subscription: broker.SubscriptionID(text.Draw(rt, "subscription")), Agreement: broker.AgreementID(text.Draw(rt, "agreement")),
		Package:      broker.PackageRef{ID: text.Draw(rt, "package"), Version: rapid.IntRange(0, 1<<30).Draw(rt, "version")},
		PolicyDigest: text.Draw(rt, "policy"), Revision: broker.Revision(rapid.Uint64().Draw(rt, "revision")), Time: moment.Draw(rt, "time"), Period: text.Draw(rt, "period"),
		RecordKind: broker.RecordKind(rapid.IntRange(0, 2).Draw(rt, "kind"))}
	if kind != broker.StreamDecision && d.Event.IsZero() {
		d.Event[0] = 1
	}
	if kind == broker.LookupDecision {
		d.Request = drawDigest(rt, "request")
		d.Request[15] |= 1
		if rapid.Bool().Draw(rt, "nowhere") {
			d.Position = broker.Position{Dataset: d.Position.Dataset, Offset: broker.Nowhere}
			if rapid.Bool().Draw(rt, "nothing") {
				d.Event, d.RecordKind = broker.EventHash{}, broker.Original
			}
		}
	}
	d.Outcome.Bases = texts[broker.LegalBasisID](rt, "bases")
	if kind != broker.DoorDecision && rapid.Bool().Draw(rt, "permit") {
		d.Outcome.Permit = true
		if kind != broker.NoticeDecision {
			d.Shielded, d.Fields = rapid.Bool().Draw(rt, "shielded"), texts[broker.Pointer](rt, "fields")
		}
	} else {
		d.Outcome.Reasons = texts[broker.Reason](rt, "reasons")
	}
	identify(&d)
	return d
}

// asJSON is a decision line as encoding/json reads it.
type asJSON struct {
	V                 int
	Line, Kind        string
	ID, Request       broker.Digest
	TopicID, Event    broker.Digest
	Dataset           broker.DatasetID
	Partition         int32
	Offset            *int64
	Record            string
	Subscription      broker.SubscriptionID
	Agreement         broker.AgreementID
	Outcome           string
	Reasons           []broker.Reason
	Bases             []broker.LegalBasisID
	Package           string
	PackageVersion    int
	Fields            []broker.Pointer
	Shielded          bool
	Delivery, Subject broker.Digest
	Period, Policy    string
	Revision          broker.Revision
	Time              time.Time
}

// A line says the same to encoding/json, to ParseDecision, and to who built it
// with a Builder; and it is compact.
func TestDecisionLine(t *testing.T) {
	var b Builder
	rapid.Check(t, func(rt *rapid.T) {
		d := drawDecision(rt)
		line := AppendDecision(nil, &d)
		var x asJSON
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&x); err != nil {
			rt.Fatalf("%v\n%s", err, line)
		}
		outcome := map[bool]string{true: "permit", false: "deny"}
		offset, record := &d.Position.Offset, d.RecordKind.String()
		if d.Position.Offset == broker.Nowhere {
			offset = nil
		}
		if d.Event.IsZero() && d.Kind != broker.StreamDecision {
			record = ""
		}
		want := asJSON{1, "decision", d.Kind.String(), d.ID, d.Request, d.Position.TopicID, d.Event, d.Position.Dataset, d.Position.Partition, offset, record,
			d.Subscription, d.Agreement, outcome[d.Outcome.Permit], d.Outcome.Reasons, d.Outcome.Bases, d.Package.ID, d.Package.Version, d.Fields, d.Shielded,
			d.Delivery, d.Subject, d.Period, d.PolicyDigest, d.Revision, d.Time}
		if !reflect.DeepEqual(x, want) {
			rt.Fatalf("encoding/json reads\n%+v\nwant\n%+v\n%s", x, want, line)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, line); err != nil || !bytes.Equal(compact.Bytes(), line) {
			rt.Fatalf("not compact: %s", line)
		}
		if got, err := ParseDecision(line); err != nil || !reflect.DeepEqual(got, d) {
			rt.Fatalf("%v: parsed\n%+v\nwant\n%+v", err, got, d)
		}
		h := Head{Kind: "stream", Dataset: d.Position.Dataset, TopicID: d.Position.TopicID, Partition: d.Position.Partition, Period: d.Period, Policy: d.PolicyDigest, Revision: d.Revision, Time: d.Time}
		one := SinglesHead{Kind: d.Kind, Period: d.Period, Policy: d.PolicyDigest, Revision: d.Revision, Time: d.Time}
		f := one.frame()
		if d.Kind == broker.StreamDecision {
			b.Begin(&h, Place{}, [32]byte{})
			f = h.frame()
		} else {
			b.BeginSingles(&one, Place{}, [32]byte{})
		}
		for range 2 {
			if built := b.Add(&d); !bytes.Equal(built, line) {
				rt.Fatalf("built\n%s\nwant\n%s", built, line)
			}
		}
		var s scanned
		if err := s.scan(line, &f); err != nil || s.check(&d.Position, string(s.subscription)) != nil {
			rt.Fatalf("scan: %v", err)
		}
	})
}

func TestHeadLine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := Head{Kind: text.Draw(rt, "kind"), Dataset: broker.DatasetID(text.Draw(rt, "dataset")), TopicID: drawDigest(rt, "topic"), Partition: rapid.Int32Range(0, 99).Draw(rt, "partition"),
			First: rapid.Int64Range(0, 1<<61).Draw(rt, "first"), Period: text.Draw(rt, "period"), Policy: text.Draw(rt, "policy"), Revision: broker.Revision(rapid.Uint64().Draw(rt, "revision")),
			Time: moment.Draw(rt, "time"), Limits: Limits{1, 2, rapid.IntRange(0, 1<<40).Draw(rt, "window"), 4, 5}}
		at := h.First
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, 2), 0, 20).Draw(rt, "gaps") {
			at += gap
			h.RejectedAt = append(h.RejectedAt, at)
			at++
		}
		h.Rejected = int64(len(h.RejectedAt))
		h.OutOfScope, h.Repeated = rapid.Int64Range(0, 9).Draw(rt, "outOfScope"), rapid.Int64Range(0, 9).Draw(rt, "repeated")
		h.Records = h.Rejected + h.OutOfScope + h.Repeated + rapid.Int64Range(0, 9).Draw(rt, "rows")
		h.Last = max(at-1, h.First+h.Records, h.First)
		for _, a := range rapid.SliceOfN(text, 0, 4).Draw(rt, "agreements") {
			if h.Usage == nil {
				h.Usage = map[broker.AgreementID]int64{}
			}
			h.Usage[broker.AgreementID(a)] = rapid.Int64Range(0, 1<<40).Draw(rt, "used")
		}
		line := AppendHead(nil, &h)
		var x struct {
			Usage      map[broker.AgreementID]int64
			RejectedAt [][2]int64
			Records    int64
			Period     string
			Time       time.Time
			Limits     struct{ Window int }
		}
		if err := json.Unmarshal(line, &x); err != nil {
			rt.Fatalf("%v\n%s", err, line)
		}
		var rejected []int64
		for _, r := range x.RejectedAt {
			for i := range r[1] {
				rejected = append(rejected, r[0]+i)
			}
		}
		if !reflect.DeepEqual(x.Usage, h.Usage) || !slices.Equal(rejected, h.RejectedAt) || x.Records != h.Records || x.Period != h.Period || !x.Time.Equal(h.Time) || x.Limits.Window != h.Limits.Window {
			rt.Fatalf("encoding/json reads %+v\n%s", x, line)
		}
		if got, err := ParseHead(line); err != nil || !reflect.DeepEqual(got, h) {
			rt.Fatalf("%v: parsed\n%+v\nwant\n%+v\n%s", err, got, h, line)
		}
	})
}

// Rows, Tree and Builder have the roots of RFC 6962, as tlog computes them, and
// what they keep proves each leaf.
func TestTrees(t *testing.T) {
	var rows Rows
	var kept, theirs MemHashes
	tree := must(NewTree(&kept, 0))
	for n := int64(0); n < 300; n++ {
		root, err := tlog.TreeHash(n, &kept)
		if err != nil || rows.Root() != root || tree.Root() != root || tree.Size() != n {
			t.Fatalf("%d leaves: %v, %v, %v; tlog has %v, %v", n, rows.Root(), tree.Root(), tree.Size(), root, err)
		}
		again := must(NewTree(&kept, n))
		if again.Root() != root {
			t.Fatalf("a tree of %d leaves, opened again, has another root", n)
		}
		line := []byte{byte(n), 'x'}
		stored := must(tlog.StoredHashes(n, line, &theirs))
		if err := theirs.AppendHashes(tlog.StoredHashCount(n), stored); err != nil {
			t.Fatal(err)
		}
		rows.Add(line)
		if n%2 == 0 {
			tree = again
		}
		if err := tree.Append(tlog.RecordHash(line)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(kept.all, theirs.all) {
			t.Fatalf("after %d leaves other hashes are kept than tlog stores", n+1)
		}
	}
	if _, err := NewTree(nil, 3); err == nil {
		t.Error("a tree went on without its hashes")
	}
	if err := kept.AppendHashes(0, []tlog.Hash{{1}}); err == nil {
		t.Error("a kept hash was replaced")
	}
	if err := kept.AppendHashes(0, kept.all[:5]); err != nil {
		t.Errorf("the same hashes once more, as after a crash: %v", err)
	}
}

// A write that fails leaves the tree as it was; one that failed and was written
// all the same does no harm.
func TestTreeAfterFailedWrite(t *testing.T) {
	for _, written := range []bool{false, true} {
		f := &flaky{written: written}
		tree := must(NewTree(f, 0))
		leaves := []tlog.Hash{{1}, {2}, {3}}
		for n := range 20 {
			f.fail = true
			if tree.Append(leaves...) == nil || tree.Size() != int64(3*n) {
				t.Fatal("the failed write was not noticed")
			}
			f.fail = false
			if err := tree.Append(leaves...); err != nil {
				t.Fatal(err)
			}
			if root := must(tlog.TreeHash(tree.Size(), f)); root != tree.Root() {
				t.Fatalf("the root of %d leaves is %v, what is kept has %v", tree.Size(), tree.Root(), root)
			}
		}
	}
}

type flaky struct {
	MemHashes
	fail, written bool
}

func (f *flaky) AppendHashes(at int64, h []tlog.Hash) error {
	if !f.fail || f.written {
		if err := f.MemHashes.AppendHashes(at, h); err != nil {
			return err
		}
	}
	if f.fail {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func TestBuilderAllocatesNothing(t *testing.T) {
	h, ds := crowd(1000, 10)
	var b Builder
	run := func() {
		b.Begin(&h, Place{}, [32]byte{})
		for i := range ds {
			b.Add(&ds[i])
		}
		b.End()
	}
	run()
	if n := testing.AllocsPerRun(5, run); n > float64(len(ds))/50 {
		t.Errorf("%v allocations for %d decisions", n, len(ds))
	}
}

// crowd is a batch as a decoder gives it: decisions share their lists.
func crowd(rows, fan int) (Head, []broker.Decision) {
	h := Head{Kind: "stream", Dataset: "inntekt", TopicID: broker.Digest{7}, Partition: 2, First: 0, Last: int64(rows) - 1, Records: int64(rows), Period: "2026-11",
		Policy: "sha256:0123456789abcdef0123456789abcdef", Revision: 1234, Time: time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)}
	fields := []broker.Pointer{"/inntektsmottaker", "/aar", "/maaned", "/inntekt/beloep", "/inntekt/type", "/inntekt/fordel", "/virksomhet", "/opptjeningsland", "/arbeidsforhold/type", "/kommune"}
	bases := []broker.LegalBasisID{"skatteforvaltningsloven-3-3", "barnehageloven-16"}
	reasons := []broker.Reason{"no_open_case"}
	names := make([]broker.SubscriptionID, 357)
	for i := range names {
		names[i] = broker.SubscriptionID("kommune-" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + "-barnehage")
	}
	var ds []broker.Decision
	for r := range rows {
		d := broker.Decision{Kind: broker.StreamDecision, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: 2, Offset: int64(r)},
			Event: broker.Digest{byte(r), byte(r >> 8), byte(r >> 16), 9}, Subject: broker.Digest{1, byte(r), byte(r >> 8)}, PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time, Period: h.Period}
		for i := range fan {
			d.Subscription = names[(r*7+i)%len(names)]
			d.Agreement, d.Package = "barnehage-2026", broker.PackageRef{ID: "barnehage", Version: 3}
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, 2, d.Position.Offset, d.Subscription)
			if r%4 == 0 {
				d.Outcome, d.Fields, d.Delivery = broker.Outcome{Reasons: reasons}, nil, broker.DeliveryID{}
			} else {
				d.Outcome, d.Fields, d.Delivery = broker.Outcome{Permit: true, Bases: bases}, fields, broker.NewDeliveryID(d.Event, d.Subscription)
			}
			ds = append(ds, d)
		}
	}
	return h, ds
}

func BenchmarkLine(b *testing.B) {
	h, ds := crowd(2000, 3)
	var w Builder
	b.Run("append", func(b *testing.B) {
		w.Begin(&h, Place{}, [32]byte{})
		b.ReportAllocs()
		n := 0
		for i := 0; b.Loop(); i++ {
			n += len(w.append(&ds[i%len(ds)]))
		}
		b.ReportMetric(float64(n)/float64(b.N), "bytes/line")
	})
	b.Run("plain", func(b *testing.B) {
		var line []byte
		for i := 0; b.Loop(); i++ {
			line = AppendDecision(line[:0], &ds[i%len(ds)])
		}
	})
	b.Run("append+root", func(b *testing.B) {
		w.Begin(&h, Place{}, [32]byte{})
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			w.Add(&ds[i%len(ds)])
		}
	})
}
