package flow

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// TestBackfillModel lets cases, consents and subscriptions with a start come at any
// time between records, under a wire that fails, restarts and a second instance that
// comes and goes, and holds what was decided to what a model says is owed: each once,
// by the stream or by backfill, and no more.
func TestBackfillModel(t *testing.T) {
	seeds := 2
	if n, err := strconv.Atoi(os.Getenv("DATAFORDELER_SEEDS")); err == nil {
		seeds = n
	}
	first := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("DATAFORDELER_SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	}
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			backfillRun(t, seed)
		})
	}
}

func backfillRun(t *testing.T, seed uint64) {
	h := newHarness(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	if _, err := h.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	h.activatePolicy()
	w := &wire{rng: rand.New(rand.NewPCG(seed, 1)), hit: map[int16]int{}, keys: map[int16]bool{}}
	for _, k := range faultKeys {
		w.keys[k.Int16()] = true
	}
	cfg := h.kafka
	cfg.Dial = w.dial
	faulty, err := kafka.Open(h.ctx, cfg, h.log, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faulty.Close() })
	h.cfg.MaxRecords = 1 + rng.IntN(20)
	h.cfg.SessionTimeout, h.cfg.TransactionTimeout = 6*time.Second, 10*time.Second
	h.cfg.Backfill.RecordsPerSecond = []int{40, 400, 100_000}[rng.IntN(3)]
	sound := h.engine
	slow := rand.New(rand.NewPCG(seed, 2)) // the index is behind now and then
	h.positions = &scanned{h: h, behind: func() bool { h.mu.Lock(); defer h.mu.Unlock(); return slow.IntN(4) == 0 }}

	s := &scenario{harness: h, subjects: map[string]string{}}
	published, opened, early := 0, 0, 0
	open := map[int][]string{}
	for range 3 {
		w.mu.Lock()
		w.left = 6
		w.mu.Unlock()
		h.engine = faulty
		h.start()
		h.engine = sound
		var other context.CancelFunc
		ended := make(chan error, 1)
		if rng.IntN(2) == 0 { // a second instance, which takes half of the partitions
			b := h.newBroker(h.control, "1")
			var ctx context.Context
			ctx, other = context.WithCancel(context.Background())
			go func() { ended <- b.Run(ctx) }()
		}
		for range 40 {
			person := rng.IntN(6)
			line := fmt.Sprintf("id=e%d person=p%d municipality=%s", published, person, []string{"0301", "4601", "1601"}[rng.IntN(3)])
			switch rng.IntN(12) {
			case 0:
				line = fmt.Sprintf("id=e%d person=p%d amount=-1", published, person)
			case 1:
				line = fmt.Sprintf("id=e%d person=p%d", max(0, published-3), person) // a repeat, or an id used again
			case 2:
				line = fmt.Sprintf("id=e%d person=p%d municipality=4601 supersedes=e%d", published, person, max(0, published-rng.IntN(6)-1))
			case 3:
				line = fmt.Sprintf("id=e%d person=p%d municipality=4601 retracts=e%d", published, person, max(0, published-rng.IntN(6)-1))
			}
			s.publishLine(line)
			published++
			switch rng.IntN(10) {
			case 0: // with some open already
				name := fmt.Sprint(opened)
				opened++
				id := fmt.Sprintf("p%d", person)
				key := h.ring.Subject(broker.Person, s.person(id))
				h.change(registry.OpenCase(broker.Case{ID: broker.CaseID("c" + name), Subscription: "case", Subject: key, Open: broker.Interval{From: h.clock().Add(-time.Hour)}}))
				open[person] = append(open[person], "c"+name)
			case 1:
				for _, c := range open[person] {
					h.change(registry.EndCase("case", broker.CaseID(c), h.clock()))
				}
				delete(open, person)
			case 2:
				name := fmt.Sprintf("g%d", opened)
				opened++
				h.change(registry.GiveConsent(broker.Consent{ID: broker.ConsentID(name), Subject: h.ring.Subject(broker.Person, s.person(fmt.Sprintf("p%d", person))),
					Consumer: "310149942", Dataset: "d", Purpose: "loan", Valid: broker.Interval{From: h.clock().Add(-time.Hour)}}))
			case 3:
				if early < 3 {
					early++
					c, err := registry.Put(broker.Subscription{ID: broker.SubscriptionID(fmt.Sprintf("early%d", early)), Agreement: []broker.AgreementID{"all", "loan", "case"}[early-1],
						Mailbox: []broker.MailboxID{"kommunen", "banken", "kommunen"}[early-1],
						Scope:   []broker.Scope{{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{"1601"}}, {Kind: broker.ScopeListed}, {Kind: broker.ScopeAll}}[early-1],
						Start:   time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)})
					if err != nil {
						t.Fatal(err)
					}
					h.change(c)
				}
			}
			if rng.IntN(8) == 0 {
				h.setClock(h.clock().Add(time.Second))
			}
			if rng.IntN(30) == 0 {
				w.calm()
				h.drain(h.ctx)
			}
		}
		if rng.IntN(2) == 0 {
			w.calm()
			h.drain(h.ctx)
		}
		if other != nil {
			other()
			if err := <-ended; err != nil {
				t.Errorf("the second instance ended with: %v", err)
			}
		}
		h.stop()
	}
	h.start()
	h.drainBackfill()
	h.stop()
	h.checkAll()
	h.checkBackfill()
	t.Logf("seed %d: %d records, %d cases and consents, faults by request key %v", seed, published, opened, w.hit)
}

