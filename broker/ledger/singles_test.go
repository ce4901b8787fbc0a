package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

var singleKinds = []broker.DecisionKind{broker.BackfillDecision, broker.LookupDecision, broker.DoorDecision, broker.NoticeDecision}

// identify sets a decision's ids to what they must be.
func identify(d *broker.Decision) {
	d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, d.Position.Partition, d.Position.Offset, d.Subscription)
	if d.Kind == broker.LookupDecision {
		d.ID = broker.NewLookupID(d.Request, d.Event, &d.Position, d.Subscription)
	}
	d.Delivery = broker.DeliveryID{}
	if d.Outcome.Permit && (d.Kind == broker.StreamDecision || !d.Event.IsZero()) {
		d.Delivery = broker.DeliveryOf(d.Kind, d.Event, d.Subscription)
	}
}

// singles adds n single decisions of a kind: of lookups every third does not lie in
// the log, and of these every second found nothing.
func (l *testLog) singles(kind broker.DecisionKind, n int) {
	h, ds := l.single(kind, n)
	l.makeSingles(h, ds)
}

func (l *testLog) single(kind broker.DecisionKind, n int) (SinglesHead, []broker.Decision) {
	// By another clock than the stream's, and maybe at an older revision.
	at := l.clock.Add(time.Duration(l.rand.Int64N(2e9)) - time.Second)
	h := SinglesHead{Kind: kind, TopicID: l.digest(), Partition: int32(l.rand.IntN(3)), Limits: Limits{900_000, 64, 100_000, 86_400_000, 900_000}, Period: "2026-11", Policy: "sha256:aa",
		Revision: broker.Revision(l.rand.Uint64N(uint64(l.sequence.Revision()) + 1)), Time: at, Usage: map[broker.AgreementID]int64{"a": 3}}
	if kind == broker.DoorDecision {
		h.TopicID, h.Partition, h.Usage = broker.Digest{}, 0, nil
	}
	var ds []broker.Decision
	for i := range n {
		d := broker.Decision{Kind: kind, Position: broker.Position{Dataset: "data-1", TopicID: topics[1], Partition: 1, Offset: l.rand.Int64N(100)}, Event: l.digest(), Subject: l.digest(),
			Subscription: broker.SubscriptionID(fmt.Sprint("kommune-", l.rand.IntN(3))), Agreement: "avtale", Package: broker.PackageRef{ID: "pakke", Version: 1},
			Outcome: broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}, PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time, Period: h.Period}
		if kind == broker.LookupDecision {
			d.Request = l.digest()
			if i%3 == 2 {
				d.Position = broker.Position{Dataset: "data-1", Offset: broker.Nowhere}
				if i%2 == 0 {
					d.Event = broker.EventHash{}
				}
			}
		}
		if kind != broker.DoorDecision && i%4 != 0 {
			d.Outcome, d.Fields = broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}, []broker.Pointer{"/beloep"}
			h.Permits++
			if kind == broker.NoticeDecision {
				d.Fields, d.RecordKind = nil, broker.Correction
			}
		}
		identify(&d)
		ds = append(ds, d)
	}
	h.Decisions = int64(n)
	return h, ds
}

func (l *testLog) makeSingles(h SinglesHead, ds []broker.Decision) {
	lines := [][]byte{bytes.Clone(l.build.BeginSingles(&h, Place{0, l.offsets}, sha256.Sum256([]byte("value"))))}
	for i := range ds {
		lines = append(lines, bytes.Clone(l.build.Add(&ds[i])))
	}
	l.offsets++
	l.add(l.build.End(), lines)
}

