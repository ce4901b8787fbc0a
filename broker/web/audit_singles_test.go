package web

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/audit"
	"datafordeler/broker/deliver"
	"datafordeler/broker/store"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

// single writes single decisions as the broker does, reads them back, and applies
// them. It returns the decisions.
func (o *office) single(t testing.TB, offset int64, h deliver.SinglesHeader, rows []deliver.Single, said func(int) []deliver.Decision) (all []broker.Decision) {
	t.Helper()
	h.Revision, h.Policy, h.Period = o.books.state.Revision(), "sha256:policy", "2026-11"
	h.Limits = deliver.Limits{RecordBytes: 1, Depth: 1, Window: 1, WindowMillis: 1, DeliveryBytes: 1}
	var s deliver.Singles
	s.Reset(h)
	for i := range rows {
		s.Add(rows[i], said(i))
	}
	for i, value := range s.Finish() {
		b := store.Batch{LogOffset: offset + int64(i), LogFrom: offset + int64(i)}
		head, err := deliver.DecodeSingles(value, func(d *broker.Decision) error {
			b.Decisions = append(b.Decisions, *d)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		b.Head = store.Head{Kind: head.Kind, TopicID: head.TopicID, Partition: head.Partition, Last: -1, Time: head.Time, Revision: head.Revision,
			Policy: head.Policy, Period: head.Period, Decisions: head.Decisions, Permits: head.Permits}
		if err := o.store.Apply(t.Context(), []store.Batch{b}, func(a broker.AgreementID, _ broker.Revision) (store.Parties, bool) {
			x := o.books.state.Agreement(a)
			return store.Parties{Consumer: x.Consumer, Provider: x.Provider, Supplier: x.Supplier}, true
		}); err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Decisions...)
	}
	return all
}

// What an auditor is told of decisions that lie scattered: of what kind each is and
// what that means, who asked, and what came of it; beside the stream's account.
func TestAuditOfSingles(t *testing.T) {
	o := openOffice(t, 3)
	terms := o.books.state.Terms("oslo-sosialhjelp")
	fields := o.books.state.Package(terms.Agreement.Package).Fields[:2]
	permit := []deliver.Decision{{Terms: terms, Outcome: &broker.Outcome{Permit: true, Bases: terms.Agreement.Bases}, Fields: fields}}
	found := []deliver.Decision{{Terms: terms, Outcome: &broker.Outcome{Permit: true, Bases: terms.Agreement.Bases}}}
	deny := []deliver.Decision{{Terms: terms, Outcome: &broker.Outcome{Reasons: []broker.Reason{"no_open_case"}, Bases: terms.Agreement.Bases}}}
	at := broker.Position{Dataset: terms.Dataset.ID, TopicID: [16]byte{1}, Offset: 2}
	nowhere := broker.Position{Dataset: terms.Dataset.ID, Offset: broker.Nowhere}
	who, event, request := pseudonymOf(o.person), broker.EventHash{2, 0, 1}, broker.Digest{0xaa, 1}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	fixed := func(said ...[]deliver.Decision) func(int) []deliver.Decision {
		return func(i int) []deliver.Decision { return said[i] }
	}
	back := o.single(t, 2, deliver.SinglesHeader{Kind: broker.BackfillDecision, TopicID: at.TopicID, Time: noon},
		[]deliver.Single{{Position: at, Event: event, Subject: who}}, fixed(permit))
	asked := o.single(t, 3, deliver.SinglesHeader{Kind: broker.LookupDecision, Time: noon.Add(time.Minute)}, []deliver.Single{
		{Position: at, Event: event, Subject: who, Request: request},
		{Position: nowhere, Event: broker.EventHash{7}, Subject: who, Request: request},
		{Position: nowhere, Subject: who, Request: broker.Digest{0xaa, 2}},
		{Position: nowhere, Subject: who, Request: broker.Digest{0xaa, 3}},
	}, fixed(permit, permit, found, deny))
	var door []broker.Decision
	for n := range int64(3) {
		door = append(door, o.single(t, 4+n, deliver.SinglesHeader{Kind: broker.DoorDecision, Time: noon.Add(time.Duration(n+1) * time.Hour)},
			[]deliver.Single{{Position: at, Event: event, Subject: who}}, fixed(deny))...)
	}

	var out bytes.Buffer
	show := func(name, body string) { fmt.Fprintf(&out, "=== %s\n%s\n", name, strings.TrimRight(body, "\n")) }
	for _, kind := range []string{"backfill", "lookup", "door"} {
		show("search, kind="+kind, o.get("/audit/decisions?order=oldest&format=csv&kind="+kind, "digdir").Body.String())
	}
	show("search by request", o.get("/audit/decisions?request="+request.String(), "digdir").Body.String())
	for _, d := range []struct {
		name string
		id   broker.DecisionID
	}{{"backfill", back[0].ID}, {"lookup", asked[0].ID}, {"lookup at the provider", asked[1].ID}, {"lookup that found nothing", asked[2].ID}, {"refused lookup", asked[3].ID}, {"door", door[0].ID}} {
		for _, lang := range audit.Languages {
			x := decode[struct{ Text string }](t, o.get("/audit/decisions/"+d.id.String()+"?lang="+lang, "oslo"), 200)
			lines := strings.SplitN(x.Text, "\n", 6)
			show(d.name+", "+lang, strings.Join(lines[:min(5, len(lines))], "\n"))
		}
	}
	show("coverage", o.get("/audit/coverage?format=csv&dataset="+string(terms.Dataset.ID), "digdir").Body.String())
	show("coverage in JSON", o.get("/audit/coverage?dataset="+string(terms.Dataset.ID), "digdir").Body.String())
	show("fields", o.get("/audit/fields?format=csv&agreement="+string(terms.Agreement.ID), "digdir").Body.String())
	show("fields in JSON", o.get("/audit/fields?agreement="+string(terms.Agreement.ID), "digdir").Body.String())
	show("subject", o.send("POST", "/audit/subject", "digdir", fmt.Sprintf(`{"kind":"person","identifier":%q,"reason":"r","from":"2026-11-22T12:00:00Z"}`, o.person), "Accept", "text/csv").Body.String())

	path := filepath.Join("testdata", "audit_singles.txt")
	if *updateGolden {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%s differs; -update writes it anew:\n%s", path, out.Bytes())
	}
	if bytes.Contains(out.Bytes(), []byte(o.person)) {
		t.Error("a person's number stands in an answer")
	}
}
