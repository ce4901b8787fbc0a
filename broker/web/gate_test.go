package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// fakeGuard knows callers by a word in place of a token.
type fakeGuard struct {
	callers map[string]access.Caller
	allow   func(access.Caller, access.Action, access.Resource) error
}

func (g *fakeGuard) Identify(_ context.Context, authorization string) (access.Caller, error) {
	word, _ := strings.CutPrefix(authorization, "Bearer ")
	switch c, ok := g.callers[word]; {
	case ok:
		return c, nil
	case word == "broken":
		return access.Caller{}, errors.New("the issuer's keys could not be fetched from 10.0.0.1")
	case authorization == "":
		return access.Caller{}, &access.TokenError{Missing: true, Why: "send a token"}
	}
	return access.Caller{}, &access.TokenError{Why: "the token does not count"}
}

func (g *fakeGuard) Allow(_ context.Context, c access.Caller, a access.Action, r access.Resource) error {
	if g.allow == nil {
		return nil
	}
	return g.allow(c, a, r)
}

func testServer(t *testing.T, edit func(*Options)) *Server {
	t.Helper()
	o := Options{Config: Defaults(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test", Guard: &fakeGuard{
		callers: map[string]access.Caller{
			"oslo":   {Organisation: "958935420", Client: "fagsystem", Scopes: []string{"datafordeler:receive"}},
			"bergen": {Organisation: "964338531", Client: "fagsystem"},
			"ended":  {Organisation: "958935420", Expires: time.Unix(0, 0)},
		},
		allow: func(c access.Caller, a access.Action, r access.Resource) error {
			if a == access.Receive && !strings.HasPrefix(string(r.Mailbox), string(c.Organisation)) {
				return &access.Refusal{Action: a, Why: "no mailbox of that name is yours"}
			}
			return nil
		},
	}}
	o.Config.RatePerSecond = 0
	if edit != nil {
		edit(&o)
	}
	return New(o)
}

func ask(s *Server, method, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestGate(t *testing.T) {
	s := testServer(t, nil)
	reached := 0
	s.Handle(huma.Operation{OperationID: "read", Method: "GET", Path: "/feeds/{mailbox}"}, Rule{Action: access.Receive},
		func(w http.ResponseWriter, r *http.Request) error {
			reached++
			if err := r.Context().Err(); err != nil {
				return context.Cause(r.Context())
			}
			switch r.URL.Query().Get("do") {
			case "panic":
				panic("a mistake")
			case "fail":
				return errors.New("disk sda1 is full")
			case "bad":
				return NewProblem(http.StatusGone, "older than what is kept")
			}
			_, err := io.WriteString(w, CallerOf(r.Context()).Client)
			return err
		})
	for _, c := range []struct {
		name, path, token string
		status            int
		says, hides       string
	}{
		{"no token", "/feeds/958935420-a", "", 401, "send a token", ""},
		{"a wrong token", "/feeds/958935420-a", "x", 401, "does not count", ""},
		{"a guard that fails lets nobody in", "/feeds/958935420-a", "broken", 503, "could not be checked", "10.0.0.1"},
		{"its own", "/feeds/958935420-a", "oslo", 200, "fagsystem", ""},
		{"another's", "/feeds/958935420-a", "bergen", 403, "no mailbox of that name is yours", ""},
		{"a token that has ended", "/feeds/958935420-a", "ended", 401, "the token has ended", ""},
		{"an operation's own problem", "/feeds/958935420-a?do=bad", "oslo", 410, "older than what is kept", ""},
		{"a failure is not told", "/feeds/958935420-a?do=fail", "oslo", 500, "something failed here", "sda1"},
		{"a panic is not told", "/feeds/958935420-a?do=panic", "oslo", 500, "something failed here", "a mistake"},
		{"no such operation", "/feed", "oslo", 404, "/openapi.json", ""},
		{"who calls", "/whoami", "oslo", 200, `"client":"fagsystem"`, ""},
	} {
		before := reached
		w := ask(s, "GET", c.path, c.token)
		body := w.Body.String()
		if w.Code != c.status || !strings.Contains(body, c.says) || c.hides != "" && strings.Contains(body, c.hides) {
			t.Errorf("%s: %d %s", c.name, w.Code, body)
		}
		if w.Code == 401 && w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate (RFC 9110, 11.6.1)", c.name)
		}
		if w.Code >= 400 {
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: not a problem: %v %s", c.name, err, body)
			}
		}
		if (w.Code == 401 || w.Code == 403) && c.token != "ended" && reached != before {
			t.Errorf("%s: it came in", c.name)
		}
	}
}

