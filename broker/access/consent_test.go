package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const consentUUID = "5f0f6f5e-1f5b-4a39-9a9b-0d3b6b2c7a10"

// consentOf is one element of authorization_details, as Altinn makes it.
func consentOf(changes ...any) map[string]any {
	return with(map[string]any{
		"type": consentType, "id": consentUUID, "from": personPrefix + synthetic, "to": org(oslo),
		"consented": "2026-11-20T07:57:30.409251+00:00", "validTo": "2027-11-20T08:57:15+01:00",
		"consentRights": []any{rightOf()},
	}, changes...)
}

func rightOf(changes ...any) map[string]any {
	return with(map[string]any{
		"action":   []any{"consent"},
		"resource": []any{map[string]any{"type": resourceType, "value": "inntekt-til-laan"}},
		"metadata": map[string]any{"inntektsaar": "2025"},
	}, changes...)
}

func (d *doors) consentToken(details ...any) string {
	return token(with(machine(d.machine.URL+"/"), "scope", "altinn:consentrequests.read", "authorization_details", details))
}

func TestConsents(t *testing.T) {
	d := newDoors(t, nil)
	got, err := d.Consents(t.Context(), d.consentToken(map[string]any{"type": "something-else"}, consentOf(), consentOf("id", strings.ToUpper(consentUUID),
		"consentRights", []any{rightOf("metadata", nil, "metaData", map[string]any{"a": "b"}), rightOf("metadata", nil)})))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("%d consents", len(got))
	}
	g := got[0]
	if g.ID != consentUUID || g.From.Number() != synthetic || g.To != oslo || !g.Until.Equal(time.Date(2027, 11, 20, 7, 57, 15, 0, time.UTC)) ||
		g.Given.Year() != 2026 || len(g.Rights) != 1 || g.Rights[0].Resource != "inntekt-til-laan" || g.Rights[0].Metadata["inntektsaar"] != "2025" {
		t.Errorf("%+v", g)
	}
	if r := got[1].Rights; len(r) != 2 || r[0].Metadata["a"] != "b" || r[1].Metadata != nil {
		t.Errorf("the other spelling: %+v", r)
	}
	if s := fmt.Sprintf("%+v %v", g, got); strings.Contains(s, synthetic) {
		t.Error("it prints the person's number")
	}
	// The consumer's supplier brings it as well.
	if _, err := d.Consents(t.Context(), token(with(machine(d.machine.URL+"/"), "supplier", org(supplier), "delegation_source", "https://tt02.altinn.no/",
		"authorization_details", []any{consentOf()}))); err != nil {
		t.Error(err)
	}
	// It opens no door.
	if _, err := d.Verify(t.Context(), d.consentToken(consentOf())); err == nil {
		t.Error("a consent token let somebody in")
	}
}

