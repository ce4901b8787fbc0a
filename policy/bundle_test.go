package policy

import (
	"context"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"datafordeler/broker"
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

// A report names what failed, what broke and what no test reached.
func TestReportOfFailures(t *testing.T) {
	b := with(Bundle{}, "a.rego", "package a\n\np := 1\n\nq := 2\n")
	b.TestModules = map[string]string{"a_test.rego": `package a_test

import data.a

test_p if a.p == 1

test_wrong if a.p == 2

test_broken if object.union_n([1])
`}
	r, err := b.Test(context.Background())
	if err == nil {
		t.Fatalf("a type error compiled: %+v", r)
	}
	b.TestModules["a_test.rego"] = strings.ReplaceAll(b.TestModules["a_test.rego"], "object.union_n([1])", "max(data.a.p_or_q) == 1")
	b.Modules["a.rego"] += "\np_or_q := {1, 2}\n"
	r, err = b.Test(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || r.Passed != 1 || len(r.Failed) != 2 || r.Coverage >= 100 || strings.Join(r.Uncovered, " ") != "a.rego:5" {
		t.Errorf("%+v", *r)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Test(done); err == nil {
		t.Error("tests ran under a context that is done")
	}
	if r, err := (Bundle{Modules: Embedded().Modules}).Test(context.Background()); err != nil || r.OK() {
		t.Errorf("no tests are not enough: %+v, %v", r, err)
	}
}

func TestDigest(t *testing.T) {
	b := Embedded()
	d := b.Digest()
	if !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(d) {
		t.Fatal(d)
	}
	for range 20 {
		again, err := FromFS(os.DirFS("."))
		if err != nil {
			t.Fatal(err)
		}
		// The rules about callers lie beside it, and are no part of it.
		maps.DeleteFunc(again.Modules, func(path, _ string) bool { return strings.HasPrefix(path, "access/") })
		if again.Digest() != d {
			t.Fatal("the same text has two digests")
		}
	}
	if embeddedEngine(t).Digest() != d {
		t.Error("the engine has another digest than its bundle")
	}
	seen := map[string]string{d: "as embedded"}
	for name, c := range map[string]Bundle{
		"another comment": with(b, "sharing/sharing.rego", b.Modules["sharing/sharing.rego"]+"# more\n"),
		"another module":  with(b, "sharing/more.rego", ""),
		"another path":    with(b, "sharing/mor", "e.rego"),
		"nothing":         {},
	} {
		if was, ok := seen[c.Digest()]; ok {
			t.Errorf("%s has the digest of %s", name, was)
		}
		seen[c.Digest()] = name
	}
	tests := b
	tests.TestModules = nil
	if tests.Digest() != d {
		t.Error("tests are no part of what decides")
	}
}

func TestFromFS(t *testing.T) {
	b, err := FromFS(fstest.MapFS{
		"a/b.rego":      {Data: []byte("package a")},
		"a/b_test.rego": {Data: []byte("package a_test")},
		"a/readme.md":   {Data: []byte("no")},
	})
	if err != nil || len(b.Modules) != 1 || b.Modules["a/b.rego"] != "package a" || len(b.TestModules) != 1 {
		t.Errorf("%+v, %v", b, err)
	}
	for name, fs := range map[string]fstest.MapFS{
		"empty":     {},
		"no rego":   {"readme.md": {}},
		"only test": {"a_test.rego": {}},
		"too large": {"a.rego": {Data: make([]byte, maxBundle+1)}},
	} {
		if _, err := FromFS(fs); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if _, err := FromFS(os.DirFS("/nonexistent")); err == nil {
		t.Error("a directory that does not exist was read")
	}
}

// with is b with one module more, or another.
func with(b Bundle, path, text string) Bundle {
	c := Bundle{Modules: maps.Clone(b.Modules), TestModules: b.TestModules}
	if c.Modules == nil {
		c.Modules = map[string]string{}
	}
	c.Modules[path] = text
	return c
}

// edit is the embedded policy with one piece of text replaced.
func edit(t *testing.T, path, old, new string) Bundle {
	t.Helper()
	b := Embedded()
	text := b.Modules[path]
	if strings.Count(text, old) < 1 {
		t.Fatalf("%s does not hold %q", path, old)
	}
	return with(b, path, strings.Replace(text, old, new, 1))
}

// A policy that could reach outside, or is not in order, does not compile.
func TestCompileRefuses(t *testing.T) {
	const main, cost = "sharing/sharing.rego", "sharing/costs/costs.rego"
	rule := "\nextra if "
	for name, c := range map[string]struct {
		bundle Bundle
		want   string
	}{
		"network":        {with(Embedded(), "x.rego", "package x\n"+rule+`http.send({"url": "https://example.org"})`), "http.send"},
		"look-up":        {with(Embedded(), "x.rego", "package x\n"+rule+`net.lookup_ip_addr("example.org")`), "net.lookup_ip_addr"},
		"clock":          {with(Embedded(), "x.rego", "package x\n"+rule+`time.now_ns() > 0`), "time.now_ns"},
		"chance":         {with(Embedded(), "x.rego", "package x\n"+rule+`rand.intn("a", 2) == 1`), "rand.intn"},
		"identifiers":    {with(Embedded(), "x.rego", "package x\n"+rule+`uuid.rfc4122("a") != ""`), "uuid.rfc4122"},
		"environment":    {with(Embedded(), "x.rego", "package x\n"+rule+`opa.runtime().env`), "opa.runtime"},
		"trace":          {with(Embedded(), "x.rego", "package x\n"+rule+`trace("a")`), "trace"},
		"print":          {with(Embedded(), "x.rego", "package x\n"+rule+`print("a")`), "print"},
		"not Rego":       {with(Embedded(), "x.rego", "package"), "x.rego:1"},
		"Rego v0":        {with(Embedded(), "x.rego", "package x\np { true }"), "x.rego:2"},
		"unused import":  {with(Embedded(), "x.rego", "package x\nimport data.sharing\np := 1"), "unused"},
		"unused var":     {with(Embedded(), "x.rego", "package x\np if { a := 1 }"), "unused"},
		"no such input":  {with(Embedded(), "x.rego", "package x\np := input.agreement.purpos"), "purpos"},
		"type of input":  {with(Embedded(), "x.rego", "package x\np if input.time == \"now\""), "match error"},
		"nothing":        {Bundle{}, "sharing.decision"},
		"no decision":    {with(Bundle{}, "x.rego", "package sharing\np := 1"), "sharing.decision"},
		"no chains":      {with(Bundle{}, "x.rego", "package sharing\ndecision := 1"), "sharing.chains"},
		"chains of sets": {with(Bundle{}, "x.rego", "package sharing\ndecision := 1\nchains := {\"a\": 1}"), "sharing.chains"},
		"twice in chains": {edit(t, main, `["ceiling_reached"]`, `["ceiling_reached", "payer_missing"]`),
			"payer_missing"},
		"not in chains": {edit(t, main, `, ["payer_missing"]`, ``), "payer_missing has no place"},
		"no such rule":  {edit(t, main, `["ceiling_reached"]`, `["ceiling_reached", "made_up"]`), "made_up"},
		"the broker's own": {edit(t, main, `["ceiling_reached"]`, `["ceiling_reached", "policy_error"]`),
			"policy_error"},
		"no metadata": {edit(t, cost, "# METADATA\n# title: The payer is named\n# scope: document\n", "# not\n"), "payer_missing"},
		"no title":    {edit(t, cost, "# title: The payer is named\n", ""), "title"},
		"no cites":    {edit(t, cost, "#   cites:\n#   - The agreement, its ceiling\n", ""), "cites"},
		"no nynorsk":  {edit(t, cost, "#     nn: Avtalen seier ikkje kven som betaler.\n", ""), "custom.message.nn"},
		"no remedy":   {edit(t, cost, "#     en: Agree on a higher ceiling, or make a new agreement.\n", ""), "custom.remedy.en"},
		"one more language": {edit(t, cost, "#     en: Agree on a higher", "#     de: Genug.\n#     en: Agree on a higher"),
			"custom.remedy"},
		"a word too many": {edit(t, cost, "# custom:\n", "# custom:\n#   coda: x\n"), "coda"},
		"two packages":    {with(Embedded(), "x.rego", "package sharing.more\n\ncleared[\"payer_missing\"] if true\n"), "payer_missing"},
		"any code":        {with(Embedded(), "x.rego", "package sharing.more\n\ncleared[c] if c := input.agreement.status\n"), "cleared.<code>"},
		"a code in capitals": {with(edit(t, main, `["ceiling_reached"]`, `["ceiling_reached", "NO"]`), "x.rego",
			"package sharing.more\n\n# METADATA\n# title: x\n# scope: document\ncleared[\"NO\"] if true\n"), "snake_case"},
	} {
		_, err := Compile(c.bundle)
		if err == nil {
			t.Errorf("%s: compiled", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want %q in: %v", name, c.want, err)
		}
	}
}

// A policy that compiles but answers badly gives an error, never a permit.
func TestBadAnswers(t *testing.T) {
	good := `{"allow": true, "reasons": [], "bases": ["statute"]}`
	for name, answer := range map[string]string{
		"undefined":                  `1 if input.time == 0`,
		"a number":                   `1`,
		"a boolean":                  `true`,
		"an empty object":            `{}`,
		"allow missing":              `{"reasons": [], "bases": ["statute"], "more": 1}`,
		"one key too many":           `{"allow": true, "reasons": [], "bases": ["statute"], "more": 1}`,
		"allow is text":              `{"allow": "true", "reasons": [], "bases": ["statute"]}`,
		"allow is null":              `{"allow": null, "reasons": [], "bases": ["statute"]}`,
		"reasons is a set":           `{"allow": false, "reasons": {"ceiling_reached"}, "bases": ["statute"]}`,
		"bases is text":              `{"allow": true, "reasons": [], "bases": "statute"}`,
		"a permit with reasons":      `{"allow": true, "reasons": ["ceiling_reached"], "bases": ["statute"]}`,
		"a permit without a basis":   `{"allow": true, "reasons": [], "bases": []}`,
		"a basis from elsewhere":     `{"allow": true, "reasons": [], "bases": ["x"]}`,
		"a basis that is a number":   `{"allow": true, "reasons": [], "bases": [1]}`,
		"a denial without reasons":   `{"allow": false, "reasons": [], "bases": ["statute"]}`,
		"a reason that nobody knows": `{"allow": false, "reasons": ["x"], "bases": []}`,
		"a reason that is a number":  `{"allow": false, "reasons": [1], "bases": []}`,
		"the broker's own reason":    `{"allow": false, "reasons": ["policy_error"], "bases": []}`,
		"a repeated reason":          `{"allow": false, "reasons": ["ceiling_reached", "ceiling_reached"], "bases": []}`,
		"reasons out of order":       `{"allow": false, "reasons": ["ceiling_reached", "payer_missing"], "bases": []}`,
		"two answers":                good + "\n\ndecision := 2 if input.time > 0",
		"an error in a built-in":     good + ` if count(object.get({"a": 1}, "a", 2)) == 1`,
	} {
		b := Embedded()
		text := b.Modules["sharing/sharing.rego"]
		at := strings.Index(text, "# METADATA\n# title: The decision")
		b = with(b, "sharing/sharing.rego", text[:at]+"decision := "+answer+"\n")
		e, err := Compile(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var m Memo
		for range 2 {
			if o, err := prepare(t, e, sample()).Decide(context.Background(), sampleFacts(), &m); err == nil || o != nil {
				t.Errorf("%s: %+v, %v", name, o, err)
			}
		}
		if len(m.outcomes) > 0 {
			t.Errorf("%s: the memo holds an error", name)
		}
	}
}

// Every reason says what it is, what it is about, and what to do, in each language.
func TestReasonsAreExplained(t *testing.T) {
	e := embeddedEngine(t)
	messages := map[string]broker.Reason{}
	for i, r := range e.Reasons() {
		if have, ok := e.Reason(r.Code); !ok || have.Title != r.Title {
			t.Errorf("%s is not found by its code", r.Code)
		}
		if r.Title == "" || len(r.Cites) == 0 || !codePattern.MatchString(string(r.Code)) {
			t.Errorf("%s lacks its title or what it cites", r.Code)
		}
		for _, c := range r.Cites {
			if strings.Contains(c, "§") {
				continue // an act, by its own name
			}
			for _, l := range []string{"nb", "nn"} {
				if Cited(c, l) == c {
					t.Errorf("%s cites %q, which has no words in %s: policy/cites.go", r.Code, c, l)
				}
			}
		}
		for _, l := range Languages {
			for what, text := range map[string]string{"message": r.Message[l], "remedy": r.Remedy[l]} {
				if !strings.HasSuffix(text, ".") || len(text) < 10 || len(text) > 200 {
					t.Errorf("%s: the %s in %s is no sentence: %q", r.Code, what, l, text)
				}
			}
			if other, ok := messages[r.Message[l]]; ok {
				t.Errorf("%s and %s say the same in %s", r.Code, other, l)
			}
			messages[r.Message[l]] = r.Code
		}
		if i < len(brokerReasons) && r.Code != brokerReasons[i].Code {
			t.Errorf("%s comes before the broker's own %s", r.Code, brokerReasons[i].Code)
		}
	}
	if _, ok := e.Reason("made_up"); ok {
		t.Error("a reason that does not exist was found")
	}
}

func TestCited(t *testing.T) {
	for _, c := range [][3]string{
		{"GDPR article 28", "nb", "personvernforordningen artikkel 28"},
		{"GDPR article 4(7)", "nn", "personvernforordninga artikkel 4 nr. 7"},
		{"GDPR article 6(1)(a)", "nb", "personvernforordningen artikkel 6 nr. 1 bokstav a"},
		{"GDPR article 6(1)(a)", "en", "GDPR article 6(1)(a)"},
		{"forvaltningsloven § 13 b", "nb", "forvaltningsloven § 13 b"},
		{"The agreement, its supplier", "nn", "Leverandøren i avtalen"},
		{"Instruks 7", "nb", "Instruks 7"},
	} {
		if got := Cited(c[0], c[1]); got != c[2] {
			t.Errorf("%s in %s: %s", c[0], c[1], got)
		}
	}
}
