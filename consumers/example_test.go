package consumers_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/consumers"
)

// A municipality's service receives what is in its mailbox, remembers how far
// it came, and later goes on from there.
func Example() {
	// A Kafka within this process, with deliveries such as the broker writes.
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "mailbox.oslo-sosialhjelp"))
	if err != nil {
		log.Fatal(err)
	}
	defer kafka.Close()
	writeDeliveries(kafka.ListenAddrs())

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	config := consumers.Config{
		Brokers:     kafka.ListenAddrs(),
		Mailbox:     "oslo-sosialhjelp",
		Checkpoints: consumers.FileStore(filepath.Join(dir, "checkpoint.json")),
	}
	for range 2 { // the second time, there is nothing new
		r, err := consumers.New(config)
		if err != nil {
			log.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = r.Receive(ctx, func(_ context.Context, d consumers.Delivery) error {
			switch d.Kind {
			case broker.Original:
				fmt.Printf("%s under agreement %s\n", d.Data, d.Agreement)
			case broker.Correction, broker.Retraction:
				fmt.Printf("%s of %s: %s\n", d.Kind, d.Of, d.Data)
			}
			return nil
		})
		cancel()
		fmt.Println("handled:", r.Stats().Handled, "error:", err)
	}
	// Output:
	// {"beloep":41000} under agreement oslo-inntekt
	// correction of 00000000000000000000000000000001: {"beloep":42000}
	// handled: 2 error: <nil>
	// handled: 0 error: <nil>
}

func writeDeliveries(brokers []string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic("mailbox.oslo-sosialhjelp"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for i, more := range []map[string]string{
		{"ce_recordkind": "original"},
		{"ce_recordkind": "correction", "ce_of": "00000000000000000000000000000001"},
	} {
		headers := map[string]string{
			"ce_specversion": "1.0", "ce_id": fmt.Sprintf("%032x", i+1), "ce_source": "urn:datafordeler:dataset:inntekt", "ce_type": "no.example.inntekt.v1",
			"content-type": "application/json", "ce_mailbox": "oslo-sosialhjelp", "ce_subscription": "oslo-inntekt", "ce_agreement": "oslo-inntekt",
			"ce_dataset": "inntekt", "ce_provider": "313876144", "ce_decision": fmt.Sprintf("%032x", i+9),
		}
		record := &kgo.Record{Value: fmt.Appendf(nil, `{"beloep":%d}`, 41000+1000*i)}
		for _, m := range []map[string]string{headers, more} {
			for name, value := range m {
				record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
			}
		}
		if err := client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
			log.Fatal(err)
		}
	}
}
