// Package broker is the vocabulary of Datafordeler: the words that providers,
// consumers, auditors and the code share. It imports the standard library only
// and does no input or output.
//
// # One record's walk
//
// A provider publishes a CloudEvent on source.<dataset>. From there:
//
//   - intake   turns bytes into a [Record], or into a [Rejection] with its reason;
//   - match    finds the subscriptions in whose scope the record is;
//   - policy   answers, for each of them, permit or deny, and why ([Outcome]);
//   - minimise copies the agreed fields, and nothing else;
//   - deliver  encodes deliveries, the batch of decisions and the rejections;
//   - flow     commits all of it with the input's offset in one transaction.
//
// The stages before the commit are pure: (bytes, control state, policy, time)
// in, result out. Only flow owns goroutines, the Kafka session and the order.
//
// What the stages know about organisations, agreements, cases and consents is
// the fold of the control topic, in registry; its sequence number is the
// [Revision] that each decision names.
//
// # Where to look
//
//   - a record was refused: intake, then the rejected.<dataset> topic;
//   - a decision looks wrong: [Terms] and [Facts] are all that policy sees;
//   - a field is missing or too many: minimise;
//   - a duplicate, a gap, a rebalance: flow, and docs/decisions.
package broker
