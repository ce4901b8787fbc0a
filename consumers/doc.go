// Package consumers is the SDK for those who receive: it hands over the
// deliveries of one mailbox, in order, each with its provenance.
//
//	r, err := consumers.New(consumers.Config{
//		Brokers:     []string{"kafka-1:9092"},
//		Mailbox:     "oslo-sosialhjelp",
//		Checkpoints: consumers.FileStore("/var/lib/barnehage/checkpoint.json"),
//		Follow:      true,
//	})
//	…
//	err = r.Receive(ctx, func(ctx context.Context, d consumers.Delivery) error {
//		return store(ctx, d)
//	})
//
// Over HTTP, nothing of Kafka is needed: with URL and Token in place of Brokers, the
// same handler receives the mailbox as a feed. [OpenSQL] keeps the position in the
// caller's own database, and each delivery's id in the transaction that holds what
// was done with it.
//
// # What is promised
//
// Only committed deliveries are handed over: what the broker wrote in a
// transaction that it then gave up is never seen. A delivery is handed over at
// least once, and counts as handled when the handler has returned nil. A
// delivery with the id of one handled before, within the window, is a repeat
// and is dropped. With a [Store], position and window survive a restart; after
// a crash, what was handled since the last checkpoint comes again, with the
// same ids. A handler that must not act twice remembers ids together with what
// it does.
//
// Order is that of each subject's records at their source; between subjects
// there is none.
//
// # Corrections
//
// A delivery of kind correction or retraction names, in Of, the id of the
// delivery that it changes.
//
// # When something is wrong
//
// Receive stops rather than skip: at a message that cannot be read (the error
// is a [*MessageError], with its position), where messages are gone that were
// not handled yet ([*GoneError], with where to resync), where there is no such
// mailbox ([ErrNoMailbox]). Errors name positions and ids, never content.
package consumers
