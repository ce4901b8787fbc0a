package readmodel

import (
	"reflect"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/store"
)

// singles writes a record of single decisions of a kind, and returns how many there
// are: on one record, two subscriptions each, or at the door one.
func (r *rig) singles(log int32, kind broker.DecisionKind, rows int) int64 {
	r.t.Helper()
	r.now = r.now.Add(time.Millisecond)
	h := deliver.SinglesHeader{Kind: kind, Time: r.now, Revision: r.rev, Policy: "sha256:0", Period: "2026-11", Limits: deliver.Limits{RecordBytes: 1, Depth: 1, Window: 1, WindowMillis: 1, DeliveryBytes: 1}}
	permit := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"h1"}}
	deny := &broker.Outcome{Reasons: []broker.Reason{"no_case"}}
	var s deliver.Singles
	s.Reset(h)
	n := int64(0)
	for i := range rows {
		x := deliver.Single{Position: broker.Position{Dataset: r.terms[i%2].Dataset.ID, TopicID: broker.Digest{7}, Partition: int32(i % 3), Offset: int64(40 - i)},
			Event: broker.EventHash{byte(i), 9}, Subject: broker.Pseudonym{byte(i), 2}}
		if kind == broker.LookupDecision {
			x.Request = broker.Digest{byte(log + 1), byte(i / 3), 1}
			if i%2 == 1 {
				x.Position = broker.Position{Dataset: x.Position.Dataset, Offset: broker.Nowhere}
				x.Event = broker.EventHash{}
			}
		}
		all := []deliver.Decision{{Terms: r.terms[1], Outcome: deny}}
		if kind != broker.DoorDecision {
			all = append([]deliver.Decision{{Terms: r.terms[0], Outcome: permit, Fields: []broker.Pointer{"/a", "/b"}}}, all...)
		}
		s.Add(x, all)
		n += int64(len(all))
	}
	for _, value := range s.Finish() {
		r.write(log, value)
	}
	r.single += n
	return n
}

// Single decisions are followed as the stream's are: every kind, wherever they lie;
// a rebuild comes to the same, and so does one that goes on where they are the
// newest.
func TestFollowsSingles(t *testing.T) {
	onBoth(t, func(t *testing.T, newRig func() *rig) {
		r := newRig()
		another := r.another()
		r.decide(0, 10)
		f, stop := r.start(r.opts)
		want := map[broker.DecisionKind]int64{}
		for kind := broker.BackfillDecision; kind <= broker.DoorDecision; kind++ {
			for p := range int32(3) {
				want[kind] += r.singles(p, kind, 8)
			}
			r.decide(1, 5)
		}
		want[broker.DoorDecision] += r.singles(2, broker.DoorDecision, 8) // again, under the same ids
		r.caughtUp(f)
		stop()
		held := r.held(r.opts)
		if got := r.rebuild(another); got != held {
			t.Fatalf("holds %+v; made anew %+v", held, got)
		}
		s, err := store.Open(t.Context(), r.opts.DSN)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got := map[broker.DecisionKind]int64{}
		kinds, err := s.Kinds(t.Context(), "", time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range kinds {
			got[c.Kind] += c.Decisions
			if !c.Balanced() {
				t.Errorf("it does not balance: %+v", c)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		page, err := s.Search(t.Context(), store.Query{Request: broker.Digest{1, 0, 1}})
		if err != nil || len(page.Hits) != 6 || page.Hits[0].Decision.Request != (broker.Digest{1, 0, 1}) || page.Hits[0].Decision.Kind != broker.LookupDecision {
			t.Errorf("by a request: %d hits, %v", len(page.Hits), err)
		}
		f, stop = r.start(r.opts)
		r.decide(0, 5)
		r.caughtUp(f)
		stop()
		if got, want := r.held(r.opts), r.rebuild(another); got != want {
			t.Fatalf("holds %+v; made anew %+v", got, want)
		}
	})
}
