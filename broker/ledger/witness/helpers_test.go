package witness

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

// tree is a log's tree with all its stored hashes, so that any proof can be made.
type tree struct {
	leaves []string
	hashes []tlog.Hash
}

func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var h []tlog.Hash
	for _, i := range indexes {
		if i >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("no hash %d", i)
		}
		h = append(h, t.hashes[i])
	}
	return h, nil
}

func (t *tree) size() int64 { return int64(len(t.leaves)) }

func (t *tree) add(leaves ...string) *tree {
	for _, l := range leaves {
		h, err := tlog.StoredHashes(t.size(), []byte(l), t)
		if err != nil {
			panic(err)
		}
		t.hashes = append(t.hashes, h...)
		t.leaves = append(t.leaves, l)
	}
	return t
}

// grown is an honest tree of n leaves.
func grown(n int) *tree {
	t := &tree{}
	for i := range n {
		t.add(fmt.Sprintf("leaf %d", i))
	}
	return t
}

// fork is a tree with the same first n leaves and others from there on.
func (t *tree) fork(n int64, salt string) *tree {
	f := (&tree{}).add(t.leaves[:n]...)
	for i := n; i < t.size(); i++ {
		f.add(fmt.Sprintf("%s %d", salt, i))
	}
	return f
}

func (t *tree) root(n int64) tlog.Hash {
	h, err := tlog.TreeHash(n, t)
	if err != nil {
		panic(err)
	}
	return h
}

func (t *tree) proof(n, old int64) tlog.TreeProof {
	if old <= 0 || old >= n {
		return nil
	}
	p, err := tlog.ProveTree(n, old, t)
	if err != nil {
		panic(err)
	}
	return p
}

// testLog is a log's key.
type testLog struct {
	origin string
	signer note.Signer
	key    note.Verifier
}

// must is for what cannot fail in a test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newLog(origin string) testLog {
	skey, vkey, err := ledger.GenerateKey(origin, ledger.LogKey)
	if err != nil {
		panic(err)
	}
	return testLog{origin, must(note.NewSigner(skey)), must(ledger.ParseVerifier(vkey))}
}

func (l testLog) log() Log { return Log{l.origin, []note.Verifier{l.key}} }

// checkpoint is the tree's first n leaves, signed.
func (l testLog) checkpoint(t *tree, n int64) []byte {
	return must(ledger.SignCheckpoint(ledger.Checkpoint{Origin: l.origin, Size: n, Root: t.root(n)}, l.signer))
}

// request submits n leaves of the tree to a witness that has old.
func (l testLog) request(t *tree, n, old int64) []byte {
	return appendRequest(nil, request{old, t.proof(n, old), l.checkpoint(t, n)})
}

// memory is a Store that forgets with the process.
type memory struct {
	mu       sync.Mutex
	b        []byte
	err      error // of the next Saves
	evidence map[string][]byte
}

func newMemory(vkey string) *memory {
	return &memory{b: must(NewState(vkey)), evidence: map[string][]byte{}}
}

func (m *memory) Load() ([]byte, error) { return m.b, nil }
func (m *memory) Save(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.b = slices.Clone(b)
	}
	return m.err
}

func (m *memory) Evidence(name string, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.evidence[name] = b
	return nil
}
func (m *memory) String() string { return "memory" }

func newKey(name string) (skey string, v note.Verifier) {
	skey, vkey, err := ledger.GenerateKey(name, ledger.WitnessKey)
	if err != nil {
		panic(err)
	}
	return skey, must(ledger.ParseVerifier(vkey))
}

// newWitness is a witness of the logs in memory, on a clock that stands.
func newWitness(t testing.TB, logs ...testLog) (*Witness, *memory, note.Verifier) {
	t.Helper()
	skey, v := newKey("witness.example")
	m := newMemory(must(ledger.VKey(skey)))
	c := Config{Key: skey, Store: m, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
	for _, l := range logs {
		c.Logs = append(c.Logs, l.log())
	}
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w, m, v
}

// add submits and wants a status; 200 for a cosignature.
func add(t testing.TB, w *Witness, body []byte, status int) (line []byte, r *Refusal) {
	t.Helper()
	line, err := w.AddCheckpoint(body)
	got := 200
	if err != nil {
		if !errors.As(err, &r) || line != nil {
			t.Fatalf("%q, %v", line, err)
		}
		got = r.Status
	}
	if got != status {
		t.Fatalf("%d %v, want %d", got, err, status)
	}
	return line, r
}
