package devidp_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/access/devidp"
	"datafordeler/broker/access/grant"
	"datafordeler/broker/registry"
	"datafordeler/policy"
	"datafordeler/providers/synthetic"

	mathrand "math/rand/v2"
)

var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

const (
	oslo     = "958935420"
	bergen   = "964338531"
	supplier = "313876144"
)

// start is an issuer that a test serves, and a guard that trusts it.
func start(t testing.TB, edit func(*devidp.Config)) (*devidp.Issuer, *access.Gatekeeper) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	cfg := devidp.Config{
		Clients: []devidp.Client{
			{ID: "oslo-fagsystem", Organisation: oslo, Key: public, Scopes: []string{"datafordeler:receive", "datafordeler:lookup"}},
			{ID: "leverandor", Organisation: supplier, Key: public, Scopes: []string{"datafordeler:receive"}, Consumers: []broker.OrgNumber{bergen}},
		},
		Logins: []string{"innbygger"},
	}
	if edit != nil {
		edit(&cfg)
	}
	i, err := devidp.New(cfg, devidp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(i.Handler())
	t.Cleanup(server.Close)
	i.SetBase(server.URL)
	checker, err := policy.NewAccessChecker()
	if err != nil {
		t.Fatal(err)
	}
	trust := access.Defaults()
	trust.Issuers = i.Trust()
	if err := trust.Validate(); err != nil {
		t.Fatal(err)
	}
	st := registry.New()
	g, err := access.New(trust, access.Options{
		View: func(f func(*registry.State)) { f(st) }, Checker: checker, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return i, g
}

func client(i *devidp.Issuer, id string, scopes ...string) *grant.Client {
	return &grant.Client{Issuer: i.Maskinporten(), ID: id, Key: key(), Scopes: scopes}
}

// A client gets a token, and the guard knows from it who calls.
func TestMachine(t *testing.T) {
	i, g := start(t, nil)
	token, err := client(i, "oslo-fagsystem", "datafordeler:receive").Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.Identify(t.Context(), "Bearer "+token.Text)
	if err != nil || c.Organisation != oslo || c.Supplier != "" || c.Client != "oslo-fagsystem" || !c.HasScope("datafordeler:receive") || c.HasScope("datafordeler:lookup") {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := g.Allow(t.Context(), c, access.ReadCatalogue, access.Resource{}); err != nil {
		t.Error(err)
	}
	// A supplier, for whom it may.
	for consumer, want := range map[string]string{bergen: bergen, supplier: supplier, "": supplier} {
		a := client(i, "leverandor", "datafordeler:receive")
		a.ConsumerOrg = consumer
		token, err := a.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := g.Identify(t.Context(), "Bearer "+token.Text)
		if err != nil || string(c.Organisation) != want || (c.Supplier == supplier) != (want == bergen) {
			t.Fatalf("for %q: %+v, %v", consumer, c, err)
		}
	}
	// A token for something else does not count.
	a := client(i, "oslo-fagsystem", "datafordeler:receive")
	a.Resource = "https://other.example/"
	if token, err = a.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	var bad *access.TokenError
	if _, err := g.Identify(t.Context(), "Bearer "+token.Text); !errors.As(err, &bad) {
		t.Error(err)
	}
	// Another key, when there is one, signs from then on.
	if err := i.Rotate(true); err != nil {
		t.Fatal(err)
	}
	if _, err := client(i, "oslo-fagsystem", "datafordeler:receive").Fetch(t.Context()); err != nil {
		t.Error(err)
	}
}

// What no client may have.
func TestRefusedGrants(t *testing.T) {
	i, _ := start(t, nil)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*grant.Client){
		"invalid_scope":                  func(c *grant.Client) { c.Scopes = []string{"datafordeler:operate"} },
		"invalid_client: no client":      func(c *grant.Client) { c.ID = "958935420-x" },
		"invalid_client: the assertion":  func(c *grant.Client) { c.Key = other },
		"invalid_grant: consumer_org ha": func(c *grant.Client) { c.ConsumerOrg = bergen },
		"invalid_grant: consumer_org: o": func(c *grant.Client) { c.ConsumerOrg = "958935421" },
		"a grant needs":                  func(c *grant.Client) { c.Scopes = nil },
		"want an address":                func(c *grant.Client) { c.Issuer = "http://maskinporten.example/" },
		"want both to be":                func(c *grant.Client) { c.Issuer = strings.TrimSuffix(c.Issuer, "/") },
	} {
		c := client(i, "oslo-fagsystem", "datafordeler:receive")
		edit(c)
		if _, err := c.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	// Grants that this client does not make.
	now := time.Now().Unix()
	good := func() jwt.MapClaims {
		return jwt.MapClaims{"iss": "oslo-fagsystem", "aud": i.Maskinporten(), "scope": "datafordeler:receive", "iat": now, "exp": now + 100, "jti": rand.Text()}
	}
	for name, c := range map[string]struct {
		edit func(jwt.MapClaims)
		how  jwt.SigningMethod
		key  any
		want string
	}{
		"good":            {func(jwt.MapClaims) {}, jwt.SigningMethodRS256, key(), ""},
		"RS512":           {func(jwt.MapClaims) {}, jwt.SigningMethodRS512, key(), ""},
		"two minutes":     {func(m jwt.MapClaims) { m["exp"] = now + 120 }, jwt.SigningMethodRS256, key(), ""},
		"longer":          {func(m jwt.MapClaims) { m["exp"] = now + 121 }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"ended":           {func(m jwt.MapClaims) { m["exp"], m["iat"] = now-60, now-100 }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"not begun":       {func(m jwt.MapClaims) { m["exp"], m["iat"] = now+160, now+60 }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"no end":          {func(m jwt.MapClaims) { delete(m, "exp") }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"no beginning":    {func(m jwt.MapClaims) { delete(m, "iat") }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"no jti":          {func(m jwt.MapClaims) { delete(m, "jti") }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"another issuer":  {func(m jwt.MapClaims) { m["aud"] = i.IDPorten() }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"two audiences":   {func(m jwt.MapClaims) { m["aud"] = []string{i.Maskinporten(), "x"} }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"no scope":        {func(m jwt.MapClaims) { delete(m, "scope") }, jwt.SigningMethodRS256, key(), "invalid_scope"},
		"a number of org": {func(m jwt.MapClaims) { m["consumer_org"] = 964338531 }, jwt.SigningMethodRS256, key(), "invalid_grant"},
		"PS256":           {func(jwt.MapClaims) {}, jwt.SigningMethodPS256, key(), "invalid_client"},
		"none":            {func(jwt.MapClaims) {}, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "invalid_client"},
		"HS256":           {func(jwt.MapClaims) {}, jwt.SigningMethodHS256, key().PublicKey.N.Bytes(), "invalid_client"},
	} {
		m := good()
		c.edit(m)
		assertion, err := jwt.NewWithClaims(c.how, m).SignedString(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := post(t, i.Maskinporten()+"token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}); got["error"] != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if c.want != "" {
			continue
		}
		if got := post(t, i.Maskinporten()+"token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}); got["error"] != "invalid_grant" {
			t.Errorf("%s, a second time: %v", name, got)
		}
	}
	if got := post(t, i.Maskinporten()+"token", url.Values{"grant_type": {"client_credentials"}}); got["error"] != "unsupported_grant_type" {
		t.Error(got)
	}
}

// post is what an endpoint answers; error is "" where there is none.
func post(t *testing.T, where string, form url.Values) map[string]string {
	t.Helper()
	resp, err := http.PostForm(where, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{"error": ""}
	for k, v := range all {
		if s, ok := v.(string); ok {
			out[k] = s
		}
	}
	if (resp.StatusCode == http.StatusOK) != (out["error"] == "") {
		t.Errorf("%d with %v", resp.StatusCode, out["error"])
	}
	return out
}

// Only synthetic people log in.
func TestCitizen(t *testing.T) {
	i, g := start(t, nil)
	pid := synthetic.NationalID(mathrand.New(mathrand.NewPCG(1, 2)))
	got := post(t, i.IDPorten()+"token", url.Values{"pid": {pid}})
	c, err := g.Identify(t.Context(), "Bearer "+got["id_token"])
	if err != nil || c.Person.Number() != pid || c.Organisation != "" || c.Client != "innbygger" {
		t.Fatalf("%v", err)
	}
	// One of other registers' test people (40 added to the month): valid, and not ours.
	other := ""
	for i := 0; other == "" || !access.ValidPersonNumber(other); i++ {
		other = fmt.Sprintf("014170%05d", i)
	}
	for _, form := range []url.Values{
		{"pid": {other}}, {"pid": {other[:10]}}, {"pid": {""}}, {}, {"pid": {pid}, "client_id": {"other"}}, {"pid": {pid}, "acr": {"Level4"}},
	} {
		if got := post(t, i.IDPorten()+"token", form); got["error"] == "" || strings.Contains(got["error_description"], pid) {
			t.Errorf("%v", got)
		}
	}
	got = post(t, i.IDPorten()+"token", url.Values{"pid": {pid}, "acr": {"idporten-loa-low"}})
	if _, err := g.Identify(t.Context(), "Bearer "+got["id_token"]); err == nil {
		t.Error("a low login counts")
	}
	// A number stands in the body, never in an address.
	resp, err := http.PostForm(i.IDPorten()+"token?pid="+pid, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Error("a number was taken from the address")
	}
}

// With --insecure-any-client everybody is whom they say; without, nobody.
func TestAnyClient(t *testing.T) {
	i, g := start(t, func(c *devidp.Config) { c.AnyClient = true })
	c := client(i, "974761076-hva-som-helst", "datafordeler:publish", "datafordeler:audit")
	c.ConsumerOrg = oslo
	token, err := c.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	who, err := g.Identify(t.Context(), "Bearer "+token.Text)
	if err != nil || who.Organisation != oslo || who.Supplier != "974761076" {
		t.Fatalf("%+v, %v", who, err)
	}
	// Those that are listed are held to their keys still.
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c = client(i, "oslo-fagsystem", "datafordeler:receive")
	c.Key = other
	if _, err := c.Fetch(t.Context()); err == nil {
		t.Error("another's key counts")
	}
	for _, id := range []string{"x", "958935421-x", "95893542"} {
		if _, err := client(i, id, "datafordeler:receive").Fetch(t.Context()); err == nil {
			t.Errorf("%s is somebody", id)
		}
	}
}

func TestListensHereOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "10.0.0.1:0", "example.org:0", "127.0.0.1", ""} {
		if l, err := devidp.Listen(address); err == nil {
			l.Close()
			t.Errorf("%q was opened", address)
		}
	}
	l, err := devidp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestSource(t *testing.T) {
	i, _ := start(t, nil)
	s := grant.Source{Client: client(i, "oslo-fagsystem", "datafordeler:receive")}
	a, err := s.Token(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.Token(t.Context()); err != nil || a != b {
		t.Error("a token that lasts was not used again", err)
	}
	s.Forget()
	if b, err := s.Token(t.Context()); err != nil || a == b {
		t.Error("a token that was refused was used again", err)
	}
}

func TestReadKey(t *testing.T) {
	der, err := x509.MarshalPKCS8PrivateKey(key())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		block *pem.Block
		right bool
	}{
		"PKCS 8":  {&pem.Block{Type: "PRIVATE KEY", Bytes: der}, true},
		"PKCS 1":  {&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key())}, true},
		"mixed":   {&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der}, false},
		"public":  {&pem.Block{Type: "PUBLIC KEY", Bytes: der}, false},
		"garbage": {&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}, false},
	} {
		if _, err := grant.ReadKey(pem.EncodeToMemory(c.block)); (err == nil) != c.right {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := grant.ReadKey([]byte("x")); err == nil {
		t.Error("not PEM")
	}
}
