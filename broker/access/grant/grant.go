// Package grant gets an organisation's token from Maskinporten, or from another
// issuer that gives them the same way: the client signs a grant that lasts two
// minutes at the most and is used once, and gets a token for it (RFC 7523). It needs
// nothing of the broker, so that whoever publishes or receives can use it.
package grant

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
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	lasts     = 100 * time.Second // Maskinporten takes 120; clocks differ
	maxAnswer = 256 << 10
	timeout   = 10 * time.Second
)

// Client is a machine of an organisation, as it is registered with the issuer.
type Client struct {
	// Issuer is whom to ask, such as https://maskinporten.no/, exactly as it calls
	// itself.
	Issuer string
	// ID is the client_id, and Key what it signs with. KeyID is the key's name (kid)
	// where it was registered under one.
	ID    string
	Key   *rsa.PrivateKey
	KeyID string
	// Scopes are what the token is to be good for.
	Scopes []string
	// ConsumerOrg is the organisation for which a supplier asks; "" is its own.
	ConsumerOrg string
	// Resource is the API that the token is for (aud); "" is any.
	Resource string
	// HTTP asks the issuer; nil is one with a timeout that follows no redirection.
	HTTP *http.Client
}

// Token is what the issuer gave.
type Token struct {
	Text    string // for Authorization: Bearer
	Scope   string
	Expires time.Time // by this machine's clock
}

// ReadKey reads an RSA key of 2048 bits or more from PEM (PKCS #8 or #1).
func ReadKey(text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the key is not PEM; make one: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048")
	}
	var key *rsa.PrivateKey
	switch block.Type {
	case "PRIVATE KEY":
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the key cannot be read as PKCS #8")
		}
		var ok bool
		if key, ok = k.(*rsa.PrivateKey); !ok {
			return nil, errors.New("the key is not an RSA key")
		}
	case "RSA PRIVATE KEY":
		var err error
		if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return nil, errors.New("the key cannot be read as PKCS #1; is it encrypted?")
		}
	default:
		return nil, fmt.Errorf("the PEM block is a %s; want a private RSA key that is not encrypted", strings.ToLower(block.Type))
	}
	if key.N.BitLen() < 2048 {
		return nil, fmt.Errorf("the key has %d bits; want 2048 or more", key.N.BitLen())
	}
	return key, nil
}

// Loopback reports whether an address is on this machine, by its text alone.
func Loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Fetch gets a token. What the issuer answers stands in the error, not what was
// sent.
func (c *Client) Fetch(ctx context.Context) (Token, error) {
	issuer, err := url.Parse(c.Issuer)
	switch {
	case err != nil || issuer.Host == "" || issuer.Scheme != "https" && !(issuer.Scheme == "http" && Loopback(c.Issuer)):
		return Token{}, fmt.Errorf("issuer %q: want an address such as https://maskinporten.no/", c.Issuer)
	case c.ID == "" || c.Key == nil || len(c.Scopes) == 0:
		return Token{}, errors.New("a grant needs a client, a key and a scope")
	}
	client := c.HTTP
	if client == nil {
		client = &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	var metadata struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
	}
	where := strings.TrimSuffix(c.Issuer, "/") + "/.well-known/oauth-authorization-server"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return Token{}, err
	}
	if err := ask(client, req, &metadata); err != nil {
		return Token{}, err
	}
	endpoint, err := url.Parse(metadata.TokenEndpoint)
	if err != nil || metadata.Issuer != c.Issuer || endpoint.Scheme != issuer.Scheme || endpoint.Host != issuer.Host {
		return Token{}, fmt.Errorf("%s: is of issuer %q with its token endpoint at %q; want both to be %s itself", where, metadata.Issuer, metadata.TokenEndpoint, c.Issuer)
	}
	assertion, err := c.sign(time.Now())
	if err != nil {
		return Token{}, err
	}
	form := url.Values{"grant_type": {grantType}, "assertion": {assertion}}
	if req, err = http.NewRequestWithContext(ctx, http.MethodPost, metadata.TokenEndpoint, strings.NewReader(form.Encode())); err != nil {
		return Token{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var got struct {
		AccessToken string `json:"access_token"`
		Scope       string `json:"scope"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	asked := time.Now()
	if err := ask(client, req, &got); err != nil {
		return Token{}, err
	}
	if got.AccessToken == "" || got.ExpiresIn <= 0 {
		return Token{}, fmt.Errorf("%s: answers without a token", metadata.TokenEndpoint)
	}
	return Token{got.AccessToken, got.Scope, asked.Add(time.Duration(min(got.ExpiresIn, 24*3600)) * time.Second)}, nil
}

func (c *Client) sign(now time.Time) (string, error) {
	claims := jwt.MapClaims{
		"iss": c.ID, "aud": c.Issuer, "scope": strings.Join(c.Scopes, " "),
		"iat": now.Unix(), "exp": now.Add(lasts).Unix(), "jti": rand.Text(),
	}
	if c.ConsumerOrg != "" {
		claims["consumer_org"] = c.ConsumerOrg
	}
	if c.Resource != "" {
		claims["resource"] = c.Resource
	}
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	if c.KeyID != "" {
		t.Header["kid"] = c.KeyID
	}
	return t.SignedString(c.Key)
}

// ask reads an answer. A refusal is told in the issuer's words.
func ask(client *http.Client, req *http.Request, into any) error {
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", req.URL, err)
	}
	if resp.StatusCode != http.StatusOK {
		var f struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.Unmarshal(b, &f) == nil && f.Error != "" {
			return fmt.Errorf("%s refuses: %s: %s", req.URL, f.Error, f.Description)
		}
		return fmt.Errorf("%s answers %d", req.URL, resp.StatusCode)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: not the JSON that was expected: %w", req.URL, err)
	}
	return nil
}

// Source gets a token when one is needed, and uses it as long as it lasts. Any
// number of goroutines may ask.
type Source struct {
	Client *Client

	mu   sync.Mutex
	last Token
}

// margin is how long before its end a token is renewed.
const margin = 20 * time.Second

// Token is one that lasts a while yet. Whoever waits for a new one waits for the
// same one.
func (s *Source) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Until(s.last.Expires) > margin {
		return s.last.Text, nil
	}
	t, err := s.Client.Fetch(ctx)
	if err != nil {
		return "", err
	}
	s.last = t
	return t.Text, nil
}

// Forget drops the token, after it was refused.
func (s *Source) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = Token{}
}
