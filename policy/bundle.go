package policy

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/version"
)

//go:embed sharing
var embedded embed.FS

//go:embed capabilities.json
var capabilitiesJSON []byte

//go:embed schemas/input.json
var inputSchemaJSON []byte

// Bundle is the text of a policy. Modules is what decides and what the digest
// covers; TestModules are the _test.rego files, which go nowhere but to Test.
// Keys are slash-separated paths.
type Bundle struct {
	Modules     map[string]string
	TestModules map[string]string
}

// maxBundle bounds a bundle's text in bytes, so that a mistaken directory is
// refused rather than read.
const maxBundle = 4 << 20

// Embedded is the policy that this binary was built with. What is in force is
// the one in the control topic.
func Embedded() Bundle {
	b, err := FromFS(embedded)
	if err != nil {
		panic(err) // the files are in the binary, and a test compiles them
	}
	return b
}

// FromFS reads every .rego file below fsys.
func FromFS(fsys fs.FS) (Bundle, error) {
	b := Bundle{Modules: map[string]string{}, TestModules: map[string]string{}}
	total := 0
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".rego") {
			return err
		}
		text, err := fs.ReadFile(fsys, path)
		if err != nil {
			return err
		}
		if total += len(text); total > maxBundle {
			return fmt.Errorf("more than %d bytes of Rego", maxBundle)
		}
		if strings.HasSuffix(path, "_test.rego") {
			b.TestModules[path] = string(text)
		} else {
			b.Modules[path] = string(text)
		}
		return nil
	})
	if err != nil {
		return Bundle{}, fmt.Errorf("read policy: %w", err)
	}
	if len(b.Modules) == 0 {
		return Bundle{}, fmt.Errorf("read policy: no .rego file found; want at least one with package sharing and a rule decision")
	}
	return b, nil
}

// Digest is "sha256:<hex>" over all that an answer depends on beside the input:
// the modules, the built-ins that they may use, the shape of the input, and the
// version of OPA.
func (b Bundle) Digest() string {
	h := sha256.New()
	part := func(name, text string) { // lengths first: no two lists of parts look alike
		fmt.Fprintf(h, "%d %d\n", len(name), len(text))
		io.WriteString(h, name)
		io.WriteString(h, text)
	}
	part("opa", version.Version)
	part("capabilities", string(capabilitiesJSON))
	part("input", string(inputSchemaJSON))
	for _, path := range slices.Sorted(maps.Keys(b.Modules)) {
		part("module "+path, b.Modules[path])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
