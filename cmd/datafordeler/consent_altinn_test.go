package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/providers/synthetic"
)

const altinnID = "5f0f6f5e-1f5b-4a39-9a9b-0d3b6b2c7a10"

// consentToken is Maskinporten's, with one consent of Altinn's in it.
func (r *apiRig) consentToken(id, person, to string, change map[string]any) string {
	actor := map[string]string{"authority": "iso6523-actorid-upis", "ID": "0192:" + to}
	consent := map[string]any{
		"type": "urn:altinn:consent", "id": id, "from": "urn:altinn:person:identifier-no:" + person, "to": actor,
		"consented": time.Now().Add(-time.Hour).Format(time.RFC3339Nano), "validTo": time.Now().Add(time.Hour).Format(time.RFC3339Nano),
		"consentRights": []any{map[string]any{
			"action": []string{"consent"}, "resource": []any{map[string]string{"type": "urn:altinn:resource", "value": "boliglaan"}},
			"metaData": map[string]string{"inntektsaar": "2025"},
		}},
	}
	maps.Copy(consent, change)
	return r.token(jwt.MapClaims{
		"iss": r.issuer, "aud": "https://deling.example.no", "client_id": "test", "consumer": actor, "scope": "altinn:consentrequests.read",
		"iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Minute).Unix(), "authorization_details": []any{consent},
	})
}

// boundedBasis is the demonstration's consent, asked for in Altinn.
func boundedBasis(st *registry.State) broker.LegalBasis {
	b := *st.Basis("samtykke-boliglaan")
	b.ConsentResource, b.ConsentMetadata = "boliglaan", map[string]string{"inntektsaar": broker.AnyMetadata}
	return b
}

