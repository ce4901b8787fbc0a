package replay

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// errGone is what the log no longer holds.
var errGone = errors.New("the records are gone")

// tape reads one partition's committed records one by one. It belongs to one
// goroutine at a time.
type tape struct {
	engine    *kafka.Engine
	topic     string
	partition int32
	end       int64 // the committed end when it was opened

	client *kgo.Client
	buf    []*kgo.Record
	next   int64 // offset that is read next
}

// far is how many records it is quicker to jump over than to read past.
const far = 20_000

// seek goes to an offset.
func (t *tape) seek(offset int64) error {
	if t.client != nil && offset >= t.next && offset-t.next < far {
		for len(t.buf) > 0 && t.buf[0].Offset < offset {
			t.buf = t.buf[1:]
		}
		t.next = offset
		return nil
	}
	t.close()
	var err error
	t.client, err = t.engine.NewClient(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: {t.partition: kgo.NewOffset().At(offset)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what is gone must be said
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the position reaches the end even where no record does
		kgo.FetchMaxBytes(8<<20),
		kgo.FetchMaxPartitionBytes(4<<20),
	)
	t.next = offset
	return err
}

// peek is the next record, or nil where the partition ended when it was opened.
func (t *tape) peek(ctx context.Context) (*kgo.Record, error) {
	for {
		for len(t.buf) > 0 {
			r := t.buf[0]
			if r.Offset >= t.next && !r.Attrs.IsControl() {
				if r.Offset >= t.end {
					return nil, nil
				}
				return r, nil
			}
			t.buf, t.next = t.buf[1:], max(t.next, r.Offset+1)
		}
		if t.next >= t.end {
			return nil, nil
		}
		fetches := t.client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, e := range fetches.Errors() {
			if errors.Is(e.Err, kerr.OffsetOutOfRange) {
				return nil, fmt.Errorf("%s/%d offset %d: %w", t.topic, t.partition, t.next, errGone)
			}
			return nil, fmt.Errorf("reading %s/%d from offset %d: %w", t.topic, t.partition, t.next, e.Err)
		}
		t.buf = fetches.Records()
	}
}

// take goes past the record that peek gave.
func (t *tape) take() {
	t.next = t.buf[0].Offset + 1
	t.buf = t.buf[1:]
}

func (t *tape) close() {
	if t.client != nil {
		t.client.Close()
		t.client = nil
	}
	t.buf = nil
}
