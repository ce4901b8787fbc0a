package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/policy"
	"datafordeler/providers/synthetic"
)

// apiRig is an instance's HTTP API over the demonstration's registry, and an issuer
// whose every token the test makes itself.
type apiRig struct {
	t      *testing.T
	base   string
	key    *rsa.PrivateKey
	issuer string
	person string // synthetic

	node   *node
	broker *flow.Broker
	run    func() // runs the instance until the test ends
	log    *safeLog
}

// safeLog is all that an instance has logged.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *safeLog) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// newIssuer serves the key of an issuer whose tokens a test makes itself, and says where.
func newIssuer(t *testing.T) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "a", "n": number(key.N), "e": number(big.NewInt(int64(key.E))),
		}}})
	}))
	t.Cleanup(server.Close)
	return key, server.URL
}

func newAPIRig(t *testing.T, edits ...func(*node)) *apiRig {
	return newAPIRigOn(t, func(*Config) {}, edits...)
}

// newAPIRigOn is an instance that is configured so.
func newAPIRigOn(t *testing.T, configure func(*Config), edits ...func(*node)) *apiRig {
	key, keys := newIssuer(t)
	cfg := dataConfig(filepath.Join(t.TempDir(), "data"))
	cfg.API.Listen = "127.0.0.1:0"
	cfg.API.RatePerSecond = 0
	cfg.Webhooks.Loopback, cfg.Webhooks.FirstRetry = true, 100*time.Millisecond
	cfg.Access.Issuers = []access.Issuer{
		{Kind: access.Plain, URL: keys + "/", JWKS: keys + "/jwk", Audiences: []string{"https://deling.example.no"}, DelegationSources: []string{"https://altinn.no/"}},
		{Kind: access.IDPorten, URL: keys + "/citizens/", JWKS: keys + "/jwk", Audiences: []string{"innbygger"}},
	}
	configure(&cfg)
	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	log := &safeLog{}
	n, err := openNode(ctx, cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), kafka.Own, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	docs, err := demoRegistry()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.activatePolicy(ctx, "test", policy.Embedded()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.apply(ctx, docs, "test", false); err != nil {
		t.Fatal(err)
	}
	if err := n.ensureTopics(ctx); err != nil {
		t.Fatal(err)
	}
	book, err := n.openBook(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(book.ledger.Close)
	located := n.newLocating()
	for _, edit := range edits {
		edit(n)
	}
	b := n.newBroker(book)
	run := func() {
		var ended sync.WaitGroup
		left, indexed := book.run(ctx), located.run(ctx)
		ended.Go(func() {
			if err := b.Run(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
		t.Cleanup(func() {
			end()
			ended.Wait()
			_ = left()
			indexed()
		})
	}
	d, err := n.newDoors(b, book, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return &apiRig{t, "http://" + d.server.Addr(), key, keys + "/", synthetic.New(synthetic.Config{People: 1, Seed: 1}).Person(0).ID, n, b, run, log}
}

// claims are a good token's for an organisation, and for its supplier if there is one.
func (r *apiRig) claims(org, supplier string) jwt.MapClaims {
	actor := func(n string) map[string]string {
		return map[string]string{"authority": "iso6523-actorid-upis", "ID": "0192:" + n}
	}
	c := jwt.MapClaims{
		"iss": r.issuer, "aud": "https://deling.example.no", "client_id": "test", "consumer": actor(org),
		"iat": time.Now().Unix(), "exp": time.Now().Add(10 * time.Minute).Unix(),
		"scope": "datafordeler:publish datafordeler:receive datafordeler:lookup datafordeler:manage datafordeler:audit datafordeler:operate",
	}
	if supplier != "" {
		c["supplier"], c["delegation_source"] = actor(supplier), "https://altinn.no/"
	}
	return c
}

func (r *apiRig) sign(method jwt.SigningMethod, key any, head map[string]any, c jwt.MapClaims) string {
	r.t.Helper()
	token := jwt.NewWithClaims(method, c)
	token.Header["kid"] = "a"
	for k, v := range head {
		if token.Header[k] = v; v == nil {
			delete(token.Header, k)
		}
	}
	s, err := token.SignedString(key)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *apiRig) token(c jwt.MapClaims) string {
	return r.sign(jwt.SigningMethodRS256, r.key, nil, c)
}

// operation is one of the API's own document.
type operation struct {
	method, path string
	action, or   access.Action // "" where it is public, or nothing else opens it
}

func (r *apiRig) operations() (all []operation) {
	r.t.Helper()
	resp, err := http.Get(r.base + "/openapi.json")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct {
		Paths map[string]map[string]struct {
			Action access.Action `json:"x-datafordeler-action"`
			Or     access.Action `json:"x-datafordeler-or"`
			Public string        `json:"x-datafordeler-public"`
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		r.t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for method, op := range doc.Paths[path] {
			if (op.Action == "") == (op.Public == "") {
				r.t.Errorf("%s %s: the document does not say who may use it", method, path)
			}
			all = append(all, operation{strings.ToUpper(method), path, op.Action, op.Or})
		}
	}
	return all
}

// ask sends no body: whoever may not come in must be refused before that matters.
func (r *apiRig) ask(o operation, names map[string]string, token string) (int, string) {
	r.t.Helper()
	path := o.path
	for name, value := range names {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, o.method, r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Prefer", "wait=0") // nothing binds while no instance routes
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	return resp.StatusCode, string(body)
}

const zeros = "00000000000000000000000000000000"

// The roles, by what each may do on what is its own. An action that stands in no
// role's list fails the test: whoever adds one says here who may.
var (
	anybody      = []access.Action{access.ReadSelf}
	citizens     = append(slices.Clone(anybody), access.OwnConsents, access.OwnDisclosures)
	organisation = append(slices.Clone(anybody), access.ReadCatalogue)
	roles        = []struct {
		name, org, supplier string
		names               map[string]string
		may                 []access.Action
	}{
		{"provider", "974761076", "", map[string]string{"dataset": "inntekt", "agreement": "oslo-sosialhjelp", "subscription": "oslo-sosialhjelp"},
			append(slices.Clone(organisation), access.PublishRecords, access.ReadRejections, access.AuditOwn, access.Suspend, access.FreezeDataset, access.AnswerDeviation, access.Agree, access.Offer, access.BringConsents)},
		{"consumer", "958935420", "", map[string]string{"mailbox": "oslo-sosialhjelp", "agreement": "oslo-sosialhjelp", "subscription": "oslo-sosialhjelp", "delegation": "oslo-proeve"},
			append(slices.Clone(organisation), access.Receive, access.LookUp, access.AuditOwn, access.ManageCases, access.Suspend, access.StopMailbox, access.EndDelegation, access.ReportDeviation, access.GiveReceipt, access.Agree, access.Offer, access.BringConsents)},
		{"supplier with a delegation", "940101808", "313876144", map[string]string{"mailbox": "tromso-barnehage", "agreement": "tromso-barnehage", "subscription": "tromso-barnehage"},
			append(slices.Clone(organisation), access.Receive, access.LookUp, access.ManageCases, access.StopMailbox, access.ReportDeviation, access.GiveReceipt)},
		{"supplier without one", "820852982", "313876144", map[string]string{"mailbox": "kristiansand-barnehage", "agreement": "kristiansand-barnehage", "subscription": "kristiansand-barnehage"},
			organisation},
		{"auditor", "991825827", "", nil, append(slices.Clone(organisation), access.Audit, access.AuditSubject, access.Offer, access.BringConsents)},
		{"operator", "315555558", "", nil, append(slices.Clone(organisation), access.Operate, access.Offer, access.BringConsents)},
		{"organisation that is party to nothing", "889640782", "", nil, append(slices.Clone(organisation), access.Offer, access.BringConsents)},
	}
)

// Every endpoint, by every role, on what is its own and what is another's, with a
// good token and with each that is not; by the API's own document, so that a new
// endpoint is asked too.
func TestDoors(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens an instance")
	}
	r := newAPIRig(t)
	delegation := broker.Delegation{ID: "oslo-proeve", From: "958935420", To: "313876144", Datasets: []broker.DatasetID{"inntekt"}, Valid: broker.Interval{From: time.Now()}}
	if _, err := r.node.control.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
		c, err := registry.Put(delegation)
		if err != nil {
			return nil, err
		}
		return st.Link(time.Now(), "test", c)
	}); err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"dataset": "inntekt", "mailbox": "oslo-sosialhjelp", "agreement": "oslo-sosialhjelp", "subscription": "oslo-sosialhjelp", "decision": zeros, "delegation": "oslo-proeve"}
	none := map[string]string{"dataset": "finnes-ikke", "mailbox": "finnes-ikke", "agreement": "finnes-ikke", "subscription": "finnes-ikke", "decision": zeros, "delegation": "finnes-ikke"}
	operations := r.operations()
	if len(operations) < 3 {
		t.Fatalf("only %d operations", len(operations))
	}
	for _, o := range operations {
		if o.action == "" {
			if code, body := r.ask(o, own, ""); code != http.StatusOK && code != http.StatusNotFound {
				t.Errorf("%s %s is public, and answers %d %s", o.method, o.path, code, body)
			}
			continue
		}
		known := slices.Contains(citizens, o.action)
		for _, role := range roles {
			token := r.token(r.claims(role.org, role.supplier))
			may := slices.Contains(role.may, o.action) || slices.Contains(role.may, o.or)
			// Its path names the agreement, which a supplier has to.
			words := o.path == "/agreements/{agreement}/description" || strings.HasPrefix(o.path, "/agreements/{agreement}/obligations/")
			may = may || words && (role.name == "supplier with a delegation" || o.path == "/agreements/{agreement}/description" && role.name == "operator")
			known = known || may
			names := maps.Clone(none)
			maps.Copy(names, role.names)
			code, body := r.ask(o, names, token)
			refused := code == http.StatusUnauthorized || code == http.StatusForbidden
			if refused == may || code >= 500 {
				t.Errorf("%s %s by %s: %d %s", o.method, o.path, role.name, code, body)
			}
			// Another's, and what there is not, read the same.
			for what, names := range map[string]map[string]string{"another's": own, "nothing": none} {
				if may && role.name == "operator" { // nothing that it operates is another's
					continue
				}
				if strings.Contains(o.path, "{decision}") || strings.Contains(o.path, "{revision}") || o.path == "/deviations/{deviation}" || strings.Contains(o.path, "{need}") || strings.Contains(o.path, "{framework}") || slices.Contains(role.may, o.or) || !strings.Contains(o.path, "{") || maps.Equal(names, role.names) || what == "another's" && overlap(o.path, names, role.names) {
					continue
				}
				code, body := r.ask(o, names, token)
				if code != http.StatusForbidden && code != http.StatusUnauthorized {
					t.Errorf("%s %s by %s, on %s: %d %s", o.method, o.path, role.name, what, code, body)
				}
			}
		}
		citizen := r.citizen(r.person)
		code, body := r.ask(o, own, citizen)
		if refused := code == http.StatusForbidden; refused == slices.Contains(citizens, o.action) || code >= 500 || strings.Contains(body, r.person) {
			t.Errorf("%s %s by a citizen: %d %s", o.method, o.path, code, body)
		}
		if !known {
			t.Errorf("%s %s: no role may %s; say in this test who may", o.method, o.path, o.action)
		}
		for what, token := range r.badTokens() {
			if code, body := r.ask(o, own, token); code != http.StatusUnauthorized {
				t.Errorf("%s %s with %s: %d %s", o.method, o.path, what, code, body)
			}
		}
	}
}

// overlap reports whether a path names the same thing both times.
func overlap(path string, a, b map[string]string) bool {
	for name, value := range a {
		if strings.Contains(path, "{"+name+"}") && b[name] == value {
			return true
		}
	}
	return false
}

// badTokens are Oslo's and a citizen's, with one thing wrong each.
func (r *apiRig) badTokens() map[string]string {
	good := func(edit func(jwt.MapClaims)) jwt.MapClaims {
		c := r.claims("958935420", "")
		edit(c)
		return c
	}
	with := func(name string, v any) string { return r.token(good(func(c jwt.MapClaims) { c[name] = v })) }
	without := func(name string) string { return r.token(good(func(c jwt.MapClaims) { delete(c, name) })) }
	person := func(name string, v any) jwt.MapClaims {
		c := r.citizenClaims(r.person)
		if c[name] = v; v == nil {
			delete(c, name)
		}
		return c
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		r.t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&r.key.PublicKey)
	if err != nil {
		r.t.Fatal(err)
	}
	same := good(func(jwt.MapClaims) {})
	rs := jwt.SigningMethodRS256
	return map[string]string{
		"no token":                                   "",
		"rubbish":                                    "abc",
		"one that has ended":                         with("exp", time.Now().Add(-time.Minute).Unix()),
		"one that counts later":                      with("nbf", time.Now().Add(time.Hour).Unix()),
		"another audience":                           with("aud", "https://another.example.no"),
		"no audience":                                without("aud"),
		"another issuer":                             with("iss", "https://another.example.no/"),
		"alg none":                                   r.sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, same),
		"HS256 with the public key":                  r.sign(jwt.SigningMethodHS256, public, nil, same),
		"another's signature":                        r.sign(rs, other, nil, same),
		"an unknown kid":                             r.sign(rs, r.key, map[string]any{"kid": "b"}, same),
		"no kid":                                     r.sign(rs, r.key, map[string]any{"kid": nil}, same),
		"no consumer":                                without("consumer"),
		"no end":                                     without("exp"),
		"no scope of the broker's":                   with("scope", "another:scope"),
		"a citizen's that has ended":                 r.token(person("exp", time.Now().Add(-time.Minute).Unix())),
		"a citizen's for another site":               r.token(person("aud", "https://deling.example.no")),
		"a citizen's without a number":               r.token(person("pid", nil)),
		"a citizen's with a number that is none":     r.token(person("pid", "12345678901")),
		"a citizen's by too weak a login":            r.token(person("acr", "idporten-loa-low")),
		"a citizen's without a login":                r.token(person("acr", nil)),
		"a citizen's by an issuer of organisations":  r.token(person("iss", r.issuer)),
		"a citizen's with alg none":                  r.sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, person("acr", "idporten-loa-high")),
		"a citizen's, HS256 with the public key":     r.sign(jwt.SigningMethodHS256, public, nil, person("acr", "idporten-loa-high")),
		"a citizen's with an unknown kid":            r.sign(rs, r.key, map[string]any{"kid": "b"}, person("acr", "idporten-loa-high")),
		"a citizen's without kid":                    r.sign(rs, r.key, map[string]any{"kid": nil}, person("acr", "idporten-loa-high")),
		"a citizen's with another's signature":       r.sign(rs, other, nil, person("acr", "idporten-loa-high")),
		"an organisation's by an issuer of citizens": with("iss", r.issuer+"citizens/"),
		"a supplier without its source": r.token(func() jwt.MapClaims {
			c := r.claims("958935420", "313876144")
			delete(c, "delegation_source")
			return c
		}()),
		"a supplier by another register": r.token(func() jwt.MapClaims {
			c := r.claims("958935420", "313876144")
			c["delegation_source"] = "https://x.no/"
			return c
		}()),
	}
}
