// Package inwords says in plain words what an agreement permits, to whom, when and
// why: in bokmål, nynorsk and English, in sentences that a citizen or a lawyer can
// read. What it says is made of the registry and of what the policy in force answers;
// nothing is said of one agreement that does not follow from these.
//
// The package knows no policy: whoever asks for a description asks the policy first,
// and hands on what it said (Policy).
//
//   - what is said, and in which order: build.go, build_law.go;
//   - the sentences, three of each side by side: phrases.go, phrases_law.go;
//   - dates, numbers of articles, names: words.go.
package inwords
