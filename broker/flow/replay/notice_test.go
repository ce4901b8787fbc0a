package replay

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/flow/positions"
	"datafordeler/broker/intake"
	"datafordeler/policy"
)

func withBackfill(_ *history, o *flow.Options) { o.Config.Backfill = flow.Defaults().Backfill }

// earlier is the index of positions, of which notices ask the chain.
type earlier struct{ *positions.Follower }

func (e earlier) Current(context.Context, broker.DatasetID, broker.Digest, int32, int64, broker.SubjectKey, int) ([]int64, bool, error) {
	return nil, true, nil
}

func (e earlier) Earlier(ctx context.Context, ds broker.DatasetID, _ broker.Digest, _ int32, _ int64, subject broker.SubjectKey, of broker.EventHash) (c flow.Chain, ok bool, err error) {
	links, whole, err := e.Follower.Earlier(ctx, ds, subject, of)
	c.Whole = whole
	for _, l := range links {
		c.Links = append(c.Links, flow.Link{Position: l.Position, Event: l.Event, At: l.At})
	}
	return c, err == nil, err
}

// What consumers are told of after the end comes out as it was; a candidate that tells
// of less differs; and a notice that policy would not have allowed is a fault.
func TestNoticesAfterTheEnd(t *testing.T) {
	h := newHistory(t, intake.Defaults(), withBackfill, func(h *history, o *flow.Options) {
		f := positions.New(positions.Options{Path: t.TempDir() + "/positions.db", Engine: h.engine, Topics: h.topics, Control: h.control, Hasher: h.ring, Log: h.log})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); f.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
		o.Positions = earlier{f}
	})
	h.endAll()
	told := agreementText("told", "all-work", "statute", "")
	h.applyText(told + strings.Replace(toldText, "START", "", 1))
	h.publish(h.record("e1", 1, 1, "4601", false))
	ended := strings.Replace(told, "status: active", "status: ended", 1)
	h.applyText(ended)
	h.publish(h.changing("e2", "supersedes", "e1", 1), h.changing("e3", "retracts", "e2", 1), h.changing("e4", "retracts", "e0", 1))
	h.awaitBackfill(3)
	outcomes := map[string]int{}
	if err := flow.Decisions(h.ctx, h.engine, h.topics, func(_ *deliver.BatchHeader, d *broker.Decision) error {
		if d.Kind == broker.NoticeDecision {
			outcomes[recordedWord(d)]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != 2 || outcomes[permitWord] != 2 {
		t.Fatalf("%v", outcomes)
	}
	r := h.replay(h.options())
	h.same(r)
	if r.Singles["notice"] != 3 {
		t.Errorf("%+v", r.Singles)
	}
	o := h.options()
	bundle := policy.Embedded()
	for name, text := range bundle.Modules {
		bundle.Modules[name] = strings.Replace(text, "told_despite := {\n\t\"agreement_not_active\",", "told_despite := {", 1)
	}
	var err error
	if o.Policy, err = policy.Compile(bundle); err != nil {
		t.Fatal(err)
	}
	r = h.replay(o)
	var differ int64
	for _, d := range r.Differences {
		if d.Kind == "notice" && d.Before == permitWord {
			differ += d.Count
		}
	}
	if r.Faults != 0 || differ != 2 {
		t.Errorf("%+v", r.Differences)
	}
	// Somebody wrote notices where the mailbox was stopped.
	h.applyText(`kind: mailbox
id: kommunen
organisation: "958935420"
client: fagsystem
channel: feed
suspended: true
`)
	h.publish(h.changing("e5", "retracts", "e1", 1))
	written := h.echo(broker.NoticeDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, ds []deliver.Decision) {
		for i := range ds {
			ds[i].Fields, ds[i].Shielded, ds[i].Outcome = nil, false, &broker.Outcome{Permit: true}
		}
	})
	r = h.replay(h.options())
	if written == 0 || r.Faults == 0 || !slices.ContainsFunc(r.FaultSamples, func(f Fault) bool { return f.Kind == "notice" && f.What == "outcome" && f.Recorded == permitWord }) {
		t.Errorf("%d written: %+v", written, r.FaultSamples)
	}
}

const toldText = `---
kind: subscription
id: told
agreement: told
mailbox: kommunen
scope: {kind: attribute, attribute: municipality, values: ["4601"]}
lookup: true
START`

// endAll makes room for the agreement "told", which has the same purpose.
func (h *history) endAll() {
	h.t.Helper()
	h.applyText(strings.Replace(agreementText("all", "all-work", "statute", ""), "status: active", "status: ended", 1))
}

// awaitBackfill returns when so many decisions of backfill are committed.
func (h *history) awaitBackfill(want int64) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
	defer cancel()
	c, err := h.engine.NewClient(kgo.ConsumeTopics(h.topics.Decisions()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	for want > 0 {
		polled := c.PollFetches(ctx)
		if err := polled.Err(); err != nil {
			h.t.Fatal(err)
		}
		polled.EachRecord(func(m *kgo.Record) {
			if deliver.IsSingles(m.Value) {
				head, err := deliver.PeekSingles(m.Value)
				if err != nil {
					h.t.Fatal(err)
				}
				want -= head.Decisions
			}
		})
	}
}

// notify is an agreement that wants to be told of corrections, without data.
func notify(text string) string {
	return strings.Replace(text, "corrections: deliver", "corrections: notify", 1)
}

// changing is a record that corrects or retracts another.
func (h *history) changing(id, what, of string, person int) *kgo.Record {
	r := h.record(id, person, 1, "4601", false)
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_" + what, Value: []byte(of)})
	return r
}

// A notice is a permit without fields, and no fault: in the stream, and where a
// subscription's start brings it. It is one of neither lookups nor what a case brings.
// A candidate that turns notices into deliveries, or deliveries into notices, differs
// by the fields of corrections and retractions, and by nothing else.
func TestNotices(t *testing.T) {
	h := newHistory(t, intake.Defaults(), withBackfill)
	h.endAll()
	told := agreementText("told", "all-work", "statute", "")
	h.publish(h.record("e1", 1, 1, "4601", false), h.changing("e2", "supersedes", "e1", 1), h.changing("e3", "retracts", "e2", 1))
	h.applyText(notify(told) + strings.Replace(toldText, "START", "start: 2020-01-01\n", 1))
	h.awaitBackfill(3)
	h.publish(h.record("e4", 2, 1, "4601", false), h.changing("e5", "supersedes", "e4", 2))
	h.applyText(told)
	h.publish(h.changing("e6", "supersedes", "e5", 2))
	type seen struct {
		kind   string
		fields bool
	}
	count := map[seen]int64{}
	if err := flow.Decisions(h.ctx, h.engine, h.topics, func(_ *deliver.BatchHeader, d *broker.Decision) error {
		if d.Subscription == "told" && d.RecordKind != broker.Original && d.Outcome.Permit {
			count[seen{d.Kind.String(), len(d.Fields) > 0}]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(count) != 3 || count[seen{"backfill", false}] != 2 || count[seen{"stream", false}] != 1 || count[seen{"stream", true}] != 1 {
		t.Fatalf("the broker made %v", count)
	}
	h.same(h.replay(h.options()))

	differences := func(docs string) map[string]int64 {
		t.Helper()
		o := h.options()
		o.Registry = h.documents(docs)
		r := h.replay(o)
		if r.Faults != 0 || len(r.Unchecked) != 0 {
			t.Fatalf("%+v, %+v", r.FaultSamples, r.Unchecked)
		}
		got := map[string]int64{}
		for _, d := range r.Differences {
			got[strings.Join([]string{d.Kind, string(d.Subscription), d.Before, d.After, d.What}, " ")] = d.Count
		}
		return got
	}
	// The declarations stand on top of all that was: both have something to change.
	if got := differences(notify(told)); len(got) != 1 || got[" told permit permit fields"] != 1 {
		t.Errorf("told, and not given: %v", got)
	}
	if got := differences(told); len(got) != 2 || got[" told permit permit fields"] != 1 || got["backfill told permit permit fields"] != 2 {
		t.Errorf("given, and not told: %v", got)
	}

	// What was looked up has its data; what left without is a fault.
	var written, changed int64
	written = h.echo(broker.LookupDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, ds []deliver.Decision) {
		for i := range ds {
			if ds[i].Outcome.Permit && len(ds[i].Fields) == 0 {
				changed++
			}
		}
	})
	r := h.replay(h.options())
	if written == 0 || changed != 1 || r.Faults != changed || r.FaultSamples[0].What != "fields" || r.FaultSamples[0].Kind != "lookup" {
		t.Errorf("%d notices among %d lookups: %+v", changed, written, r.FaultSamples)
	}
}

// A candidate that narrows a lookup's scope, or takes the lookup away, differs: nothing
// would have been said of the record.
func TestLookupScope(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.endAll()
	text := agreementText("told", "all-work", "statute", "") + strings.Replace(toldText, "START", "", 1)
	h.applyText(text)
	h.publish(h.record("e1", 1, 1, "4601", false), h.record("e2", 2, 1, "4601", false), h.record("e3", 3, 1, "0301", false))
	h.echo(broker.LookupDecision, nil)
	h.same(h.replay(h.options()))
	for name, c := range map[string]struct {
		old, now string
		want     int64
	}{
		"narrower": {`["4601"]`, `["0301"]`, 2},
		"wider":    {`["4601"]`, `["0301", "4601"]`, 0},
		"taken":    {"lookup: true", "lookup: false", 2},
	} {
		o := h.options()
		o.Registry = h.documents(strings.Replace(text, c.old, c.now, 1))
		r := h.replay(o)
		var got int64
		for _, d := range r.Differences {
			if d.Kind == "lookup" {
				got += d.Count
				if d.Subscription != "told" || d.Before != permitWord || d.After != noneWord {
					t.Errorf("%s: %+v", name, d)
				}
			}
		}
		if got != c.want || r.Faults != 0 {
			t.Errorf("%s: %d differences, want %d: %+v", name, got, c.want, r.FaultSamples)
		}
	}
	// And one that was answered outside its scope is a fault.
	h.echo(broker.LookupDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, ds []deliver.Decision) {
		for i := range ds {
			if ds[i].Terms.Subscription.ID == "all" {
				ds[i].Terms.Subscription.ID, ds[i].Terms.Agreement.ID = "told", "told"
			}
		}
	})
	r := h.replay(h.options())
	if !slices.ContainsFunc(r.FaultSamples, func(f Fault) bool { return f.Subscription == "told" && f.What == "decision" && f.Computed == noneWord }) {
		t.Errorf("outside the scope: %+v", r.FaultSamples)
	}
}
