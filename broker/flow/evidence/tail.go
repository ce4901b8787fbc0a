package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// partition is one partition of a topic.
type partition struct {
	topic  string
	number int32
}

func (p partition) String() string { return fmt.Sprintf("%s/%d", p.topic, p.number) }

// follow opens a client that reads partitions from given offsets, committed
// records only. An offset that is gone is an error: what evidence rests on is
// never stepped over.
func follow(engine *kafka.Engine, from map[partition]int64, opts ...kgo.Opt) (*kgo.Client, error) {
	offsets := map[string]map[int32]kgo.Offset{}
	for p, at := range from {
		if offsets[p.topic] == nil {
			offsets[p.topic] = map[int32]kgo.Offset{}
		}
		offsets[p.topic][p.number] = kgo.NewOffset().At(at)
	}
	return engine.NewClient(append([]kgo.Opt{
		kgo.ConsumePartitions(offsets),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the position reaches the end even where no record does
	}, opts...)...)
}

// tail reads one partition, record by record, up to an end.
type tail struct {
	partition
	client  *kgo.Client
	fetched []*kgo.Record
	next    int64 // offset after the last one read
	end     int64
}

// openTail reads from an offset to end, which is not read any more. The caller
// closes it.
func openTail(engine *kafka.Engine, p partition, from, end int64) (*tail, error) {
	t := &tail{partition: p, next: from, end: end}
	if from >= end {
		return t, nil
	}
	var err error
	// A reader of many partitions has one of these for each: it holds little.
	t.client, err = follow(engine, map[partition]int64{p: from}, kgo.FetchMaxPartitionBytes(4<<20), kgo.MaxConcurrentFetches(1))
	return t, err
}

// read is the next record; io.EOF at the end.
func (t *tail) read(ctx context.Context) (*kgo.Record, error) {
	for {
		for len(t.fetched) > 0 {
			r := t.fetched[0]
			t.fetched = t.fetched[1:]
			if r.Offset < t.next {
				continue
			}
			t.next = r.Offset + 1
			if r.Offset >= t.end {
				return nil, io.EOF
			}
			if !r.Attrs.IsControl() {
				return r, nil
			}
		}
		if t.next >= t.end {
			return nil, io.EOF
		}
		fetches := t.client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if fetches.IsClientClosed() {
			return nil, errors.New("the reader was closed")
		}
		for _, e := range fetches.Errors() {
			return nil, fmt.Errorf("reading %s from offset %d: %w", t.partition, t.next, e.Err)
		}
		t.fetched = fetches.Records()
	}
}

func (t *tail) close() {
	if t.client != nil {
		t.client.Close()
	}
}
