package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	finding "datafordeler/broker/flow/lookup"
	"datafordeler/broker/registry"
)

// A dataset that stays with its provider: nothing is published, lookups go there, and
// each is decided on and logged, whatever the provider answers.
func TestLookupsAtTheProvider(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	var mu sync.Mutex
	var asked []string
	answer := func(w http.ResponseWriter, _ string) {}
	provider := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		mu.Lock()
		asked = append(asked, q.URL.String())
		now := answer
		mu.Unlock()
		w.Header().Set("Content-Type", "application/cloudevents-batch+json")
		now(w, string(body))
	}))
	t.Cleanup(provider.Close)
	host, _ := url.Parse(provider.URL)
	r := newLookupRig(t, func(n *node) {
		n.outward = provider.Client().Transport
		n.cfg.Lookups.Providers = []finding.Provider{{Host: host.Host}}
	})
	i, person := r.inMunicipality("0301")
	says := func(now func(http.ResponseWriter, string)) { mu.Lock(); answer = now; mu.Unlock() }
	calls := func() int { mu.Lock(); defer mu.Unlock(); return len(asked) }
	income := func(i int) string { e := r.people.Income(nil, i); return string(e.AppendStructured(nil)) }
	record := income(i)

	// The income stays with the tax administration from now on. Oslo may only look up.
	r.change(func(st *registry.State) registry.Change {
		s := *st.Subscription("oslo-sosialhjelp")
		s.Mailbox, s.Lookup = "", true
		c, err := registry.Put(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	r.change(func(st *registry.State) registry.Change {
		d := *st.Dataset("inntekt")
		d.Endpoint, d.Partitions = &broker.Endpoint{URL: provider.URL + "/oppslag"}, 0
		c, err := registry.Put(d)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})

	// Nothing of it is published here, by any door of the API.
	skatt := r.token(r.claims(skattNumber, ""))
	code, _, text := r.call(t.Context(), skatt, http.MethodPost, "/datasets/inntekt/events", record, "Content-Type", "application/cloudevents+json")
	if code != http.StatusConflict || !strings.Contains(text, "stays with its provider") {
		t.Errorf("%d %s", code, text)
	}

	one := `{"subject":"` + person + `","subscription":"oslo-sosialhjelp"}`
	decisions := func() (permits, denials int) {
		t.Helper()
		err := flow.Decisions(t.Context(), r.node.engine, r.node.cfg.Topics(), func(_ *deliver.BatchHeader, d *broker.Decision) error {
			if d.Kind != broker.LookupDecision || d.Subscription != "oslo-sosialhjelp" {
				return nil
			}
			if d.Outcome.Permit {
				permits++
			} else {
				denials++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return permits, denials
	}

	// Who may not ask is refused before the provider hears of it.
	says(func(w http.ResponseWriter, _ string) { fmt.Fprintf(w, "[%s]", record) })
	if code, out, text := r.lookUp(osloNumber, "", one); code != 200 || out.Answers[0].Outcome != "refused" || out.Answers[0].Reasons[0].Code != "no_open_case" {
		t.Fatalf("%d %s", code, text)
	}
	if n := calls(); n != 0 {
		t.Errorf("the provider was asked %d times about somebody without a case", n)
	}
	if p, d := decisions(); p != 0 || d != 1 {
		t.Errorf("%d permits, %d denials", p, d)
	}

	// Who may is answered, in the agreed fields.
	r.open("oslo-sosialhjelp", person)
	code, out, text := r.lookUp(osloNumber, "", one)
	if code != 200 || out.Answers[0].Outcome != "found" || len(out.Answers[0].Records) != 1 || strings.Contains(text, "skattekommune") {
		t.Fatalf("%d %s", code, text)
	}
	if p, d := decisions(); p != 1 || d != 1 {
		t.Errorf("%d permits, %d denials", p, d)
	}
	// Of whom there is nothing, that is decided on too.
	says(func(w http.ResponseWriter, _ string) { fmt.Fprint(w, "[]") })
	if code, out, text := r.lookUp(osloNumber, "", one); code != 200 || out.Answers[0].Outcome != "nothing" {
		t.Errorf("%d %s", code, text)
	}

	// What is no answer gives none: no data, and nothing of what was said.
	other := income(i + 1)
	for what, now := range map[string]func(http.ResponseWriter, string){
		"a refusal":      func(w http.ResponseWriter, body string) { http.Error(w, body, http.StatusForbidden) },
		"another person": func(w http.ResponseWriter, _ string) { fmt.Fprintf(w, "[%s]", other) },
		"no record of the set": func(w http.ResponseWriter, _ string) {
			fmt.Fprint(w, `[{"specversion":"1.0","id":"x","source":"/s","type":"t","data":{"x":1}}]`)
		},
		"no JSON": func(w http.ResponseWriter, body string) { fmt.Fprint(w, body, body) },
		"a redirect": func(w http.ResponseWriter, _ string) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		},
	} {
		says(now)
		before, _ := decisions()
		code, out, text := r.lookUp(osloNumber, "", one)
		if code != http.StatusOK || out.Answers[0].Outcome != "unavailable" || len(out.Answers[0].Records) != 0 || strings.Contains(text, person) || strings.Contains(text, "norskident") {
			t.Errorf("%s: %d %s", what, code, text)
		}
		if after, _ := decisions(); after != before {
			t.Errorf("%s: %d permits for no answer", what, after-before)
		}
	}

	// Five in a row, and it is left alone for a while: the answer says for how long.
	says(func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusInternalServerError) })
	for n := 0; ; n++ {
		before := calls()
		code, out, text := r.lookUp(osloNumber, "", one)
		if code != http.StatusOK || out.Answers[0].Outcome != "unavailable" {
			t.Fatalf("%d %s", code, text)
		}
		if calls() == before {
			t.Log(text)
			break
		}
		if n > 5 {
			t.Fatal("a provider that does not answer is asked on and on")
		}
	}
	// Its other datasets are looked up as before.
	if code, _, text := r.lookUp(osloNumber, "", `{"subject":"`+person+`","agreement":"oslo-eiendomsskatt"}`); code != 200 {
		t.Errorf("%d %s", code, text)
	}
	for _, a := range asked {
		if strings.Contains(a, person) {
			t.Error("a person's number is in the address")
		}
	}
	if r.log.contains(person) {
		t.Error("a person's number is in the log")
	}
}
