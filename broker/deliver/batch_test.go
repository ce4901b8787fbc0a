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

// The bytes of a format that must be readable for ever.
func TestGoldenBatch(t *testing.T) {
	permit := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}
	deny := &broker.Outcome{Reasons: []broker.Reason{"no_open_case", "ceiling_reached"}}
	a, b := terms("a", 5), terms("b", 0)
	var batch Batch
	h := header(100)
	h.Usage = map[broker.AgreementID]int64{"agreement-a": 2}
	batch.Reset(h)
	batch.Add(Row{Offset: 100, Event: digest(2), Subject: digest(3)}, []Decision{
		{Terms: a, Outcome: permit, Fields: []broker.Pointer{"/x", "/y/z"}}, {Terms: b, Outcome: deny}})
	batch.Add(Row{Offset: 101}, nil)
	batch.Reject(103)
	batch.Reject(104)
	batch.Repeat(105)
	batch.Add(Row{Offset: 110, Event: digest(4), Subject: digest(5), Kind: broker.Correction}, []Decision{
		{Terms: b, Outcome: permit, Shielded: true, Fields: []broker.Pointer{"/x"}}})
	out := batch.Finish(111)
	if len(out) != 1 {
		t.Fatalf("%d records, want 1", len(out))
	}
	golden := filepath.Join("testdata", "batch-1.golden")
	if *update {
		if err := os.WriteFile(golden, out[0], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out[0], want) {
		t.Fatal("the bytes of version 1 changed: decisions written before could be misread. A new layout needs a new version")
	}
	var got []string
	head, err := Decode(want, func(d *broker.Decision) error {
		got = append(got, fmt.Sprintf("%d %s %v %v %v %v %s %v", d.Position.Offset, d.Subscription, d.Outcome.Permit, d.Outcome.Reasons,
			d.Fields, d.Shielded, d.RecordKind, d.Delivery.IsZero()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantRows := []string{
		"100 a true [] [/x /y/z] false original false",
		"100 b false [no_open_case ceiling_reached] [] false original true",
		"110 b true [] [/x] true correction false",
	}
	if !reflect.DeepEqual(got, wantRows) {
		t.Errorf("decoded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wantRows, "\n"))
	}
	if head.First != 100 || head.Last != 111 || head.Records != 6 || head.OutOfScope != 1 || head.Rejected != 2 || head.Repeated != 1 {
		t.Errorf("header %+v", head)
	}
	if !reflect.DeepEqual(head.RejectedAt, []int64{3, 4}) {
		t.Errorf("rejected at %v, want 3 and 4 from the first", head.RejectedAt)
	}
	usage, err := UsageAfter(want)
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
			n = 30_000 // several records of decisions
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

func FuzzDecode(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "batch-1.golden"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{1, 2, '{', '}'})
	f.Add([]byte{2})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Neither may panic, nor give a decision outside the range.
		h, err := Decode(b, func(d *broker.Decision) error {
			if d.Outcome.Permit == d.Delivery.IsZero() {
				t.Fatal("a permit without a delivery, or the other way")
			}
			return nil
		})
		if err == nil && h.Last < h.First-1 {
			t.Fatalf("range %d–%d", h.First, h.Last)
		}
		_, _ = UsageAfter(b)
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

func BenchmarkBatch(b *testing.B) {
	permit := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}
	ds := []Decision{{Terms: terms("a", 0), Outcome: permit, Fields: []broker.Pointer{"/x", "/y"}}}
	var batch Batch
	batch.Reset(header(0))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%20_000 == 0 {
			batch.Finish(int64(i))
			batch.Reset(header(int64(i)))
		}
		batch.Add(Row{Offset: int64(i), Event: digest(1), Subject: digest(2)}, ds)
	}
}
