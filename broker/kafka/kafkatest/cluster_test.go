package kafkatest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

const testLimit = 2 * time.Minute

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	t.Cleanup(cancel)
	return ctx
}

func client(t *testing.T, c *Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Brokers()...), kgo.DisableClientMetrics()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// transact writes values in one transaction and ends it.
func transact(ctx context.Context, t *testing.T, cl *kgo.Client, topic string, end kgo.TransactionEndTry, values ...string) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(ctx, end); err != nil {
		t.Fatal(err)
	}
}

// committed reads n records, read committed, from the start of topic.
func committed(ctx context.Context, t *testing.T, c *Cluster, topic string, n int) []string {
	t.Helper()
	cl := client(t, c, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	var got []string
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("read %d of %d records: %v", len(got), n, err)
		}
		fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

// What a transaction commits is there for a client of another make, and after
// the only node was killed; what it aborts is for nobody.
func TestTransactionsSurviveKill(t *testing.T) {
	ctx := bounded(t)
	begin := time.Now()
	c := Start(t, Options{})
	t.Logf("Apache Kafka answered after %v", time.Since(begin).Round(time.Millisecond))

	adm := kadm.NewClient(client(t, c))
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	producer := client(t, c, kgo.TransactionalID("p"), kgo.TransactionTimeout(10*time.Second))
	transact(ctx, t, producer, "t", kgo.TryCommit, "a", "b")
	transact(ctx, t, producer, "t", kgo.TryAbort, "never")
	transact(ctx, t, producer, "t", kgo.TryCommit, "c")
	want := []string{"a", "b", "c"}

	check := func(when string) {
		t.Helper()
		if got := committed(ctx, t, c, "t", len(want)); !slices.Equal(got, want) {
			t.Fatalf("%s, read with kgo: %q, want %q", when, got, want)
		}
		out := Kcat(t, "-C", "-b", strings.Join(c.Brokers(), ","), "-t", "t", "-o", "beginning", "-e", "-q",
			"-X", "isolation.level=read_committed")
		if got := strings.Fields(string(out)); !slices.Equal(got, want) {
			t.Fatalf("%s, read with kcat: %q, want %q", when, got, want)
		}
	}
	check("before the kill")
	c.Kill(0)
	begin = time.Now()
	c.Restart(t, 0)
	t.Logf("it answered again %v after kill -9", time.Since(begin).Round(time.Millisecond))
	check("after the kill")
}

// Two tests that share a cluster do not see each other's topics.
func TestSharedPrefixes(t *testing.T) {
	c, one := Shared(t)
	again, two := Shared(t)
	if c != again || one == two {
		t.Fatalf("clusters %p and %p, prefixes %q and %q", c, again, one, two)
	}
	if err := client(t, c).Ping(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// A killed test process leaves no Kafka running.
func TestDiesWithTest(t *testing.T) {
	if os.Getenv("KAFKATEST_CHILD") == "1" {
		c, _ := Shared(t)
		fmt.Printf("java is %d\n", c.nodes[0].cmd.Process.Pid)
		if err := syscallKillSelf(); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	if !diesWithParent {
		t.Skip("only Linux ends a process with its parent")
	}
	locate(t)
	ctx := bounded(t)
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDiesWithTest$", "-test.v")
	cmd.Env = append(os.Environ(), "KAFKATEST_CHILD=1", "TMPDIR="+t.TempDir())
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("the child was to be killed; it said\n%s", out)
	}
	var pid int
	for line := range strings.Lines(string(out)) {
		if _, err := fmt.Sscanf(line, "java is %d", &pid); err == nil {
			break
		}
	}
	if pid == 0 {
		t.Fatalf("the child did not name its Java process:\n%s", out)
	}
	for running(pid) {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d still runs", pid)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
