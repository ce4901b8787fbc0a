package web

import "github.com/twmb/franz-go/pkg/kgo"

// kafkaAt reads one partition from an offset on.
func kafkaAt(topic string, partition int32, offset int64) kgo.Opt {
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}})
}
