package deliver

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// model is a batch as a plain list: what Batch must come to.
type model struct {
	head BatchHeader
	rows []modelRow
}

type modelRow struct {
	Row
	what      string // decided, out, rejected, repeated
	decisions []Decision
}

var words = []string{"", "a", "b", "ab", "abab", "aba", "kommune-0301-barnehage", "kommune-0301-sfo", "kommune-0302-barnehage", "kommune-0302-sfo",
	"kommune-0302-barnehage-2026", "avtale-0301-barnehage", "blåbær", strings.Repeat("x", 200), strings.Repeat("x", 100) + "y" + strings.Repeat("x", 99)}

func drawWords[S ~string](t *rapid.T, label string) []S {
	return rapid.SliceOfN(rapid.Map(rapid.SampledFrom(words), func(s string) S { return S(s) }), 0, 4).Draw(t, label)
}

func drawModel(t *rapid.T) model {
	text := rapid.OneOf(rapid.SampledFrom(words), rapid.StringN(0, 12, 40))
	h := BatchHeader{
		Kind: text.Draw(t, "kind"), Dataset: broker.DatasetID(text.Draw(t, "dataset")), TopicID: digest(rapid.Byte().Draw(t, "topic")),
		Partition: rapid.Int32Min(0).Draw(t, "partition"), First: rapid.Int64Range(0, 1<<60).Draw(t, "first"),
		Time:     time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
		Revision: broker.Revision(rapid.Uint64().Draw(t, "revision")), Policy: text.Draw(t, "policy"), Period: text.Draw(t, "period"),
		Limits: Limits{rapid.Int().Draw(t, "l1"), rapid.Int().Draw(t, "l2"), rapid.Int().Draw(t, "l3"), rapid.Int64().Draw(t, "l4"), rapid.Int().Draw(t, "l5")},
	}
	for _, a := range drawWords[broker.AgreementID](t, "used") {
		if h.Usage == nil {
			h.Usage = map[broker.AgreementID]int64{}
		}
		h.Usage[a] = rapid.Int64Min(0).Draw(t, "n") / 2
	}
	var all []*broker.Terms
	for range rapid.IntRange(1, 200).Draw(t, "subscriptions") {
		x := terms(rapid.SampledFrom(words).Draw(t, "sub")+rapid.SampledFrom(words[:6]).Draw(t, "sub2"), rapid.Int64Range(0, 1).Draw(t, "ceiling"))
		x.Agreement.ID = broker.AgreementID(rapid.SampledFrom([]string{string(x.Subscription.ID), string(x.Subscription.ID) + "-2026", "x", "avtale-" + string(x.Subscription.ID), ""}).Draw(t, "agreement"))
		x.Agreement.Package = broker.PackageRef{ID: rapid.SampledFrom(words[:4]).Draw(t, "package"), Version: rapid.IntRange(0, 300).Draw(t, "version")}
		all = append(all, x)
	}
	var outcomes []*broker.Outcome
	for range rapid.IntRange(1, 20).Draw(t, "outcomes") {
		outcomes = append(outcomes, &broker.Outcome{Permit: rapid.Bool().Draw(t, "permit"), Reasons: drawWords[broker.Reason](t, "reasons"), Bases: drawWords[broker.LegalBasisID](t, "bases")})
	}
	fields := [][]broker.Pointer{nil, drawWords[broker.Pointer](t, "fields"), drawWords[broker.Pointer](t, "fields")}
	m := model{head: h}
	at := h.First
	seed := rapid.Uint64().Draw(t, "seed")
	next := func(n int) int { // cheap, so that a case can be large
		seed = seed*6364136223846793005 + 1442695040888963407
		return int((seed >> 33) % uint64(n))
	}
	sameFor := rapid.IntRange(1, 40).Draw(t, "runs")
	most := rapid.SampledFrom([]int{1, 1, 3, 70}).Draw(t, "fanout")
	gaps := rapid.SampledFrom([]int{1, 3, 1000}).Draw(t, "gaps")
	people := rapid.Bool().Draw(t, "people")
	var ds []Decision
	for range rapid.IntRange(0, 1200).Draw(t, "records") {
		at += int64(next(gaps))
		r := modelRow{Row: Row{Offset: at}}
		switch next(8) {
		case 0:
			r.what = "rejected"
		case 1:
			r.what = "repeated"
		case 2:
			r.what = "out"
		default:
			r.what = "decided"
			r.Event, r.Kind = digest(byte(next(256))), broker.RecordKind(max(0, next(40)-37))
			if people {
				r.Subject = digest(byte(next(256)))
			}
			if ds == nil || next(sameFor) == 0 {
				ds = nil
				for range 1 + next(most) {
					ds = append(ds, Decision{Terms: all[next(len(all))], Outcome: outcomes[next(len(outcomes))], Shielded: next(4) == 0, Fields: fields[next(3)]})
				}
			}
			r.decisions = ds
		}
		m.rows = append(m.rows, r)
		at++
	}
	m.head.Last = at + int64(next(3)) - 1
	return m
}

