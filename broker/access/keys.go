package access

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"

	"datafordeler/broker/jsondoc"
)

const (
	// maxAnswer bounds what an issuer may answer, in bytes, and maxKeys how many keys
	// it may have.
	maxAnswer = 256 << 10
	maxKeys   = 100
	// fetchTimeout bounds reading an issuer's keys, metadata included.
	fetchTimeout = 5 * time.Second
	// fetchPause is the least time between two attempts.
	fetchPause = 10 * time.Second
)

// keySet is an issuer's keys as they were read once. It does not change.
type keySet struct {
	keys keyfunc.Keyfunc
	kids map[string]bool
	read time.Time
}

// keyring holds one issuer's keys. It asks nobody but the issuer, one request at a
// time, and not more often than each fetchPause, whatever the tokens say.
type keyring struct {
	issuer        *Issuer
	refresh, keep time.Duration
	clock         func() time.Time
	client        *http.Client
	life          context.Context // ends fetches under way
	wait          *sync.WaitGroup
	metrics       *Metrics

	mu     sync.Mutex
	set    *keySet // nil before the first
	tried  time.Time
	failed error         // of the last attempt; nil if it did not fail
	flight chan struct{} // closed when the attempt under way ends; nil if there is none
}

var errUnknownKey = errors.New("unknown key")

// find is the set with the key of that name. The error is errUnknownKey, or says
// why it could not be found out.
func (r *keyring) find(ctx context.Context, kid string) (*keySet, error) {
	for asked := false; ; asked = true {
		r.mu.Lock()
		now := r.clock()
		set := r.set
		good := set != nil && now.Sub(set.read) < r.keep
		if good && set.kids[kid] {
			if now.Sub(set.read) >= r.refresh && r.mayTry(now) {
				r.fetch(now) // whoever comes later has the new ones
			}
			r.mu.Unlock()
			return set, nil
		}
		if r.flight == nil && (asked || !r.mayTry(now)) {
			failed := r.failed
			r.mu.Unlock()
			switch {
			case failed != nil:
				return nil, fmt.Errorf("access: the keys of %s cannot be read: %w", r.issuer.URL, failed)
			case !good:
				return nil, fmt.Errorf("access: the keys of %s are too old", r.issuer.URL)
			}
			return nil, errUnknownKey
		}
		if r.flight == nil {
			r.fetch(now)
		}
		flight := r.flight
		r.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, fmt.Errorf("access: the keys of %s: %w", r.issuer.URL, ctx.Err())
		}
	}
}

// current is the set that counts now, or nil. It has new ones fetched when it is
// time to.
func (r *keyring) current() *keySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	if r.set == nil || now.Sub(r.set.read) >= r.keep {
		return nil
	}
	if now.Sub(r.set.read) >= r.refresh && r.mayTry(now) {
		r.fetch(now)
	}
	return r.set
}

// mayTry reports whether it is time for another attempt. The lock is held.
func (r *keyring) mayTry(now time.Time) bool {
	since := now.Sub(r.tried)
	return r.flight == nil && r.life.Err() == nil && (r.tried.IsZero() || since >= fetchPause || since < 0)
}

