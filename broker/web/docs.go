package web

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
)

//go:embed pages
var pages embed.FS

var docsPage = template.Must(template.ParseFS(pages, "pages/docs.html"))

// docsPolicy lets the page use what this server has, and nothing else (CSP).
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// who says in words who may take an action.
var who = map[access.Action]string{
	access.ReadSelf:        "whoever has a valid token",
	access.ReadCatalogue:   "any organisation",
	access.PublishRecords:  "a provider, on a dataset of its own",
	access.ReadRejections:  "a provider, on a dataset of its own",
	access.Receive:         "a consumer or its supplier, on a mailbox of its own",
	access.LookUp:          "a consumer or its supplier, under an agreement of its own",
	access.Audit:           "an auditor",
	access.AuditOwn:        "a provider, a consumer or its supplier, on what it is party to",
	access.AuditSubject:    "an auditor",
	access.ManageCases:     "a consumer or its supplier, under a subscription of its own",
	access.OwnConsents:     "a citizen, on their own consents",
	access.OwnDisclosures:  "a citizen, on what was decided on them",
	access.Suspend:         "a provider or a consumer, on what it is party to",
	access.StopMailbox:     "a consumer or its supplier, on a mailbox of its own",
	access.FreezeDataset:   "a provider, on a dataset of its own",
	access.EndDelegation:   "whoever gave the delegation",
	access.GiveReceipt:     "a consumer or its supplier, under an agreement of its own",
	access.ReportDeviation: "a consumer or its supplier, under a subscription of its own",
	access.AnswerDeviation: "a provider, on a dataset of its own",
	access.Agree:           "a provider or a consumer, on an agreement that it is party to or that is offered to it",
	access.Offer:           "any organisation, for itself",
	access.Operate:         "an operator",
}

// docsOperation is an operation, as the page shows it.
type docsOperation struct {
	ID, Method, Path, Summary, Description, Who, Answers, Curl string
	Parameters                                                 []docsParameter
}

type docsParameter struct {
	Name, In, Text string
	Required       bool
}

type docsGroup struct {
	Name       string
	Operations []docsOperation
}

// registerDocs adds a page on which to read what there is, and to try it.
func (s *Server) registerDocs() {
	open := Rule{Public: true, Why: "it says what there is, not what is in it"}
	asset := func(id, path, summary, contentType string, content func() ([]byte, error)) {
		s.Handle(huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"caller"}, Summary: summary,
			Responses: map[string]*huma.Response{"200": {Description: "the page or a part of it", Content: map[string]*huma.MediaType{contentType: {}}}}},
			open, func(w http.ResponseWriter, r *http.Request) error {
				b, err := content()
				if err != nil {
					return err
				}
				w.Header().Set("Content-Security-Policy", docsPolicy)
				w.Header().Set("Referrer-Policy", "no-referrer")
				return writeTagged(w, r, contentType+"; charset=utf-8", b)
			})
	}
	file := func(name string) func() ([]byte, error) {
		return func() ([]byte, error) { return pages.ReadFile("pages/" + name) }
	}
	asset("docs", "/docs", "This API, to read and to try", "text/html", s.docs)
	asset("docsStyle", "/docs/style.css", "How that page looks", "text/css", file("style.css"))
	asset("docsScript", "/docs/try.js", "How that page tries an operation", "text/javascript", file("try.js"))
}

func (s *Server) docs() ([]byte, error) {
	doc := s.api.OpenAPI()
	groups := map[string][]docsOperation{}
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op == nil || strings.HasPrefix(path, "/docs") {
				continue
			}
			group := "other"
			if len(op.Tags) > 0 {
				group = op.Tags[0]
			}
			groups[group] = append(groups[group], describe(method, path, op))
		}
	}
	page := struct {
		Title, Version, Description string
		Groups                      []docsGroup
	}{doc.Info.Title, doc.Info.Version, doc.Info.Description, nil}
	for name, all := range groups {
		slices.SortFunc(all, func(a, b docsOperation) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
		})
		page.Groups = append(page.Groups, docsGroup{name, all})
	}
	slices.SortFunc(page.Groups, func(a, b docsGroup) int { return cmp.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	err := docsPage.Execute(&b, page)
	return b.Bytes(), err
}

func describe(method, path string, op *huma.Operation) docsOperation {
	d := docsOperation{ID: op.OperationID, Method: method, Path: path, Summary: op.Summary, Description: op.Description}
	action, _ := op.Extensions["x-datafordeler-action"].(string)
	if d.Who = cmp.Or(who[access.Action(action)], action); action == "" {
		why, _ := op.Extensions["x-datafordeler-public"].(string)
		d.Who = "everybody, without a token: " + why
	}
	for _, name := range []string{"x-datafordeler-or", "x-datafordeler-or-else"} {
		if or, ok := op.Extensions[name].(string); ok {
			d.Who += "; or " + cmp.Or(who[access.Action(or)], or)
		}
	}
	query := false
	for _, p := range op.Parameters {
		if p.In == "header" {
			continue
		}
		query = query || p.In == "query" && p.Required
		d.Parameters = append(d.Parameters, docsParameter{p.Name, p.In, p.Description + allowed(p.Schema), p.Required})
	}
	var codes []string
	for code := range op.Responses {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	d.Answers = strings.Join(codes, ", ")
	d.Curl = "curl"
	if action != "" {
		d.Curl += ` -H "Authorization: Bearer $TOKEN"`
	}
	if op.RequestBody != nil {
		d.Curl += ` -H "Content-Type: application/json" --data @body.json`
	}
	d.Curl += ` "$BROKER` + path
	if query {
		for i, p := range op.Parameters {
			if p.In == "query" && p.Required {
				d.Curl += map[bool]string{true: "?", false: "&"}[i == 0] + p.Name + "=…"
			}
		}
	}
	d.Curl += `"`
	return d
}

// allowed says in words what a schema allows.
func allowed(s *huma.Schema) (text string) {
	if s == nil {
		return ""
	}
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			words[i] = fmt.Sprint(v)
		}
		text += ": " + strings.Join(words, ", ")
	}
	if s.Minimum != nil && s.Maximum != nil {
		text += fmt.Sprintf("; %.0f to %.0f", *s.Minimum, *s.Maximum)
	}
	if s.Default != nil {
		text += fmt.Sprintf("; otherwise %v", s.Default)
	}
	return text
}
