// Package web is the HTTP API: one door for each party, each endpoint with a rule
// that says who may come in. It decides nothing about records: what must be decided
// or committed before it is answered is asked of small interfaces that main fills.
//
// # The walk of a request
//
// limits of its client → who calls (access.Guard) → may they (the endpoint's Rule)
// → the operation. All of it stands in gate.go; an endpoint without a rule cannot
// be registered.
//
// # Which errand, where
//
//   - a request is refused, limited, logged or counted: gate.go, limit.go;
//   - what an error looks like: problem.go (RFC 9457);
//   - how a server starts, and ends without cutting off an answer: server.go;
//   - an answer is JSON or a table: tabular.go;
//   - the page on which the API is read and tried: docs.go, pages/;
//   - an endpoint: the file of its name;
//   - an event is published: publish_event.go makes its four forms one, publish.go asks
//     intake, publish_write.go writes and keeps the order, publish_stream.go paces
//     streams; what intake refused later is read in rejections.go.
package web
