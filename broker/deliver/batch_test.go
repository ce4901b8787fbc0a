package deliver

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

var update = flag.Bool("update", false, "write the golden files")

func terms(id string, ceiling int64) *broker.Terms {
	return &broker.Terms{
		Subscription: broker.Subscription{ID: broker.SubscriptionID(id)},
		Agreement: broker.Agreement{ID: broker.AgreementID("agreement-" + id), Package: broker.PackageRef{ID: "p", Version: 2},
			Cost: broker.Cost{Ceiling: ceiling}},
	}
}

func digest(b byte) (d broker.Digest) {
	for i := range d {
		d[i] = b + byte(i)
	}
	return d
}

func header(first int64) BatchHeader {
	return BatchHeader{
		Kind: "stream", Dataset: "inntekt", TopicID: digest(1), Partition: 3, First: first,
		Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Revision: 17, Policy: "sha256:00", Period: "2026-11",
		Limits: Limits{RecordBytes: 900_000, Depth: 64, Window: 100_000, WindowMillis: 86_400_000, DeliveryBytes: 900_000},
	}
}

// golden is a batch with one of each thing.
func golden(b interface {
	Reset(BatchHeader)
	Add(Row, []Decision)
	Reject(int64)
	Repeat(int64)
	Finish(int64) [][]byte
}) [][]byte {
	permit := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}
	deny := &broker.Outcome{Reasons: []broker.Reason{"no_open_case", "ceiling_reached"}}
	one, two := terms("a", 5), terms("b", 0)
	h := header(100)
	h.Usage = map[broker.AgreementID]int64{"agreement-a": 2}
	b.Reset(h)
	b.Add(Row{Offset: 100, Event: digest(2), Subject: digest(3)}, []Decision{
		{Terms: one, Outcome: permit, Fields: []broker.Pointer{"/x", "/y/z"}}, {Terms: two, Outcome: deny}})
	b.Add(Row{Offset: 101}, nil)
	b.Reject(103)
	b.Reject(104)
	b.Repeat(105)
	b.Add(Row{Offset: 110, Event: digest(4), Subject: digest(5), Kind: broker.Correction}, []Decision{
		{Terms: two, Outcome: permit, Shielded: true, Fields: []broker.Pointer{"/x"}}})
	return b.Finish(111)
}