// goldenSingles are lines with one of each thing that single decisions have. They
// must be written and read the same for ever.
func goldenSingles() (lines [][]byte, entries []Entry) {
	var b Builder
	at := time.Date(2026, 11, 22, 10, 0, 0, 120_000_000, time.UTC)
	for i, kind := range singleKinds {
		h := SinglesHead{Kind: kind, Decisions: 1, Limits: Limits{900_000, 64, 100_000, 86_400_000, 950_000}, Period: "2026-11", Policy: "sha256:00ff", Revision: 17, Time: at}
		d := broker.Decision{Kind: kind, Position: broker.Position{Dataset: "inntekt", TopicID: broker.Digest{1, 2, 3}, Partition: 3, Offset: 100}, Event: broker.Digest{4}, Subject: broker.Digest{5},
			Subscription: "oslo-barnehage", Agreement: "oslo-2026", Outcome: broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}, Package: broker.PackageRef{ID: "p", Version: 2},
			RecordKind: broker.Correction, PolicyDigest: h.Policy, Revision: 17, Time: at, Period: "2026-11"}
		ds := []broker.Decision{d}
		switch kind {
		case broker.BackfillDecision:
			h.TopicID, h.Partition, h.Permits, h.Usage = d.Position.TopicID, 3, 1, map[broker.AgreementID]int64{"oslo-2026": 41}
			ds[0].Outcome, ds[0].Fields = broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}, []broker.Pointer{"/inntekt/beloep"}
		case broker.NoticeDecision:
			h.Permits = 1
			ds[0].Outcome = broker.Outcome{Permit: true}
		case broker.LookupDecision:
			d.Request = broker.Digest{6}
			away, none := d, d
			away.Position, away.RecordKind, away.Outcome = broker.Position{Dataset: "inntekt", Offset: broker.Nowhere}, broker.Original, broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}
			away.Fields = []broker.Pointer{"/inntekt/beloep"}
			none.Position, none.RecordKind, none.Event, none.Outcome = away.Position, broker.Original, broker.EventHash{}, broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}
			ds = []broker.Decision{d, away, none}
			h.Decisions, h.Permits, h.TopicID = 3, 2, broker.Digest{7}
		}
		lines = append(lines, bytes.Clone(b.BeginSingles(&h, Place{1, int64(i)}, sha256.Sum256([]byte("singles")))))
		for j := range ds {
			identify(&ds[j])
			lines = append(lines, bytes.Clone(b.Add(&ds[j])))
		}
		entries = append(entries, b.End())
	}
	return lines, entries
}

func TestGoldenSingles(t *testing.T) {
	lines, entries := goldenSingles()
	for i := range entries {
		lines = append(lines, AppendEntry(nil, &entries[i]))
	}
	got := append(bytes.Join(lines, []byte("\n")), '\n')
	file := filepath.Join("testdata", "singles-1.golden")
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
		t.Fatalf("the lines of single decisions changed: evidence written before would no longer be found true. A new layout needs a new version.\n%s", got)
	}
	for i := range entries {
		if e, err := ParseEntry(AppendEntry(nil, &entries[i])); err != nil || !reflect.DeepEqual(e, entries[i]) {
			t.Errorf("entry %d: %+v, %v\nwant %+v", i, e, err, entries[i])
		}
	}
}

func TestSinglesHeadLine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := SinglesHead{Kind: rapid.SampledFrom(singleKinds).Draw(rt, "kind"), Decisions: rapid.Int64Range(0, 1<<40).Draw(rt, "decisions"), Permits: rapid.Int64Range(0, 1<<40).Draw(rt, "permits"),
			Period: text.Draw(rt, "period"), Policy: text.Draw(rt, "policy"), Revision: broker.Revision(rapid.Uint64().Draw(rt, "revision")), Time: moment.Draw(rt, "time"), Limits: Limits{1, 2, 3, 4, 5}}
		if rapid.Bool().Draw(rt, "lease") {
			h.TopicID, h.Partition = drawDigest(rt, "topic"), rapid.Int32Range(0, 99).Draw(rt, "partition")
		}
		for _, a := range rapid.SliceOfN(text, 0, 4).Draw(rt, "agreements") {
			if h.Usage == nil {
				h.Usage = map[broker.AgreementID]int64{}
			}
			h.Usage[broker.AgreementID(a)] = rapid.Int64Range(0, 1<<40).Draw(rt, "used")
		}
		line := AppendSinglesHead(nil, &h)
		var x struct {
			Line, Kind, Period string
			Lease              *struct {
				TopicID   broker.Digest
				Partition int32
			}
			Decisions int64
			Usage     map[broker.AgreementID]int64
		}
		if err := json.Unmarshal(line, &x); err != nil {
			rt.Fatalf("%v\n%s", err, line)
		}
		leased := x.Lease != nil && x.Lease.TopicID == h.TopicID && x.Lease.Partition == h.Partition || x.Lease == nil && h.TopicID.IsZero() && h.Partition == 0
		if x.Line != "singles" || x.Kind != h.Kind.String() || x.Period != h.Period || !leased || x.Decisions != h.Decisions || !reflect.DeepEqual(x.Usage, h.Usage) {
			rt.Fatalf("encoding/json reads %+v\n%s", x, line)
		}
		if got, err := ParseSinglesHead(line); err != nil || !reflect.DeepEqual(got, h) {
			rt.Fatalf("%v: parsed\n%+v\nwant\n%+v\n%s", err, got, h, line)
		}
	})
}

