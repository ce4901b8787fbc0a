package providers

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"datafordeler/broker"
)

// Maskinporten gets access tokens by the JWT-bearer grant (RFC 7523), and keeps each
// while it lasts. Its Token is a TokenSource. Do not copy it after the first use.
type Maskinporten struct {
	// Issuer is the token issuer's identifier, such as https://maskinporten.no/.
	Issuer string
	// TokenURL is where tokens are asked for. Empty: "token" below the Issuer.
	TokenURL string
	// ClientID is the integration's, as registered with the issuer.
	ClientID string
	// Scopes are those that the token shall have.
	Scopes []string
	// KeyID and Key are of the key pair registered for the client, RSA. The key may
	// lie in a module of hardware.
	KeyID string
	Key   crypto.Signer
	// Resource is for whom the token is meant, its aud. Empty: not restricted.
	Resource string
	// ConsumerOrg is on whose behalf a supplier acts, by delegation. Empty: its own.
	ConsumerOrg broker.OrgNumber
	// Client makes the requests. Nil: one that gives up after ten seconds.
	Client *http.Client

	mu      sync.Mutex
	token   string
	expires time.Time
	clock   func() time.Time // nil but in tests
}

// grantLife is how long an assertion counts; Maskinporten takes at most 120 s.
const grantLife = 100 * time.Second

// Token gives a token that lasts for some seconds yet. Several callers at once make
// one request.
func (m *Maskinporten) Token(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.clock != nil {
		now = m.clock()
	}
	if m.token != "" && now.Before(m.expires) {
		return m.token, nil
	}
	token, life, err := m.ask(ctx, now)
	if err != nil {
		return "", fmt.Errorf("Maskinporten: %w", err)
	}
	// A tenth of its life, at least some seconds, is for the way and for clocks that differ.
	m.token, m.expires = token, now.Add(life-max(life/10, min(10*time.Second, life/2)))
	return token, nil
}

func (m *Maskinporten) ask(ctx context.Context, now time.Time) (token string, life time.Duration, err error) {
	assertion, err := m.assertion(now)
	if err != nil {
		return "", 0, err
	}
	at := m.TokenURL
	if at == "" {
		at = strings.TrimSuffix(m.Issuer, "/") + "/token"
	}
	if err := checkURL(at); err != nil {
		return "", 0, fmt.Errorf("TokenURL: %w", err)
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := m.Client
	if client == nil {
		client = &http.Client{Timeout: 10 * time.Second}
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", 0, err
	}
	var answer struct {
		Token   string `json:"access_token"`
		Expires int64  `json:"expires_in"`
		Error   string `json:"error"`
		Says    string `json:"error_description"`
	}
	if err := json.Unmarshal(text, &answer); resp.StatusCode != http.StatusOK || err != nil {
		return "", 0, fmt.Errorf("no token: %s %s %s; are client, key and scopes registered there?", resp.Status, answer.Error, answer.Says)
	}
	if answer.Token == "" || answer.Expires <= 0 {
		return "", 0, errors.New("the answer holds no token that lasts")
	}
	return answer.Token, time.Duration(answer.Expires) * time.Second, nil
}

// assertion is the signed grant, RS256.
func (m *Maskinporten) assertion(now time.Time) (string, error) {
	if m.Issuer == "" || m.ClientID == "" || m.KeyID == "" || m.Key == nil || len(m.Scopes) == 0 {
		return "", errors.New("Issuer, ClientID, KeyID, Key and Scopes are all needed")
	}
	if _, ok := m.Key.Public().(*rsa.PublicKey); !ok {
		return "", errors.New("Key: not RSA")
	}
	claims := map[string]any{
		"aud": m.Issuer, "iss": m.ClientID, "scope": strings.Join(m.Scopes, " "), "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(grantLife).Unix(),
	}
	if m.Resource != "" {
		claims["resource"] = m.Resource
	}
	if m.ConsumerOrg != "" {
		claims["consumer_org"] = m.ConsumerOrg
	}
	part := func(v any) (string, error) {
		b, err := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b), err
	}
	head, err := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": m.KeyID})
	if err != nil {
		return "", err
	}
	body, err := part(claims)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(head + "." + body))
	sig, err := m.Key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return head + "." + body + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}
