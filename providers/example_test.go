package providers_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"datafordeler/providers"
)

// A provider publishes two months of a person's income, and corrects the first.
func Example() {
	// A Kafka within this process; a real provider names its own.
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, "source.inntekt"))
	if err != nil {
		log.Fatal(err)
	}
	defer kafka.Close()

	p, err := providers.New(providers.Config{
		Brokers: kafka.ListenAddrs(),
		Dataset: "inntekt",
		Source:  "urn:example:payroll",
		Type:    "no.example.inntekt.v1",
		Subject: "/mottaker",
		Schema:  []byte(`{"type": "object", "required": ["mottaker", "maaned", "beloep"]}`),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = p.Publish(ctx,
		providers.Event{ID: "2026-10/17", Data: []byte(`{"mottaker": "17", "maaned": "2026-10", "beloep": 41000}`)},
		providers.Event{ID: "2026-11/17", Data: []byte(`{"mottaker": "17", "maaned": "2026-11", "beloep": 43000}`)},
		providers.Event{ID: "2026-10/17/2", Supersedes: "2026-10/17", Data: []byte(`{"mottaker": "17", "maaned": "2026-10", "beloep": 42000}`)},
	)
	fmt.Println("published:", err == nil)

	// What is wrong is refused before anything is sent.
	err = p.Publish(ctx, providers.Event{Data: []byte(`{"mottaker": "17"}`)})
	fmt.Println(errors.Is(err, providers.ErrSchema), err)
	// Output:
	// published: true
	// true 1 of 1 events failed; nothing was sent; event 0: schema violation: the record lacks maaned and beloep
}

// Lines of JSON become events.
func ExampleReadNDJSON() {
	input := strings.NewReader(`{"mottaker": "17", "beloep": 41000}
{"mottaker": "18",
{"specversion": "1.0", "id": "e-3", "source": "urn:example:payroll", "type": "no.example.inntekt.v1", "data": {"beloep": 1}}
`)
	for event, err := range providers.ReadNDJSON(input) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("id %q, data %s\n", event.ID, event.Data)
	}
	// Output:
	// id "", data {"mottaker": "17", "beloep": 41000}
	// line 2: not JSON
	// id "e-3", data {"beloep": 1}
}
