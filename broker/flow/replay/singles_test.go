package replay

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/policy"
)

// echo writes what the stream decided once more, as single decisions of a kind, made
// under the same revision, time and usage: the broker's own answers, from another
// format. At the door only denials stand, and none that a ceiling or the size of a
// delivery is the reason of. change may alter a row before it is written; it returns
// how many decisions were written.
func (h *history) echo(kind broker.DecisionKind, change func(*deliver.SinglesHeader, *deliver.Single, []deliver.Decision)) (written int64) {
	h.t.Helper()
	adm, err := h.engine.Admin()
	if err != nil {
		h.t.Fatal(err)
	}
	defer adm.Close()
	spans, err := kafka.Spans(h.ctx, adm, h.topics.Decisions())
	if err != nil {
		h.t.Fatal(err)
	}
	var out []*kgo.Record
	for _, span := range spans {
		if err := h.engine.Each(h.ctx, span, func(m *kgo.Record) error {
			if deliver.IsSingles(m.Value) {
				return nil
			}
			head, _, err := deliver.DecodeHeader(m.Value)
			if err != nil {
				return err
			}
			ceilings := map[broker.SubscriptionID]int64{}
			for _, s := range head.Subscriptions {
				if s.Ceiling {
					ceilings[s.ID] = 1
				}
			}
			sh := deliver.SinglesHeader{Kind: kind, TopicID: head.TopicID, Partition: head.Partition, Time: head.Time, Revision: head.Revision,
				Policy: head.Policy, Period: head.Period, Limits: head.Limits, Usage: head.Usage}
			var rows []deliver.Single
			var said [][]deliver.Decision
			if _, err := deliver.Decode(m.Value, func(d *broker.Decision) error {
				if kind == broker.NoticeDecision && d.RecordKind == broker.Original {
					return nil
				}
				if kind == broker.DoorDecision && (d.Outcome.Permit || ceilings[d.Subscription] > 0 || d.Outcome.Reasons[0] == broker.ReasonTooLarge) {
					return nil
				}
				if n := len(rows); n == 0 || rows[n-1].Position != d.Position {
					x := deliver.Single{Position: d.Position, Event: d.Event, Subject: d.Subject, Kind: d.RecordKind}
					if kind == broker.LookupDecision {
						x.Request = broker.Digest{1, byte(len(rows)), byte(len(rows) >> 8)}
					}
					rows, said = append(rows, x), append(said, nil)
				}
				t := &broker.Terms{}
				t.Subscription.ID, t.Agreement.ID, t.Agreement.Package, t.Agreement.Cost.Ceiling = d.Subscription, d.Agreement, d.Package, ceilings[d.Subscription]
				o := broker.Outcome{Permit: d.Outcome.Permit, Reasons: slices.Clone(d.Outcome.Reasons), Bases: slices.Clone(d.Outcome.Bases)}
				said[len(said)-1] = append(said[len(said)-1], deliver.Decision{Terms: t, Outcome: &o, Shielded: d.Shielded, Fields: slices.Clone(d.Fields)})
				return nil
			}); err != nil {
				return err
			}
			if len(ceilings) == 0 { // rows are in no order where nothing counts
				slices.Reverse(rows)
				slices.Reverse(said)
			}
			for i := range rows {
				if change != nil {
					change(&sh, &rows[i], said[i])
				}
			}
			var s deliver.Singles
			s.Reset(sh)
			for i := range rows {
				s.Add(rows[i], said[i])
				written += int64(len(said[i]))
			}
			for _, value := range s.Finish() {
				out = append(out, &kgo.Record{Topic: h.topics.Decisions(), Value: value})
			}
			return nil
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := h.client.ProduceSync(h.ctx, out...).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
	return written
}

const allText = `kind: subscription
id: all
agreement: all
mailbox: kommunen
scope: {kind: attribute, attribute: municipality, values: [VALUES]}
`

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Single decisions of every kind come out as they were recorded; what lies nowhere is
// counted; a candidate's differences name the kind; and each lie is found.
func TestSingles(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.life()
	want := map[string]int64{}
	for kind := broker.BackfillDecision; kind <= broker.DoorDecision; kind++ {
		want[kind.String()] = h.echo(kind, nil)
		if want[kind.String()] == 0 {
			t.Fatalf("nothing of kind %s", kind)
		}
	}
	r := h.replay(h.options())
	h.same(r)
	if !maps.Equal(r.Singles, want) {
		t.Fatalf("computed %v, want %v", r.Singles, want)
	}
	o := h.options()
	o.held, o.Workers = 1, 1
	h.same(h.replay(o))

	o = h.options()
	o.Subscription = "all"
	some := map[string]int64{}
	if err := flow.Decisions(h.ctx, h.engine, h.topics, func(_ *deliver.BatchHeader, d *broker.Decision) error {
		if d.Subscription == "all" && d.Kind != broker.StreamDecision {
			some[d.Kind.String()]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if r := h.replay(o); r.Faults != 0 || !maps.Equal(r.Singles, some) {
		t.Errorf("of one subscription: %v, want %v; %+v", r.Singles, some, r.FaultSamples)
	}

	// What a candidate changes of the stream's it changes of the others too; who was
	// in no scope has no single decision to change.
	for name, candidate := range map[string]func(*Options){
		"a policy":     func(o *Options) { o.Policy = must(policy.Compile(laxer(t))) },
		"declarations": func(o *Options) { o.Registry = h.documents(strings.Replace(allText, "VALUES", `"5001"`, 1)) },
	} {
		o := h.options()
		candidate(&o)
		r := h.replay(o)
		byKind := map[string]map[diffKey]int64{"": {}, "backfill": {}, "lookup": {}, "door": {}}
		for _, d := range r.Differences {
			if d.Before == permitWord && d.Kind == "door" {
				t.Errorf("%s: a permit at the door: %+v", name, d)
			}
			if d.Before != noneWord {
				byKind[d.Kind][diffKey{"", d.Consumer, d.Subscription, d.Before, d.After, d.What}] = d.Count
			}
		}
		if r.Faults != 0 || len(r.Unchecked) != 0 || len(byKind[""]) == 0 || !maps.Equal(byKind["backfill"], byKind[""]) {
			t.Errorf("%s: by kind %v; faults %+v, unchecked %+v", name, byKind, r.FaultSamples, r.Unchecked)
		}
		if !maps.Equal(byKind["lookup"], byKind[""]) {
			t.Errorf("%s: lookups %v, the stream %v", name, byKind["lookup"], byKind[""])
		}
	}

	lies := []struct {
		name, what string
		kind       broker.DecisionKind
		tell       func(*deliver.SinglesHeader, *deliver.Single, []deliver.Decision)
	}{
		{"another reason", "reasons", broker.DoorDecision, func(_ *deliver.SinglesHeader, _ *deliver.Single, ds []deliver.Decision) {
			ds[0].Outcome.Reasons = []broker.Reason{"made_up"}
		}},
		{"denied", "outcome", broker.LookupDecision, func(_ *deliver.SinglesHeader, _ *deliver.Single, ds []deliver.Decision) {
			if ds[0].Outcome.Permit {
				*ds[0].Outcome = broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}
				ds[0].Fields, ds[0].Shielded = nil, false
			}
		}},
		{"fields", "fields", broker.BackfillDecision, func(_ *deliver.SinglesHeader, _ *deliver.Single, ds []deliver.Decision) {
			if ds[0].Outcome.Permit {
				ds[0].Fields = ds[0].Fields[:1]
			}
		}},
		{"subject", "pseudonym", broker.BackfillDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, _ []deliver.Decision) { x.Subject[3] ^= 1 }},
		{"event", "event", broker.LookupDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, _ []deliver.Decision) { x.Event[3] ^= 1 }},
		{"policy", "policy", broker.DoorDecision, func(h *deliver.SinglesHeader, _ *deliver.Single, _ []deliver.Decision) { h.Policy = "sha256:other" }},
		{"subscription", "decision", broker.BackfillDecision, func(_ *deliver.SinglesHeader, _ *deliver.Single, ds []deliver.Decision) {
			ds[0].Terms.Subscription.ID = "unheard-of"
		}},
	}
	for _, lie := range lies {
		h.echo(lie.kind, lie.tell)
	}
	r = h.replay(h.options())
	for _, lie := range lies {
		if !slices.ContainsFunc(r.FaultSamples, func(f Fault) bool { return f.What == lie.what && f.Kind == lie.kind.String() }) {
			t.Errorf("%s: not found: %v: %+v", lie.name, r.FaultsBy, r.FaultSamples)
		}
	}
}

// What lies nowhere in the log cannot be computed, and is counted by name; so is what
// retention or a topic made anew took.
func TestSinglesNowhere(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.publish(h.record("e1", 1, 1, "0301", false), h.record("e2", 2, 1, "0301", false))
	n := int64(0)
	h.echo(broker.LookupDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, _ []deliver.Decision) {
		x.Position = broker.Position{Dataset: x.Position.Dataset, Offset: broker.Nowhere}
		if n++; n%2 == 0 {
			x.Event = broker.EventHash{}
		}
	})
	h.echo(broker.BackfillDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, _ []deliver.Decision) { x.Position.TopicID[2] ^= 1 })
	h.echo(broker.DoorDecision, func(_ *deliver.SinglesHeader, x *deliver.Single, _ []deliver.Decision) { x.Position.Offset += 1000 })
	r := h.replay(h.options())
	count := map[string]int64{}
	for _, u := range r.Unchecked {
		count[u.What] += u.Records
	}
	if n == 0 || count["not in the log"] != n || count["source"] == 0 || len(r.Singles) != 0 || r.Faults != 0 {
		t.Errorf("%d lookups; %+v, %+v", n, r.Unchecked, r.FaultSamples)
	}
	o := h.options()
	o.From = h.pass(time.Hour)
	if r := h.replay(o); len(r.Unchecked) != 0 {
		t.Errorf("of later: %+v", r.Unchecked)
	}
}
