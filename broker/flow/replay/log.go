package replay

import (
	"context"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// tape reads one partition's committed records one by one. It belongs to one
// goroutine at a time.
type tape struct {
	engine    *kafka.Engine
	topic     string
	partition int32
	end       int64 // the committed end when it was opened

	reader *kafka.Reader // nil before seek
	at     int64         // what is before it is not asked for any more
	head   *kgo.Record   // was read, and not taken yet
}

// far is how many records it is quicker to jump over than to read past.
const far = 20_000

// seek goes to an offset.
func (t *tape) seek(offset int64) (err error) {
	if t.reader == nil || offset < t.at || offset-t.at >= far {
		t.close()
		span := kafka.Span{Topic: t.topic, Partition: t.partition, From: offset, To: t.end}
		t.reader, err = t.engine.Reader([]kafka.Span{span}, kgo.FetchMaxBytes(8<<20), kgo.FetchMaxPartitionBytes(4<<20))
	}
	t.at = offset
	return err
}

// peek is the next record, or nil where the partition ended when it was opened.
func (t *tape) peek(ctx context.Context) (*kgo.Record, error) {
	for t.head == nil || t.head.Offset < t.at {
		var err error
		if t.head, err = t.reader.Read(ctx); err != nil {
			if err == io.EOF {
				err = nil
			}
			return nil, err
		}
	}
	return t.head, nil
}

// take goes past the record that peek gave.
func (t *tape) take() { t.at, t.head = t.head.Offset+1, nil }

func (t *tape) close() {
	if t.reader != nil {
		t.reader.Close()
		t.reader = nil
	}
	t.head = nil
}