// There is one way to write each line: others that say the same are refused.
func TestSinglesAreWrittenOneWay(t *testing.T) {
	lines, entries := goldenSingles()
	backfill, found, away, none, door := lines[1], lines[3], lines[4], lines[5], lines[7]
	zero := strings.Repeat("0", 32)
	for _, c := range []struct {
		name     string
		line     []byte
		from, to string
		want     FaultName
	}{
		{"a lookup of nothing with an event of zeros", none, `"dataset":"inntekt"`, `"dataset":"inntekt","event":"` + zero + `","record":"original"`, RowChanged},
		{"a lookup of nothing with a record's kind", none, `"dataset":"inntekt"`, `"dataset":"inntekt","record":"original"`, RowChanged},
		{"a lookup nowhere with a place of zeros", away, `"dataset":"inntekt"`, `"dataset":"inntekt","topicId":"` + zero + `","partition":0,"offset":0`, RowChanged},
		{"a lookup nowhere with an offset below 0", away, `"dataset":"inntekt"`, `"dataset":"inntekt","topicId":"` + zero + `","partition":0,"offset":-1`, RowChanged},
		{"a lookup without a request", found, `"request":"06` + zero[2:] + `",`, ``, RowChanged},
		{"a lookup with a request of zeros", found, `"request":"06`, `"request":"00`, RowChanged},
		{"a lookup with another request", found, `"request":"06`, `"request":"07`, RowChanged},
		{"a backfill with a request", backfill, `"kind":"backfill",`, `"kind":"backfill","request":"06` + zero[2:] + `",`, RowChanged},
		{"a backfill nowhere", backfill, `"topicId":"010203` + zero[6:] + `","partition":3,"offset":100,`, ``, RowChanged},
		{"a backfill without an event", backfill, `"event":"04` + zero[2:] + `","record":"correction",`, ``, RowChanged},
		{"a permit without its delivery", away, `"delivery":"` + deliveryOf(away) + `",`, ``, RowChanged},
		{"a delivery of nothing", none, `,"subject"`, `,"delivery":"` + deliveryOf(away) + `","subject"`, RowChanged},
		{"a denial made a permit at the door", door, `"outcome":"deny"`, `"outcome":"permit"`, RowChanged},
		{"a backfill passed for the stream's", backfill, `"kind":"backfill"`, `"kind":"stream"`, RowChanged},
		{"a door passed for a backfill", door, `"kind":"door"`, `"kind":"backfill"`, RowChanged},
		{"another kind", door, `"kind":"door"`, `"kind":"window"`, UnknownFormat},
	} {
		changed := bytes.Replace(c.line, []byte(c.from), []byte(c.to), 1)
		if bytes.Equal(changed, c.line) {
			t.Fatalf("%s: nothing was changed in %s", c.name, c.line)
		}
		if _, err := ParseDecision(changed); NameOf(err) != c.want {
			t.Errorf("%s: %v\n%s", c.name, err, changed)
		}
	}
	// Lines whose ids fit what they say, which nobody may say.
	for name, c := range map[string]struct {
		of []byte
		do func(d *broker.Decision)
	}{
		"a permit at the door":        {door, func(d *broker.Decision) { d.Outcome = broker.Outcome{Permit: true} }},
		"a lookup that nobody asked":  {found, func(d *broker.Decision) { d.Request = broker.Digest{} }},
		"a backfill of nothing":       {backfill, func(d *broker.Decision) { d.Position = broker.Position{Dataset: "inntekt", Offset: broker.Nowhere} }},
		"a found record with no hash": {backfill, func(d *broker.Decision) { d.Event = broker.EventHash{} }},
	} {
		d := must(ParseDecision(c.of))
		c.do(&d)
		identify(&d)
		if _, err := ParseDecision(AppendDecision(nil, &d)); NameOf(err) != RowChanged {
			t.Errorf("%s: %v", name, err)
		}
	}
	head := lines[0]
	for name, pair := range map[string][2]string{
		"a lease of nobody": {`"lease":{"topicId":"010203` + zero[6:] + `","partition":3}`, `"lease":{"topicId":"` + zero + `","partition":0}`},
		"usage of nothing":  {`"usage":{"oslo-2026":41}`, `"usage":{}`},
	} {
		if _, err := ParseSinglesHead(bytes.Replace(head, []byte(pair[0]), []byte(pair[1]), 1)); NameOf(err) != RowChanged {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Entries that contradict themselves, and such as a newer program makes.
	for name, c := range map[string]struct {
		of   int
		do   func(e *Entry)
		want FaultName
	}{
		"a line more":       {0, func(e *Entry) { e.Lines++ }, EntryChanged},
		"more permits":      {0, func(e *Entry) { e.Batch.Permits = 2 }, EntryChanged},
		"permits at a door": {2, func(e *Entry) { e.Batch.Permits = 1 }, EntryChanged},
		"of the stream":     {0, func(e *Entry) { e.Batch.Kind = "stream" }, UnknownFormat},
		"of another kind":   {0, func(e *Entry) { e.Batch.Kind = "window" }, UnknownFormat},
		"a batch of a kind": {0, func(e *Entry) { e.Type, e.Lines, e.Batch.Decisions, e.Batch.Permits = BatchEntry, 1, 0, 0 }, UnknownFormat},
	} {
		e := entries[c.of]
		c.do(&e)
		if _, err := ParseEntry(AppendEntry(nil, &e)); NameOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Replace(AppendEntry(nil, &entries[0]), []byte(`"singles"`), []byte(`"receipts"`), 1)
	if _, err := ParseEntry(newer); NameOf(err) != UnknownFormat || !strings.Contains(err.Error(), "use a newer datafordeler") {
		t.Errorf("an entry of a type that is not known: %v", err)
	}
}

func deliveryOf(line []byte) string {
	d := must(ParseDecision(line))
	return d.Delivery.String()
}

// mixed is an honest log of all kinds, and where its single decisions stand.
func mixed(t *testing.T) (l *testLog, at map[broker.DecisionKind]int) {
	l, at = newLog(t, 9, 2), map[broker.DecisionKind]int{}
	l.events(5)
	l.batch(0, 0, 6, 3)
	for _, kind := range singleKinds {
		at[kind] = len(l.items)
		l.singles(kind, 9)
		l.batch(0, 0, 3, 3)
	}
	l.sign(2)
	l.events(2)
	l.singles(broker.LookupDecision, 700) // of several chunks
	l.batch(1, 0, 6, 3)
	l.singles(broker.DoorDecision, 2)
	l.sign(2)
	return l, at
}

func TestHonestLogOfAllKindsVerifies(t *testing.T) {
	l, _ := mixed(t)
	l.grow(100)
	report, err := l.verify(l.notes[0])
	if err != nil {
		t.Fatal(err)
	}
	var want [broker.LastDecision + 1]KindCount
	var all, permits int64
	for _, x := range l.items {
		for _, line := range x.lines {
			if d, err := ParseDecision(line); err == nil {
				all++
				want[d.Kind].Decisions++
				if d.Outcome.Permit {
					permits++
					want[d.Kind].Permits++
				}
			}
		}
	}
	if report.Kinds != want || report.Decisions != all || report.Permits != permits || report.Singles < 5 || report.Entries != report.Batches+report.Singles+report.Controls {
		t.Errorf("report %+v, want %+v", report, want)
	}
	for _, kind := range singleKinds {
		if want[kind].Decisions < 9 {
			t.Errorf("the log has %d decisions of kind %s", want[kind].Decisions, kind)
		}
	}
	// What was kept goes on where it was.
	again := l.copy()
	entries, checkpoints := again.text()
	v := &Verifier{Policy: l.policy, From: report.State}
	var rest []byte
	if report, err = v.Run(t.Context(), NewStream(bytes.NewReader(rest), bytes.NewReader(checkpoints[bytes.LastIndexByte(checkpoints[:len(checkpoints)-1], '\n')+1:]))); err != nil || report.Entries != 0 {
		t.Errorf("going on from the end of %d bytes: %v, %+v", len(entries), err, report)
	}
}

// What somebody did to single decisions, and the name it is found by.
func TestTamperWithSingles(t *testing.T) {
	honest, at := mixed(t)
	lookup, backfill, door := at[broker.LookupDecision], at[broker.BackfillDecision], at[broker.DoorDecision]
	swapRequests := func(x *item) {
		a, b := must(ParseDecision(x.lines[1])), must(ParseDecision(x.lines[2]))
		x.lines[1] = bytes.Replace(x.lines[1], []byte(a.Request.String()), []byte(b.Request.String()), 1)
		x.lines[2] = bytes.Replace(x.lines[2], []byte(b.Request.String()), []byte(a.Request.String()), 1)
	}
	replace := func(line *[]byte, from, to string) {
		changed := bytes.Replace(*line, []byte(from), []byte(to), 1)
		if bytes.Equal(changed, *line) {
			t.Errorf("nothing was changed: no %s in %s", from, *line)
		}
		*line = changed
	}
	for _, c := range []struct {
		name string
		do   func(l *testLog)
		want FaultName
	}{
		{"a row changed", func(l *testLog) { flip(l.items[backfill].lines[1], 60) }, RowChanged},
		{"a reason changed, and the root made to fit", func(l *testLog) {
			x := &l.items[door]
			replace(&x.lines[1], "no_open_case", "other_reason")
			x.reroot(nil)
		}, WrongRoot},
		{"a denial made a permit, and the root made to fit", func(l *testLog) {
			x := &l.items[lookup]
			replace(&x.lines[1], `"outcome":"deny","reasons":["no_open_case"]`, `"outcome":"permit"`)
			x.reroot(nil)
		}, RowChanged},
		{"a record dropped", func(l *testLog) { l.items = slices.Delete(l.items, backfill, backfill+1) }, WrongRoot},
		{"a record twice", func(l *testLog) { l.items = slices.Insert(l.items, backfill, l.items[backfill].clone()) }, BatchOutOfOrder},
		{"a record twice, at another place in decisions", func(l *testLog) {
			x := l.items[len(l.items)-1].clone()
			x.reroot(func(e *Entry) { e.Batch.At.Offset++ })
			l.items = append(l.items, x)
		}, ""},
		{"two records swapped", func(l *testLog) { l.items[backfill], l.items[door] = l.items[door], l.items[backfill] }, BatchOutOfOrder},
		{"a row dropped", func(l *testLog) { x := &l.items[lookup]; x.lines = slices.Delete(x.lines, 2, 3) }, RowChanged},
		{"a row dropped, and the root made to fit", func(l *testLog) {
			x := &l.items[lookup]
			x.lines = slices.Delete(x.lines, 1, 2) // a denial
			x.reroot(nil)
		}, EntryChanged},
		{"a row dropped, and root and head made to fit", func(l *testLog) {
			x := &l.items[lookup]
			x.lines = slices.Delete(x.lines, 1, 2)
			replace(&x.lines[0], `"decisions":9`, `"decisions":8`)
			x.reroot(nil)
		}, WrongRoot},
		{"two rows swapped", func(l *testLog) { x := &l.items[lookup]; x.lines[1], x.lines[2] = x.lines[2], x.lines[1] }, RowChanged},
		{"two rows swapped, and the root made to fit", func(l *testLog) {
			x := &l.items[lookup]
			x.lines[1], x.lines[2] = x.lines[2], x.lines[1]
			x.reroot(nil)
		}, WrongRoot},
		{"a row moved to another kind's record, and the root made to fit", func(l *testLog) {
			x := &l.items[door]
			x.lines[1] = l.items[lookup].lines[1]
			x.reroot(nil)
		}, RowChanged},
		{"the requests of two lookups swapped", func(l *testLog) { swapRequests(&l.items[lookup]) }, RowChanged},
		{"the requests of two lookups swapped, and the root made to fit", func(l *testLog) {
			swapRequests(&l.items[lookup])
			l.items[lookup].reroot(nil)
		}, RowChanged},
		{"a head's lease changed, and the root made to fit", func(l *testLog) {
			x := &l.items[lookup]
			replace(&x.lines[0], `"usage":{"a":3}`, `"usage":{"a":2}`)
			x.reroot(nil)
		}, WrongRoot},
		{"a permit fewer in entry and head", func(l *testLog) {
			x := &l.items[lookup]
			n := must(ParseEntry(x.entry)).Batch.Permits
			replace(&x.lines[0], fmt.Sprintf(`"permits":%d`, n), fmt.Sprintf(`"permits":%d`, n-1))
			x.reroot(func(e *Entry) { e.Batch.Permits-- })
		}, EntryChanged},
		{"an entry's permits changed", func(l *testLog) { l.items[lookup].reroot(func(e *Entry) { e.Batch.Permits-- }) }, EntryChanged},
		{"an entry's kind changed", func(l *testLog) { l.items[lookup].reroot(func(e *Entry) { e.Batch.Kind = "backfill" }) }, EntryChanged},
		{"an entry's policy changed", func(l *testLog) { l.items[lookup].reroot(func(e *Entry) { e.Batch.Policy = "sha256:ab" }) }, EntryChanged},
		{"a revision that is not made", func(l *testLog) {
			x := &l.items[door]
			e := must(ParseEntry(x.entry))
			for i := range x.lines {
				replace(&x.lines[i], fmt.Sprintf(`"revision":%d`, e.Revision), `"revision":99`)
			}
			x.reroot(func(e *Entry) { e.Revision = 99 })
		}, UnknownRevision},
		{"a type of entry that is not known", func(l *testLog) { replace(&l.items[door].entry, `"singles"`, `"receipts"`) }, UnknownFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := honest.copy()
			c.do(l)
			report, err := l.verify()
			f, ok := errors.AsType[*Fault](err)
			if c.want == "" { // behind the last head: not proved, and said so
				if err != nil || report.Uncovered != 1 {
					t.Errorf("found %v, %d uncovered", err, report.Uncovered)
				}
				return
			}
			if !ok || f.Name() != c.want || report.Fault != f {
				t.Errorf("found %v, want %s", err, c.want)
			}
		})
	}
}

// A log that signs single decisions that contradict themselves.
func TestSinglesThatContradictThemselves(t *testing.T) {
	for _, c := range []struct {
		name string
		kind broker.DecisionKind
		do   func(h *SinglesHead, ds []broker.Decision)
		want FaultName
	}{
		{"nothing wrong", broker.LookupDecision, func(*SinglesHead, []broker.Decision) {}, ""},
		{"the same decision again", broker.BackfillDecision, func(h *SinglesHead, ds []broker.Decision) { ds[5] = ds[1] }, ""},
		{"a request that is not the id's", broker.LookupDecision, func(h *SinglesHead, ds []broker.Decision) { ds[300].Request[0] ^= 1 }, RowChanged},
		{"a permit's delivery of another event", broker.LookupDecision, func(h *SinglesHead, ds []broker.Decision) { ds[301].Delivery[0] ^= 1 }, RowChanged},
		{"a place that is not the id's", broker.DoorDecision, func(h *SinglesHead, ds []broker.Decision) { ds[301].Position.Offset++ }, RowChanged},
		{"a denial with fields", broker.DoorDecision, func(h *SinglesHead, ds []broker.Decision) { ds[3].Fields = []broker.Pointer{"/x"} }, RowChanged},
		{"more decisions in the head", broker.DoorDecision, func(h *SinglesHead, ds []broker.Decision) { h.Decisions++ }, EntryChanged},
		{"fewer permits in the head", broker.BackfillDecision, func(h *SinglesHead, ds []broker.Decision) { h.Permits-- }, EntryChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t, 1, 0)
			l.events(2)
			h, ds := l.single(c.kind, 601)
			c.do(&h, ds)
			l.makeSingles(h, ds)
			l.sign(0)
			if _, err := l.verify(); NameOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("found %v, want %q", err, c.want)
			}
		})
	}
}

