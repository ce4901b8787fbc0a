package replay

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// laxer is the embedded policy without the demand for an open case, and with one
// for a payer that nobody meets where there is a price.
func laxer(t testing.TB) policy.Bundle {
	b := policy.Embedded()
	changed := 0
	for path, text := range b.Modules {
		lines := strings.Split(text, "\n")
		for i, l := range lines {
			if strings.HasPrefix(l, `cleared["ceiling_reached"]`) && changed == 0 {
				lines[i] = `cleared["ceiling_reached"] if input.time > 0`
				changed++
			}
		}
		b.Modules[path] = strings.Join(lines, "\n")
	}
	if changed == 0 {
		t.Fatal("the rule that the candidate changes is not there")
	}
	return b
}

const otherRegistry = `
---
kind: subscription
id: all
agreement: all
mailbox: kommunen
scope: {kind: attribute, attribute: municipality, values: ["0301", "5001"]}
---
kind: package
id: small
version: 2
dataset: d
title: Bare beløp
fields: [/amount]
filter: [{attribute: protected, in: ["false"]}]
shielding: {when: {attribute: protected, notIn: ["false"]}, body: true}
assessment: {by: juridisk, at: 2026-01-01, review: 2030-01-01}
---
kind: subscription
id: more
agreement: all
mailbox: kommunen
scope: {kind: attribute, attribute: municipality, values: ["4601"]}
---
`

func (h *history) documents(text string) []registry.Document {
	h.t.Helper()
	docs, err := registry.Load(write(h.t, text))
	if err != nil {
		h.t.Fatal(err)
	}
	return docs
}

// What a candidate would have answered otherwise is what the long way round gives:
// every record, every subscription, every requirement, in full.
func candidates(h *history, t *testing.T) {
	docs := h.documents(otherRegistry +
		strings.Replace(agreementText("all", "all-work", "statute", ""), "cost: {model: free}", `cost: {model: per-record, payer: "958935420", ceiling: 4}`, 1) +
		"---\n" + strings.Replace(agreementText("case", "case-work", "case-statute", ""), "version: 1", "version: 2", 1))
	for _, c := range []struct {
		name   string
		bundle *policy.Bundle
		docs   []registry.Document
	}{{"a policy", new(laxer(t)), nil}, {"declarations", nil, docs}, {"both", new(laxer(t)), docs}} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			o := h.options()
			o.Registry = c.docs
			if c.bundle != nil {
				var err error
				if o.Policy, err = policy.Compile(*c.bundle); err != nil {
					t.Fatal(err)
				}
			}
			r := h.replay(o)
			if r.Faults != 0 || len(r.Unchecked) != 0 || r.Decisions != h.decisions() {
				t.Fatalf("%+v", r)
			}
			got := map[diffKey]int64{}
			for _, d := range r.Differences {
				got[diffKey{d.Kind, d.Consumer, d.Subscription, d.Before, d.After, d.What}] = d.Count
				if len(d.Samples) != int(min(3, d.Count)) {
					t.Errorf("%+v: %d samples", d, len(d.Samples))
				}
			}
			want := h.longWay(o.Policy, c.docs)
			if !maps.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			var won, lost int64
			for k, n := range want {
				if k.after == permitWord && k.before != permitWord {
					won += n
				} else if k.before == permitWord && k.after != permitWord {
					lost += n
				}
			}
			if r.Won != won || r.Lost != lost || won+lost == 0 {
				t.Errorf("won %d, lost %d; want %d, %d", r.Won, r.Lost, won, lost)
			}
			t.Logf("%v", got)
			o.held, o.Workers = 1, 1
			again := h.replay(o)
			again.Took, r.Took = 0, 0
			if again.Different() != r.Different() || again.Won != r.Won || !slices.EqualFunc(again.Differences, r.Differences, func(a, b Difference) bool {
				return a.Count == b.Count && slices.Equal(a.Samples, b.Samples)
			}) {
				t.Errorf("held one by one:\n%+v\n%+v", again.Differences, r.Differences)
			}
		})
	}
}

// A candidate that does not fit the registry of the time is counted, not guessed.
func TestCandidateThatDoesNotFit(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.publish(h.record("a", 1, 1, "0301", false))
	o := h.options()
	o.Registry = h.documents(strings.Replace(agreementText("next", "all-work", "statute", ""), "id: small, version: 1", "id: unheard-of, version: 1", 1))
	r := h.replay(o)
	if len(r.Unchecked) != 1 || r.Unchecked[0].What != "candidate" || r.Computed() || r.Different() != 0 {
		t.Errorf("%+v", r)
	}
}

