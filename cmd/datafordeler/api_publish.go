package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// providerDoor is what the API asks of the broker for those who publish.
type providerDoor struct {
	node     *node
	producer *kafka.Producer

	mu       sync.Mutex
	compiled map[broker.DatasetID]compiledDataset
}

type compiledDataset struct {
	declared *broker.Dataset // the registry never changes in place what it handed out
	target   *web.Target
}

// addPublishing opens the door for providers. close ends it.
func (d *doors) addPublishing() (more []prometheus.Collector, end func(), err error) {
	n := d.node
	producer, err := n.engine.NewProducer(n.cfg.Intake.MaxBytes)
	if err != nil {
		return nil, nil, err
	}
	door := &providerDoor{node: n, producer: producer, compiled: map[broker.DatasetID]compiledDataset{}}
	more = d.server.Publishing(web.Publishing{
		Limits: n.cfg.Intake, Hasher: n.ring, Target: door.target, Write: door.write, Full: door.full,
	})
	return more, door.close, nil
}

// target compiles a dataset once for each declaration of it.
func (p *providerDoor) target(id broker.DatasetID) (*web.Target, error) {
	var declared *broker.Dataset
	p.node.control.View(func(st *registry.State) { declared = st.Dataset(id) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if declared == nil {
		delete(p.compiled, id)
		return nil, nil
	}
	if have := p.compiled[id]; have.declared == declared {
		return have.target, nil
	}
	ds, err := intake.Compile(declared, p.node.cfg.Intake)
	if err != nil {
		return nil, err
	}
	t := &web.Target{Dataset: ds, Subject: declared.Subject.Pointer, Elsewhere: declared.Endpoint != nil}
	p.compiled[id] = compiledDataset{declared, t}
	return t, nil
}

func (p *providerDoor) write(ctx context.Context, e web.SourceEvent, done func(int32, int64, error)) {
	headers := make([]kafka.Header, len(e.Headers))
	for i, h := range e.Headers {
		headers[i] = kafka.Header(h)
	}
	p.producer.Produce(ctx, kafka.Outgoing{
		Topic: p.node.cfg.Topics().Source(string(e.Dataset)), Key: e.Key, Place: e.Place, Headers: headers, Value: e.Value,
	}, done)
}

// full holds publishing back where the embedded engine could not keep what it
// answers for.
func (p *providerDoor) full() error {
	if err := p.node.engine.Err(); err != nil {
		return err
	}
	if _, low, err := p.node.engine.DiskFree(); err != nil || low {
		return errors.Join(err, errors.New("the disk of the data directory is nearly full (reserve)"))
	}
	return nil
}

func (p *providerDoor) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.producer.Close(ctx); err != nil {
		p.node.log.Warn("closing the producer of the HTTP API: events may not have been written, and their providers were told so", "err", err)
	}
}
