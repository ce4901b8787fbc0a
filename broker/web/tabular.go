package web

import (
	"bufio"
	"encoding/json"
	"fmt"
	"mime"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/audit"
)

// Format is how an answer is written.
type Format struct {
	Format string `query:"format" enum:"json,csv" doc:"json unless Accept says text/csv"`
	Accept string `header:"Accept" hidden:"true"`
}

// csv reports whether a table is wanted. The query says it before the header does.
func (f *Format) csv() bool {
	if f.Format != "" {
		return f.Format == "csv"
	}
	return prefers(f.Accept, "text/csv", "application/json")
}

// prefers reports whether an Accept header names one type, and rather than another.
func prefers(accept, one, other string) bool {
	weight := func(of string) float64 {
		best := 0.0
		for part := range strings.SplitSeq(accept, ",") {
			t, params, err := mime.ParseMediaType(part)
			if err != nil || t != of {
				continue
			}
			q := 1.0
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil {
					continue
				}
			}
			best = max(best, q)
		}
		return best
	}
	return weight(one) > weight(other)
}

// tabular documents an answer that comes as JSON or CSV.
func tabular(s *Server, op *huma.Operation, of reflect.Type) {
	schema := s.api.OpenAPI().Components.Schemas.Schema(of, true, "")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "the answer", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}, "text/csv": {Schema: &huma.Schema{Type: "string"}}},
		Headers: map[string]*huma.Param{"Link": {Description: "the next page, rel=\"next\", where there is one", Schema: &huma.Schema{Type: "string"}}},
	}}
}

// table is an answer in rows.
type table struct {
	columns []string
	rows    func(write func([]string))
}

// write answers with the JSON of body, or with the table.
func (f *Format) write(body any, t table, name string) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Vary", "Accept")
		w := bufio.NewWriterSize(ctx.BodyWriter(), 32<<10)
		defer w.Flush()
		if !f.csv() {
			ctx.SetHeader("Content-Type", "application/json")
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(body) // who asked is gone
			return
		}
		ctx.SetHeader("Content-Type", "text/csv; charset=utf-8; header=present")
		ctx.SetHeader("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+".csv"))
		out := audit.NewTable(w, t.columns)
		t.rows(out.Row)
		_ = out.Flush()
	}}
}

// linked names the next page in the header.
func linked(out *huma.StreamResponse, next string) *huma.StreamResponse {
	write := out.Body
	out.Body = func(ctx huma.Context) {
		ctx.SetHeader("Link", "<"+next+`>; rel="next"`)
		write(ctx)
	}
	return out
}
