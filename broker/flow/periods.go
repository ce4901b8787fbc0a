package flow

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
)

// InPeriod counts what was decided under the pseudonyms of one month: records of
// the decisions topic; the source records in them that were in some subscription's
// scope; and the decisions that stand singly, of backfills, on lookups and at doors.
// Only what was written about then is read, and of that only the heads. A topic that
// does not exist holds none.
func InPeriod(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, month time.Time) (batches, records, singles int64, err error) {
	adm, err := engine.Admin()
	if err != nil {
		return 0, 0, 0, err
	}
	defer adm.Close()
	topic := topics.Decisions()
	if there, err := kafka.Describe(ctx, adm, topic); err != nil || len(there) == 0 {
		return 0, 0, 0, err
	}
	// Decisions are written moments after the time that they name; a day is to spare.
	const margin = 24 * time.Hour
	month = time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC)
	period := month.Format("2006-01")
	from, err := adm.ListOffsetsAfterMilli(ctx, month.Add(-margin).UnixMilli(), topic)
	if err != nil {
		return 0, 0, 0, err
	}
	to, err := adm.ListOffsetsAfterMilli(ctx, month.AddDate(0, 1, 0).Add(margin).UnixMilli(), topic)
	if err != nil {
		return 0, 0, 0, err
	}
	ends, err := kafka.CommittedEnds(ctx, adm, topic)
	if err != nil {
		return 0, 0, 0, err
	}
	from.Each(func(o kadm.ListedOffset) {
		last, _ := to.Lookup(topic, o.Partition)
		for _, e := range []error{err, o.Err, last.Err} {
			if e != nil {
				err = e
				return
			}
		}
		span := kafka.Span{Topic: topic, Partition: o.Partition, From: o.Offset, To: min(last.Offset, ends[topic][o.Partition])}
		err = engine.Each(ctx, span, func(r *kgo.Record) error {
			if deliver.IsSingles(r.Value) {
				h, err := deliver.PeekSingles(r.Value)
				if err == nil && h.Period == period {
					singles += h.Decisions
				}
				return err
			}
			h, err := deliver.Peek(r.Value)
			if err == nil && h.Period == period {
				batches++
				records += h.Records - h.OutOfScope - h.Repeated - h.Rejected
			}
			return err
		})
	})
	return batches, records, singles, err
}
