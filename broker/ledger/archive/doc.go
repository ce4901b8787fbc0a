// Package archive writes and reads a ledger as a directory of its own: gzipped
// lines of JSON, the signed checkpoints, a manifest, and a README from which
// another program can be written.
//
// The manifest and the sums in it find damage and help to show progress. They
// prove nothing: ledger.Verifier does, which takes a Reader as its source.
package archive
