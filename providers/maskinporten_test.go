package providers

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestMaskinporten(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var asked atomic.Int32
	seen := map[any]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		grant, err := jwt.Parse(r.FormValue("assertion"), func(t *jwt.Token) (any, error) { return &key.PublicKey, nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience("https://issuer.test/"), jwt.WithIssuer("payroll"), jwt.WithExpirationRequired(),
			jwt.WithTimeFunc(func() time.Time { return now }))
		if err != nil || grant.Header["kid"] != "k1" || r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			t.Errorf("%v %v", err, grant)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c := grant.Claims.(jwt.MapClaims)
		if c["scope"] != "a:b a:c" || c["resource"] != "https://broker.test" || c["consumer_org"] != "958935420" || seen[c["jti"]] {
			t.Errorf("%v", c)
		}
		seen[c["jti"]] = true
		if c["exp"].(float64)-c["iat"].(float64) > 120 {
			t.Error("the grant counts for longer than Maskinporten takes")
		}
		fmt.Fprintf(w, `{"access_token":"t%d","expires_in":120}`, asked.Load())
	}))
	defer srv.Close()
	m := &Maskinporten{
		Issuer: "https://issuer.test/", TokenURL: srv.URL, ClientID: "payroll", Scopes: []string{"a:b", "a:c"}, KeyID: "k1", Key: key,
		Resource: "https://broker.test", ConsumerOrg: "958935420", clock: func() time.Time { return now },
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if token, err := m.Token(t.Context()); token != "t1" || err != nil {
				t.Error(token, err)
			}
		})
	}
	wg.Wait()
	now = now.Add(107 * time.Second)
	if token, _ := m.Token(t.Context()); token != "t1" {
		t.Error("a token that lasts yet was thrown away")
	}
	now = now.Add(2 * time.Second)
	if token, _ := m.Token(t.Context()); token != "t2" {
		t.Error("a token was kept for too long")
	}
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_scope","error_description":"no such scope"}`)
	})
	now = now.Add(time.Hour)
	if _, err := m.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "invalid_scope") {
		t.Error(err)
	}
	if _, err := (&Maskinporten{}).Token(t.Context()); err == nil {
		t.Error("an empty one gave a token")
	}
}
