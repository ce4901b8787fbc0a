package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

// What the guide to derivations tells people to write can be applied beside the
// demonstration's registry, and its tests hold.
func TestGuideToDerivations(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/derive-answers.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```yaml\n")
	if len(blocks) < 3 {
		t.Fatalf("the guide has %d blocks of YAML", len(blocks)-1)
	}
	beside := func(block string) (*Plan, error) {
		t.Helper()
		block, _, _ = strings.Cut(block, "```")
		path := filepath.Join(t.TempDir(), "barnehage.yaml")
		if err := os.WriteFile(path, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		docs, err := Load("../../deploy/demo", path)
		if err != nil {
			t.Fatal(err)
		}
		return NewPlan(New(), docs, "test", time.Unix(0, 0))
	}
	plan, err := beside(blocks[1])
	if err != nil {
		t.Fatal(err)
	}
	together, err := beside(blocks[2])
	if err != nil {
		t.Fatal(err)
	}
	if p := together.after.Package(broker.PackageRef{ID: "husholdning-under-grensen", Version: 1}); p == nil || p.Household == nil || len(p.Household.Tests) != 3 {
		t.Errorf("%+v", p)
	}
	// What a household's rule gets wrong is said at its line.
	for want, spoil := range map[string][2]string{
		"barnehage.yaml:21: the schema of dataset inntekt has no /oppgaveInntektsmottaker/inntekt/belop": {"value: /beloep", "value: /belop"},
		`is never "kontant"`:                                   {"in: [kontantytelse]", "in: [kontant]"},
		`barnehage.yaml:24: it reads "/beloep"`:                {"value: /inntekt\n", "value: /beloep\n"},
		`barnehage.yaml:31: test "to som sammen er`:            {"beloep: 23999.99", "beloep: 24000"},
		`test "på grensen": the answers are`:                   {"beloep: 54000}", "beloep: 1}"},
		"answers on several subjects together, and so nothing": {"lookup: true\n", "mailbox: oslo-sosialhjelp\n"},
		"fields, derivations or tests as well":                 {"fields: []", "fields: [/oppgaveInntektsmottaker/kalendermaaned]"},
		"barnehage.yaml:17: eleven digits in a row":            {"title: Kontantytelse i måneden", "title: av 01815012345"},
	} {
		text := strings.Replace(blocks[2], spoil[0], spoil[1], 1)
		if text == blocks[2] {
			t.Fatal(spoil)
		}
		if _, err := beside(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if p := plan.after.Package(broker.PackageRef{ID: "barnehage-baand", Version: 1}); p == nil || len(p.Derivations) != 1 || len(p.Tests) != 3 {
		t.Errorf("%+v", p)
	}
}

// A package that fails its own tests is accepted from nobody, by the test's name,
// whoever wrote the event: that is in the fold, and not only where it is declared.
func TestFoldRefusesFailingTests(t *testing.T) {
	s, _ := everything(t)
	p := broker.RightsPackage{ID: "y", Version: 1, Dataset: "d", Title: "Y", Fields: []broker.Pointer{"/p"},
		Derivations: []broker.Derivation{{V: 1, Target: "/sum", Title: "Sum", Op: broker.Sum, Value: "/b"}},
		Tests:       []broker.DerivationTest{{Name: "feil sum", Record: []byte(`{"b":1}`), Want: []byte(`{"sum":"2"}`)}}}
	for want, change := range map[string]func(){
		`tests/0: test "feil sum": the answers are {"sum":"1"}`: func() {},
		"derivations/0/v: v is 2":                               func() { p.Derivations[0].V = 2 },
		"":                                                      func() { p.Derivations[0].V, p.Tests[0].Want = 1, []byte(`{"sum":"1"}`) },
		"derivations/0/target: the answer would stand in /p, whe": func() { p.Derivations[0].Target = "/p" },
	} {
		q := p
		q.Derivations = append([]broker.Derivation{}, p.Derivations...)
		q.Tests = append([]broker.DerivationTest{}, p.Tests...)
		p, q = q, p
		change()
		events := must(s.Link(now, "test", must(Put(p))))
		err := s.Check(events[0])
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
		if want != "" {
			if ok, err := s.Fold(events[0]); ok || err != nil {
				t.Errorf("%s: folded %v, %v", want, ok, err)
			}
		}
		p = q
	}
}
