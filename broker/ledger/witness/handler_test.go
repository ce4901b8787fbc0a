package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"datafordeler/broker/ledger"
)

func TestHandler(t *testing.T) {
	l, tr := newLog("log.example"), grown(9)
	w, m, v := newWitness(t, l)
	h := w.Handler()
	ask := func(method, path string, body []byte) (int, string, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, path, bytes.NewReader(body)))
		b, err := io.ReadAll(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		return rec.Code, rec.Header().Get("Content-Type"), string(b)
	}
	head := fmt.Sprintf("/%x/checkpoint", sha256.Sum256([]byte("log.example")))
	if status, _, _ := ask("GET", head, nil); status != 404 {
		t.Errorf("nothing was cosigned: %d", status)
	}
	if status, _, _ := ask("GET", "/add-checkpoint", nil); status != 405 {
		t.Errorf("GET: %d", status)
	}
	status, _, line := ask("POST", "/add-checkpoint", l.request(tr, 5, 0))
	if status != 200 || !strings.HasPrefix(line, "— witness.example ") || !strings.HasSuffix(line, "\n") {
		t.Errorf("%d %q", status, line)
	}
	// The whole of the protocol's conflict: status, type and body.
	if status, kind, body := ask("POST", "/add-checkpoint", l.request(tr, 9, 4)); status != 409 || kind != "text/x.tlog.size" || body != "5\n" {
		t.Errorf("%d %s %q", status, kind, body)
	}
	if status, kind, body := ask("POST", "/add-checkpoint", l.request(tr.fork(1, "x"), 5, 5)); status != 409 || strings.HasPrefix(kind, "text/x") {
		t.Errorf("%d %s %q", status, kind, body)
	}
	if status, _, _ := ask("POST", "/add-checkpoint", make([]byte, maxRequest+1)); status != 413 {
		t.Errorf("%d bytes: %d", maxRequest+1, status)
	}
	// As many signatures as must be taken, of the longest kind there is.
	checkpoint := l.checkpoint(tr, 6)
	for i := range 15 {
		checkpoint = fmt.Appendf(checkpoint, "— x%d.example %s\n", i, strings.Repeat("AAAA", 5000/3))
	}
	if status, _, body := ask("POST", "/add-checkpoint", appendRequest(nil, request{5, tr.proof(6, 5), checkpoint})); status != 200 {
		t.Errorf("16 signatures: %d %s", status, body)
	}
	status, _, body := ask("GET", head, nil)
	p := &ledger.Policy{Origin: l.origin, Log: l.key, Witnesses: []note.Verifier{v}, Need: 1}
	if c, _, err := p.OpenWitnessed([]byte(body)); status != 200 || err != nil || c.Size != 6 {
		t.Errorf("%d %s %v", status, body, err)
	}
	if status, _, _ := ask("GET", "/00/checkpoint", nil); status != 404 {
		t.Errorf("an unknown log: %d", status)
	}
	var health Health
	status, _, body = ask("GET", "/healthz", nil)
	if err := json.Unmarshal([]byte(body), &health); err != nil || status != 200 || !health.OK || health.Logs[0].Size != 6 || health.Counts.Cosigned != 2 || health.Witness != w.VKey() {
		t.Errorf("%d %s %v", status, body, err)
	}
	m.err = io.ErrShortWrite
	if status, _, body := ask("POST", "/add-checkpoint", l.request(tr, 9, 6)); status != 500 || strings.Contains(body, "short write") {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := ask("GET", "/healthz", nil); status != http.StatusServiceUnavailable || strings.Contains(body, "short write") {
		t.Errorf("%d %s", status, body)
	}
}
