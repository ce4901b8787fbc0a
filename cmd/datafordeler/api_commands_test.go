package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/providers/synthetic"
)

// call is a request, with a token, a body if there is one, and further headers.
func (r *apiRig) call(ctx context.Context, token, method, path, body string, headers ...string) (code int, head http.Header, text string) {
	r.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, in)
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<22))
	return resp.StatusCode, resp.Header, string(b)
}

// citizen is a token of somebody who is logged in.
func (r *apiRig) citizen(person string) string { return r.token(r.citizenClaims(person)) }

// citizenClaims are a good token's for a citizen.
func (r *apiRig) citizenClaims(person string) jwt.MapClaims {
	return jwt.MapClaims{
		"iss": r.issuer + "citizens/", "aud": "innbygger", "acr": "idporten-loa-high", "pid": person,
		"iat": time.Now().Unix(), "exp": time.Now().Add(9 * time.Minute).Unix(),
	}
}

type commandAnswer struct {
	web.ChangeView
	Consent web.ConsentView
	Case    web.CaseView
}

// do is a command that must be answered so.
func (r *apiRig) do(want int, token, path, body string, headers ...string) (out commandAnswer, head http.Header) {
	r.t.Helper()
	code, head, text := r.call(r.t.Context(), token, http.MethodPost, path, body, headers...)
	if code != want {
		r.t.Fatalf("POST %s: %d %s, want %d", path, code, text, want)
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		r.t.Fatal(err)
	}
	return out, head
}

const (
	osloNumber  = "958935420"
	bankNumber  = "310149942"
	skattNumber = "974761076"
)

// A citizen gives, sees and withdraws consents, and nobody else's.
func TestConsentsOverHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	r := newLookupRig(t)
	g := synthetic.New(synthetic.Config{People: 3, Seed: 8})
	people := []synthetic.Person{g.Person(0), g.Person(1)}
	kari, ola := r.citizen(people[0].ID), r.citizen(people[1].ID)
	const give = `{"consumer":"310149942","dataset":"inntekt","purpose":"boliglaan"}`
	given, _ := r.do(200, kari, "/me/consents", give, "Idempotency-Key", "a")
	if !given.Changed || !given.Binds || given.Seconds <= 0 || !given.Consent.InForce || given.Consent.ConsumerName == "" || given.Consent.ID == "" {
		t.Errorf("%+v", given)
	}
	again, head := r.do(200, kari, "/me/consents", give, "Idempotency-Key", "a")
	if again.Consent.ID != given.Consent.ID || head.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%+v", again)
	}
	if other, _ := r.do(200, kari, "/me/consents", give); other.Changed || other.Consent.ID != given.Consent.ID {
		t.Errorf("a consent that stands is given anew: %+v", other)
	}
	for what, body := range map[string]string{
		"for which nobody has an agreement": `{"consumer":"310149942","dataset":"inntekt","purpose":"markedsforing"}`,
		"by statute":                        `{"consumer":"958935420","dataset":"inntekt","purpose":"sosialhjelp"}`,
		"that is over":                      `{"consumer":"310149942","dataset":"inntekt","purpose":"boliglaan","to":"2020-01-01T00:00:00Z"}`,
	} {
		if code, _, text := r.call(t.Context(), kari, http.MethodPost, "/me/consents", body); code != 422 {
			t.Errorf("a consent %s: %d %s", what, code, text)
		}
	}
	list := func(token string) (out struct{ Consents []web.ConsentView }) {
		t.Helper()
		code, _, text := r.call(t.Context(), token, http.MethodGet, "/me/consents", "")
		if code != 200 || json.Unmarshal([]byte(text), &out) != nil {
			t.Fatalf("%d %s", code, text)
		}
		return out
	}
	if all := list(kari); len(all.Consents) != 1 || all.Consents[0].ID != given.Consent.ID {
		t.Errorf("%+v", all)
	}
	if all := list(ola); len(all.Consents) != 0 {
		t.Errorf("%+v", all)
	}
	// Another's reads as none.
	path := "/me/consents/" + string(given.Consent.ID) + "/withdraw"
	code, _, others := r.call(t.Context(), ola, http.MethodPost, path, "")
	if code != 404 {
		t.Errorf("%d %s", code, others)
	}
	code, _, none := r.call(t.Context(), ola, http.MethodPost, "/me/consents/c-none/withdraw", "")
	if cut := func(s string) string { s, _, _ = strings.Cut(s, `"instance"`); return s }; code != 404 || cut(none) != cut(others) {
		t.Errorf("%d %s, and another's reads %s", code, none, others)
	}
	gone, _ := r.do(200, kari, path, "")
	if !gone.Changed || !gone.Binds || gone.Consent.InForce || gone.Consent.Withdrawn == nil || gone.Revision <= given.Revision {
		t.Errorf("%+v", gone)
	}
	if twice, _ := r.do(200, kari, path, ""); twice.Changed || !twice.Binds {
		t.Errorf("%+v", twice)
	}
	if all := list(kari); len(all.Consents) != 1 || all.Consents[0].InForce {
		t.Errorf("%+v", all)
	}
	// How far it is can be asked of anybody, and of any time; what there is not yet cannot.
	for _, token := range []string{kari, ola, r.token(r.claims(osloNumber, ""))} {
		code, _, text := r.call(t.Context(), token, http.MethodGet, fmt.Sprintf("/changes/%d", gone.Revision), "")
		if code != 200 || !strings.Contains(text, `"binds":true`) {
			t.Errorf("%d %s", code, text)
		}
	}
	for _, rev := range []string{fmt.Sprint(gone.Revision + 1000), "0", "-1", "x"} {
		if code, _, text := r.call(t.Context(), kari, http.MethodGet, "/changes/"+rev, ""); code != 404 {
			t.Errorf("%s: %d %s", rev, code, text)
		}
	}
	for _, p := range people {
		if r.log.contains(p.ID) {
			t.Error("the log holds a person's number")
		}
	}
}

