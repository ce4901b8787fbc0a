// Package ledger makes evidence of decisions: lines of text, hash trees over
// them, and the checks with which anybody can see that nothing was changed,
// dropped or added. It is pure: flow reads, sequences and writes.
//
// What is evidence is text, so that who wants to check it in twenty years needs
// a JSON parser and SHA-256 and nothing of ours:
//
//   - A record of decisions becomes a head line and a line for each decision.
//     Over them stands a Merkle tree (RFC 6962), the inner one.
//   - An Entry, a line too, names the batch and the root of its lines. The
//     entries are the leaves of the outer tree. Control events lie under it in
//     entries of their own, before the batches that rest on them.
//   - A Checkpoint is the outer tree's size and root, signed by the log and
//     cosigned by witnesses.
//
// Which entry may come next is Sequence's to say. What all of it adds up to is
// Verifier's. One line's way to a checkpoint is a Proof.
//
// If you look for
//   - the bytes of lines: decision.go, head.go, entry.go, text.go, and
//     docs/formats.md;
//   - how a batch becomes lines and an entry: builder.go, control.go;
//   - trees: rows.go for what is hashed once, tree.go for what is kept;
//   - gaps, overlaps and revisions: sequence.go;
//   - what a verifier calls a fault: fault.go.
package ledger