func TestNoRuleNoEndpoint(t *testing.T) {
	s := testServer(t, nil)
	defer func() {
		if recover() == nil {
			t.Error("an endpoint without a rule was registered")
		}
	}()
	huma.Get(s.API(), "/open", func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
}

func TestRateIsByClient(t *testing.T) {
	s := testServer(t, func(o *Options) { o.Config.RatePerSecond, o.Config.Burst = 0.001, 2 })
	for i, want := range []int{200, 200, 429} {
		w := ask(s, "GET", "/whoami", "oslo")
		if w.Code != want {
			t.Fatalf("request %d: %d", i, w.Code)
		}
		if want == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if w := ask(s, "GET", "/whoami", "bergen"); w.Code != 200 {
		t.Errorf("another client was refused: %d", w.Code)
	}
}

// What a caller sent never comes back in a problem: it may be a person's number.
func TestProblemsRepeatNothing(t *testing.T) {
	s := testServer(t, nil)
	type in struct {
		Limit int `query:"limit" maximum:"10"`
	}
	Register(s, huma.Operation{OperationID: "list", Method: "GET", Path: "/list"}, Rule{Action: access.ReadSelf},
		func(context.Context, *in) (*struct{}, error) { return nil, nil })
	w := ask(s, "GET", "/list?limit=15810412345", "oslo")
	if w.Code != 422 || strings.Contains(w.Body.String(), "15810412345") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestDocument(t *testing.T) {
	s := testServer(t, nil)
	w := ask(s, "GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Action string `json:"x-datafordeler-action"`
			Public string `json:"x-datafordeler-public"`
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("%v %s", err, w.Body)
	}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			if (op.Action == "") == (op.Public == "") {
				t.Errorf("%s %s: the document does not say who may use it", method, path)
			}
		}
	}
	if len(doc.Paths) < 2 {
		t.Error("operations are missing")
	}
}

// What is told of the caller's doors is what the guard answers there.
func TestSelfNamesDoors(t *testing.T) {
	docs, err := registry.Load("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	st := registry.New()
	plan, err := registry.NewPlan(st, docs, "test", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range plan.Events {
		if _, err := st.Fold(e); err != nil {
			t.Fatal(err)
		}
	}
	mailbox := st.Mailbox("oslo-sosialhjelp")
	s := testServer(t, func(o *Options) {
		o.View = func(see func(*registry.State)) { see(st) }
		g := o.Guard.(*fakeGuard)
		g.callers["oslo"] = access.Caller{Organisation: mailbox.Organisation, Client: "c"}
		g.allow = func(_ access.Caller, a access.Action, _ access.Resource) error {
			if a == access.LookUp {
				return &access.Refusal{Why: "the token lacks a scope"}
			}
			return nil
		}
	})
	var self Self
	if err := json.Unmarshal(ask(s, "GET", "/whoami", "oslo").Body.Bytes(), &self); err != nil {
		t.Fatal(err)
	}
	open, shut := 0, 0
	for _, d := range self.Doors {
		switch {
		case d.Mailbox == mailbox.ID && d.Action == access.Receive && d.Open && d.Why == "":
			open++
		case d.Action == access.LookUp && st.Agreement(d.Agreement).Consumer == mailbox.Organisation && !d.Open && d.Why == "the token lacks a scope":
			shut++
		case d.Mailbox != "" && st.Mailbox(d.Mailbox).Organisation != mailbox.Organisation:
			t.Errorf("another's mailbox is named: %+v", d)
		}
	}
	if open != 1 || shut == 0 {
		t.Errorf("doors: %+v", self.Doors)
	}
}
