package flow

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
)

// Whoever reads decisions finds single ones too: on their record, wherever they
// stand; among all; and in the month under whose key they were made.
func TestSingleDecisionsAreFound(t *testing.T) {
	t.Parallel()
	s := ready(t)
	now := time.Now().UTC() // decisions are found by the time that Kafka gave them
	s.setClock(now)
	s.start()
	s.publishLine("id=e1 person=p1")
	s.drain(s.ctx)
	s.stop()
	client, err := s.engine.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var streamed broker.Position // of the record that the stream decided on
	stream := 0
	if err := Decisions(s.ctx, s.engine, s.topics, func(h *deliver.BatchHeader, d *broker.Decision) error {
		stream++
		streamed = d.Position
		return nil
	}); err != nil || stream == 0 {
		t.Fatal(stream, err)
	}
	period := now.Format("2006-01")
	terms := &broker.Terms{Subscription: broker.Subscription{ID: "s"}, Agreement: broker.Agreement{ID: "a", Package: broker.PackageRef{ID: "p", Version: 1}}}
	write := func(kind broker.DecisionKind, partition int32, period string, row deliver.Single) {
		var w deliver.Singles
		w.Reset(deliver.SinglesHeader{Kind: kind, Time: now, Revision: 1, Policy: "sha256:0", Period: period})
		w.Add(row, []deliver.Decision{{Terms: terms, Outcome: &broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}}})
		rec := &kgo.Record{Topic: s.topics.Decisions(), Partition: partition, Value: w.Finish()[0]}
		if err := client.ProduceSync(s.ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	event, request := broker.EventHash{1}, broker.Digest{2}
	other := streamed
	other.Offset += 5
	write(broker.BackfillDecision, streamed.Partition, period, deliver.Single{Position: streamed, Event: event})
	write(broker.LookupDecision, streamed.Partition+1, period, deliver.Single{Position: streamed, Event: event, Request: request})
	write(broker.LookupDecision, streamed.Partition+1, period, deliver.Single{Position: broker.Position{Dataset: streamed.Dataset, Offset: broker.Nowhere}, Request: request})
	write(broker.DoorDecision, streamed.Partition, "2000-01", deliver.Single{Position: other, Event: event})

	kinds := map[broker.DecisionKind]int{}
	if err := Decisions(s.ctx, s.engine, s.topics, func(h *deliver.BatchHeader, d *broker.Decision) error {
		if (h == nil) != (d.Kind != broker.StreamDecision) {
			t.Errorf("%s: header %v", d.Kind, h)
		}
		kinds[d.Kind]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if kinds[broker.StreamDecision] != stream || kinds[broker.BackfillDecision] != 1 || kinds[broker.LookupDecision] != 2 || kinds[broker.DoorDecision] != 1 {
		t.Errorf("of each kind %v, and %d of the stream's", kinds, stream)
	}
	clear(kinds)
	if err := Covering(s.ctx, s.engine, s.topics, streamed.Dataset, streamed.Partition, streamed.Offset, func(value []byte) error {
		kind := broker.StreamDecision
		if deliver.IsSingles(value) {
			h, err := deliver.PeekSingles(value)
			if err != nil {
				return err
			}
			kind = h.Kind
		} else if len(kinds) > 0 {
			t.Error("the stream's decision is not the first")
		}
		kinds[kind]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if kinds[broker.StreamDecision] != 1 || kinds[broker.BackfillDecision] != 1 || kinds[broker.LookupDecision] != 1 || kinds[broker.DoorDecision] != 0 {
		t.Errorf("on the record: of each kind %v", kinds)
	}
	batches, _, singles, err := InPeriod(s.ctx, s.engine, s.topics, now)
	if err != nil || batches != 1 || singles != 3 {
		t.Errorf("in %s %d batches and %d single decisions (%v), want 1 and 3", period, batches, singles, err)
	}
}
