package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
)

func TestParseTags(t *testing.T) {
	for text, want := range map[string]string{
		`*`:                                      "*",
		"\t* ":                                   "*",
		`"a"`:                                    `"a"`,
		`W/"a"`:                                  `W"a"`,
		`"a", W/"b" ,"c"`:                        `"a"W"b""c"`,
		`, ,"a",,`:                               `"a"`,
		`""`:                                     `""`,
		`"a,b"`:                                  `"a,b"`,
		`"blå"`:                                  `"blå"`, // obs-text
		``:                                       "bad",
		`a`:                                      "bad",
		`"a`:                                     "bad",
		`"a" "b"`:                                "bad",
		`"a"b`:                                   "bad",
		`w/"a"`:                                  "bad",
		`W/ "a"`:                                 "bad",
		`"a b"`:                                  "bad",
		"\"a\x00\"":                              "bad",
		`*, "a"`:                                 "bad",
		`"a", *`:                                 "bad",
		`,`:                                      "bad",
		`W/`:                                     "bad",
		strings.Repeat(`"a",`, mostTags) + `"b"`: "bad",
	} {
		l, err := parseTags(text)
		got := ""
		for _, x := range l.tags {
			if x.weak {
				got += "W"
			}
			got += string(x.tag)
		}
		if l.any {
			got += "*"
		}
		if err != nil {
			got = "bad"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Conditions, as RFC 9110 section 13 and RFC 6585 have them.
func TestConditions(t *testing.T) {
	s := testServer(t, nil)
	var now ETag // of the one thing
	changes := 0
	Register(s, huma.Operation{OperationID: "read", Method: "GET", Path: "/thing"}, Rule{Action: access.ReadSelf},
		func(ctx context.Context, _ *struct{}) (*struct{ Body string }, error) {
			if now == "" {
				return nil, NewProblem(404, "none")
			}
			return &struct{ Body string }{"it"}, Tagged(ctx, now)
		})
	s.Handle(huma.Operation{OperationID: "read-raw", Method: "GET", Path: "/document"}, Rule{Action: access.ReadSelf},
		func(w http.ResponseWriter, r *http.Request) error {
			return writeTagged(w, r, "text/plain", []byte(now))
		})
	Register(s, huma.Operation{OperationID: "put", Method: "PUT", Path: "/thing"}, Rule{Action: access.ReadSelf},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			if err := MayChange(ctx, now, true); err != nil {
				return nil, err
			}
			changes++
			Changed(ctx, `"after"`)
			return nil, nil
		})
	send := func(method, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("Authorization", "Bearer oslo")
		for i := 0; i < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	const im, inm = "If-Match", "If-None-Match"
	for _, c := range []struct {
		method string
		now    ETag
		header []string
		want   int
	}{
		{"GET", `"a"`, nil, 200},
		{"GET", `"a"`, []string{inm, `"a"`}, 304},
		{"GET", `"a"`, []string{inm, `W/"a"`}, 304}, // weakly compared
		{"GET", `"a"`, []string{inm, `"b"`, inm, `"a"`}, 304},
		{"GET", `"a"`, []string{inm, `*`}, 304},
		{"GET", `"a"`, []string{inm, `"b"`}, 200},
		{"GET", `"a"`, []string{inm, `a`}, 400},
		{"GET", `"a"`, []string{im, `"a"`}, 200},
		{"GET", `"a"`, []string{im, `"b"`}, 412},
		{"GET", "", []string{inm, `*`}, 404}, // conditions count only where it would be 200
		{"PUT", `"a"`, nil, 428},
		{"PUT", `"a"`, []string{im, `"a"`}, 204},
		{"PUT", `"a"`, []string{im, `W/"a"`}, 412}, // strongly compared
		{"PUT", `"a"`, []string{im, `"b"`}, 412},
		{"PUT", `"a"`, []string{im, `"b"`, im, `"a"`}, 204},
		{"PUT", `"a"`, []string{im, `*`}, 204},
		{"PUT", `"a"`, []string{im, `x`}, 400},
		{"PUT", `"a"`, []string{inm, `*`}, 412},
		{"PUT", `"a"`, []string{inm, `"a"`}, 412},
		{"PUT", `"a"`, []string{inm, `"b"`}, 204},
		{"PUT", `"a"`, []string{im, `"a"`, inm, `*`}, 412},
		{"PUT", "", nil, 204},
		{"PUT", "", []string{im, `*`}, 412},
		{"PUT", "", []string{im, `"a"`}, 412},
		{"PUT", "", []string{inm, `*`}, 204},
	} {
		now = c.now
		before := changes
		w := send(c.method, "/thing", c.header...)
		if w.Code != c.want {
			t.Errorf("%s of %q, %q: %d %s, want %d", c.method, c.now, c.header, w.Code, w.Body, c.want)
		}
		if changed := changes != before; changed != (w.Code == 204) {
			t.Errorf("%s %q: changed: %t", c.method, c.header, changed)
		}
		tag := w.Header().Get("ETag")
		switch {
		case w.Code == 304 && (w.Body.Len() > 0 || tag != `"a"`), w.Code == 200 && tag != `"a"`, w.Code == 204 && tag != `"after"`, w.Code >= 400 && tag != "":
			t.Errorf("%s %q: %d, ETag %s, body %q", c.method, c.header, w.Code, tag, w.Body)
		}
		if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %q: not a problem: %s", c.method, c.header, w.Header())
		}
	}
	now = `"x"`
	first := send("GET", "/document")
	tag := first.Header().Get("ETag")
	if first.Code != 200 || tag != string(TagOf([]byte(now))) {
		t.Errorf("%d %s", first.Code, tag)
	}
	if w := send("GET", "/document", inm, tag); w.Code != 304 || w.Body.Len() > 0 || w.Header().Get("Content-Type") != "" {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	for _, path := range []string{"/whoami", "/openapi.json", "/docs"} {
		tag := send("GET", path).Header().Get("ETag")
		if w := send("GET", path, inm, tag); tag == "" || w.Code != 304 || w.Body.Len() > 0 {
			t.Errorf("%s, asked again with %s: %d", path, tag, w.Code)
		}
	}
}

func FuzzTags(f *testing.F) {
	for _, s := range []string{`*`, `"a"`, `W/"a", "b"`, `,,"",`, `"a" "b"`, `W/`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseTags(s)
		if err != nil {
			return
		}
		if l.any && len(l.tags) > 0 || !l.any && len(l.tags) == 0 || len(l.tags) > mostTags {
			t.Fatalf("%q: %+v", s, l)
		}
		// What was read, written again, reads the same.
		var out []string
		for _, x := range l.tags {
			if x.weak {
				out = append(out, "W/"+string(x.tag))
			} else {
				out = append(out, string(x.tag))
			}
		}
		if l.any {
			return
		}
		again, err := parseTags(strings.Join(out, ", "))
		if err != nil || len(again.tags) != len(l.tags) {
			t.Fatalf("%q: %q: %v", s, out, err)
		}
		for i := range again.tags {
			if again.tags[i] != l.tags[i] {
				t.Fatalf("%q: %q", s, out)
			}
		}
	})
}
