package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// However many sessions share the work, each record is copied once for each of the
// fan-out, whole; and what is counted in a topic is what was written to it.
func TestCopyBySeveralSessions(t *testing.T) {
	cfg := kafka.Defaults()
	cfg.Data, cfg.SourcePartitions, cfg.Reserve = t.TempDir(), 3, 0
	engine, err := kafka.Open(t.Context(), cfg, nil, kafka.Own)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	target := cfg.DeliveriesSpec()
	target.Name, target.Partitions = "raw", 4
	source := cfg.SourceSpec("inntekt")
	if err := engine.EnsureTopics(t.Context(), source, target); err != nil {
		t.Fatal(err)
	}
	const n, fanout = 500, 2
	var messages []kafka.Raw
	for i := range n {
		messages = append(messages, kafka.Raw{Topic: source.Name, Key: fmt.Append(nil, i), Value: []byte("value"), Headers: map[string]string{"h": "abc"}})
	}
	if err := engine.Write(t.Context(), messages...); err != nil {
		t.Fatal(err)
	}
	for _, sessions := range []int{1, 3} {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			last := int64(0)
			c := Copy{Engine: engine, Group: fmt.Sprint("g", sessions), Source: source.Name, Sessions: sessions, MaxRecords: 50, Time: 50 * time.Millisecond, Records: n,
				Options: func() []kgo.Opt {
					return []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
						kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart())}
				},
				Transform: Raw("raw", 4, fanout),
				Committed: func(done int64) {
					if done <= last {
						t.Errorf("%d committed after %d", done, last)
					}
					last = done
				}}
			before, err := TopicSize(t.Context(), engine, "raw")
			if err != nil {
				t.Fatal(err)
			}
			done, err := c.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if done.Read != n || done.Written != n*fanout || last != n || done.Transactions < 1 {
				t.Errorf("%+v, %d at last", done, last)
			}
			after, err := TopicSize(t.Context(), engine, "raw")
			if err != nil {
				t.Fatal(err)
			}
			// Keys of 0 to 499 are 1,390 bytes.
			want := Size{Records: n * fanout, Values: fanout * (1390 + n*5), Headers: fanout * n * 4}
			if got := (Size{after.Records - before.Records, after.Values - before.Values, after.Headers - before.Headers}); got != want {
				t.Errorf("%+v were written, want %+v", got, want)
			}
		})
	}
}

// Under a time, transactions shrink to what fits and grow again, within bounds.
func TestCopyFits(t *testing.T) {
	r := run{Copy: &Copy{MaxRecords: 1000, Time: 100 * time.Millisecond}}
	for _, c := range []struct {
		limit, n       int
		computed, took time.Duration
		want           int
	}{
		{400, 400, 10 * time.Millisecond, 10 * time.Millisecond, 800},   // full and fast
		{400, 300, 10 * time.Millisecond, 10 * time.Millisecond, 400},   // not full: nothing learnt
		{800, 800, 10 * time.Millisecond, 10 * time.Millisecond, 1000},  // the most
		{800, 800, 400 * time.Millisecond, 400 * time.Millisecond, 500}, // half way to the 200 that fit
		{120, 100, 10 * time.Second, 10 * time.Second, 100},             // the least
		{400, 400, 80 * time.Millisecond, 80 * time.Millisecond, 500},   // no more than fit
		{400, 400, 10 * time.Millisecond, 900 * time.Millisecond, 800},  // a slow commit is not bought down
	} {
		if got := r.fit(c.limit, c.n, c.computed, c.took); got != c.want {
			t.Errorf("fit(%d, %d, %v, %v) = %d, want %d", c.limit, c.n, c.computed, c.took, got, c.want)
		}
	}
}

// A seed gives the same cases, and another seed others.
func TestCasesFollowTheirSeed(t *testing.T) {
	draw := func(seed uint64) []byte {
		terms, cases, err := Cases(seed, 50)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal([]any{terms, cases})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(draw(1), draw(1)) || bytes.Equal(draw(1), draw(2)) {
		t.Error("cases do not follow their seed")
	}
}
