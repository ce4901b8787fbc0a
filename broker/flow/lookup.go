package flow

import (
	"context"

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
	spans, err := kafka.Spans(ctx, adm, topics.Decisions())
	if err != nil {
		return err
	}
	return engine.Each(ctx, spans[int(partition)%len(spans)], func(r *kgo.Record) error {
		h, err := deliver.Peek(r.Value)
		if err != nil || h.Dataset != dataset || h.Partition != partition || offset < h.First || offset > h.Last {
			return err
		}
		return fn(r.Value)
	})
}