// The bytes of the formats, which must be readable for ever.
func TestGoldenBatch(t *testing.T) {
	for name, w := range map[string]interface {
		Reset(BatchHeader)
		Add(Row, []Decision)
		Reject(int64)
		Repeat(int64)
		Finish(int64) [][]byte
	}{"batch-1.golden": &batch1{}, "batch-2.golden": &Batch{}} {
		t.Run(name, func(t *testing.T) {
			out := golden(w)
			if len(out) != 1 {
				t.Fatalf("%d records, want 1", len(out))
			}
			file := filepath.Join("testdata", name)
			if *update && name == "batch-2.golden" {
				if err := os.WriteFile(file, out[0], 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out[0], want) {
				t.Fatal("the bytes of the format changed: decisions written before could be misread. A new layout needs a new version")
			}
			checkGolden(t, want)
		})
	}
}

func checkGolden(t *testing.T, value []byte) {
	var got []string
	note := func(d *broker.Decision) error {
		got = append(got, fmt.Sprintf("%d %s %v %v %v %v %v %s %v %s %s", d.Position.Offset, d.Subscription, d.Outcome.Permit, d.Outcome.Reasons,
			d.Outcome.Bases, d.Fields, d.Shielded, d.RecordKind, d.Delivery.IsZero(), d.Event, d.Subject))
		return nil
	}
	head, err := Decode(value, note)
	if err != nil {
		t.Fatal(err)
	}
	wantRows := []string{
		"100 a true [] [lov-1] [/x /y/z] false original false 02030405060708090a0b0c0d0e0f1011 030405060708090a0b0c0d0e0f101112",
		"100 b false [no_open_case ceiling_reached] [] [] false original true 02030405060708090a0b0c0d0e0f1011 030405060708090a0b0c0d0e0f101112",
		"110 b true [] [lov-1] [/x] true correction false 0405060708090a0b0c0d0e0f10111213 05060708090a0b0c0d0e0f1011121314",
	}
	if !reflect.DeepEqual(got, wantRows) {
		t.Errorf("decoded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wantRows, "\n"))
	}
	for offset, want := range map[int64][]string{100: wantRows[:2], 110: wantRows[2:], 101: nil, 103: nil, 105: nil, 99: nil, 112: nil} {
		got = nil
		if _, err := Lookup(value, offset, note); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("lookup of %d: %v\n%s\nwant\n%s", offset, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	want := header(100)
	want.Usage = map[broker.AgreementID]int64{"agreement-a": 2}
	want.Last, want.Records, want.OutOfScope, want.Rejected, want.Repeated = 111, 6, 1, 2, 1
	if peek, err := Peek(value); err != nil || value[0] > 1 && !reflect.DeepEqual(peek, func() BatchHeader { h := want; h.Usage = nil; return h }()) {
		t.Errorf("peek %+v, %v", peek, err)
	}
	want.RejectedAt = []int64{3, 4}
	want.Subscriptions = []BatchSubscription{{"a", "agreement-a", true}, {"b", "agreement-b", false}}
	pack, bases := broker.PackageRef{ID: "p", Version: 2}, []broker.LegalBasisID{"lov-1"}
	want.Outcomes = []BatchOutcome{
		{Permit: true, Bases: bases, Package: pack, Fields: []broker.Pointer{"/x", "/y/z"}},
		{Reasons: []broker.Reason{"no_open_case", "ceiling_reached"}, Package: pack},
		{Permit: true, Bases: bases, Package: pack, Fields: []broker.Pointer{"/x"}, Shielded: true},
	}
	if !reflect.DeepEqual(head, want) {
		t.Errorf("header\n%+v\nwant\n%+v", head, want)
	}
	if alone, _, err := DecodeHeader(value); err != nil || !reflect.DeepEqual(alone, want) {
		t.Errorf("header alone\n%+v, %v\nwant\n%+v", alone, err, want)
	}
	usage, err := UsageAfter(value)
	if err != nil || usage["agreement-a"] != 3 || len(usage) != 1 {
		t.Errorf("usage %v, %v; want 2 before and 1 permit: 3", usage, err)
	}
}

// What goes in comes out, in contiguous ranges that balance, whatever the size.
func TestBatchRoundTrip(t *testing.T) {
	outcomes := []*broker.Outcome{
		{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}},
		{Permit: true, Bases: []broker.LegalBasisID{"samtykke"}},
		{Reasons: []broker.Reason{"a"}},
		{Reasons: []broker.Reason{"a", "b"}},
	}
	subs := []*broker.Terms{terms("s0", 0), terms("s1", 1000), terms("s2", 7)}
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Int64Range(0, 1<<40).Draw(rt, "first")
		n := rapid.IntRange(1, 60).Draw(rt, "records")
		if rapid.IntRange(0, 9).Draw(rt, "large") == 0 {
			n = 60_000 // several records of decisions
		}
		type decision struct {
			offset int64
			sub    broker.SubscriptionID
			out    *broker.Outcome
			event  broker.Digest
		}
		var want []decision
		var rejected, repeated, outOfScope int64
		used := map[broker.AgreementID]int64{"agreement-s1": 10}
		var b Batch
		h := header(first)
		h.Usage = map[broker.AgreementID]int64{"agreement-s1": 10}
		b.Reset(h)
		seed := rapid.Uint64().Draw(rt, "seed")
		next := func(n uint64) uint64 { // cheap, so that a case can be large
			seed = seed*6364136223846793005 + 1442695040888963407
			return (seed >> 33) % n
		}
		offset := first
		for range n {
			offset += int64(next(3))
			switch next(8) {
			case 0:
				b.Reject(offset)
				rejected++
			case 1:
				b.Repeat(offset)
				repeated++
			case 2:
				b.Add(Row{Offset: offset}, nil)
				outOfScope++
			default:
				row := Row{Offset: offset, Event: digest(byte(next(256))), Subject: digest(byte(next(256)))}
				var ds []Decision
				for _, s := range subs[:1+next(uint64(len(subs)))] {
					o := outcomes[next(uint64(len(outcomes)))]
					ds = append(ds, Decision{Terms: s, Outcome: o, Fields: []broker.Pointer{"/x"}})
					want = append(want, decision{offset, s.Subscription.ID, o, row.Event})
					if o.Permit && s.Agreement.Cost.Ceiling > 0 {
						used[s.Agreement.ID]++
					}
				}
				b.Add(row, ds)
			}
			offset++
		}
		out := b.Finish(offset)
		at, from := 0, first
		var sum BatchHeader
		var usage map[broker.AgreementID]int64
		for _, value := range out {
			if len(value) > MaxBatch {
				rt.Fatalf("a record of %d bytes, over %d", len(value), MaxBatch)
			}
			h, err := Decode(value, func(d *broker.Decision) error {
				w := want[at]
				at++
				if d.Position.Offset != w.offset || d.Subscription != w.sub || d.Event != w.event || d.Outcome.Permit != w.out.Permit ||
					!reflect.DeepEqual(d.Outcome.Reasons, w.out.Reasons) || !reflect.DeepEqual(d.Outcome.Bases, w.out.Bases) {
					return fmt.Errorf("decision %d: %+v, want %+v", at-1, d, w)
				}
				if d.Outcome.Permit != (len(d.Fields) == 1) || d.Outcome.Permit == d.Delivery.IsZero() {
					return fmt.Errorf("decision %d: fields %v delivery %v", at-1, d.Fields, d.Delivery)
				}
				return nil
			})
			if err != nil {
				rt.Fatal(err)
			}
			if h.First != from {
				rt.Fatalf("a gap: a range begins at %d, the one before ended at %d", h.First, from-1)
			}
			from = h.Last + 1
			sum.Records += h.Records
			sum.Rejected += h.Rejected
			sum.Repeated += h.Repeated
			sum.OutOfScope += h.OutOfScope
			if usage, err = UsageAfter(value); err != nil {
				rt.Fatal(err)
			}
		}
		if at != len(want) || from != offset+1 {
			rt.Fatalf("%d of %d decisions; the ranges end before %d, want %d", at, len(want), from, offset+1)
		}
		if sum.Records != int64(n) || sum.Rejected != rejected || sum.Repeated != repeated || sum.OutOfScope != outOfScope {
			rt.Fatalf("counts %+v", sum)
		}
		for a, n := range used {
			if usage[a] != n || b.Used(a) != n {
				rt.Fatalf("usage of %s: %d read back, %d held, want %d", a, usage[a], b.Used(a), n)
			}
		}
	})
}

func TestRejectionIsJSON(t *testing.T) {
	got := string(AppendRejection(nil, broker.Position{Dataset: "d", Partition: 2, Offset: 9},
		&broker.Rejection{Code: broker.RejectSchema, Detail: "want \"x\"\n", Pointer: "/a~1b"}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
	want := `{"v":1,"reason":"schema_violation","dataset":"d","partition":2,"offset":9,"detail":"want \"x\"\n","pointer":"/a~1b","at":"2026-01-02T03:04:05Z"}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
