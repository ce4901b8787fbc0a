package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/providers/synthetic"
)

// another is a second instance beside a rig's: it has its own fold of the registry, its
// own writer, and its own door. It routes nothing.
func (r *apiRig) another() *apiRig {
	r.t.Helper()
	cfg := r.node.cfg
	cfg.API.Listen = "127.0.0.1:0"
	n, err := openNode(r.t.Context(), cfg, slog.New(slog.NewTextHandler(r.log, nil)), kafka.Attach, true)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(n.close)
	d, err := n.newDoors(n.newBroker(nil), nil, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := d.open(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(d.close)
	two := *r
	two.base, two.node = "http://"+d.server.Addr(), n
	return &two
}

// asked is a command and what was answered.
type asked struct {
	end      bool
	id       broker.CaseID
	subject  int
	status   int // 0: the caller hung up, and does not know
	changed  bool
	revision broker.Revision
	known    broker.Revision // the latest that anybody had been told of before it was asked
}

// rivals lets both instances take commands on the same few cases at the same time,
// and returns what was asked.
func rivals(t *testing.T, instances []*apiRig, people []string, seed uint64, until func(i int) bool) (all []asked) {
	t.Helper()
	const sub, workers = "oslo-sosialhjelp", 3
	var (
		latest atomic.Int64
		mu     sync.Mutex
		wait   sync.WaitGroup
	)
	token := instances[0].token(instances[0].claims(osloNumber, ""))
	for w := range workers * len(instances) {
		r := instances[w%len(instances)]
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := 0; until(i); i++ {
				// A few cases at a time, and new ones as time goes: what is ended stays so.
				a := asked{end: rnd.IntN(3) == 0, id: broker.CaseID(fmt.Sprintf("sak-%d", i/8*3+rnd.IntN(3))), subject: rnd.IntN(2)}
				path, body := "/subscriptions/"+sub+"/cases", fmt.Sprintf(`{"id":%q,"subject":%q}`, a.id, people[a.subject])
				if a.end {
					path, body = path+"/"+string(a.id)+"/end", ""
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if rnd.IntN(12) == 0 { // a caller who hangs up
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rnd.IntN(8_000))*time.Microsecond)
				}
				a.known = broker.Revision(latest.Load())
				code, _, text := r.call(ctx, token, http.MethodPost, path, body, "Prefer", "respond-async")
				cancel()
				var out struct {
					web.ChangeView
					Type string
				}
				if code != 0 && json.Unmarshal([]byte(text), &out) != nil {
					code = 0 // cut off
				}
				a.status, a.changed, a.revision = code, out.Changed, out.Revision
				switch code {
				case 0, 404:
				case 200, 202, 409:
					if code == 409 && out.Type != web.Conflict {
						t.Errorf("a conflict of another type: %s", text)
					}
					for old := latest.Load(); old < int64(a.revision) && !latest.CompareAndSwap(old, int64(a.revision)); old = latest.Load() {
					}
				default:
					t.Errorf("%d %s", code, text)
				}
				mu.Lock()
				all = append(all, a)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return all
}

// holdRivals checks what was answered against the registry's log: each change stands in
// it once, at the revision that was told; what was refused could not be at the revision
// that was told; and nobody was answered by a state older than one told of before.
func holdRivals(t *testing.T, instances []*apiRig, people []string, all []asked) (conflicts, lost int) {
	t.Helper()
	for _, r := range instances {
		if _, err := r.node.control.Latest(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	keys := make([]broker.SubjectKey, len(people))
	for i, p := range people {
		keys[i] = instances[0].node.ring.Subject(broker.Person, p)
	}
	type deed struct {
		end     bool
		id      broker.CaseID
		subject broker.SubjectKey
	}
	done := map[broker.Revision]deed{}
	var order []broker.Revision
	var last broker.Revision
	if err := instances[0].node.control.Log(t.Context(), func(_ int64, e registry.Event, accepted bool) error {
		if !accepted {
			lost++
			return nil
		}
		if e.Seq != last+1 {
			t.Errorf("revision %d follows %d", e.Seq, last)
		}
		last = e.Seq
		var c struct {
			ID      broker.CaseID
			Subject broker.SubjectKey
		}
		switch e.Type {
		case registry.CaseOpened, registry.CaseEnded:
			if err := json.Unmarshal(e.Data, &c); err != nil {
				return err
			}
			done[e.Seq] = deed{e.Type == registry.CaseEnded, c.ID, c.Subject}
			order = append(order, e.Seq)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// The state of a case at a revision, by the log.
	at := func(id broker.CaseID, rev broker.Revision) (exists, ended bool, subject broker.SubjectKey) {
		for _, seq := range order {
			switch d := done[seq]; {
			case seq > rev:
				return
			case d.id != id:
			case d.end:
				ended = true
			default:
				exists, subject = true, d.subject
			}
		}
		return
	}
	told, unknown := map[broker.Revision]bool{}, map[deed]int{}
	for _, a := range all {
		d := deed{end: a.end, id: a.id}
		if !a.end {
			d.subject = keys[a.subject]
		}
		if a.status == 0 {
			unknown[d]++
			continue
		}
		if a.status == 404 {
			if !a.end {
				t.Errorf("to open %s was answered 404", a.id)
			}
			continue
		}
		if a.revision < a.known {
			t.Errorf("%+v was answered by revision %d, after %d had been told of", a, a.revision, a.known)
		}
		if a.changed {
			got, ok := done[a.revision]
			if a.end { // the log names the case alone
				got.subject = broker.SubjectKey{}
			}
			if !ok || got != d {
				t.Errorf("%+v was acknowledged at revision %d, where the log has %+v", a, a.revision, got)
			}
			if told[a.revision] {
				t.Errorf("revision %d was acknowledged twice", a.revision)
			}
			told[a.revision] = true
			continue
		}
		exists, ended, subject := at(a.id, a.revision)
		same := exists && (a.end && ended || !a.end && !ended && subject == d.subject)
		clash := exists && !a.end && (ended || subject != d.subject)
		if a.status == 409 {
			conflicts++
			if !clash {
				t.Errorf("%+v was refused at revision %d, where nothing stood in the way", a, a.revision)
			}
		} else if !same {
			t.Errorf("%+v was answered as being so at revision %d, and was not", a, a.revision)
		}
	}
	for _, seq := range order {
		d := done[seq]
		if d.end {
			d.subject = broker.SubjectKey{}
		}
		if told[seq] {
			continue
		}
		if unknown[d]--; unknown[d] < 0 {
			t.Errorf("revision %d stands in the log, and nobody asked for it: %+v", seq, d)
		}
	}
	hashes := map[broker.Revision]string{}
	for _, r := range instances {
		r.node.control.View(func(st *registry.State) {
			if old, ok := hashes[st.Revision()]; ok && old != st.Hash().String() {
				t.Error("two instances have folded the log to different states")
			}
			hashes[st.Revision()] = st.Hash().String()
			if st.Revision() != last {
				t.Errorf("an instance stands at revision %d, the log at %d", st.Revision(), last)
			}
		})
	}
	if len(told) == 0 {
		t.Error("nothing was changed")
	}
	return conflicts, lost
}

// Two instances take commands on the same cases at the same time: no event of the
// registry is lost or forked, and every answer is true of the revision that it names.
func TestRivalCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs two instances")
	}
	r := newAPIRig(t)
	r.run()
	instances := []*apiRig{r, r.another()}
	runRivals(t, instances, func(i int) bool { return i < 60 })
}

func runRivals(t *testing.T, instances []*apiRig, until func(int) bool) (conflicts, lost int) {
	t.Helper()
	seed := rand.Uint64() % 1_000_000
	if s := os.Getenv("DATAFORDELER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	g := synthetic.New(synthetic.Config{People: 2, Seed: 5})
	people := []string{g.Person(0).ID, g.Person(1).ID}
	begun := time.Now()
	all := rivals(t, instances, people, seed, until)
	conflicts, lost = holdRivals(t, instances, people, all)
	t.Logf("seed %d: %d commands in %v, %d refused as conflicts, %d events lost to others and made anew", seed, len(all), time.Since(begun).Round(time.Millisecond), conflicts, lost)
	return conflicts, lost
}

// The same on Apache Kafka, for minutes where DATAFORDELER_TORTURE says so.
func TestTortureRivalCommands(t *testing.T) {
	limit := 5 * time.Second
	switch v := os.Getenv("DATAFORDELER_TORTURE"); v {
	case "":
		if testing.Short() {
			t.Skip("it starts Apache Kafka")
		}
	case "1":
		limit = 3 * time.Minute
	default:
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		limit = d
	}
	cluster := kafkatest.Start(t, kafkatest.Options{})
	r := newAPIRigOn(t, func(c *Config) {
		dir := t.TempDir()
		c.Engine, c.Data, c.Listen, c.Prefix = kafka.EngineKafka, "", "", "rival."
		c.Brokers, c.SourcePartitions, c.DeliveryBuckets = cluster.Brokers(), 2, 2
		c.Keystore.Path, c.Store.DSN = dir+"/keys", "sqlite:"+dir+"/decisions.db"
		c.Ledger.Key, c.Positions.Path = dir+"/ledger", dir+"/positions.db"
	})
	r.run()
	instances := []*apiRig{r, r.another()}
	end := time.Now().Add(limit)
	conflicts, lost := runRivals(t, instances, func(int) bool { return time.Now().Before(end) })
	if conflicts == 0 || lost == 0 {
		t.Errorf("%d conflicts and %d lost events: the instances were no rivals", conflicts, lost)
	}
}
