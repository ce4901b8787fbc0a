package kafka

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The environment of a child: this test binary, run as an engine that writes
// transactions, or as an engine only.
const (
	childData   = "KAFKATEST_EMBEDDED_DATA"
	childListen = "KAFKATEST_EMBEDDED_LISTEN"
	childWrites = "KAFKATEST_EMBEDDED_WRITES" // number of the first transaction; "" writes none
)

const killPartitions = 4

// childMain opens the engine, says so, and writes transactions, each to every
// partition, naming on standard output each one whose commit was acknowledged,
// until it is killed. Every fifth is aborted.
func childMain() {
	ctx := context.Background()
	cfg := embedded(os.Getenv(childData))
	if l := os.Getenv(childListen); l != "" {
		cfg.Listen = l
	}
	fail := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	e, err := Open(ctx, cfg, nil, Own)
	fail(err)
	fmt.Println("open", e.Brokers()[0])
	from, err := strconv.Atoi(os.Getenv(childWrites))
	if err != nil {
		select {}
	}
	cl, err := e.NewClient(kgo.TransactionalID("p"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	fail(err)
	for n := from; ; n++ {
		end := kgo.TryCommit
		if n%5 == 4 {
			end = kgo.TryAbort
		}
		fail(transact(ctx, cl, "t", killPartitions, strconv.Itoa(n), end))
		if end == kgo.TryCommit {
			fmt.Println("ack", n)
		}
	}
}

type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, env ...string) *child {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, bufio.NewScanner(out)}
	t.Cleanup(c.kill)
	return c
}

// next gives what follows word on the child's next line.
func (c *child) next(t *testing.T, word string) string {
	t.Helper()
	if !c.out.Scan() {
		t.Fatalf("the child ended before it said %q", word)
	}
	after, ok := strings.CutPrefix(c.out.Text(), word+" ")
	if !ok {
		t.Fatalf("the child said %q, not %q", c.out.Text(), word)
	}
	return after
}

// kill ends the child with SIGKILL.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be dead already
	for c.out.Scan() {
	}
	_ = c.cmd.Wait() // says that it was killed
}

// Killed in the middle of transactions, again and again: what was acknowledged
// is there, each transaction is in all partitions or in none, what was aborted
// is nowhere, and readers are not stuck.
func TestKillKeepsAcknowledged(t *testing.T) {
	rnd := testRand(t)
	data := t.TempDir()
	e := open(t, embedded(data), Own)
	ensure(t, e, TopicSpec{Name: "t", Partitions: killPartitions})
	closeEngine(t, e)

	rounds := 6
	if os.Getenv("DATAFORDELER_TORTURE") == "1" {
		rounds = 200
	}
	var acked []string
	next := 0
	for range rounds {
		c := startChild(t, childData+"="+data, childWrites+"="+strconv.Itoa(next))
		c.next(t, "open")
		for range 1 + rnd.IntN(40) {
			acked = append(acked, c.next(t, "ack"))
		}
		// Somewhere in the transactions that follow.
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
		_ = c.cmd.Process.Kill()
		for c.out.Scan() {
			if n, ok := strings.CutPrefix(c.out.Text(), "ack "); ok {
				acked = append(acked, n)
			}
		}
		_ = c.cmd.Wait()
		last, err := strconv.Atoi(acked[len(acked)-1])
		if err != nil {
			t.Fatal(err)
		}
		next = last + 10 // transactions in flight had numbers of their own

		e := open(t, embedded(data), Own)
		got := committed(t, e, "t")
		for p := int32(1); p < killPartitions; p++ {
			if !slices.Equal(got[0], got[p]) {
				t.Fatalf("a transaction is in some partitions only: %d has %q, 0 has %q", p, got[p], got[0])
			}
		}
		seen := make(map[string]int)
		for _, v := range got[0] {
			seen[v]++
			if n, err := strconv.Atoi(v); err != nil || n%5 == 4 || seen[v] > 1 {
				t.Errorf("transaction %s is aborted or repeated, and is there %d times", v, seen[v])
			}
		}
		for _, v := range acked {
			if seen[v] == 0 {
				t.Errorf("transaction %s was acknowledged and is lost", v)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
		closeEngine(t, e)
	}
}

// A client that outlived the engine, with a transaction open, is not told that
// it was committed.
func TestKillFencesSurvivor(t *testing.T) {
	ctx := bounded(t)
	data := t.TempDir()
	c := startChild(t, childData+"="+data)
	addr := c.next(t, "open")
	e := open(t, embedded(data), Attach)
	if e.Owner() || e.Brokers()[0] != addr {
		t.Fatalf("attached to %v, as owner: %v; the engine is at %s", e.Brokers(), e.Owner(), addr)
	}
	ensure(t, e, TopicSpec{Name: "t", Partitions: tornPartitions})
	cl := producer(t, e, "p")
	if err := transact(ctx, cl, "t", tornPartitions, "one", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if err := begin(ctx, cl, "t", tornPartitions, "two"); err != nil {
		t.Fatal(err)
	}
	c.kill()
	c = startChild(t, childData+"="+data, childListen+"="+addr)
	c.next(t, "open")
	// It goes on with the transaction, of which the first half is aborted now.
	err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Partition: 0, Value: []byte("half")}).FirstErr()
	if endErr := cl.EndTransaction(ctx, kgo.TryCommit); err == nil && endErr == nil {
		t.Error("the second half of a torn transaction was committed")
	}
	checkCommitted(t, e, []string{"one"})
}

// A publisher that outlives a clean stop and then a kill, and resends nothing,
// can go on: what the clean stop noted about its sequence numbers is not held
// against it.
func TestKillKeepsPublisher(t *testing.T) {
	ctx := bounded(t)
	cfg := embedded(t.TempDir())
	e := open(t, cfg, Own)
	ensure(t, e, TopicSpec{Name: "t", Partitions: 1})
	cfg.Listen = e.Brokers()[0]
	cl := client(t, e)
	publish := func(value string) {
		t.Helper()
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatalf("%s: %v", value, err)
		}
	}
	publish("before the stop")
	closeEngine(t, e)
	e = open(t, cfg, Own)
	publish("after the stop")
	killed := image(t, cfg.Data)
	closeEngine(t, e)
	cfg.Data = killed
	e = open(t, cfg, Own)
	if !e.Recovery().Unclean {
		t.Fatal("the image counts as closed")
	}
	publish("after the kill")
	if got := committed(t, e, "t")[0]; !slices.Equal(got, []string{"before the stop", "after the stop", "after the kill"}) {
		t.Errorf("the topic has %q", got)
	}
}

// A directory whose owner was killed is free, also for a command that would
// rather attach.
func TestKillFreesDirectory(t *testing.T) {
	data := t.TempDir()
	c := startChild(t, childData+"="+data)
	c.next(t, "open")
	_, err := Open(bounded(t), embedded(data), nil, Own)
	if want := fmt.Sprintf("in use by process %d", c.cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
	c.kill()
	e := open(t, embedded(data), Attach)
	if !e.Owner() || !e.Recovery().Unclean {
		t.Errorf("owner %v, recovery %+v", e.Owner(), e.Recovery())
	}
}
