package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// The official JSON Schema Test Suite: each of its documents gets the library's
// verdict, whatever the suite itself wants.

// without is the variable that lets the test pass without the suite; its value
// is the reason, which is printed.
const without = "DATAFORDELER_WITHOUT_SUITE"

func suiteDir(t *testing.T) string {
	dir, err := filepath.Abs("../../.cache/jsonschema")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		if why := os.Getenv(without); why != "" {
			t.Skipf("not held to the JSON Schema Test Suite: %s (%s)", why, without)
		}
		t.Fatalf("the JSON Schema Test Suite is not in %s: run 'make suite', or set %s to the reason why not", dir, without)
	}
	return dir
}

// remotes are the schemas that the suite refers to.
type remotes string

func (dir remotes) Load(url string) (any, error) {
	path, ok := strings.CutPrefix(url, "http://localhost:1234/")
	if !ok {
		return nil, errors.New("not one of the suite's")
	}
	f, err := os.Open(filepath.Join(string(dir), filepath.FromSlash(path)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return jsonschema.UnmarshalJSON(f)
}

type group struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

// tally is what became of a suite's schemas and documents.
type tally struct {
	native, documents, refused, unread int
	fallback                           map[string]int
}

func (a *tally) file(t *testing.T, path string, draft *jsonschema.Draft, remote string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var groups []group
	if err := json.Unmarshal(b, &groups); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for _, g := range groups {
		var doc jsondoc.Doc
		if err := doc.Parse(g.Schema, 64); err != nil {
			t.Fatalf("%s: %s: %v", path, g.Description, err)
		}
		c := jsonschema.NewCompiler()
		c.DefaultDraft(draft)
		c.AssertFormat()
		c.UseLoader(remotes(remote))
		if err := c.AddResource("http://testsuites.com/schema.json", Generic(&doc, 0)); err != nil {
			t.Fatal(err)
		}
		library, err := c.Compile("http://testsuites.com/schema.json")
		if err != nil {
			a.refused++ // no schema of the library's, so none that a dataset could have
			continue
		}
		s, err := compile(library, []broker.Pointer{"/foo", "/foo/bar", ""})
		if err != nil {
			t.Fatal(err)
		}
		if s.fallback == "" {
			a.native++
		} else {
			reason, _, _ := strings.Cut(s.fallback, " at #")
			a.fallback[reason]++
		}
		for _, test := range g.Tests {
			if err := doc.Parse(test.Data, 64); err != nil {
				a.unread++
				continue
			}
			a.documents++
			agree(t, s, &doc, func() string {
				return fmt.Sprintf("%s: %s: %s\nschema %s\ndata %s", path, g.Description, test.Description, g.Schema, test.Data)
			})
		}
	}
}

// agree holds a document to a schema both ways, and the hits to what the paths
// lead to.
func agree(t rapid.TB, s *Schema, doc *jsondoc.Doc, where func() string) {
	t.Helper()
	var r Run
	want := s.library.Validate(Generic(doc, 0)) == nil
	if s.fallback == "" {
		if got := s.holds(&r, doc); got != want || r.failed {
			t.Errorf("%s\ncompiled %t (failed %t), library %t", where(), got, r.failed, want)
		}
		// Once more with the memo in use from the beginning.
		r.reset(doc)
		r.budget = 0
		if got := r.eval(s.root, 0); got != want {
			t.Errorf("%s\ncompiled with its memo %t, library %t", where(), got, want)
		}
	}
	if err := s.Validate(&r, doc); (err == nil) != want {
		t.Errorf("%s\n%v, library %t", where(), err, want)
	}
	for range 2 {
		if readAgrees(t, s, &r, new(jsondoc.Doc), doc.Data(), 1000) && !want {
			t.Errorf("%s\nread in one pass, library %t", where(), want)
		}
	}
}

func (a *tally) dir(t *testing.T, dir string, draft *jsonschema.Draft, remote string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".json" {
			a.file(t, path, draft, remote)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var drafts = []struct {
	name  string
	draft *jsonschema.Draft
}{
	{"draft4", jsonschema.Draft4}, {"draft6", jsonschema.Draft6}, {"draft7", jsonschema.Draft7},
	{"draft2019-09", jsonschema.Draft2019}, {"draft2020-12", jsonschema.Draft2020},
}

func (a *tally) report(t *testing.T, name string) {
	fell := 0
	for _, n := range a.fallback {
		fell += n
	}
	t.Logf("%s: %d of %d schemas are compiled (%.1f %%), %d documents; %d schemas that the library refuses, %d documents that are no strict JSON",
		name, a.native, a.native+fell, 100*float64(a.native)/float64(a.native+fell), a.documents, a.refused, a.unread)
	for _, reason := range sorted(a.fallback) {
		t.Logf("    falls back: %d for %s", a.fallback[reason], reason)
	}
}

func TestSuite(t *testing.T) {
	dir := suiteDir(t)
	all := tally{fallback: map[string]int{}}
	for _, d := range drafts {
		a := tally{fallback: map[string]int{}}
		a.dir(t, filepath.Join(dir, "tests", d.name), d.draft, filepath.Join(dir, "remotes"))
		a.report(t, d.name)
		all.native, all.documents, all.refused, all.unread = all.native+a.native, all.documents+a.documents, all.refused+a.refused, all.unread+a.unread
		for reason, n := range a.fallback {
			all.fallback[reason] += n
		}
	}
	all.report(t, "in all")
	if all.documents < 5000 {
		t.Errorf("the suite had %d documents only", all.documents)
	}
	if all.refused > 60 {
		t.Errorf("the library refuses %d schemas", all.refused)
	}
}

// TestLibrarysOwnSuite is what the library's authors add to the official one.
func TestLibrarysOwnSuite(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/santhosh-tekuri/jsonschema/v6").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "testdata", "Extra-Test-Suite")
	a := tally{fallback: map[string]int{}}
	for _, d := range drafts {
		if path := filepath.Join(dir, "tests", d.name); exists(path) {
			a.dir(t, path, d.draft, filepath.Join(dir, "remotes"))
		}
	}
	a.report(t, "the library's own")
	if a.documents < 50 {
		t.Errorf("there were %d documents only", a.documents)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestPatterns: the tables judge the suite's patterns, and some of the
// kind that registers use, as the regular expressions do.
func TestPatterns(t *testing.T) {
	patterns := []string{
		"^[0-9]{11}$", "^[0-9]{4}-(0[1-9]|1[0-2])$", "^[A-Za-z]{2}[0-9]{4,5}$", "^[A-ZÆØÅ]$", "^\\d{1,15}$", "", "^", "$", "^$", "a", "a*", "^a*$",
		"a$", "^a", "^.*$", "^.+$", "(?s)^.$", "(?i)^k$", "^(a|ab)(c|bcd)$", "x*y|z$", "^\\S(|(.|\\n)*\\S)\\Z", "^(foo|bar)", "(ab)+$", "[^a-c]", "^[^0-9]*$",
		"^\\w+@\\w+\\.no$", "\\bfoo\\b", "(?m)^a$", "a{0,3}b", "^(?:[a-z]+\\.)*[a-z]+$", "^$|^a$", "a^b", "a$b", "(^a|b$)", "$^", "(?:$^)|a$", "^x-", "\\.", "()$",
	}
	alphabet := []string{"", "a", "b", "c", "k", "K", "x", "y", "z", "0", "1", "9", "-", ".", "@", "\n", " ", "æ", "Å", "K", "foo", "bar", "ab", "no", "12345678901", "2026-10", "AB1234"}
	var run func(m *matcher, re *regexp.Regexp, text string, depth int)
	run = func(m *matcher, re *regexp.Regexp, text string, depth int) {
		if got, want := m.match([]byte(text)), re.MatchString(text); got != want {
			t.Errorf("%q and %q: %t, want %t", re, text, got, want)
		}
		if depth > 0 {
			for _, a := range alphabet[1:] {
				run(m, re, text+a, depth-1)
			}
		}
	}
	tables := 0
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			continue
		}
		m := newMatcher(re)
		if m.table != nil {
			tables++
		}
		run(m, re, "", 3)
	}
	if tables < len(patterns)-4 {
		t.Errorf("of %d patterns %d only are tables", len(patterns), tables)
	}
	if m := newMatcher(regexp.MustCompile(`\bfoo\b`)); m.table != nil {
		t.Error("a table has no word boundaries")
	}
}
