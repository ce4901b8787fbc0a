package flow

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
)

// Covering calls fn with each committed record of decisions that has something to
// say of a source record: the batch whose range holds its offset, of which there is
// one, if any, unless the source topic was made anew; then every record that holds
// single decisions on it. Of other batches only the heads are read.
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
	// A partition's batches stand in one partition of decisions; single decisions on
	// its records may stand in any, such as those of whoever answered a lookup.
	own := int(partition) % len(spans)
	spans[0], spans[own] = spans[own], spans[0]
	for i, span := range spans {
		if err := engine.Each(ctx, span, func(r *kgo.Record) error {
			if deliver.IsSingles(r.Value) {
				held, err := holds(r.Value, dataset, partition, offset)
				if err != nil || !held {
					return err
				}
				return fn(r.Value)
			}
			if i > 0 {
				return nil
			}
			h, err := deliver.Peek(r.Value)
			if err != nil || h.Dataset != dataset || h.Partition != partition || offset < h.First || offset > h.Last {
				return err
			}
			return fn(r.Value)
		}); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether a record of single decisions has one on a source record.
func holds(value []byte, dataset broker.DatasetID, partition int32, offset int64) (held bool, err error) {
	_, err = deliver.DecodeSingles(value, func(d *broker.Decision) error {
		p := &d.Position
		held = held || p.Dataset == dataset && p.Partition == partition && p.Offset == offset
		return nil
	})
	return held, err
}
