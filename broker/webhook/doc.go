// Package webhook sends the deliveries of mailboxes to endpoints of their owners'.
//
// Each mailbox has a queue, on the one instance that the partition of its deliveries
// has been given ([Sender.Own]). The queue reads the log, keeps each subject's order,
// and says what may be sent now. Watermill's router ([Sender.Run]) hands each attempt
// to a goroutine of its own: it asks the door, signs, posts. What was tried as often as
// is done goes to the poison, which is the router's publisher.
//
// How far each mailbox has come is written to the topic webhooks within a second, and
// every instance folds it. A crash repeats what was sent since, with the same ids.
//
// If you look for
//   - an address that must not be called: guard.go;
//   - what is sent and what an answer means: post.go; the signature: package scheme;
//   - two deliveries of one subject out of order: queue.go;
//   - what waits and why, pauses, restarts: run.go;
//   - what is written down, rivals, poison, replays: book.go;
//   - what owners do: owner.go.
package webhook