// write gives the model to a writer. With copies, everything that is pointed to
// is another copy each time.
func (m *model) write(b *Batch, copies bool) [][]byte {
	b.Reset(m.head)
	for _, r := range m.rows {
		switch r.what {
		case "rejected":
			b.Reject(r.Offset)
		case "repeated":
			b.Repeat(r.Offset)
		case "out":
			b.Add(Row{Offset: r.Offset}, nil)
		case "decided":
			ds := r.decisions
			if copies {
				ds = slices.Clone(ds)
				for i := range ds {
					terms, out := *ds[i].Terms, *ds[i].Outcome
					out.Reasons, out.Bases = slices.Clone(out.Reasons), slices.Clone(out.Bases)
					ds[i].Terms, ds[i].Outcome, ds[i].Fields = &terms, &out, slices.Clone(ds[i].Fields)
				}
			}
			b.Add(r.Row, ds)
		}
	}
	return b.Finish(m.head.Last)
}

// line is what a decision says, for comparing.
func line(o int64, d *broker.Decision) string {
	return fmt.Sprintf("%d %s %s %v %q %q %q %v %v %s %s %s", o, d.Subscription, d.Agreement, d.Outcome.Permit, d.Outcome.Reasons, d.Outcome.Bases, d.Fields, d.Shielded, d.Package, d.RecordKind, d.Event, d.Subject)
}

