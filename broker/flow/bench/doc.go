// Package bench is what the broker is measured against: a registry and records
// of a chosen size, a copy that does nothing to a record, and the broker's work
// done the obvious way. `datafordeler bench` runs them.
//
// It does not import flow, so that flow's own benchmarks can use it.
//
//   - what is decided: scenario.go;
//   - the loop that both copies share: copy.go;
//   - the obvious way: naive.go.
package bench
