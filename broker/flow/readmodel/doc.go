// Package readmodel keeps the read model (broker/store) filled from the topic of
// decisions. It reads what was committed, after routing and apart from it: it may
// lag, and says how far; whatever fails here is tried again, and never holds a
// delivery.
//
// Of all instances that fill the same read model one does, by a claim; the others
// stand by. Everything in it can be made again from the log: Rebuild.
//
// If you look for
//   - what is read, and how it becomes batches: feed.go;
//   - what happens after a failure, and how far it lags: follower.go;
//   - how it is made anew, and compared: rebuild.go.
package readmodel
