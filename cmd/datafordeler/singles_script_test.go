package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
)

// scriptSingles writes single decisions into the log in a data directory, beside what
// the stream decided there: of a permit a backfill and a lookup, with two more lookups
// of the same request that found nothing or were refused; and a denial twice at the
// door. The answers are the stream's own, so that a replay comes to the same.
func scriptSingles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: singles DATA")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := kafka.Defaults()
	cfg.Data = ts.MkAbs(args[0])
	engine, err := kafka.Open(ctx, cfg, slog.New(slog.DiscardHandler), kafka.Own)
	ts.Check(err)
	defer engine.Close()
	var head deliver.BatchHeader
	var yes, no *broker.Decision
	enough := errors.New("enough")
	err = flow.Decisions(ctx, engine, cfg.Topics(), func(h *deliver.BatchHeader, d *broker.Decision) error {
		if h == nil || h.Dataset != "inntekt" {
			return nil
		}
		if head.Time.IsZero() || h.Partition != head.Partition || h.First != head.First {
			if yes != nil && no != nil {
				return enough
			}
			yes, no, head = nil, nil, *h
		}
		switch c := *d; {
		case d.Outcome.Permit && d.Subscription == "oslo-sosialhjelp":
			yes = &c
		case !d.Outcome.Permit && d.Outcome.Reasons[0] != "ceiling_reached":
			no = &c
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		ts.Check(err)
	}
	if yes == nil || no == nil {
		ts.Fatalf("no batch of inntekt both permits and denies")
	}
	client, err := engine.NewClient()
	ts.Check(err)
	defer client.Close()
	said := func(d *broker.Decision) []deliver.Decision {
		t := &broker.Terms{}
		t.Subscription.ID, t.Agreement.ID, t.Agreement.Package = d.Subscription, d.Agreement, d.Package
		return []deliver.Decision{{Terms: t, Outcome: &d.Outcome, Shielded: d.Shielded, Fields: d.Fields}}
	}
	row := func(d *broker.Decision, request broker.Digest) deliver.Single {
		return deliver.Single{Position: d.Position, Event: d.Event, Subject: d.Subject, Kind: d.RecordKind, Request: request}
	}
	request := broker.Digest{0xfe, 15: 1}
	nothing := deliver.Single{Position: broker.Position{Dataset: "inntekt", Offset: broker.Nowhere}, Subject: yes.Subject, Request: request}
	found := *yes
	found.Fields = nil
	var s deliver.Singles
	write := func(kind broker.DecisionKind, rows []deliver.Single, answers [][]deliver.Decision) {
		s.Reset(deliver.SinglesHeader{Kind: kind, TopicID: head.TopicID, Partition: head.Partition, Time: head.Time, Revision: head.Revision, Policy: head.Policy, Period: head.Period, Limits: head.Limits})
		for i := range rows {
			s.Add(rows[i], answers[i])
		}
		for _, value := range s.Finish() {
			ts.Check(client.ProduceSync(ctx, &kgo.Record{Topic: cfg.Topics().Decisions(), Value: value}).FirstErr())
		}
	}
	write(broker.BackfillDecision, []deliver.Single{row(yes, broker.Digest{})}, [][]deliver.Decision{said(yes)})
	write(broker.LookupDecision, []deliver.Single{row(yes, request), nothing, nothing}, [][]deliver.Decision{said(yes), said(&found), said(no)})
	for range 2 {
		write(broker.DoorDecision, []deliver.Single{row(no, broker.Digest{})}, [][]deliver.Decision{said(no)})
	}
}
