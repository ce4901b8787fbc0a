package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The house's rules, kept by asking the go command who imports whom. Tests may
// import what they like; what is built may not.

const module = "datafordeler"

type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// house lists the packages of this module.
func house(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Standard,Imports,Deps", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	packages := map[string]listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")] = p
	}
	if len(packages) < 10 {
		t.Fatalf("go list found %d packages only", len(packages))
	}
	return packages
}

// under reports whether a package path is one of the trees, or below one.
func under(path string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") })
}

// own is the path within the module, and whether it is in it at all.
func own(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// stages turn one record into the next thing, each by itself.
var stages = []string{"broker/registry", "broker/intake", "broker/match", "broker/minimise", "broker/deliver", "broker/ledger", "broker/account"}

const (
	opa    = "github.com/open-policy-agent"
	franz  = "github.com/twmb/franz-go"
	sqlite = "modernc.org/sqlite"
	// jsonSchema judges what broker/schema compiles; who else may use it needs
	// its errors' kinds, a schema's parts, or the naive way for comparison.
	jsonSchema = "github.com/santhosh-tekuri/jsonschema"
)

// validators may import jsonSchema.
var validators = []string{"broker/schema", "broker/intake", "broker/registry", "broker/flow/bench", "providers"}

func TestImports(t *testing.T) {
	packages := house(t)
	for name, p := range packages {
		for _, path := range p.Imports {
			inner, ours := own(path)
			switch {
			case name == "broker" && strings.Contains(path, "."):
				t.Errorf("broker imports %s: the vocabulary is standard library only", path)
			case name == "broker" && ours:
				t.Errorf("broker imports %s: imports point toward broker, never from it", path)
			case slices.Contains(stages, name) && slices.Contains(stages, inner):
				t.Errorf("%s imports %s: stages never import each other; what both need belongs to broker", name, path)
			case under(path, opa) && !under(name, "policy"):
				t.Errorf("%s imports %s: only policy knows OPA", name, path)
			case under(path, franz) && !under(name, "broker/kafka", "broker/flow", "consumers"):
				t.Errorf("%s imports %s: only kafka, flow and consumers speak to Kafka so", name, path)
			case under(path, jsonSchema) && !under(name, validators...):
				t.Errorf("%s imports %s: documents are held to schemas by broker/schema", name, path)
			case name == "broker/schema" && strings.Contains(path, ".") && !under(path, jsonSchema),
				name == "broker/schema" && ours && inner != "broker" && inner != "broker/jsondoc":
				t.Errorf("%s imports %s: it stands on broker, broker/jsondoc and the schema library alone", name, path)
			case name == "broker/derive" && (strings.Contains(path, ".") || ours && inner != "broker" && inner != "broker/jsondoc"):
				t.Errorf("%s imports %s: registry and minimise stand on it, and it on broker and broker/jsondoc alone", name, path)
			case under(path, "github.com/segmentio/kafka-go") && !under(name, "providers"):
				t.Errorf("%s imports %s: it hands aborted records to readers, so only providers may use it, to write", name, path)
			case under(inner, "broker/flow") && under(name, "broker/web"):
				t.Errorf("%s imports %s: cmd hands it a Committer", name, path)
			case under(inner, "cmd") && !under(name, "cmd"):
				t.Errorf("%s imports %s: a command is nobody's library", name, path)
			}
		}
	}
	// Whoever publishes or receives shall not have to build a policy engine or
	// a database: nor by a detour.
	for _, sdk := range []string{"consumers", "providers"} {
		p, ok := packages[sdk]
		if !ok {
			t.Fatalf("no package %s", sdk)
		}
		for _, path := range p.Deps {
			if under(path, opa, sqlite, module+"/policy", module+"/broker/store", module+"/broker/flow") {
				t.Errorf("%s comes to import %s", sdk, path)
			}
		}
	}
	// The packages whose outcome is evidence do no input or output of their own.
	for _, name := range append([]string{"broker/derive"}, stages...) {
		for _, path := range packages[name].Imports {
			if slices.Contains([]string{"net", "net/http", "os/exec", "database/sql"}, path) || path == "os" && name != "broker/registry" {
				t.Errorf("%s imports %s: a stage is a function of what it is given", name, path)
			}
		}
	}
}

// maxLines is where a file has more than one thing to say.
const maxLines = 600

// long are the files that may be longer, and why.
var long = map[string]string{}

func TestFileLength(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(path); ext != ".go" && ext != ".rego" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		n := bytes.Count(b, []byte("\n"))
		switch why, allowed := long[rel]; {
		case n > maxLines && !allowed:
			t.Errorf("%s has %d lines; at most %d: divide it by what it says", rel, n, maxLines)
		case n <= maxLines && allowed:
			t.Errorf("%s has %d lines: take it off the list of long files (%s)", rel, n, why)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoKeys: no key is kept among the sources, not even one of people who do not
// exist: the next one might be another's.
func TestNoKeys(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("git does not tell which files are kept: %v", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			continue // deleted, and not committed yet
		}
		if strings.HasSuffix(name, ".keys") || bytes.Contains(b, []byte("PRIVATE+KEY+")) && filepath.Ext(name) != ".go" {
			t.Errorf("%s holds secret keys", name)
		}
	}
}

// TestDependenciesDoc: each module that go.mod requires directly has its line,
// and no other has.
func TestDependenciesDoc(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var required, described []string
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) == 2 && strings.Contains(f[0], ".") && strings.HasPrefix(f[1], "v") {
			required = append(required, f[0])
		}
	}
	for line := range strings.Lines(string(doc)) {
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(rest, "`")
			described = append(described, name)
		}
	}
	slices.Sort(required)
	slices.Sort(described)
	if len(required) == 0 || !slices.Equal(required, described) {
		t.Errorf("go.mod requires\n%s\ndocs/dependencies.md describes\n%s", strings.Join(required, "\n"), strings.Join(described, "\n"))
	}
}
