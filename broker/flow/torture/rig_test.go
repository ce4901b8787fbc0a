// Package torture_test holds the broker to its promises with real processes:
// the built binary, run as instances of one group on real Apache Kafka and on
// the embedded engine, killed, frozen and cut off at random moments. What they
// leave behind is read back by kcat, a client of another make, and compared
// with what an oracle in plain Go says.
//
// DATAFORDELER_SEED repeats a run; DATAFORDELER_TORTURE makes it longer: a
// duration such as 10m, or 1 for a longer run of the usual shape.
package torture_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/broker/keys"
	"datafordeler/deploy/demo"
)

var program string // the broker, built once

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "datafordeler-torture-")
	if err == nil {
		program = filepath.Join(dir, "datafordeler")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", program, "datafordeler/cmd/datafordeler").CombinedOutput(); err != nil {
			err = fmt.Errorf("building the broker: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := kafkatest.Main(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// newRand is seeded by DATAFORDELER_SEED, or anew; the seed is in the log.
func newRand(t *testing.T) (*rand.Rand, uint64) {
	seed := rand.Uint64() % 1_000_000
	if s := os.Getenv("DATAFORDELER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("DATAFORDELER_SEED: %v", err)
		}
	}
	t.Logf("seed %d (DATAFORDELER_SEED=%d repeats it)", seed, seed)
	return rand.New(rand.NewPCG(seed, 7)), seed
}

// longer is how much longer than in an ordinary test run to go on: a factor,
// and a duration where one was named.
func longer(t *testing.T) (factor int, d time.Duration) {
	switch v := os.Getenv("DATAFORDELER_TORTURE"); v {
	case "":
		return 1, 0
	case "1":
		return 5, 0
	default:
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("DATAFORDELER_TORTURE: %v", err)
		}
		return 1, d
	}
}

const (
	sessionTimeout     = 3 * time.Second
	transactionTimeout = 5 * time.Second
	sourcePartitions   = 6
	deliveryBuckets    = 4
	window             = 5_000 // small, so that its edge is met and its rebuild is at work
	ceiling            = 2_000
	group              = "torture"
)

// rig is one broker's set-up: its configuration, registry, keys and topics.
type rig struct {
	t        *testing.T
	dir      string
	config   string // the file; embedded: ""
	data     string // embedded: the data directory
	brokers  []string
	sessions int  // of an instance; 0 is one, so that what is cut off is all that it does
	patient  bool // transactions that nobody ends stay open for long
	prefix   string
	topics   kafka.Topics
	group    string
	ring     *keys.Ring
	adm      *kadm.Client
	people   int
	seed     uint64

	mu        sync.Mutex
	instances []*instance
}

// newRig registers the demo, with a larger ceiling, on a Kafka.
func newRig(t *testing.T, cluster *kafkatest.Cluster, prefix string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), prefix: prefix, topics: kafka.Topics{Prefix: prefix}, group: prefix + group}
	r.config = filepath.Join(r.dir, "broker.yaml")
	r.brokers = cluster.Brokers()
	r.writeConfig(r.config, r.brokers, "")
	r.connect()
	// A cluster that has never had a group makes its offsets topic first.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if !until(time.Minute, func() bool { _, err := r.adm.DescribeGroups(ctx, r.group); return err == nil }) {
		t.Fatal("Kafka has no group coordinator")
	}
	r.register()
	return r
}

