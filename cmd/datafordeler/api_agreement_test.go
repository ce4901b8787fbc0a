package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// An agreement from need to active over HTTP, each step by its own party, and standard
// terms that others accede to.
func TestAgreementsOverHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	r := newLookupRig(t)
	path := filepath.Join(t.TempDir(), "regime.yaml")
	if err := os.WriteFile(path, []byte(regimeYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	docs, err := registry.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.node.apply(t.Context(), docs, "test", false); err != nil {
		t.Fatal(err)
	}
	const tromso = "940101808"
	oslo, skatt := r.token(r.claims(osloNumber, "")), r.token(r.claims(skattNumber, ""))
	other := r.token(r.claims(tromso, ""))
	post := func(want int, token, path, body string, out any) string {
		t.Helper()
		code, _, text := r.call(t.Context(), token, http.MethodPost, path, body)
		if code != want {
			t.Fatalf("POST %s %s: %d %s, want %d", path, body, code, text, want)
		}
		if out != nil && json.Unmarshal([]byte(text), out) != nil {
			t.Fatal(text)
		}
		return text
	}
	get := func(want int, token, path string, out any) string {
		t.Helper()
		code, _, text := r.call(t.Context(), token, http.MethodGet, path, "")
		if code != want {
			t.Fatalf("GET %s: %d %s, want %d", path, code, text, want)
		}
		if out != nil && json.Unmarshal([]byte(text), out) != nil {
			t.Fatal(text)
		}
		return text
	}

	// A need, and the gap that it shows.
	post(200, oslo, "/needs", `{"id":"behov","dataset":"barn","purpose":"eiendomsskatt","why":"papir","sector":"skatt"}`, nil)
	post(200, other, "/needs/behov/cosignatures", `{"by":"Skattekontoret"}`, nil)
	post(409, other, "/needs/behov/cosignatures", `{"by":"Skattekontoret"}`, nil)
	post(404, other, "/needs/finnes-ikke/cosignatures", `{"by":"Skattekontoret"}`, nil)
	post(403, other, "/needs/behov/close", `{"by":"Skattekontoret","why":"nei"}`, nil)
	if text := get(200, skatt, "/gaps", nil); !strings.Contains(text, `"code":"purpose_not_covered"`) || !strings.Contains(text, `"count":2`) {
		t.Error(text)
	}
	post(200, oslo, "/needs/behov/close", `{"by":"Skattekontoret","why":"ikke lenger"}`, nil)
	if text := get(200, skatt, "/gaps", nil); !strings.Contains(text, `"gaps":[]`) {
		t.Error(text)
	}

	// The proposal, by somebody who is party to it.
	const terms = `{"provider":"974761076","consumer":"958935420","dataset":"barn","package":{"id":"sum","version":1},"purpose":"foreldrebetaling","bases":["barnelov"],
		"providerController":"974761076","consumerController":"958935420","cost":{"model":"per-record","payer":"958935420"},"corrections":"deliver","from":"2026-01-01T00:00:00Z"}`
	if text := post(409, other, "/agreements", `{"id":"oslo-barn","by":"B","terms":`+terms+`}`, nil); !strings.Contains(text, "is no party to the terms") {
		t.Error(text)
	}
	var step web.StepView
	post(200, oslo, "/agreements", `{"id":"oslo-barn","by":"Barnehagekontoret","terms":`+terms+`}`, &step)
	if step.Status != broker.Proposed || len(step.Missing) != 10 || !step.Binds {
		t.Errorf("%+v", step)
	}
	get(403, other, "/agreements/oslo-barn/steps", nil)
	var v registry.AgreementView
	take := func(want int, token, step, more string) string {
		t.Helper()
		v = registry.AgreementView{}
		get(200, token, "/agreements/oslo-barn/steps", &v)
		on := ""
		if d, ok := v.On[broker.StepName(step)]; ok {
			on = fmt.Sprintf(`,"on":%q`, d.String())
		}
		return post(want, token, "/agreements/oslo-barn/steps", fmt.Sprintf(`{"step":%q,"number":%d,"by":"Ledelsen"%s%s}`, step, v.Next, on, more), nil)
	}
	if text := take(409, oslo, "activated", ""); !strings.Contains(text, "10 things are missing") || !strings.Contains(text, "974761076: take the step assessed, side disclosure") {
		t.Error(text)
	}
	take(200, skatt, "assessed", `,"assessment":{"side":"disclosure","basis":"barnelov","holds":true,"note":"Paragraf 3."}`)
	take(409, oslo, "assessed", `,"assessment":{"side":"confidentiality","basis":"barnelov","holds":true,"note":"Paragraf 5."}`)
	take(200, skatt, "assessed", `,"assessment":{"side":"confidentiality","basis":"barnelov","holds":true,"note":"Paragraf 5."}`)
	take(200, skatt, "assessed", `,"assessment":{"side":"compatibility","holds":true,"note":"Loven."}`)
	take(200, oslo, "assessed", `,"assessment":{"side":"collection","basis":"barnelov","holds":true,"note":"Paragraf 4.","review":"2030-01-01T00:00:00Z"}`)
	take(200, oslo, "mapped", `,"mapping":[{"field":"/person","concept":"https://begrep.example/person"},{"field":"/sum","concept":"https://begrep.example/sum"}]`)
	take(200, skatt, "mapping-approved", "")
	take(200, skatt, "package-approved", "")
	take(200, oslo, "cost-covered", "")
	take(200, oslo, "accepted", "")
	take(200, skatt, "accepted", "")
	// Who has not seen the newest step takes none, nor who says not what it is on.
	post(409, oslo, "/agreements/oslo-barn/steps", `{"step":"ended","number":2,"by":"Ledelsen","why":"nei"}`, nil)
	post(422, oslo, "/agreements/oslo-barn/steps", `{"step":"activated","number":12,"by":"Ledelsen"}`, nil)
	take(200, oslo, "activated", "")
	get(200, oslo, "/agreements/oslo-barn/steps", &v)
	if v.Agreement.Status != broker.Active || len(v.Missing) != 0 || len(v.Steps) != 12 || !strings.Contains(v.Steps[11].Actor, osloNumber) {
		t.Errorf("%+v", v)
	}
	if text := r.step(skatt); !strings.Contains(text, "no agreement of that name is yours") {
		t.Error(text)
	}

	// Standard terms.
	const framework = `{"id":"standard","by":"Jus","title":"Standardvilkår","dataset":"barn","package":{"id":"sum","version":1},"purpose":"foreldrebetaling","bases":["barnelov"],
		"cost":{"model":"per-record"},"corrections":"deliver","from":"2026-01-01T00:00:00Z","assessments":[
		{"side":"disclosure","basis":"barnelov","holds":true,"note":"3"},{"side":"collection","basis":"barnelov","holds":true,"note":"4"},
		{"side":"confidentiality","basis":"barnelov","holds":true,"note":"5"},{"side":"compatibility","holds":true,"note":"6"}],
		"mapping":[{"field":"/person","concept":"https://begrep.example/person"},{"field":"/sum","concept":"https://begrep.example/sum"}]}`
	post(422, oslo, "/frameworks", framework, nil)
	post(200, skatt, "/frameworks", framework, nil)
	var f web.FrameworkView
	get(200, other, "/frameworks/standard", &f)
	if f.Eligible || len(f.Missing) != 0 || f.On.IsZero() {
		t.Errorf("%+v", f)
	}
	accede := fmt.Sprintf(`{"by":"Kommunedirektøren","agreement":"tromso-barn","on":%q}`, f.On.String())
	post(409, other, "/frameworks/standard/accessions", accede, nil)
	post(403, oslo, "/frameworks/standard/invitations", `{"by":"Avtaler","organisations":["940101808"]}`, nil)
	post(200, skatt, "/frameworks/standard/invitations", `{"by":"Avtaler","organisations":["940101808"]}`, nil)
	post(409, other, "/frameworks/standard/accessions", strings.Replace(accede, f.On.String(), zeros, 1), nil)
	post(200, other, "/frameworks/standard/accessions", accede, nil)
	var report struct {
		Parties []registry.AccededParty
		Same    int
	}
	get(200, skatt, "/frameworks/standard/accessions", &report)
	if len(report.Parties) != 1 || report.Same != 1 || report.Parties[0].Status != broker.Active {
		t.Errorf("%+v", report)
	}
	get(200, oslo, "/frameworks/standard/accessions", &report)
	if len(report.Parties) != 0 || report.Same != 1 {
		t.Errorf("another sees who has acceded: %+v", report)
	}
	get(404, oslo, "/frameworks/finnes-ikke", nil)

	// By four eyes.
	post(200, skatt, "/frameworks", strings.Replace(strings.Replace(framework, `"standard"`, `"fire"`, 1), `"by":"Jus"`, `"by":"Jus","fourEyes":true`, 1), nil)
	get(200, other, "/frameworks/fire", &f)
	if !f.Terms.FourEyes || len(f.Missing) != 1 || f.Missing[0].Code != "approval" {
		t.Errorf("%+v", f)
	}
	approve := func(want int, token, by string) {
		t.Helper()
		post(want, token, "/frameworks/fire/approvals", fmt.Sprintf(`{"by":%q,"on":%q}`, by, f.On.String()), nil)
	}
	approve(403, oslo, "Avtaler")
	approve(409, skatt, "Jus")
	post(422, skatt, "/frameworks/fire/approvals", `{"by":"Avtaler","on":"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"}`, nil)
	post(404, skatt, "/frameworks/finnes-ikke/approvals", fmt.Sprintf(`{"by":"Avtaler","on":%q}`, zeros), nil)
	approve(200, skatt, "Avtaler")
	if get(200, other, "/frameworks/fire", &f); len(f.Missing) != 0 {
		t.Errorf("%+v", f)
	}
	// Its provider asks for it, whether the call does or not.
	r.change(func(st *registry.State) registry.Change {
		o := *st.Organisation("974761076")
		o.FourEyes = true
		c, err := registry.Put(o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	post(200, skatt, "/frameworks", strings.Replace(framework, `"standard"`, `"fem"`, 1), nil)
	if get(200, other, "/frameworks/fem", &f); !f.Terms.FourEyes {
		t.Errorf("%+v", f)
	}
}

// step is one on an agreement that is not there.
func (r *lookupRig) step(token string) string {
	_, _, text := r.call(r.t.Context(), token, http.MethodPost, "/agreements/finnes-ikke/steps", `{"step":"ended","number":2,"by":"Ledelsen","why":"nei"}`)
	return text
}

const regimeYAML = `
kind: dataset
id: barn
title: Inntekt til foreldrebetaling
owner: "974761076"
purpose: skatt
accessRights: NON_PUBLIC
lifecycle: required
current: "1"
schemas:
  - version: "1"
    document: {type: object, properties: {person: {type: string}, sum: {type: integer}}}
subject: {kind: person, pointer: /person}
attributes: []
concepts:
  /person: https://begrep.example/person
  /sum: https://begrep.example/sum
---
kind: package
id: sum
version: 1
dataset: barn
title: Summen
fields: [/person, /sum]
assessment: {by: Juridisk seksjon}
---
kind: basis
id: barnelov
type: lov
sides: [disclosure, collection, confidentiality]
title: Lov om foreldrebetaling
gdpr: A6-1-c
datasets: [barn]
purposes: [foreldrebetaling]
recipients: [kommune]
valid: {from: 2026-01-01}
assessed: {by: Juridisk seksjon}
`
