package access

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A person's number comes out by Number alone.
func TestPersonsAreHidden(t *testing.T) {
	c := Caller{Person: NewPerson(synthetic), Client: "innbygger"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%t", "%10s", "%c"} {
		for _, v := range []any{c, &c, c.Person, []any{c}, map[string]any{"c": c}, struct{ P any }{c}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, synthetic) || strings.Contains(s, fmt.Sprintf("%x", synthetic)) {
				t.Errorf("%s of %T tells the number", verb, v)
			}
		}
	}
	if _, err := json.Marshal(c); err == nil {
		t.Error("a person was written as JSON")
	}
	if s := c.Actor(); s != "a citizen" {
		t.Error(s)
	}
}

// An actor is such as the registry takes, whatever the client is called.
func TestActors(t *testing.T) {
	for client, want := range map[string]string{
		"fagsystem":                            "organisation 958935420 (client fagsystem)",
		"107c6f58-e06b-44e9-be7a-11ea44c7ad8b": "organisation 958935420 (client 107c6f58-e06b-44e9-be7a-11ea44c7ad8b)",
		"107c6f58-e06b-44e9-be7a-123456789012": "organisation 958935420 (client 107c6f58…)",
		"12345678901":                          "organisation 958935420 (client 12345678…)",
	} {
		if got := (Caller{Organisation: oslo, Client: client}).Actor(); got != want {
			t.Errorf("%q", got)
		}
	}
	if s := (Caller{Organisation: oslo, Supplier: supplier, Client: strings.Repeat("a", maxClient)}).Actor(); len(s) > 200 {
		t.Errorf("%d bytes", len(s))
	}
	if s := (Caller{}).Actor(); s != "nobody" {
		t.Error(s)
	}
}

func TestConfigFaults(t *testing.T) {
	good := func() Config {
		c := Defaults()
		c.Issuers = []Issuer{{Kind: Maskinporten, URL: "https://maskinporten.example/"}}
		return c
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	if err := Defaults().Validate(); err != nil {
		t.Fatal(err)
	}
	for key, edit := range map[string]func(*Config){
		"issuers[0].kind":             func(c *Config) { c.Issuers[0].Kind = "oidc" },
		"issuers[0].url: want https":  func(c *Config) { c.Issuers[0].URL = "http://maskinporten.example/" },
		"issuers[0].url: want an":     func(c *Config) { c.Issuers[0].URL = "" },
		"issuers[0].url: has a":       func(c *Config) { c.Issuers[0].URL = "https://a:b@maskinporten.example/" },
		"issuers[1].url":              func(c *Config) { c.Issuers = append(c.Issuers, c.Issuers[0]) },
		"issuers[0].jwks":             func(c *Config) { c.Issuers[0].JWKS = "file:///etc/passwd" },
		"issuers[0].jwks: kind plain": func(c *Config) { c.Issuers[0].Kind = Plain },
		"issuers[0].audiences":        func(c *Config) { c.Issuers[0].Kind = IDPorten },
		"issuers[0].algorithms":       func(c *Config) { c.Issuers[0].Algorithms = []string{"HS256"} },
		"issuers[0].acr":              func(c *Config) { c.Issuers[0].ACR = "idporten-loa-high" },
		"issuers[0].delegation_sources": func(c *Config) {
			c.Issuers[0] = Issuer{Kind: IDPorten, URL: "https://x.example", Audiences: []string{"a"}, DelegationSources: []string{"x"}}
		},
		"issuers[0].audiences and": func(c *Config) { c.Issuers[0].Audiences = []string{""} },
		"scope_prefix":             func(c *Config) { c.ScopePrefix = "" },
		"leeway":                   func(c *Config) { c.Leeway = 11e9 },
		"max_age":                  func(c *Config) { c.MaxAge = 0 },
		"keys_refresh":             func(c *Config) { c.KeysRefresh = 0 },
		"keys_keep":                func(c *Config) { c.KeysKeep = 0 },
		"cached_tokens":            func(c *Config) { c.CachedTokens = -1 },
	} {
		c := good()
		edit(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, url := range []string{"http://127.0.0.1:8080/maskinporten/", "http://localhost:1/", "http://[::1]:1/", "https://idporten.no"} {
		if err := checkURL(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"http://127.0.0.1.example/", "http://10.0.0.1/", "ftp://localhost/", "https:///x", "https://x.example/?a", "https://x.example/#a", "x"} {
		if checkURL(url) == nil {
			t.Errorf("%s was taken", url)
		}
	}
}
