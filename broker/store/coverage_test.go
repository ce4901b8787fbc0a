package store

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"datafordeler/broker"
)

// TestCoverage: what the batches say is added up, and what is missing, there
// twice or does not add up is named.
func TestCoverage(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		s := open1(t, dsn())
		g := newGen(17)
		log := g.batches(200)
		apply1(t, s, log...)
		type sum struct{ records, out, repeated, rejected, decisions, permits, first, last int64 }
		want := map[broker.Position]sum{}
		for _, b := range log {
			h := b.Head
			if h.Kind != broker.StreamDecision {
				continue
			}
			k := broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition}
			v, ok := want[k]
			if !ok {
				v.first = h.First
			}
			v.records, v.out, v.repeated, v.rejected, v.last = v.records+h.Records, v.out+h.OutOfScope, v.repeated+h.Repeated, v.rejected+h.Rejected, h.Last
			v.decisions += int64(len(b.Decisions))
			for _, d := range b.Decisions {
				v.permits += bit(d.Outcome.Permit)
			}
			want[k] = v
		}
		got := map[broker.Position]sum{}
		all, err := s.Coverage(t.Context(), "", time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if !c.Balanced() || len(c.Ranges) != 1 || c.Decisions != c.Permits+c.Denials || c.Rows != c.Records-c.OutOfScope-c.Repeated-c.Rejected {
				t.Errorf("it does not balance: %+v", c)
			}
			got[broker.Position{Dataset: c.Dataset, TopicID: c.TopicID, Partition: c.Partition}] = sum{c.Records, c.OutOfScope, c.Repeated, c.Rejected, c.Decisions, c.Permits, c.Ranges[0].First, c.Ranges[0].Last}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("have %v\nwant %v", got, want)
		}

		// A hole, an overlap, and a head that lies.
		bad := open1(t, dsn())
		stream := slices.DeleteFunc(slices.Clone(log), func(b Batch) bool {
			return b.Head.Kind != broker.StreamDecision || b.Head.Partition != 0 || b.Head.Dataset != "inntekt" || b.Head.Last < b.Head.First
		})
		hole, twice := stream[3].Head, stream[6]
		stream = slices.Delete(stream, 3, 4)
		stream[7].Head.Rejected++ // was 8
		lies := stream[7]
		twice.LogOffset = stream[len(stream)-1].LogOffset + 3
		stream = append(stream, twice)
		for i := range stream { // what was taken out was read, and held nothing
			stream[i].LogFrom = 0
		}
		apply1(t, bad, stream...)
		all, err = bad.Coverage(t.Context(), "inntekt", time.Time{}, time.Time{})
		if err != nil || len(all) != 1 {
			t.Fatalf("%d partitions, %v", len(all), err)
		}
		c := all[0]
		if c.Balanced() || !reflect.DeepEqual(c.Gaps, []Range{{hole.First, hole.Last}}) || !reflect.DeepEqual(c.Overlaps, []Range{{twice.Head.First, twice.Head.Last}}) {
			t.Errorf("gaps %v, want %d to %d; overlaps %v, want %d to %d", c.Gaps, hole.First, hole.Last, c.Overlaps, twice.Head.First, twice.Head.Last)
		}
		if len(c.Unbalanced) != 1 || c.Unbalanced[0].Place.Offset != lies.LogOffset || c.Unbalanced[0].Want != c.Unbalanced[0].Have-1 {
			t.Errorf("unbalanced: %+v, want the one at offset %d", c.Unbalanced, lies.LogOffset)
		}

		// A span of time, and a dataset that is not there.
		from := log[50].Head.Time
		part, err := s.Coverage(t.Context(), "eiendom", from, from.Add(100*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		records := int64(0)
		for _, c := range part {
			records += c.Records
		}
		for _, b := range log {
			if h := b.Head; h.Kind == broker.StreamDecision && h.Dataset == "eiendom" && !h.Time.Before(from) && h.Time.Before(from.Add(100*time.Hour)) {
				records -= h.Records
			}
		}
		if records != 0 {
			t.Errorf("the span of time is off by %d records", records)
		}
		if none, err := s.Coverage(t.Context(), "none", time.Time{}, time.Time{}); err != nil || len(none) > 0 {
			t.Errorf("a dataset that is not there: %v, %v", none, err)
		}
	})
}
