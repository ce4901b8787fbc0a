package devidp_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
	"datafordeler/broker/access/devidp"
	"datafordeler/broker/web"
)

// door is the HTTP API behind the guard, with one operation that is an operator's.
func door(t testing.TB, g *access.Gatekeeper) http.Handler {
	cfg := web.Defaults()
	cfg.RatePerSecond = 0
	s := web.New(web.Options{Config: cfg, Guard: g, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test"})
	s.Handle(huma.Operation{OperationID: "stop", Method: http.MethodPost, Path: "/stop", Responses: map[string]*huma.Response{"204": {Description: "done"}}},
		web.Rule{Action: access.Operate}, func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusNoContent)
			return nil
		})
	return s.Handler()
}

func knock(h http.Handler, method, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// From a key to an answer, and every way to be turned away.
func TestThroughTheDoor(t *testing.T) {
	i, g := start(t, func(c *devidp.Config) { c.AnyClient = true })
	h := door(t, g)
	token, err := client(i, "oslo-fagsystem", "datafordeler:receive").Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if w := knock(h, "GET", "/whoami", token.Text); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), oslo) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := knock(h, "GET", "/whoami", ""); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := knock(h, "GET", "/whoami", token.Text[:len(token.Text)-2]+"AA"); w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), token.Text[:20]) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := knock(h, "POST", "/stop", token.Text); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "datafordeler:operate") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// With the scope, and no role in the registry.
	token, err = client(i, "958935420-x", "datafordeler:operate").Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if w := knock(h, "POST", "/stop", token.Text); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "operators") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// What the issuer signs now, with a key that nobody has seen, and the issuer gone.
	i2, g2 := start(t, nil)
	token, err = client(i2, "oslo-fagsystem", "datafordeler:receive").Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i2.SetBase("http://127.0.0.1:1") // its metadata name another issuer now
	if w := knock(door(t, g2), "GET", "/whoami", token.Text); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "127.0.0.1") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// BenchmarkDoor is a whole request but the network: gate, guard and answer.
func BenchmarkDoor(b *testing.B) {
	i, g := start(b, nil)
	h := door(b, g)
	token, err := client(i, "oslo-fagsystem", "datafordeler:receive").Fetch(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if w := knock(h, "GET", "/whoami", token.Text); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}
