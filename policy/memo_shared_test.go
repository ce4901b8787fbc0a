package policy

import (
	"context"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// Memos that share what they learn give the answers of none at all, whichever of
// the goroutines was first.
func TestSharedMemoIsSound(t *testing.T) {
	e := embeddedEngine(t)
	rapid.Check(t, func(t *rapid.T) {
		p, err := e.Prepare(drawTerms(t))
		if err != nil {
			t.Fatal(err)
		}
		facts := make([]*broker.Facts, 4)
		want := make([]*broker.Outcome, len(facts))
		for i := range facts {
			facts[i] = drawFacts(t, p.Terms())
			want[i] = oracle(p.Terms(), facts[i])
		}
		var shared SharedMemo
		var group sync.WaitGroup
		var errs [2]string
		for g := range errs {
			group.Go(func() {
				m := Memo{Shared: &shared}
				for i := range facts {
					i = (i + g*2) % len(facts) // they meet half-way
					have, err := p.Decide(context.Background(), facts[i], &m)
					if err != nil || !same(have, want[i]) {
						errs[g] = "a shared memo changed an answer"
					}
				}
			})
		}
		group.Wait()
		for _, err := range errs {
			if err != "" {
				t.Fatal(err)
			}
		}
		late := Memo{Shared: &shared}
		first, _ := p.Decide(context.Background(), facts[0], &late)
		if (&Memo{Shared: &shared}).get(p, facts[0]) != first {
			t.Fatal("an input known to another goroutine would be evaluated again")
		}
		shared.Reset()
		if (&Memo{Shared: &shared}).get(p, facts[0]) != nil {
			t.Fatal("Reset kept an outcome")
		}
	})
}
