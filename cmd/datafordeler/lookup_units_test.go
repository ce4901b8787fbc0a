package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// inspections are what an inspectorate found on firms; a municipality has them by case,
// and a case follows whoever took a firm over.
const inspections = `
kind: dataset
id: tilsyn
title: Tilsyn
owner: "974761076"
purpose: tilsyn
accessRights: NON_PUBLIC
current: "1"
schemas:
  - version: "1"
    document:
      $schema: https://json-schema.org/draft/2020-12/schema
      type: object
      required: [org]
      properties: {org: {type: string}, found: {type: string}}
subject: {kind: organisation, pointer: /org, follow: true}
attributes: []
concepts: {}
---
kind: basis
id: tilsynsloven
type: lov
title: Tilsyn i sak
eli: https://lovdata.no/eli/lov/2009/12/18/131
paragraph: § 1
gdpr: A6-1-e
sides: [disclosure, collection, confidentiality]
datasets: [tilsyn]
purposes: [samordnet-tilsyn]
recipients: ["958935420"]
requiresCase: true
valid: {from: 2010-01-01}
assessed: {by: juridisk, at: 2026-01-01, review: 2036-01-01}
---
kind: package
id: tilsyn
version: 1
dataset: tilsyn
title: Funn
fields: [/org, /found]
assessment: {by: juridisk, at: 2026-01-01, review: 2036-01-01}
---
kind: agreement
id: oslo-tilsyn
provider: "974761076"
consumer: "958935420"
dataset: tilsyn
package: {id: tilsyn, version: 1}
purpose: samordnet-tilsyn
bases: [tilsynsloven]
responsibility: {providerController: "974761076", consumerController: "958935420"}
cost: {model: free}
corrections: deliver
status: active
valid: {from: 2026-01-01, to: 2036-01-01}
---
kind: mailbox
id: oslo-tilsyn
organisation: "958935420"
client: fagsystem
channel: feed
---
kind: subscription
id: oslo-tilsyn
agreement: oslo-tilsyn
mailbox: oslo-tilsyn
lookup: true
scope: {kind: listed}
`

// Who asks by the number that it has in its case gets what there is on whoever took over,
// and what there was as long as that is all; a case that ends by the new number is over.
func TestLookUpByTheOldNumber(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	const oslo, firm, successor = "958935420", "311131133", "311031031"
	r := newLookupRig(t, func(n *node) {
		file := filepath.Join(t.TempDir(), "tilsyn.yaml")
		if err := os.WriteFile(file, []byte(inspections), 0o600); err != nil {
			t.Fatal(err)
		}
		docs, err := registry.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.apply(t.Context(), docs, "test", false); err != nil {
			t.Fatal(err)
		}
		if err := n.ensureTopics(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	publish := func(org, found string) {
		t.Helper()
		event := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"urn:tilsyn","type":"funn","time":"2026-11-20T10:00:00Z","datacontenttype":"application/json","data":{"org":%q,"found":%q}}`, found, org, found)
		if err := r.node.engine.Write(t.Context(), kafka.Raw{Topic: r.node.cfg.Topics().Source("tilsyn"), Key: []byte(org), Value: []byte(event),
			Headers: map[string]string{"content-type": "application/cloudevents+json"}}); err != nil {
			t.Fatal(err)
		}
		r.drain()
	}
	asks := func(org, outcome, found string) {
		t.Helper()
		code, out, text := r.lookUp(oslo, "", `{"subject":"`+org+`","subscription":"oslo-tilsyn"}`)
		if code != http.StatusOK || len(out.Answers) != 1 || out.Answers[0].Outcome != outcome ||
			found != "" && (len(out.Answers[0].Records) != 1 || !strings.Contains(string(out.Answers[0].Records[0]), `"found":"`+found+`"`)) {
			t.Fatalf("of %s, want %s %s: %d %s", org, outcome, found, code, text)
		}
	}
	key := func(org string) broker.SubjectKey { return r.node.ring.Subject(broker.OrganisationSubject, org) }
	r.change(func(*registry.State) registry.Change {
		return registry.OpenCase(broker.Case{ID: "sak", Subscription: "oslo-tilsyn", Subject: key(firm), Open: broker.Interval{From: time.Now().Add(-time.Hour)}})
	})
	publish(firm, "stoey")
	asks(firm, "found", "stoey")
	asks(successor, "refused", "")

	// By its keyed hash alone, and then by the register's word that it was merged.
	r.change(func(*registry.State) registry.Change {
		return registry.SucceedSubject(registry.SubjectSuccession{Subject: key(firm), Successor: key(successor)})
	})
	asks(successor, "nothing", "")
	asks(firm, "found", "stoey") // there is nothing on whoever took over
	publish(successor, "stoev")
	asks(firm, "found", "stoev")
	asks(successor, "found", "stoev")
	r.change(func(*registry.State) registry.Change {
		return registry.EndUnit(registry.UnitEnd{Organisation: firm, On: time.Now(), Successor: successor})
	})
	asks(firm, "found", "stoev")

	r.node.control.View(func(st *registry.State) {
		s := subjects{state: st, ring: r.node.ring, now: time.Now()}
		if changes, err := s.cases(st.Terms("oslo-tilsyn"), []string{successor, firm}, false); err != nil || len(changes) != 2 {
			t.Errorf("%v %v", changes, err)
		}
	})
	// The command line's own cases, by their names: one on the old number is ended by the new.
	r.change(func(st *registry.State) registry.Change { return registry.EndCase("oslo-tilsyn", "sak", time.Now()) })
	asks(firm, "refused", "")
	cases := func(end bool, org string) (changes []registry.Change) {
		r.node.control.View(func(st *registry.State) {
			var err error
			s := subjects{state: st, ring: r.node.ring, now: time.Now(), valid: broker.Interval{From: time.Now().Add(-time.Minute)}}
			if changes, err = s.cases(st.Terms("oslo-tilsyn"), []string{org}, end); err != nil {
				t.Fatal(err)
			}
		})
		for _, c := range changes {
			r.change(func(*registry.State) registry.Change { return c })
		}
		return changes
	}
	cases(false, firm)
	asks(firm, "found", "stoev")
	if ended := cases(true, successor); len(ended) != 1 {
		t.Fatalf("%v", ended)
	}
	asks(firm, "refused", "")
	asks(successor, "refused", "")
}
