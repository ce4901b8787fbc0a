package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable"
	"datafordeler/broker/web"
)

const standardYAML = regimeYAML + `---
kind: framework
id: standard
title: Standardvilkår
provider: "974761076"
dataset: barn
package: {id: sum, version: 1}
purpose: foreldrebetaling
bases: [barnelov]
cost: {model: per-record}
corrections: deliver
valid: {from: 2026-01-01}
eligible: [kommune]
assessments:
  - {side: disclosure, basis: barnelov, holds: true, note: Paragraf 3.}
  - {side: collection, basis: barnelov, holds: true, note: Paragraf 4.}
  - {side: confidentiality, basis: barnelov, holds: true, note: Paragraf 5.}
  - {side: compatibility, holds: true, note: Loven.}
mapping:
  - {field: /person, concept: "https://begrep.example/person"}
  - {field: /sum, concept: "https://begrep.example/sum"}
by: Juridisk seksjon
`

// A lawyer signs a truth table off while municipalities accede to what it says must not
// be permitted, at two instances on Apache Kafka. Whoever comes first in the log: no
// agreement is in force that was put there after the sign-off, and who was told yes has
// one. What fails is named, at both instances.
func TestTruthTablesOnKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs Apache Kafka and two instances")
	}
	const rounds = 4
	h := newHooked(t, 2*time.Minute)
	h.command("", "registry", "apply", "--actor", "test", "-f", h.file("standard.yaml", standardYAML))
	var doors []*apiRig
	for _, slot := range []string{"a", "b"} {
		door := *h.apiRig
		door.base = h.serve(slot).api
		doors = append(doors, &door)
	}
	lawyer, err := openNode(h.ctx, h.cfg, slog.New(slog.DiscardHandler), kafka.Attach, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lawyer.close)
	write := func(change func(*registry.State) registry.Change) {
		t.Helper()
		if _, err := lawyer.control.Append(h.ctx, func(st *registry.State) ([]registry.Event, error) {
			return st.Link(notBefore(st, time.Now()), "test", change(st))
		}); err != nil {
			t.Error(err)
		}
	}
	table := func(expect string) *broker.TruthTable {
		parsed, err := truthtable.Parse([]byte("situation,at,expect,reason\nkommunen spør,2026-10-15," + expect + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return &broker.TruthTable{ID: "barn", Title: "Foreldrebetaling", Dataset: "barn", CSV: string(parsed.Canonical())}
	}
	right, wrong := table("permit,"), table("deny,no_open_case")
	declare := func(v *broker.TruthTable) {
		t.Helper()
		c, err := registry.Put(*v)
		if err != nil {
			t.Fatal(err)
		}
		write(func(*registry.State) registry.Change { return c })
	}
	sign := func(v *broker.TruthTable) {
		write(func(*registry.State) registry.Change {
			return registry.ApproveTable(registry.Approval{ID: v.ID, Digest: v.Digest(), By: "Juridisk seksjon"})
		})
	}
	var on broker.Digest
	lawyer.control.View(func(st *registry.State) { on = st.FrameworkDigest(st.Framework("standard")) })

	var mu sync.Mutex
	yes := map[broker.OrgNumber]broker.Revision{}
	accede := func(door *apiRig, org broker.OrgNumber) (acceded bool) {
		code, _, text := door.call(h.ctx, door.token(door.claims(string(org), "")), http.MethodPost, "/frameworks/standard/accessions",
			fmt.Sprintf(`{"by":"Kommunedirektøren","agreement":"barn-%s","on":%q}`, org, on.String()), "Prefer", "respond-async")
		switch code {
		case http.StatusOK, http.StatusAccepted:
			var v web.ChangeView
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			yes[org] = v.Revision
			return true
		case http.StatusConflict:
			if !strings.Contains(text, "signed off by Juridisk seksjon") || !strings.Contains(text, "kommunen spør") || !strings.Contains(text, "want deny (no_open_case), got permit") {
				t.Errorf("what fails is not named: %s", text)
			}
		default:
			t.Errorf("%d %s", code, text)
		}
		return false
	}

	declare(right)
	sign(right)
	if !accede(doors[0], "940493021") {
		t.Error("what a signed-off table permits is refused")
	}
	towns := []broker.OrgNumber{"958935420", "964338531", "942110464", "964965226", "820852982", "921234554", "920125298", "940101808"}
	for i := range rounds {
		declare(wrong) // it counts when it is signed off, not before
		var race sync.WaitGroup
		start := make(chan struct{})
		for n, door := range doors {
			race.Go(func() {
				<-start
				accede(door, towns[2*i+n])
			})
		}
		race.Go(func() {
			<-start
			sign(wrong)
		})
		close(start)
		race.Wait()
		for n, door := range doors {
			if town := towns[2*i+n]; yes[town] == 0 && accede(door, town) {
				t.Errorf("round %d, door %d: what the table forbids was put in force after it was signed off", i, n)
			}
		}
		declare(right)
		sign(right)
		for n, door := range doors {
			if town := towns[2*i+n]; yes[town] == 0 && !accede(door, town) {
				t.Errorf("round %d, door %d: what the table permits again is refused", i, n)
			}
		}
	}

	// By the log, which is what all of them go by.
	var signed broker.Digest
	stand := map[broker.OrgNumber]broker.Revision{}
	lost := 0
	if _, err := lawyer.control.Latest(h.ctx); err != nil {
		t.Fatal(err)
	}
	if err := lawyer.control.Log(h.ctx, func(_ int64, e registry.Event, accepted bool) error {
		if !accepted {
			lost++
			return nil
		}
		switch e.Type {
		case registry.TruthTableApproved:
			var v registry.Approval
			if err := json.Unmarshal(e.Data, &v); err != nil {
				return err
			}
			signed = v.Digest
		case registry.FrameworkAcceded:
			var v broker.Accession
			if err := json.Unmarshal(e.Data, &v); err != nil {
				return err
			}
			if signed != right.Digest() {
				t.Errorf("revision %d: %s has an agreement in force that the table signed off forbids", e.Seq, v.Organisation)
			}
			stand[v.Organisation] = e.Seq
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(stand) != 2*rounds+1 {
		t.Errorf("%d agreements of %d", len(stand), 2*rounds+1)
	}
	for org, rev := range yes {
		if stand[org] != rev {
			t.Errorf("%s was told yes at revision %d, and its agreement came at %d", org, rev, stand[org])
		}
	}
	t.Logf("%d events lost to others", lost)
}
