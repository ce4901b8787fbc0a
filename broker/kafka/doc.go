// Package kafka is how the broker reaches Kafka: configuration, clients, the
// names and settings of topics, and the embedded engine.
//
// Errands, and where to start:
//
//   - connecting: [Open] gives an [Engine], [Engine.NewClient] a client of it;
//   - topics: [Topics] names them, the Spec methods of [Config] say how they
//     are set, [EnsureTopics] makes them so;
//   - reading committed records: [Engine.Reader] and [Engine.Each]; [Engine.Tail]
//     where many read the same partitions;
//   - what happens at a kill: repair.go, and docs/decisions/0003.
//
// Two engines stand behind the same protocol. Apache Kafka is for production.
// The embedded engine runs inside the process that owns its data directory and
// is for trying out, development and small single-node use; what it does not
// promise is written in docs/decisions/0003-embedded-engine.md.
package kafka
