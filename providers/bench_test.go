package providers

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// BenchmarkPublish tells events/s into an in-process engine of six partitions.
func BenchmarkPublish(b *testing.B) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, "source.inntekt"), kfake.DataDir(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	p, err := New(Config{Brokers: c.ListenAddrs(), Dataset: "inntekt", Source: "urn:test", Type: "no.test.v1"})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	const call = 20_000
	rest := `,"navn":"` + strings.Repeat("abcdefgh", 30) + `","beloep":[` + strings.Repeat(`{"type":"loenn","beloep":12345.00},`, 7) + `0]}`
	events := make([]Event, 0, call)
	b.SetBytes(int64(len(rest)))
	b.ResetTimer()
	for n := 0; n < b.N; {
		events = events[:0]
		for range min(call, b.N-n) {
			n++
			events = append(events, Event{Key: strconv.Itoa(n % 5000), Data: append(strconv.AppendInt([]byte(`{"n":`), int64(n), 10), rest...)})
		}
		if err := p.Publish(context.Background(), events...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
