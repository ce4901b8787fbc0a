// Package positions keeps the index of subject → positions (broker/store/positions)
// filled from the log: it follows the committed topic of decisions, reads the source
// records that each batch is about, and notes of those that intake accepted whom they
// are about. It runs after routing and apart from it: it may lag, and says how far;
// whatever fails here is tried again, and holds no delivery.
//
// Each instance has an index of its own, on its own disk. It is disposable: one that
// does not fit the log, as when the log was set back, is emptied and filled anew.
//
// If you look for
//   - what happens after a failure, how far it lags, and how it is asked: follower.go;
//   - who waits until it holds all that was decided: latest.go;
//   - how decisions become positions: feed.go;
//   - how one sees that it belongs to another log: check.go;
//   - what retention removed: retention.go.
package positions
