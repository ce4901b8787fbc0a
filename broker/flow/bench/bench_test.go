package bench

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/keys"
	"datafordeler/broker/match"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// The scenario puts each record in the scope of as many subscriptions as it says,
// and the naive way permits the same and delivers the same values as the broker's
// own stages: or else the comparison would be of two different jobs.
func TestScenarioAndNaiveDoTheSameJob(t *testing.T) {
	s := Scenario{Records: 100, Subscriptions: 1100, Fanout: 3, ConsentShare: 0.4, Lines: 3, Seed: 3}
	ring := keys.NewTest(1)
	now := time.Now()
	st := registry.New()
	docs, err := s.Documents()
	if err != nil {
		t.Fatal(err)
	}
	plan, err := registry.NewPlan(st, docs, "bench", now)
	if err != nil {
		t.Fatal(err)
	}

	fold := func(events []registry.Event) {
		for _, e := range events {
			if accepted, err := st.Fold(e); err != nil || !accepted {
				t.Fatal(accepted, err)
			}
		}
	}
	fold(plan.Events)
	changes := s.Consents(ring, 0, s.Records)
	consents := len(changes)
	events, err := st.Link(now, "bench", changes...)
	if err != nil {
		t.Fatal(err)
	}
	fold(events)
	if share := float64(consents) / float64(s.Records*s.Fanout); math.Abs(share-s.ConsentShare) > 0.15 {
		t.Errorf("consents for %.2f of the decisions, want about %.2f", share, s.ConsentShare)
	}

	ds, err := intake.Compile(st.AllTerms()[0].Dataset, intake.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	index := match.New(st.AllTerms())
	engine, err := policy.Compile(policy.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	generic, err := engine.Generic(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	naive := &Naive{Terms: st.AllTerms(), Generic: generic, Workers: 1, Deliveries: "d", Decisions: "e", DeliveryParts: 4, DecisionPart: 4,
		Consents: func(t *broker.Terms, subject string) []broker.Consent {
			return st.Consents(nil, t.Agreement.Consumer, t.Dataset.ID, t.Agreement.Purpose, ring.Subject(broker.Person, subject))
		}}
	if err := naive.Prepare(); err != nil {
		t.Fatal(err)
	}
	messages, _ := s.Messages("source", 0, s.Records)
	for _, m := range messages {
		msg := intake.Message{Value: m.Value, Position: broker.Position{Dataset: Dataset}}
		r := &kgo.Record{Value: m.Value}
		for k, v := range m.Headers {
			msg.Headers = append(msg.Headers, intake.Header{Key: k, Value: []byte(v)})
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
		var rec broker.Record
		var doc jsondoc.Doc
		if rejected := ds.Accept(&msg, ring, &rec, &doc); rejected != nil {
			t.Fatal(rejected)
		}
		terms := index.Match(nil, &rec, st)
		if len(terms) != s.Fanout {
			t.Fatalf("in scope of %d subscriptions, want %d", len(terms), s.Fanout)
		}
		want := map[string]any{}
		for _, n := range terms {
			sub := index.Terms()[n]
			p, err := minimise.Compile(sub.Package, sub.Dataset)
			if err != nil {
				t.Fatal(err)
			}
			out, _, err := p.Append(nil, &doc, rec.Attributes)
			if err != nil {
				t.Fatal(err)
			}
			want[string(sub.Subscription.ID)] = decode(t, out)
		}
		out, err := naive.record(context.Background(), nil, r, now)
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]any{}
		for _, r := range out {
			if r.Topic != "d" {
				continue
			}
			for _, h := range r.Headers {
				if h.Key == "ce_subscription" {
					have[string(h.Value)] = decode(t, r.Value)
				}
			}
		}
		if !reflect.DeepEqual(have, want) {
			t.Fatalf("naive delivers\n%v\nthe broker\n%v", have, want)
		}
	}
}

func decode(t *testing.T, b []byte) (v any) {
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
