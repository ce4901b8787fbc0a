package torture_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/broker/registry"
	"datafordeler/providers/synthetic"
)

// watcher follows the group's committed offsets. Neither they nor the
// revisions beside them ever go back, whoever owns a partition.
type watcher struct {
	r    *rig
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	reads int
}

type place struct {
	topic     string
	partition int32
}

// committed is what the group has committed, where it is settled.
func (r *rig) committed(ctx context.Context) (map[place]int64, map[place]broker.Revision, error) {
	offsets, err := r.adm.FetchOffsetsForTopics(kadm.RequireStable(ctx), r.group, r.topics.Source("inntekt"), r.topics.Source("eiendomsskatt"))
	if err != nil {
		return nil, nil, err
	}
	at, revs := map[place]int64{}, map[place]broker.Revision{}
	for _, ps := range offsets {
		for _, o := range ps {
			if o.Err != nil || o.At < 0 {
				continue
			}
			p := place{o.Topic, o.Partition}
			at[p] = o.At
			var rev uint64
			if _, err := fmt.Sscanf(o.Metadata, "v1 r=%d", &rev); err != nil {
				r.t.Errorf("%s/%d: metadata %q has no revision", o.Topic, o.Partition, o.Metadata)
			}
			revs[p] = broker.Revision(rev)
		}
	}
	return at, revs, nil
}

func (r *rig) watch() *watcher {
	w := &watcher{r: r, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		lastAt, lastRev := map[place]int64{}, map[place]broker.Revision{}
		for {
			select {
			case <-w.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			at, revs, err := r.committed(context.Background())
			if err != nil {
				continue // unstable, or Kafka is away
			}
			for p := range at {
				if at[p] < lastAt[p] || revs[p] < lastRev[p] {
					r.t.Errorf("%s/%d went back from offset %d at revision %d to %d at %d", p.topic, p.partition, lastAt[p], lastRev[p], at[p], revs[p])
				}
				lastAt[p], lastRev[p] = at[p], revs[p]
			}
			w.mu.Lock()
			w.reads++
			w.mu.Unlock()
		}
	}()
	r.t.Cleanup(w.end)
	return w
}

func (w *watcher) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	<-w.done
}

