package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"datafordeler/broker/access"
)

type fakeCredentials struct {
	said     []string
	overlap  time.Duration
	replaces string
}

func (f *fakeCredentials) note(c access.Caller, r access.Resource, what string) {
	f.said = append(f.said, what+" "+string(c.Acting())+" "+string(r.Mailbox)+string(r.Dataset))
}

func (f *fakeCredentials) Issue(_ context.Context, c access.Caller, r access.Resource, replaces string, overlap time.Duration) (IssuedKafkaCredential, error) {
	f.note(c, r, "issue")
	f.replaces, f.overlap = replaces, overlap
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