// Each line of single decisions has a proof, and none stands for another's.
func TestSinglesAreProved(t *testing.T) {
	l, at := mixed(t)
	for kind, i := range at {
		for j, line := range l.items[i].lines {
			c, err := must(ParseProof(must(l.prove(i, j).Append(nil)))).Check(l.policy)
			if err != nil || !bytes.Equal(c.Line, line) {
				t.Fatalf("%s, line %d: %v", kind, j, err)
			}
			if j == 0 && (c.Singles == nil || !bytes.Equal(AppendSinglesHead(nil, c.Singles), line)) || j > 0 && (c.Decision == nil || c.Decision.Kind != kind || !bytes.Equal(AppendDecision(nil, c.Decision), line)) {
				t.Fatalf("%s, line %d is shown as %+v", kind, j, c)
			}
		}
	}
	// An operator that put a decision under an entry of another kind: every hash fits.
	x := l.items[at[broker.LookupDecision]].clone()
	x.reroot(func(e *Entry) { e.Batch.Kind = "backfill" })
	forged := newLog(t, 9, 2)
	forged.tree = must(NewTree(&forged.hashes, 0))
	forged.items = []item{x}
	if err := forged.tree.Append(tlog.RecordHash(x.entry)); err != nil {
		t.Fatal(err)
	}
	forged.sign(2)
	if _, err := BuildProof(forged.policy, 1, each(x.lines), x.entry, 0, &forged.hashes, forged.notes[0]); NameOf(err) != RowChanged {
		t.Errorf("a lookup under an entry of a backfill's: %v", err)
	}
}

