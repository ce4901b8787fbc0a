package flow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// A ceilingPlan is what is done under two ceilings: the agreement "all", with a stream,
// a subscription with a start and lookups; and "case", where cases are opened later.
type ceilingPlan struct {
	all, cases int64 // the ceilings, to begin with
	batch      int   // records of a transaction
	rounds     []ceilingRound
}

// ceilingRound is from one start of the instance to the next.
type ceilingRound struct {
	second bool // another instance goes on beside it
	faults int  // of the wire
	abrupt bool // it stops while lookups are asked
	steps  []ceilingStep
}

type ceilingStep struct {
	do     string
	person int
	n      int64
}

const ceilingPeople = 5

func drawCeilingPlan(t *rapid.T) ceilingPlan {
	step := rapid.Custom(func(t *rapid.T) ceilingStep {
		return ceilingStep{
			rapid.SampledFrom([]string{"publish", "publish", "publish", "lookup", "lookup", "look up case", "second looks up", "open", "end", "start", "raise"}).Draw(t, "do"),
			rapid.IntRange(0, ceilingPeople-1).Draw(t, "person"), rapid.Int64Range(1, 6).Draw(t, "n"),
		}
	})
	round := rapid.Custom(func(t *rapid.T) ceilingRound {
		return ceilingRound{rapid.Bool().Draw(t, "second"), rapid.IntRange(0, 4).Draw(t, "faults"), rapid.Bool().Draw(t, "abrupt"),
			rapid.SliceOfN(step, 12, 28).Draw(t, "steps")}
	})
	return ceilingPlan{rapid.Int64Range(1, 120).Draw(t, "all"), rapid.Int64Range(1, 60).Draw(t, "case"), rapid.IntRange(1, 20).Draw(t, "batch"),
		rapid.SliceOfN(round, 2, 2).Draw(t, "rounds")}
}

// TestCeilingModel mixes the stream, backfill and lookups under one ceiling, with
// restarts, a second instance and a wire that fails. What was permitted never exceeds
// the ceiling, and whoever is denied for it is denied when all of it has been leased.
// DATAFORDELER_SEED draws a plan again; DATAFORDELER_SEEDS draws more of them.
func TestCeilingModel(t *testing.T) {
	seeds := 2
	if n, err := strconv.Atoi(os.Getenv("DATAFORDELER_SEEDS")); err == nil {
		seeds = n
	}
	first := int(time.Now().UnixNano() & (1<<40 - 1))
	if n, err := strconv.Atoi(os.Getenv("DATAFORDELER_SEED")); err == nil {
		first, seeds = n, 1
	}
	for i := range seeds {
		seed := first + i
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			ceilingRun(t, seed, rapid.Custom(drawCeilingPlan).Example(seed))
		})
	}
}

// handedOver is what lookups were answered, and by which decisions.
type handedOver struct {
	mu        sync.Mutex
	decisions []broker.DecisionID
	denied    int
	failed    int
}

