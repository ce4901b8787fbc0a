// Package flow owns what moves: the Kafka sessions, the goroutines, the order
// and the transactions. It drives the stages, which are pure.
//
// An instance has several sessions, each a member of the group, which share what
// is compiled from the registry. One transaction of one session:
//
//  1. poll records of the source partitions that the group gave this session;
//  2. compute, under one revision of control and one reading of the clock, each
//     partition's deliveries, rejections and decisions;
//  3. produce them, commit the input's offsets with the revision in their
//     metadata, and end the transaction;
//  4. merge, or drop, what the transaction changed in memory.
//
// Nothing leaves before 3, and 3 is all or nothing.
//
// What reads the log beside it has packages of its own: evidence makes the ledger,
// and says when deliveries must wait for it ([Options]); readmodel fills the read
// model, positions the index of where a subject's records lie; replay computes
// decisions again. torture and bench hold it to its promises and measure it.
//
// If you look for
//   - duplicates or gaps after a rebalance or a crash: session.go, transaction.go,
//     partition.go;
//   - an earlier record that did not come, or came twice: backfill.go (what is owed),
//     backfill_read.go (from where), backfill_progress.go;
//   - a withdrawal that does not bind: barrier.go, idle.go, metadata.go;
//   - a registry change that is not seen: control.go; for a door: control_latest.go;
//   - how the log is read back: kafka.Reader, by partition.go, observe.go, lookup.go,
//     periods.go;
//   - a partition that is readable no further: settle.go, lost.go;
//   - what is compiled of the registry, and when: world.go, compile.go;
//   - how large transactions are, and how often: pace.go;
//   - a wrong outcome: process.go hands each stage its arguments.
package flow
