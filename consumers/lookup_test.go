package consumers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

const (
	answered = `{"answers":[{"subscription":"s","agreement":"a","dataset":"d","outcome":"found","decision":"000102030405060708090a0b0c0d0e0f","records":[
		{"specversion":"1.0","id":"100102030405060708090a0b0c0d0e0f","source":"urn:datafordeler:dataset:d","type":"t","time":"2026-01-02T03:04:05Z","datacontenttype":"application/json",
		"subscription":"s","agreement":"a","dataset":"d","provider":"974761076","decision":"000102030405060708090a0b0c0d0e0f","recordkind":"original","data":{"x":1}}]},
		{"subscription":"s2","outcome":"refused","decision":"000102030405060708090a0b0c0d0e0e","reasons":[{"code":"no_open_case","message":{"en":"No."},"remedy":{"en":"Open one."}}]}]}`
)

func TestLookup(t *testing.T) {
	tokens, calls := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		var in struct {
			Subject string
			Bundle  []LookupQuestion
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Subject != "x" || len(in.Bundle) != 2 || r.URL.Path != "/lookups" || r.URL.RawQuery != "" {
			t.Error(in, err, r.URL)
		}
		switch {
		case r.Header.Get("Authorization") != "Bearer 2":
			w.WriteHeader(http.StatusUnauthorized)
		case calls == 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			_, _ = w.Write([]byte(answered))
		}
	}))
	defer server.Close()
	l, err := NewLookups(LookupConfig{URL: server.URL, Token: func(context.Context) (string, error) { tokens++; return []string{"1", "2"}[tokens-1], nil }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Lookup(t.Context(), "x", LookupQuestion{Subscription: "s"}, LookupQuestion{Subscription: "s2"})
	if err != nil || calls != 3 {
		t.Fatal(calls, err)
	}
	if a[0].Outcome != LookupFound || a[0].Decision.IsZero() || string(a[0].Records[0].Data) != `{"x":1}` || a[0].Records[0].ID.IsZero() || a[0].Records[0].Mailbox != "" ||
		a[1].Outcome != LookupRefused || a[1].Reasons[0].Code != "no_open_case" || a[1].Reasons[0].Remedy["en"] == "" {
		t.Errorf("%+v", a)
	}
	if _, err := l.Lookup(t.Context(), "x", LookupQuestion{Subscription: "s"}, LookupQuestion{}); err != nil {
		t.Error(err)
	}
}

// What may have been decided is not asked again by itself; and what was asked stands in
// no error.
func TestLookupIsNotRepeated(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"503": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"cut": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"half": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		},
		"another address":    func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(307) },
		"too few":            func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"answers":[]}`)) },
		"an unknown outcome": func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"answers":[{"outcome":"perhaps"}]}`)) },
		"another's record": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(strings.Replace(answered[:strings.Index(answered, ",\n\t\t{\"subscription\":\"s2\"")]+"]}", `"answers":[{"subscription":"s"`, `"answers":[{"subscription":"q"`, 1)))
		},
	} {
		var calls atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); answer(w) }))
		l, err := NewLookups(LookupConfig{URL: server.URL, Token: func(context.Context) (string, error) { return "t", nil }})
		if err != nil {
			t.Fatal(err)
		}
		a, err := l.Lookup(t.Context(), "01815012345", LookupQuestion{Subscription: "s"})
		if err == nil || calls.Load() != 1 || strings.Contains(err.Error(), "01815012345") {
			t.Errorf("%s: asked %d times, %v, %v", name, calls.Load(), a, err)
		}
		server.Close()
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	l, _ := NewLookups(LookupConfig{URL: closed.URL, Token: func(context.Context) (string, error) { return "t", nil }})
	if _, err := l.Lookup(t.Context(), "x", LookupQuestion{Subscription: "s"}); err == nil {
		t.Error("nobody answered")
	}
	if _, err := NewLookups(LookupConfig{URL: "https://u:p@x"}); err == nil {
		t.Error("an address with a password")
	}
}

func FuzzReadAnswers(f *testing.F) {
	f.Add([]byte(answered))
	f.Add([]byte(`{"answers":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		as, err := readAnswers(b)
		for i := range as {
			if err == nil && as[i].Outcome == "" {
				t.Fatal("an answer without an outcome")
			}
		}
	})
}
