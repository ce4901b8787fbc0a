package main

import (
	"context"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/providers"
	"datafordeler/providers/synthetic"
)

const (
	demoIncome   broker.DatasetID = "inntekt"
	demoProperty broker.DatasetID = "eiendomsskatt"
)

// sdkEvent is a synthetic event as a provider hands it to the SDK.
func sdkEvent(e synthetic.Event) providers.Event {
	return providers.Event{
		ID: e.ID, Source: e.Source, Type: e.Type, Time: e.Time, Key: string(e.Key), Data: e.Data, DataSchema: e.DataSchema,
		Supersedes: e.Supersedes, Retracts: e.Retracts, Provisional: e.Provisional, Extensions: maps.Collect(e.Extensions()),
	}
}

func (d *demoRun) publisher(ds broker.DatasetID) (*providers.Publisher, error) {
	source := synthetic.IncomeSource
	if ds == demoProperty {
		source = synthetic.PropertySource
	}
	return providers.New(providers.Config{Brokers: d.node.engine.Brokers(), Dataset: ds, Source: source, ClientID: "demo"})
}

// send publishes what next makes for each person of [from, to), in batches.
func (d *demoRun) send(ctx context.Context, ds broker.DatasetID, from, to int, next func(i int) synthetic.Event) error {
	p, err := d.publisher(ds)
	if err != nil {
		return err
	}
	defer p.Close()
	batch := make([]providers.Event, 0, 5000)
	flush := func() error {
		if err := p.Publish(ctx, batch...); err != nil {
			return err
		}
		d.progress.count.Add(int64(len(batch)))
		batch = batch[:0]
		return nil
	}
	for i := from; i < to; i++ {
		if e := next(i); e.ID != "" {
			batch = append(batch, sdkEvent(e))
		}
		if len(batch) == cap(batch) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (d *demoRun) publish(ctx context.Context, from, to int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return d.send(ctx, demoIncome, from, to, func(i int) synthetic.Event { return d.gen.Income(nil, i) })
	})
	g.Go(func() error {
		return d.send(ctx, demoProperty, from, to, func(i int) synthetic.Event { return d.gen.Property(nil, i) })
	})
	return g.Wait()
}

// faultsOfEach is how many invalid records of each kind the demo publishes.
const faultsOfEach = 3

// publishFaults sends what intake must refuse or drop: invalid records as a
// program without the SDK would send them, repeats, and an id used again.
func (d *demoRun) publishFaults(ctx context.Context) error {
	var raw []kafka.Raw
	topic := d.node.cfg.Topics().Source(string(demoIncome))
	for _, fault := range synthetic.Faults() {
		for i := range min(faultsOfEach, d.people/2) {
			e := d.gen.Invalid(fault, i)
			m := kafka.Raw{Topic: topic, Key: providers.HashKey(demoIncome, string(e.Key)), Value: e.Data, Headers: map[string]string{
				"ce_specversion": "1.0", "ce_id": e.ID, "ce_source": e.Source, "ce_type": e.Type,
				"ce_time": e.Time.Format(time.RFC3339Nano), "ce_dataschema": e.DataSchema, "content-type": "application/json",
			}}
			for k, v := range e.Extensions() {
				m.Headers["ce_"+k] = v
			}
			raw = append(raw, m)
		}
	}
	if err := d.node.engine.Write(ctx, raw...); err != nil {
		return err
	}
	d.progress.count.Add(int64(len(raw)))
	some := min(100, d.people/4)
	if err := d.send(ctx, demoIncome, 0, some, d.gen.Repeat); err != nil {
		return err
	}
	return d.send(ctx, demoIncome, 0, min(5, some), d.gen.SameIDOtherContent)
}

// publishChanges sends corrections and retractions of records published before.
func (d *demoRun) publishChanges(ctx context.Context) error {
	some := d.people / 100
	if err := d.send(ctx, demoIncome, 0, some, d.gen.Correction); err != nil {
		return err
	}
	return d.send(ctx, demoIncome, some, 2*some, d.gen.Retraction)
}

// goOn publishes the coming months, a few records a second, until ctx ends.
func (d *demoRun) goOn(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	month, err := time.Parse("2006-01", d.gen.Month())
	if err != nil {
		return err
	}
	for i := 0; ; i += 4 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.broker.Stopped():
			return nil // Run says why
		case <-tick.C:
		}
		if i%d.people < 4 { // everybody has had this month's: the next
			month = month.AddDate(0, 1, 0)
			cfg := d.config
			cfg.Month = month.Format("2006-01")
			d.gen = synthetic.New(cfg)
		}
		at := i % d.people
		if err := d.publish(ctx, at, min(at+4, d.people)); err != nil {
			return err
		}
	}
}
