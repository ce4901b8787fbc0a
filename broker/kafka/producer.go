package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Header is a header of a message.
type Header struct {
	Key   string
	Value []byte
}

// Outgoing is a message on its way to a topic.
type Outgoing struct {
	Topic string
	// Key goes with the message. Place decides on its partition, as Kafka's own
	// partitioner does with a key (murmur2), so that all who write agree on it.
	Key, Place []byte
	Headers    []Header
	Value      []byte
}

// Producer writes messages that others hand in, each answered by itself. It is
// idempotent: what it sends again by itself is there once, and the messages of one
// partition stand in the order of the calls. It is safe for concurrent use.
type Producer struct{ client *kgo.Client }

// NewProducer opens a producer of messages up to so many bytes. The caller closes it.
func (e *Engine) NewProducer(largest int) (*Producer, error) {
	cl, err := e.NewClient(
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(int32(max(1_000_012, largest+64<<10))),
		kgo.MaxBufferedBytes(64<<20),
		kgo.RecordPartitioner(placer{kgo.StickyKeyPartitioner(nil)}),
	)
	if err != nil {
		return nil, err
	}
	return &Producer{cl}, nil
}

// Produce hands over a message. It waits while too many are under way, until ctx
// ends. done is called once, when all in-sync replicas have the message or it is
// known that they do not get it. When ctx ends and done was not called, the message
// may still be written. The message's slices are not to change before done.
func (p *Producer) Produce(ctx context.Context, m Outgoing, done func(partition int32, offset int64, err error)) {
	r := &kgo.Record{Topic: m.Topic, Key: m.Key, Value: m.Value, Headers: make([]kgo.RecordHeader, len(m.Headers))}
	for i, h := range m.Headers {
		r.Headers[i] = kgo.RecordHeader{Key: h.Key, Value: h.Value}
	}
	r.Context = context.WithValue(ctx, placeKey{}, m.Place)
	p.client.Produce(r.Context, r, func(r *kgo.Record, err error) {
		if err != nil {
			done(0, 0, fmt.Errorf("writing to %s: %w", r.Topic, err))
			return
		}
		done(r.Partition, r.Offset, nil)
	})
}

// Close writes what is under way while ctx lasts, and ends.
func (p *Producer) Close(ctx context.Context) error {
	err := p.client.Flush(ctx)
	p.client.Close()
	return err
}

type placeKey struct{}

// placer asks Kafka's partitioner about Outgoing.Place.
type placer struct{ by kgo.Partitioner }

func (p placer) ForTopic(topic string) kgo.TopicPartitioner { return topicPlacer{p.by.ForTopic(topic)} }

type topicPlacer struct{ by kgo.TopicPartitioner }

func (topicPlacer) RequiresConsistency(*kgo.Record) bool { return true }

func (p topicPlacer) Partition(r *kgo.Record, n int) int {
	place, _ := r.Context.Value(placeKey{}).([]byte)
	return p.by.Partition(&kgo.Record{Key: place}, n)
}
