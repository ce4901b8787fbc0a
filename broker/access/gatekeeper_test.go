package access

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// world is a registry in a test's hands.
type world struct {
	mu    sync.RWMutex
	state *registry.State
}

func (w *world) View(f func(*registry.State)) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	f(w.state)
}

func (w *world) fold(t testing.TB, events ...registry.Event) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		if ok, err := w.state.Fold(e); !ok || err != nil {
			t.Fatalf("%s: %v, %v", e.Type, ok, err)
		}
	}
}

// change applies changes at a time of the test's choice.
func (w *world) change(t testing.TB, at time.Time, changes ...registry.Change) {
	t.Helper()
	events, err := w.state.Link(at, "test", changes...)
	if err != nil {
		t.Fatal(err)
	}
	w.fold(t, events...)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{state: registry.New()}
	path := filepath.Join(t.TempDir(), "registry.yaml")
	if err := os.WriteFile(path, []byte(declared), 0o600); err != nil {
		t.Fatal(err)
	}
	docs, err := registry.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := registry.NewPlan(w.state, docs, "test", t0.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w.fold(t, plan.Events...)
	return w
}

func newGate(t testing.TB, edit func(*Options)) *Gatekeeper {
	t.Helper()
	w := newWorld(t)
	o := Options{View: w.View, Checker: newChecker(t), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: func() time.Time { return t0 }}
	if edit != nil {
		edit(&o)
	}
	cfg := Defaults()
	cfg.Issuers = []Issuer{{Kind: Maskinporten, URL: "https://maskinporten.example/"}}
	g, err := New(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// counted is the sum of a collector's counters.
func counted(t testing.TB, c prometheus.Collector) (sum float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

// Oslo receives by itself; Bergen by its supplier, who also receives for Oslo, of
// another dataset. Stranger has nothing.
const declared = `
{kind: organisation, number: "974761076", name: Skatteetaten}
---
{kind: organisation, number: "958935420", name: Oslo, types: [kommune]}
---
{kind: organisation, number: "964338531", name: Bergen, types: [kommune]}
---
{kind: organisation, number: "313876144", name: Leverandøren}
---
{kind: organisation, number: "310149942", name: Fremmed}
---
{kind: organisation, number: "991825827", name: Digdir}
---
{kind: organisation, number: "315555558", name: Drift}
---
{kind: dataset, id: inntekt, title: Inntekt, owner: "974761076", purpose: skatt, accessRights: NON_PUBLIC, current: "1",
 schemas: [{version: "1", document: {type: object, properties: {p: {type: string}}}}], subject: {kind: person, pointer: /p}, attributes: [], concepts: {}}
---
{kind: dataset, id: eiendom, title: Eiendom, owner: "974761076", purpose: skatt, accessRights: NON_PUBLIC, current: "1",
 schemas: [{version: "1", document: {type: object, properties: {p: {type: string}}}}], subject: {kind: person, pointer: /p}, attributes: [], concepts: {}}
---
{kind: package, id: liten, version: 1, dataset: inntekt, title: Liten, fields: [/p], filter: [], assessment: {by: juridisk, at: 2026-01-01, review: 2030-01-01}}
---
{kind: package, id: tomt, version: 1, dataset: eiendom, title: Tomt, fields: [/p], filter: [], assessment: {by: juridisk, at: 2026-01-01, review: 2030-01-01}}
---
{kind: agreement, id: oslo, provider: "974761076", consumer: "958935420", dataset: inntekt, package: {id: liten, version: 1}, purpose: sosialhjelp, bases: [],
 responsibility: {}, cost: {}, corrections: deliver, status: active, valid: {from: 2026-01-01}}
---
{kind: agreement, id: bergen, provider: "974761076", consumer: "964338531", supplier: "313876144", dataset: inntekt, package: {id: liten, version: 1}, purpose: sosialhjelp, bases: [],
 responsibility: {}, cost: {}, corrections: deliver, status: active, valid: {from: 2026-01-01}}
---
{kind: agreement, id: oslo-eiendom, provider: "974761076", consumer: "958935420", supplier: "313876144", dataset: eiendom, package: {id: tomt, version: 1}, purpose: eiendomsskatt, bases: [],
 responsibility: {}, cost: {}, corrections: deliver, status: active, valid: {from: 2026-01-01}}
---
{kind: mailbox, id: oslo, organisation: "958935420", client: fagsystem, channel: feed}
---
{kind: mailbox, id: bergen, organisation: "313876144", client: fagsystem, channel: feed}
---
{kind: mailbox, id: oslo-eiendom, organisation: "313876144", client: fagsystem, channel: feed}
---
{kind: mailbox, id: tom, organisation: "310149942", client: fagsystem, channel: feed}
---
{kind: subscription, id: oslo, agreement: oslo, mailbox: oslo, scope: {kind: listed}}
---
{kind: subscription, id: bergen, agreement: bergen, mailbox: bergen, scope: {kind: listed}}
---
{kind: subscription, id: oslo-eiendom, agreement: oslo-eiendom, mailbox: oslo-eiendom, scope: {kind: listed}}
---
{kind: delegation, id: bergen, from: "964338531", to: "313876144", datasets: [inntekt], valid: {from: 2026-01-01, to: 2027-01-01}}
---
{kind: delegation, id: oslo, from: "958935420", to: "313876144", datasets: [eiendom], valid: {from: 2026-01-01}}
---
{kind: role, id: revisjon, organisation: "991825827", role: auditor, valid: {from: 2026-01-01, to: 2027-01-01}}
---
{kind: role, id: drift, organisation: "315555558", role: operator, valid: {from: 2026-01-01}}
`

var allScopes = []string{"datafordeler:publish", "datafordeler:receive", "datafordeler:lookup", "datafordeler:manage", "datafordeler:audit", "datafordeler:operate"}

func called(n, by broker.OrgNumber) Caller {
	return Caller{Organisation: n, Supplier: by, Client: "c", Scopes: allScopes}
}

// Each caller and action, on what is its own, another's, nobody's, or unsaid.
func TestMatrix(t *testing.T) {
	g := newGate(t, nil)
	callers := map[string]Caller{
		"provider": called(skatt, ""), "oslo": called(oslo, ""), "bergen": called(bergen, ""), "supplier": called(supplier, ""),
		"bergen/supplier": called(bergen, supplier), "oslo/supplier": called(oslo, supplier),
		"provider/supplier": called(skatt, supplier), "oslo/stranger": called(oslo, stranger), "stranger/supplier": called(stranger, supplier),
		"auditor": called(digdir, ""), "operator": called(operator, ""), "auditor/supplier": called(digdir, supplier), "operator/supplier": called(operator, supplier),
		"stranger": called(stranger, ""), "unregistered": called("317777779", ""), "citizen": {Person: NewPerson(synthetic), Client: "c"},
	}
	everybody := []string{"provider", "oslo", "bergen", "supplier", "bergen/supplier", "oslo/supplier", "provider/supplier", "oslo/stranger",
		"stranger/supplier", "auditor", "operator", "auditor/supplier", "operator/supplier", "stranger", "unregistered"}
	for _, c := range []struct {
		action Action
		on     Resource
		who    []string
	}{
		{ReadSelf, Resource{}, append(everybody, "citizen")},
		{ReadCatalogue, Resource{}, everybody},

		{PublishRecords, Resource{Dataset: "inntekt"}, []string{"provider"}},
		{PublishRecords, Resource{Dataset: "none"}, nil},
		{PublishRecords, Resource{}, nil},
		{PublishRecords, Resource{Dataset: "inntekt", Mailbox: "oslo"}, nil},
		{ReadRejections, Resource{Dataset: "inntekt"}, []string{"provider"}},
		{ReadRejections, Resource{Dataset: "none"}, nil},

		{Receive, Resource{Mailbox: "oslo"}, []string{"oslo"}},
		{Receive, Resource{Mailbox: "bergen"}, []string{"supplier", "bergen/supplier"}},
		{Receive, Resource{Mailbox: "oslo-eiendom"}, []string{"supplier", "oslo/supplier"}},
		{Receive, Resource{Mailbox: "tom"}, []string{"stranger"}},
		{Receive, Resource{Mailbox: "none"}, nil},
		{Receive, Resource{}, nil},
		{Receive, Resource{Mailbox: "oslo", Dataset: "inntekt"}, nil},

		{LookUp, Resource{Agreement: "oslo"}, []string{"oslo"}},
		{LookUp, Resource{Agreement: "bergen"}, []string{"bergen", "bergen/supplier"}},
		{LookUp, Resource{Agreement: "oslo-eiendom"}, []string{"oslo", "oslo/supplier"}},
		{LookUp, Resource{Subscription: "bergen"}, []string{"bergen", "bergen/supplier"}},
		{LookUp, Resource{Subscription: "bergen", Agreement: "bergen"}, []string{"bergen", "bergen/supplier"}},
		{LookUp, Resource{Subscription: "bergen", Agreement: "oslo"}, nil},
		{LookUp, Resource{Agreement: "oslo", Mailbox: "bergen"}, nil},
		{LookUp, Resource{Agreement: "none"}, nil},
		{LookUp, Resource{Subscription: "none"}, nil},
		{LookUp, Resource{}, []string{"oslo", "oslo/supplier", "bergen", "bergen/supplier"}},

		{AuditOwn, Resource{}, []string{"provider", "oslo", "bergen"}},
		{AuditOwn, Resource{Dataset: "inntekt"}, []string{"provider", "oslo", "bergen"}},
		{AuditOwn, Resource{Dataset: "eiendom"}, []string{"provider", "oslo"}},
		{AuditOwn, Resource{Dataset: "none"}, nil},
		{AuditOwn, Resource{Agreement: "oslo"}, []string{"provider", "oslo"}},
		{AuditOwn, Resource{Agreement: "bergen"}, []string{"provider", "bergen", "bergen/supplier"}},
		{AuditOwn, Resource{Agreement: "bergen", Dataset: "inntekt"}, []string{"provider", "bergen", "bergen/supplier"}},
		{AuditOwn, Resource{Agreement: "bergen", Dataset: "eiendom"}, nil},
		{AuditOwn, Resource{Subscription: "oslo-eiendom"}, []string{"provider", "oslo", "oslo/supplier"}},
		{AuditOwn, Resource{Agreement: "none"}, nil},
		{AuditOwn, Resource{Mailbox: "oslo"}, []string{"oslo"}},
		{AuditOwn, Resource{Mailbox: "bergen"}, []string{"supplier", "bergen", "bergen/supplier"}},
		{AuditOwn, Resource{Mailbox: "none"}, nil},
		{AuditOwn, Resource{Mailbox: "bergen", Agreement: "oslo"}, nil},
		{AuditOwn, Resource{Mailbox: "bergen", Agreement: "bergen"}, []string{"bergen", "bergen/supplier"}},
		{AuditOwn, Resource{Mailbox: "bergen", Dataset: "inntekt"}, []string{"bergen", "bergen/supplier"}},
		{AuditOwn, Resource{Mailbox: "oslo", Subscription: "oslo-eiendom"}, []string{"oslo"}},

		{ManageCases, Resource{Subscription: "oslo"}, []string{"oslo"}},
		{ManageCases, Resource{Subscription: "bergen"}, []string{"bergen", "bergen/supplier"}},
		{ManageCases, Resource{Subscription: "none"}, nil},
		{Suspend, Resource{Subscription: "bergen"}, []string{"provider", "bergen"}},
		{Suspend, Resource{Agreement: "oslo-eiendom"}, []string{"provider", "oslo"}},
		{Suspend, Resource{Agreement: "none"}, nil},
		{Agree, Resource{Agreement: "oslo-eiendom"}, []string{"provider", "oslo"}},
		{Agree, Resource{Agreement: "none"}, nil},
		{Offer, Resource{}, []string{"provider", "oslo", "bergen", "supplier", "auditor", "operator", "stranger", "unregistered"}},
		{BringConsents, Resource{}, []string{"provider", "oslo", "bergen", "supplier", "auditor", "operator", "stranger", "unregistered"}},
		{StopMailbox, Resource{Mailbox: "oslo"}, []string{"oslo"}},
		{StopMailbox, Resource{Mailbox: "bergen"}, []string{"supplier", "bergen/supplier"}},
		{StopMailbox, Resource{Mailbox: "none"}, nil},
		{FreezeDataset, Resource{Dataset: "inntekt"}, []string{"provider"}},
		{FreezeDataset, Resource{Dataset: "none"}, nil},
		{AnswerDeviation, Resource{Dataset: "inntekt"}, []string{"provider"}},
		{AnswerDeviation, Resource{Dataset: "none"}, nil},
		{ReportDeviation, Resource{Subscription: "oslo"}, []string{"oslo"}},
		{ReportDeviation, Resource{Subscription: "bergen"}, []string{"bergen", "bergen/supplier"}},
		{ReportDeviation, Resource{Subscription: "none"}, nil},
		{GiveReceipt, Resource{Agreement: "oslo"}, []string{"oslo"}},
		{GiveReceipt, Resource{Agreement: "bergen"}, []string{"bergen", "bergen/supplier"}},
		{GiveReceipt, Resource{Agreement: "none"}, nil},
		{EndDelegation, Resource{Delegation: "none"}, nil},
		{EndDelegation, Resource{}, nil},
		{OwnConsents, Resource{}, []string{"citizen"}},
		{OwnDisclosures, Resource{}, []string{"citizen"}},
		{Audit, Resource{}, []string{"auditor"}},
		{AuditSubject, Resource{}, []string{"auditor"}},
		{Operate, Resource{}, []string{"operator"}},
		{Operate, Resource{Mailbox: "oslo"}, []string{"operator"}},
	} {
		may := map[string]bool{}
		for _, w := range c.who {
			may[w] = true
		}
		for name, caller := range callers {
			err := g.Allow(t.Context(), caller, c.action, c.on)
			var refusal *Refusal
			if may[name] != (err == nil) || err != nil && (!errors.As(err, &refusal) || refusal.Action != c.action || refusal.Why == "") {
				t.Errorf("%s, %s on %+v: %v", name, c.action, c.on, err)
			}
		}
	}
}

// Another's and what there is not read the same.
func TestRefusalsTellNothing(t *testing.T) {
	g := newGate(t, nil)
	for _, c := range []struct {
		action        Action
		others, there Resource
	}{
		{PublishRecords, Resource{Dataset: "inntekt"}, Resource{Dataset: "none"}},
		{Receive, Resource{Mailbox: "bergen"}, Resource{Mailbox: "none"}},
		{LookUp, Resource{Agreement: "bergen"}, Resource{Agreement: "none"}},
		{AuditOwn, Resource{Subscription: "bergen"}, Resource{Subscription: "none"}},
	} {
		for _, caller := range []Caller{called(oslo, ""), called(oslo, supplier), called(stranger, supplier)} {
			a, b := g.Allow(t.Context(), caller, c.action, c.others), g.Allow(t.Context(), caller, c.action, c.there)
			if a == nil || b == nil || a.Error() != b.Error() {
				t.Errorf("%s: %v, and %v", c.action, a, b)
			}
		}
	}
}

// Each scope opens its own doors, and no other.
func TestScopes(t *testing.T) {
	g := newGate(t, nil)
	for _, c := range []struct {
		action Action
		who    broker.OrgNumber
		on     Resource
		scope  string
	}{
		{PublishRecords, skatt, Resource{Dataset: "inntekt"}, "datafordeler:publish"},
		{ReadRejections, skatt, Resource{Dataset: "inntekt"}, "datafordeler:publish"},
		{Receive, oslo, Resource{Mailbox: "oslo"}, "datafordeler:receive"},
		{LookUp, oslo, Resource{Agreement: "oslo"}, "datafordeler:lookup"},
		{AuditOwn, oslo, Resource{}, "datafordeler:audit"},
		{Audit, digdir, Resource{}, "datafordeler:audit"},
		{AuditSubject, digdir, Resource{}, "datafordeler:audit"},
		{ManageCases, oslo, Resource{Subscription: "oslo"}, "datafordeler:manage"},
		{Suspend, skatt, Resource{Agreement: "oslo"}, "datafordeler:manage"},
		{StopMailbox, oslo, Resource{Mailbox: "oslo"}, "datafordeler:manage"},
		{FreezeDataset, skatt, Resource{Dataset: "inntekt"}, "datafordeler:manage"},
		{Operate, operator, Resource{}, "datafordeler:operate"},
	} {
		for _, scope := range append(allScopes, "datafordeler", "datafordeler:", "other:receive") {
			caller := Caller{Organisation: c.who, Client: "c", Scopes: []string{scope}}
			if err := g.Allow(t.Context(), caller, c.action, c.on); (err == nil) != (scope == c.scope) {
				t.Errorf("%s by %s: %v", c.action, scope, err)
			}
		}
	}
}

// What is given ends: by the clock, by withdrawal, and at once.
func TestGivenForATime(t *testing.T) {
	w := newWorld(t)
	now := t0
	g := newGate(t, func(o *Options) { o.View, o.Clock = w.View, func() time.Time { return now } })
	may := func(want bool, c Caller, a Action, r Resource) {
		t.Helper()
		if err := g.Allow(context.Background(), c, a, r); (err == nil) != want {
			t.Errorf("at %s, %s on %+v: %v", now.Format(time.RFC3339), a, r, err)
		}
	}
	acting := []Resource{{Mailbox: "bergen"}}
	check := func(want bool) {
		t.Helper()
		for _, r := range acting {
			may(want, called(bergen, supplier), Receive, r)
			may(want, called(supplier, ""), Receive, r)
		}
		may(want, called(bergen, supplier), LookUp, Resource{Agreement: "bergen"})
		may(want, called(bergen, supplier), AuditOwn, Resource{Agreement: "bergen"})
	}
	check(true)
	may(true, called(digdir, ""), Audit, Resource{})
	now = time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC) // midnight in Oslo
	check(false)
	may(false, called(digdir, ""), Audit, Resource{})
	may(true, called(operator, ""), Operate, Resource{})
	now = time.Date(2025, 12, 31, 22, 59, 59, 0, time.UTC)
	// The registry has events of a later time than this clock: it counts.
	check(true)
	now = t0
	check(true)
	w.change(t, t0, registry.WithdrawDelegation("bergen", t0.Add(-time.Second)))
	check(false)
	may(true, called(oslo, supplier), Receive, Resource{Mailbox: "oslo-eiendom"})
	// Put again under another name, for another dataset only, it does not count.
	put := func(d broker.Delegation) {
		t.Helper()
		c, err := registry.Put(d)
		if err != nil {
			t.Fatal(err)
		}
		w.change(t, t0, c)
	}
	put(broker.Delegation{ID: "bergen-2", From: bergen, To: supplier, Datasets: []broker.DatasetID{"eiendom"}})
	check(false)
	put(broker.Delegation{ID: "bergen-3", From: bergen, To: supplier, Datasets: []broker.DatasetID{"inntekt"}, Valid: broker.Interval{From: t0.Add(time.Hour)}})
	check(false)
	now = t0.Add(time.Hour)
	check(true)
	// A clock that is behind a withdrawal does not bring it back.
	w.change(t, t0.Add(2*time.Hour), registry.WithdrawDelegation("bergen-3", t0.Add(90*time.Minute)))
	check(false)
	role, err := registry.Put(broker.Role{ID: "drift", Organisation: operator, Role: broker.Operator, Valid: broker.Interval{To: t0}})
	if err != nil {
		t.Fatal(err)
	}
	w.change(t, t0, role)
	may(false, called(operator, ""), Operate, Resource{})
}

// What no endpoint should ask is an error, not a refusal: nobody comes in.
func TestMistakes(t *testing.T) {
	g := newGate(t, nil)
	for _, c := range []struct {
		caller Caller
		action Action
	}{
		{Caller{}, ReadSelf}, {Caller{Client: "c", Scopes: allScopes}, ReadCatalogue}, {called(oslo, ""), "records.burn"}, {called(oslo, ""), ""},
	} {
		var refusal *Refusal
		if err := g.Allow(t.Context(), c.caller, c.action, Resource{}); err == nil || errors.As(err, &refusal) {
			t.Errorf("%+v, %q: %v", c.caller, c.action, err)
		}
	}
	cfg := Defaults()
	if _, err := New(cfg, Options{}); err == nil {
		t.Error("a guard with no issuer")
	}
	cfg.Issuers = []Issuer{{Kind: Maskinporten, URL: "https://maskinporten.example/"}}
	if _, err := New(cfg, Options{}); err == nil {
		t.Error("a guard with no registry")
	}
}

// Nobody acts for an organisation that is no more, nor does it for another; and it does
// again when that was a mistake.
func TestWhoIsNoMore(t *testing.T) {
	w := newWorld(t)
	g := newGate(t, func(o *Options) { o.View = w.View })
	on := Resource{Mailbox: "bergen"}
	allowed := func(want bool) {
		t.Helper()
		for _, c := range []Caller{called(supplier, ""), called(bergen, supplier)} {
			if err := g.Allow(t.Context(), c, Receive, on); (err == nil) != want {
				t.Errorf("%s by %q: %v", c.Organisation, c.Supplier, err)
			}
			if err := g.Allow(t.Context(), c, ReadSelf, Resource{}); err != nil {
				t.Errorf("it may not even know who it is: %v", err)
			}
		}
	}
	allowed(true)
	w.change(t, t0, registry.EndUnit(registry.UnitEnd{Organisation: supplier, On: t0}))
	allowed(false)
	err := g.Allow(t.Context(), called(supplier, ""), Receive, on)
	if refused, ok := errors.AsType[*Refusal](err); !ok || !strings.Contains(refused.Why, "is no more") {
		t.Errorf("%v", err)
	}
	if err := g.Allow(t.Context(), called(oslo, ""), Receive, Resource{Mailbox: "oslo"}); err != nil {
		t.Errorf("another: %v", err)
	}
	w.change(t, t0, registry.RestoreUnit(supplier))
	allowed(true)
}
