package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/ledger"
	"datafordeler/broker/web"
)

// shelf is a ledger in memory, served by broker/web.
type shelf struct {
	signer  note.Signer
	vkey    string
	entries [][][]byte // each entry's line, then its lines
	heads   [][]byte
	sizes   []int64
	head    func() []byte // nil: the last one
	subs    []broker.SubscriptionID
}

func (s *shelf) Head() []byte {
	if s.head != nil {
		return s.head()
	}
	return s.heads[len(s.heads)-1]
}

func (s *shelf) Entries(_ context.Context, from, to int64, entry, line func([]byte) error) error {
	for _, e := range s.entries[min(from, int64(len(s.entries))):min(to, int64(len(s.entries)))] {
		for _, l := range e {
			if err := line(l); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *shelf) Heads(_ context.Context, from, to int64, each func([]byte) error) error {
	for i, h := range s.heads {
		if s.sizes[i] < from || s.sizes[i] > to {
			continue
		}
		if err := each(h); err != nil {
			return err
		}
	}
	return nil
}

// fill makes a ledger of so many entries, of two decisions each, with a head after
// every fifth and after the last. Another reason makes another history from fork on.
func (s *shelf) fill(t testing.TB, entries, fork int) {
	t.Helper()
	s.entries, s.heads, s.sizes = nil, nil, nil
	tree, err := ledger.NewTree(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	sequence := ledger.NewSequence()
	put := func(e ledger.Entry, lines ...[]byte) {
		if err := sequence.Accept(&e); err != nil {
			t.Fatal(err)
		}
		line := ledger.AppendEntry(nil, &e)
		s.entries = append(s.entries, append([][]byte{line}, lines...))
		if err := tree.Append(tlog.RecordHash(line)); err != nil {
			t.Fatal(err)
		}
	}
	var control ledger.ControlBuilder
	control.Begin(ledger.Chain{})
	event, err := control.Add(0, []byte(`{"v":1,"seq":1,"on":0,"prev":"00000000000000000000000000000000","at":"2026-11-22T09:00:00Z","actor":"test","type":"keystore.registered","data":{"check":"x"}}`), false)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := control.End()
	put(first, event)
	var b ledger.Builder
	next := int64(0)
	for i := range entries - 1 {
		h := ledger.Head{Kind: "stream", Dataset: "inntekt", TopicID: broker.Digest{1}, First: next, Last: next, Records: 1, Policy: "p", Revision: 1, Time: time.Unix(1_800_000_000, 0)}
		var lines [][]byte
		kind := broker.StreamDecision
		if i%10 >= 5 && i%10 <= 7 { // of ten entries one is of each other kind
			kind = broker.BackfillDecision + broker.DecisionKind(i%10-5)
		}
		if kind == broker.StreamDecision {
			lines = append(lines, bytes.Clone(b.Begin(&h, ledger.Place{Offset: int64(i)}, [32]byte{1})))
			next++
		} else {
			one := ledger.SinglesHead{Kind: kind, Decisions: 2, Policy: "p", Revision: 1, Time: h.Time}
			lines = append(lines, bytes.Clone(b.BeginSingles(&one, ledger.Place{Offset: int64(i)}, [32]byte{1})))
		}
		for _, sub := range s.subs {
			d := broker.Decision{Kind: kind, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Offset: h.First}, Subscription: sub,
				PolicyDigest: "p", Revision: 1, Time: h.Time, Event: broker.Digest{byte(i), 1}}
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, 0, d.Position.Offset, sub)
			if kind == broker.LookupDecision {
				d.Request = broker.Digest{byte(i), 2}
				d.ID = broker.NewLookupID(d.Request, d.Event, &d.Position, sub)
			}
			d.Outcome.Reasons = []broker.Reason{"no_open_case"}
			if i+1 >= fork {
				d.Outcome.Reasons = []broker.Reason{"expired"}
			}
			lines = append(lines, bytes.Clone(b.Add(&d)))
		}
		put(b.End(), lines...)
		if i%5 == 4 || i == entries-2 {
			s.sign(t, tree.Size(), tree.Root())
		}
	}
}

func (s *shelf) sign(t testing.TB, size int64, root tlog.Hash) {
	t.Helper()
	n, err := ledger.SignCheckpoint(ledger.Checkpoint{Origin: s.signer.Name(), Size: size, Root: root}, s.signer)
	if err != nil {
		t.Fatal(err)
	}
	s.heads, s.sizes = append(s.heads, n), append(s.sizes, size)
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	skey, vkey, err := ledger.GenerateKey("log.example", ledger.LogKey)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{signer: signer, vkey: vkey, subs: []broker.SubscriptionID{"a", "b"}}
}

type auditorsOnly struct{}

func (auditorsOnly) Identify(_ context.Context, authorization string) (access.Caller, error) {
	if authorization != "Bearer good" {
		return access.Caller{}, &access.TokenError{Why: "the token does not count"}
	}
	return access.Caller{Organisation: "991825827", Client: "c"}, nil
}

func (auditorsOnly) Allow(context.Context, access.Caller, access.Action, access.Resource) error {
	return nil
}

func serveShelf(t testing.TB, s *shelf, between func(http.Handler) http.Handler) string {
	t.Helper()
	cfg := web.Defaults()
	cfg.RatePerSecond = 0
	server := web.New(web.Options{Config: cfg, Guard: auditorsOnly{}, Log: slog.New(slog.DiscardHandler), Version: "test"})
	server.RegisterLedger(s)
	h := server.Handler()
	if between != nil {
		h = between(h)
	}
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	return ts.URL
}

// verifyShelf runs audit verify URL, and gives what it says.
func verifyShelf(t testing.TB, url string, args ...string) (verification, string, error) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("good\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, says bytes.Buffer
	err := auditVerify(t.Context(), stdio{strings.NewReader(""), &out, &says}, append([]string{url, "--json", "--token-file", token}, args...))
	var v verification
	if out.Len() > 0 {
		if e := json.Unmarshal(out.Bytes(), &v); e != nil {
			t.Fatal(e, out.String())
		}
	}
	if name := string(ledger.NameOf(err)); v.Fault == "" {
		v.Fault = name
	}
	return v, says.String(), err
}

// Who verifies a ledger of all kinds is told how many of each there are; of the
// stream's alone nothing more than ever.
func TestReportCountsByKind(t *testing.T) {
	s := newShelf(t)
	for entries, want := range map[int]string{
		5:  "",
		30: "\n58 decisions = 40 by the stream (0 permits) + 6 in backfills (0 permits) + 6 on lookups (0 permits) + 6 at the door (0 permits) + 0 of notices (0 permits)\n",
	} {
		s.fill(t, entries, 1000)
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("good\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, says bytes.Buffer
		if err := auditVerify(t.Context(), stdio{strings.NewReader(""), &out, &says}, []string{serveShelf(t, s, nil), "--token-file", token, "--key", s.vkey}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) || (want == "") == strings.Contains(out.String(), "by the stream") {
			t.Errorf("%d entries: want %q in\n%s", entries, want, out.String())
		}
	}
}

// An honest broker is found honest, from the beginning and from where the last run
// ended; also where connections break all the time.
func TestVerifyURL(t *testing.T) {
	s := newShelf(t)
	s.fill(t, 30, 1000)
	state := filepath.Join(t.TempDir(), "state")
	for name, between := range map[string]func(http.Handler) http.Handler{"plainly": nil, "with connections that break": breaking} {
		url := serveShelf(t, s, between)
		v, _, err := verifyShelf(t, url, "--key", s.vkey)
		if err != nil || !v.OK || v.Entries != 30 || v.Decisions != 58 || v.Covered != 30 || v.Uncovered != 0 {
			t.Fatalf("%s: %v %+v", name, err, v)
		}
		if v.Kinds["stream"].Decisions != 40 || v.Kinds["backfill"].Decisions != 6 || v.Kinds["lookup"].Decisions != 6 || v.Kinds["door"].Decisions != 6 {
			t.Errorf("%s: by kind %+v", name, v.Kinds)
		}
	}
	url := serveShelf(t, s, nil)
	for _, size := range []int{30, 30, 47, 48} {
		s.fill(t, size, 1000)
		v, _, err := verifyShelf(t, url, "--key", s.vkey, "--state", state, "--strict")
		if err != nil || !v.OK || v.Covered != int64(size) {
			t.Fatalf("%d entries: %v %+v", size, err, v)
		}
		if size == 47 && v.Entries != 17 || size == 48 && v.Entries != 1 {
			t.Errorf("%d entries, and %d were read", size, v.Entries)
		}
	}
	if _, _, err := verifyShelf(t, url); err == nil || !strings.Contains(err.Error(), "--key") {
		t.Errorf("no key: %v", err)
	}
	if _, _, err := verifyShelf(t, "http://broker.example", "--key", s.vkey); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("a token in the open: %v", err)
	}
	if _, _, err := verifyShelf(t, url, "--key", newShelf(t).vkey, "--state", state); err == nil || !strings.Contains(err.Error(), "that is another one") {
		t.Errorf("another ledger's state: %v", err)
	}
}

// breaking cuts every second answer off after some bytes.
func breaking(h http.Handler) http.Handler {
	n := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept-Encoding")
		if n++; n%2 == 0 && r.URL.Path == "/ledger/entries" {
			w = &cutting{w, 3000}
		}
		h.ServeHTTP(w, r)
	})
}

