package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"datafordeler/broker/webhook/scheme"
	"datafordeler/consumers"
	"datafordeler/consumers/webhook"
)

var key = scheme.Key{Secret: bytes.Repeat([]byte{3}, 32)}

func event(id int, mailbox string) []byte {
	return fmt.Appendf(nil, `{"specversion":"1.0","id":"%032x","source":"urn:datafordeler:dataset:inntekt","type":"t","datacontenttype":"application/json","mailbox":%q,"subscription":"s","agreement":"a","decision":"%032x","dataset":"inntekt","provider":"974761076","recordkind":"original","data":{"n":%d}}`, id, mailbox, id, id)
}

func send(h http.Handler, id string, body []byte, edit func(*http.Request)) (int, string) {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	scheme.Sign(r.Header, id, time.Now(), body, key)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestEndpoint(t *testing.T) {
	store := consumers.FileStore(filepath.Join(t.TempDir(), "seen.json"))
	var handled []string
	fail := false
	open := func() http.Handler {
		h, err := webhook.New(t.Context(), webhook.Config{Mailbox: "m", Secrets: func() []string { return []string{scheme.SecretText(key.Secret)} }, Seen: store, BodyBytes: 1000},
			func(_ context.Context, d consumers.Delivery) error {
				if fail {
					return errors.New("the database is away")
				}
				handled = append(handled, string(d.Data))
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open()
	id := func(n int) string { return fmt.Sprintf("%032x", n) }
	for _, c := range []struct {
		what string
		id   string
		body []byte
		edit func(*http.Request)
		code int
	}{
		{"a delivery", id(1), event(1, "m"), nil, 204},
		{"a repeat", id(1), event(1, "m"), nil, 204},
		{"another's mailbox", id(2), event(2, "n"), nil, 400},
		{"another's id", id(3), event(2, "m"), nil, 400},
		{"no delivery", "a", []byte("[]"), nil, 400},
		{"too long", "a", bytes.Repeat([]byte(" "), 1001), nil, 413},
		{"GET", "a", nil, func(r *http.Request) { r.Method = http.MethodGet }, 405},
		{"no signature", id(2), event(2, "m"), func(r *http.Request) { r.Header.Del("webhook-signature") }, 401},
		{"an old message", id(2), event(2, "m"), func(r *http.Request) {
			scheme.Sign(r.Header, id(2), time.Now().Add(-time.Hour), event(2, "m"), key)
		}, 401},
		{"another's key", id(2), event(2, "m"), func(r *http.Request) {
			scheme.Sign(r.Header, id(2), time.Now(), event(2, "m"), scheme.Key{Secret: bytes.Repeat([]byte{4}, 32)})
		}, 401},
		{"a challenge", "challenge-a", []byte(`{"type":"datafordeler.challenge","challenge":"xyz"}`), nil, 200},
	} {
		code, body := send(h, c.id, c.body, c.edit)
		if code != c.code || c.code == 200 && !strings.Contains(body, `"xyz"`) {
			t.Errorf("%s: %d %s, want %d", c.what, code, body, c.code)
		}
	}
	if len(handled) != 1 {
		t.Fatalf("%v", handled)
	}
	fail = true
	if code, body := send(h, id(2), event(2, "m"), nil); code != 500 || strings.Contains(body, "database") {
		t.Errorf("%d %s", code, body)
	}
	fail = false
	h = open() // after a restart it knows what was handled, and only that
	for n := 1; n <= 2; n++ {
		if code, _ := send(h, id(n), event(n, "m"), nil); code != 204 {
			t.Errorf("%d: %d", n, code)
		}
	}
	if len(handled) != 2 {
		t.Errorf("%v", handled)
	}
}

// The same delivery twice at once is handled once.
func TestAtOnce(t *testing.T) {
	var handled atomic.Int64
	begun, go_ := make(chan struct{}, 2), make(chan struct{})
	h, err := webhook.New(t.Context(), webhook.Config{Mailbox: "m", Secrets: func() []string { return []string{scheme.SecretText(key.Secret)} }},
		func(context.Context, consumers.Delivery) error {
			handled.Add(1)
			begun <- struct{}{}
			<-go_
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if code, _ := send(h, fmt.Sprintf("%032x", 1), event(1, "m"), nil); code != 204 {
				t.Errorf("%d", code)
			}
		})
	}
	<-begun
	close(go_)
	wg.Wait()
	if handled.Load() != 1 {
		t.Errorf("handled %d times", handled.Load())
	}
}

func TestVerify(t *testing.T) {
	h := http.Header{}
	scheme.Sign(h, "a", time.Now(), []byte("{}"), key)
	if err := webhook.Verify(scheme.SecretText(key.Secret), h, []byte("{}"), time.Minute); err != nil {
		t.Error(err)
	}
	if err := webhook.Verify(scheme.SecretText(key.Secret), h, []byte("{ }"), time.Minute); !errors.Is(err, webhook.ErrSignature) {
		t.Error(err)
	}
	if err := webhook.Verify("secret", h, []byte("{}"), time.Minute); err == nil {
		t.Error("that is no secret")
	}
}

// Whoever receives builds no broker.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "datafordeler/consumers/webhook").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if own, ok := strings.CutPrefix(dep, "datafordeler/"); ok && own != "broker" && own != "consumers" && own != "consumers/webhook" && own != "broker/webhook/scheme" {
			t.Errorf("consumers/webhook imports %s", dep)
		}
	}
}
