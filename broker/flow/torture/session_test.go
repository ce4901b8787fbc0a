package torture_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/providers/synthetic"
)

// An instance that is killed with its offsets pending leaves its partitions to
// nobody until the transaction ends. Started again in the same slot it ends that
// itself, at once, and does not wait for Kafka to do it in its time.
func TestTortureSlotEndsItsTransaction(t *testing.T) {
	t.Parallel()
	_, seed := newRand(t)
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	r.patient = true
	front := newProxy(t, r.brokers[0])
	behind := r.config + ".proxied"
	r.writeConfig(behind, []string{front.address()}, "")
	r.writeConfig(r.config, r.brokers, "")
	g := synthetic.New(synthetic.Config{People: 10, Seed: seed})
	i := r.serve(0, behind)
	r.members(1)
	r.drain(time.Minute)
	sprung := front.set(keyEndTxn, false)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	// One person's records, so that one partition alone has any.
	if err := r.publisher().send(ctx, []item{{"inntekt", g.Income(nil, 1), false}, {"inntekt", g.Correction(1), false}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sprung:
	case <-ctx.Done():
		t.Fatal("no transaction came to its end")
	}
	i.kill()
	again := r.serve(0, r.config)
	r.drain(2 * time.Minute) // the transaction would stay open for ten
	again.term()
	r.contiguous()
}

// What Kafka will never accept ends the instance with what to change, rather
// than have it try for ever.
func TestRefusedTimeoutStops(t *testing.T) {
	t.Parallel()
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	long := r.config + ".long"
	if err := os.WriteFile(long, []byte(strings.Replace(string(text), "session_timeout: 3s", "session_timeout: 24h", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	i := r.serve(0, long)
	i.want()
	select {
	case <-i.exited:
	case <-time.After(time.Minute):
		t.Fatalf("it goes on\n%s", i.tail())
	}
	if i.cmd.ProcessState.Success() || !strings.Contains(i.tail(), "session_timeout: Kafka does not take 24h") {
		t.Errorf("it ended with %v\n%s", i.cmd.ProcessState, i.tail())
	}
}