// differ says where two lists part.
func differ(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("number %d is\n%s, want\n%s", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d, want %d", len(got), len(want))
}

func (m *model) decisions(from, to int64) []string {
	var all []string
	for _, r := range m.rows {
		for _, d := range r.decisions {
			if r.Offset >= from && r.Offset <= to {
				x := broker.Decision{Subscription: d.Terms.Subscription.ID, Agreement: d.Terms.Agreement.ID, Outcome: *d.Outcome, Package: d.Terms.Agreement.Package,
					Shielded: d.Shielded, RecordKind: r.Kind, Event: r.Event, Subject: r.Subject}
				if d.Outcome.Permit {
					x.Fields = d.Fields
				}
				all = append(all, line(r.Offset, &x))
			}
		}
	}
	return all
}

// check holds one record of decisions to the model, and returns the usage after.
func (m *model) check(t *rapid.T, value []byte, first int64, usage map[broker.AgreementID]int64) (BatchHeader, map[broker.AgreementID]int64) {
	var got []string
	h, err := Decode(value, func(d *broker.Decision) error {
		got = append(got, line(d.Position.Offset, d))
		if d.Outcome.Permit == d.Delivery.IsZero() || d.ID != broker.NewDecisionID(broker.StreamDecision, m.head.TopicID, m.head.Partition, d.Position.Offset, d.Subscription) {
			t.Fatalf("ids of %+v", d)
		}
		if d.PolicyDigest != m.head.Policy || d.Revision != m.head.Revision || !d.Time.Equal(m.head.Time) || d.Period != m.head.Period || d.Position.Dataset != m.head.Dataset {
			t.Fatalf("the header's part of %+v", d)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := m.decisions(h.First, h.Last); !slices.Equal(got, want) {
		t.Fatalf("decoded %s", differ(got, want))
	}
	want := m.head
	want.First, want.Last, want.Usage = first, h.Last, usage
	for _, r := range m.rows {
		if r.Offset < first || r.Offset > h.Last {
			continue
		}
		want.Records++
		switch r.what {
		case "out":
			want.OutOfScope++
		case "repeated":
			want.Repeated++
		case "rejected":
			want.Rejected++
			want.RejectedAt = append(want.RejectedAt, r.Offset-first)
		}
	}
	want.Subscriptions, want.Outcomes = h.Subscriptions, h.Outcomes
	if len(usage) == 0 {
		want.Usage = nil
	}
	if !reflect.DeepEqual(h, want) {
		t.Fatalf("header\n%+v\nwant\n%+v", h, want)
	}
	if alone, _, err := DecodeHeader(value); err != nil || !reflect.DeepEqual(alone, h) {
		t.Fatalf("header alone\n%+v, %v\nwant\n%+v", alone, err, h)
	}
	peek := h
	peek.Usage, peek.RejectedAt, peek.Subscriptions, peek.Outcomes = nil, nil, nil, nil
	if got, err := Peek(value); err != nil || !reflect.DeepEqual(got, peek) {
		t.Fatalf("peek\n%+v, %v\nwant\n%+v", got, err, peek)
	}
	after := maps.Clone(usage)
	if after == nil {
		after = map[broker.AgreementID]int64{}
	}
	for _, r := range m.rows {
		for _, d := range r.decisions {
			if r.Offset >= first && r.Offset <= h.Last && d.Outcome.Permit && d.Terms.Agreement.Cost.Ceiling > 0 {
				after[d.Terms.Agreement.ID]++
			}
		}
	}
	if got, err := UsageAfter(value); err != nil || !maps.Equal(got, after) {
		t.Fatalf("usage after: %v, %v; want %v", got, err, after)
	}
	for i, r := range m.rows {
		if i%(1+len(m.rows)/30) != 0 || r.Offset < first || r.Offset > h.Last {
			continue
		}
		got = nil
		if _, err := Lookup(value, r.Offset, func(d *broker.Decision) error { got = append(got, line(r.Offset, d)); return nil }); err != nil {
			t.Fatal(err)
		}
		if want := m.decisions(r.Offset, r.Offset); !slices.Equal(got, want) {
			t.Fatalf("lookup of %d: %s", r.Offset, differ(got, want))
		}
	}
	return h, after
}

// What goes in comes out, of every kind of batch, and single records are found;
// the same decisions give the same bytes, wherever they lie in memory and
// whatever the writer wrote before.
func TestColumns(t *testing.T) {
	var used Batch
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		out := m.write(&used, false)
		if len(out) != 1 {
			t.Fatalf("%d records of decisions", len(out))
		}
		if h, _ := m.check(t, out[0], m.head.First, m.head.Usage); h.Last != m.head.Last {
			t.Fatalf("it ends at %d, want %d", h.Last, m.head.Last)
		}
		var fresh Batch
		if again := m.write(&fresh, true); !bytes.Equal(again[0], out[0]) {
			t.Fatal("equal decisions in other places gave other bytes")
		}
	})
}

// However large rows and dictionaries are, what is written is no larger than
// was reckoned, and in ranges that follow each other.
func TestColumnsSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{head: header(rapid.Int64Range(0, 1000).Draw(t, "first"))}
		var all []*broker.Terms
		long := rapid.SampledFrom([]int{1, 900, 9000}).Draw(t, "long")
		for i := range rapid.IntRange(1, 200).Draw(t, "subscriptions") {
			x := terms(fmt.Sprintf("%d-%s-%d", i*7919%1009, strings.Repeat("n", long/3), i), int64(i%2))
			all = append(all, x)
		}
		rejects := rapid.Bool().Draw(t, "rejects")
		at, fan := m.head.First, rapid.IntRange(1, 5).Draw(t, "fanout")
		for i := range rapid.SampledFrom([]int{1, 20, 250}).Draw(t, "records") {
			r := modelRow{Row: Row{Offset: at, Event: digest(byte(i))}, what: "decided"}
			for j := range fan {
				// Each outcome comes by once: every row adds to all dictionaries.
				o := &broker.Outcome{Permit: j%2 == 0, Bases: []broker.LegalBasisID{broker.LegalBasisID(fmt.Sprint(i, strings.Repeat("b", long)))}}
				r.decisions = append(r.decisions, Decision{Terms: all[(i*3+j)%len(all)], Outcome: o, Fields: []broker.Pointer{broker.Pointer(fmt.Sprint("/", i*j))}})
			}
			if rejects && i%9 == 8 {
				r = modelRow{Row: Row{Offset: at}, what: "rejected"}
			}
			m.rows = append(m.rows, r)
			at += 1 + int64(i%2)
		}
		m.head.Last = at
		var b Batch
		first, usage := m.head.First, map[broker.AgreementID]int64(nil)
		for i, value := range m.write(&b, false) {
			if len(value) > MaxBatch {
				t.Fatalf("record %d has %d bytes", i, len(value))
			}
			var h BatchHeader
			h, usage = m.check(t, value, first, usage)
			first = h.Last + 1
		}
		if first != m.head.Last+1 || !maps.Equal(usage, b.Usage()) {
			t.Fatalf("the ranges end before %d, want %d; usage %v, want %v", first, m.head.Last+1, usage, b.Usage())
		}
	})
}