// A consent that was given in Altinn opens what one that was given here does, until it
// is withdrawn; and nobody is told of another's.
func TestAltinnConsentsOverHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	r := newLookupRig(t)
	person := r.people.Person(3).ID
	r.publish("inntekt", r.people.Income(nil, 3))
	r.drain()
	r.change(func(st *registry.State) registry.Change {
		c, err := registry.Put(boundedBasis(st))
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	r.change(func(st *registry.State) registry.Change {
		s := *st.Subscription("testbanken-boliglaan")
		s.Lookup = true
		c, err := registry.Put(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	found := func() string {
		t.Helper()
		code, out, text := r.lookUp(bankNumber, "", `{"subject":"`+person+`","subscription":"testbanken-boliglaan"}`)
		if code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		return out.Answers[0].Outcome
	}
	bank := r.token(r.claims(bankNumber, ""))
	bring := func(caller, token string) (code int, out struct {
		web.ChangeView
		Consents []web.ConsentView
	}, text string) {
		t.Helper()
		body, _ := json.Marshal(map[string]string{"token": token})
		code, _, text = r.call(t.Context(), caller, "POST", "/consents/altinn", string(body))
		_ = json.Unmarshal([]byte(text), &out)
		if strings.Contains(text, person) || strings.Contains(text, token) {
			t.Error("the answer repeats the person's number or the token")
		}
		return code, out, text
	}
	good := r.consentToken(altinnID, person, bankNumber, nil)
	if o := found(); o != "refused" {
		t.Errorf("before: %s", o)
	}
	// Not by who it was not given to, a citizen, or the bank's supplier.
	for what, caller := range map[string]string{
		"another":    r.token(r.claims(osloNumber, "")),
		"a citizen":  r.citizen(person),
		"a supplier": r.token(r.claims(bankNumber, "313876144")),
	} {
		if code, _, text := bring(caller, good); code != 403 {
			t.Errorf("brought by %s: %d %s", what, code, text)
		}
	}
	right := func(resource string, metadata map[string]string) map[string]any {
		return map[string]any{"consentRights": []any{map[string]any{"action": []string{"consent"}, "resource": []any{map[string]string{"type": "urn:altinn:resource", "value": resource}}, "metadata": metadata}}}
	}
	for what, token := range map[string]string{
		"of nobody":          "a.b.c",
		"that is a login":    r.citizen(person),
		"without a consent":  bank,
		"to something else":  r.consentToken(altinnID, person, bankNumber, right("annet", nil)),
		"bounded otherwise":  r.consentToken(altinnID, person, bankNumber, right("boliglaan", map[string]string{"beloep": "1"})),
		"that is not signed": strings.TrimSuffix(good, good[len(good)-8:]) + "AAAAAAAA",
		"that is over":       r.consentToken(altinnID, person, bankNumber, map[string]any{"validTo": time.Now().Add(-time.Minute).Format(time.RFC3339)}),
	} {
		if code, _, text := bring(bank, token); code != 422 {
			t.Errorf("a token %s: %d %s", what, code, text)
		}
	}
	if o := found(); o != "refused" {
		t.Errorf("after what was refused: %s", o)
	}
	code, out, text := bring(bank, good)
	if code != 200 || !out.Changed || !out.Binds || len(out.Consents) != 1 || !out.Consents[0].InForce || out.Consents[0].Purpose != "boliglaan" || out.Consents[0].To == nil {
		t.Fatalf("%d %s", code, text)
	}
	if o := found(); o != "found" {
		t.Errorf("with the consent: %s", o)
	}
	if code, again, text := bring(r.token(r.claims("315555558", "")), good); code != 200 || again.Changed || len(again.Consents) != 1 || again.Consents[0].ID != out.Consents[0].ID {
		t.Errorf("again, by the operator: %d %s", code, text)
	}
	if code, _, text := bring(bank, r.consentToken(altinnID, r.people.Person(4).ID, bankNumber, nil)); code != 422 {
		t.Errorf("another person's by the same name: %d %s", code, text)
	}
	// The citizen sees it and withdraws it, and its proof does not give it again.
	r.do(200, r.citizen(person), "/me/consents/"+string(out.Consents[0].ID)+"/withdraw", "")
	if o := found(); o != "refused" {
		t.Errorf("withdrawn: %s", o)
	}
	if code, _, text := bring(bank, good); code != 409 || !strings.Contains(text, web.Conflict) {
		t.Errorf("after it was withdrawn: %d %s", code, text)
	}
	if r.log.contains(person) || r.log.contains(good) {
		t.Error("the log holds the person's number or the token")
	}
}

// The same on the command line.
func TestAltinnConsentsImported(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens an embedded engine")
	}
	r := newAPIRig(t) // for its issuer
	dir := t.TempDir()
	config := filepath.Join(dir, "broker.yaml")
	basis := filepath.Join(dir, "basis.yaml")
	for file, text := range map[string]string{
		config: "data: " + filepath.Join(dir, "data") + "\nkeystore: {path: " + filepath.Join(dir, "data.keys") + "}\naccess:\n  issuers:\n    - kind: plain\n      url: " + r.issuer + "\n      jwks: " + r.issuer + "jwk\n      audiences: [https://deling.example.no]\n",
		basis: `kind: basis
id: samtykke-boliglaan
type: samtykke
title: Samtykke
gdpr: A6-1-a
sides: [disclosure, collection, confidentiality]
datasets: [inntekt]
purposes: [boliglaan]
recipients: [bank]
consentResource: boliglaan
consentMetadata: {inntektsaar: "2025"}
valid: {from: 2020-01-01}
assessed: {by: Juridisk seksjon, at: 2026-01-15, review: 2028-01-15}
`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	person := synthetic.New(synthetic.Config{People: 3, Seed: 8}).Person(0).ID
	token := r.consentToken(altinnID, person, bankNumber, nil)
	do := func(want int, in string, args ...string) string {
		t.Helper()
		var b bytes.Buffer
		if code := run(context.Background(), stdio{strings.NewReader(in), &b, &b}, append(args, "--config", config)); code != want {
			t.Fatalf("%v: %d %s", args, code, b.String())
		}
		if strings.Contains(b.String(), person) || in != "" && strings.Contains(b.String(), in) {
			t.Errorf("%v prints the person's number or the token", args)
		}
		return b.String()
	}
	demo, err := filepath.Abs("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	do(exitOK, "", "registry", "apply", "--actor", "me", "-f", demo)
	do(exitOK, "", "registry", "apply", "--actor", "me", "-f", basis)
	do(exitUsage, token, "registry", "consent", "import")
	do(exitUsage, "a.b.c", "registry", "consent", "import", "--actor", "me")
	for _, want := range []string{"1 of 1 changed", "0 of 1 changed"} {
		if out := do(exitOK, token+"\n", "registry", "consent", "import", "--actor", "me"); !strings.Contains(out, want) {
			t.Errorf("%s", out)
		}
	}
	do(exitOK, person+"\n", "registry", "consent", "withdraw", "--actor", "me", "--consumer", bankNumber, "--dataset", "inntekt", "--purpose", "boliglaan")
	if out := do(exitFailed, token, "registry", "consent", "import", "--actor", "me"); !strings.Contains(out, "not given again by its old proof") {
		t.Errorf("%s", out)
	}
}
