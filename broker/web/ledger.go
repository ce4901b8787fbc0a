package web

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
	"datafordeler/broker/ledger"
)

// LedgerReader reads the ledger, for those who verify it.
type LedgerReader interface {
	// Head is the newest signed head that counts, with its signatures; nil where
	// there is none yet.
	Head() []byte
	// Entries hands on the entries from, and before to, each followed by its lines.
	// The bytes are valid during the call.
	Entries(ctx context.Context, from, to int64, entry, line func([]byte) error) error
	// Heads hands on the signed heads of sizes from to to, both included.
	Heads(ctx context.Context, from, to int64, each func(note []byte) error) error
}

// ndjson is the content type of lines of JSON.
const ndjson = "application/x-ndjson"

// RegisterLedger adds the ledger, for `datafordeler audit verify URL`. Heads hold no
// personal data and are for everybody; entries name decisions with pseudonyms, which
// are personal data still, and are an auditor's.
func (s *Server) RegisterLedger(book LedgerReader) {
	s.Handle(huma.Operation{OperationID: "ledgerCheckpoint", Method: http.MethodGet, Path: "/ledger/checkpoint", Tags: []string{"ledger"},
		Summary: "The newest signed head of the ledger, with its cosignatures", Description: "A signed note with a checkpoint (C2SP tlog-checkpoint). Keep it: a later ledger must be consistent with it.",
		Responses: map[string]*huma.Response{"200": {Description: "the signed note", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: "string"}}}},
			"404": {Description: "nothing is signed yet"}}},
		Rule{Public: true, Why: "it says how large the ledger is and what its root is, not what is in it; whoever holds it can hold the operator to it"},
		func(w http.ResponseWriter, _ *http.Request) error {
			head := book.Head()
			if head == nil {
				return NewProblem(http.StatusNotFound, "nothing is signed yet; ask again after some seconds")
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, err := w.Write(head)
			return err
		})
	streams := make(chan struct{}, 4)
	stream := func(id, path, summary, description string, from, to string, send func(context.Context, int64, int64, func([]byte) error) error) {
		s.Handle(huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"ledger"}, Summary: summary, Description: description,
			Parameters: []*huma.Param{{Name: "from", In: "query", Description: from, Schema: integer()}, {Name: "to", In: "query", Description: to, Schema: integer()}},
			Responses: map[string]*huma.Response{"200": {Description: "lines of JSON, gzipped for those who accept that; a connection that is cut is not the end",
				Content: map[string]*huma.MediaType{ndjson: {Schema: &huma.Schema{Type: "string"}}}}}},
			Rule{Action: access.Audit}, func(w http.ResponseWriter, r *http.Request) error {
				begin, end, err := bounds(r)
				if err != nil {
					return err
				}
				select {
				case streams <- struct{}{}:
					defer func() { <-streams }()
				default:
					w.Header().Set("Retry-After", "10")
					return NewProblem(http.StatusServiceUnavailable, "the ledger is being read by as many as may at once; ask again in a while")
				}
				out := newLines(w, r)
				if err := send(r.Context(), begin, end, out.line); err != nil {
					if r.Context().Err() != nil {
						return context.Cause(r.Context())
					}
					return err
				}
				return out.close()
			})
	}
	stream("ledgerEntries", "/ledger/entries", "The ledger's entries, each followed by its lines", "What `datafordeler audit export` writes: see docs/formats.md. Lines hold pseudonyms, so this is an auditor's.",
		"the first entry, from 0", "the entry after the last one; without it all that there are", func(ctx context.Context, from, to int64, line func([]byte) error) error {
			return book.Entries(ctx, from, to, line, line)
		})
	stream("ledgerCheckpoints", "/ledger/checkpoints", "The ledger's signed heads, in order", "Each a signed note, as a JSON string on a line.",
		"the smallest size", "the largest size; without it all that there are", func(ctx context.Context, from, to int64, line func([]byte) error) error {
			var text []byte
			return book.Heads(ctx, from, to, func(note []byte) error {
				text = ledger.AppendNoteLine(text[:0], note)
				return line(text)
			})
		})
}

func integer() *huma.Schema {
	zero := 0.0
	return &huma.Schema{Type: "integer", Format: "int64", Minimum: &zero}
}

// bounds reads from and to. What is wrong is not repeated.
func bounds(r *http.Request) (from, to int64, err error) {
	to = math.MaxInt64
	for name, values := range r.URL.Query() {
		n := int64(-1)
		if len(values) == 1 && len(values[0]) <= 10 { // eleven digits are a person's
			if n, err = strconv.ParseInt(values[0], 10, 64); err != nil {
				n = -1
			}
		}
		switch {
		case name != "from" && name != "to":
			return 0, 0, NewProblem(http.StatusUnprocessableEntity, "there is no such parameter: want from and to")
		case n < 0:
			return 0, 0, NewProblem(http.StatusUnprocessableEntity, "from and to: want a number from 0 on, once")
		case name == "from":
			from = n
		default:
			to = n
		}
	}
	if to < from {
		return 0, 0, NewProblem(http.StatusUnprocessableEntity, "from and to: it ends before it begins")
	}
	return from, to, nil
}

// lines writes lines, packed for those who accept that. Whoever reads none of it for
// a minute is cut off.
type lines struct {
	out  http.ResponseWriter
	ctrl *http.ResponseController
	w    *bufio.Writer
	zip  *gzip.Writer
	zips bool
	n    int
}

func newLines(w http.ResponseWriter, r *http.Request) *lines {
	return &lines{out: w, ctrl: http.NewResponseController(w), zips: accepts(r.Header.Get("Accept-Encoding"), "gzip")}
}

// begin writes the header, once there is something to write: what fails before is
// answered as a problem.
func (l *lines) begin() {
	l.out.Header().Set("Content-Type", ndjson)
	l.out.Header().Set("Vary", "Accept-Encoding")
	if l.w = bufio.NewWriterSize(l.out, 64<<10); l.zips {
		l.out.Header().Set("Content-Encoding", "gzip")
		l.zip, _ = gzip.NewWriterLevel(l.out, gzip.BestSpeed) // it is a level
		l.w.Reset(l.zip)
	}
	l.extend()
}

func (l *lines) extend() { _ = l.ctrl.SetWriteDeadline(time.Now().Add(time.Minute)) }

func (l *lines) line(b []byte) error {
	if l.w == nil {
		l.begin()
	}
	if l.n += len(b); l.n > 1<<20 {
		l.n = 0
		l.extend()
	}
	_, err := l.w.Write(b)
	if err == nil {
		err = l.w.WriteByte('\n')
	}
	if err != nil {
		return fmt.Errorf("the reader is gone: %w", err)
	}
	return nil
}

func (l *lines) close() error {
	if l.w == nil {
		l.begin()
	}
	err := l.w.Flush()
	if l.zip != nil && err == nil {
		err = l.zip.Close()
	}
	_ = l.ctrl.SetWriteDeadline(time.Time{})
	return err
}

// accepts reports whether a header allows a coding.
func accepts(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := strings.ReplaceAll(params, " ", "")
		if strings.EqualFold(strings.TrimSpace(name), coding) {
			return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
		}
	}
	return false
}