// writeConfig writes a configuration that reaches Kafka at brokers.
func (r *rig) writeConfig(path string, brokers []string, extra string) {
	r.t.Helper()
	timeout := transactionTimeout
	if r.patient {
		timeout = 10 * time.Minute
	}
	text := fmt.Sprintf(`engine: kafka
brokers: [%s]
prefix: %q
source_partitions: %d
delivery_buckets: %d
keystore: {path: %s}
intake: {window: %d}
flow:
  group: %s
  sessions: %d
  max_records: 1000
  session_timeout: %s
  transaction_timeout: %s
store: {dsn: "sqlite:%s"}
http: {listen: "127.0.0.1:0"}
%s`, strings.Join(brokers, ", "), r.prefix, sourcePartitions, deliveryBuckets, filepath.Join(r.dir, "torture.keys"), window,
		r.group, max(1, r.sessions), sessionTimeout, timeout, filepath.Join(r.dir, "decisions.db"), extra)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// manySessions gives the instances that are started from now on two sessions each.
func (r *rig) manySessions() {
	r.sessions = 2
	r.writeConfig(r.config, r.brokers, "")
}

// register applies policy and registry by the command line.
func (r *rig) register() {
	r.t.Helper()
	files := filepath.Join(r.dir, "registry")
	if err := os.CopyFS(files, demo.Files); err != nil {
		r.t.Fatal(err)
	}
	agreements := filepath.Join(files, "agreements.yaml")
	text, err := os.ReadFile(agreements)
	if err != nil {
		r.t.Fatal(err)
	}
	raised := bytes.Replace(text, []byte("ceiling: 40}"), fmt.Appendf(nil, "ceiling: %d}", ceiling), 1)
	if bytes.Equal(raised, text) {
		r.t.Fatal("the demo's ceiling of 40 is not where it was")
	}
	if err := os.WriteFile(agreements, raised, 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.run("", "policy", "activate", "--actor", "torture")
	r.run("", "registry", "apply", "-f", files, "--actor", "torture")
	// A command that needs the keys makes them.
	r.run("", "registry", "case", "open", "--subscription", "oslo-sosialhjelp", "--actor", "torture")
	keystore := filepath.Join(r.dir, "torture.keys")
	if r.data != "" {
		keystore = r.data + ".keys"
	}
	if r.ring, _, err = keys.OpenOrCreate(keystore, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) connect() {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.DisableClientMetrics())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	r.adm = kadm.NewClient(cl)
}

// run runs a command of the broker's to its end and gives its output.
func (r *rig) run(stdin string, args ...string) string {
	r.t.Helper()
	out, err := r.try(stdin, args...)
	if err != nil {
		r.t.Fatalf("datafordeler %v: %v\n%s", args, err, out)
	}
	return out
}

func (r *rig) try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if r.config != "" {
		args = append(args, "--config", r.config)
	} else {
		args = append(args, "--data", r.data)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// instance is a running `datafordeler serve`.
type instance struct {
	r      *rig
	slot   int
	config string
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
	wanted bool // it is being ended by the test; guarded by r.mu
	frozen bool
}

// serve starts an instance in a slot.
func (r *rig) serve(slot int, config string) *instance {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	i := &instance{r: r, slot: slot, config: config, log: filepath.Join(r.dir, fmt.Sprintf("slot%d-%d.log", slot, len(r.instances))), exited: make(chan struct{})}
	log, err := os.Create(i.log)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	i.cmd = exec.Command(program, "serve", "--config", config)
	i.cmd.Dir = filepath.Join(r.dir, fmt.Sprintf("slot%d", slot)) // with its own index of positions
	if err := os.MkdirAll(i.cmd.Dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	i.cmd.Env = append(os.Environ(), fmt.Sprintf("DATAFORDELER_SLOT=%d", slot))
	i.cmd.Stdout, i.cmd.Stderr = log, log
	dieWithParent(i.cmd)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the kernel looks at the thread that started it; it goes with this function
		err := i.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = i.cmd.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if !i.wanted {
			r.t.Errorf("slot %d ended by itself: %v\n%s", slot, err, i.tail())
		}
		close(i.exited)
	}()
	if err := <-started; err != nil {
		r.t.Fatal(err)
	}
	r.instances = append(r.instances, i)
	r.t.Cleanup(i.kill)
	return i
}

func (i *instance) tail() string {
	b, _ := os.ReadFile(i.log)
	return string(b[max(0, len(b)-4000):])
}

func (i *instance) want() {
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	i.wanted = true
}

// kill is kill -9.
func (i *instance) kill() {
	i.want()
	_ = i.cmd.Process.Kill() // it may have ended already
	<-i.exited
}

// term asks it to leave, and holds it to a clean end.
func (i *instance) term() {
	i.r.t.Helper()
	i.want()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		i.r.t.Errorf("slot %d: SIGTERM: %v", i.slot, err)
	}
	select {
	case <-i.exited:
	case <-time.After(time.Minute):
		i.r.t.Errorf("slot %d did not end within a minute of SIGTERM\n%s", i.slot, i.tail())
		i.kill()
		return
	}
	if !i.cmd.ProcessState.Success() {
		i.r.t.Errorf("slot %d ended after SIGTERM with %v\n%s", i.slot, i.cmd.ProcessState, i.tail())
	}
}

func (i *instance) signal(s syscall.Signal) {
	if err := i.cmd.Process.Signal(s); err != nil {
		i.r.t.Errorf("slot %d: %v: %v", i.slot, s, err)
	}
}

var httpAddress = regexp.MustCompile(`msg=serving .*http=(127\.0\.0\.1:\d+)`)

// transactions is how many the instance has committed, by its own metrics; −1
// while it does not answer.
func (i *instance) transactions() int {
	log, err := os.ReadFile(i.log)
	if err != nil {
		return -1
	}
	m := httpAddress.FindSubmatch(log)
	if m == nil {
		return -1
	}
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://" + string(m[1]) + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(body)) {
		if v, ok := strings.CutPrefix(line, "datafordeler_transaction_records_count "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return -1
}

// busy waits until the instance commits transactions, or until limit.
func (i *instance) busy(limit time.Duration) bool {
	return until(limit, func() bool { return i.transactions() > 0 || i.r.t.Failed() })
}

// until asks again and again, at most for limit.
func until(limit time.Duration, ready func() bool) bool {
	deadline := time.Now().Add(limit)
	for !ready() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

// lag is how many records no committed offset has passed; −1 where offsets are
// not settled.
func (r *rig) lag(ctx context.Context) (lag int64) {
	sources := []string{r.topics.Source("inntekt"), r.topics.Source("eiendomsskatt")}
	ends, err := r.adm.ListCommittedOffsets(ctx, sources...)
	if err != nil || ends.Error() != nil {
		return -1
	}
	committed, err := r.adm.FetchOffsetsForTopics(kadm.RequireStable(ctx), r.group, sources...)
	if err != nil || committed.Error() != nil {
		return -1
	}
	ends.Each(func(e kadm.ListedOffset) {
		at := int64(0)
		if o, ok := committed.Lookup(e.Topic, e.Partition); ok && o.At > 0 {
			at = o.At
		}
		lag += e.Offset - at
	})
	return lag
}

// drain waits until everything published is decided, and whoever is to be told of it is.
func (r *rig) drain(limit time.Duration) {
	r.t.Helper()
	r.decided(limit)
	// Notices wait for the index of positions, which each instance makes of all there is.
	var left string
	if !until(3*limit, func() bool {
		out, err := r.try("", "backfill")
		left = out
		return err == nil && strings.Contains(out, "nothing is left") || r.t.Failed()
	}) {
		for _, i := range r.instances {
			if !i.wanted {
				r.t.Logf("slot %d:\n%s", i.slot, i.tail())
			}
		}
		r.t.Fatalf("what is owed beside the stream is not decided after %v:\n%s", 3*limit, left)
	}
}

// decided waits until the stream has decided everything published.
func (r *rig) decided(limit time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	last := int64(-1)
	if !until(limit, func() bool { last = r.lag(ctx); return last == 0 || r.t.Failed() }) {
		for _, i := range r.instances {
			if !i.wanted {
				r.t.Logf("slot %d:\n%s", i.slot, i.tail())
			}
		}
		if r.data == "" {
			r.t.Log(r.diagnosis())
		}
		r.t.Fatalf("%d records are not decided after %v", last, limit)
	}
	if r.t.Failed() {
		r.t.FailNow() // an instance ended: it will not be drained
	}
}

// all is the instance's whole log.
func (i *instance) all() string {
	b, _ := os.ReadFile(i.log)
	return string(b)
}
