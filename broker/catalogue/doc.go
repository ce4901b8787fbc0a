// Package catalogue describes what the broker offers, for other programs to read,
// from the registry alone.
//
//   - the topics and their messages, in AsyncAPI 3.1: asyncapi.go.
package catalogue
