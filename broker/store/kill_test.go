package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// The victim is this test's program again, which applies a log until it is killed.
const victimVar = "DATAFORDELER_STORE_VICTIM"

const killLog = 900

func killGen() *gen { g := newGen(21); g.mostRows = 40; return g }

func victim() {
	ctx := context.Background()
	s, err := Open(ctx, os.Getenv(victimVar))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(2)
	}
	small(s)
	fmt.Println("ready")
	next, err := s.Position(ctx)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(2)
	}
	log := killGen().batches(killLog)
	from := 0
	for from < len(log) && log[from].LogOffset < next[log[from].LogPartition] {
		from++
	}
	for part := range slices.Chunk(log[from:], 5) {
		if err := s.Apply(ctx, part, partiesOf); err != nil {
			fmt.Println("error", err)
			os.Exit(2)
		}
	}
	fmt.Println("done")
	os.Exit(0)
}

// TestKilled: a writer that is killed and started again, over and over, ends with
// the same content as one that was not.
func TestKilled(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		straight := open1(t, dsn())
		apply1(t, straight, killGen().batches(killLog)...)
		want := digest(t, straight)
		at := dsn()
		kills, done := 0, false
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		for round := 0; !done; round++ {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), victimVar+"="+at)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4096)
			n, _ := out.Read(buf) // "ready"
			if round < 6 {
				time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond) // when the kill comes is the point
				cmd.Process.Kill()
			}
			for {
				m, err := out.Read(buf[n:])
				if n += m; err != nil {
					break
				}
			}
			err = cmd.Wait()
			switch text := string(buf[:n]); {
			case strings.Contains(text, "error"):
				t.Fatalf("the writer: %s", text)
			case strings.Contains(text, "done"):
				done = true
			case err != nil:
				kills++
			}
		}
		s := open1(t, at)
		if got := digest(t, s); got != want {
			t.Fatalf("after %d kills %s, straight through %s", kills, got, want)
		}
		t.Logf("killed %d times", kills)
	})
}
