package deliver

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// singlesModel is what Singles must come to, as a plain list.
type singlesModel struct {
	head SinglesHeader
	rows []Single
	said [][]Decision
}

func drawSingles(t *rapid.T) singlesModel {
	m := drawModel(t)
	h := SinglesHeader{
		Kind:    rapid.SampledFrom([]broker.DecisionKind{broker.BackfillDecision, broker.LookupDecision, broker.DoorDecision}).Draw(t, "kind of decision"),
		TopicID: m.head.TopicID, Partition: m.head.Partition, Time: m.head.Time, Revision: m.head.Revision, Policy: m.head.Policy, Period: m.head.Period,
		Limits: m.head.Limits, Usage: m.head.Usage,
	}
	s := singlesModel{head: h}
	places := rapid.IntRange(1, 5).Draw(t, "places")
	for i, r := range m.rows {
		if r.what != "decided" {
			continue
		}
		p := broker.Position{Dataset: broker.DatasetID(fmt.Sprint("d", i%places)), TopicID: digest(byte(i % places)), Partition: int32(i % places), Offset: r.Offset}
		// Out of order, as people are looked up.
		if i%7 == 0 {
			p.Offset /= 2
		}
		x := Single{Position: p, Event: digest(byte(1 + i%250)), Subject: r.Subject, Kind: r.Kind}
		ds := make([]Decision, len(r.decisions))
		copy(ds, r.decisions)
		switch h.Kind {
		case broker.LookupDecision:
			x.Request = digest(byte(1 + i%200))
			if i%5 == 0 {
				x.Position = broker.Position{Dataset: p.Dataset, Offset: broker.Nowhere}
				if i%10 == 0 {
					x.Event, x.Kind = broker.EventHash{}, broker.Original
				}
			}
		case broker.DoorDecision:
			for j := range ds {
				o := *ds[j].Outcome
				o.Permit = false
				ds[j].Outcome = &o
			}
		}
		s.rows, s.said = append(s.rows, x), append(s.said, ds)
	}
	return s
}

func (m *singlesModel) write(s *Singles) [][]byte {
	s.Reset(m.head)
	for i := range m.rows {
		s.Add(m.rows[i], m.said[i])
	}
	return s.Finish()
}

// want are the decisions as a reader must find them.
func (m *singlesModel) want() (out []broker.Decision) {
	for i, r := range m.rows {
		for _, x := range m.said[i] {
			d := broker.Decision{Kind: m.head.Kind, Position: r.Position, Event: r.Event, Subject: r.Subject, RecordKind: r.Kind, Request: r.Request,
				Subscription: x.Terms.Subscription.ID, Agreement: x.Terms.Agreement.ID, Package: x.Terms.Agreement.Package, Shielded: x.Shielded,
				PolicyDigest: m.head.Policy, Revision: m.head.Revision, Time: m.head.Time, Period: m.head.Period,
				Outcome: broker.Outcome{Permit: x.Outcome.Permit}}
			d.Outcome.Reasons, d.Outcome.Bases = append(d.Outcome.Reasons, x.Outcome.Reasons...), append(d.Outcome.Bases, x.Outcome.Bases...)
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, d.Position.Partition, d.Position.Offset, d.Subscription)
			if d.Kind == broker.LookupDecision {
				d.ID = broker.NewLookupID(d.Request, d.Event, &d.Position, d.Subscription)
			}
			if x.Outcome.Permit {
				d.Fields = append(d.Fields, x.Fields...)
				if !d.Event.IsZero() {
					d.Delivery = broker.NewDeliveryID(d.Event, d.Subscription)
				}
			}
			out = append(out, d)
		}
	}
	return out
}

