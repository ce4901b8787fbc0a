package bench

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// Size is what stands in a topic, before compression.
type Size struct {
	Records int64 `json:"records"`
	Values  int64 `json:"value_bytes"`  // keys included
	Headers int64 `json:"header_bytes"` // names and values
}

// TopicSize reads a topic through, up to where it ends now.
func TopicSize(ctx context.Context, engine *kafka.Engine, topic string) (s Size, err error) {
	adm, err := engine.Admin()
	if err != nil {
		return s, err
	}
	defer adm.Close()
	ends, err := kafka.CommittedEnds(ctx, adm, topic)
	if err != nil {
		return s, err
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for p, end := range ends[topic] {
		if end > 0 {
			from[p], left[p] = kgo.NewOffset().At(0), end
		}
	}
	if len(left) == 0 {
		return s, nil
	}
	client, err := engine.NewClient(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the last before the end may be one
	)
	if err != nil {
		return s, err
	}
	defer client.Close()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return s, err
		}
		if err := fetches.Err(); err != nil {
			return s, fmt.Errorf("reading %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if end, ok := left[r.Partition]; ok && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			s.Records++
			s.Values += int64(len(r.Key) + len(r.Value))
			for _, h := range r.Headers {
				s.Headers += int64(len(h.Key) + len(h.Value))
			}
		})
	}
	return s, nil
}
