package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Raw is a message as it would come from a program that does not use the SDK.
type Raw struct {
	Topic   string
	Key     []byte
	Value   []byte
	Headers map[string]string
}

// Write produces messages as they are and waits until they are durable. The
// demonstration uses it for what a faulty provider sends; providers use the SDK.
func (e *Engine) Write(ctx context.Context, messages ...Raw) error {
	cl, err := e.NewClient(kgo.ProducerBatchMaxBytes(16 << 20))
	if err != nil {
		return err
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(messages))
	for i, m := range messages {
		records[i] = &kgo.Record{Topic: m.Topic, Key: m.Key, Value: m.Value}
		for k, v := range m.Headers {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("writing %d messages: %w", len(messages), err)
	}
	return nil
}