// longWay computes the differences without index, compiled policy, fold of control
// or order of batches.
func (h *history) longWay(engine *policy.Engine, docs []registry.Document) map[diffKey]int64 {
	h.t.Helper()
	var events []registry.Event
	h.compiled = map[*broker.Dataset]*intake.Dataset{}
	fatal := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	fatal(h.control.Log(h.ctx, func(_ int64, e registry.Event, accepted bool) error {
		if accepted {
			events = append(events, e)
		}
		return nil
	}))
	onTop := func(st *registry.State) {
		if docs == nil {
			return
		}
		p, err := registry.NewPlan(st, docs, "candidate", h.clock())
		fatal(err)
		for _, e := range p.Events {
			_, err := st.Fold(e)
			fatal(err)
		}
	}
	states := map[broker.Revision]*registry.State{}
	state := func(rev broker.Revision) *registry.State {
		if states[rev] != nil {
			return states[rev]
		}
		st := registry.New()
		for _, e := range events[:rev] {
			if e.Type == registry.BudgetLeased {
				onTop(st) // what is leased is leased from the candidate's ceiling
			}
			linked, err := st.Link(e.At, e.Actor, registry.Change{Type: e.Type, Data: e.Data})
			fatal(err)
			if _, err := st.Fold(linked[0]); err != nil {
				fatal(err)
			}
		}
		onTop(st)
		states[rev] = st
		return st
	}
	type row struct {
		head     *deliver.BatchHeader
		rejected bool
		ds       []broker.Decision
	}
	rows := map[broker.Position]*row{}
	ends, err := h.adm.ListCommittedOffsets(h.ctx, h.topics.Decisions())
	fatal(err)
	each := func(topic string, partition int32, end int64, fn func(*kgo.Record)) {
		tp := &tape{engine: h.engine, topic: topic, partition: partition, end: end}
		defer tp.close()
		fatal(tp.seek(0))
		for {
			r, err := tp.peek(h.ctx)
			fatal(err)
			if r == nil {
				return
			}
			tp.take()
			fn(r)
		}
	}
	datasets := map[broker.DatasetID]bool{}
	for n, o := range ends[h.topics.Decisions()] {
		each(h.topics.Decisions(), n, o.Offset, func(r *kgo.Record) {
			head, _, err := deliver.DecodeHeader(r.Value)
			fatal(err)
			datasets[head.Dataset] = true
			at := broker.Position{Dataset: head.Dataset, TopicID: head.TopicID, Partition: head.Partition}
			for off := head.First; off <= head.Last; off++ {
				at.Offset = off
				rows[at] = &row{head: &head, rejected: slices.Contains(head.RejectedAt, off-head.First)}
			}
			_, err = deliver.Decode(r.Value, func(d *broker.Decision) error {
				rows[d.Position].ds = append(rows[d.Position].ds, *d)
				return nil
			})
			fatal(err)
		})
	}
	out := map[diffKey]int64{}
	engines := map[string]*policy.Engine{}
	for ds := range datasets {
		topic := h.topics.Source(string(ds))
		ends, err := h.adm.ListCommittedOffsets(h.ctx, topic)
		fatal(err)
		for n, o := range ends[topic] {
			seen := map[broker.EventHash]bool{}
			used := map[broker.AgreementID]int64{}
			each(topic, n, o.Offset, func(r *kgo.Record) {
				var at broker.Position
				for p := range rows {
					if p.Dataset == ds && p.Partition == n {
						at = p
						break
					}
				}
				at.Offset = r.Offset
				x := rows[at]
				if x == nil || x.rejected {
					return
				}
				st := state(x.head.Revision)
				e := engine
				if e == nil {
					p := st.Policy()
					if engines[p.Digest] == nil {
						engines[p.Digest], err = policy.Compile(policy.Bundle{Modules: p.Modules})
						fatal(err)
					}
					e = engines[p.Digest]
				}
				h.longRecord(out, st, e, x.head, x.ds, r, at, seen, used)
			})
		}
	}
	return out
}

