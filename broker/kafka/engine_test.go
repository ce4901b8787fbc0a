package kafka

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A clean stop and start keeps records, offsets, topic ids and settings.
func TestCleanStop(t *testing.T) {
	ctx := bounded(t)
	cfg := embedded(t.TempDir())
	e := open(t, cfg, Own)
	spec := cfg.SourceSpec("d")
	ensure(t, e, spec)
	cl := producer(t, e, "p")
	var want []string
	for i := range 20 {
		if err := transact(ctx, cl, spec.Name, spec.Partitions, strconv.Itoa(i), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		want = append(want, strconv.Itoa(i))
	}
	var at kadm.Offsets
	at.Add(kadm.Offset{Topic: spec.Name, Partition: 0, At: 7, LeaderEpoch: -1, Metadata: "revision 12"})
	if err := admin(t, e).CommitAllOffsets(ctx, "g", at); err != nil {
		t.Fatal(err)
	}
	ids, err := TopicIDs(ctx, admin(t, e), spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	closeEngine(t, e)
	closeEngine(t, e)
	for _, f := range []string{addressFile, runningFile} {
		if _, err := os.Stat(filepath.Join(cfg.Data, f)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there after a clean stop (%v)", f, err)
		}
	}

	e = open(t, cfg, Own)
	if e.Recovery() != (Recovery{}) {
		t.Errorf("recovery %+v after a clean stop", e.Recovery())
	}
	got := committed(t, e, spec.Name)
	for p := range spec.Partitions {
		if !slices.Equal(got[p], want) {
			t.Errorf("partition %d has %q, want %q", p, got[p], want)
		}
	}
	again, err := TopicIDs(ctx, admin(t, e), spec.Name)
	if err != nil || again[spec.Name] != ids[spec.Name] {
		t.Errorf("topic id %v, was %v (%v)", again, ids, err)
	}
	offsets, err := admin(t, e).FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := offsets.Lookup(spec.Name, 0); !ok || o.At != 7 || o.Metadata != "revision 12" {
		t.Errorf("committed offset %+v", o)
	}
}

// Since KIP-890 each transaction has an epoch of its own; settling torn
// transactions rests on it.
func TestEpochPerTransaction(t *testing.T) {
	ctx := bounded(t)
	e := open(t, embedded(t.TempDir()), Own)
	ensure(t, e, TopicSpec{Name: "t", Partitions: 1})
	cl := producer(t, e, "p")
	epochs := make(map[int16]bool)
	for range 3 {
		if err := transact(ctx, cl, "t", 1, "v", kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		_, epoch, err := cl.ProducerID(ctx)
		if err != nil {
			t.Fatal(err)
		}
		epochs[epoch] = true
	}
	if len(epochs) != 3 {
		t.Errorf("three transactions had the epochs %v", epochs)
	}
}

// While one process owns the directory, a second owner is refused and another
// command attaches.
func TestOwnAndAttach(t *testing.T) {
	ctx := bounded(t)
	cfg := embedded(t.TempDir())
	e := open(t, cfg, Own)
	_, err := Open(ctx, cfg, discard, Own)
	for _, want := range []string{cfg.Data, "process " + strconv.Itoa(os.Getpid()), "stop that process"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v has no %q", err, want)
		}
	}
	attached := open(t, cfg, Attach)
	if attached.Owner() || !attached.Embedded() || !slices.Equal(attached.Brokers(), e.Brokers()) {
		t.Errorf("attached to %v as owner: %v; the owner is at %v", attached.Brokers(), attached.Owner(), e.Brokers())
	}
	if err := attached.Ready(ctx); err != nil {
		t.Error(err)
	}
	closeEngine(t, attached)
	if err := e.Ready(ctx); err != nil {
		t.Errorf("closing what attached stopped the engine: %v", err)
	}
	closeEngine(t, e)
	if alone := open(t, cfg, Attach); !alone.Owner() {
		t.Error("a command that finds no engine does not open the directory")
	}
}

// An owner that has the lock but serves nothing is waited for only as long as
// the caller allows.
func TestAttachBounded(t *testing.T) {
	cfg := embedded(t.TempDir())
	lock, err := takeLock(filepath.Join(cfg.Data, lockFile))
	if err != nil || lock == nil {
		t.Fatal(lock, err)
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, cfg, nil, Attach); err == nil || !strings.Contains(err.Error(), "serves no Kafka address") {
		t.Errorf("error %v", err)
	}
}

func TestDiskReserve(t *testing.T) {
	cfg := embedded(t.TempDir())
	cfg.Reserve = 1000
	e := open(t, cfg, Own)
	if free, _, err := e.DiskFree(); err != nil || free == 0 {
		t.Errorf("the real disk has %d free (%v)", free, err)
	}
	for _, test := range []struct {
		free uint64
		err  error
		low  bool
	}{{free: 999, low: true}, {free: 1000}, {free: 1 << 40}, {err: os.ErrPermission, low: true}} {
		e.statfs = func(dir string) (uint64, error) {
			if dir != cfg.Data {
				t.Errorf("asked about %s", dir)
			}
			return test.free, test.err
		}
		free, low, err := e.DiskFree()
		if free != test.free || low != test.low || !errors.Is(err, test.err) {
			t.Errorf("with %d free and error %v: free %d, low %v, error %v", test.free, test.err, free, low, err)
		}
	}
	cfg = Defaults()
	cfg.Engine, cfg.Brokers = EngineKafka, []string{"127.0.0.1:1"}
	if _, low, err := open(t, cfg, Own).DiskFree(); low || err != nil {
		t.Errorf("a cluster's disk: low %v, error %v", low, err)
	}
}

// A write that fails shows in Err, and the directory counts as not closed
// cleanly.
func TestFailedWrite(t *testing.T) {
	ctx := bounded(t)
	cfg := embedded(t.TempDir())
	e := open(t, cfg, Own)
	ensure(t, e, TopicSpec{Name: "t", Partitions: 1})
	if e.Err() != nil {
		t.Fatal(e.Err())
	}
	// Where the partition's directory is to be there is a file.
	partitions := filepath.Join(cfg.Data, engineDir, "partitions")
	if err := os.RemoveAll(partitions); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(partitions, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cl := client(t, e, kgo.RecordRetries(0))
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err == nil {
		t.Error("a record that could not be written was acknowledged")
	}
	if e.Err() == nil {
		t.Error("the failed write does not show")
	}
	if err := e.Close(); err == nil || !strings.Contains(err.Error(), "did not stop cleanly") {
		t.Errorf("closing: %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, runningFile)); err != nil {
		t.Errorf("the mark of an unclean stop is gone: %v", err)
	}
}

func TestOpenFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := embedded(t.TempDir())
	busy.Listen = taken.Addr().String()
	noCA := Defaults()
	noCA.Engine, noCA.Brokers, noCA.TLS.CAFile = EngineKafka, []string{"h:1"}, file
	noPass := Defaults()
	noPass.Engine, noPass.Brokers = EngineKafka, []string{"h:1"}
	noPass.SASL = SASL{Mechanism: ScramSHA512, Username: "u", PasswordFile: file}
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"directory is a file": {embedded(file), "data directory"},
		"port taken":          {busy, busy.Listen},
		"no certificate":      {noCA, "tls.ca_file"},
		"empty password":      {noPass, "sasl.password_file"},
		"invalid":             {Config{}, "engine"},
	} {
		if _, err := Open(bounded(t), test.cfg, nil, Own); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
	// A failed start lets go of the directory.
	busy.Listen = "127.0.0.1:0"
	closeEngine(t, open(t, busy, Own))
}

func TestReadyNamesBrokers(t *testing.T) {
	cfg := Defaults()
	cfg.Engine, cfg.Brokers = EngineKafka, []string{"127.0.0.1:1"}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := open(t, cfg, Own).Ready(ctx)
	for _, want := range []string{"127.0.0.1:1", "check brokers"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v has no %q", err, want)
		}
	}
}