func TestSequenceOfSingles(t *testing.T) {
	single := func(at int64, rev broker.Revision, second int64) Entry {
		return Entry{Type: SinglesEntry, Lines: 2, Revision: rev, Batch: Batch{At: Place{0, at}, Kind: "door", Decisions: 1, Time: time.Unix(second, 0)}}
	}
	s := NewSequence()
	for i, c := range []struct {
		e    Entry
		want FaultName
	}{
		{controlEntry(0, 4, 3, 3), ""},
		{batchEntry(1, 0, 10, 0, 9, 3, 100), ""},
		{single(10, 3, 100), BatchOutOfOrder},
		{single(11, 4, 100), UnknownRevision},
		{single(11, 3, 200), ""},
		{single(12, 1, 50), ""}, // an older revision, an earlier time: another instance's
		{single(12, 1, 50), BatchOutOfOrder},
		{batchEntry(1, 0, 12, 10, 19, 3, 100), BatchOutOfOrder},
		{batchEntry(1, 0, 13, 10, 19, 3, 100), ""},
		{batchEntry(1, 0, 14, 21, 29, 3, 100), Gap},
	} {
		before := must(json.Marshal(s))
		err := s.Accept(&c.e)
		if NameOf(err) != c.want || (err == nil) != (c.want == "") {
			t.Fatalf("entry %d: %v, want %q", i, err, c.want)
		}
		if err != nil && !bytes.Equal(before, must(json.Marshal(s))) {
			t.Errorf("entry %d was refused, and changed the state", i)
		}
		var again Sequence
		if err := again.UnmarshalJSON(must(json.Marshal(s))); err != nil || again.LogNext(0) != s.LogNext(0) {
			t.Errorf("entry %d: a snapshot goes on at %d, want %d (%v)", i, again.LogNext(0), s.LogNext(0), err)
		}
	}
}