func TestSinglesComeBack(t *testing.T) {
	var writer Singles
	rapid.Check(t, func(t *rapid.T) {
		m := drawSingles(t)
		records := m.write(&writer)
		again := m.write(&Singles{})
		if !reflect.DeepEqual(records, again) {
			t.Fatal("the same decisions gave other bytes")
		}
		usage := maps.Clone(m.head.Usage)
		if usage == nil {
			usage = map[broker.AgreementID]int64{}
		}
		var got []broker.Decision
		var decisions, permits int64
		for _, value := range records {
			if !IsSingles(value) {
				t.Fatal("not known as single decisions")
			}
			if _, err := Decode(value, nil); !errors.Is(err, ErrSingles) {
				t.Fatalf("a reader of batches says %v", err)
			}
			h, err := DecodeSingles(value, func(d *broker.Decision) error { got = append(got, *d); return nil })
			if err != nil {
				t.Fatal(err)
			}
			peeked, err := PeekSingles(value)
			if err != nil || !reflect.DeepEqual(h, peeked) {
				t.Fatalf("%v: %+v, then %+v", err, peeked, h)
			}
			before := h.Usage
			if before == nil {
				before = map[broker.AgreementID]int64{}
			}
			if !maps.Equal(before, usage) {
				t.Fatalf("begins with usage %v, want %v", before, usage)
			}
			if _, usage, err = SinglesUsageAfter(value); err != nil {
				t.Fatal(err)
			}
			decisions, permits = decisions+h.Decisions, permits+h.Permits
			h.Usage, h.Decisions, h.Permits = m.head.Usage, 0, 0
			if want := m.head; !reflect.DeepEqual(h, want) {
				t.Fatalf("header %+v, want %+v", h, want)
			}
		}
		want := m.want()
		if len(got) != len(want) || decisions != int64(len(want)) {
			t.Fatalf("%d decisions, %d by the headers, want %d", len(got), decisions, len(want))
		}
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("decision %d:\n%+v, want\n%+v", i, got[i], want[i])
			}
			if want[i].Outcome.Permit {
				permits--
			}
		}
		if permits != 0 {
			t.Fatal("the headers count other permits")
		}
		if writer.n > 0 && !maps.Equal(usage, writer.Usage()) {
			t.Fatalf("usage %v, the writer says %v", usage, writer.Usage())
		}
	})
}

// many are n lookups with distinct denials and subscriptions, so that dictionaries grow.
func many(n int) [][]byte {
	var s Singles
	s.Reset(SinglesHeader{Kind: broker.LookupDecision, Policy: "p", Period: "2026", Time: time.Unix(1, 0).UTC(), Usage: map[broker.AgreementID]int64{"a": 3}})
	for i := range n {
		x := terms(fmt.Sprintf("kommune-%d-barnehage-med-et-langt-navn", i), 0)
		if i%2 == 1 {
			x.Agreement.ID, x.Agreement.Cost.Ceiling = broker.AgreementID(fmt.Sprint("agreement-", i%50)), 1
		}
		s.Add(Single{Position: broker.Position{Dataset: "inntekt", TopicID: digest(1), Partition: int32(i % 9), Offset: int64(i)}, Event: digest(2), Subject: digest(3), Request: digest(4)},
			[]Decision{{Terms: x, Outcome: &broker.Outcome{Permit: i%3 > 0, Bases: []broker.LegalBasisID{broker.LegalBasisID(fmt.Sprint("basis-", i%100))}}}})
	}
	return s.Finish()
}

