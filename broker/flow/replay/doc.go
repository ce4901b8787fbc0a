// Package replay computes past decisions again from what stands in the log: the
// source records, the control events, the policies that were active and the keys.
//
// Without a candidate it is a check: every decision must come out as it was
// recorded, and what does not is a fault, named by its place. With a candidate
// policy or registry it is a question: what would have been answered otherwise.
//
// It stands on the stages alone, not on the loops that made the decisions: what
// a loop got wrong shows here.
//
// # Which errand, where
//
//   - in what order the log is read, and how little of it is held: run.go, log.go;
//   - which state and policy a batch was decided under: past.go, rules.go;
//   - what is computed of one record, and what it is held to: batch.go, judge.go;
//   - of decisions that lie scattered, and of households: singles.go, household.go;
//   - what the window of repeats can know when its beginning is gone: part.go;
//   - what is told in the end: report.go.
//
// What cannot be computed again is counted with its reason, never left out.
package replay
