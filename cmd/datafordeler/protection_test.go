package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"datafordeler/broker"
	"datafordeler/providers/synthetic"
)

// A population register of the test's own: a list of events, and person documents.
type personRegister struct {
	mu     sync.Mutex
	events []string          // by number, from 1
	grades map[string]string // document → adressebeskyttelse as JSON
	asked  []string          // addresses
}

func (r *personRegister) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, q.URL.String())
	if doc, ok := strings.CutPrefix(q.URL.Path, "/personer/"); ok {
		grade, ok := r.grades[doc]
		if !ok {
			http.NotFound(w, q)
			return
		}
		fmt.Fprintf(w, `{"identifikasjonsnummer":[],"adressebeskyttelse":%s}`, grade)
		return
	}
	from, _ := strconv.Atoi(q.URL.Query().Get("fraSekvensnummer"))
	count, _ := strconv.Atoi(q.URL.Query().Get("antall"))
	page := r.events[min(from-1, len(r.events)):min(from-1+count, len(r.events))]
	fmt.Fprintf(w, `{"hendelser":[%s]}`, strings.Join(page, ","))
}

// happens tells of a person, whose document is as good as now.
func (r *personRegister) happens(person, document, grade string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf(`{"sekvensnummer":%d,"hendelse":{"folkeregisteridentifikator":%q,"hendelsetype":"endringIAdressebeskyttelse","persondokument":%q}}`,
		len(r.events)+1, person, document))
	r.grades[document] = grade
}

func TestProtectionFollowsTheRegister(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens an embedded engine")
	}
	data := filepath.Join(t.TempDir(), "data")
	people := synthetic.New(synthetic.Config{People: 1200, Seed: 4})
	register := &personRegister{grades: map[string]string{}}
	server := httptest.NewServer(register)
	defer server.Close()
	command := func(in string, args ...string) (code int, out string) {
		t.Helper()
		var b bytes.Buffer
		code = run(context.Background(), stdio{strings.NewReader(in), &b, &b}, append(args, "--data", data))
		for i := range 5 {
			if strings.Contains(b.String(), people.Person(i).ID) {
				t.Errorf("%v prints a person's number", args)
			}
		}
		return code, b.String()
	}
	if code, out := command("", "demo", "--once", "--people", "50"); code != 0 {
		t.Fatal(out)
	}
	follow := func(more ...string) (int, string) {
		t.Helper()
		return command("", append([]string{"protection", "follow", "--source", "folkeregisteret", "--list", server.URL + "/hendelser",
			"--documents", server.URL + "/personer/{persondokument}", "--actor", "drift", "--once"}, more...)...)
	}
	status := func() (s struct {
		Followed *struct{ Sequence int64 }
		Known    bool
		Persons  map[broker.Protection]int
	}) {
		t.Helper()
		code, out := command("", "protection", "status", "--json")
		if code != 0 || json.Unmarshal([]byte(out), &s) != nil {
			t.Fatal(out)
		}
		return s
	}
	current := func(grade string) string {
		return fmt.Sprintf(`[{"graderingsnivaa":"strengtFortrolig","erGjeldende":false},{"graderingsnivaa":%q,"erGjeldende":true}]`, grade)
	}

	if _, out := command("", "protection", "status"); !strings.Contains(out, "everybody is taken for protected") {
		t.Error(out)
	}
	register.happens(people.Person(0).ID, "d0", current("fortrolig"))
	register.happens(people.Person(1).ID, "d1", `[]`)
	if code, out := follow(); code != exitUsage || !strings.Contains(out, "import the register's list first") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := follow("--from", "1"); code != 0 || !strings.Contains(out, "to event 2") {
		t.Fatalf("%d %s", code, out)
	}
	if s := status(); !s.Known || s.Followed.Sequence != 2 || s.Persons[broker.Confidential] != 1 || len(s.Persons) != 1 {
		t.Errorf("%+v", s)
	}

	// On from there: one is lifted, one has a grade that nobody knows, one is given up.
	register.happens(people.Person(0).ID, "d0", current("ugradert"))
	register.happens(people.Person(2).ID, "d2", `[{"graderingsnivaa":"hemmelig"}]`)
	if code, out := follow(); code != 0 || !strings.Contains(out, "to event 4") {
		t.Fatalf("%d %s", code, out)
	}
	if s := status(); s.Followed.Sequence != 4 || s.Persons[broker.StrictlyConfidential] != 1 || s.Persons[broker.Confidential] != 0 {
		t.Errorf("%+v", s)
	}
	// A document that cannot be had: nothing is said to have been read.
	register.happens(people.Person(3).ID, "d3", `{}`)
	if code, out := follow(); code == 0 || !strings.Contains(out, "adressebeskyttelse is no list") {
		t.Errorf("%d %s", code, out)
	}
	if s := status(); s.Followed.Sequence != 4 {
		t.Errorf("%+v", s)
	}
	register.happens(people.Person(3).ID, "d3", `null`)
	if code, out := follow(); code != 0 {
		t.Errorf("%d %s", code, out)
	}
	for _, a := range register.asked {
		for i := range 5 {
			if strings.Contains(a, people.Person(i).ID) {
				t.Errorf("a person's number is in an address: %s", a)
			}
		}
	}

	// A whole list: who is not in it is not protected.
	list := people.Person(4).ID + " klientadresse\n\n" + people.Person(5).ID + " ugradert\n"
	if code, out := command(list, "protection", "import", "--source", "folkeregisteret", "--sequence", "9", "--actor", "drift", "--dry-run"); code != 0 || !strings.Contains(out, "2 in the list, 2 would change") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command(list, "protection", "import", "--source", "folkeregisteret", "--sequence", "9", "--actor", "drift"); code != 0 || !strings.Contains(out, "2 in the list, 2 changed") {
		t.Errorf("%d %s", code, out)
	}
	if s := status(); s.Followed.Sequence != 9 || len(s.Persons) != 1 || s.Persons[broker.ClientAddress] != 1 {
		t.Errorf("%+v", s)
	}
	if code, out := command(list, "protection", "import", "--source", "folkeregisteret", "--sequence", "8", "--actor", "drift"); code == 0 || !strings.Contains(out, "does not go back") {
		t.Errorf("%d %s", code, out)
	}
	for in, want := range map[string]string{
		"1 fortrolig":                            "line 1: want a national identity number",
		people.Person(0).ID:                      "line 1: want a national identity number",
		people.Person(0).ID + " hemmelig":        "line 1: want a grade",
		list + people.Person(4).ID + " ugradert": "line 4: the number stands in the list before",
	} {
		if code, out := command(in, "protection", "import", "--source", "x", "--actor", "drift"); want != "" && (code != exitUsage || !strings.Contains(out, want)) {
			t.Errorf("%d %s, want %s", code, out, want)
		}
	}
}

