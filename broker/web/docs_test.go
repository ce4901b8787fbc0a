package web

import (
	"context"
	"encoding/xml"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
)

// The page has all operations, with who may use them; it loads nothing from
// elsewhere, and every field has its label.
func TestDocsPage(t *testing.T) {
	o := openOffice(t, 1)
	o.RegisterLedger(nil)
	type in struct {
		Name string `query:"name" doc:"<script>alert(1)</script>"`
	}
	Register(o.Server, huma.Operation{OperationID: "odd", Method: "GET", Path: "/odd", Summary: "<b>bold</b>"}, Rule{Action: access.ReadSelf}, func(context.Context, *in) (*struct{}, error) { return nil, nil })
	w := ask(o.Server, "GET", "/docs", "")
	page := w.Body.String()
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	for path := range o.API().OpenAPI().Paths {
		if !strings.HasPrefix(path, "/docs") && !strings.Contains(page, path+"</code>") {
			t.Errorf("%s is not on the page", path)
		}
	}
	for _, has := range []string{"an auditor", "everybody, without a token", "curl -H", "dataset=…", "newest, oldest", "1 to 1000", "&lt;script&gt;", "&lt;b&gt;bold"} {
		if !strings.Contains(page, has) {
			t.Errorf("the page does not have %q", has)
		}
	}
	csp := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	if m := regexp.MustCompile(`(src|href)="(https?:)?//|<style|style=|\son[a-z]+=|<script>`).FindString(page); m != "" {
		t.Errorf("the page has %q", m)
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("id %s stands twice", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`<input id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `<label for="`+m[1]+`"`) {
			t.Errorf("field %s has no label", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?:href="#|aria-labelledby="|aria-describedby=")([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !ids[m[1]] {
			t.Errorf("it refers to %s, which is not there", m[1])
		}
	}
	// Whatever is opened is closed.
	d := xml.NewDecoder(strings.NewReader(strings.Replace(page, "<!doctype html>", "", 1)))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "link", "input"}, xml.HTMLEntity
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/docs/style.css", "/docs/try.js"} {
		if w := ask(o.Server, "GET", path, ""); w.Code != 200 || w.Body.Len() == 0 || strings.Contains(w.Body.String(), "http://") {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
