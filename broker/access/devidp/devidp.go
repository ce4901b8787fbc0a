// Package devidp is a local issuer of tokens, for demonstrations and tests. It
// speaks as Maskinporten does to machines and as ID-porten does of citizens, with
// the same claims, but proves nothing about anybody: its keys live as long as the
// process, it answers on this machine only, and its citizens are synthetic.
//
// Two issuers stand under one address, so that a broker can tell them apart:
//
//	/maskinporten/  metadata, keys (jwk), and the token endpoint with the
//	                JWT-bearer grant of RFC 7523
//	/idporten/      metadata, keys (jwk), and a login without a login: POST the pid
//	                of a synthetic person to /idporten/token
package devidp

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"datafordeler/broker/access"
)

// Options are what an issuer needs beside its clients.
type Options struct {
	// Clock is what time it is; nil is the machine's clock.
	Clock func() time.Time
	Log   *slog.Logger // nil is none
}

// Issuer is a local issuer. Any number of goroutines may use it.
type Issuer struct {
	config  Config
	clients map[string]*Client
	clock   func() time.Time
	log     *slog.Logger

	mu   sync.Mutex
	base string // http://127.0.0.1:PORT
	keys []signingKey
	made int                  // keys ever made
	used map[string]time.Time // jti of grants, until when they are known
}

type signingKey struct {
	kid string
	*rsa.PrivateKey
}

// DelegationSource is the register of delegations that its tokens name.
func (i *Issuer) DelegationSource() string { return i.Base() + "/altinn/" }

// New makes an issuer with a key of its own.
func New(c Config, o Options) (*Issuer, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	i := &Issuer{config: c, clients: map[string]*Client{}, clock: o.Clock, log: o.Log, used: map[string]time.Time{}}
	for n := range c.Clients {
		i.clients[c.Clients[n].ID] = &c.Clients[n]
	}
	return i, i.Rotate(true)
}

// Rotate makes a new key and signs with it from now on. The ones before are
// published still, if keep is true.
func (i *Issuer) Rotate(keep bool) error {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !keep {
		i.keys = nil
	}
	i.made++
	i.keys = append(i.keys, signingKey{"dev-" + strconv.Itoa(i.made), k})
	return nil
}

// Listen opens an address of this machine, and no other. Serve with Handler.
func Listen(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%w; want an address such as 127.0.0.1:0", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("it answers on this machine only, since its tokens prove nothing; want 127.0.0.1:PORT")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		_ = l.Close()
		return nil, errors.New("that name leads beyond this machine; want 127.0.0.1:PORT")
	}
	return l, nil
}

// SetBase says under which address it is reached, such as http://127.0.0.1:8765.
// It stands in its tokens.
func (i *Issuer) SetBase(base string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.base = base
}

// Base is the address under which it is reached.
func (i *Issuer) Base() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.base
}

// Maskinporten is the issuer (iss) of machines' tokens.
func (i *Issuer) Maskinporten() string { return i.Base() + "/maskinporten/" }

// IDPorten is the issuer of citizens' tokens.
func (i *Issuer) IDPorten() string { return i.Base() + "/idporten/" }

// Trust is how a broker is configured to let its tokens in.
func (i *Issuer) Trust() []access.Issuer {
	trust := []access.Issuer{{Kind: access.Maskinporten, URL: i.Maskinporten(), DelegationSources: []string{i.DelegationSource()}}}
	if len(i.config.Logins) > 0 {
		trust = append(trust, access.Issuer{Kind: access.IDPorten, URL: i.IDPorten(), Audiences: i.config.Logins})
	}
	return trust
}

// Handler answers for it.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /maskinporten/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		iss := i.Maskinporten()
		answer(w, http.StatusOK, map[string]any{
			"issuer": iss, "token_endpoint": iss + "token", "jwks_uri": iss + "jwk",
			"grant_types_supported":                            []string{grantType},
			"token_endpoint_auth_methods_supported":            []string{"private_key_jwt"},
			"token_endpoint_auth_signing_alg_values_supported": methods,
		})
	})
	mux.HandleFunc("GET /idporten/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		iss := i.IDPorten()
		answer(w, http.StatusOK, map[string]any{
			"issuer": iss, "token_endpoint": iss + "token", "jwks_uri": iss + "jwk",
			"acr_values_supported": levels, "id_token_signing_alg_values_supported": []string{"RS256"}, "subject_types_supported": []string{"pairwise"},
		})
	})
	mux.HandleFunc("GET /maskinporten/jwk", i.serveKeys)
	mux.HandleFunc("GET /idporten/jwk", i.serveKeys)
	mux.HandleFunc("POST /maskinporten/token", i.grant)
	mux.HandleFunc("POST /idporten/token", i.login)
	return http.MaxBytesHandler(mux, 64<<10)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (i *Issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := []any{}
	for _, k := range i.keys {
		all = append(all, map[string]string{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.kid, "n": encode(k.N.Bytes()), "e": encode(big.NewInt(int64(k.E)).Bytes()),
		})
	}
	answer(w, http.StatusOK, map[string]any{"keys": all})
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a token with the latest key.
func (i *Issuer) sign(claims jwt.MapClaims) (string, error) {
	i.mu.Lock()
	k := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	t.Header["kid"] = k.kid
	return t.SignedString(k.PrivateKey)
}

func unique() string { return rand.Text() }
