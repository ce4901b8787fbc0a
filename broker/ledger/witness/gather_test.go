package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

// served is a witness on loopback.
type served struct {
	*Witness
	client *Client
	asked  atomic.Int64
}

func serve(t *testing.T, name string, l testLog) *served {
	t.Helper()
	skey, v := newKey(name)
	s := &served{}
	s.Witness = must(New(Config{Key: skey, Store: newMemory(must(ledger.VKey(skey))), Logs: []Log{l.log()}}))
	h := s.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.client = &Client{URL: server.URL, Key: v}
	return s
}

// answering is a witness that says what f says.
func answering(t *testing.T, name string, f http.HandlerFunc) (*Client, *ledger.Cosigner) {
	t.Helper()
	skey, v := newKey(name)
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return &Client{URL: server.URL, Key: v}, must(ledger.NewCosigner(skey, time.Now))
}

func gatherer(l testLog, tr *tree, need int, clients ...*Client) *Gatherer {
	g := &Gatherer{Policy: &ledger.Policy{Origin: l.origin, Log: l.key, Need: need}, Witnesses: clients, Prove: ProveFrom(tr), Timeout: time.Minute}
	for _, c := range clients {
		g.Policy.Witnesses = append(g.Policy.Witnesses, c.Key)
	}
	return g
}

func TestGather(t *testing.T) {
	l, tr := newLog("log.example"), grown(50)
	a, b := serve(t, "a.example", l), serve(t, "b.example", l)
	g := gatherer(l, tr, 2, a.client, b.client)
	for i, n := range []int64{0, 1, 2, 2, 7, 49, 50} {
		got, outcomes, err := g.Gather(t.Context(), l.checkpoint(tr, n))
		if err != nil {
			t.Fatalf("size %d: %v, %v", n, err, outcomes)
		}
		c, by, err := g.Policy.OpenWitnessed(got)
		if err != nil || c.Size != n || len(by) != 2 {
			t.Errorf("size %d: %+v, %v, %v", n, c, by, err)
		}
		if asked := a.asked.Load(); asked != int64(i+1) {
			t.Errorf("size %d: %d requests", n, asked)
		}
	}
	// Somebody who remembers nothing is told the size, and asks once more.
	got, _, err := gatherer(l, tr, 2, a.client, b.client).Gather(t.Context(), l.checkpoint(tr, 50))
	if err != nil || a.asked.Load() != 9 {
		t.Errorf("%s, %v, %d", got, err, a.asked.Load())
	}
	// And a checkpoint behind theirs is an alarm, not a signature.
	_, outcomes, err := gatherer(l, tr, 1, a.client, b.client).Gather(t.Context(), l.checkpoint(tr, 40))
	var few *ledger.TooFewError
	var ahead *AheadError
	if !errors.As(err, &few) || few.Have != 0 || !errors.As(outcomes[1].Err, &ahead) || ahead.Witness != 50 || ahead.Mine != 40 || ahead.Name != "b.example" {
		t.Errorf("%v, %v", err, outcomes)
	}
	// A fork that is as long is refused by each.
	other := tr.fork(20, "other")
	_, outcomes, err = gatherer(l, other, 1, a.client, b.client).Gather(t.Context(), l.checkpoint(other, 50))
	var refused *RefusedError
	if !errors.As(err, &few) || !errors.As(outcomes[0].Err, &refused) || refused.Status != 409 || !strings.Contains(refused.Text, "two different trees") {
		t.Errorf("%v, %v", err, outcomes)
	}
}

