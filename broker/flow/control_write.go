package flow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/registry"
)

// newWriterID names one writer of control. No two are ever the same: writers
// must not fence each other; who comes first is told by what they write.
func newWriterID() string { return "datafordeler-control-" + rand.Text() }

// producer is the client to write with. It is kept between appends, which makes
// one a matter of milliseconds; kept says that it was, and may have gone stale.
// It is for the one that appends.
func (c *Control) producer(ctx context.Context) (client *kgo.Client, kept bool, err error) {
	c.mu.RLock()
	client = c.writer
	c.mu.RUnlock()
	if client != nil {
		return client, true, nil
	}
	client, err = c.engine.NewClient(
		kgo.TransactionalID(c.id),
		kgo.TransactionTimeout(10*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(30*time.Second),
		kgo.ProducerLinger(0), // an append is whole when it is handed over
	)
	if err != nil {
		return nil, false, err
	}
	// A client that has not met Kafka yet begins by the old transaction protocol,
	// in which a lost end cannot be made good; see lost.go. To begin also ends
	// what this writer left open when its last client was dropped.
	meet, cancel := context.WithTimeout(ctx, 30*time.Second)
	_, _, err = client.ProducerID(meet)
	cancel()
	if err != nil {
		client.Close()
		return nil, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		client.Close()
		return nil, false, errors.New("the control reader was closed")
	}
	c.writer = client
	return client, false, nil
}

// drop forgets a client after an error: what it says of later transactions is
// not to be relied on.
func (c *Control) drop(client *kgo.Client) {
	c.mu.Lock()
	if c.writer == client {
		c.writer = nil
	}
	c.mu.Unlock()
	client.Close()
}

// write produces the events in one transaction: readers of committed records
// see all of them or none. It returns their offsets.
func (c *Control) write(ctx context.Context, events []registry.Event) ([]int64, error) {
	values := make([][]byte, len(events))
	for i := range events {
		var err error
		if values[i], err = registry.Encode(events[i]); err != nil {
			return nil, err
		}
	}
	for {
		client, kept, err := c.producer(ctx)
		if err != nil {
			return nil, fmt.Errorf("writing to topic %s: %w", c.topic, err)
		}
		offsets, ending, err := c.transact(ctx, client, values)
		if err == nil {
			return offsets, nil
		}
		c.drop(client)
		// Kafka forgets writers that are silent for days. What was not asked to
		// commit cannot have been, and a new client says whether that was all.
		if kept && !ending && ctx.Err() == nil {
			continue
		}
		return nil, err
	}
}

// transact writes the values in one transaction. After an error, ending says
// that it was asked to commit, so that it may have.
func (c *Control) transact(ctx context.Context, client *kgo.Client, values [][]byte) (offsets []int64, ending bool, err error) {
	if err := client.BeginTransaction(); err != nil {
		return nil, false, fmt.Errorf("writing to topic %s: %w", c.topic, err)
	}
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: c.topic, Value: v}
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = client.EndTransaction(abort, kgo.TryAbort) // if this fails too, the next client or the timeout aborts it
		return nil, false, fmt.Errorf("writing to topic %s: %w", c.topic, err)
	}
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return nil, true, fmt.Errorf("committing to topic %s: %w: %w", c.topic, ErrMaybeRecorded, err)
	}
	for _, r := range records {
		offsets = append(offsets, r.Offset)
	}
	return offsets, false, nil
}
