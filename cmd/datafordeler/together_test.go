package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// guideBlock is what a guide has between fences of a language, the nth.
func blockOf(t *testing.T, guide, language string, n int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs/guides", guide))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), "```"+language+"\n")
	if len(parts) <= n+1 {
		t.Fatalf("%s has no block %d of %s", guide, n, language)
	}
	text, _, _ := strings.Cut(parts[n+1], "```")
	return text
}

func (r *lookupRig) applyText(text string) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "more.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	docs, err := registry.Load(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, _, err := r.node.apply(r.t.Context(), docs, "test", false); err != nil {
		r.t.Fatal(err)
	}
}

// bergenText turns the guide's agreement into one under which a case is needed.
var bergenText = strings.NewReplacer("oslo-barnehage", "bergen-husholdning", "purpose: foreldrebetaling", "purpose: sosialhjelp",
	"forskrift-foreldrebetaling", "sosialtjenesteloven-43", `"958935420"`, `"964338531"`)

// TestTogether asks about households as the guide says: by HTTP, and on the command
// line; and sees what a refusal tells, and what it does not.
func TestTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	r := newLookupRig(t)
	guide := blockOf(t, "derive-answers.md", "yaml", 1)
	r.applyText(guide)
	_, rest, _ := strings.Cut(guide, "\n---\n") // without the package
	r.applyText(bergenText.Replace(rest))

	var open, protected []string // with an income each
	for i, p := range r.people.People() {
		if i >= 40 {
			break
		}
		r.publish("inntekt", r.people.Income(nil, i))
		if p.Protected {
			protected = append(protected, p.ID)
		} else {
			open = append(open, p.ID)
		}
	}
	r.drain()
	nobody := r.people.Person(50).ID // of whom there is no record
	body := func(sub string, people ...string) string {
		b, _ := json.Marshal(map[string]any{"subjects": people, "subscription": sub})
		return string(b)
	}
	ask := func(org, body string) web.LookupAnswer {
		t.Helper()
		code, out, text := r.lookUp(org, "", body)
		if code != http.StatusOK || len(out.Answers) != 1 {
			t.Fatalf("%d %s", code, text)
		}
		for _, p := range append([]string{nobody}, open...) {
			if strings.Contains(text, p) {
				t.Errorf("the answer repeats whom it was about: %s", text)
			}
		}
		return out.Answers[0]
	}
	const oslo, bergen = "958935420", "964338531"
	a := ask(oslo, body("oslo-barnehage", open[:2]...))
	if a.Outcome != "answered" || len(a.Subjects) != 2 || a.Subjects[1].Place != 2 || a.Subjects[0].Decision == a.Subjects[1].Decision || a.Records != nil ||
		string(a.Answer) != `{"underGrensen":true}` && string(a.Answer) != `{"underGrensen":false}` || !strings.HasSuffix(a.Request, "00") {
		t.Errorf("%+v, %s", a, a.Answer)
	}
	if a := ask(oslo, body("oslo-barnehage", open[:8]...)); string(a.Answer) != `{"underGrensen":false}` {
		t.Errorf("%+v, %s", a, a.Answer)
	}
	// Without a case of everybody's: of whom, and why; and nothing of the others.
	r.open("bergen-husholdning", open[0])
	a = ask(bergen, body("bergen-husholdning", open[0], open[1], nobody))
	if a.Outcome != "refused" || len(a.Subjects) != 2 || a.Subjects[0].Place != 2 || a.Subjects[1].Place != 3 || a.Subjects[0].Reasons[0].Code != "no_open_case" ||
		a.Subjects[0].Reasons[0].Remedy["nb"] == "" || a.Answer != nil {
		t.Errorf("%+v", a)
	}
	// A record that is not there, and one that cannot be answered by, read the same.
	plain := func(a web.LookupAnswer) string {
		a.Request = ""
		b, _ := json.Marshal(a)
		return string(b)
	}
	missing := ask(oslo, body("oslo-barnehage", open[0], nobody))
	if missing.Outcome != "unanswered" || missing.Subjects != nil || missing.Decision != "" || missing.Reasons != nil {
		t.Errorf("%+v", missing)
	}
	r.applyText(strings.NewReplacer("version: 1", "version: 2", "remove: [/oppgaveInntektsmottaker/opplysningspliktigId]", "remove: [/oppgaveInntektsmottaker/inntekt/beloep]").Replace(guide))
	if len(protected) == 0 {
		t.Fatal("nobody is protected")
	}
	if other := ask(oslo, body("oslo-barnehage", open[0], protected[0])); plain(other) != plain(missing) {
		t.Errorf("what cannot be answered tells why:\n%s\n%s", plain(missing), plain(other))
	}

	for name, c := range map[string]struct {
		org, body string
		want      int
	}{
		"another's":             {bergen, body("oslo-barnehage", open[0]), 403},
		"one by itself":         {oslo, `{"subject":"` + open[0] + `","subscription":"oslo-barnehage"}`, 422},
		"no rule across":        {oslo, body("oslo-sosialhjelp", open[0]), 422},
		"none":                  {oslo, `{"subjects":[],"subscription":"oslo-barnehage"}`, 422},
		"one and several":       {oslo, `{"subject":"` + open[0] + `","subjects":["` + open[1] + `"],"subscription":"oslo-barnehage"}`, 422},
		"more than it is for":   {oslo, body("oslo-barnehage", open[:9]...), 422},
		"the same twice":        {oslo, body("oslo-barnehage", open[0], open[0]), 422},
		"a false number":        {oslo, body("oslo-barnehage", open[0], "01810000000"), 422},
		"several records":       {oslo, `{"subjects":["` + open[0] + `"],"subscription":"oslo-barnehage","records":2}`, 422},
		"too many in a request": {oslo, body("oslo-barnehage", open[:21]...), 422},
	} {
		code, _, text := r.lookUp(c.org, "", c.body)
		if code != c.want {
			t.Errorf("%s: %d %s, want %d", name, code, text, c.want)
		}
		if strings.Contains(text, open[0]) || strings.Contains(text, "01810000000") {
			t.Errorf("%s: the problem repeats whom it was about: %s", name, text)
		}
	}

	// On the command line, as the guide prints it.
	token := filepath.Join(t.TempDir(), "token.txt")
	if err := os.WriteFile(token, []byte(r.token(r.claims(oslo, ""))), 0o600); err != nil {
		t.Fatal(err)
	}
	lookUp := func(in string, more ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = run(t.Context(), stdio{strings.NewReader(in), &o, &e}, append([]string{"lookup", "--url", r.base, "--token-file", token, "--subscription", "oslo-barnehage"}, more...))
		return code, o.String(), e.String()
	}
	household := open[0] + "\n" + open[1] + "\n"
	code, out, errs := lookUp(household, "--together")
	shape := func(s string) string { // every value of the printed line that differs from time to time
		var line struct {
			Subscription broker.SubscriptionID
			Outcome      string
			Answer       map[string]bool
			Subjects     []struct{ Place int }
		}
		if err := json.Unmarshal([]byte(s), &line); err != nil {
			t.Fatalf("%v: %s %s", err, s, errs)
		}
		line.Answer["underGrensen"] = true
		b, _ := json.Marshal(line)
		return string(b)
	}
	if code != exitOK || shape(out) != shape(blockOf(t, "derive-answers.md", "json", 0)) {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, _, errs := lookUp(household); code != exitUsage || !strings.Contains(errs, "--together") {
		t.Errorf("%d %s", code, errs)
	}
	if code, out, errs := lookUp(open[0]+"\n"+nobody, "--together"); code != exitFailed || !strings.Contains(out, `"outcome":"unanswered"`) || strings.Contains(errs, nobody) {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, _, _ := lookUp(household, "--together", "--records", "2"); code != exitUsage {
		t.Error(code)
	}
	for _, p := range append([]string{nobody}, open...) {
		if r.log.contains(p) {
			t.Fatal("a number stands in the log")
		}
	}
}