// Witnesses of every bad kind, two good ones, and two needed.
func TestGatherAmongBadWitnesses(t *testing.T) {
	l, tr := newLog("log.example"), grown(50)
	good, behind := serve(t, "good.example", l), serve(t, "behind.example", l)
	if _, err := behind.AddCheckpoint(l.request(tr, 10, 0)); err != nil {
		t.Fatal(err)
	}
	ahead := serve(t, "ahead.example", l)
	if _, err := ahead.AddCheckpoint(l.request(tr, 50, 0)); err != nil {
		t.Fatal(err)
	}
	forked := serve(t, "forked.example", l)
	if _, err := forked.AddCheckpoint(l.request(tr.fork(5, "other"), 20, 0)); err != nil {
		t.Fatal(err)
	}
	down := serve(t, "down.example", l)
	down.client.URL = "http://127.0.0.1:1"
	release := make(chan struct{})
	slow, _ := answering(t, "slow.example", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	var liar, dresser *ledger.Cosigner
	lying, liar := answering(t, "lying.example", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(signed(liar, l.checkpoint(tr, 49))) // another checkpoint
	})
	posing, dresser := answering(t, "posing.example", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(signed(dresser, l.checkpoint(tr, 40)))
	})
	_, posing.Key = newKey("posing.example") // another key of this name
	says := func(name string, status int, kind, text string) *Client {
		c, _ := answering(t, name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			io.WriteString(w, text)
		})
		return c
	}
	redirecting, _ := answering(t, "redirecting.example", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, good.client.URL+"/add-checkpoint", http.StatusTemporaryRedirect)
	})
	bad := []*Client{
		ahead.client, forked.client, down.client, slow, lying, posing, redirecting,
		says("empty.example", 200, "text/plain", ""),
		says("chatty.example", 200, "text/plain", "hello\n"),
		says("endless.example", 200, "text/plain", strings.Repeat("x", 1<<20)),
		says("large.example", 200, "text/plain", "— x.example AAAAAAAA\n"+strings.Repeat("— x.example AAAAAAAA\n", 200)),
		says("conflict.example", 409, sizeType, "7\n"), // whatever it is told
		says("sizeless.example", 409, sizeType, "7"),
		says("negative.example", 409, sizeType, "-7\n"),
		says("plain.example", 409, "text/plain", "7\n"),
		says("broken.example", 500, "text/plain", "line one\x1b[31m\nline two"),
	}
	g := gatherer(l, tr, 2, append([]*Client{good.client, behind.client}, bad...)...)
	g.Timeout = time.Second // what the slow one costs
	got, outcomes, err := g.Gather(t.Context(), l.checkpoint(tr, 40))
	if err != nil {
		t.Fatalf("%v, %v", err, outcomes)
	}
	_, by, err := g.Policy.OpenWitnessed(got)
	if err != nil || len(by) != 2 {
		t.Errorf("%v, %v", by, err)
	}
	want := []string{"", "", "has cosigned size 50, and this checkpoint has 40", "422", "connect", "deadline exceeded", "invalid signature for key lying", "no signature by posing", "307",
		"not signature lines", "not signature lines", "more than 65536 bytes", "malformed note", "has cosigned size 7", "without a size", "without a size", "409: 7", "500: line one?[31m"}
	for i, o := range outcomes {
		if text := fmt.Sprint(o.Err); (o.Err == nil) != (want[i] == "") || !strings.Contains(text, want[i]) || strings.Contains(text, "line two") {
			t.Errorf("%s: %v, want %q", o.Name, o.Err, want[i])
		}
	}
	if n := good.asked.Load(); n != 1 {
		t.Errorf("the good witness was asked %d times", n)
	}
}

// signed are the cosigner's lines over a checkpoint.
func signed(c *ledger.Cosigner, checkpoint []byte) []byte {
	text := checkpoint[:bytes.LastIndex(checkpoint, []byte("\n\n"))+1]
	return must(note.Sign(&note.Note{Text: string(text)}, c))[len(text)+1:]
}

// Once enough have cosigned, a witness that hangs is not waited for.
func TestGatherDoesNotWaitForAll(t *testing.T) {
	l, tr := newLog("log.example"), grown(5)
	good := serve(t, "good.example", l)
	slow, _ := answering(t, "slow.example", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	g := gatherer(l, tr, 1, slow, good.client)
	g.Timeout, g.Linger = time.Hour, time.Millisecond
	_, outcomes, err := g.Gather(t.Context(), l.checkpoint(tr, 5))
	if err != nil || outcomes[1].Err != nil || outcomes[0].Err != ErrNotAwaited {
		t.Errorf("%v, %v", err, outcomes)
	}
	// Nor is anybody, when the caller gives up.
	g.Policy.Need = 2
	ctx, cancel := context.WithCancel(t.Context())
	g.Prove = func(context.Context, int64, int64) (tlog.TreeProof, error) { return nil, errors.New("unused") }
	slow.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		cancel()
		return nil, r.Context().Err()
	})}
	if _, outcomes, err := g.Gather(ctx, l.checkpoint(tr, 5)); err == nil || !errors.Is(outcomes[0].Err, context.Canceled) {
		t.Errorf("%v, %v", err, outcomes)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestGatherRefuses(t *testing.T) {
	l, tr := newLog("log.example"), grown(5)
	a := serve(t, "a.example", l)
	g := gatherer(l, tr, 0, a.client)
	if _, _, err := g.Gather(t.Context(), newLog("log.example").checkpoint(tr, 5)); err == nil {
		t.Error("sent what the log did not sign")
	}
	_, k := newKey("a.example")
	g.Witnesses = []*Client{{URL: a.client.URL, Key: k}}
	if _, _, err := g.Gather(t.Context(), l.checkpoint(tr, 5)); err == nil {
		t.Error("asked a witness that the policy does not name")
	}
	g = gatherer(l, tr, 1, a.client)
	if _, err := a.AddCheckpoint(l.request(tr, 2, 0)); err != nil {
		t.Fatal(err)
	}
	g.Prove = func(context.Context, int64, int64) (tlog.TreeProof, error) {
		return nil, errors.New("the hashes are gone")
	}
	_, outcomes, err := g.Gather(t.Context(), l.checkpoint(tr, 5))
	if err == nil || !strings.Contains(fmt.Sprint(outcomes[0].Err), "the hashes are gone") {
		t.Errorf("%v, %v", err, outcomes)
	}
}