func (h *history) longRecord(out map[diffKey]int64, st *registry.State, e *policy.Engine, head *deliver.BatchHeader, recorded []broker.Decision,
	r *kgo.Record, at broker.Position, seen map[broker.EventHash]bool, used map[broker.AgreementID]int64) {
	declared := st.Dataset(at.Dataset)
	ds := h.compiled[declared]
	if ds == nil {
		var err error
		if ds, err = intake.Compile(declared, h.limits); err != nil {
			h.t.Fatal(err)
		}
		h.compiled[declared] = ds
	}
	msg := intake.Message{Position: at, Timestamp: r.Timestamp, Value: r.Value}
	for _, x := range r.Headers {
		msg.Headers = append(msg.Headers, intake.Header(x))
	}
	var rec broker.Record
	var doc jsondoc.Doc
	if ds.Accept(&msg, h.ring, &rec, &doc) != nil || seen[rec.Event] {
		return
	}
	seen[rec.Event] = true
	now := map[broker.SubscriptionID]*broker.Decision{}
	permits := map[broker.AgreementID]int64{}
	for _, t := range st.AllTerms() {
		if t.Dataset.ID != at.Dataset || !naiveScope(st, t, &rec) {
			continue
		}
		facts := broker.Facts{Time: head.Time, Kind: rec.Kind, Attributes: rec.Attributes}
		if rec.HasSubject {
			facts.Cases = st.Cases(nil, t.Subscription.ID, rec.Subject)
			facts.Consents = st.Consents(nil, t.Agreement.Consumer, t.Dataset.ID, t.Agreement.Purpose, rec.Subject)
		}
		a := t.Agreement.ID
		if t.Agreement.Cost.Ceiling > 0 {
			facts.Usage = broker.Usage{Granted: st.Granted(a, at.TopicID, at.Partition) + st.Unleased(a), Delivered: used[a] + permits[a]}
		}
		p, err := e.Prepare(t)
		if err != nil {
			h.t.Fatal(err)
		}
		o, err := p.DecideFull(h.ctx, &facts)
		if err != nil {
			h.t.Fatal(err)
		}
		d := &broker.Decision{Subscription: t.Subscription.ID, Outcome: *o, Package: t.Agreement.Package, Agreement: a}
		if o.Permit {
			cut, err := minimise.Compile(t.Package, t.Dataset)
			if err != nil {
				h.t.Fatal(err)
			}
			_, d.Shielded, err = cut.OnlyValues().Append(nil, &doc, rec.Attributes)
			if err != nil {
				h.t.Fatal(err)
			}
			d.Fields = cut.Fields(d.Shielded)
			permits[a]++
		}
		now[t.Subscription.ID] = d
	}
	for a, n := range permits {
		used[a] += n
	}
	consumer := func(s broker.SubscriptionID) broker.OrgNumber { return st.Terms(s).Agreement.Consumer }
	for i := range recorded {
		d := &recorded[i]
		k := diffKey{consumer: consumer(d.Subscription), subscription: d.Subscription, before: recordedWord(d), after: noneWord}
		if x := now[d.Subscription]; x != nil {
			delete(now, d.Subscription)
			k.after = recordedWord(x)
			if k.after == k.before {
				switch {
				case !slices.Equal(d.Outcome.Reasons, x.Outcome.Reasons):
					k.what = "reasons"
				case !slices.Equal(d.Outcome.Bases, x.Outcome.Bases):
					k.what = "bases"
				case d.Package != x.Package:
					k.what = "package"
				case d.Shielded != x.Shielded:
					k.what = "shielded"
				case !slices.Equal(d.Fields, x.Fields):
					k.what = "fields"
				default:
					continue
				}
			}
		}
		out[k]++
	}
	for s, d := range now {
		out[diffKey{consumer: consumer(s), subscription: s, before: noneWord, after: recordedWord(d)}]++
	}
}

// naiveScope is the rule of scope as it is written down.
func naiveScope(st *registry.State, t *broker.Terms, rec *broker.Record) bool {
	value := func(name string) string {
		if i := t.Dataset.AttributeIndex(name); i >= 0 {
			return rec.Attributes[i]
		}
		return ""
	}
	for _, c := range t.Package.Filter {
		v := value(c.Attribute)
		if len(c.In) > 0 && !slices.Contains(c.In, v) || slices.Contains(c.NotIn, v) {
			return false
		}
	}
	switch s := &t.Subscription.Scope; s.Kind {
	case broker.ScopeAll:
		return true
	case broker.ScopeAttribute:
		return slices.Contains(s.Values, value(s.Attribute))
	default:
		return rec.HasSubject && slices.Contains(st.Listed(nil, t.Dataset.ID, rec.Subject), t.Subscription.ID)
	}
}
