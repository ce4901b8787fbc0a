package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// bindingRig is an instance under traffic: records on three people are published
// without pause, and all doors are knocked at, while this and that is withdrawn.
type bindingRig struct {
	*lookupRig
	flows []*flowOf
	hooks atomic.Int64 // that the endpoint was sent

	published atomic.Int64
	halt      context.CancelFunc
	running   sync.WaitGroup
	shut      [4]atomic.Int64 // answers that were refused, by door
	open      [4]atomic.Int64 // and that were given
}

// flowOf is what one subscription gets: of one person, whose number is at i.
type flowOf struct {
	sub, mailbox  string
	org, supplier string
	i             int
	person        string
	// acknowledged is the number of the withdrawal that stands and binds; 0 while all
	// is in order, or not known to be. It is set when the answer has come, and cleared
	// before what was taken is given back.
	acknowledged atomic.Int64
}

const (
	doorFeed = iota
	doorLookup
	doorWebhook
	doorStream
)

func newBindingRig(t *testing.T) *bindingRig {
	r := &bindingRig{lookupRig: newLookupRig(t)}
	i, oslo := r.inMunicipality("0301")
	j, tromso := r.inMunicipality("5501")
	bank := i + 1
	r.flows = []*flowOf{
		{sub: "oslo-sosialhjelp", mailbox: "oslo-sosialhjelp", org: osloNumber, i: i, person: oslo},
		{sub: "testbanken-boliglaan", mailbox: "testbanken-boliglaan", org: bankNumber, i: bank, person: r.people.Person(bank).ID},
		{sub: "tromso-barnehage", mailbox: "tromso-barnehage", org: "940101808", supplier: "313876144", i: j, person: tromso},
	}
	// A fourth flow is sent: another subscription of Oslo's, on the same person.
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var body struct{ Type, Challenge string }
		if _ = json.NewDecoder(q.Body).Decode(&body); body.Challenge != "" {
			_ = json.NewEncoder(w).Encode(map[string]string{"challenge": body.Challenge})
			return
		}
		r.hooks.Add(1)
	}))
	t.Cleanup(endpoint.Close)
	for _, thing := range []any{
		broker.Mailbox{ID: "oslo-krok", Organisation: osloNumber, Client: "fagsystem", Channel: broker.Webhook},
		broker.Subscription{ID: "oslo-krok", Agreement: "oslo-sosialhjelp", Mailbox: "oslo-krok", Scope: broker.Scope{Kind: broker.ScopeListed}, CatchUp: new(300)},
		broker.Subscription{ID: "oslo-sosialhjelp", Agreement: "oslo-sosialhjelp", Mailbox: "oslo-sosialhjelp", Lookup: true, Scope: broker.Scope{Kind: broker.ScopeListed}, CatchUp: new(300)},
	} {
		r.change(func(*registry.State) registry.Change {
			c, err := registry.Put(thing)
			if err != nil {
				t.Fatal(err)
			}
			return c
		})
	}
	token := r.token(r.claims(osloNumber, ""))
	if code, _, text := r.call(t.Context(), token, http.MethodPut, "/mailboxes/oslo-krok/webhook", `{"url":"`+endpoint.URL+`"}`); code != 201 {
		t.Fatal(code, text)
	}
	if code, _, text := r.call(t.Context(), token, http.MethodPost, "/mailboxes/oslo-krok/webhook/challenge", ""); code != 200 {
		t.Fatal(code, text)
	}
	return r
}

// one publishes a record on a flow's person.
func (r *bindingRig) one(f *flowOf) {
	e := r.people.Income(nil, f.i)
	e.ID = fmt.Sprintf("df-%d", r.published.Add(1))
	r.publish("inntekt", e)
}

// traffic begins, and goes on until the test ends.
func (r *bindingRig) traffic() {
	ctx, halt := context.WithCancel(r.t.Context())
	r.halt = halt
	r.t.Cleanup(func() { halt(); r.running.Wait() })
	tokens := map[*flowOf]string{}
	for _, f := range r.flows {
		tokens[f] = r.token(r.claims(f.org, f.supplier))
	}
	r.running.Go(func() {
		for ctx.Err() == nil {
			for _, f := range r.flows {
				e := r.people.Income(nil, f.i)
				e.ID = fmt.Sprintf("df-%d", r.published.Add(1))
				_ = r.node.engine.Write(ctx, kafka.Raw{Topic: r.node.cfg.Topics().Source("inntekt"), Key: e.Key, Value: e.AppendStructured(nil),
					Headers: map[string]string{"content-type": "application/cloudevents+json"}})
			}
		}
	})
	knock := func(door int, f *flowOf, ask func() (given int, what string)) {
		r.running.Go(func() {
			for ctx.Err() == nil {
				before := f.acknowledged.Load()
				given, what := ask()
				if ctx.Err() != nil {
					return
				}
				// It stood before the question and still stands: what was given rested on what was withdrawn.
				if stood := before != 0 && f.acknowledged.Load() == before; stood && given > 0 {
					r.t.Errorf("%s, door %d: %d given after withdrawal %d was acknowledged: %s", f.sub, door, given, before, what)
				}
				if given > 0 {
					r.open[door].Add(1)
				} else {
					r.shut[door].Add(1)
				}
			}
		})
	}
	for _, f := range r.flows {
		knock(doorFeed, f, func() (int, string) {
			_, _, text := r.call(ctx, tokens[f], http.MethodGet, "/feeds/"+f.mailbox+"?limit=50", "")
			return strings.Count(text, `"specversion"`), ""
		})
		knock(doorLookup, f, func() (int, string) {
			_, _, text := r.call(ctx, tokens[f], http.MethodPost, "/lookups", `{"subject":"`+f.person+`","subscription":"`+f.sub+`"}`)
			return strings.Count(text, `"outcome":"found"`), ""
		})
	}
}

