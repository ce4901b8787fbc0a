package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func tail(t testing.TB, e *Engine, topic string, o TailOptions) *Tail {
	t.Helper()
	tl, err := e.Tail(bounded(t), topic, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tl.Close)
	return tl
}

// Everybody who reads a tail gets every committed record once and in order, however
// far behind, however slow, and however little of it is in memory.
func TestTail(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx, draw := bounded(t), testRand(t)
		spec := cfg.DeliveriesSpec()
		spec.Partitions = 2
		ensure(t, e, spec)
		before := fill(t, e, spec.Name, 2, draw)
		tl := tail(t, e, spec.Name, TailOptions{Memory: 2 * 5 * 210, Readers: 2}) // some five records a partition
		type result struct {
			p    int32
			from int64
			got  []string
		}
		var mu sync.Mutex
		var results []result
		var wg sync.WaitGroup
		read := func(p int32, from int64, seed uint64) {
			draw := rand.New(rand.NewPCG(seed, 1))
			r := result{p: p, from: from}
			for at := from; ; {
				records, next, err := tl.Read(ctx, p, at, 1+draw.IntN(6), time.Minute)
				if err != nil || next < at || len(records) == 0 && next == at {
					t.Error(records, at, next, err)
					return
				}
				for _, rec := range records {
					r.got = append(r.got, told(rec))
				}
				at = next
				if n := len(records); n > 0 && string(records[n-1].Value) == "end" {
					mu.Lock()
					results = append(results, r)
					mu.Unlock()
					return
				}
			}
		}
		for i := range 20 {
			p := int32(i % 2)
			from := draw.Int64N(int64(len(before[p])) + 1)
			seed := draw.Uint64()
			wg.Go(func() { read(p, from, seed) })
		}
		fill(t, e, spec.Name, 2, draw)
		if err := transact(ctx, producer(t, e, "end"), spec.Name, 2, "end", kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		read(0, 0, 0) // all that is in between is long out of memory
		spans, err := Spans(ctx, admin(t, e), spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			var want []string
			s := spans[r.p]
			s.From = r.from
			if err := e.Each(ctx, s, func(rec *kgo.Record) error { want = append(want, told(rec)); return nil }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.got, want) {
				t.Errorf("partition %d from %d: %v, want %v", r.p, r.from, r.got, want)
			}
		}
		if len(results) != 21 && !t.Failed() {
			t.Errorf("%d came to the end", len(results))
		}
		for i := range tl.parts {
			if p := &tl.parts[i]; p.bytes > tl.each || len(p.records) > 5 {
				t.Errorf("partition %d: %d records, %d bytes in memory", i, len(p.records), p.bytes)
			}
		}
		if len(tl.idle) > 2 {
			t.Errorf("%d readers are kept", len(tl.idle))
		}
	})
}

