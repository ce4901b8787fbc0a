package providers_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports: whoever publishes should not have to build a policy engine, a
// database or a second Kafka client.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "datafordeler/providers").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, unwanted := range []string{"github.com/open-policy-agent/", "modernc.org/", "github.com/mattn/go-sqlite3", "github.com/twmb/"} {
			if strings.HasPrefix(dep, unwanted) {
				t.Errorf("providers imports %s", dep)
			}
		}
		if own, ok := strings.CutPrefix(dep, "datafordeler/"); ok && !slices.Contains([]string{"providers", "broker"}, own) {
			t.Errorf("providers imports %s; of the house, the vocabulary only", dep)
		}
	}
}