// A consumer opens and ends cases; two that collide are told so.
func TestCasesOverHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	r := newLookupRig(t)
	oslo := r.token(r.claims(osloNumber, ""))
	i, person := r.inMunicipality("0301")
	r.publish("inntekt", r.people.Income(nil, i))
	r.drain()
	found := func() string {
		t.Helper()
		code, out, text := r.lookUp(osloNumber, "", `{"subject":"`+person+`","subscription":"oslo-sosialhjelp"}`)
		if code != 200 || len(out.Answers) != 1 {
			t.Fatalf("%d %s", code, text)
		}
		return out.Answers[0].Outcome
	}
	if o := found(); o != "refused" {
		t.Errorf("before the case: %s", o)
	}
	const path = "/subscriptions/oslo-sosialhjelp/cases"
	body := func(id, who string) string { return `{"id":"` + id + `","subject":"` + who + `"}` }
	opened, _ := r.do(200, oslo, path, body("sak-1", person))
	if !opened.Changed || !opened.Binds || opened.Case.ID != "sak-1" || opened.Case.To != nil {
		t.Errorf("%+v", opened)
	}
	if o := found(); o != "found" {
		t.Errorf("in the case: %s", o)
	}
	if again, _ := r.do(200, oslo, path, body("sak-1", person)); again.Changed {
		t.Errorf("%+v", again)
	}
	conflict := func(code int, text string) {
		t.Helper()
		var p web.Problem
		var now broker.Revision
		r.node.control.View(func(st *registry.State) { now = st.Revision() })
		if json.Unmarshal([]byte(text), &p) != nil || code != 409 || p.Type != web.Conflict || p.Revision != now {
			t.Errorf("%d %s, want a conflict at revision %d", code, text, now)
		}
		if strings.Contains(text, person) || strings.Contains(text, r.person) {
			t.Error("the answer names a person")
		}
	}
	code, _, text := r.call(t.Context(), oslo, http.MethodPost, path, body("sak-1", r.person))
	conflict(code, text)
	if code, _, text := r.call(t.Context(), oslo, http.MethodPost, path, body("sak-2", "12345")); code != 422 || strings.Contains(text, "12345") {
		t.Errorf("%d %s", code, text)
	}
	if code, _, text = r.call(t.Context(), oslo, http.MethodPost, path, body(person, person)); code == 200 || strings.Contains(text, person) {
		t.Errorf("a case that is called by a person's number: %d", code)
	}
	_, head, _ := r.call(t.Context(), oslo, http.MethodGet, path+"/sak-1", "")
	if code, _, text := r.call(t.Context(), oslo, http.MethodPost, path+"/sak-1/end", "", "If-Match", `"other"`); code != 412 {
		t.Errorf("%d %s", code, text)
	}
	ended, _ := r.do(200, oslo, path+"/sak-1/end", "", "If-Match", head.Get("ETag"))
	if !ended.Changed || ended.Case.To == nil || !ended.Binds {
		t.Errorf("%+v", ended)
	}
	if o := found(); o != "refused" {
		t.Errorf("after the case: %s", o)
	}
	if again, _ := r.do(200, oslo, path+"/sak-1/end", ""); again.Changed {
		t.Errorf("%+v", again)
	}
	code, _, text = r.call(t.Context(), oslo, http.MethodPost, path, body("sak-1", person))
	conflict(code, text)
	if code, _, text := r.call(t.Context(), oslo, http.MethodPost, path+"/sak-9/end", ""); code != 404 {
		t.Errorf("%d %s", code, text)
	}
	// Of many who open the same one at once, one does.
	var wait sync.WaitGroup
	news := make(chan bool, 16)
	for n := range 16 {
		wait.Go(func() {
			who := person
			if n%2 == 1 {
				who = r.person
			}
			code, _, text := r.call(t.Context(), oslo, http.MethodPost, path, body("sak-3", who))
			news <- code == 200 && strings.Contains(text, `"changed":true`)
			if code != 200 && code != 409 {
				t.Errorf("%d %s", code, text)
			}
		})
	}
	wait.Wait()
	close(news)
	first := 0
	for n := range news {
		if n {
			first++
		}
	}
	if first != 1 {
		t.Errorf("%d opened the case", first)
	}
}

