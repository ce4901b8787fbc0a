package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/kafka"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
)

// replay computes every record of decisions again, from what stands in the log
// and the keys alone, and returns how many came out byte for byte as they were.
func (h *harness) replay() int {
	h.t.Helper()
	ctx := context.Background()
	var events []registry.Event
	if err := h.control.Log(ctx, func(_ int64, e registry.Event, accepted bool) error {
		if accepted {
			events = append(events, e)
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	type place struct {
		topic     broker.Digest
		partition int32
	}
	windows := map[place]*intake.Window{}
	n := 0
	err := each(ctx, h.engine, h.topics.Decisions(), func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			return nil
		}
		head, _, err := deliver.DecodeHeader(r.Value)
		if err != nil {
			return err
		}
		state := registry.New()
		for _, e := range events[:head.Revision] {
			if ok, err := state.Fold(e); !ok || err != nil {
				return fmt.Errorf("event %d: %v, %v", e.Seq, ok, err)
			}
		}
		b := h.newBroker(h.control, "replay")
		b.deliveryBuckets.Store(2)
		b.decisionPartitions.Store(6)
		w, err := (&builder{topics: b.topics, limits: b.limits, log: b.log}).build(state, nil)
		if err != nil {
			return err
		}
		at := place{head.TopicID, head.Partition}
		if windows[at] == nil {
			windows[at] = intake.NewWindow(b.limits)
		}
		p := &partition{topic: h.topics.Source(string(head.Dataset)), dataset: head.Dataset, topicID: head.TopicID,
			number: head.Partition, next: head.First, window: windows[at], usage: head.Usage}
		work := &work{part: p}
		if err := h.engine.Each(ctx, kafka.Span{Topic: p.topic, Partition: p.number, From: head.First, To: head.Last + 1}, func(r *kgo.Record) error {
			work.records = append(work.records, r)
			return nil
		}); err != nil {
			return err
		}
		in := &instant{world: w, state: state, revision: head.Revision, period: head.Period, now: head.Time}
		if err := work.process(ctx, b, in); err != nil {
			return err
		}
		p.window.Commit()
		if len(work.batches) != 1 || !bytes.Equal(work.batches[0], r.Value) {
			return fmt.Errorf("the record of decisions at %d of partition %d came out otherwise:\n%q\nwas\n%q", r.Offset, r.Partition, work.batches[0], r.Value)
		}
		n++
		return nil
	})
	if err != nil {
		h.t.Error(err)
	}
	return n
}

// Guarantee 6: from the log alone each decision can be computed again.
func TestReplay(t *testing.T) {
	h := newHarness(t)
	if _, err := h.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	h.activatePolicy()
	h.start()
	key := func(i int) broker.SubjectKey { return h.ring.Subject(broker.Person, h.people.Person(i).ID) }
	publish := func(ids ...int) {
		for _, i := range ids {
			h.produce(small(h, fmt.Sprint(i), i%7))
		}
		h.drain(h.ctx)
	}
	publish(0, 1, 2)
	h.change(registry.GiveConsent(broker.Consent{ID: "c1", Subject: key(1), Consumer: "310149942", Dataset: "d", Purpose: "loan", Valid: broker.Interval{From: h.clock().Add(-time.Hour)}}))
	h.change(registry.OpenCase(broker.Case{ID: "k1", Subscription: "case", Subject: key(2), Open: broker.Interval{From: h.clock().Add(-time.Hour)}}))
	publish(3, 4, 5, 8, 9, 9, 3) // repeats, and the ceiling
	h.change(registry.WithdrawConsent("c1", h.clock()))
	h.setClock(h.clock().Add(time.Hour))
	h.produce(&kgo.Record{Topic: h.topics.Source("d"), Value: []byte("{")})
	publish(15, 16, 22, 23)
	h.stop()
	if n := h.replay(); n < 4 {
		t.Errorf("%d records of decisions were replayed", n)
	} else {
		t.Logf("%d records of decisions came out byte for byte", n)
	}
}

// small is a record of the small dataset.
func small(h *harness, id string, person int) *kgo.Record {
	r := &kgo.Record{Topic: h.topics.Source("d"), Value: fmt.Appendf(nil, `{"person":%q,"amount":1}`, h.people.Person(person).ID)}
	for _, kv := range [][2]string{{"ce_specversion", "1.0"}, {"ce_id", id}, {"ce_source", "/s"}, {"ce_type", "t"}, {"content-type", "application/json"}, {"ce_municipality", "0301"}, {"ce_protected", "false"}} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: kv[0], Value: []byte(kv[1])})
	}
	return r
}

// Every route delivers values only: an object that an open schema let in at an
// agreed field is a denial, not a delivery.
func TestRoutesDeliverOnlyValues(t *testing.T) {
	s := ready(t)
	var doc jsondoc.Doc
	if err := doc.Parse([]byte(`{"person":{"new":1}}`), 64); err != nil {
		t.Fatal(err)
	}
	s.control.View(func(st *registry.State) {
		w, err := (&builder{topics: s.topics, limits: s.limits, log: s.log}).build(st, nil)
		if err != nil {
			t.Fatal(err)
		}
		for terms, r := range w.routes {
			if out, _, err := r.projection.Append(nil, &doc, []string{"0301", "false"}); !errors.Is(err, minimise.ErrObject) {
				t.Errorf("%s: %s, %v", terms.Subscription.ID, out, err)
			}
		}
		if len(w.routes) == 0 {
			t.Error("no routes")
		}
	})
}