func TestSinglesSplit(t *testing.T) {
	records := many(40_000)
	if len(records) < 3 {
		t.Fatalf("%d records", len(records))
	}
	n, used := 0, int64(0)
	for _, value := range records {
		if len(value) > MaxBatch {
			t.Errorf("a record of %d bytes", len(value))
		}
		h, err := DecodeSingles(value, func(*broker.Decision) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		var before int64
		for _, u := range h.Usage {
			before += u
		}
		if before < used || used > 0 && before == 3 {
			t.Errorf("a record begins with usage %d, and the one before with %d", before, used)
		}
		used = before
	}
	if n != 40_000 {
		t.Errorf("%d decisions", n)
	}
	if got := (&Singles{}).Finish(); got != nil {
		t.Error("nothing makes a record")
	}
}

func TestSinglesRefuse(t *testing.T) {
	here := broker.Position{Dataset: "d", TopicID: digest(1), Offset: 4}
	nowhere := broker.Position{Dataset: "d", Offset: broker.Nowhere}
	permit := []Decision{{Terms: terms("s", 0), Outcome: &broker.Outcome{Permit: true}}}
	for name, x := range map[string]struct {
		kind broker.DecisionKind
		row  Single
		ds   []Decision
	}{
		"a stream's":                   {broker.StreamDecision, Single{Position: here, Event: digest(1)}, permit},
		"a lookup without request":     {broker.LookupDecision, Single{Position: here, Event: digest(1)}, permit},
		"a backfill with request":      {broker.BackfillDecision, Single{Position: here, Event: digest(1), Request: digest(1)}, permit},
		"a backfill of nothing":        {broker.BackfillDecision, Single{Position: nowhere, Event: digest(1)}, permit},
		"a lookup's found nothing":     {broker.LookupDecision, Single{Position: here, Request: digest(1)}, permit},
		"a correction that is nowhere": {broker.LookupDecision, Single{Position: nowhere, Request: digest(1), Kind: broker.Correction}, permit},
		"nowhere in a topic":           {broker.LookupDecision, Single{Position: broker.Position{Dataset: "d", TopicID: digest(1), Offset: broker.Nowhere}, Request: digest(1)}, permit},
		"a permit at the door":         {broker.DoorDecision, Single{Position: here, Event: digest(1)}, permit},
		"no decision":                  {broker.BackfillDecision, Single{Position: here, Event: digest(1)}, nil},
		"no dataset":                   {broker.BackfillDecision, Single{Event: digest(1)}, permit},
		"an unknown kind of record":    {broker.BackfillDecision, Single{Position: here, Event: digest(1), Kind: 3}, permit},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("was written")
				}
			}()
			var s Singles
			s.Reset(SinglesHeader{Kind: x.kind})
			s.Add(x.row, x.ds)
		})
	}
}

// TestSinglesGolden holds the bytes of format 3: readers read all versions for ever.
func TestSinglesGolden(t *testing.T) {
	got := many(5)[0]
	path := filepath.Join("testdata", "singles-3.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("format 3 is written in other bytes: what is kept could not be read\n% x\n% x", got, want)
	}
}

func hostileSingles(t *testing.T, b []byte) {
	n := 0
	h, err := DecodeSingles(b, func(d *broker.Decision) error {
		n++
		if d.Kind == broker.StreamDecision || d.ID.IsZero() || d.Kind == broker.DoorDecision && d.Outcome.Permit {
			t.Fatalf("%+v", d)
		}
		return nil
	})
	if err == nil && int64(n) != h.Decisions {
		t.Fatalf("%d decisions, the header says %d", n, h.Decisions)
	}
	if _, peek := PeekSingles(b); peek != nil && err == nil {
		t.Fatal(peek)
	}
	if _, _, after := SinglesUsageAfter(b); (after == nil) != (err == nil) {
		t.Fatalf("%v, and %v", err, after)
	}
}

func TestSinglesDamaged(t *testing.T) {
	good := many(3)[0]
	for i := range good {
		for _, x := range []byte{1, 0x80, 0xff} {
			b := bytes.Clone(good)
			b[i] ^= x
			hostileSingles(t, b)
		}
		if _, err := DecodeSingles(good[:i], nil); err == nil {
			t.Errorf("the first %d bytes of %d were read", i, len(good))
		}
	}
	if _, err := DecodeSingles(append(bytes.Clone(good), 0), nil); err == nil {
		t.Error("read with a byte after its end")
	}
}

func FuzzDecodeSingles(f *testing.F) {
	f.Add(many(3)[0])
	f.Add([]byte{3})
	f.Fuzz(hostileSingles)
}
