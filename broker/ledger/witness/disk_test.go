package witness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"datafordeler/broker/ledger"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	skey, _ := newKey("witness.example")
	vkey := must(ledger.VKey(skey))
	if _, err := OpenFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a state that is not there: %v", err)
	}
	if err := CreateFile(path, vkey); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, vkey); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if err := CreateFile(filepath.Join(dir, "x"), "nonsense"); err == nil {
		t.Error("made for no key")
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// By its other name too.
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, filepath.Join(dir, "link")} {
		if _, err := OpenFile(name); !errors.Is(err, ErrInUse) {
			t.Errorf("%s was opened twice: %v", name, err)
		}
	}
	if err := f.Save([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := f.Evidence("fork-1", []byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := f.Evidence("fork-1", []byte("b")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path + ".fork-1"); err != nil || string(b) != "a" {
		t.Errorf("%s, %v", b, err)
	}
	if b, err := f.Load(); err != nil || string(b) != "two" {
		t.Errorf("%s, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f, err = OpenFile(filepath.Join(dir, "link"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Save([]byte("three")); err != nil { // behind the link, not over it
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "three" {
		t.Errorf("%s, %v", b, err)
	}
}

// A read-only directory, or a full disk, is an error and leaves what stood.
func TestFileThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	skey, _ := newKey("witness.example")
	if err := CreateFile(path, must(ledger.VKey(skey))); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil { // where the new one would be written
		t.Fatal(err)
	}
	if err := f.Save([]byte("x")); err == nil {
		t.Error("saved into a directory")
	}
	if b, err := f.Load(); err != nil || !bytes.Equal(b, before) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestMain is also the witness of TestKilled, in a process of its own.
func TestMain(m *testing.M) {
	if path := os.Getenv("WITNESS_TEST_STATE"); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(path string) error {
	f, err := OpenFile(path)
	if err != nil {
		return err
	}
	v, err := ledger.ParseVerifier(os.Getenv("WITNESS_TEST_LOG"))
	if err != nil {
		return err
	}
	w, err := New(Config{Key: os.Getenv("WITNESS_TEST_KEY"), Store: f, Logs: []Log{{v.Name(), []note.Verifier{v}}}})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return w.Server().Serve(l)
}

// A witness that is killed again and again, while two histories are offered to
// it at once, has cosigned one of them.
func TestKilled(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "state")
	skey, v := newKey("witness.example")
	lkey, lvkey, err := ledger.GenerateKey("log.example", ledger.LogKey)
	if err != nil {
		t.Fatal(err)
	}
	l := testLog{"log.example", must(note.NewSigner(lkey)), must(ledger.ParseVerifier(lvkey))}
	if err := CreateFile(path, must(ledger.VKey(skey))); err != nil {
		t.Fatal(err)
	}
	one := grown(2000)
	histories := []*tree{one, one.fork(1, "other")}
	var mu sync.Mutex
	won, largest := -1, int64(0)
	r := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "WITNESS_TEST_STATE="+path, "WITNESS_TEST_LOG="+lvkey, "WITNESS_TEST_KEY="+skey)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("round %d: the witness did not start: %v", round, err)
		}
		client := &Client{URL: strings.TrimSpace(line), Key: v}
		asked := make(chan struct{}, 10000)
		var wg sync.WaitGroup
		for h, tr := range histories {
			wg.Go(func() {
				old, step := int64(0), int64(1)
				for {
					n := old + step
					asked <- struct{}{}
					mu.Lock()
					before := largest
					mu.Unlock()
					_, err := client.AddCheckpoint(context.WithoutCancel(t.Context()), old, tr.proof(n, old), l.checkpoint(tr, n))
					var conflict *ConflictError
					var refused *RefusedError
					switch {
					case errors.As(err, &conflict):
						old = conflict.Size
						if old < before {
							t.Errorf("round %d: the witness has size %d and had cosigned %d", round, old, before)
						}
					case errors.As(err, &refused) && refused.Status == 422: // the other history has won
					case err != nil:
						return // killed
					default:
						mu.Lock()
						if won < 0 && n > 1 { // leaf 0 they share
							won = h
						}
						if n > 1 && won != h {
							t.Errorf("round %d: both histories were cosigned", round)
						}
						largest = max(largest, n)
						mu.Unlock()
						old = n
					}
					if old+2 >= tr.size() {
						return
					}
				}
			})
		}
		for range 1 + r.IntN(40) {
			<-asked
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		go func() {
			for range asked {
			}
		}()
		wg.Wait()
		close(asked)
		_ = cmd.Wait() // "signal: killed"
	}
	if largest < int64(rounds) {
		t.Errorf("the largest head after %d rounds is %d: nothing was tried", rounds, largest)
	}
	t.Logf("history %d won, size %d", won, largest)
}
