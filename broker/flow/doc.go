// Package flow owns what moves: the Kafka sessions, the goroutines, the order
// and the transactions. It drives the stages, which are pure.
//
// One transaction of one instance:
//
//  1. poll records of the source partitions that the group gave this instance;
//  2. compute, under one revision of control and one reading of the clock, each
//     partition's deliveries, rejections and decisions;
//  3. produce them, commit the input's offsets with the revision in their
//     metadata, and end the transaction;
//  4. merge, or drop, what the transaction changed in memory.
//
// Nothing leaves before 3, and 3 is all or nothing.
//
// If you look for
//   - duplicates or gaps after a rebalance or a crash: session.go, transaction.go,
//     partition.go;
//   - a withdrawal that does not bind: barrier.go, idle.go, metadata.go;
//   - a registry change that is not seen: control.go;
//   - a wrong outcome: process.go hands each stage its arguments.
package flow
