package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/providers/synthetic"
)

// newEmbedded is a rig on the embedded engine, at an address that it keeps.
func newEmbedded(t *testing.T) *rig {
	t.Helper()
	if os.Getenv("DATAFORDELER_NO_KAFKA") == "1" {
		t.Skip("DATAFORDELER_NO_KAFKA=1: there may be no kcat to read back with")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	r := &rig{t: t, dir: t.TempDir(), group: group, topics: kafka.Topics{}, brokers: []string{address}}
	r.config = filepath.Join(r.dir, "broker.yaml")
	r.writeConfig(r.config, nil, "")
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	// The engine takes no shorter session.
	text = []byte(strings.Replace(string(text), "session_timeout: 3s", "session_timeout: 6s", 1))
	text = []byte(strings.Replace(string(text), "engine: kafka\nbrokers: []", fmt.Sprintf("engine: embedded\ndata: %s\nlisten: %s", filepath.Join(r.dir, "data"), address), 1))
	if err := os.WriteFile(r.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r.connect()
	r.register()
	return r
}

// consumed is what the consumer SDK hands out of a mailbox, by delivery id.
func (r *rig) consumed(mailbox string) (n int, ids map[string]int) {
	r.t.Helper()
	ids = map[string]int{}
	for line := range strings.Lines(r.run("", "consume", "--mailbox", mailbox, "--from", "beginning")) {
		var d struct{ ID string }
		if !strings.HasPrefix(line, "{") {
			continue // counts, on standard error
		}
		if err := json.Unmarshal([]byte(line), &d); err != nil || d.ID == "" {
			r.t.Fatalf("consume printed %.200q: %v", line, err)
		}
		ids[d.ID]++
		n++
	}
	return n, ids
}

// On the embedded engine, what was published is decided whatever is killed
// when. Should a kill make something be delivered twice, it has the same
// delivery id, and the consumer SDK hands it out once.
func TestTortureEmbedded(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	factor, _ := longer(t)
	people := 20_000 * factor
	r := newEmbedded(t)
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	r.openSubjects(g, people)
	items, known := plan(rnd, g, people)

	acts := []act{leave, leave}
	for range 6 * factor {
		acts = append(acts, killAndRestart)
	}
	rnd.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	running := []*instance{r.serve(0, r.config)}
	p := r.publisher()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	for n, a := range acts {
		sent := make(chan error, 1)
		go func() { sent <- p.send(ctx, items[len(items)*n/len(acts):len(items)*(n+1)/len(acts)]) }()
		chaos(t, rnd, r, running, a)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	r.drain(3 * time.Minute)
	// The engine goes with the process, so it is read back while it runs.
	a := r.audit(g, known)
	a.run(p.sent)
	r.evident(a)

	delivered := map[string]int{}
	all := 0
	for b := range deliveryBuckets {
		for _, m := range r.kcat(r.topics.Deliveries(), b) {
			if m.headers["ce_mailbox"] == "ssb-boligstatistikk" {
				delivered[m.headers["ce_id"]]++
				all++
			}
		}
	}
	n, ids := r.consumed("ssb-boligstatistikk")
	if n != len(ids) || len(ids) != len(delivered) {
		t.Errorf("the consumer SDK hands out %d deliveries with %d ids; %d with %d ids stand in the mailbox", n, len(ids), all, len(delivered))
	}
	running[0].term()
}

// A clean stop and start loses and repeats nothing, and a directory in use is
// said to be.
func TestEmbeddedStopAndStart(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	r := newEmbedded(t)
	const people = 12_000
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	r.openSubjects(g, people)
	items, known := plan(rnd, g, people)
	i := r.serve(0, r.config)
	p := r.publisher()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	const stops = 4
	for n := range stops {
		if err := p.send(ctx, items[len(items)*n/stops:len(items)*(n+1)/stops]); err != nil {
			t.Fatal(err)
		}
		i.busy(30 * time.Second)
		if n == 0 {
			out, err := r.try("", "serve")
			if err == nil || !strings.Contains(out, "is in use by process") {
				t.Errorf("a second owner of the data directory: %v\n%s", err, out)
			}
		}
		i.term()
		i = r.serve(0, r.config)
	}
	r.drain(2 * time.Minute)
	a := r.audit(g, known)
	a.run(p.sent)
	r.evident(a)
	i.term()
}

// The only Kafka node is killed while records flow. No instance ends for it,
// and all is decided and delivered once.
func TestTortureKafkaKilled(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	factor, _ := longer(t)
	people := 20_000 * factor
	cluster := kafkatest.Start(t, kafkatest.Options{})
	r := newRig(t, cluster, "k.")
	r.manySessions()
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	r.openSubjects(g, people)
	items, known := plan(rnd, g, people)
	running := []*instance{r.serve(0, r.config), r.serve(1, r.config)}
	p := r.publisher()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	kills := 3 * factor
	for n := range kills {
		sent := make(chan error, 1)
		go func() { sent <- p.send(ctx, items[len(items)*n/kills:len(items)*(n+1)/kills]) }()
		running[rnd.IntN(2)].busy(40 * time.Second)
		time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond) // the random moment
		cluster.Kill(0)
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		cluster.Restart(t, 0)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	r.drain(3 * time.Minute)
	a := r.audit(g, known)
	a.run(p.sent)
	r.evident(a)
	for _, i := range running {
		i.term()
	}
}
