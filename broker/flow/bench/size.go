package bench

import (
	"context"

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
	spans, err := kafka.Spans(ctx, adm, topic)
	if err != nil {
		return s, err
	}
	for _, span := range spans {
		err := engine.Each(ctx, span, func(r *kgo.Record) error {
			s.Records++
			s.Values += int64(len(r.Key) + len(r.Value))
			for _, h := range r.Headers {
				s.Headers += int64(len(h.Key) + len(h.Value))
			}
			return nil
		})
		if err != nil {
			return s, err
		}
	}
	return s, nil
}
