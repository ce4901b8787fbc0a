package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"datafordeler/broker/access"
)

type fakeCredentials struct {
	said     []string
	overlap  time.Duration
	replaces string
	once     [][32]byte
}

func (f *fakeCredentials) note(c access.Caller, r access.Resource, what string) {
	f.said = append(f.said, what+" "+string(c.Acting())+" "+string(r.Mailbox)+string(r.Dataset))
}

func (f *fakeCredentials) Issue(_ context.Context, c access.Caller, r access.Resource, o KafkaCredentialOrder) (IssuedKafkaCredential, error) {
	f.note(c, r, "issue")
	f.replaces, f.overlap = o.Replaces, o.Overlap
	if o.Once != [32]byte{} {
		if slices.Contains(f.once, o.Once) {
			p := NewProblem(http.StatusConflict, "made before")
			p.Type = KeyDone
			return IssuedKafkaCredential{}, p
		}
		f.once = append(f.once, o.Once)
	}
	return IssuedKafkaCredential{Name: "df-958935420-abcdefghij234567", Password: "told once"}, nil
}

func (f *fakeCredentials) List(context.Context, access.Resource) ([]KafkaCredential, error) {
	return nil, nil
}

func (f *fakeCredentials) Revoke(_ context.Context, c access.Caller, r access.Resource, name string) error {
	f.note(c, r, "revoke "+name)
	if name != "df-958935420-abcdefghij234567" {
		return NewProblem(http.StatusNotFound, "no such login")
	}
	return nil
}

func TestKafkaCredentials(t *testing.T) {
	f := &fakeCredentials{}
	s := testServer(t, nil)
	s.RegisterKafkaCredentials(f)
	send := func(method, path, token, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	const own, others = "/mailboxes/958935420-a/kafka-credentials", "/mailboxes/964338531-a/kafka-credentials"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"issue", "POST", own, "", 201, `"password":"told once"`},
		{"issue with nothing in it", "POST", own, "{}", 201, "told once"},
		{"another's", "POST", others, "", 403, "no mailbox of that name is yours"},
		{"another's are not listed", "GET", others, "", 403, "no mailbox"},
		{"another's are not revoked", "DELETE", others + "/df-964338531-abcdefghij234567", "", 403, "no mailbox"},
		{"none is a list", "GET", own, "", 200, `"credentials":[]`},
		{"revoke", "DELETE", own + "/df-958935420-abcdefghij234567", "", 204, ""},
		{"revoke what is not there", "DELETE", own + "/df-958935420-zzzzzzzzzzzzzzzz", "", 404, "no such login"},
		{"an overlap of nothing", "POST", own, `{"overlapSeconds":5}`, 422, "name it in replaces"},
		{"too long an overlap", "POST", own, `{"overlapSeconds":604801,"replaces":"x"}`, 422, ""},
		{"what it does not know", "POST", own, `{"password":"mine"}`, 422, ""},
		{"replace", "POST", own, `{"replaces":"df-958935420-abcdefghij234567","overlapSeconds":60}`, 201, "told once"},
	} {
		before := len(f.said)
		w := send(c.method, c.path, "oslo", c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if w.Code >= 400 && w.Code != 404 && len(f.said) != before {
			t.Errorf("%s: it came through: %v", c.name, f.said)
		}
		if cache := w.Header().Get("Cache-Control"); cache != "no-store" {
			t.Errorf("%s: Cache-Control %q: a password must not be kept on the way", c.name, cache)
		}
	}
	if f.replaces == "" || f.overlap != time.Minute || f.said[0] != "issue 958935420 958935420-a" {
		t.Errorf("%+v", f)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Action string `json:"x-datafordeler-action"`
		}
	}
	if err := json.Unmarshal(send("GET", "/openapi.json", "", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for path, action := range map[string]access.Action{
		"/mailboxes/{mailbox}/kafka-credentials": access.Receive, "/mailboxes/{mailbox}/kafka-credentials/{credential}": access.Receive,
		"/datasets/{dataset}/kafka-credentials": access.PublishRecords, "/datasets/{dataset}/kafka-credentials/{credential}": access.PublishRecords,
	} {
		for method, op := range doc.Paths[path] {
			if op.Action != string(action) {
				t.Errorf("%s %s is judged as %q", method, path, op.Action)
			}
		}
		if len(doc.Paths[path]) == 0 {
			t.Errorf("%s is not in the document", path)
		}
	}
}

// One order makes one login, whichever instance it comes to: they know it by the same
// digest. The instance that made it gives its answer again; another, which has no
// password to tell, says that it was made.
func TestKafkaCredentialsOnTwoInstances(t *testing.T) {
	f := &fakeCredentials{}
	one, other := testServer(t, nil), testServer(t, nil)
	one.RegisterKafkaCredentials(f)
	other.RegisterKafkaCredentials(f)
	send := func(s *Server, key string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/mailboxes/958935420-a/kafka-credentials", nil)
		r.Header.Set("Authorization", "Bearer oslo")
		if key != "" {
			r.Header.Set(idempotencyHeader, key)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		name     string
		s        *Server
		key      string
		status   int
		says     string
		replayed bool
		made     int
	}{
		{"the first", one, "k", 201, "told once", false, 1},
		{"again", one, "k", 201, "told once", true, 1},
		{"on another instance", other, "k", 409, KeyDone, false, 1},
		{"there again: a refusal frees the key", other, "k", 409, KeyDone, false, 1},
		{"after a restart", func() *Server { s := testServer(t, nil); s.RegisterKafkaCredentials(f); return s }(), `"k"`, 409, KeyDone, false, 1},
		{"another key", other, "l", 201, "told once", false, 2},
		{"no key", other, "", 201, "told once", false, 2},
		{"no key again", one, "", 201, "told once", false, 2},
	} {
		w := send(c.s, c.key)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || (w.Header().Get("Idempotency-Replayed") == "true") != c.replayed || len(f.once) != c.made {
			t.Errorf("%s: %d %v %s; %d made", c.name, w.Code, w.Header(), w.Body, len(f.once))
		}
	}
}
