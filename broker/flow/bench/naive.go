package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"datafordeler/broker"
	"datafordeler/policy"
)

// Naive is the broker's work done the obvious way: each record becomes a map, is
// held to its schema by the library and asked about by rego's Eval, with an input
// of maps for each decision; what may leave is picked out of the map and encoded
// again; each decision is a JSON record.
//
// It does less than the broker: no check for repeats, no pseudonyms, no usage, no
// strict reading of the event, no rejections. What it lacks is in its favour.
type Naive struct {
	Terms   []*broker.Terms
	Generic *policy.Generic
	// Consents are a subject's to one consumer and purpose.
	Consents func(t *broker.Terms, subject string) []broker.Consent
	Workers  int // partitions computed at once

	Deliveries, Decisions       string // topics
	DeliveryParts, DecisionPart int32

	schema *jsonschema.Schema
	scopes map[string]map[string][]*broker.Terms // attribute → value → in scope
}

// Prepare compiles what is compiled once.
func (n *Naive) Prepare() error {
	if len(n.Terms) == 0 {
		return fmt.Errorf("bench: no subscriptions")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(n.Terms[0].Dataset.Schemas[0].Document))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("https://schema.invalid/", doc); err != nil {
		return err
	}
	if n.schema, err = c.Compile("https://schema.invalid/"); err != nil {
		return err
	}
	n.scopes = map[string]map[string][]*broker.Terms{}
	for _, t := range n.Terms {
		s := t.Subscription.Scope
		if n.scopes[s.Attribute] == nil {
			n.scopes[s.Attribute] = map[string][]*broker.Terms{}
		}
		for _, v := range s.Values {
			n.scopes[s.Attribute][v] = append(n.scopes[s.Attribute][v], t)
		}
	}
	return nil
}

// Transform is for a Copy.
func (n *Naive) Transform(ctx context.Context, parts []kgo.FetchTopicPartition) ([]*kgo.Record, error) {
	each := make([][]*kgo.Record, len(parts))
	now := time.Now()
	var g errgroup.Group
	g.SetLimit(n.Workers)
	for i, p := range parts {
		g.Go(func() error {
			for _, r := range p.Records {
				var err error
				if each[i], err = n.record(ctx, each[i], r, now); err != nil {
					return fmt.Errorf("%s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []*kgo.Record
	for _, rs := range each {
		out = append(out, rs...)
	}
	return out, nil
}

func (n *Naive) record(ctx context.Context, out []*kgo.Record, r *kgo.Record, now time.Time) ([]*kgo.Record, error) {
	event := map[string]string{}
	for _, h := range r.Headers {
		event[strings.TrimPrefix(h.Key, "ce_")] = string(h.Value)
	}
	var payload map[string]any
	if err := json.Unmarshal(r.Value, &payload); err != nil {
		return nil, err
	}
	if err := n.schema.Validate(payload); err != nil {
		return nil, err
	}
	ds := n.Terms[0].Dataset
	subject, err := text(payload, ds.Subject.Pointer)
	if err != nil {
		return nil, err
	}
	attributes := make([]string, len(ds.Attributes))
	var terms, in []*broker.Terms
	for i, a := range ds.Attributes {
		if a.Extension != "" {
			attributes[i] = event[a.Extension]
		} else if attributes[i], err = text(payload, a.Pointer); err != nil {
			return nil, err
		}
		terms = append(terms, n.scopes[a.Name][attributes[i]]...)
	}
	for _, t := range terms {
		if !slices.ContainsFunc(t.Package.Filter, func(c broker.Condition) bool { return !c.Holds(attributes[ds.AttributeIndex(c.Attribute)]) }) {
			in = append(in, t)
		}
	}
	for _, t := range in {
		facts := broker.Facts{Time: now, Kind: broker.Original, Attributes: attributes}
		if t.Bases[0].Type == broker.Samtykke {
			facts.Consents = n.Consents(t, subject)
		}
		answer, err := n.Generic.Eval(ctx, policy.Input(t, &facts))
		if err != nil {
			return nil, err
		}
		allow, _ := answer["allow"].(bool)
		decision := map[string]any{
			"record": map[string]any{"dataset": string(ds.ID), "partition": r.Partition, "offset": r.Offset, "event": event["id"]},
			"time":   now.UTC().Format(time.RFC3339Nano), "subscription": string(t.Subscription.ID), "agreement": string(t.Agreement.ID),
			"allow": allow, "reasons": answer["reasons"], "bases": answer["bases"],
		}
		if allow {
			shield := t.Package.Shielding
			hide := shield != nil && shield.When.Holds(attributes[ds.AttributeIndex(shield.When.Attribute)])
			small, _ := project(payload, t.Package.Fields).(map[string]any)
			if hide {
				for _, p := range shield.Remove {
					remove(small, strings.Split(string(p[1:]), "/"))
				}
				small["skjermet"] = true
			}
			value, err := json.Marshal(small)
			if err != nil {
				return nil, err
			}
			decision["fields"] = t.Package.Fields
			out = append(out, &kgo.Record{Topic: n.Deliveries, Partition: broker.Bucket(t.Mailbox.ID, n.DeliveryParts), Value: value,
				Headers: []kgo.RecordHeader{
					{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(event["id"])},
					{Key: "ce_source", Value: []byte(event["source"])}, {Key: "ce_type", Value: []byte(event["type"])},
					{Key: "ce_time", Value: []byte(event["time"])}, {Key: "content-type", Value: []byte("application/json")},
					{Key: "ce_mailbox", Value: []byte(t.Mailbox.ID)}, {Key: "ce_subscription", Value: []byte(t.Subscription.ID)},
					{Key: "ce_agreement", Value: []byte(t.Agreement.ID)}, {Key: "ce_dataset", Value: []byte(ds.ID)},
				}})
		}
		value, err := json.Marshal(decision)
		if err != nil {
			return nil, err
		}
		out = append(out, &kgo.Record{Topic: n.Decisions, Partition: r.Partition % n.DecisionPart, Value: value})
	}
	return out, nil
}

// text is the first string that a pointer leads to, through arrays.
func text(v any, p broker.Pointer) (string, error) {
	for _, name := range strings.Split(string(p[1:]), "/") {
		for {
			list, ok := v.([]any)
			if !ok || len(list) == 0 {
				break
			}
			v = list[0]
		}
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("nothing at %s", p)
	}
	return s, nil
}

// project keeps what the pointers name.
func project(v any, fields []broker.Pointer) any {
	below := map[string][]broker.Pointer{}
	for _, f := range fields {
		if f == "" {
			return v
		}
		first, rest, _ := strings.Cut(string(f[1:]), "/")
		if rest != "" {
			rest = "/" + rest
		}
		below[first] = append(below[first], broker.Pointer(rest))
	}
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, fields := range below {
			if value, ok := v[name]; ok {
				if kept := project(value, fields); kept != nil {
					out[name] = kept
				}
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, project(e, fields))
		}
		return out
	}
	return nil
}

func remove(v any, path []string) {
	switch v := v.(type) {
	case map[string]any:
		if len(path) == 1 {
			delete(v, path[0])
		} else {
			remove(v[path[0]], path[1:])
		}
	case []any:
		for _, e := range v {
			remove(e, path)
		}
	}
}