// follow is this test's own fold of control, and a barrier on it.
func (r *rig) follow() (*flow.Control, *flow.Barrier) {
	r.t.Helper()
	cfg := kafka.Defaults()
	cfg.Engine, cfg.Brokers, cfg.Prefix, cfg.Listen = kafka.EngineKafka, r.brokers, r.prefix, ""
	engine, err := kafka.Open(context.Background(), cfg, slog.New(slog.DiscardHandler), kafka.Attach)
	if err != nil {
		r.t.Fatal(err)
	}
	control, err := flow.OpenControl(context.Background(), engine, r.topics, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(control.Close)
	return control, &flow.Barrier{Adm: r.adm, Control: control, Topics: r.topics, Group: r.group}
}

// change makes one change that takes something away: a consent, a case, or an
// agreement that is suspended and, the next time, made active again.
func (r *rig) change(ctx context.Context, control *flow.Control, rnd *rand.Rand, n *int) broker.Revision {
	r.t.Helper()
	*n++
	rev, err := control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		now := time.Now()
		switch *n % 3 {
		case 0:
			a := *st.Agreement("arendal-eiendomsskatt")
			if a.Status = broker.Suspended; *n%6 == 0 {
				a.Status = broker.Active
			}
			plan, err := registry.NewPlan(st, []registry.Document{{File: "torture", Kind: registry.KindAgreement, Body: &a}}, "torture", now)
			if err != nil {
				return nil, err
			}
			return plan.Events, nil
		case 1:
			subject := r.ring.Subject(broker.Person, fmt.Sprintf("%011d", *n))
			id := broker.CaseID(fmt.Sprintf("k%d", *n))
			return st.Link(now, "torture", registry.OpenCase(broker.Case{ID: id, Subscription: "oslo-sosialhjelp", Subject: subject, Open: broker.Interval{From: now}}),
				registry.EndCase("oslo-sosialhjelp", id, now.Add(time.Second)))
		default:
			subject := r.ring.Subject(broker.Person, fmt.Sprintf("%011d", *n))
			id := broker.ConsentID(fmt.Sprintf("k%d", *n))
			return st.Link(now, "torture", registry.GiveConsent(broker.Consent{ID: id, Subject: subject, Consumer: bank, Dataset: "inntekt", Purpose: "boliglaan", Valid: broker.Interval{From: now}}),
				registry.WithdrawConsent(id, now))
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

// binding is a revision that was told to bind, and the offsets decided by then.
type binding struct {
	rev broker.Revision
	at  map[place]int64
}

// bound waits until rev binds and notes how far decisions had come.
func (r *rig) bound(ctx context.Context, b *flow.Barrier, rev broker.Revision) binding {
	r.t.Helper()
	if err := b.Await(ctx, rev); err != nil {
		r.t.Fatalf("revision %d: %v", rev, err)
	}
	at, _, err := r.committed(ctx)
	for err != nil && ctx.Err() == nil { // what is open now was begun after
		at, _, err = r.committed(ctx)
	}
	return binding{rev, at}
}

// holdBindings checks that nothing that was decided at an older revision was
// committed after a younger one bound.
func (r *rig) holdBindings(bindings []binding) {
	r.t.Helper()
	checked := 0
	for p := range sourcePartitions {
		for _, m := range r.kcat(r.topics.Decisions(), p) {
			h, _, err := deliver.DecodeHeader(m.value)
			if err != nil {
				r.t.Fatal(err)
			}
			for _, b := range bindings {
				at, ok := b.at[place{r.topics.Source(string(h.Dataset)), h.Partition}]
				if ok && h.Revision < b.rev && h.Last >= at {
					r.t.Errorf("%s/%d: offsets %d to %d were decided at revision %d and committed after revision %d was said to bind (then at %d)",
						h.Dataset, h.Partition, h.First, h.Last, h.Revision, b.rev, at)
				}
				checked++
			}
		}
	}
	if checked == 0 {
		r.t.Error("no decisions were held against a binding")
	}
}

// members waits until the group is stable with so many members.
func (r *rig) members(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	state := ""
	if !until(2*time.Minute, func() bool {
		g, err := r.adm.DescribeGroups(ctx, r.group)
		if err != nil {
			return false
		}
		d := g[r.group]
		state = fmt.Sprintf("%s with %d members", d.State, len(d.Members))
		return d.State == "Stable" && len(d.Members) == n
	}) {
		r.t.Fatalf("the group is %s; want %d", state, n)
	}
}

// One of three instances is cut off from Kafka at the very request that commits
// — before it arrived, or before its answer did — and something is withdrawn
// meanwhile. The withdrawal binds when, and only when, nothing older can commit
// any more: also not what the instance still has in hand when it wakes.
func TestTortureBarrierFrozenCommit(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	factor, _ := longer(t)
	cluster := kafkatest.Start(t, kafkatest.Options{})
	r := newRig(t, cluster, "b.")
	const people = 200_000
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	front := newProxy(t, r.brokers[0])
	behind := r.config + ".proxied"
	r.writeConfig(behind, []string{front.address()}, "")
	r.serve(0, behind)
	r.serve(1, r.config)
	r.serve(2, r.config)
	control, barrier := r.follow()
	w := r.watch()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	p := r.publisher()
	sent, changes := 0, 0
	publish := func(n int) {
		t.Helper()
		var items []item
		for i := sent; i < sent+n; i++ {
			items = append(items, item{"inntekt", g.Income(nil, i), false})
			if e := g.Property(nil, i); e.ID != "" {
				items = append(items, item{"eiendomsskatt", e, false})
			}
		}
		if sent += n; p.send(ctx, items) != nil {
			t.Fatal("publishing failed")
		}
	}
	publish(2000)
	r.members(3)
	r.drain(2 * time.Minute)

	type frozen struct {
		key    int16
		answer bool
		late   bool // woken after its transaction has been ended for it
	}
	var cases []frozen
	for _, key := range []int16{keyTxnOffsetCommit, keyEndTxn, keyOffsetCommit} {
		for _, answer := range []bool{false, true} {
			cases = append(cases, frozen{key, answer, true}, frozen{key, answer, false})
		}
	}
	var all []frozen
	for range factor {
		rnd.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
		all = append(all, cases...)
	}
	names := map[int16]string{keyTxnOffsetCommit: "TxnOffsetCommit", keyEndTxn: "EndTxn", keyOffsetCommit: "OffsetCommit"}
	var bindings []binding
	for _, c := range all {
		sprung := front.set(c.key, c.answer)
		var rev broker.Revision
		if c.key == keyOffsetCommit { // the change itself makes idle partitions commit
			rev = r.change(ctx, control, rnd, &changes)
		} else {
			publish(1000)
		}
		select {
		case <-sprung:
		case <-time.After(time.Minute):
			t.Fatalf("no %s came by within a minute", names[c.key])
		}
		frozenAt := time.Now()
		if rev == 0 {
			rev = r.change(ctx, control, rnd, &changes)
		}
		publish(1000)
		// Once the offsets are pending, nothing older may be said to have ended
		// before the transaction has.
		offsets := c.key == keyEndTxn && !c.answer || c.key == keyTxnOffsetCommit && c.answer
		txn := r.group + "-0"
		wasOpen, unboundWhileOpen := 0, 0
		limit := time.Duration(rnd.IntN(int(sessionTimeout)))
		if c.late {
			limit = time.Minute
		}
		until(limit, func() bool {
			open1 := r.pending(ctx, txn)
			unbound, err := barrier.Check(ctx, rev)
			open2 := r.pending(ctx, txn)
			if err != nil {
				return false
			}
			if offsets && open1 && open2 {
				wasOpen++
				if len(unbound) > 0 {
					unboundWhileOpen++
				}
			}
			return len(unbound) == 0
		})
		if wasOpen != unboundWhileOpen {
			t.Errorf("the barrier was open %d times out of %d while offsets were pending", wasOpen-unboundWhileOpen, wasOpen)
		}
		if c.late {
			bindings = append(bindings, r.bound(ctx, barrier, rev))
		}
		took := time.Since(frozenAt)
		front.thaw()
		if !c.late {
			bindings = append(bindings, r.bound(ctx, barrier, rev))
			took = time.Since(frozenAt)
		}
		publish(500)
		r.members(3)
		r.drain(2 * time.Minute)
		t.Logf("%s, answer lost %v, woken late %v: bound after %v (%d times seen pending)", names[c.key], c.answer, c.late, took.Round(time.Millisecond), wasOpen)
	}
	w.end()
	if w.reads < 10 {
		t.Errorf("the committed offsets were read only %d times", w.reads)
	}
	r.mu.Lock()
	running := slices.Clone(r.instances)
	r.mu.Unlock()
	for _, i := range running {
		i.term()
	}
	r.holdBindings(bindings)
	r.contiguous()
}

// pending tells whether a transaction is open.
func (r *rig) pending(ctx context.Context, id string) bool {
	d, err := r.adm.DescribeTransactions(ctx, id)
	return err == nil && d[id].State == "Ongoing"
}

// contiguous checks that the ranges of each source partition follow each other
// and cover everything.
func (r *rig) contiguous() {
	r.t.Helper()
	next := map[place]int64{}
	for p := range sourcePartitions {
		for _, m := range r.kcat(r.topics.Decisions(), p) {
			h, _, err := deliver.DecodeHeader(m.value)
			if err != nil {
				r.t.Fatal(err)
			}
			at := place{r.topics.Source(string(h.Dataset)), h.Partition}
			if h.First != next[at] {
				r.t.Errorf("%s/%d: a batch covers %d–%d where %d was next", h.Dataset, h.Partition, h.First, h.Last, next[at])
			}
			next[at] = h.Last + 1
		}
	}
	ends, err := r.adm.ListCommittedOffsets(context.Background(), r.topics.Source("inntekt"), r.topics.Source("eiendomsskatt"))
	if err != nil {
		r.t.Fatal(err)
	}
	ends.Each(func(e kadm.ListedOffset) {
		if n := next[place{e.Topic, e.Partition}]; n != e.Offset {
			r.t.Errorf("%s/%d: decided up to %d of %d", e.Topic, e.Partition, n, e.Offset)
		}
	})
}

// How long a withdrawal takes to bind, idle and under load. It prints the
// figures for the decision record, and fails only if one never binds.
func TestBarrierTimeToBind(t *testing.T) {
	rnd, seed := newRand(t)
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	g := synthetic.New(synthetic.Config{People: 100_000, Seed: seed})
	for slot := range 3 {
		r.serve(slot, r.config)
	}
	control, barrier := r.follow()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	r.members(3)
	p := r.publisher()
	n, changes := 0, 2 // no agreements: they make the instances compile anew
	measure := func(what string, of int) {
		var took []time.Duration
		for range of {
			if changes%3 == 2 {
				changes++
			}
			begun := time.Now()
			rev := r.change(ctx, control, rnd, &changes)
			if err := barrier.Await(ctx, rev); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		t.Logf("%s: median %v, 90th percentile %v, longest %v of %d, the append to control included",
			what, took[len(took)/2].Round(time.Millisecond), took[len(took)*9/10].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))
	}
	first := r.change(ctx, control, rnd, &changes)
	if err := barrier.Await(ctx, first); err != nil {
		t.Fatal(err)
	}
	measure("idle", 25)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			var items []item
			for range 1000 {
				items = append(items, item{"inntekt", g.Income(nil, n), false})
				n++
			}
			if err := p.send(ctx, items); err != nil {
				stopped <- err
				return
			}
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
		}
	}()
	running := slices.Clone(r.instances)
	if !until(time.Minute, func() bool {
		return slices.ContainsFunc(running, func(i *instance) bool { return i.transactions() > 2 })
	}) {
		t.Fatal("no instance is at work")
	}
	measure("under load", 25)
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	r.drain(2 * time.Minute)
	t.Logf("%d records flowed meanwhile", n)
}

// Whoever was idle while partitions were taken from it, several times over,
// commits nothing for them any more when the revision moves on.
func TestTortureIdleInstanceLetsGo(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	g := synthetic.New(synthetic.Config{People: 10_000, Seed: seed})
	control, barrier := r.follow()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	changes := 0
	for slot := range 4 { // each takes some from those before, who have nothing to do
		r.serve(slot, r.config)
		r.members(slot + 1)
		r.bound(ctx, barrier, r.change(ctx, control, rnd, &changes))
	}
	w := r.watch()
	p := r.publisher()
	for round := range 3 {
		var items []item
		for i := range 1000 {
			items = append(items, item{"inntekt", g.Income(nil, 1000*round+i), false})
		}
		if err := p.send(ctx, items); err != nil {
			t.Fatal(err)
		}
		r.drain(time.Minute)
		r.bound(ctx, barrier, r.change(ctx, control, rnd, &changes))
		if lag := r.lag(ctx); lag != 0 {
			t.Errorf("after a change of the registry %d records that were decided lie before the committed offsets again", lag)
		}
	}
	w.end()
	r.contiguous()
}

// A partition of decisions serves several source partitions, and an open
// transaction in it hides what others committed after. Whoever takes over a
// source partition then waits, rather than forget what was decided: repeats
// stay repeats, and ceilings hold.
func TestTortureTakeOverBehindOpenTransaction(t *testing.T) {
	t.Parallel()
	_, seed := newRand(t)
	cluster, prefix := kafkatest.Shared(t)
	r := newRig(t, cluster, prefix)
	const people = 24_000
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	r.openSubjects(g, people)
	items, known := plan(rand.New(rand.NewPCG(seed, 8)), g, people)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	p := r.publisher()
	half := len(items) / 4
	if err := p.send(ctx, items[:half]); err != nil {
		t.Fatal(err)
	}
	first := r.serve(0, r.config)
	r.drain(2 * time.Minute)

	// Somebody's transaction stands open in every partition of decisions.
	other, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.DisableClientMetrics(), kgo.TransactionalID(r.prefix+"other"),
		kgo.TransactionTimeout(2*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	if err := other.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for n := range sourcePartitions {
		if err := other.ProduceSync(ctx, &kgo.Record{Topic: r.topics.Decisions(), Partition: int32(n), Value: []byte("never committed")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.send(ctx, items[half:2*half]); err != nil {
		t.Fatal(err)
	}
	r.decided(2 * time.Minute) // whom to tell is not known while the transaction stands open
	first.kill()
	if err := p.send(ctx, items[2*half:]); err != nil {
		t.Fatal(err)
	}
	before, _, err := r.committed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second := r.serve(1, r.config)
	if !until(time.Minute, func() bool { return strings.Contains(second.all(), "waiting to take a partition over") }) {
		t.Errorf("the new owner does not say that it waits\n%s", second.tail())
	}
	after, _, err := r.committed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for at, was := range before {
		if after[at] != was {
			t.Errorf("%s/%d: decided from %d on though what was decided before could not be read", at.topic, at.partition, was)
		}
	}
	if err := other.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	r.drain(2 * time.Minute)
	second.term()
	r.audit(g, known).run(p.sent)
}