// What is frozen is stopped at every door, by whoever may, and goes on when it is lifted.
func TestFreezeOverHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	r := newLookupRig(t)
	const operator = "315555558"
	oslo, skatt, drift := r.token(r.claims(osloNumber, "")), r.token(r.claims(skattNumber, "")), r.token(r.claims(operator, ""))
	i, person := r.inMunicipality("0301")
	r.open("oslo-sosialhjelp", person)
	r.publish("inntekt", r.people.Income(nil, i))
	r.drain()
	lookUp := func() string {
		t.Helper()
		code, out, text := r.lookUp(osloNumber, "", `{"subject":"`+person+`","subscription":"oslo-sosialhjelp"}`)
		if code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		o := out.Answers[0].Outcome
		for _, why := range out.Answers[0].Reasons {
			o += " " + string(why.Code)
		}
		return o
	}
	feed := func() (code, n int) {
		t.Helper()
		code, _, text := r.call(t.Context(), oslo, http.MethodGet, "/feeds/oslo-sosialhjelp", "")
		return code, strings.Count(text, `"specversion"`)
	}
	open := func(when string) {
		t.Helper()
		if o := lookUp(); o != "found" {
			t.Errorf("%s: %s", when, o)
		}
		if code, n := feed(); code != 200 || n != 1 {
			t.Errorf("%s: %d, %d deliveries", when, code, n)
		}
	}
	shut := func(when string, feedCode int) {
		t.Helper()
		if o := lookUp(); o != "refused frozen" && !strings.HasPrefix(o, "refused frozen ") {
			t.Errorf("%s: %s", when, o)
		}
		if code, n := feed(); code != feedCode || n != 0 {
			t.Errorf("%s: %d, %d deliveries", when, code, n)
		}
	}
	const why = `{"why":"a key was lost"}`
	open("before")
	f, _ := r.do(200, skatt, "/datasets/inntekt/freeze", why)
	if !f.Changed || !f.Binds {
		t.Errorf("%+v", f)
	}
	shut("the dataset is frozen", 200)
	if code, _, text := r.call(t.Context(), oslo, http.MethodGet, "/freezes", ""); code != 200 || !strings.Contains(text, "a key was lost") {
		t.Errorf("%d %s", code, text)
	}
	r.do(200, skatt, "/datasets/inntekt/lift", why)
	open("the dataset is lifted")

	r.do(200, oslo, "/mailboxes/oslo-sosialhjelp/freeze", why)
	if code, n := feed(); code != 409 || n != 0 {
		t.Errorf("%d %d", code, n)
	}
	r.do(200, drift, "/mailboxes/oslo-sosialhjelp/freeze", why)
	r.do(200, oslo, "/mailboxes/oslo-sosialhjelp/lift", why)
	if code, n := feed(); code != 409 || n != 0 {
		t.Errorf("the owner lifted the operator's freeze: %d %d", code, n)
	}
	if code, _, text := r.call(t.Context(), oslo, http.MethodPost, "/mailboxes/oslo-sosialhjelp/lift", why); code != 409 || !strings.Contains(text, "operator") {
		t.Errorf("%d %s", code, text)
	}
	r.do(200, drift, "/mailboxes/oslo-sosialhjelp/lift", why)
	open("the mailbox is lifted")

	r.do(200, drift, "/organisations/958935420/freeze", why)
	shut("the organisation is frozen", 200)
	r.do(200, drift, "/organisations/958935420/lift", why)
	open("the organisation is lifted")

	// What else stops it, and is let go on by an operator alone.
	for _, path := range []string{"/agreements/oslo-sosialhjelp", "/subscriptions/oslo-sosialhjelp"} {
		r.do(200, skatt, path+"/suspend", "")
		if o := lookUp(); !strings.HasPrefix(o, "refused ") {
			t.Errorf("%s suspended: %s", path, o)
		}
		if code, _, text := r.call(t.Context(), oslo, http.MethodPost, path+"/resume", ""); code != 403 {
			t.Errorf("%d %s", code, text)
		}
		r.do(200, drift, path+"/resume", "")
		open(path + " resumed")
	}
	if code, _, text := r.call(t.Context(), oslo, http.MethodPost, "/datasets/inntekt/freeze", why); code != 403 {
		t.Errorf("a consumer froze a dataset: %d %s", code, text)
	}
	if code, _, text := r.call(t.Context(), skatt, http.MethodPost, "/datasets/inntekt/freeze", `{"why":"on 01010112345"}`); code != 422 || strings.Contains(text, "01010112345") {
		t.Errorf("%d %s", code, text)
	}
}

