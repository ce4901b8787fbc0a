package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/inwords"
)

type fakeDescriber struct{ err error }

func (f fakeDescriber) Describe(_ context.Context, id broker.AgreementID, language string, _ time.Time) (*inwords.Description, error) {
	if f.err != nil || id != "a" {
		return nil, f.err
	}
	return &inwords.Description{Agreement: id, Language: language, Title: "Title in " + language,
		Sections: []inwords.Section{{ID: "who", Title: "Who", Lines: []inwords.Line{{Text: "Givers & takers", About: "/x"}}}}}, nil
}

func TestDescriptions(t *testing.T) {
	s := testServer(t, func(o *Options) {
		g := o.Guard.(*fakeGuard)
		for _, who := range []string{"party", "auditor", "operator", "stranger"} {
			g.callers[who] = access.Caller{Organisation: broker.OrgNumber(who), Client: "c"}
		}
		g.allow = func(c access.Caller, a access.Action, r access.Resource) error {
			switch {
			case c.Organisation == "party" && a == access.AuditOwn && r == access.Resource{Agreement: "a"},
				c.Organisation == "auditor" && a == access.Audit, c.Organisation == "operator" && a == access.Operate:
				return nil
			}
			return &access.Refusal{Why: "no"}
		}
	})
	s.RegisterDescriptions(fakeDescriber{})
	get := func(path, who string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
		r.Header.Set("Authorization", "Bearer "+who)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for who, want := range map[string]int{"party": 200, "auditor": 200, "operator": 200, "stranger": 403} {
		if w := get("/agreements/a/description", who); w.Code != want {
			t.Errorf("%s: %d %s", who, w.Code, w.Body)
		}
	}
	for _, x := range []struct {
		path     string
		headers  []string
		language string
		text     bool
	}{
		{"", nil, "nb", false},
		{"", []string{"Accept-Language", "en-GB, nn;q=0.5"}, "en", false},
		{"?lang=nn", []string{"Accept-Language", "en"}, "nn", false},
		{"?format=text", nil, "nb", true},
		{"?lang=en", []string{"Accept", "text/plain"}, "en", true},
		{"?format=json", []string{"Accept", "text/plain"}, "nb", false},
	} {
		w := get("/agreements/a/description"+x.path, "party", x.headers...)
		body, kind := `"title":"Title in `+x.language+`"`, "application/json"
		if x.text {
			body, kind = "Title in "+x.language+"\n===", "text/plain; charset=utf-8"
		}
		if h := w.Header(); w.Code != 200 || h.Get("Content-Language") != x.language || h.Get("Content-Type") != kind || !strings.Contains(w.Body.String(), body) || !strings.Contains(w.Body.String(), "Givers & takers") {
			t.Errorf("%s %v: %d %v\n%s", x.path, x.headers, w.Code, h, w.Body)
		}
	}
	for path, want := range map[string]int{"/agreements/b/description": 404, "/agreements/a/description?lang=fr": 422, "/agreements/a/description?x=1": 422} {
		if w := get(path, "auditor"); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	broken := testServer(t, func(o *Options) {
		o.Guard.(*fakeGuard).callers["x"] = access.Caller{Organisation: "x", Client: "c"}
		o.Guard.(*fakeGuard).allow = func(access.Caller, access.Action, access.Resource) error { return nil }
	})
	broken.RegisterDescriptions(fakeDescriber{err: errors.New("the policy cannot be compiled: secret")})
	if w := ask(broken, "GET", "/agreements/a/description", "x"); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
