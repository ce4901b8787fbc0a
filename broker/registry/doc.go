// Package registry is what the broker knows: organisations, datasets, law,
// agreements, subscriptions, delegations, and which subjects have an open case or
// gave consent. All of it is the fold of one totally ordered log, the control
// topic; the number of accepted events is the [broker.Revision] that decisions
// name. The package does no input or output but reading declaration files.
//
// # The walk of a change
//
//   - someone declares it in YAML ([Load]) or by a constructor ([OpenCase],
//     [WithdrawConsent], [LeaseBudget], …);
//   - [NewPlan] holds declarations and state together against every rule at once
//     and lists all faults, or the changes;
//   - [State.Link] ties the changes to the revision that they were checked on;
//   - the caller appends the events to the control topic, in one transaction;
//   - everyone reads them back and calls [State.Fold]. Whoever was overtaken
//     loses, the same for all, and starts again from the new state.
//
// # What is a fault, and what is policy's
//
// A fault is what cannot mean anything: a name that points nowhere, an interval
// that ends before it begins, a field that the schema lacks. It is refused here.
// What means something that is not lawful can be registered, and is denied by
// policy, record by record and visibly: an agreement with no legal basis or whose
// basis covers another purpose, dataset or recipient; a basis not yet, or no
// longer, in force; cost cover not agreed or no payer; no controller; a supplier
// without a delegation; a provider that does not own the dataset; an agreement
// not accepted, suspended or ended; a suspended subscription or mailbox. The
// reason is that these change by themselves or by others' hands — a statute comes
// into force, a delegation is given — and that a refusal is evidence too.
//
// # Which errand, where
//
//   - the control topic's format, all event types: event.go;
//   - who wins when two write: Fold in state.go; what Fold refuses: refuse.go;
//   - what stages read per record: subjects.go; agreements resolved: terms.go;
//   - declaration files: load.go, decode.go; rules: validate*.go, schema.go;
//   - what apply would do: plan.go.
package registry
