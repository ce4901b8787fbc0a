package access

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"datafordeler/broker"
)

// FuzzToken gives the verifier anything: it answers with a *TokenError, or with a
// caller that the token's own signed words name.
func FuzzToken(f *testing.F) {
	d := newDoors(f, nil)
	good := token(machine(d.machine.URL + "/"))
	f.Add(good)
	f.Add(token(person(d.login.URL + "/")))
	f.Add("..")
	f.Add(good[:len(good)-1])
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(b64([]byte(`{"alg":"none"}`)) + ".e30.")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := d.Verify(context.Background(), text)
		var bad *TokenError
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatal(err)
			}
			return
		}
		if text != good && c.Person.IsZero() {
			t.Fatalf("%q counts", text)
		}
	})
}

// FuzzClaims signs anything as claims. What counts names an organisation by a valid
// number, or a person.
func FuzzClaims(f *testing.F) {
	d := newDoors(f, nil)
	m, p := machine("https://maskinporten.example/"), person("https://idporten.example/")
	for _, c := range []map[string]any{m, p, with(m, "aud", []string{"x"}), with(m, "supplier", org(supplier), "delegation_source", "https://tt02.altinn.no/")} {
		b, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"exp":1,"EXP":2}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c claims
		if err := c.UnmarshalJSON(b); err != nil {
			return
		}
		for _, i := range d.issuers {
			caller, err := c.caller(&i.Issuer, "datafordeler", d.Verifier.config.MaxAge)
			var bad *TokenError
			if err != nil {
				if !errors.As(err, &bad) {
					t.Fatal(err)
				}
				continue
			}
			if i.Kind == IDPorten {
				if caller.Organisation != "" || !ValidPersonNumber(caller.Person.Number()) {
					t.Fatalf("%+v", caller)
				}
				continue
			}
			if _, err := broker.ParseOrgNumber(string(caller.Organisation)); err != nil || !caller.Person.IsZero() || caller.Client == "" || len(caller.Scopes) == 0 {
				t.Fatalf("%+v", caller)
			}
		}
	})
}

// FuzzKeys gives anything for a set of keys.
func FuzzKeys(f *testing.F) {
	b, err := json.Marshal(map[string]any{"keys": []any{jwkOf("a", &keyA().PublicKey)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"keys":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if set, err := readKeys(b, algorithms); err == nil && len(set.kids) == 0 {
			t.Fatal("a set without keys")
		}
	})
}

// A change of a letter of a token, wherever, makes it count no more.
func TestEveryLetterCounts(t *testing.T) {
	d := newDoors(t, func(c *Config) { c.CachedTokens = 0 })
	good := token(machine(d.machine.URL + "/"))
	if _, err := d.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += 5 {
		for _, x := range []byte("A.=\n") {
			if good[i] == x {
				continue
			}
			if _, err := d.Verify(t.Context(), good[:i]+string(x)+good[i+1:]); err == nil {
				t.Fatalf("letter %d can be %q", i, x)
			}
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct {
		name string
		keep int
	}{{"remembered", 100}, {"anew", 0}} {
		b.Run(c.name, func(b *testing.B) {
			d := newDoors(b, func(cfg *Config) { cfg.CachedTokens = c.keep })
			text := token(machine(d.machine.URL + "/"))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Verify(b.Context(), text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGuard is what a door costs: who, and may they.
func BenchmarkGuard(b *testing.B) {
	w := newWorld(b)
	d := newDoors(b, nil)
	g := newGate(b, func(o *Options) { o.View = w.View })
	g.Verifier.Close()
	g.Verifier = d.Verifier
	header := "Bearer " + token(with(machine(d.machine.URL+"/"), "consumer", org(bergen), "supplier", org(supplier), "delegation_source", "https://tt02.altinn.no/"))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := g.Identify(context.Background(), header)
			if err == nil {
				err = g.Allow(context.Background(), c, Receive, Resource{Mailbox: "bergen"})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRefuse(b *testing.B) {
	d := newDoors(b, nil)
	text := token(machine(d.machine.URL + "/"))
	i := strings.LastIndexByte(text, '.')
	sig, err := base64.RawURLEncoding.DecodeString(text[i+1:])
	if err != nil {
		b.Fatal(err)
	}
	sig[9] ^= 1
	text = text[:i+1] + b64(sig)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Verify(b.Context(), text); err == nil {
			b.Fatal("it counts")
		}
	}
}
