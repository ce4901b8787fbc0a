package policy

import (
	"strings"
	"testing"
)

// The access policy's own tests pass and reach every line of it.
func TestAccessPolicyTests(t *testing.T) {
	b := AccessBundle()
	report, err := b.testAgainst(t.Context(), accessSchemaJSON)
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() {
		t.Fatalf("%d passed; failed %v; not reached %v", report.Passed, report.Failed, report.Uncovered)
	}
}

func TestAccessChecker(t *testing.T) {
	c, err := NewAccessChecker()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		input map[string]any
		want  bool
	}{
		{map[string]any{"action": "self.read"}, true},
		{map[string]any{"action": "mailbox.receive", "kind": "organisation", "scope": true, "relation": "receiver", "via": "self"}, true},
		{map[string]any{"action": "mailbox.receive", "kind": "organisation", "scope": "yes", "relation": "other", "via": "self"}, false},
		{map[string]any{}, false},
		{nil, false},
	} {
		if got, err := c.Permits(x.input); err != nil || got != x.want {
			t.Errorf("%v: %v, %v", x.input, got, err)
		}
	}
	if _, err := c.Permits(map[string]any{"action": make(chan int)}); err == nil {
		t.Error("an input that is not JSON was answered")
	}
	if !strings.HasPrefix(c.Digest(), "sha256:") {
		t.Error(c.Digest())
	}
}

// Who may knock is no part of what decides on records.
func TestAccessIsNoPartOfSharing(t *testing.T) {
	for path := range Embedded().Modules {
		if strings.HasPrefix(path, "access") {
			t.Errorf("%s is in the policy that is activated", path)
		}
	}
	if c, err := NewAccessChecker(); err != nil || c.Digest() == Embedded().Digest() {
		t.Error("one digest for two policies", err)
	}
}