// fetch begins an attempt. The lock is held.
func (r *keyring) fetch(now time.Time) {
	r.tried = now
	flight := make(chan struct{})
	r.flight = flight
	r.wait.Go(func() {
		ctx, cancel := context.WithTimeout(r.life, fetchTimeout)
		defer cancel()
		set, err := r.read(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.failed = err; err == nil {
			set.read = now
			r.set = set
		}
		r.metrics.refreshed(r.issuer.URL, now, err)
		r.flight = nil
		close(flight)
	})
}

// read asks the issuer for its keys.
func (r *keyring) read(ctx context.Context) (*keySet, error) {
	where := r.issuer.JWKS
	if where == "" {
		var err error
		if where, err = r.locate(ctx); err != nil {
			return nil, err
		}
	}
	b, err := get(ctx, r.client, where)
	if err != nil {
		return nil, err
	}
	set, err := readKeys(b, r.issuer.algorithms())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return set, nil
}

// MetadataURL is where an issuer of the kind says where its keys and its token
// endpoint are.
func MetadataURL(k Kind, issuer string) string {
	path := "/.well-known/openid-configuration"
	if k == Maskinporten {
		path = "/.well-known/oauth-authorization-server"
	}
	return strings.TrimSuffix(issuer, "/") + path
}

// locate asks the issuer's metadata where its keys are (RFC 8414, OpenID Connect
// Discovery).
func (r *keyring) locate(ctx context.Context) (string, error) {
	where := MetadataURL(r.issuer.Kind, r.issuer.URL)
	b, err := get(ctx, r.client, where)
	if err != nil {
		return "", err
	}
	var d jsondoc.Doc
	if err := d.Parse(b, maxNesting); err != nil {
		return "", fmt.Errorf("%s: %w", where, err)
	}
	if iss, _ := textAt(&d, 0, "issuer"); iss != r.issuer.URL {
		return "", fmt.Errorf("%s: its issuer is another than the one configured; write access.issuers.url as it stands there", where)
	}
	jwks, _ := textAt(&d, 0, "jwks_uri")
	if checkURL(jwks) != nil || !sameOrigin(jwks, r.issuer.URL) {
		return "", fmt.Errorf("%s: its jwks_uri is not at the issuer itself; name it in access.issuers.jwks if it is right", where)
	}
	return jwks, nil
}

func sameOrigin(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Scheme == y.Scheme && x.Host == y.Host
}

// get reads one document. It follows no redirection: that would be another party.
func get(ctx context.Context, client *http.Client, where string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d", where, resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("%s answers more than %d bytes", where, maxAnswer)
	}
	return b, err
}

// newClient asks issuers; it never goes elsewhere.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost, t.MaxResponseHeaderBytes = 1, 64<<10
	return &http.Client{Transport: t, Timeout: fetchTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// readKeys reads a JWK Set (RFC 7517) and keeps the RSA keys that may sign. Of each
// it takes the number alone: certificates and addresses beside it are not followed.
func readKeys(b []byte, algorithms []string) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("not a set of keys: %w", err)
	}
	if len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys; %d are the most", len(doc.Keys), maxKeys)
	}
	set := &keySet{kids: map[string]bool{}}
	var all []jwkset.JWK
	for i, raw := range doc.Keys {
		var k struct {
			Kty, Use, Alg, Kid, N, E string
			Ops                      []string `json:"key_ops"`
		}
		if err := json.Unmarshal(raw, &k); err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if k.Kty != "RSA" || k.Use != "" && k.Use != "sig" || k.Kid == "" || len(k.Kid) > maxKid ||
			k.Alg != "" && !slices.Contains(algorithms, k.Alg) || len(k.Ops) > 0 && !slices.Contains(k.Ops, "verify") {
			continue // for something else
		}
		if set.kids[k.Kid] {
			return nil, fmt.Errorf("two keys have the same kid")
		}
		jwk, err := jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{
			KTY: jwkset.KtyRSA, USE: jwkset.UseSig, ALG: jwkset.ALG(k.Alg), KID: k.Kid, N: k.N, E: k.E,
		}, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		key, ok := jwk.Key().(*rsa.PublicKey)
		if !ok || key.N.BitLen() < 2048 || key.N.BitLen() > 8192 || key.E < 3 || key.E%2 == 0 {
			return nil, fmt.Errorf("key %d: not an RSA key of 2048 to 8192 bits", i)
		}
		set.kids[k.Kid] = true
		all = append(all, jwk)
	}
	if len(all) == 0 {
		return nil, errors.New("no RSA key to verify signatures with")
	}
	store := jwkset.NewMemoryStorage()
	if err := store.KeyReplaceAll(context.Background(), all); err != nil {
		return nil, err
	}
	var err error
	set.keys, err = keyfunc.New(keyfunc.Options{Storage: store, UseWhitelist: []jwkset.USE{jwkset.UseSig}})
	return set, err
}
