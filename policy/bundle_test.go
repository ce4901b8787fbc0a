package policy

import (
	"context"
	"testing"
)

// The policy's own tests pass and reach every line.
func TestRego(t *testing.T) {
	r, err := Embedded().Test(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failed {
		t.Error("failed: ", f)
	}
	for _, u := range r.Uncovered {
		t.Error("not covered: ", u)
	}
	if !r.OK() || r.Coverage != 100 {
		t.Errorf("%d passed, coverage %.1f %%", r.Passed, r.Coverage)
	}
}
