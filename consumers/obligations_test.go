package consumers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestObligations(t *testing.T) {
	var asked []string
	tokens := 0
	answers := map[string][]string{
		"GET /obligations?after=0&agreement=a+b&wait=60": {`{"obligations":[{"agreement":"a b","consent":"c/1","do":"delete","due":"2026-02-01T00:00:00Z","status":"open","revision":7,"new":1}],"next":7}`},
		"GET /obligations?after=7&agreement=a+b&wait=0":  {"503 0", `{"obligations":[],"next":7}`, `{"obligations":[],"next":6}`},
		"GET /agreements/a%20b/obligations/c%2F1/decisions?limit=1000": {
			`{"decisions":[{"id":"000102030405060708090a0b0c0d0e0f","delivery":"100102030405060708090a0b0c0d0e0f","time":"2026-01-01T00:00:00Z"}],"next":"x=","destroyed":[]}`},
		"GET /agreements/a%20b/obligations/c%2F1/decisions?limit=1000&cursor=x%3D": {
			`{"decisions":[{"id":"000102030405060708090a0b0c0d0e10","time":"2026-01-02T00:00:00Z"}],"destroyed":["2024-01"]}`},
		`POST /agreements/a%20b/obligations/c%2F1/receipt {"did":"deleted","note":"n"}`: {"429 0", "502 0", `{"agreement":"a b","consent":"c/1","status":"receipted"}`, "409 0"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer 2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		key := strings.TrimSpace(r.Method + " " + r.RequestURI + " " + string(body))
		asked = append(asked, key)
		left := answers[key]
		if len(left) == 0 {
			t.Errorf("asked %s", key)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		answers[key] = left[1:]
		switch left[0][:3] {
		case "503", "429", "502", "409":
			w.Header().Set("Retry-After", left[0][4:])
			w.WriteHeader(map[string]int{"503": 503, "429": 429, "502": 502, "409": 409}[left[0][:3]])
		default:
			_, _ = io.WriteString(w, left[0])
		}
	}))
	defer server.Close()
	o, err := NewObligations(LookupConfig{URL: server.URL + "/", Token: func(context.Context) (string, error) { tokens++; return []string{"1", "2", "3"}[tokens-1], nil }})
	if err != nil {
		t.Fatal(err)
	}
	o.Agreement = "a b"
	all, next, err := o.Next(t.Context(), 0, time.Hour)
	if err != nil || next != 7 || len(all) != 1 || all[0].Consent != "c/1" || all[0].Do != "delete" || all[0].Revision != 7 {
		t.Fatal(all, next, err)
	}
	if all, next, err = o.Next(t.Context(), next, 0); err != nil || next != 7 || len(all) != 0 {
		t.Fatal(all, next, err)
	}
	if _, next, err = o.Next(t.Context(), 7, 0); err == nil || next != 7 {
		t.Fatal("it goes backwards", next, err)
	}
	got, gone, err := o.Received(t.Context(), "a b", "c/1")
	if err != nil || len(got) != 2 || got[0].Delivery.IsZero() || !got[1].Delivery.IsZero() || got[1].Decision[15] != 0x10 || len(gone) != 1 {
		t.Fatal(got, gone, err)
	}
	v, err := o.Give(t.Context(), "a b", "c/1", Receipt{Did: "deleted", Note: "n"})
	if err != nil || v.Status != "receipted" {
		t.Fatal(v, err)
	}
	var said *LookupError
	if _, err = o.Give(t.Context(), "a b", "c/1", Receipt{Did: "deleted", Note: "n"}); !errors.As(err, &said) || said.Status != 409 {
		t.Fatal(err)
	}
	for key, left := range answers {
		if len(left) > 0 {
			t.Errorf("%s was not asked as often", key)
		}
	}
}
