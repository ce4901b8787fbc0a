package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
	"datafordeler/broker/web"
	"datafordeler/providers"
)

// frozenDoors are three instances on Apache Kafka, as processes, and all doors to what
// concerns one person: two mailboxes, one that is fetched and one that is sent, what is
// looked up, and what a new case brings of earlier records.
type frozenDoors struct {
	*hooked
	instances []*instance
	owner     string // the consumer's token
	client    *kgo.Client
	topic     string // of the deliveries
	rnd       *rand.Rand

	acknowledged atomic.Int64 // the round whose withdrawal stands and binds; 0: all is in order
	given        [3][2]atomic.Int64
	refused      [3][2]atomic.Int64
}

const (
	fetched = iota
	lookedUpDoor
)

// theirs are the subscriptions, all of one agreement. The last only looks up.
var theirs = []string{"oslo-sosialhjelp", "oslo-feed", "oslo-oppslag"}

const frozenYAML = `kind: mailbox
id: oslo-feed
organisation: "958935420"
client: test
channel: feed
---
kind: subscription
id: oslo-feed
agreement: oslo-sosialhjelp
mailbox: oslo-feed
scope: {kind: listed}
catchUp: 200
---
kind: subscription
id: oslo-oppslag
agreement: oslo-sosialhjelp
lookup: true
scope: {kind: listed}
`

func newFrozenDoors(t *testing.T, limit time.Duration, seed uint64) *frozenDoors {
	d := &frozenDoors{hooked: newHooked(t, limit), rnd: rand.New(rand.NewPCG(seed, 1))}
	d.command("", "registry", "apply", "--actor", "test", "-f", d.file("more.yaml", frozenYAML))
	base := d.cfg
	for _, slot := range []string{"a", "b", "c"} {
		d.cfg = base
		d.cfg.Store.DSN, d.cfg.Positions.Path = "sqlite:"+d.dir+"/decisions-"+slot+".db", d.dir+"/positions-"+slot+".db"
		d.instances = append(d.instances, d.serve(slot))
	}
	d.base = d.instances[0].api
	d.owner = d.claimed(osloNumber)
	var err error
	if d.client, err = kgo.NewClient(kgo.SeedBrokers(d.cfg.Brokers...), kgo.DisableClientMetrics()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.client.Close)
	d.topic = d.cfg.Config.Topics().Deliveries()

	endpoint := httptest.NewServer(d)
	t.Cleanup(endpoint.Close)
	d.mu.Lock() // nothing comes before the secret is known
	var set struct {
		web.WebhookView
		Secret string
	}
	d.ask(201, http.MethodPut, "/webhook", `{"url":"`+endpoint.URL+`/"}`, &set)
	d.secret = set.Secret
	d.mu.Unlock()
	d.ask(200, http.MethodPost, "/webhook/challenge", "", nil)
	return d
}

// claimed is a token that lasts as long as the test.
func (d *frozenDoors) claimed(org string) string {
	c := d.claims(org, "")
	c["exp"] = time.Now().Add(time.Hour).Unix()
	return d.token(c)
}

// at asks one instance. 0 is that nothing was answered.
func (d *frozenDoors) at(ctx context.Context, i *instance, token, method, path, body string, headers ...string) (int, string) {
	r := *d.apiRig
	r.base = i.api
	code, _, text := r.call(ctx, token, method, path, body, headers...)
	return code, text
}

// knock asks at a door of an instance, and says how many it was given.
func (d *frozenDoors) knock(ctx context.Context, i, door int) (given int, answered bool) {
	var code int
	var text, what string
	switch door {
	case fetched:
		code, text = d.at(ctx, d.instances[i], d.owner, http.MethodGet, "/feeds/oslo-feed?limit=50", "")
		what = `"specversion"`
	case lookedUpDoor:
		code, text = d.at(ctx, d.instances[i], d.owner, http.MethodPost, "/lookups", `{"subject":"`+d.people[0]+`","subscription":"oslo-oppslag"}`)
		what = `"outcome":"found"`
	}
	return strings.Count(text, what), code == http.StatusOK || code == http.StatusConflict
}

