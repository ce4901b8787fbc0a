package torture_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/providers/synthetic"
)

// act is something done to two instances while records flow.
type act int

const (
	killAndRestart act = iota // kill -9, started again at once
	killAndWait               // started again after the group has noticed
	freeze                    // stopped for longer than its session, then woken
	leave                     // SIGTERM, then started again
)

func (a act) String() string {
	return [...]string{"kill -9, restart at once", "kill -9, restart later", "SIGSTOP past the session, SIGCONT", "SIGTERM, restart"}[a]
}

// chaos does something to one of the instances.
func chaos(t *testing.T, rnd *rand.Rand, r *rig, running []*instance, a act) {
	n := rnd.IntN(len(running))
	i := running[n]
	if !i.busy(40 * time.Second) {
		t.Logf("slot %d has no transactions yet", i.slot)
	}
	time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond) // the random moment
	t.Logf("slot %d: %v, after %d transactions", i.slot, a, i.transactions())
	switch a {
	case killAndRestart:
		i.kill()
		running[n] = r.serve(i.slot, i.config)
	case killAndWait:
		i.kill()
		time.Sleep(sessionTimeout/2 + time.Duration(rnd.IntN(int(sessionTimeout))))
		running[n] = r.serve(i.slot, i.config)
	case freeze:
		i.signal(syscall.SIGSTOP)
		time.Sleep(sessionTimeout + 2*time.Second)
		i.signal(syscall.SIGCONT)
	case leave:
		i.term()
		running[n] = r.serve(i.slot, i.config)
	}
}

// Two instances are killed, frozen and restarted while 200,000 records flow,
// and half-way consents are withdrawn. Everything is decided once and delivered
// once, and nothing but what the rights packages allow.
func TestTortureExactlyOnce(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	factor, limit := longer(t)
	people := 137_000 * factor
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	r.manySessions()
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	r.openSubjects(g, people)
	items, known := plan(rnd, g, people)
	begun := time.Now()

	acts := []act{freeze, leave, leave}
	for range 10 * factor {
		acts = append(acts, act(rnd.IntN(2)))
	}
	rnd.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	running := []*instance{r.serve(0, r.config), r.serve(1, r.config)}
	p := r.publisher()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute+limit)
	defer cancel()
	var first, last broker.Revision
	for n, a := range acts {
		if limit > 0 && time.Since(begun) > limit {
			break
		}
		part := items[len(items)*n/len(acts) : len(items)*(n+1)/len(acts)]
		sent := make(chan error, 1)
		go func() { sent <- p.send(ctx, part) }()
		chaos(t, rnd, r, running, a)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.FailNow()
		}
		if n == len(acts)/2 {
			first, last = r.withdraw(g, people)
		}
	}
	published := time.Since(begun)
	r.drain(3 * time.Minute)
	t.Logf("%d records published in %v with %d interventions, drained in %v more", p.sent, published.Round(time.Second), len(acts), (time.Since(begun) - published).Round(time.Second))
	a := r.audit(g, known)
	a.withdrawn = [2]broker.Revision{first, last}
	a.run(p.sent)
	r.evident(a)
	for _, i := range running {
		i.term()
	}
	t.Logf("the audit ended after %v in all", time.Since(begun).Round(time.Second))
}

// withdraw withdraws consents by the command line, which returns when that
// binds, and gives the revisions of the first and the last withdrawal.
func (r *rig) withdraw(g *synthetic.Generator, people int) (first, last broker.Revision) {
	r.t.Helper()
	list, n := ids(g, people, func(i int, _ synthetic.Person) bool { return withdraws(i) })
	out := r.run(list, r.consent("withdraw", "--wait", "1m")...)
	for line := range strings.Lines(r.run("", "registry", "log", "--json")) {
		var e struct {
			Accepted bool
			Event    struct {
				Seq  broker.Revision
				Type string
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatalf("registry log: %v", err)
		}
		if e.Accepted && e.Event.Type == "consent.withdrawn" {
			if first == 0 {
				first = e.Event.Seq
			}
			last = e.Event.Seq
		}
	}
	r.t.Logf("%d consents withdrawn, revisions %d to %d: %s", n, first, last, strings.ReplaceAll(strings.TrimSpace(out), "\n", "; "))
	if first == 0 {
		r.t.Error("no withdrawal stands in the registry's log")
	}
	return first, last
}