// size bounds what flush writes, closely enough not to waste records.
func TestSizeBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		var b Batch
		m.write(&b, false) // the dictionaries stand until Reset
		if have, most := len(b.out[0]), b.size(); have > most {
			t.Fatalf("%d bytes, reckoned with at most %d", have, most)
		}
	})
}

// A row more than Kafka takes goes in a record of its own, and one decision too
// many in the next.
func TestBounds(t *testing.T) {
	var b Batch
	b.Reset(header(0))
	x := terms("a", 0)
	ds := slices.Repeat([]Decision{{Terms: x, Outcome: &broker.Outcome{Permit: true}}}, maxDecisions/64)
	for i := range 65 {
		b.Add(Row{Offset: int64(i)}, ds)
	}
	out := b.Finish(64)
	if len(out) != 2 {
		t.Fatalf("%d records of decisions, want 2", len(out))
	}
	n := 0
	for _, value := range out {
		if _, err := Decode(value, nil); err != nil {
			t.Fatal(err)
		}
		n++
	}
	b.Reset(header(0))
	for i := range int64(maxRejected + 1) {
		b.Reject(i)
	}
	if out = b.Finish(maxRejected); len(out) != 2 {
		t.Fatalf("%d records of decisions, want 2", len(out))
	}
	h, _, err := DecodeHeader(out[1])
	if err != nil || h.First != maxRejected || h.Rejected != 1 {
		t.Fatalf("%+v, %v", h, err)
	}
}

// Evidence in the wrong order is none.
func TestOrderIsHeld(t *testing.T) {
	for name, fn := range map[string]func(*Batch){
		"twice":    func(b *Batch) { b.Repeat(100); b.Add(Row{Offset: 100}, nil) },
		"earlier":  func(b *Batch) { b.Reject(102); b.Reject(101) },
		"too soon": func(b *Batch) { b.Repeat(99) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: nothing stopped it", name)
				}
			}()
			var b Batch
			b.Reset(header(100))
			fn(&b)
		}()
	}
}