// traffic publishes on everybody and knocks at all doors, until ctx ends.
func (d *frozenDoors) traffic(ctx context.Context) {
	ctx, halt := context.WithCancel(ctx)
	var running sync.WaitGroup
	d.t.Cleanup(func() { halt(); running.Wait() })
	source := d.cfg.Config.Topics().Source("inntekt")
	running.Go(func() {
		pace := time.NewTicker(time.Millisecond) // a thousand a second
		defer pace.Stop()
		for n := 1; ctx.Err() == nil; n++ {
			p := n % len(d.people)
			d.client.Produce(ctx, &kgo.Record{Topic: source, Key: providers.HashKey("inntekt", d.people[p]), Value: []byte(d.line(p, n)),
				Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json")}}}, nil)
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	})
	for i := range d.instances {
		for door := range 2 {
			running.Go(func() {
				for ctx.Err() == nil {
					before := d.acknowledged.Load()
					given, answered := d.knock(ctx, i, door)
					switch {
					case ctx.Err() != nil:
						return
					case given > 0:
						// It was acknowledged before the question, and stands after the answer.
						if before != 0 && d.acknowledged.Load() == before {
							d.t.Errorf("instance %d, door %d: %d given after withdrawal %d was acknowledged", i, door, given, before)
						}
						d.given[i][door].Add(1)
					case answered:
						d.refused[i][door].Add(1)
					}
				}
			})
		}
	}
}

var deliveredMetric = regexp.MustCompile(`(?m)^datafordeler_deliveries_total\{subscription="oslo-feed"\} (\S+)$`)

// delivered counts what an instance has delivered into the mailbox.
func (d *frozenDoors) delivered(i *instance) (n float64) {
	d.t.Helper()
	resp, err := http.Get(i.metrics)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if m := deliveredMetric.FindSubmatch(b); m != nil {
		if n, err = strconv.ParseFloat(string(m[1]), 64); err != nil {
			d.t.Fatal(err)
		}
	}
	return n
}

// busy is the instance that delivers now.
func (d *frozenDoors) busy() (victim int) {
	d.t.Helper()
	last := make([]float64, len(d.instances))
	for i, x := range d.instances {
		last[i] = d.delivered(x)
	}
	d.poll("an instance delivers", func() bool {
		for i, x := range d.instances {
			if d.delivered(x) > last[i] {
				victim = i
				return true
			}
		}
		return false
	})
	return victim
}

// reached is where the deliveries were when a withdrawal was acknowledged: what is committed
// ends at stable, and what is written at most before high.
type reached struct{ stable, high map[int32]int64 }

func (d *frozenDoors) note() (s reached) {
	d.t.Helper()
	adm := kadm.NewClient(d.client)
	stable, err := kafka.CommittedEnds(d.ctx, adm, d.topic)
	if err != nil {
		d.t.Fatal(err)
	}
	high, err := adm.ListEndOffsets(d.ctx, d.topic)
	if err != nil || high.Error() != nil {
		d.t.Fatal(err, high.Error())
	}
	s = reached{maps.Clone(stable[d.topic]), map[int32]int64{}}
	high.Each(func(o kadm.ListedOffset) { s.high[o.Partition] = o.Offset })
	return s
}

// committedAfter counts their deliveries whose transaction was committed after a place was
// noted: those that were written before are told by where their marker lies.
func (d *frozenDoors) committedAfter(s reached) (after map[string]int, seen int) {
	d.t.Helper()
	end := d.note()
	offsets := map[int32]kgo.Offset{}
	left := 0
	for p, from := range s.stable {
		if end.stable[p] > from {
			offsets[p] = kgo.NewOffset().At(from)
			left++
		}
	}
	after = map[string]int{}
	if left == 0 {
		return after, 0
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.cfg.Brokers...), kgo.DisableClientMetrics(), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{d.topic: offsets}))
	if err != nil {
		d.t.Fatal(err)
	}
	defer cl.Close()
	type writer struct {
		partition int32
		producer  int64
	}
	pending := map[writer]map[string]int{}
	done := map[int32]bool{}
	for len(done) < left {
		fetches := cl.PollFetches(d.ctx)
		if err := fetches.Err(); err != nil {
			d.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset >= end.stable[r.Partition] {
				done[r.Partition] = true
				return
			}
			w := writer{r.Partition, r.ProducerID}
			if r.Attrs.IsControl() {
				// A marker's key is its version and type; type 1 is a commit.
				if len(r.Key) >= 4 && r.Key[3] == 1 && r.Offset >= s.high[r.Partition] {
					for sub, n := range pending[w] {
						after[sub] += n
					}
				}
				delete(pending, w)
			} else {
				for _, h := range r.Headers {
					if h.Key == "ce_subscription" {
						if pending[w] == nil {
							pending[w] = map[string]int{}
						}
						pending[w][string(h.Value)]++
						seen++
					}
				}
			}
			if r.Offset == end.stable[r.Partition]-1 {
				done[r.Partition] = true
			}
		})
	}
	return after, seen
}

// caughtUp waits until all that is published by now is decided.
func (d *frozenDoors) caughtUp() {
	d.t.Helper()
	adm := kadm.NewClient(d.client)
	source := d.cfg.Config.Topics().Source("inntekt")
	ends, err := kafka.CommittedEnds(d.ctx, adm, source)
	if err != nil {
		d.t.Fatal(err)
	}
	d.poll("what was published is decided", func() bool {
		offsets, err := adm.FetchOffsetsForTopics(d.ctx, d.cfg.Flow.Group, source)
		if err != nil {
			return false
		}
		for p, end := range ends[source] {
			if o, ok := offsets.Lookup(source, p); end > 0 && (!ok || o.At < end) {
				return false
			}
		}
		return true
	})
}

func (d *frozenDoors) sent() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, a := range d.got {
		if strings.HasPrefix(a.tag, "0/") {
			n++
		}
	}
	return n
}