// Pages that are full to the last: the end is reached all the same.
func TestProtectionOfAFullPage(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens an embedded engine")
	}
	data := filepath.Join(t.TempDir(), "data")
	people := synthetic.New(synthetic.Config{People: 10, Seed: 4})
	register := &personRegister{grades: map[string]string{}}
	for i := range 1000 {
		register.happens(people.Person(i%10).ID, fmt.Sprint("d", i%10), `[]`)
	}
	server := httptest.NewServer(register)
	defer server.Close()
	var b bytes.Buffer
	if code := run(context.Background(), stdio{strings.NewReader(""), &b, &b}, []string{"demo", "--once", "--people", "50", "--data", data}); code != 0 {
		t.Fatal(b.String())
	}
	if code := run(context.Background(), stdio{strings.NewReader(""), &b, &b}, []string{"protection", "follow", "--source", "f", "--list", server.URL + "/hendelser",
		"--documents", server.URL + "/personer/{persondokument}", "--actor", "drift", "--once", "--from", "1", "--data", data}); code != 0 {
		t.Fatal(b.String())
	}
	b.Reset()
	if code := run(context.Background(), stdio{strings.NewReader(""), &b, &b}, []string{"protection", "status", "--json", "--data", data}); code != 0 || !strings.Contains(b.String(), `"known": true`) {
		t.Error(b.String())
	}
}

func TestReadPersonEntry(t *testing.T) {
	id := synthetic.New(synthetic.Config{People: 1, Seed: 1}).Person(0).ID
	for in, want := range map[string]string{
		`{"hendelse":{"folkeregisteridentifikator":"` + id + `","persondokument":"d"}}`: "",
		`[]`: "is no event",
		`{}`: "no national identity number",
		`{"hendelse":{"folkeregisteridentifikator":"01019012345","persondokument":"d"}}`:         "no national identity number",
		`{"hendelse":{"folkeregisteridentifikator":"` + id + `"}}`:                               "names no persondokument",
		`{"hendelse":{"folkeregisteridentifikator":"` + id + `","persondokument":"` + id + `"}}`: "belongs in no address",
	} {
		got, _, err := readPersonEntry([]byte(in))
		if want == "" && (err != nil || got != id) || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), id)) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func FuzzReadPersonGrade(f *testing.F) {
	for _, s := range []string{`{}`, `{"adressebeskyttelse":null}`, `{"adressebeskyttelse":[{"graderingsnivaa":"fortrolig","erGjeldende":true}]}`,
		`{"adressebeskyttelse":[{"graderingsnivaa":"x"}]}`, `{"adressebeskyttelse":[{"erGjeldende":true}]}`, `[]`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readPersonGrade(b)
		if (err == nil) == (got == "") {
			t.Fatalf("%q, %v", got, err)
		}
		// Somebody is found unprotected only where no protection in force is named.
		var doc struct {
			A []struct {
				Grade   any   `json:"graderingsnivaa"`
				Current *bool `json:"erGjeldende"`
			} `json:"adressebeskyttelse"`
		}
		if got != broker.Unprotected || json.Unmarshal(b, &doc) != nil {
			return
		}
		for _, a := range doc.A {
			if (a.Current == nil || *a.Current) && a.Grade != "ugradert" {
				t.Fatalf("unprotected: %s", b)
			}
		}
	})
}
