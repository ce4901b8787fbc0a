package flow

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

// What a transaction wrote is gone when it is over; the room for it is not.
func TestReleaseWipes(t *testing.T) {
	var w work
	var kept [][]byte
	for range 3 {
		start := w.arena.mark(arenaChunk / 2)
		kept = append(kept, w.arena.take(start, append(start, "a person's income"...)))
	}
	start := w.arena.mark(100) // it outgrows the room: what was written there first goes too
	first := append(start, "a person's income"...)
	kept = append(kept, first[:len(first):len(first)])
	w.arena.take(start, make([]byte, arenaChunk+1))
	r := w.slab.record()
	r.Value, r.Headers = kept[0], append(w.slab.headers(1), kgo.RecordHeader{Key: "k", Value: kept[1]})
	headers := r.Headers
	w.rec = broker.Record{Data: kept[0], Attributes: []string{"a"}}
	w.cuts = append(w.cuts, cut{value: kept[0]})
	w.release()
	for _, b := range kept {
		if bytes.ContainsFunc(b, func(r rune) bool { return r != 0 }) {
			t.Errorf("%q is kept", b)
		}
	}
	if r.Value != nil || headers[0].Value != nil || w.rec.Data != nil || w.cuts[:1][0].value != nil {
		t.Error("something still points to what was written")
	}
	if w.arena.used != 0 || len(w.arena.chunks) == 0 {
		t.Errorf("%d chunks in use of %d", w.arena.used, len(w.arena.chunks))
	}
}

// The client wipes all of what it gives back, so a large slice is not lent for a
// small batch.
func TestPoolLendsWhatFits(t *testing.T) {
	var p fetchPool
	for range 100 {
		p.PutDecompressBytes(make([]byte, keptBytes))
		p.PutRecords(make([]kgo.Record, 1<<20))
		if n := cap(p.GetDecompressBytes(make([]byte, 100), kgo.CodecSnappy)); n > 100_000 {
			t.Fatalf("%d bytes are lent for 100", n)
		}
		if r := p.GetRecords(3); cap(r) > 100_000 || len(r) != 3 {
			t.Fatalf("%d records of %d are lent for 3", len(r), cap(r))
		}
	}
}

// One session learns that it lost a partition after another has taken it over:
// the lag that this one shows stays.
func TestLagOutlivesAnotherSession(t *testing.T) {
	b := New(Options{Config: Defaults()})
	tp := topicPartition{b.topics.Source("d"), 3}
	b.metrics.own(tp)
	b.metrics.own(tp)
	b.metrics.lag.WithLabelValues("d", "3").Set(7)
	b.metrics.forget(tp)
	if n := seriesOf(b.metrics.lag); n != 1 {
		t.Errorf("%d gauges; the other session still has the partition", n)
	}
	b.metrics.forget(tp)
	if n := seriesOf(b.metrics.lag); n != 0 {
		t.Errorf("%d gauges of a partition that nobody has", n)
	}
}

func seriesOf(c prometheus.Collector) (n int) {
	ch := make(chan prometheus.Metric)
	go func() { c.Collect(ch); close(ch) }()
	for range ch {
		n++
	}
	return n
}

// What a delivery's headers did not take is lent again, to nobody else's harm, and
// all that was lent is wiped.
func TestSlabTrims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s slab
		var lent [][]kgo.RecordHeader
		used := 0
		for i := range rapid.IntRange(1, 2000).Draw(t, "deliveries") {
			h := s.headers(17)
			for range (i*7 + i/3) % 20 { // up to three more than there is room for
				h = append(h, kgo.RecordHeader{Key: strconv.Itoa(i)})
			}
			if h = s.trim(h); cap(h) != len(h) {
				t.Fatalf("%d headers with room for %d", len(h), cap(h))
			}
			used += len(h)
			lent = append(lent, h)
		}
		for i, h := range lent {
			for _, h := range h {
				if h.Key != strconv.Itoa(i) {
					t.Fatalf("of delivery %d a header is delivery %s's", i, h.Key)
				}
			}
		}
		if s.nh > 2+used/(8*slabChunk) {
			t.Errorf("%d headers take %d chunks", used, s.nh)
		}
		s.release()
		for i := range s.heads {
			for _, h := range s.heads[i][:cap(s.heads[i])] {
				if h.Key != "" {
					t.Fatal("a header is kept")
				}
			}
		}
	})
}
