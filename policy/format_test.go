package policy

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Every .rego file is as `opa fmt` writes it.
func TestRegoIsFormatted(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".rego") {
			return err
		}
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, err := format.SourceWithOpts(path, have, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			return err
		}
		if bytes.Equal(have, want) {
			return nil
		}
		if *update {
			return os.WriteFile(path, want, 0o644)
		}
		t.Errorf("%s is not formatted; run: go test ./policy -run Formatted -update", path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
