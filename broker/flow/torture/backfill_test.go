package torture_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/providers/synthetic"
)

const fromStart = `kind: subscription
id: ssb-fra-start
agreement: ssb-boligstatistikk
mailbox: ssb-boligstatistikk
scope: {kind: all}
start: 2020-01-01T00:00:00Z
`

// Cases are opened, consents given and a subscription with a start declared while
// records flow and instances are killed. Each person has one record in a dataset. So
// however these come to lie before or after one another, who has a case or consent is
// delivered once, by the stream or by backfill, and the new subscription has all.
func TestTortureBackfill(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	factor, _ := longer(t)
	people := 3_000 * factor
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	var items []item
	income, property := map[broker.EventHash]int{}, map[broker.EventHash]bool{}
	for i := range people {
		if e := g.Income(nil, i); e.ID != "" {
			items = append(items, item{"inntekt", e, false})
			income[r.ring.Event("inntekt", e.Source, e.ID)] = i
		}
		if e := g.Property(nil, i); e.ID != "" {
			items = append(items, item{"eiendomsskatt", e, false})
			property[r.ring.Event("eiendomsskatt", e.Source, e.ID)] = true
		}
	}
	running := []*instance{r.serve(0, r.config), r.serve(1, r.config)}
	p := r.publisher()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	wantsCase := func(i int) bool { has, ended := hasCase(i, g.Person(i)); return has && !ended }
	const rounds = 4
	declared := filepath.Join(r.dir, "start.yaml")
	if err := os.WriteFile(declared, []byte(fromStart), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range rounds {
		sent := make(chan error, 1)
		go func() { sent <- p.send(ctx, items[len(items)*n/rounds:len(items)*(n+1)/rounds]) }()
		running[0].busy(40 * time.Second)
		// Some of everybody: those whose record has come, and those whose is to come.
		open, _ := ids(g, people, func(i int, _ synthetic.Person) bool { return i/24%rounds == n && wantsCase(i) })
		r.run(open, "registry", "case", "open", "--subscription", "oslo-sosialhjelp", "--from", "2025-01-01", "--actor", "torture")
		given, _ := ids(g, people, func(i int, _ synthetic.Person) bool { return i/8%rounds == n && consents(i) })
		r.run(given, r.consent("give", "--from", "2025-01-01")...)
		if n == 1 {
			r.run("", "registry", "apply", "-f", declared, "--actor", "torture")
		}
		chaos(t, rnd, r, running, []act{killAndRestart, killAndWait, leave}[rnd.IntN(3)])
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	r.drain(time.Minute)
	if !until(time.Minute, func() bool {
		out, err := r.try("", "backfill")
		return err == nil && strings.Contains(out, "nothing is left")
	}) {
		t.Fatalf("backfill does not end: %s\n%s\n%s", r.run("", "backfill", "--all"), running[0].tail(), running[1].tail())
	}
	for _, i := range running {
		i.term()
	}

	type due struct {
		sub   broker.SubscriptionID
		event broker.EventHash
	}
	permits := map[string]int{} // by decision
	got := map[due]int{}
	decided := map[due]int{}
	backfilled := 0
	note := func(d *broker.Decision) error {
		k := due{d.Subscription, d.Event}
		decided[k]++
		if d.Kind == broker.BackfillDecision {
			backfilled++
		}
		if d.Outcome.Permit {
			got[k]++
			permits[d.ID.String()]++
		}
		return nil
	}
	for n := range sourcePartitions {
		for _, m := range r.kcat(r.topics.Decisions(), n) {
			var err error
			if deliver.IsSingles(m.value) {
				_, err = deliver.DecodeSingles(m.value, note)
			} else {
				_, err = deliver.Decode(m.value, note)
			}
			if err != nil {
				t.Fatalf("decisions/%d offset %d: %v", n, m.offset, err)
			}
		}
	}
	delivered := 0
	for n := range deliveryBuckets {
		for _, m := range r.kcat(r.topics.Deliveries(), n) {
			permits[m.headers["ce_decision"]]--
			delivered++
		}
	}
	wrong := 0
	fault := func(format string, args ...any) {
		if wrong++; wrong <= 20 {
			t.Errorf(format, args...)
		}
	}
	for id, n := range permits {
		if n != 0 {
			fault("decision %s: permits less deliveries is %d, want 0", id, n)
		}
	}
	want := map[due]bool{}
	for event, i := range income {
		if wantsCase(i) {
			want[due{"oslo-sosialhjelp", event}] = true
		}
		if consents(i) {
			want[due{"testbanken-boliglaan", event}] = true
		}
	}
	for event := range property {
		want[due{"ssb-fra-start", event}] = true
	}
	for k := range want {
		if got[k] != 1 || decided[k] != 1 && k.sub == "ssb-fra-start" {
			fault("%s: one record is permitted %d times in %d decisions, want once", k.sub, got[k], decided[k])
		}
	}
	for k, n := range got {
		listed := k.sub == "oslo-sosialhjelp" || k.sub == "testbanken-boliglaan"
		if n != 1 || listed && !want[k] {
			fault("%s: a record is permitted %d times", k.sub, n)
		}
	}
	if backfilled == 0 || len(want) == 0 {
		t.Error("nothing was backfilled: the test tests nothing")
	}
	t.Logf("%d records, %d decisions of backfill, %d deliveries; %d owed to cases, consents and a start", p.sent, backfilled, delivered, len(want))
}
