// Package witness cosigns the checkpoints of logs, and asks others to.
//
// A witness sees the heads of a log one after another and signs each only when
// it is shown that the tree it signed before is a part of the new one. So nobody
// who requires its signature can be shown another history, not by the log's
// operator either. It holds one head for each log, no content, no personal data.
//
// The protocol is C2SP's: https://c2sp.org/tlog-witness, over the formats
// https://c2sp.org/tlog-checkpoint and https://c2sp.org/tlog-cosignature.
//
// # Which errand, where
//
//   - what is checked before a cosignature, in what order: witness.go;
//   - what a witness remembers, and how it outlives a crash: state.go, disk.go;
//   - the bytes of a request: request.go; what is answered over HTTP: handler.go;
//   - asking one witness: client.go; asking all that a policy names: gather.go.
package witness
