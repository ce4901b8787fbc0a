package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// Copy reads a topic and writes something of it, in transactions with the offsets
// read, until Records have been committed.
type Copy struct {
	Engine *kafka.Engine
	// Options are the broker's own (flow.Config.ClientOptions).
	Options    []kgo.Opt
	Group      string // a new one, so that it begins at the start
	Source     string
	MaxRecords int // in one transaction, at the most
	Records    int64
	// Transform makes what to write of a transaction's records.
	Transform func(context.Context, []kgo.FetchTopicPartition) ([]*kgo.Record, error)
	// Begun, where set, is called when the first records have been read.
	Begun func()
	// Committed is told how many records have been committed so far.
	Committed func(int64)
}

// Run copies. It fails when a transaction does, rather than trying again: a
// figure with a retry in it is no figure.
func (c *Copy) Run(ctx context.Context) (written int64, err error) {
	session, err := kgo.NewGroupTransactSession(c.Engine.Options(append(c.Options,
		kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Source), kgo.TransactionalID(c.Group),
	)...)...)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	var done int64
	for done < c.Records {
		fetches := session.PollRecords(ctx, c.MaxRecords)
		if err := ctx.Err(); err != nil {
			return written, err
		}
		if err := fetches.Err(); err != nil {
			return written, fmt.Errorf("reading %s: %w", c.Source, err)
		}
		var parts []kgo.FetchTopicPartition
		n := 0
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) > 0 {
				parts = append(parts, p)
				n += len(p.Records)
			}
		})
		if n == 0 {
			continue
		}
		if done == 0 && c.Begun != nil {
			c.Begun()
		}
		out, err := c.Transform(ctx, parts)
		if err != nil {
			return written, err
		}
		if err := session.Begin(); err != nil {
			return written, fmt.Errorf("beginning a transaction: %w", err)
		}
		err = produce(ctx, session, out)
		committed, endErr := session.End(ctx, kgo.TransactionEndTry(err == nil))
		if err = errors.Join(err, endErr); err != nil {
			return written, fmt.Errorf("ending a transaction: %w", err)
		}
		if !committed {
			return written, errors.New("a transaction was aborted: the group was rebalancing; run again")
		}
		done += int64(n)
		written += int64(len(out))
		c.Committed(done)
	}
	return written, nil
}

func produce(ctx context.Context, session *kgo.GroupTransactSession, out []*kgo.Record) error {
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	wg.Add(len(out))
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		}
		wg.Done()
	}
	for _, r := range out {
		session.Produce(ctx, r, promise)
	}
	wg.Wait()
	return failed
}

// Raw copies each record as it is, fanout times, over the target's partitions.
func Raw(target string, partitions int32, fanout int) func(context.Context, []kgo.FetchTopicPartition) ([]*kgo.Record, error) {
	return func(_ context.Context, parts []kgo.FetchTopicPartition) ([]*kgo.Record, error) {
		var out []*kgo.Record
		for _, p := range parts {
			for _, r := range p.Records {
				for i := range fanout {
					out = append(out, &kgo.Record{Topic: target, Partition: int32((r.Offset + int64(i)) % int64(partitions)),
						Key: r.Key, Value: r.Value, Headers: r.Headers})
				}
			}
		}
		return out, nil
	}
}

// Progress is when the first and the last transaction of a run were committed.
// What counts are the records between the two: joining a group and warming up
// are not throughput.
type Progress struct {
	first, last time.Time
	begun, done int64
}

// Begin counts from now, instead of from the first commit, unless it has begun:
// for a way so slow that joining and warming up are nothing beside it.
func (p *Progress) Begin() {
	if p.first.IsZero() {
		p.first = time.Now()
	}
}

// Committed notes that n records have been committed by now.
func (p *Progress) Committed(n int64) {
	if n == p.done {
		return
	}
	p.last = time.Now()
	if p.first.IsZero() {
		p.first, p.begun = p.last, n
	}
	p.done = n
}

// Rate is in records a second; 0 where a single transaction took them all.
func (p *Progress) Rate() float64 {
	if d := p.last.Sub(p.first).Seconds(); d > 0 {
		return float64(p.done-p.begun) / d
	}
	return 0
}