// While no instance routes, nothing binds: 202, and the state says so.
func TestCommandsThatDoNotBindYet(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens an instance")
	}
	r := newAPIRig(t)
	oslo := r.token(r.claims(osloNumber, ""))
	body := `{"id":"sak-1","subject":"` + r.person + `"}`
	out, head := r.do(202, oslo, "/subscriptions/oslo-sosialhjelp/cases", body, "Prefer", "respond-async")
	where := head.Get("Location")
	if out.Binds || where != fmt.Sprintf("/changes/%d", out.Revision) || head.Get("Retry-After") == "" || head.Get("Preference-Applied") != "respond-async" {
		t.Errorf("%+v %v", out, head)
	}
	state := func() (b web.Binding) {
		t.Helper()
		code, _, text := r.call(t.Context(), oslo, http.MethodGet, where, "")
		if code != 200 || json.Unmarshal([]byte(text), &b) != nil {
			t.Fatalf("%d %s", code, text)
		}
		return b
	}
	if b := state(); b.Binds || b.Waiting == 0 || b.Waiting != b.All {
		t.Errorf("%+v", b)
	}
	r.run()
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.node.bind(deadline, out.Revision); err != nil {
		t.Fatal(err)
	}
	if b := state(); !b.Binds || b.Waiting != 0 {
		t.Errorf("%+v", b)
	}
}
