package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/providers/synthetic"
)

// lookupRig is an instance that runs, with an income and a property of everybody.
type lookupRig struct {
	*apiRig
	people *synthetic.Generator
}

func newLookupRig(t *testing.T, edits ...func(*node)) *lookupRig {
	r := &lookupRig{newAPIRig(t, edits...), synthetic.New(synthetic.Config{People: 200, Seed: 3})}
	r.run()
	return r
}

func (r *lookupRig) publish(ds broker.DatasetID, e synthetic.Event) {
	r.t.Helper()
	headers := map[string]string{"content-type": "application/cloudevents+json"}
	if err := r.node.engine.Write(r.t.Context(), kafka.Raw{Topic: r.node.cfg.Topics().Source(string(ds)), Key: e.Key, Value: e.AppendStructured(nil), Headers: headers}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *lookupRig) drain() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := r.broker.Drain(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func (r *lookupRig) change(f func(st *registry.State) registry.Change) {
	r.t.Helper()
	_, err := r.node.control.Append(r.t.Context(), func(st *registry.State) ([]registry.Event, error) {
		return st.Link(time.Now(), "test", f(st))
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *lookupRig) open(sub broker.SubscriptionID, person string) {
	r.change(func(*registry.State) registry.Change {
		return registry.OpenCase(broker.Case{ID: broker.CaseID("sak-" + string(sub)), Subscription: sub, Subject: r.node.ring.Subject(broker.Person, person), Open: broker.Interval{From: time.Now().Add(-time.Hour)}})
	})
}

type lookupAnswers struct {
	Answers []web.LookupAnswer
}

// ask posts a body with a token of an organisation, and of its supplier if there is one.
func (r *lookupRig) lookUp(org, supplier, body string) (code int, out lookupAnswers, text string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.base+"/lookups", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+r.token(r.claims(org, supplier)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = json.Unmarshal(b, &out)
	return resp.StatusCode, out, string(b)
}

// inMunicipality is somebody who lives there and owns there, unprotected.
func (r *lookupRig) inMunicipality(number string) (i int, person string) {
	for i, p := range r.people.People() {
		property := r.people.Property(nil, i)
		if income := r.people.Income(nil, i); income.Municipality == number && property.Municipality == number && !p.Protected && property.ID != "" {
			return i, p.ID
		}
	}
	r.t.Fatal("nobody lives there")
	return 0, ""
}

func TestLookupsOverHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	const oslo = "958935420"
	r := newLookupRig(t)
	i, person := r.inMunicipality("0301")
	r.publish("inntekt", r.people.Income(nil, i))
	r.publish("eiendomsskatt", r.people.Property(nil, i))
	r.drain()

	bundle := `{"subject":"` + person + `","bundle":[{"subscription":"oslo-sosialhjelp"},{"agreement":"oslo-eiendomsskatt"}]}`
	one := func(sub string) string { return `{"subject":"` + person + `","subscription":"` + sub + `"}` }

	// Without a case the one is refused; the other is answered alike either way.
	code, out, text := r.lookUp(oslo, "", bundle)
	if code != http.StatusOK || len(out.Answers) != 2 || out.Answers[0].Outcome != "refused" || out.Answers[0].Reasons[0].Code != "no_open_case" ||
		out.Answers[0].Reasons[0].Remedy["nb"] == "" || out.Answers[1].Outcome != "found" {
		t.Fatalf("%d %s", code, text)
	}
	refused := out.Answers
	r.open("oslo-sosialhjelp", person)
	code, out, text = r.lookUp(oslo, "", bundle)
	if code != http.StatusOK || out.Answers[0].Outcome != "found" || out.Answers[1].Outcome != "found" {
		t.Fatalf("%d %s", code, text)
	}
	same := func(a web.LookupAnswer) string {
		a.Decision = ""
		b, _ := json.Marshal(a)
		var event struct{ Decision string }
		_ = json.Unmarshal(a.Records[0], &event)
		return strings.ReplaceAll(string(b), event.Decision, "…")
	}
	if a, b := same(refused[1]), same(out.Answers[1]); a != b {
		t.Errorf("an answer tells of another's refusal:\n%s\n%s", a, b)
	}
	if len(out.Answers[1].Records) != 1 || !strings.Contains(string(out.Answers[1].Records[0]), `"source":"urn:datafordeler:dataset:eiendomsskatt"`) {
		t.Errorf("%s", out.Answers[1].Records)
	}
	// Refused and never published read the same, but for the decision's id.
	nobody := r.people.Person(i + 1).ID
	_, none, text := r.lookUp(oslo, "", `{"subject":"`+nobody+`","subscription":"oslo-sosialhjelp"}`)
	if len(none.Answers) != 1 || none.Answers[0].Outcome != "refused" {
		t.Fatal(text)
	}
	none.Answers[0].Decision, refused[0].Decision = "", ""
	a, _ := json.Marshal(none.Answers[0])
	b, _ := json.Marshal(refused[0])
	if !bytes.Equal(a, b) {
		t.Errorf("a refusal tells whether there is a record:\n%s\n%s", a, b)
	}
	// Whoever may ask is told that there is nothing.
	if _, out, text := r.lookUp(oslo, "", `{"subject":"`+nobody+`","subscription":"oslo-eiendomsskatt"}`); len(out.Answers) != 1 || out.Answers[0].Outcome != "nothing" || out.Answers[0].Decision == "" {
		t.Error(text)
	}

	for name, c := range map[string]struct {
		org, supplier, body string
		want                int
	}{
		"another's":                     {"964338531", "", one("oslo-sosialhjelp"), 403},
		"what there is not":             {"964338531", "", one("finnes-ikke"), 403},
		"in a bundle with its own":      {oslo, "", `{"subject":"` + person + `","bundle":[{"subscription":"oslo-sosialhjelp"},{"subscription":"testbanken-boliglaan"}]}`, 403},
		"a subscription that only gets": {"964338531", "", one("bergen-eiendomsskatt"), 422},
		"no subject":                    {oslo, "", `{"subscription":"oslo-sosialhjelp"}`, 422},
		"a subject of another kind":     {oslo, "", `{"subject":"958935420","subscription":"oslo-sosialhjelp"}`, 422},
		"a false number":                {oslo, "", `{"subject":"01810000000","subscription":"oslo-sosialhjelp"}`, 422},
		"nothing asked":                 {oslo, "", `{"subject":"` + person + `"}`, 422},
		"both":                          {oslo, "", `{"subject":"` + person + `","subscription":"oslo-sosialhjelp","bundle":[{"subscription":"oslo-sosialhjelp"}]}`, 422},
		"the same twice":                {oslo, "", `{"subject":"` + person + `","bundle":[{"subscription":"oslo-sosialhjelp"},{"agreement":"oslo-sosialhjelp"}]}`, 422},
		"too many records":              {oslo, "", `{"subject":"` + person + `","subscription":"oslo-sosialhjelp","records":101}`, 422},
		"a supplier, delegated":         {"940101808", "313876144", one("tromso-barnehage"), 200},
		"a supplier of another":         {"820852982", "313876144", one("tromso-barnehage"), 403},
	} {
		code, _, text := r.lookUp(c.org, c.supplier, c.body)
		if code != c.want {
			t.Errorf("%s: %d %s, want %d", name, code, text, c.want)
		}
		if code != 200 && (strings.Contains(text, person) || strings.Contains(text, "01810000000")) {
			t.Errorf("%s: the problem repeats whom it was about: %s", name, text)
		}
	}
	// The newest comes first, and corrections take the place of what they correct.
	r.publish("inntekt", r.people.Correction(i))
	r.drain()
	_, out, text = r.lookUp(oslo, "", `{"subject":"`+person+`","subscription":"oslo-sosialhjelp","records":5}`)
	if len(out.Answers) != 1 || len(out.Answers[0].Records) != 1 || !strings.Contains(string(out.Answers[0].Records[0]), `"recordkind":"correction"`) {
		t.Errorf("after a correction: %s", text)
	}
	// What is withdrawn before is not answered after.
	r.change(func(st *registry.State) registry.Change {
		return registry.EndCase("oslo-sosialhjelp", "sak-oslo-sosialhjelp", time.Now())
	})
	if _, out, text = r.lookUp(oslo, "", one("oslo-sosialhjelp")); len(out.Answers) != 1 || out.Answers[0].Outcome != "refused" {
		t.Error(text)
	}
	// When the instance decides nothing any more, nothing is answered.
	r.broker.Committer().Close()
	if code, _, text := r.lookUp(oslo, "", one("oslo-eiendomsskatt")); code != http.StatusServiceUnavailable || strings.Contains(text, person) {
		t.Errorf("%d %s", code, text)
	}
	// Whom it was about stands in no log, and in no topic but the source.
	if r.log.contains(person) {
		t.Error("a number stands in the log")
	}
	adm, err := r.node.engine.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	lookups := 0
	for _, topic := range []string{r.node.cfg.Topics().Decisions(), r.node.cfg.Topics().Control(), r.node.cfg.LedgerSpec().Name} {
		spans, err := kafka.Spans(t.Context(), adm, topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spans {
			err := r.node.engine.Each(t.Context(), s, func(rec *kgo.Record) error {
				if bytes.Contains(rec.Value, []byte(person)) || bytes.Contains(rec.Key, []byte(person)) {
					t.Errorf("a number stands in %s", topic)
				}
				if deliver.IsSingles(rec.Value) {
					h, err := deliver.PeekSingles(rec.Value)
					lookups += int(h.Decisions)
					return err
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if lookups < 9 {
		t.Errorf("%d lookups stand in the log", lookups)
	}
}

// What of the committer's errors passes, and by which a decision may stand.
func TestHeldBackByTheCommitter(t *testing.T) {
	for _, c := range []struct {
		err          error
		held, stands bool
	}{
		{&flow.HeldError{Why: io.ErrUnexpectedEOF}, true, false},
		{fmt.Errorf("%w: %w", flow.ErrInDoubt, io.ErrUnexpectedEOF), true, true},
		{fmt.Errorf("%w: %w", flow.ErrUnanswered, io.ErrUnexpectedEOF), true, true},
		{fmt.Errorf("%w: %w", flow.ErrUnanswered, &flow.HeldError{Why: io.ErrUnexpectedEOF}), true, true},
		{io.ErrUnexpectedEOF, false, false},
	} {
		got, held := errors.AsType[*web.HeldBack](heldBack(c.err))
		if held != c.held || held && got.Stands != c.stands {
			t.Errorf("%v: held %v %+v", c.err, held, got)
		}
	}
}
