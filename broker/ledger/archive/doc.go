// Package archive writes and reads a ledger as a directory of its own: gzipped
// lines of JSON, the signed checkpoints, a manifest, and a README from which
// another program can be written.
package archive
