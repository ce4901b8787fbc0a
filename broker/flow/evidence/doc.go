// Package evidence puts what was decided into the ledger, and signs it: the loops
// around package ledger, which is pure.
//
//   - [Ledger] folds the topics ledger and checkpoints, on every instance, and
//     knows which decisions are under a head that counts;
//   - [Sequencer] appends: of all instances one, elected by the group of the
//     ledger's only partition, reads control and decisions, writes an entry for
//     each batch, and signs the tree that it reads back committed;
//   - [Ledger.Late] says when deliveries must stop, because what was decided has
//     not come under a head for too long.
//
// The ledger's own entries say how far it has read: they name the offset of each
// batch. So there is nothing to keep in step with them, and a sequencer that was
// killed goes on from what is committed. Its transactional id is fixed, and Kafka
// lets nobody write under it but who began last (KIP-98).
//
// If you look for
//   - an entry that is missing or doubled: sequencer.go, gather.go;
//   - a head that is not signed, or not cosigned: sign.go, key.go;
//   - a ledger that is read once more, or contradicts itself: fold.go, ledger.go;
//   - a witness that knows another history: fork.go;
//   - deliveries that are held for want of evidence: ledger.go.
package evidence
