package access

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The tests' keys are made once; none is kept anywhere.
var (
	keyA = sync.OnceValue(newKey)
	keyB = sync.OnceValue(newKey)
)

func newKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// issuer is one that a test has in its hands: what it publishes, whether it
// answers, and how often it was asked.
type issuer struct {
	*httptest.Server
	asked atomic.Int64 // for keys
	all   atomic.Int64 // for anything

	mu   sync.Mutex
	keys map[string]*rsa.PrivateKey
	down func(http.ResponseWriter, *http.Request) // answers instead; nil when it is up
	meta map[string]any                           // over what its metadata say
}

func newIssuer(t testing.TB) *issuer {
	i := &issuer{keys: map[string]*rsa.PrivateKey{"a": keyA()}}
	i.Server = httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) set(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all.Add(1)
	if r.URL.Path == "/jwk" {
		i.asked.Add(1)
	}
	if i.down != nil {
		i.down(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration":
		m := map[string]any{"issuer": i.URL + "/", "jwks_uri": i.URL + "/jwk"}
		maps.Copy(m, i.meta)
		_ = json.NewEncoder(w).Encode(m)
	case "/jwk":
		var keys []any
		for kid, k := range i.keys {
			keys = append(keys, jwkOf(kid, &k.PublicKey))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	default:
		http.NotFound(w, r)
	}
}

func jwkOf(kid string, k *rsa.PublicKey) map[string]any {
	return map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
		"n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes()),
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a token of any two texts, right or wrong.
func sign(key *rsa.PrivateKey, head, body string) string {
	text := b64([]byte(head)) + "." + b64([]byte(body))
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + b64(sig)
}

const goodHead = `{"alg":"RS256","kid":"a","typ":"JWT"}`

func jsonText(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// token signs claims with the key that the issuer publishes as "a".
func token(claims map[string]any) string {
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return sign(keyA(), goodHead, string(b))
}

// with is claims with some changed, or gone where the new value is nil.
func with(claims map[string]any, changes ...any) map[string]any {
	c := maps.Clone(claims)
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(c, changes[i].(string))
		} else {
			c[changes[i].(string)] = changes[i+1]
		}
	}
	return c
}

func org(n string) map[string]any {
	return map[string]any{"authority": "iso6523-actorid-upis", "ID": "0192:" + n}
}

const (
	oslo     = "958935420"
	bergen   = "964338531"
	supplier = "313876144"
	skatt    = "974761076"
	digdir   = "991825827"
	operator = "315555558"
	stranger = "310149942"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// machine is an organisation's claims, as Maskinporten makes them.
func machine(iss string) map[string]any {
	return map[string]any{
		"iss": iss, "client_amr": "private_key_jwt", "token_type": "Bearer", "aud": "unspecified",
		"client_id": "107c6f58-e06b-44e9-be7a-11ea44c7ad8b", "consumer": org(oslo),
		"scope": "datafordeler:receive datafordeler:lookup", "exp": t0.Unix() + 120, "iat": t0.Unix(), "jti": "T2KUt3ufgIPy",
	}
}

// person is a citizen's claims, as ID-porten makes them. The number is synthetic.
func person(iss string) map[string]any {
	return map[string]any{
		"iss": iss, "aud": "innbygger", "sub": "6f7y", "pid": synthetic, "acr": "idporten-loa-high", "amr": []string{"BankID"},
		"sid": "s", "exp": t0.Unix() + 120, "iat": t0.Unix(), "nonce": "n",
	}
}

// synthetic is a person's number that nobody can have: 80 added to the month.
var synthetic = func() string {
	for i := range 1000 {
		first := fmt.Sprintf("018170%03d", i)
		for k := range 100 {
			if s := fmt.Sprintf("%s%02d", first, k); ValidPersonNumber(s) && Synthetic(s) {
				return s
			}
		}
	}
	panic("none")
}()

// clock is drawn by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// doors are a verifier with two issuers: machines' and people's.
type doors struct {
	*Verifier
	clock          *clock
	machine, login *issuer
}

func newDoors(t testing.TB, edit func(*Config)) *doors {
	d := &doors{clock: &clock{now: t0}, machine: newIssuer(t), login: newIssuer(t)}
	cfg := d.config()
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if d.Verifier, err = newVerifier(cfg, d.clock.Now, nil, newMetrics()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Verifier.Close)
	return d
}

func (d *doors) config() Config {
	cfg := Defaults()
	cfg.Issuers = []Issuer{
		{Kind: Maskinporten, URL: d.machine.URL + "/", DelegationSources: []string{"https://tt02.altinn.no/"}},
		{Kind: IDPorten, URL: d.login.URL + "/", Audiences: []string{"innbygger", "nettsted"}},
	}
	return cfg
}
