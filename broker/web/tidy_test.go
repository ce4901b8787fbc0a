package web

import (
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/danielgtaylor/huma/v2/negotiation"
	"github.com/danielgtaylor/huma/v2/queryparam"
)

func TestPlainQuery(t *testing.T) {
	for q, want := range map[string]bool{
		"": true, "a=1": true, "a=": true, "a=1&b=%3D%26": true, "a=1+2": true, "%61=1": true,
		"a": false, "a&a=1": false, "agreement&agreement=theirs": false, "a=1&a=2": false, "a=1&%61=2": false, "a=1;b=2": false,
		"a=b=c": false, "a=%zz": false, "%zz=a": false, "&": false, "a=1&": false, "=1": false,
	} {
		if plainQuery(q) != want {
			t.Errorf("%q: %t", q, !want)
		}
	}
}

func TestPlainAccept(t *testing.T) {
	for accept, want := range map[string]string{
		"text/csv": "text/csv", "text/csv;q=0.3, */*": "text/csv;q=0.3,*/*", "": "*/*", ";0 ": "*/*", "json": "*/*", "text/csv;q=2": "*/*",
		"application/json; charset=utf-8": "application/json", "a/b;q=x,text/event-stream": "text/event-stream",
	} {
		if got := plainAccept(accept); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
}

// What the gate reads in a query, an operation reads too; and an Accept header that
// makes the framework's own parser fall over does not reach it.
func FuzzTidy(f *testing.F) {
	f.Add("agreement&agreement=theirs", ";0 ")
	f.Add("a=1&b=2;c=3&d=%zz", "text/csv;q=0.3,*/*")
	f.Add("limit=5&order=oler=o", ";")
	f.Fuzz(func(t *testing.T, query, accept string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		r.Header.Set("Accept", accept)
		err := tidy(r)
		negotiation.SelectQValueFast(plainAccept(accept), []string{"application/json"})
		if err != nil {
			return
		}
		all, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q: %v", query, err)
		}
		names := []string{"agreement", "dataset", "subscription"}
		for name := range all {
			names = append(names, name)
		}
		for _, name := range names {
			if a, b := all.Get(name), queryparam.Get(query, name); a != b || len(all[name]) > 1 {
				t.Fatalf("%q: %s is %q to the gate and %q to an operation", query, name, a, b)
			}
		}
	})
}
