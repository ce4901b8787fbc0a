package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

func keyed(topic string, p int32, key, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: p, Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "whose", Value: []byte(key)}}}
}

// keyedFill writes transactions of records of some keys, some of them aborted.
func keyedFill(t testing.TB, e *Engine, topic string, keys, rounds int, draw *rand.Rand) {
	t.Helper()
	ctx, cl := bounded(t), producer(t, e, topic)
	for i := range rounds {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for n := range 1 + draw.IntN(6) {
			key := "loud"
			if draw.IntN(4) == 0 {
				key = strconv.Itoa(draw.IntN(keys))
			}
			if err := cl.ProduceSync(ctx, keyed(topic, int32(draw.IntN(2)), key, fmt.Sprintf("%d.%d", i, n))).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(draw.IntN(4) > 0)); err != nil {
			t.Fatal(err)
		}
	}
}

// Each key's readers get each of its committed records once and in order, from
// wherever they begin: from Kafka, from memory, over what the index knows and what it
// has let go of, while more comes.
func TestTailByKey(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx, draw := bounded(t), testRand(t)
		spec := cfg.DeliveriesSpec()
		spec.Partitions = 2
		ensure(t, e, spec)
		const keys = 4
		keyedFill(t, e, spec.Name, keys, 15, draw)
		// An index of some records a partition, less than memory in the second.
		for _, o := range []TailOptions{{Memory: 2 * 6 * 230, Offsets: 60}, {Memory: 1 << 20, Offsets: 12}, {Memory: 2 * 6 * 230}} {
			o.KeyHeader = "whose"
			tl := tail(t, e, spec.Name, o)
			type result struct {
				key  string
				p    int32
				from int64
				got  []string
			}
			var mu sync.Mutex
			var results []result
			var wg sync.WaitGroup
			spans, err := Spans(ctx, admin(t, e), spec.Name)
			if err != nil {
				t.Fatal(err)
			}
			read := func(key string, p int32, from int64, seed uint64) {
				draw := rand.New(rand.NewPCG(seed, 1))
				r := result{key: key, p: p, from: from}
				for at := from; ; {
					records, next, _, err := tl.ReadKey(ctx, p, key, at, 1+draw.IntN(6), draw.IntN(20), time.Minute)
					if err != nil || next < at || len(records) == 0 && next == at {
						t.Error(records, at, next, err)
						return
					}
					for _, rec := range records {
						if rec.Offset < at || rec.Offset >= next {
							t.Errorf("offset %d of [%d, %d)", rec.Offset, at, next)
						}
						r.got = append(r.got, told(rec))
					}
					at = next
					if n := len(records); n > 0 && string(records[n-1].Value) == "end" {
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				results = append(results, r)
			}
			names := []string{"loud"}
			for k := range keys {
				names = append(names, strconv.Itoa(k))
			}
			for _, key := range names {
				for p := range int32(2) {
					for range 3 {
						from, seed := draw.Int64N(spans[p].To+1), draw.Uint64()
						wg.Go(func() { read(key, p, from, seed) })
					}
				}
			}
			keyedFill(t, e, spec.Name, keys, 15, draw)
			// Behind the tail, before it and in it, while nothing moves.
			cl := producer(t, e, "end")
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for _, key := range names {
				for p := range int32(2) {
					if err := cl.ProduceSync(ctx, keyed(spec.Name, p, key, "end")).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			for _, key := range names {
				read(key, 0, 0, 1)
			}
			all := map[int32][]*kgo.Record{}
			if spans, err = Spans(ctx, admin(t, e), spec.Name); err != nil {
				t.Fatal(err)
			}
			for p, s := range spans {
				if err := e.Each(ctx, s, func(rec *kgo.Record) error { all[int32(p)] = append(all[int32(p)], rec); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range results {
				var want []string
				for _, rec := range all[r.p] {
					if rec.Offset < r.from || tl.key(rec) != r.key {
						continue
					}
					if want = append(want, told(rec)); string(rec.Value) == "end" && len(want) >= len(r.got) {
						break
					}
				}
				if !slices.Equal(r.got, want) {
					t.Errorf("%s, partition %d from %d: %v, want %v", r.key, r.p, r.from, r.got, want)
				}
			}
			for i := range tl.parts {
				p := &tl.parts[i]
				if len(p.waiting) > 0 {
					t.Errorf("%d are waited for by nobody", len(p.waiting))
				}
				n := 0
				for _, gen := range []map[string][]int64{p.index.old, p.index.now} {
					for _, offsets := range gen {
						n += len(offsets)
					}
				}
				if n > 2*p.index.most {
					t.Errorf("%d offsets are indexed, over %d", n, 2*p.index.most)
				}
			}
			tl.Close()
		}
	})
}

// Nobody is woken by another's records; and a wait that ends has passed over them.
func TestTailWakesWhoseItIs(t *testing.T) {
	cfg := embedded(t.TempDir())
	e, spec := open(t, cfg, Own), cfg.MailboxSpec("m")
	ensure(t, e, spec)
	ctx, cl := bounded(t), client(t, e)
	tl := tail(t, e, spec.Name, TailOptions{KeyHeader: "whose"})
	p := &tl.parts[0]
	p.mu.Lock()
	w := p.await("quiet")
	p.mu.Unlock()
	for i := range 10 {
		if err := cl.ProduceSync(ctx, keyed(spec.Name, 0, "loud", strconv.Itoa(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	caughtUp(t, tl, 0, 10)
	select {
	case <-w.came:
		t.Error("woken by another's record")
	default:
	}
	p.leave("quiet", w)
	if records, next, more, err := tl.ReadKey(ctx, 0, "quiet", 0, 10, 1, time.Millisecond); err != nil || len(records) > 0 || next != 10 || more {
		t.Error(records, next, more, err)
	}
	got := make(chan error, 1)
	go func() {
		records, next, _, err := tl.ReadKey(ctx, 0, "quiet", 10, 10, 1, time.Hour)
		if err == nil && (len(records) != 1 || next != 11) {
			err = fmt.Errorf("%v, next %d", records, next)
		}
		got <- err
	}()
	if err := cl.ProduceSync(ctx, keyed(spec.Name, 0, "quiet", "x")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	// One that is let go of, by its caller or by the tail, leaves nothing behind.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, _, err := tl.ReadKey(gone, 0, "quiet", 11, 10, 1, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		_, _, _, err := tl.ReadKey(ctx, 0, "quiet", 11, 10, 1, time.Hour)
		got <- err
	}()
	tl.Close()
	if err := <-got; !errors.Is(err, errTailClosed) {
		t.Error(err)
	}
	if len(p.waiting) > 0 {
		t.Error("somebody is waited for by nobody")
	}
	if _, _, _, err := tail(t, e, spec.Name, TailOptions{}).ReadKey(ctx, 0, "quiet", 0, 1, 1, 0); err == nil {
		t.Error("a tail without keys has some")
	}
	if _, _, _, err := tail(t, e, spec.Name, TailOptions{KeyHeader: "whose"}).ReadKey(ctx, 0, "quiet", 12, 1, 1, 0); !errors.As(err, new(*GoneError)) {
		t.Error("past the end:", err)
	}
}

// The index finds what a search through all of it finds, as far back as it goes.
func TestTailIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			key    string
			offset int64
		}
		x := newTailIndex(rapid.Int64Range(0, 5).Draw(t, "from"), rapid.IntRange(1, 8).Draw(t, "most"))
		var all []entry
		at := x.from
		for range rapid.IntRange(0, 40).Draw(t, "records") {
			at += rapid.Int64Range(0, 3).Draw(t, "gap")
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			all = append(all, entry{key, at})
			x.add(key, at)
			at++
		}
		if x.from > at {
			t.Fatalf("it goes back to %d, after its end %d", x.from, at)
		}
		for _, key := range []string{"a", "b", "c", "d"} {
			for o := x.from; o <= at; o++ {
				i := slices.IndexFunc(all, func(e entry) bool { return e.key == key && e.offset >= o })
				got, ok := x.next(key, o)
				if ok != (i >= 0) || ok && got != all[i].offset {
					t.Fatalf("%s from %d: %d %t", key, o, got, ok)
				}
			}
		}
	})
}

// What others' records cost those who wait for their own, and who comes back after
// many of others': `go test -run none -bench TailKeys ./broker/kafka`. With the index,
// a record for one wakes one.
func BenchmarkTailKeys(b *testing.B) {
	for _, readers := range []int{100, 1000} {
		for _, how := range []string{"scan", "index"} {
			b.Run(fmt.Sprintf("waiting=%d/%s", readers, how), func(b *testing.B) {
				cfg := embedded(b.TempDir())
				e, spec := open(b, cfg, Own), cfg.MailboxSpec("m")
				ensure(b, e, spec)
				tl := tail(b, e, spec.Name, TailOptions{KeyHeader: "whose"})
				cl := client(b, e)
				ctx := context.Background()
				heard := make(chan struct{}, readers)
				for i := range readers {
					key := strconv.Itoa(i)
					go func() {
						for at := int64(0); ; {
							var records []*kgo.Record
							var err error
							if how == "index" {
								records, at, _, err = tl.ReadKey(ctx, 0, key, at, 100, 1<<20, time.Hour)
							} else {
								records, at, err = tl.Read(ctx, 0, at, 500, time.Hour)
								records = slices.DeleteFunc(records, func(r *kgo.Record) bool { return tl.key(r) != key })
							}
							if err != nil {
								return
							}
							for range records {
								heard <- struct{}{}
							}
						}
					}()
				}
				value := string(make([]byte, 1000))
				n := 0
				for b.Loop() {
					if err := cl.ProduceSync(ctx, keyed(spec.Name, 0, strconv.Itoa(n%readers), value)).FirstErr(); err != nil {
						b.Fatal(err)
					}
					n++
					<-heard
				}
			})
		}
	}
}
