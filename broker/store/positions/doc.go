// Package positions is the index of subject → positions: where in the source log
// the records on a subject lie that intake accepted. A lookup asks it what there
// is on a subject now, and a case that opens late which records to deliver.
//
// It is a file of SQLite by itself, and disposable: all of it can be made again from
// the log, and flow/positions does so when the file is deleted. It holds keyed
// hashes and offsets only: no identifier, no payload.
//
// # What is current
//
// A correction names the event that it supersedes, a retraction the one that it
// takes back. Records that name each other, by however many steps, are a chain. Of a
// chain the newest record that no other names is its last word: that one is current,
// and nothing is where it is a retraction. So it does not matter whether each
// correction names the one before or all name the original; and taking back a
// correction takes back what it corrected, too.
//
// If you look for
//   - the tables, and opening: index.go;
//   - how it is filled, and what retention takes out: apply.go, expire.go;
//   - how it is asked: current.go, chain.go.
package positions
