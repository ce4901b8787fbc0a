package kafka

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"datafordeler/broker/kafka/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) {
	if os.Getenv(childData) != "" {
		childMain()
		return
	}
	os.Exit(kafkatest.Main(m))
}

// testLimit bounds whatever a test waits for.
const testLimit = time.Minute

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	t.Cleanup(cancel)
	return ctx
}

// testRand is seeded from DATAFORDELER_SEED, else at random; the log has it.
func testRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("DATAFORDELER_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("seed: DATAFORDELER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func embedded(data string) Config {
	c := Defaults()
	c.Data, c.Reserve = data, 0
	return c
}

func open(t testing.TB, cfg Config, mode Mode) *Engine {
	t.Helper()
	e, err := Open(bounded(t), cfg, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // tests that care close it themselves
	return e
}

func closeEngine(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func client(t testing.TB, e *Engine, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := e.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func admin(t testing.TB, e *Engine) *kadm.Client {
	t.Helper()
	return kadm.NewClient(client(t, e))
}

func ensure(t testing.TB, e *Engine, specs ...TopicSpec) {
	t.Helper()
	if err := EnsureTopics(bounded(t), admin(t, e), specs...); err != nil {
		t.Fatal(err)
	}
}

func producer(t testing.TB, e *Engine, id string) *kgo.Client {
	t.Helper()
	return client(t, e, kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
}

// begin writes value to each partition in a new transaction and leaves it open.
func begin(ctx context.Context, cl *kgo.Client, topic string, partitions int32, value string) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	var rs []*kgo.Record
	for p := range partitions {
		rs = append(rs, &kgo.Record{Topic: topic, Partition: p, Value: []byte(value)})
	}
	return cl.ProduceSync(ctx, rs...).FirstErr()
}

// transact writes value to each partition in one transaction and ends it.
func transact(ctx context.Context, cl *kgo.Client, topic string, partitions int32, value string, end kgo.TransactionEndTry) error {
	if err := begin(ctx, cl, topic, partitions, value); err != nil {
		return err
	}
	return cl.EndTransaction(ctx, end)
}

// committed reads, read committed, all there is: by partition, the values in
// order. It fails if a reader cannot come to the end of a partition, that is,
// if a torn transaction holds it back.
func committed(t testing.TB, e *Engine, topic string) map[int32][]string {
	t.Helper()
	ctx := bounded(t)
	ends, err := admin(t, e).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	stable, err := CommittedEnds(ctx, admin(t, e), topic)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[int32][]string)
	left := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if stable[topic][o.Partition] != o.Offset {
			t.Errorf("partition %d ends at %d, but readers come only to %d", o.Partition, o.Offset, stable[topic][o.Partition])
		}
		if stable[topic][o.Partition] > 0 {
			left[o.Partition] = stable[topic][o.Partition]
		}
	})
	// Control records are kept so that the end is seen also where the last
	// transaction was aborted.
	cl := client(t, e, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("reading %s: %v; still to read: %v", topic, err, left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				got[r.Partition] = append(got[r.Partition], string(r.Value))
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return got
}

// image copies a data directory as a kill at this moment would leave it: what
// the engine has written is in the page cache, and what it only remembers is
// not there. The engine must be idle.
func image(t testing.TB, data string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
		return out.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

var discard = slog.New(slog.DiscardHandler)
