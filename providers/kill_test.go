package providers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/keys"
	"datafordeler/providers"
	"datafordeler/providers/internal/apitest"
)

func TestMain(m *testing.M) {
	if brokers := os.Getenv("PUBLISHER_CHILD"); brokers != "" {
		fmt.Fprintln(os.Stderr, publishUntilKilled(brokers, os.Getenv("PUBLISHER_PROGRESS")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// publishUntilKilled goes on after the last event that it was told is durable.
func publishUntilKilled(brokers, progress string) error {
	p, err := providers.New(providers.Config{Brokers: strings.Split(brokers, ","), Dataset: "inntekt", Source: "urn:test", Type: "t", Subject: "/norskident", BatchSize: 3})
	if err != nil {
		return err
	}
	next := 0
	if b, err := os.ReadFile(progress); err == nil {
		if next, err = strconv.Atoi(string(b)); err != nil {
			return err
		}
	}
	for {
		var events []providers.Event
		for i := next; i < next+11; i++ {
			events = append(events, income(i%5, i/5))
		}
		if err := p.Publish(context.Background(), events...); err != nil {
			continue // the same ones again, in the same order
		}
		next += len(events)
		if err := errors.Join(os.WriteFile(progress+".new", []byte(strconv.Itoa(next)), 0o600), os.Rename(progress+".new", progress)); err != nil {
			return err
		}
	}
}

// The process that publishes over Kafka is killed again and again, during retries as
// well: after intake nothing is lost, doubled or out of order for any subject.
func TestPublisherKilled(t *testing.T) {
	c := cluster(t)
	var (
		mu     sync.Mutex
		random = rand.New(rand.NewPCG(rand.Uint64(), 7))
		left   int
		kill   func()
	)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		left--
		switch {
		case left == 0 && random.IntN(2) == 0:
			kill() // and what it sent is written
			return nil, nil, false
		case left == 0:
			kill()
			return nil, errors.New("hang up"), true
		case random.IntN(4) == 0:
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut}) // written, and it does not say so
		case random.IntN(6) == 0:
			return nil, errors.New("hang up"), true
		}
		return nil, nil, false
	})
	progress := filepath.Join(t.TempDir(), "progress")
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PUBLISHER_CHILD="+strings.Join(c.ListenAddrs(), ","), "PUBLISHER_PROGRESS="+progress)
		cmd.Stderr = os.Stderr
		mu.Lock()
		left = 1 + random.IntN(20)
		kill = func() { _ = cmd.Process.Kill() }
		err := cmd.Start()
		mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	b, err := os.ReadFile(progress)
	if err != nil {
		t.Fatal(err)
	}
	told, _ := strconv.Atoi(string(b))

	ds := apitest.Income()
	compiled, err := intake.Compile(&ds, intake.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	windows := map[int32]*intake.Window{}
	var rec broker.Record
	var doc jsondoc.Doc
	next, repeats := map[int]int{}, 0
	for _, r := range read(t, c) {
		msg := intake.Message{Position: broker.Position{Partition: r.Partition, Offset: r.Offset}, Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value}
		if no := compiled.Accept(&msg, keys.NewTest(1), &rec, &doc); no != nil {
			t.Fatal(no)
		}
		if windows[r.Partition] == nil {
			windows[r.Partition] = intake.NewWindow(intake.Defaults())
		}
		if windows[r.Partition].Check(rec.Event, rec.Content, r.Offset, r.Timestamp) != intake.Fresh {
			repeats++
			continue
		}
		var who, n int
		fmt.Sscanf(header(r, "ce_id"), "%d-%d", &who, &n)
		if n != next[who] {
			t.Fatalf("subject %d: %d comes where %d is due", who, n, next[who])
		}
		next[who]++
	}
	t.Logf("%d events known to be durable, %d repeats dropped", told, repeats)
	if told == 0 || repeats == 0 {
		t.Error("the kills came too early for this to show anything")
	}
	for i := range told {
		if next[i%5] <= i/5 {
			t.Fatalf("event %d, which was said to be durable, is not there", i)
		}
	}
}
