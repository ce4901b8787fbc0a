package torture_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/providers"
	"datafordeler/providers/synthetic"
)

const oslo, bank = "0301", "310149942"

// hasCase: every third inhabitant of Oslo has a case there; of one in eight of
// those it has ended.
func hasCase(i int, p synthetic.Person) (has, ended bool) {
	return p.Municipality == oslo && i%3 == 0, i%24 == 0
}

// consents: every eighth person; every other of them withdraws it half-way.
func consents(i int) bool  { return i%8 == 0 }
func withdraws(i int) bool { return i%16 == 0 }

func ids(g *synthetic.Generator, people int, pick func(i int, p synthetic.Person) bool) (string, int) {
	var b strings.Builder
	n := 0
	for i := range people {
		if p := g.Person(i); pick(i, p) {
			b.WriteString(p.ID + "\n")
			n++
		}
	}
	return b.String(), n
}

// openSubjects opens cases and gives consents by the command line.
func (r *rig) openSubjects(g *synthetic.Generator, people int) {
	r.t.Helper()
	open, n := ids(g, people, func(i int, p synthetic.Person) bool { has, ended := hasCase(i, p); return has && !ended })
	r.run(open, "registry", "case", "open", "--subscription", "oslo-sosialhjelp", "--from", "2025-01-01", "--actor", "torture")
	ended, m := ids(g, people, func(i int, p synthetic.Person) bool { has, ended := hasCase(i, p); return has && ended })
	r.run(ended, "registry", "case", "open", "--subscription", "oslo-sosialhjelp", "--from", "2025-01-01", "--to", "2026-01-01", "--actor", "torture")
	given, k := ids(g, people, func(i int, _ synthetic.Person) bool { return consents(i) })
	r.run(given, r.consent("give", "--from", "2025-01-01")...)
	r.t.Logf("%d cases open, %d ended, %d consents given", n, m, k)
}

func (r *rig) consent(verb string, more ...string) []string {
	return append([]string{"registry", "consent", verb, "--consumer", bank, "--dataset", "inntekt", "--purpose", "boliglaan", "--actor", "torture"}, more...)
}

// item is one event to publish: in the order of the slice, within its key.
type item struct {
	dataset broker.DatasetID
	event   synthetic.Event
	raw     bool // as a program would send it that does not use the SDK
}

// person says what the oracle must know of an event by its id.
type person struct {
	index   int
	invalid bool
}

// plan is what is published: n people's income and property, and what
// providers get wrong or change.
func plan(rnd *rand.Rand, g *synthetic.Generator, people int) (items []item, known map[string]person) {
	known = map[string]person{}
	add := func(i int, ds broker.DatasetID, e synthetic.Event, fault bool) {
		if e.ID == "" {
			return
		}
		known[e.ID] = person{i, fault}
		items = append(items, item{ds, e, fault})
	}
	faults := synthetic.Faults()
	for i := range people {
		add(i, "inntekt", g.Income(nil, i), false)
		add(i, "eiendomsskatt", g.Property(nil, i), false)
		earlier := func() int { return rnd.IntN(i + 1) }
		switch rnd.IntN(100) {
		case 0:
			f := faults[rnd.IntN(len(faults))]
			if f == synthetic.Giant && rnd.IntN(20) > 0 { // nearly a megabyte each
				f = synthetic.WrongType
			}
			add(i, "inntekt", g.Invalid(f, i), true)
		case 1:
			add(i, "inntekt", g.Repeat(i), false) // at once
		case 2:
			j := earlier() // some beyond the window: then it counts as new
			add(j, "inntekt", g.Repeat(j), false)
		case 3:
			j := max(0, i-rnd.IntN(2000))
			add(j, "inntekt", g.SameIDOtherContent(j), false)
		case 4, 5:
			j := earlier()
			add(j, "inntekt", g.Correction(j), false)
		case 6:
			j := earlier()
			add(j, "inntekt", g.Retraction(j), false)
		}
	}
	return items, known
}

// publisher sends items, the invalid ones past the SDK.
type publisher struct {
	r    *rig
	sdk  map[broker.DatasetID]*providers.Publisher
	raw  *kgo.Client
	sent int
}

func (r *rig) publisher() *publisher {
	r.t.Helper()
	p := &publisher{r: r, sdk: map[broker.DatasetID]*providers.Publisher{}}
	for id, source := range sources {
		ds := broker.DatasetID(id)
		sdk, err := providers.New(providers.Config{Brokers: r.brokers, Prefix: r.prefix, Dataset: ds, Source: source, Timeout: 2 * time.Minute})
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { sdk.Close() })
		p.sdk[ds] = sdk
	}
	var err error
	// Of a Kafka that is killed, a connection may end before anything was read from it.
	p.raw, err = kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.DisableClientMetrics(), kgo.ProducerBatchMaxBytes(2<<20), kgo.AlwaysRetryEOF())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.raw.Close)
	return p
}

// send publishes in chunks, and returns when all is durable.
func (p *publisher) send(ctx context.Context, items []item) error {
	const chunk = 2000
	for len(items) > 0 {
		n := min(chunk, len(items))
		if err := p.chunk(ctx, items[:n]); err != nil {
			return err
		}
		p.sent += n
		items = items[n:]
	}
	return nil
}

func (p *publisher) chunk(ctx context.Context, items []item) error {
	events := map[broker.DatasetID][]providers.Event{}
	var raw []*kgo.Record
	for _, it := range items {
		e := it.event
		if it.raw {
			rec := &kgo.Record{Topic: p.r.topics.Source(string(it.dataset)), Key: providers.HashKey(it.dataset, string(e.Key)), Value: e.Data}
			for k, v := range map[string]string{"ce_specversion": "1.0", "ce_id": e.ID, "ce_source": e.Source, "ce_type": e.Type,
				"ce_time": e.Time.Format(time.RFC3339Nano), "ce_dataschema": e.DataSchema, "content-type": "application/json"} {
				rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
			}
			for k, v := range e.Extensions() {
				rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "ce_" + k, Value: []byte(v)})
			}
			raw = append(raw, rec)
			continue
		}
		events[it.dataset] = append(events[it.dataset], providers.Event{
			ID: e.ID, Source: e.Source, Type: e.Type, Time: e.Time, Key: string(e.Key), Data: e.Data, DataSchema: e.DataSchema,
			Supersedes: e.Supersedes, Retracts: e.Retracts, Provisional: e.Provisional, Extensions: maps.Collect(e.Extensions()),
		})
	}
	errs := make(chan error, 3)
	var wg sync.WaitGroup
	for ds, evs := range events {
		wg.Go(func() { errs <- p.sdk[ds].Publish(ctx, evs...) })
	}
	wg.Go(func() { errs <- p.raw.ProduceSync(ctx, raw...).FirstErr() })
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	return nil
}