func TestConsentsThatDoNotCount(t *testing.T) {
	d := newDoors(t, nil)
	many := []any{}
	for range maxRights + 1 {
		many = append(many, rightOf())
	}
	resource := func(all ...any) []any { return []any{rightOf("resource", all)} }
	one := map[string]any{"type": resourceType, "value": "a"}
	for what, consent := range map[string]map[string]any{
		"another's":                consentOf("to", org(bergen)),
		"no recipient":             consentOf("to", nil),
		"a person as recipient":    consentOf("to", map[string]any{"authority": "x", "ID": "0192:" + oslo}),
		"an invalid recipient":     consentOf("to", map[string]any{"authority": actorAuthority, "ID": "0192:958935421"}),
		"nobody's":                 consentOf("from", nil),
		"an organisation's":        consentOf("from", "urn:altinn:organization:identifier-no:"+oslo),
		"an invalid person's":      consentOf("from", personPrefix+"01817000000"),
		"an id that is a number":   consentOf("id", synthetic),
		"no id":                    consentOf("id", nil),
		"from tomorrow":            consentOf("consented", "2026-11-23T00:00:00Z"),
		"never given":              consentOf("consented", nil),
		"ended":                    consentOf("validTo", "2026-11-22T10:00:00Z"),
		"no end":                   consentOf("validTo", nil),
		"an end in no format":      consentOf("validTo", "2027-01-01"),
		"no rights":                consentOf("consentRights", []any{}),
		"rights of no kind":        consentOf("consentRights", map[string]any{}),
		"a right of no kind":       consentOf("consentRights", []any{"consent"}),
		"too many rights":          consentOf("consentRights", many),
		"another action":           consentOf("consentRights", []any{rightOf("action", []any{"read"})}),
		"two actions":              consentOf("consentRights", []any{rightOf("action", []any{"consent", "consent"})}),
		"no action":                consentOf("consentRights", []any{rightOf("action", []any{})}),
		"no resource":              consentOf("consentRights", resource()),
		"two resources":            consentOf("consentRights", resource(one, one)),
		"another kind of resource": consentOf("consentRights", resource(map[string]any{"type": "urn:x", "value": "a"})),
		"a resource without name":  consentOf("consentRights", resource(map[string]any{"type": resourceType})),
		"both spellings":           consentOf("consentRights", []any{rightOf("metaData", map[string]any{})}),
		"metadata of no kind":      consentOf("consentRights", []any{rightOf("metadata", []any{})}),
		"metadata with numbers":    consentOf("consentRights", []any{rightOf("metadata", map[string]any{"inntektsaar": 2025})}),
		"long metadata":            consentOf("consentRights", []any{rightOf("metadata", map[string]any{"a": strings.Repeat("x", 2_000)})}),
	} {
		// Beside one that counts: what is wrong with one is wrong with the token.
		for _, text := range []string{d.consentToken(consent), d.consentToken(consentOf("id", "00000000-0000-4000-8000-000000000000"), consent)} {
			got, err := d.Consents(t.Context(), text)
			var bad *TokenError
			if !errors.As(err, &bad) || got != nil {
				t.Errorf("%s: %v", what, err)
			} else if strings.Contains(bad.Why, synthetic) {
				t.Errorf("%s: it tells the number", what)
			}
		}
	}
	for what, text := range map[string]string{
		"a login":           token(with(person(d.login.URL+"/"), "consumer", org(oslo), "authorization_details", []any{consentOf()})),
		"no consent":        token(machine(d.machine.URL + "/")),
		"nothing":           d.consentToken(),
		"one twice":         d.consentToken(consentOf(), consentOf()),
		"no list":           token(with(machine(d.machine.URL+"/"), "authorization_details", consentOf())),
		"elements of texts": d.consentToken("consent"),
		"an ended token":    token(with(machine(d.machine.URL+"/"), "exp", t0.Unix()-60, "authorization_details", []any{consentOf()})),
		"one for years":     token(with(machine(d.machine.URL+"/"), "exp", t0.Unix()+1e8, "authorization_details", []any{consentOf()})),
		"another audience":  token(with(machine(d.machine.URL+"/"), "aud", "https://bank.example/", "authorization_details", []any{consentOf()})),
		"no consumer":       token(with(machine(d.machine.URL+"/"), "consumer", nil, "authorization_details", []any{consentOf()})),
		"another issuer":    token(with(machine("https://maskinporten.example/"), "authorization_details", []any{consentOf()})),
		"another key":       sign(keyB(), goodHead, jsonText(t, with(machine(d.machine.URL+"/"), "authorization_details", []any{consentOf()}))),
	} {
		var bad *TokenError
		if got, err := d.Consents(t.Context(), text); !errors.As(err, &bad) || got != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzConsents signs anything as authorization_details.
func FuzzConsents(f *testing.F) {
	for _, v := range []any{[]any{consentOf()}, []any{consentOf("consentRights", []any{rightOf("metadata", nil)})}, []any{}, "x"} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, details []byte) {
		var c claims
		if c.UnmarshalJSON([]byte(`{"authorization_details":`+string(details)+`}`)) != nil {
			return
		}
		all, err := c.consents(oslo, t0, 0)
		for _, g := range all {
			if err != nil || g.To != oslo || !ValidPersonNumber(g.From.Number()) || !consentID(g.ID) || len(g.Rights) == 0 || g.Given.After(t0) || !g.Until.After(t0) {
				t.Fatalf("%s: %+v, %v", details, g, err)
			}
		}
	})
}
