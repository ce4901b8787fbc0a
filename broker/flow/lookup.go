package flow

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
)

// Covering calls fn with each committed record of decisions whose range holds a
// source record's offset, to look it up there. There is one, if any, unless the
// source topic was made anew. Of the others only the heads are read.
func Covering(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, dataset broker.DatasetID, partition int32, offset int64, fn func(value []byte) error) error {
	adm, err := engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	topic := topics.Decisions()
	starts, err := kafka.Starts(ctx, adm, topic)
	if err != nil {
		return err
	}
	ends, err := kafka.CommittedEnds(ctx, adm, topic)
	if err != nil {
		return err
	}
	if len(ends[topic]) == 0 {
		return fmt.Errorf("topic %s has no partitions", topic)
	}
	number := partition % int32(len(ends[topic]))
	return read(ctx, engine, topic, number, starts[topic][number], ends[topic][number], func(r *kgo.Record) error {
		h, err := deliver.Peek(r.Value)
		if err != nil || h.Dataset != dataset || h.Partition != partition || offset < h.First || offset > h.Last {
			return err
		}
		return fn(r.Value)
	})
}
