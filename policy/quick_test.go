package policy

import (
	"context"
	"testing"
	"fmt"

	"pgregory.net/rapid"
)

func TestQuick(t *testing.T) {
	e := embeddedEngine(t)
	a := e.analysis()
	t.Logf("why %q exact %v unread %v", a.why, a.exact, a.unread)
	for name, terms := range demoLike() {
		p := prepare(t, e, terms)
		if err := p.Compile(t.Context()); err != nil {
			t.Error(name, err)
		}
		if name[0]=='3'||name[0]=='5' { fmt.Printf("%s %+v\n", name, p.Form()) }
	}
	rapid.Check(t, func(t *rapid.T) {
		p, _ := e.Prepare(drawTerms(t))
		if err := p.Compile(context.Background()); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			f := drawFacts(t, p.Terms())
			full, err1 := p.DecideFull(context.Background(), f)
			have, err2 := p.Decide(context.Background(), f, nil)
			if full != have || err1 != nil || err2 != nil {
				t.Fatalf("full %+v %v\ncomp %+v %v\n%+v", full, err1, have, err2, p.Form())
			}
		}
	})
}