type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(b []byte) (int, error) {
	if len(b) > c.left {
		c.ResponseWriter.Write(b[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

// A broker that lies is found out, by name.
func TestVerifyURLOfALiar(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(t *testing.T, s *shelf)
		want ledger.FaultName
		kept bool // only the one who kept a state can know
	}{
		{"a byte of a row", func(_ *testing.T, s *shelf) {
			s.entries[32][2] = bytes.Replace(s.entries[32][2], []byte("no_open_case"), []byte("no_opem_case"), 1)
		}, ledger.RowChanged, false},
		{"a batch dropped", func(_ *testing.T, s *shelf) { s.entries = append(s.entries[:32:32], s.entries[33:]...) }, ledger.Gap, false},
		{"the last batch dropped", func(_ *testing.T, s *shelf) { s.entries = s.entries[:len(s.entries)-1] }, ledger.BatchMissing, false},
		{"two batches swapped", func(_ *testing.T, s *shelf) { s.entries[32], s.entries[33] = s.entries[33], s.entries[32] }, ledger.Gap, false},
		{"a line left out", func(_ *testing.T, s *shelf) { s.entries[39] = s.entries[39][:3] }, ledger.Truncated, false},
		{"another history from entry 33 on, under the old heads", func(t *testing.T, s *shelf) {
			heads, sizes := s.heads, s.sizes
			s.fill(t, 40, 33)
			s.heads, s.sizes = heads, sizes
		}, ledger.WrongRoot, false},
		{"a fork between two requests", func(t *testing.T, s *shelf) {
			head := s.Head()
			s.fill(t, 40, 33)
			s.head = func() []byte { return head }
		}, ledger.CheckpointForked, false},
		{"another key", func(t *testing.T, s *shelf) { s.signer = newShelf(t).signer; s.fill(t, 40, 1000) }, ledger.WrongKey, false},
		{"a signature that does not fit", func(_ *testing.T, s *shelf) {
			h := bytes.Clone(s.Head())
			h = bytes.Replace(h, []byte("\n40\n"), []byte("\n39\n"), 1)
			s.head = func() []byte { return h }
		}, ledger.BadSignature, false},
		{"the head rolled back", func(t *testing.T, s *shelf) { s.fill(t, 20, 1000) }, ledger.CheckpointRolledBack, true},
		{"another history, all of it signed", func(t *testing.T, s *shelf) { s.fill(t, 40, 10) }, ledger.WrongRoot, true},
		{"another history, as long as what was verified", func(t *testing.T, s *shelf) { s.fill(t, 30, 10) }, ledger.CheckpointForked, true},
		{"nothing at all any more", func(_ *testing.T, s *shelf) { s.head = func() []byte { return nil } }, ledger.CheckpointRolledBack, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShelf(t)
			s.fill(t, 30, 1000)
			url := serveShelf(t, s, nil)
			state := filepath.Join(t.TempDir(), "state")
			if _, _, err := verifyShelf(t, url, "--key", s.vkey, "--state", state); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(state)
			if err != nil {
				t.Fatal(err)
			}
			s.fill(t, 40, 1000)
			c.lie(t, s)
			for _, args := range [][]string{{"--state", state}, nil} {
				v, _, err := verifyShelf(t, url, append([]string{"--key", s.vkey}, args...)...)
				if args == nil && c.kept {
					if c.name != "nothing at all any more" && err != nil {
						t.Errorf("without a state: %v", err)
					}
					continue
				}
				if err == nil || ledger.FaultName(v.Fault) != c.want || v.OK {
					t.Errorf("%q: found %q, want %s: %v", args, v.Fault, c.want, err)
				}
			}
			if after, _ := os.ReadFile(state); !bytes.Equal(before, after) {
				t.Error("a ledger at fault was kept as verified")
			}
		})
	}
}

// BenchmarkVerifyURL is over loopback, of entries of 500 decisions.
func BenchmarkVerifyURL(b *testing.B) {
	s := newShelf(b)
	s.subs = nil
	for i := range 500 {
		s.subs = append(s.subs, broker.SubscriptionID(fmt.Sprintf("subscription-%03d", i)))
	}
	s.fill(b, 401, 1<<30)
	url := serveShelf(b, s, nil)
	for b.Loop() {
		if v, _, err := verifyShelf(b, url, "--key", s.vkey); err != nil || v.Decisions != 200_000 {
			b.Fatal(err, v)
		}
	}
	b.ReportMetric(200_000*float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}