// What is released holds nobody's data.
func TestReleaseClears(t *testing.T) {
	var b Batch
	b.Reset(header(0))
	x := terms("a", 0)
	for i := range 1000 {
		b.Add(Row{Offset: int64(i), Event: digest(0xAA), Subject: digest(0xBB)}, []Decision{{Terms: x, Outcome: &broker.Outcome{}}})
	}
	out := b.Finish(999)[0]
	person := digest(0xBB)
	b.Release()
	for name, have := range map[string][]byte{"record": out, "blocks": b.blocks, "row": b.open.subjects, "scratch": b.scratch, "group": b.group} {
		if bytes.Contains(have[:cap(have)], person[:]) {
			t.Errorf("%s: the pseudonym is still there", name)
		}
	}
	if len(b.dict.subAt) > 0 || len(b.dict.answerAt) > 0 {
		t.Error("pointers are still held")
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	c := newCountry(3, 1)
	var rows [][]Decision
	for range 2000 {
		rows = append(rows, slices.Clone(c.decisions()))
	}
	var b Batch
	once := func() {
		b.Reset(measured(0))
		for i, ds := range rows {
			b.Add(Row{Offset: 1_000_000 + int64(i), Event: digest(1), Subject: digest(2)}, ds)
		}
		b.Finish(1_000_000 + int64(len(rows)))
	}
	once()
	if n := testing.AllocsPerRun(20, once); n > 10 {
		t.Errorf("%v allocations for a batch of %d rows that it has met before", n, len(rows))
	}
}

// Every cut, and everything put at the end, is a fault; no changed byte is a
// panic.
func TestDamage(t *testing.T) {
	for _, name := range []string{"batch-1.golden", "batch-2.golden"} {
		value, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(value) {
			if _, err := Decode(value[:n], nil); err == nil && value[0] > 1 || err != nil && !errors.Is(err, errBatch) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		for _, tail := range [][]byte{{0}, {1, 2, 3}, value} {
			if _, err := Decode(append(slices.Clone(value), tail...), nil); !errors.Is(err, errBatch) {
				t.Errorf("%s with %d bytes more: %v", name, len(tail), err)
			}
		}
		for i := 1; i < len(value); i++ {
			for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, value[i] ^ 1, value[i] + 1} {
				x := slices.Clone(value)
				x[i] = b
				hostile(t, x)
			}
		}
		newer := append([]byte{singlesVersion + 1}, value[1:]...)
		if _, err := Decode(newer, nil); err == nil || errors.Is(err, errBatch) || !strings.Contains(err.Error(), "newer") {
			t.Errorf("a newer format: %v", err)
		}
	}
}

// hostile reads what anybody may have written: no panic, and what one reader
// says the others say too.
func hostile(t *testing.T, value []byte) {
	all := map[int64][]string{}
	last, n := int64(-1), 0
	h, err := Decode(value, func(d *broker.Decision) error {
		if n++; n > 5_000 {
			return errors.New("enough") // one may say much in few bytes, up to maxDecisions
		}
		if d.Outcome.Permit == d.Delivery.IsZero() {
			t.Fatal("a permit without a delivery, or the other way")
		}
		if d.Position.Offset < last {
			t.Fatal("offsets go back")
		}
		last = d.Position.Offset
		all[last] = append(all[last], line(last, d))
		return nil
	})
	usage, usageErr := UsageAfter(value)
	head, _, headErr := DecodeHeader(value)
	peek, peekErr := Peek(value)
	if err != nil {
		if at := max(last, 0); peekErr == nil {
			_, _ = Lookup(value, at, func(*broker.Decision) error { return nil })
			_, _ = Lookup(value, peek.First, func(*broker.Decision) error { return nil })
		}
		return
	}
	if usageErr != nil || headErr != nil || peekErr != nil {
		t.Fatalf("decoded, but: %v, %v, %v", usageErr, headErr, peekErr)
	}
	if h.First < 0 || h.Last < h.First-1 || last > h.Last || len(all) > 0 && len(usage) < len(h.Usage) {
		t.Fatalf("range %d–%d, last %d", h.First, h.Last, last)
	}
	if !reflect.DeepEqual(head, h) || peek.First != h.First || peek.Last != h.Last {
		t.Fatalf("headers differ: %+v, %+v", head, h)
	}
	if value[0] == 1 {
		return // its rows may repeat an offset
	}
	few := 0
	for offset, want := range all {
		if few++; few > 30 {
			break
		}
		var got []string
		if _, err := Lookup(value, offset, func(d *broker.Decision) error { got = append(got, line(offset, d)); return nil }); err != nil || !slices.Equal(got, want) {
			t.Fatalf("lookup of %d: %v, %s", offset, err, differ(got, want))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"batch-1.golden", "batch-2.golden"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{1, 2, '{', '}'})
	f.Add([]byte{2})
	f.Add([]byte{})
	f.Add(filled(&Batch{}, 3, 70))
	f.Fuzz(hostile)
}

// FuzzRefs holds the packing of references to a plain list.
func FuzzRefs(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint8(9))
	f.Add(bytes.Repeat([]byte{7}, 40), uint8(3))
	f.Add(append(bytes.Repeat([]byte{7}, 8), 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0), uint8(32))
	f.Fuzz(func(t *testing.T, b []byte, shift uint8) {
		refs := make([]uint32, min(len(b), blockRows))
		for i := range refs {
			refs[i] = uint32(b[i]) << (shift % 25)
		}
		c := cursor{what: "test", b: appendRefs(nil, refs)}
		got := make([]uint32, len(refs))
		c.refs(got, 1<<32)
		if err := c.end(); err != nil || !slices.Equal(got, refs) {
			t.Fatalf("%v: %v, want %v", err, got, refs)
		}
		// And whatever stands there: no panic.
		c = cursor{what: "test", b: b}
		c.refs(make([]uint32, 1+int(shift)), 100)
	})
}