// settle fills so that all is in a tail's memory, and returns where it ends.
func caughtUp(t *testing.T, tl *Tail, p int32, end int64) {
	t.Helper()
	for at := tl.parts[p].low; at < end; {
		_, next, err := tl.Read(bounded(t), p, at, 100, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		at = next
	}
}

// Where there is nothing, a tail says so at once, or waits as long as it is told,
// and no longer than its caller; what is not there is an error.
func TestTailEnds(t *testing.T) {
	cfg := embedded(t.TempDir())
	e, spec := open(t, cfg, Own), cfg.DeliveriesSpec()
	spec.Partitions = 2
	ensure(t, e, spec)
	ctx := bounded(t)
	log := fill(t, e, spec.Name, 2, testRand(t))
	end := int64(len(log[0]))
	tl := tail(t, e, spec.Name, TailOptions{})
	if ids, err := TopicIDs(ctx, admin(t, e), spec.Name); err != nil || tl.ID() != ids[spec.Name] || tl.Partitions() != 2 {
		t.Error(tl.ID(), tl.Partitions(), ids, err)
	}
	nothing := func(p int32, from, wantNext int64, wait time.Duration) {
		t.Helper()
		if records, next, err := tl.Read(ctx, p, from, 10, wait); err != nil || len(records) > 0 || next != wantNext {
			t.Errorf("from %d: %v, next %d, want %d (%v)", from, records, next, wantNext, err)
		}
	}
	nothing(0, end, end, 0)
	nothing(0, end, end, time.Millisecond)
	nothing(0, end-1, end, 0) // the last is a marker
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := tl.Read(cancelled, 0, end, 10, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, bad := range []func() error{
		func() error { _, _, err := tl.Read(ctx, 2, 0, 10, 0); return err },
		func() error { _, _, err := tl.Read(ctx, -1, 0, 10, 0); return err },
		func() error { _, _, err := tl.Read(ctx, 0, 0, 0, 0); return err },
		func() error { _, _, err := tl.Read(ctx, 0, -1, 1, 0); return err },
	} {
		if bad() == nil {
			t.Error("no error")
		}
	}
	gone := func(p int32, from int64, want GoneError) {
		t.Helper()
		_, _, err := tl.Read(ctx, p, from, 10, time.Hour)
		got, ok := errors.AsType[*GoneError](err)
		if !ok {
			t.Fatal(err)
		}
		if found := *got; !errors.Is(err, kerr.OffsetOutOfRange) || found.Start != want.Start || found.End != want.End || found.Offset != from {
			t.Errorf("%+v, want %+v", found, want)
		}
	}
	gone(0, end+1, GoneError{Start: 0, End: end})
	del := kadm.Offsets{}
	del.Add(kadm.Offset{Topic: spec.Name, Partition: 0, At: 4})
	if _, err := admin(t, e).DeleteRecords(ctx, del); err != nil {
		t.Fatal(err)
	}
	gone(0, 3, GoneError{Start: 4, End: end})

	// One who has seen more than this tail: it waits until it has seen it too.
	p := &tl.parts[1]
	p.mu.Lock()
	ahead := p.high + 1
	p.mu.Unlock()
	if err := transact(ctx, producer(t, e, "x"), spec.Name, 2, "more", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if err := transact(ctx, producer(t, e, "x"), spec.Name, 2, "and more", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if records, next, err := tl.Read(ctx, 1, ahead+1, 1, time.Minute); err != nil || len(records) != 1 || string(records[0].Value) != "and more" || next != ahead+2 {
		t.Error(records, next, err)
	}

	waiting := make(chan error)
	go func() {
		_, _, err := tl.Read(ctx, 0, end+4, 10, time.Hour)
		waiting <- err
	}()
	tl.Close()
	if err := <-waiting; !errors.Is(err, errTailClosed) {
		t.Error(err)
	}
	if _, err := e.Tail(ctx, cfg.Topics().Mailbox("none"), TailOptions{}); err == nil {
		t.Error("a tail of a topic that is not there")
	}
}

// A topic that was made anew ends its tail: offsets of the old one mean nothing.
func TestTailOfATopicMadeAnew(t *testing.T) {
	cfg := embedded(t.TempDir())
	e, spec := open(t, cfg, Own), cfg.MailboxSpec("m")
	ensure(t, e, spec)
	ctx := bounded(t)
	cl := producer(t, e, "x")
	if err := transact(ctx, cl, spec.Name, 1, "v", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	tl := tail(t, e, spec.Name, TailOptions{})
	if err := transact(ctx, cl, spec.Name, 1, "w", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	caughtUp(t, tl, 0, 4)
	if _, err := admin(t, e).DeleteTopic(ctx, spec.Name); err != nil {
		t.Fatal(err)
	}
	ensure(t, e, spec)
	if _, _, err := tl.Read(ctx, 0, 4, 1, time.Hour); !errors.Is(err, kerr.UnknownTopicID) {
		t.Fatal(err)
	}
	// And what had been read from Kafka until then is not read from the new one.
	if _, _, err := tl.Read(ctx, 0, 0, 1, time.Hour); !errors.As(err, new(*GoneError)) {
		t.Fatal(err)
	}
}

// Readers that were read from are kept for who goes on, and for nobody for long.
func TestTailKeepsReaders(t *testing.T) {
	cfg := embedded(t.TempDir())
	e, spec := open(t, cfg, Own), cfg.MailboxSpec("m")
	ensure(t, e, spec)
	ctx := bounded(t)
	for range 4 {
		if err := transact(ctx, producer(t, e, "x"), spec.Name, 1, "v", kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	tl := tail(t, e, spec.Name, TailOptions{Readers: 1})
	read := func(from, want int64) *Reader {
		t.Helper()
		records, next, err := tl.Read(ctx, 0, from, 1, 0)
		if err != nil || len(records) != 1 || records[0].Offset != want || next != want+1 {
			t.Fatal(records, next, err)
		}
		if len(tl.idle) != 1 {
			t.Fatalf("%d readers are kept", len(tl.idle))
		}
		return tl.idle[0].Reader
	}
	first := read(0, 0)
	if read(1, 2) != first {
		t.Error("who goes on has a new reader")
	}
	if read(2, 2) == first {
		t.Error("who begins elsewhere has the same reader")
	}
	for err := error(nil); err == nil; _, err = first.Read(ctx) {
		if err == io.EOF {
			t.Error("the one that made way was not closed")
		}
	}
}

// What many who wait cost: `go test -run none -bench TailWaiting ./broker/kafka`.
func BenchmarkTailWaiting(b *testing.B) {
	for _, readers := range []int{1, 100, 1000, 10_000} {
		b.Run(strconv.Itoa(readers), func(b *testing.B) {
			cfg := embedded(b.TempDir())
			e, spec := open(b, cfg, Own), cfg.MailboxSpec("m")
			ensure(b, e, spec)
			tl := tail(b, e, spec.Name, TailOptions{})
			cl := client(b, e)
			ctx := context.Background()
			heard := make(chan error, readers)
			for range readers {
				go func() {
					for at := int64(0); ; {
						records, next, err := tl.Read(ctx, 0, at, 100, time.Hour)
						if err != nil {
							return
						}
						at = next
						for range records {
							heard <- nil
						}
					}
				}()
			}
			value := make([]byte, 1000)
			for b.Loop() {
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: spec.Name, Value: value}).FirstErr(); err != nil {
					b.Fatal(err)
				}
				for range readers {
					<-heard
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*readers), "µs/reader")
		})
	}
}

// The same with a reader of its own for each.
func BenchmarkReadersWaiting(b *testing.B) {
	for _, readers := range []int{1, 100} {
		b.Run(fmt.Sprint(readers), func(b *testing.B) {
			cfg := embedded(b.TempDir())
			e, spec := open(b, cfg, Own), cfg.MailboxSpec("m")
			ensure(b, e, spec)
			cl := client(b, e)
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			heard := make(chan error, readers)
			for range readers {
				r, err := e.Reader([]Span{{Topic: spec.Name, To: Follow}})
				if err != nil {
					b.Fatal(err)
				}
				defer r.Close()
				go func() {
					for {
						if _, err := r.Read(ctx); err != nil {
							return
						}
						heard <- nil
					}
				}()
			}
			value := make([]byte, 1000)
			for b.Loop() {
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: spec.Name, Value: value}).FirstErr(); err != nil {
					b.Fatal(err)
				}
				for range readers {
					<-heard
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*readers), "µs/reader")
		})
	}
}
