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
// What was decided goes on, after the commit and apart from it:
//
//   - ledger   turns each batch of decisions into lines, hash trees and proofs;
//     flow/evidence reads the batches, sequences and signs them. Where none is
//     signed for too long, flow begins no more transactions;
//   - ledger/witness cosigns the signed heads, so that the operator cannot show two
//     histories; ledger/archive copies the ledger out, to be verified elsewhere;
//   - store    holds every decision in tables, to be asked for;
//     flow/readmodel fills it from the log, and can do so again;
//   - store/positions holds where the records on a subject lie; flow/positions fills
//     it, and can do so again;
//   - flow/replay computes past decisions again from the log alone, as they were or
//     as another policy would have had them.
//
// The stages before the commit are pure: (bytes, control state, policy, time)
// in, result out. Only flow owns goroutines, the Kafka session and the order.
//
// What the stages know about organisations, agreements, cases and consents is
// the fold of the control topic, in registry; its sequence number is the
// [Revision] that each decision names. Identifiers become hashes under secrets
// that keys holds, apart from all else; kafka is how all of them reach the log.
//
// # Where to look
//
//   - a record was refused: intake, then the rejected.<dataset> topic;
//   - a decision looks wrong: [Terms] and [Facts] are all that policy sees;
//   - a field is missing or too many: minimise;
//   - a duplicate, a gap, a rebalance: flow, and docs/decisions;
//   - deliveries are held, a head or a cosignature is missing: flow/evidence;
//   - a proof does not verify: ledger, and docs/guides/audit-the-ledger.md;
//   - a search finds too little: flow/readmodel for how far it is, then store;
//   - a lookup finds too little: flow/positions, then store/positions;
//   - a decision comes out otherwise today: flow/replay;
//   - a reader jumps, waits or says that something is gone: kafka, reader.go.
//   - a consent was withdrawn in Altinn and counts here: consentfeed;
//   - an endpoint is sent nothing, or not what was expected: webhook.
package broker
