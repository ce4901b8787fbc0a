// Package providers is the SDK for those who publish records: it turns events
// into CloudEvents (1.0) and publishes them to a dataset, over the broker's HTTP
// API or over Kafka. Either way the same bytes come to stand in the same place.
//
//	p, err := providers.New(providers.Config{
//		Brokers: []string{"kafka-1:9092", "kafka-2:9092"},
//		Dataset: "inntekt",
//		Source:  "urn:example:payroll",
//		Type:    "no.example.inntekt.v1",
//	})
//
// Over HTTP it is URL: "https://…" and Token: maskinporten.Token in place of
// Brokers; see [Maskinporten].
//
//	err = p.Publish(ctx, providers.Event{Key: subject, Data: payload})
//
// # What a nil error means
//
// [Publisher.Publish] returns nil when every event is durable: written to all
// in-sync replicas. Otherwise it returns an [*Error] that names each event that
// failed, by its place in the call, and says of each whether it may
// nevertheless have been written. Over HTTP it also says which events the broker
// rejected and why ([RejectedError]); over Kafka that comes later, in the feed of
// rejections. [Permanent] tells what trying again cannot mend.
//
// # Corrections
//
// [Publisher.Supersede] and [Publisher.Retract] publish that an earlier event, by its
// id ([Publisher.ID]), was wrong or no longer stands.
//
// # More
//
// Package outbox publishes what an SQL transaction committed, and nothing else.
// Package poller follows a register that has a list of events.
//
// # Publishing again is safe
//
// Kafka's answer can be lost after the write was made. So each event has an
// id that depends on nothing but the event, and the broker drops what it has
// seen of (source, id) within its window. After an error, call Publish again
// with the same events, in the same order.
//
// # Order
//
// Events with the same key are written in the order in which they are
// published, also across retries: each partition has one batch under way at a
// time, and where an event fails, the later ones of the same call and partition
// are not sent either.
//
// # Personal data
//
// The key is hashed before it becomes a Kafka key, so that tools which print
// keys print no identity numbers. That is a courtesy, not a protection: a hash
// of eleven digits can be guessed, and the payload beside it holds personal
// data anyway. Guard the source topic as you guard the register itself.
//
// Errors of this package name places and rules, never values from an event.
package providers
