// Package audit answers the questions that are asked of what was decided: which
// decisions, why, on whom, is every record accounted for, did only agreed fields
// leave, what falls due. The command line and the HTTP API ask the same Desk, so
// they give the same answers.
//
// It asks the read model (Store), the registry as it is and as it was (Control)
// and the ledger (Ledger), and keeps nothing of its own.
//
// # Which errand, where
//
//   - who may be told what: scope.go. An organisation that is no auditor is told
//     of the decisions that it is party to, and the limit is set there alone;
//   - filters in words, and how a decision is written in JSON: decision.go;
//   - tables for spreadsheets: csv.go;
//   - why was this decided: explain.go, and in which words: words.go;
//   - who got one subject's data: subject.go;
//   - accounts: coverage.go, fields.go; what falls due: expiring.go.
package audit
