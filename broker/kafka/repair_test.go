package kafka

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const tornPartitions = 3

// torn makes a data directory as a kill leaves it: "one" committed to three
// partitions, then "two", by the same producer, in the state that end names.
func torn(t *testing.T, end *kgo.TransactionEndTry) (data string, two txn) {
	t.Helper()
	ctx := bounded(t)
	live := t.TempDir()
	e := open(t, embedded(live), Own)
	ensure(t, e, TopicSpec{Name: "t", Partitions: tornPartitions})
	cl := producer(t, e, "p")
	if err := transact(ctx, cl, "t", tornPartitions, "one", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if err := begin(ctx, cl, "t", tornPartitions, "two"); err != nil {
		t.Fatal(err)
	}
	producer, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	two = txn{producer, epoch}
	open := image(t, live)
	if end == nil {
		return open, two
	}
	if err := cl.EndTransaction(ctx, *end); err != nil {
		t.Fatal(err)
	}
	ended := image(t, live)
	// The producer log as it was before the end, and the marker in partition 1
	// only: the moment between two markers.
	copyFile(t, filepath.Join(ended, "kafka/partitions/t-1/0.dat"), filepath.Join(open, "kafka/partitions/t-1/0.dat"))
	copyFile(t, filepath.Join(ended, "kafka/partitions/t-1/0.idx"), filepath.Join(open, "kafka/partitions/t-1/0.idx"))
	return open, two
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func shorten(t *testing.T, path string, by int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-by); err != nil {
		t.Fatal(err)
	}
}

// Whatever a kill tore, readers find each transaction in all its partitions or
// in none, come to the end, and go on to find what the same producer commits
// next; also after a second kill.
func TestTornTransactions(t *testing.T) {
	commit, abort := kgo.TryCommit, kgo.TryAbort
	for _, test := range []struct {
		name     string
		end      *kgo.TransactionEndTry
		spoil    func(t *testing.T, engine string)
		want     []string
		recovery Recovery
	}{
		{name: "open", want: []string{"one"},
			recovery: Recovery{Aborted: 1, Markers: 3}},
		{name: "between the markers of a commit", end: &commit, want: []string{"one", "two"},
			recovery: Recovery{Committed: 1, Markers: 2}},
		{name: "between the markers of an abort", end: &abort, want: []string{"one"},
			recovery: Recovery{Aborted: 1, Markers: 2}},
		{name: "between a batch and its index entry", want: []string{"one"},
			spoil: func(t *testing.T, engine string) {
				shorten(t, filepath.Join(engine, "partitions/t-0/0.idx"), indexSize)
			},
			recovery: Recovery{Aborted: 1, Markers: 3}},
		{name: "an index entry of nothing", want: []string{"one"},
			spoil: func(t *testing.T, engine string) {
				appendTo(t, filepath.Join(engine, "partitions/t-0/0.idx"), indexEntry(0, true))
			},
			recovery: Recovery{Aborted: 1, Markers: 3}},
		{name: "half a batch", want: []string{"one"},
			spoil: func(t *testing.T, engine string) {
				path := filepath.Join(engine, "partitions/t-2/0.dat")
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				appendTo(t, path, b[:40])
			},
			recovery: Recovery{Aborted: 1, Markers: 3, TruncatedBytes: 40}},
		{name: "pages of a batch that never reached the disk", want: []string{"one"},
			spoil: func(t *testing.T, engine string) {
				path := filepath.Join(engine, "partitions/t-2/0.dat")
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				b[len(b)-1] ^= 1
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			recovery: Recovery{Aborted: 1, Markers: 2, TruncatedBytes: 71}},
		{name: "half a line in the engine's logs", want: []string{"one"},
			spoil: func(t *testing.T, engine string) {
				appendTo(t, filepath.Join(engine, "pids.log"), []byte{30, 0, 0, 0, 9, 9})
				if err := os.WriteFile(filepath.Join(engine, "groups.log"), []byte{1, 2, 3}, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			recovery: Recovery{Aborted: 1, Markers: 3, TruncatedBytes: 9}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := bounded(t)
			data, two := torn(t, test.end)
			if test.spoil != nil {
				test.spoil(t, filepath.Join(data, engineDir))
			}
			e := open(t, embedded(data), Own)
			test.recovery.Unclean = true
			if got := e.Recovery(); got != test.recovery {
				t.Errorf("recovery %+v, want %+v", got, test.recovery)
			}
			// A client that outlived the engine and asks to commit is refused,
			// also where the records were committed: its offsets were not.
			end := kmsg.NewPtrEndTxnRequest()
			end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "p", two.producer, two.epoch, true
			resp, err := end.RequestWith(ctx, client(t, e))
			if err != nil {
				t.Fatal(err)
			}
			if err := kerr.ErrorForCode(resp.ErrorCode); !errors.Is(err, kerr.ProducerFenced) {
				t.Errorf("a survivor's commit: %v, want %v", err, kerr.ProducerFenced)
			}
			checkCommitted(t, e, test.want)
			if err := transact(ctx, producer(t, e, "p"), "t", tornPartitions, "three", kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
			want := append(slices.Clone(test.want), "three")
			checkCommitted(t, e, want)

			again := open(t, embedded(image(t, data)), Own)
			if got, want := again.Recovery(), (Recovery{Unclean: true}); got != want {
				t.Errorf("recovery after a second kill %+v, want %+v", got, want)
			}
			checkCommitted(t, again, want)
			closeEngine(t, again)
			after := open(t, again.config(), Own)
			if after.Recovery().Unclean {
				t.Error("a clean stop is taken for an unclean one")
			}
			checkCommitted(t, after, want)
		})
	}
}

// config is enough to open the engine's directory again.
func (e *Engine) config() Config { return embedded(e.data) }

func checkCommitted(t *testing.T, e *Engine, want []string) {
	t.Helper()
	got := committed(t, e, "t")
	for p := range int32(tornPartitions) {
		if !slices.Equal(got[p], want) {
			t.Errorf("partition %d has %q, want %q", p, got[p], want)
		}
	}
}

// A kill while settling leaves a directory that is settled the same way.
func TestRepairInterrupted(t *testing.T) {
	commit := kgo.TryCommit
	for _, test := range []struct {
		end  *kgo.TransactionEndTry
		want []string
	}{{nil, []string{"one"}}, {&commit, []string{"one", "two"}}} {
		whole, _ := torn(t, test.end)
		for done := range tornPartitions {
			t.Run(fmt.Sprint(test.want, done), func(t *testing.T) {
				data := image(t, whole)
				settled := image(t, whole)
				if _, err := repair(filepath.Join(settled, engineDir)); err != nil {
					t.Fatal(err)
				}
				copyFile(t, filepath.Join(settled, "kafka/pids.log"), filepath.Join(data, "kafka/pids.log"))
				for p := range done { // and of the next, only the batch, not its index
					for _, ext := range []string{"dat", "idx"} {
						name := fmt.Sprintf("kafka/partitions/t-%d/0.%s", p, ext)
						copyFile(t, filepath.Join(settled, name), filepath.Join(data, name))
					}
				}
				name := fmt.Sprintf("kafka/partitions/t-%d/0.dat", done)
				copyFile(t, filepath.Join(settled, name), filepath.Join(data, name))
				checkCommitted(t, open(t, embedded(data), Own), test.want)
			})
		}
	}
}

// Damage that no kill makes is not passed over in silence.
func TestRepairRefusesDamage(t *testing.T) {
	data, _ := torn(t, nil)
	engine := filepath.Join(data, engineDir)
	// A later segment makes the damage lie in the middle.
	copyFile(t, filepath.Join(engine, "partitions/t-0/0.dat"), filepath.Join(engine, "partitions/t-0/3.dat"))
	shorten(t, filepath.Join(engine, "partitions/t-0/0.dat"), 1)
	_, err := Open(bounded(t), embedded(data), nil, Own)
	if err == nil || !strings.Contains(err.Error(), "0.dat is damaged at byte") {
		t.Errorf("error %v", err)
	}

	data, _ = torn(t, nil)
	if err := os.Remove(filepath.Join(data, engineDir, "meta.json")); err != nil {
		t.Fatal(err)
	}
	_, err = Open(bounded(t), embedded(data), nil, Own)
	if err == nil || !strings.Contains(err.Error(), "meta.json") {
		t.Errorf("error %v", err)
	}
}

func FuzzScanSegment(f *testing.F) {
	f.Add(marker(txn{7, 1}, true, 0, 0, time.Unix(0, 0)), []byte{})
	f.Add(marker(txn{7, 1}, false, 5, 2, time.Unix(0, 0))[:50], indexEntry(0, true))
	f.Fuzz(func(t *testing.T, dat, idx []byte) {
		dir := t.TempDir()
		for ext, b := range map[string][]byte{"dat": dat, "idx": idx} {
			if err := os.WriteFile(filepath.Join(dir, "0."+ext), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p, err := scanPartition(dir)
		if err != nil {
			return
		}
		again, err := scanPartition(dir)
		if err != nil || again.cut != 0 || again.next != p.next {
			t.Fatalf("a second scan finds %+v (%v), the first found %+v", again, err, p)
		}
	})
}