func ceilingRun(t *testing.T, seed int, plan ceilingPlan) {
	s := newLookups(t)
	ceilings := [2]int64{plan.all, plan.cases}
	declare := func() {
		s.declare("ceiling: 6", fmt.Sprintf("ceiling: %d", ceilings[0]),
			"purpose: case-work\nbases: [case-statute]\nresponsibility: {providerController: \"974761076\", consumerController: \"958935420\"}\ncost: {model: free}",
			fmt.Sprintf("purpose: case-work\nbases: [case-statute]\nresponsibility: {providerController: \"974761076\", consumerController: \"958935420\"}\ncost: {model: per-record, payer: \"958935420\", ceiling: %d}", ceilings[1]))
	}
	declare()
	s.control.View(func(st *registry.State) {
		for i, a := range []broker.AgreementID{"all", "case"} {
			if got := st.Agreement(a).Cost.Ceiling; got != ceilings[i] {
				t.Fatalf("the ceiling of %s is %d, want %d", a, got, ceilings[i])
			}
		}
	})
	w := &wire{rng: rand.New(rand.NewPCG(uint64(seed), 1)), hit: map[int16]int{}, keys: map[int16]bool{}}
	// Those of commits and of the questions where control ends. What happens to the
	// group is for other tests: to join again takes a session's time.
	for _, k := range []kmsg.Key{kmsg.Produce, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.AddPartitionsToTxn, kmsg.ListOffsets} {
		w.keys[k.Int16()] = true
	}
	cfg := s.kafka
	cfg.Dial = w.dial
	faulty, err := kafka.Open(s.ctx, cfg, s.log, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faulty.Close() })
	s.cfg.MaxRecords = plan.batch
	s.cfg.SessionTimeout, s.cfg.TransactionTimeout = 6*time.Second, 10*time.Second
	sound := s.engine

	var over handedOver
	published, opened, started := 0, 0, false
	var open []broker.CaseID
	for _, round := range plan.rounds {
		var second *Control
		if round.second { // with a fold of its own, as another process has; one that cannot begin is for other tests
			s.engine = faulty
			second = s.openControl()
		}
		w.mu.Lock()
		w.left = round.faults
		w.mu.Unlock()
		s.engine = faulty
		s.begin()
		s.c.patience = 2 * time.Second
		other, ended, stopOther := s.c, make(chan error, 1), func() {}
		if round.second {
			b := s.newBroker(second, "1")
			other = b.Committer()
			other.patience = 2 * time.Second
			var ctx context.Context
			ctx, stopOther = context.WithCancel(context.Background())
			go func() { ended <- b.Run(ctx) }()
		}
		s.engine = sound

		var asking sync.WaitGroup
		for _, step := range round.steps {
			person := fmt.Sprintf("p%d", step.person)
			switch step.do {
			case "publish":
				for range step.n {
					s.publishLine(fmt.Sprintf("id=e%d person=%s municipality=%s", published, person, []string{"0301", "0301", "1601"}[published%3]))
					published++
				}
			case "lookup", "look up case", "second looks up":
				c, sub := s.c, broker.SubscriptionID("all")
				switch step.do {
				case "look up case":
					sub = "case"
				case "second looks up":
					c = other
				}
				// Requests of one subject each, as the API has them: they share turns.
				for i := range min(int(step.n), ceilingPeople) {
					who := fmt.Sprintf("p%d", (step.person+i)%ceilingPeople)
					questions := []Question{{Subscription: sub, Subject: s.subject(who), Found: s.foundBy(c, who)}}
					if sub == "case" {
						questions = append(questions, Question{Subscription: "all", Subject: s.subject(who), Found: s.foundBy(c, who)})
					}
					asking.Go(func() { over.ask(t, c, questions) })
				}
			case "open":
				id := broker.CaseID(fmt.Sprint("c", opened))
				opened++
				open = append(open, id)
				s.change(registry.OpenCase(broker.Case{ID: id, Subscription: "case", Subject: s.subject(person), Open: broker.Interval{From: s.clock().Add(-time.Hour)}}))
			case "end":
				if len(open) > 0 {
					s.change(registry.EndCase("case", open[0], s.clock()))
					open = open[1:]
				}
			case "start":
				if started {
					break
				}
				started = true
				put, err := registry.Put(broker.Subscription{ID: "early", Agreement: "all", Mailbox: "kommunen", Start: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
					Scope: broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{"1601"}}})
				if err != nil {
					t.Fatal(err)
				}
				s.change(put)
			case "raise":
				ceilings[step.person%2] += step.n
				declare()
			}
		}
		if !round.abrupt {
			asking.Wait()
			w.calm()
			s.drain(s.ctx)
		}
		s.c.Close()
		other.Close()
		stopOther()
		if round.second {
			if err := <-ended; err != nil {
				t.Errorf("the second instance ended with: %v", err)
			}
		}
		s.stop()
		asking.Wait()
	}
	s.start()
	s.drainBackfill()
	s.stop()
	s.checkAll()
	s.checkCeilings(&over)
	t.Logf("seed %d: %d published, %d cases; lookups: %d records handed over, %d denied, %d failed; faults %v", seed, published, opened, len(over.decisions), over.denied, over.failed, w.hit)
}