// TestTortureFrozenAtEveryDoor stops the process that owns a person's records, at a moment
// that nobody chose, and withdraws at another one what they are delivered by. When that is
// acknowledged, the process is let go on: nothing that relied on the old state is committed,
// fetched, sent or answered any more, by any of the three. For minutes where
// DATAFORDELER_TORTURE says so.
func TestTortureFrozenAtEveryDoor(t *testing.T) {
	rounds, limit := 1, 3*time.Minute
	switch v := os.Getenv("DATAFORDELER_TORTURE"); v {
	case "":
		if testing.Short() {
			t.Skip("it starts Apache Kafka and three instances")
		}
	default:
		rounds, limit = 12, 15*time.Minute
	}
	seed := rand.Uint64() % 1_000_000
	if s := os.Getenv("DATAFORDELER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d (DATAFORDELER_SEED=%d repeats it)", seed, seed)
	d := newFrozenDoors(t, limit, seed)
	skatt, drift := d.claimed(skattNumber), d.claimed("315555558")
	cases := 0
	// all asks an instance for one thing for each subscription, and waits until all bind.
	all := func(by *instance, token, path, body string, subs ...string) {
		t.Helper()
		var wait sync.WaitGroup
		for _, sub := range subs {
			wait.Go(func() {
				code, text := d.at(d.ctx, by, token, http.MethodPost, strings.ReplaceAll(path, "SUB", sub), body, "Prefer", "wait=30")
				if code != http.StatusOK {
					t.Errorf("POST %s: %d %s", path, code, text)
				}
			})
		}
		wait.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	openCases := func(by *instance) {
		cases++
		all(by, d.owner, "/subscriptions/SUB/cases", fmt.Sprintf(`{"id":"sak-%d","subject":%q}`, cases, d.people[0]), theirs...)
	}
	withdrawals := []struct {
		name          string
		take, restore func(by *instance)
	}{
		{"a case that is ended", func(by *instance) {
			all(by, d.owner, fmt.Sprintf("/subscriptions/SUB/cases/sak-%d/end", cases), "", theirs...)
		}, openCases},
		{"an agreement that is suspended", func(by *instance) { all(by, skatt, "/agreements/SUB/suspend", "", "oslo-sosialhjelp") },
			func(by *instance) { all(by, drift, "/agreements/SUB/resume", "", "oslo-sosialhjelp") }},
		{"a frozen organisation", func(by *instance) { all(by, drift, "/organisations/SUB/freeze", `{"why":"torture"}`, osloNumber) },
			func(by *instance) { all(by, drift, "/organisations/SUB/lift", `{"why":"torture"}`, osloNumber) }},
	}
	d.traffic(d.ctx)
	openCases(d.instances[0])
	for round := 1; round <= rounds; round++ {
		w := withdrawals[(round-1)%len(withdrawals)]
		var opened [3][2]int64
		for i := range d.instances {
			for door := range 2 {
				opened[i][door] = d.given[i][door].Load()
			}
		}
		sent := d.sent()
		d.poll("all doors are open", func() bool {
			for i := range d.instances {
				for door := range 2 {
					if d.given[i][door].Load() == opened[i][door] {
						return false
					}
				}
			}
			return d.sent() > sent
		})
		victim := d.busy()
		if w.name == "a case that is ended" && round > 1 { // its backfill is under way
			openCases(d.instances[victim])
		}
		moment := time.NewTimer(time.Duration(d.rnd.IntN(40_000)) * time.Microsecond)
		<-moment.C
		process := d.instances[victim].cmd.Process
		if err := process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		by := d.instances[(victim+1+d.rnd.IntN(2))%3]
		begun := time.Now()
		w.take(by)
		took := time.Since(begun)
		at, sent := d.note(), d.sent()
		d.acknowledged.Store(int64(round))
		var late sync.WaitGroup // questions to the frozen one, that lie there when it wakes
		for door := range 2 {
			late.Go(func() {
				if given, _ := d.knock(d.ctx, victim, door); given > 0 {
					t.Errorf("round %d, %s: the frozen instance gives %d at door %d when it wakes", round, w.name, given, door)
				}
			})
		}
		var shut [3][2]int64
		for i := range d.instances {
			for door := range 2 {
				shut[i][door] = d.refused[i][door].Load()
			}
		}
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		late.Wait()
		d.poll("all three refuse", func() bool {
			for i := range d.instances {
				for door := range 2 {
					if d.refused[i][door].Load() < shut[i][door]+2 {
						return false
					}
				}
			}
			return true
		})
		d.caughtUp()
		after, seen := d.committedAfter(at)
		for _, sub := range theirs {
			if after[sub] > 0 {
				t.Errorf("round %d, %s: %d deliveries of %s were committed after it was acknowledged", round, w.name, after[sub], sub)
			}
		}
		// One may have been on its way: a subject's deliveries are sent one after another.
		if more := d.sent() - sent; more > 1 {
			t.Errorf("round %d, %s: %d deliveries were sent after it was acknowledged", round, w.name, more)
		}
		d.acknowledged.Store(0)
		t.Logf("round %d, %s: instance %d frozen, acknowledged after %v; %d deliveries were not yet readable then or came later", round, w.name, victim, took.Round(time.Millisecond), seen)
		w.restore(d.instances[d.rnd.IntN(3)])
	}
}