// checkBackfill holds what backfill has decided to what was owed, computed from the
// log alone.
func (h *harness) checkBackfill() {
	h.t.Helper()
	ctx := context.Background()
	type batch struct {
		first, last int64
		revision    broker.Revision
		rejected    map[int64]bool
	}
	type what struct {
		partition int32
		offset    int64
		sub       broker.SubscriptionID
	}
	batches := map[int32][]batch{}
	stream, singles := map[what]bool{}, map[what]int{}
	note := func(d *broker.Decision) error {
		k := what{d.Position.Partition, d.Position.Offset, d.Subscription}
		if d.Kind == broker.BackfillDecision {
			singles[k]++
		} else {
			stream[k] = d.Outcome.Permit
		}
		return nil
	}
	err := each(ctx, h.engine, h.topics.Decisions(), func(r *kgo.Record) error {
		if deliver.IsSingles(r.Value) {
			_, err := deliver.DecodeSingles(r.Value, note)
			return err
		}
		head, err := deliver.Decode(r.Value, note)
		b := batch{head.First, head.Last, head.Revision, map[int64]bool{}}
		for _, d := range head.RejectedAt {
			b.rejected[head.First+d] = true
		}
		batches[head.Partition] = append(batches[head.Partition], b)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	begin := func(p int32, rev broker.Revision) int64 {
		end := int64(0)
		for _, b := range batches[p] {
			if b.revision >= rev {
				return b.first
			}
			end = b.last + 1
		}
		return end
	}
	want := map[what]string{}
	x := &scanned{h: h}
	adm, err := h.engine.Admin()
	if err != nil {
		h.t.Fatal(err)
	}
	defer adm.Close()
	ids, err := kafka.TopicIDs(ctx, adm, h.topics.Source("d"))
	if err != nil {
		h.t.Fatal(err)
	}
	type listing struct {
		at  broker.Revision
		sub broker.SubscriptionID
		key broker.SubjectKey
	}
	var listings []listing
	declared := map[broker.SubscriptionID]broker.Revision{}
	begins := map[broker.SubscriptionID]*broker.Subscription{}
	if err := h.control.Log(ctx, func(_ int64, e registry.Event, accepted bool) error {
		if !accepted {
			return nil
		}
		switch e.Type {
		case registry.SubscriptionPut:
			var v broker.Subscription
			if err := unmarshal(e.Data, &v); err != nil {
				return err
			}
			if declared[v.ID] == 0 {
				declared[v.ID] = e.Seq
			}
			if !v.Start.IsZero() {
				begins[v.ID] = &v
			}
		case registry.CaseOpened:
			var v broker.Case
			if err := unmarshal(e.Data, &v); err != nil {
				return err
			}
			listings = append(listings, listing{e.Seq, v.Subscription, v.Subject})
		case registry.ConsentGiven:
			var v broker.Consent
			if err := unmarshal(e.Data, &v); err != nil {
				return err
			}
			for _, sub := range []broker.SubscriptionID{"loan", "early2"} { // filtered below
				listings = append(listings, listing{e.Seq, sub, v.Subject})
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	for i, l := range listings {
		if declared[l.sub] == 0 || l.at < declared[l.sub] {
			continue // nothing but its start is owed to one declared later
		}
		var before broker.Revision
		for _, o := range listings[:i] {
			if o.sub == l.sub && o.key == l.key {
				before = max(o.at, declared[l.sub])
			}
		}
		for p := range batches {
			offsets, _, err := x.Current(ctx, "d", broker.Digest(ids[h.topics.Source("d")]), p, begin(p, l.at), l.key, 1)
			if err != nil {
				h.t.Fatal(err)
			}
			for _, o := range offsets {
				k := what{p, o, l.sub}
				if before == 0 || o >= begin(p, before) && !stream[k] {
					want[k] = fmt.Sprintf("of the listing at %d", l.at)
				}
			}
		}
	}
	var subs []broker.SubscriptionID
	for id := range begins {
		subs = append(subs, id)
	}
	slices.SortFunc(subs, func(a, b broker.SubscriptionID) int { return cmp.Compare(a, b) })
	for p := range batches {
		fresh := h.fresh(p, func(o int64) bool {
			for _, b := range batches[p] {
				if o >= b.first && o <= b.last {
					return b.rejected[o]
				}
			}
			return false
		})
		for _, id := range subs {
			sub := begins[id]
			for _, rec := range fresh {
				if rec.Offset >= begin(p, declared[id]) {
					continue
				}
				in := true
				switch sub.Scope.Kind {
				case broker.ScopeAttribute:
					in = slices.Contains(sub.Scope.Values, rec.Attributes[0])
				case broker.ScopeListed:
					in = slices.ContainsFunc(listings, func(l listing) bool { return l.sub == id && l.key == rec.Subject && l.at <= declared[id] })
				}
				if in {
					want[what{p, rec.Offset, id}] = "of the start"
				}
			}
		}
	}
	for k, why := range want {
		if singles[k] != 1 {
			h.t.Errorf("%s on %d/%d is decided %d times by backfill, want once: %s; %s", k.sub, k.partition, k.offset, singles[k], why, begun(begin(k.partition, declared[k.sub]), k.offset))
		}
	}
	for k := range singles {
		if want[k] == "" {
			h.t.Errorf("%s on %d/%d was decided by backfill and is not owed", k.sub, k.partition, k.offset)
		}
	}
	h.t.Logf("%d decisions of backfill", len(singles))
}

func begun(x, o int64) string { return fmt.Sprintf("the stream began at %d, it is %d before", x, x-o) }