// ask notes what it is answered. What fails says nothing at all.
func (o *handedOver) ask(t *testing.T, c *Committer, questions []Question) {
	answers, err := c.Decide(context.Background(), questions)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.failed++
		if _, held := errors.AsType[*HeldError](err); !held && !errors.Is(err, ErrInDoubt) && !errors.Is(err, ErrUnanswered) {
			t.Errorf("an error that says neither that it passes nor that it is in doubt: %v", err)
		}
		if answers != nil {
			t.Errorf("an error with %d answers", len(answers))
		}
		return
	}
	for i := range answers {
		for _, r := range answers[i].Records {
			o.decisions = append(o.decisions, r.Decision)
		}
		if said(&answers[i]) == "ceiling_reached" {
			o.denied++
		}
	}
}

// checkCeilings holds every decision in the log to what had been leased at its
// revision.
func (s *lookups) checkCeilings(over *handedOver) {
	s.t.Helper()
	type left struct{ granted, unleased int64 }
	at := map[broker.AgreementID]map[broker.Revision]left{"all": {}, "case": {}}
	most := map[broker.AgreementID]int64{}
	st := registry.New()
	if err := s.control.Log(s.ctx, func(_ int64, e registry.Event, accepted bool) error {
		if !accepted {
			return nil
		}
		if _, err := st.Fold(e); err != nil {
			return err
		}
		for a, revisions := range at {
			if g := st.Agreement(a); g != nil {
				u := st.Unleased(a)
				revisions[st.Revision()] = left{g.Cost.Ceiling - u, u}
				most[a] = g.Cost.Ceiling
			}
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	used, denied := map[broker.AgreementID]int64{}, map[broker.AgreementID]map[broker.DecisionKind]int{"all": {}, "case": {}}
	permitted := map[broker.AgreementID]map[broker.DecisionKind]int{"all": {}, "case": {}}
	looked := map[broker.DecisionID]bool{}
	note := func(d *broker.Decision) error {
		revisions := at[d.Agreement]
		if revisions == nil || d.Kind == broker.NoticeDecision || d.Kind == broker.DoorDecision {
			return nil
		}
		if d.Outcome.Permit {
			if !d.Event.IsZero() {
				used[d.Agreement]++
				permitted[d.Agreement][d.Kind]++
				if d.Kind == broker.LookupDecision {
					looked[d.ID] = true
				}
			}
			return nil
		}
		if !slices.Contains(d.Outcome.Reasons, "ceiling_reached") {
			return nil
		}
		denied[d.Agreement][d.Kind]++
		l, ok := revisions[d.Revision]
		if !ok {
			return fmt.Errorf("%v of %s is by revision %d, where there is no such agreement", d.ID, d.Agreement, d.Revision)
		}
		if l.unleased > 0 {
			return fmt.Errorf("%v of %s (%s) was denied for the ceiling at revision %d, where %d were left to lease", d.ID, d.Agreement, d.Kind, d.Revision, l.unleased)
		}
		return nil
	}
	if err := each(s.ctx, s.engine, s.topics.Decisions(), func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			_, err := deliver.DecodeSingles(r.Value, note)
			return err
		}
		_, err := deliver.Decode(r.Value, note)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	for a, n := range used {
		if leased := at[a][st.Revision()].granted; n > leased || n > most[a] {
			s.t.Errorf("agreement %s: %d were permitted, %d leased, under a ceiling of %d", a, n, leased, most[a])
		}
	}
	seen := map[broker.DecisionID]bool{}
	for _, id := range over.decisions {
		if !looked[id] || seen[id] {
			s.t.Errorf("a record was handed over by %v, which is no permit in the log, or another's", id)
		}
		seen[id] = true
	}
	s.t.Log(strings.TrimSpace(fmt.Sprintf("ceilings %v, used %v, permitted %v, denied %v", most, used, permitted, denied)))
}
