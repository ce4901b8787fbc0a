// Package policy answers, for one record and one subscription, whether it may be
// shared, why not, and on what legal basis. The rules are Rego, in sharing; this
// package compiles and evaluates them with Open Policy Agent, and is the only one
// that imports it.
//
// A [Bundle] is the text of a policy. [Compile] makes an [Engine] of it, or says
// what is wrong. [Engine.Prepare] takes the [broker.Terms] of one subscription,
// and [Prepared.Decide] the [broker.Facts] of one record. [Prepared.Compile] makes it
// a thousand times faster where it can, with the same answers; [Prepared.DecideFull]
// is the reference.
//
// An answer is a pure function of [Input] and the engine's digest: there is no
// network, clock, randomness or environment in the rules (capabilities.json).
// An error is no answer: the caller denies with [broker.ReasonPolicyError].
//
// # Where to look
//
//   - what a reason means, and what to do about it: [Engine.Reason];
//   - why a decision came out so: [Input], then sharing/sharing.rego;
//   - why the rules have the shape they have: docs/decisions/0005-policy-shape.md;
//   - how they are compiled, and when not: frame.go, and docs/decisions/0009-compiled-policy.md.
package policy