// deliveries are those that were committed at or after an offset, by subscription.
func (r *bindingRig) delivered(from, to map[int32]int64) map[string]int {
	r.t.Helper()
	topic := r.node.cfg.Topics().Deliveries()
	var all = map[string]int{}
	for p := range to {
		if err := r.node.engine.Each(r.t.Context(), kafka.Span{Topic: topic, Partition: p, From: from[p], To: to[p]}, func(x *kgo.Record) error {
			for _, h := range x.Headers {
				if h.Key == "ce_subscription" {
					all[string(h.Value)]++
				}
			}
			return nil
		}); err != nil {
			r.t.Fatal(err)
		}
	}
	return all
}

func (r *bindingRig) ends() map[int32]int64 {
	r.t.Helper()
	adm, err := r.node.engine.Admin()
	if err != nil {
		r.t.Fatal(err)
	}
	defer adm.Close()
	topic := r.node.cfg.Topics().Deliveries()
	ends, err := kafka.CommittedEnds(r.t.Context(), adm, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	return maps.Clone(ends[topic])
}

// After a withdrawal is acknowledged nothing rests on the old state: not at a feed, a
// webhook, a lookup, in the stream or in a backfill. Each way of withdrawing, in turn,
// while all doors are busy.
func TestWithdrawalsBindAtEveryDoor(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance for some seconds")
	}
	r := newBindingRig(t)
	oslo, skatt, tromso := r.token(r.claims(osloNumber, "")), r.token(r.claims(skattNumber, "")), r.token(r.claims("940101808", ""))
	drift := r.token(r.claims("315555558", ""))
	citizen := r.citizen(r.flows[1].person)
	social, loan, kindergarten := r.flows[0], r.flows[1], r.flows[2]
	cases, consent, delegation := 0, "", broker.DelegationID("tromso-fagsystem")
	openCases := func() {
		cases++
		for _, sub := range []string{"oslo-sosialhjelp", "oslo-krok"} {
			r.do(200, oslo, "/subscriptions/"+sub+"/cases", fmt.Sprintf(`{"id":"sak-%d","subject":"%s"}`, cases, social.person))
		}
	}
	consents := func() {
		out, _ := r.do(200, citizen, "/me/consents", `{"consumer":"310149942","dataset":"inntekt","purpose":"boliglaan"}`)
		consent = string(out.Consent.ID)
	}
	// What lies there before a case is what backfill brings.
	for range 300 {
		r.one(social)
	}
	r.drain()
	openCases()
	consents()
	r.traffic()

	all := []*flowOf{social, loan, kindergarten}
	post := func(token, path, body string) func() { return func() { r.do(200, token, path, body) } }
	const why = `{"why":"torture"}`
	denying := policy.Embedded()
	denying.Modules = maps.Clone(denying.Modules)
	for name, text := range denying.Modules {
		denying.Modules[name] = strings.ReplaceAll(text, `cleared["provider_not_owner"] if {`, "cleared[\"provider_not_owner\"] if {\n\tinput.dataset.owner == \"nobody\"")
	}
	if denying.Digest() == policy.Embedded().Digest() {
		t.Fatal("the policy that denies is the one that permits")
	}
	activate := func(b policy.Bundle) func() {
		return func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := r.node.activatePolicy(ctx, "test", b)
			if err == nil {
				err = r.node.bind(ctx, r.node.control.Revision())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, w := range []struct {
		name          string
		hits          []*flowOf
		hooks         bool // what is sent is hit too
		take, restore func()
	}{
		{"a case that is ended", []*flowOf{social}, true, func() {
			for _, sub := range []string{"oslo-sosialhjelp", "oslo-krok"} {
				r.do(200, oslo, fmt.Sprintf("/subscriptions/%s/cases/sak-%d/end", sub, cases), "")
			}
		}, openCases},
		{"a case that is ended while its backfill is under way", []*flowOf{social}, true, func() {
			for range 2 {
				for _, sub := range []string{"oslo-sosialhjelp", "oslo-krok"} {
					r.do(200, oslo, fmt.Sprintf("/subscriptions/%s/cases/sak-%d/end", sub, cases), "")
				}
				if cases%2 == 0 {
					break
				}
				openCases()
			}
		}, openCases},
		{"a consent that is withdrawn", []*flowOf{loan}, false, func() { r.do(200, citizen, "/me/consents/"+consent+"/withdraw", "") }, consents},
		{"an agreement that is suspended", []*flowOf{loan}, false, post(skatt, "/agreements/testbanken-boliglaan/suspend", ""), post(drift, "/agreements/testbanken-boliglaan/resume", "")},
		{"a subscription that is suspended", []*flowOf{loan}, false, post(skatt, "/subscriptions/testbanken-boliglaan/suspend", ""), post(drift, "/subscriptions/testbanken-boliglaan/resume", "")},
		{"a delegation that is withdrawn", []*flowOf{kindergarten}, false, func() { r.do(200, tromso, "/delegations/"+string(delegation)+"/withdraw", "") }, func() {
			delegation += "-2"
			r.change(func(*registry.State) registry.Change {
				c, err := registry.Put(broker.Delegation{ID: delegation, From: "940101808", To: "313876144", Datasets: []broker.DatasetID{"inntekt"}, Valid: broker.Interval{From: time.Now().Add(-time.Hour)}})
				if err != nil {
					t.Fatal(err)
				}
				return c
			})
		}},
		{"a frozen mailbox", []*flowOf{loan}, false, post(drift, "/mailboxes/testbanken-boliglaan/freeze", why), post(drift, "/mailboxes/testbanken-boliglaan/lift", why)},
		{"a frozen organisation", []*flowOf{social}, true, post(drift, "/organisations/958935420/freeze", why), post(drift, "/organisations/958935420/lift", why)},
		{"a frozen supplier", []*flowOf{kindergarten}, false, post(drift, "/organisations/313876144/freeze", why), post(drift, "/organisations/313876144/lift", why)},
		{"a frozen dataset", all, true, post(skatt, "/datasets/inntekt/freeze", why), post(skatt, "/datasets/inntekt/lift", why)},
		{"a policy that is revoked", all, true, activate(denying), activate(policy.Embedded())},
	} {
		// All doors are open, and busy.
		wait := func(what string, ready func() bool) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for !ready() {
				select {
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
					t.Fatalf("%s: %s did not come", w.name, what)
				}
			}
		}
		opened := [2]int64{r.open[doorFeed].Load(), r.open[doorLookup].Load()}
		hooks := r.hooks.Load()
		wait("an open door", func() bool {
			return r.open[doorFeed].Load() > opened[0]+3 && r.open[doorLookup].Load() > opened[1]+3 && r.hooks.Load() > hooks
		})
		begun := time.Now()
		w.take()
		took := time.Since(begun)
		at, sent := r.ends(), r.hooks.Load()
		for _, f := range w.hits {
			f.acknowledged.Store(int64(n + 1))
		}
		shut := [2]int64{r.shut[doorFeed].Load(), r.shut[doorLookup].Load()}
		news := r.published.Load()
		wait("a shut door", func() bool {
			return r.shut[doorFeed].Load() > shut[0]+3 && r.shut[doorLookup].Load() > shut[1]+3 && r.published.Load() > news+30
		})
		r.drainBusy()
		if got := r.delivered(at, r.ends()); true {
			for _, f := range w.hits {
				if got[f.sub] > 0 {
					t.Errorf("%s: %d deliveries of %s were committed after it was acknowledged", w.name, got[f.sub], f.sub)
				}
			}
			if w.hooks && got["oslo-krok"] > 0 {
				t.Errorf("%s: %d deliveries of oslo-krok were committed after it was acknowledged", w.name, got["oslo-krok"])
			}
		}
		// One may have been on its way: a subject's deliveries are sent one after another.
		if more := r.hooks.Load() - sent; w.hooks && more > 1 {
			t.Errorf("%s: %d deliveries were sent after it was acknowledged", w.name, more)
		}
		for _, f := range w.hits {
			f.acknowledged.Store(0)
		}
		w.restore()
		t.Logf("%s: acknowledged after %v", w.name, took.Round(time.Millisecond))
	}
}

// drainBusy waits until all that was published by now is decided.
func (r *bindingRig) drainBusy() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	adm, err := r.node.engine.Admin()
	if err != nil {
		r.t.Fatal(err)
	}
	defer adm.Close()
	topic := r.node.cfg.Topics().Source("inntekt")
	ends, err := kafka.CommittedEnds(ctx, adm, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		offsets, err := adm.FetchOffsetsForTopics(ctx, r.node.cfg.Flow.Group, topic)
		if err != nil {
			r.t.Fatal(err)
		}
		behind := false
		for p, end := range ends[topic] {
			o, ok := offsets.Lookup(topic, p)
			behind = behind || end > 0 && (!ok || o.At < end)
		}
		if !behind {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			r.t.Fatal("records are not decided")
		}
	}
}
