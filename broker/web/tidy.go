package web

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Two readers see a request: the gate, by net/http, and operations, by the framework,
// whose own parsers of query and Accept are quick and loose. What one reads and the
// other does not is a way past the gate, and what neither expects makes it fall over.
// So both only ever see what all readers read alike.

// tidy makes a request such, or says what is wrong with it.
func tidy(r *http.Request) error {
	if !plainQuery(r.URL.RawQuery) {
		return NewProblem(http.StatusBadRequest, "the query: write name=value with & between, each name once; write = & ; and % within a value as %3D %26 %3B and %25")
	}
	if accept := r.Header.Values("Accept"); len(accept) > 0 {
		r.Header.Set("Accept", plainAccept(strings.Join(accept, ",")))
	}
	return nil
}

// plainQuery reports whether a query is a list of name=value, each name once, in
// escapes that are well formed.
func plainQuery(q string) bool {
	if q == "" {
		return true
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(q, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || strings.ContainsAny(pair, ";") || strings.Contains(value, "=") {
			return false
		}
		name, err := url.QueryUnescape(name)
		if err != nil || name == "" || seen[name] {
			return false
		}
		if _, err := url.QueryUnescape(value); err != nil {
			return false
		}
		seen[name] = true
	}
	return true
}

// plainAccept writes an Accept header anew (RFC 9110 section 12.5.1): types and their
// weights. What is none of that is passed over; where nothing is left, anything will do.
func plainAccept(accept string) string {
	var out []string
	for part := range strings.SplitSeq(accept, ",") {
		t, params, err := mime.ParseMediaType(part)
		if err != nil || !strings.Contains(t, "/") {
			continue
		}
		if q, ok := params["q"]; ok {
			weight, err := strconv.ParseFloat(q, 64)
			if err != nil || !(weight >= 0 && weight <= 1) {
				continue
			}
			t += ";q=" + strconv.FormatFloat(weight, 'f', -1, 64)
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return "*/*"
	}
	return strings.Join(out, ",")
}
