package positions

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// model holds entries in a list, and finds what is current by looking at each.
type model struct {
	entries  []modelEntry
	floors   map[place]int64
	datasets map[place]broker.DatasetID
}

type modelEntry struct {
	Entry
	subject broker.SubjectKey
}

func (m *model) current(dataset broker.DatasetID, subject broker.SubjectKey, bound Bound) []Entry {
	var seen []modelEntry
	for _, e := range m.entries {
		p := place{e.TopicID, e.Partition}
		in := bound != Bound{} && p == place{bound.TopicID, bound.Partition}
		if e.Dataset == dataset && e.Offset >= m.floors[p] && !(in && e.Offset >= bound.Before) {
			seen = append(seen, e)
		}
	}
	// Of an event that is repeated, the first counts: a change's wherever it is, an
	// original's on the subject.
	slices.SortFunc(seen, func(a, b modelEntry) int { return compare(&a.Entry, &b.Entry) })
	var members []modelEntry
	for _, e := range seen {
		if e.Kind == broker.Original && e.subject != subject {
			continue
		}
		if !slices.ContainsFunc(members, func(o modelEntry) bool { return o.Event == e.Event }) {
			members = append(members, e)
		}
	}
	// Label the chains until nothing changes.
	label := map[broker.EventHash]int{}
	for i, e := range members {
		label[e.Event] = i + 1
	}
	for i, e := range members {
		if e.Kind != broker.Original && label[e.Of] == 0 {
			label[e.Of] = len(members) + i + 1
		}
	}
	for again := true; again; {
		again = false
		for _, e := range members {
			if e.Kind == broker.Original || label[e.Event] == label[e.Of] {
				continue
			}
			low := min(label[e.Event], label[e.Of])
			label[e.Event], label[e.Of], again = low, low, true
		}
	}
	var out []Entry
	for _, e := range members {
		last := true
		for _, o := range members {
			names := o.Kind != broker.Original && o.Of == e.Event
			if names {
				last = false
			}
		}
		for _, o := range members {
			free := !slices.ContainsFunc(members, func(n modelEntry) bool { return n.Kind != broker.Original && n.Of == o.Event })
			if free && label[o.Event] == label[e.Event] && compare(&o.Entry, &e.Entry) > 0 {
				last = false
			}
		}
		asked := bound == Bound{} || place{e.TopicID, e.Partition} == place{bound.TopicID, bound.Partition}
		if last && asked && e.subject == subject && e.Kind != broker.Retraction {
			out = append(out, e.Entry)
		}
	}
	slices.Reverse(out)
	return out
}

var (
	datasets = []broker.DatasetID{"a", "b"}
	topics   = []broker.Digest{{1}, {2}}
	at0      = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

func digestOf(kind byte, n int) broker.Digest { return broker.Digest{kind, byte(n >> 8), byte(n), 9} }

// drawBatches draws what a log might say, and what a list makes of it. Events are
// few, so that they are repeated, named by several, and name each other in rings.
func drawBatches(t *rapid.T) ([]Batch, *model) {
	m := &model{floors: map[place]int64{}, datasets: map[place]broker.DatasetID{}}
	var batches []Batch
	next := map[place]int64{}
	at := at0
	subjects := rapid.IntRange(1, 3).Draw(t, "subjects")
	type fact struct {
		kind broker.RecordKind
		of   broker.EventHash
	}
	facts := map[broker.EventHash]fact{}
	for i := range rapid.IntRange(1, 30).Draw(t, "batches") {
		d := rapid.IntRange(0, 1).Draw(t, "dataset")
		p := place{topics[d], int32(rapid.IntRange(0, 1).Draw(t, "partition"))}
		at = at.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "later")) * time.Millisecond)
		b := Batch{LogPartition: p.partition, Log: LogPlace{Next: int64(i + 1), Last: int64(i), Sum: broker.Digest{byte(i)}},
			Dataset: datasets[d], TopicID: p.topicID, Partition: p.partition, At: at}
		n := rapid.IntRange(0, 4).Draw(t, "records")
		for range n {
			offset := next[p]
			next[p]++
			if rapid.IntRange(0, 9).Draw(t, "rejected") == 0 {
				continue
			}
			event := digestOf(byte(0xe0+d), rapid.IntRange(0, 12).Draw(t, "event"))
			f, known := facts[event]
			if !known {
				f.kind = broker.RecordKind(rapid.SampledFrom([]int{0, 0, 1, 1, 2}).Draw(t, "kind"))
				if f.kind != broker.Original {
					f.of = digestOf(byte(0xe0+d), rapid.IntRange(0, 12).Draw(t, "of"))
					if f.of == event {
						continue
					}
				}
				facts[event] = f
			}
			r := Record{Offset: offset, Subject: digestOf(0x50, rapid.IntRange(0, subjects-1).Draw(t, "subject")), Event: event, Kind: f.kind, Of: f.of}
			b.Records = append(b.Records, r)
			m.entries = append(m.entries, modelEntry{Entry{broker.Position{Dataset: datasets[d], TopicID: p.topicID, Partition: p.partition, Offset: offset}, event, f.kind, f.of, at}, r.Subject})
		}
		b.Next = next[p]
		batches = append(batches, b)
	}
	return batches, m
}

func openTest(t *testing.T) (*Index, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "positions.db")
	x, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x, path
}

// empty makes an open index as new, without the cost of another file.
func (x *Index) empty(t *rapid.T) {
	for _, table := range []string{"record", "change", "source", "log", "meta"} {
		if _, err := x.writing.Exec("DELETE FROM " + table); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.load(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What is current is what a list says, at every bound, before and after retention.
func TestCurrentModel(t *testing.T) {
	x, _ := openTest(t)
	rapid.Check(t, func(t *rapid.T) {
		x.empty(t)
		batches, m := drawBatches(t)
		for len(batches) > 0 { // some together
			n := rapid.IntRange(1, len(batches)).Draw(t, "together")
			if err := x.Apply(t.Context(), batches[:n]); err != nil {
				t.Fatal(err)
			}
			batches = batches[n:]
		}
		for range 2 {
			for d, dataset := range datasets {
				for s := range 3 {
					bounds := []Bound{{}}
					for p := range int32(2) {
						bounds = append(bounds, Bound{topics[d], p, int64(rapid.IntRange(0, 40).Draw(t, "before"))})
					}
					for _, bound := range bounds {
						want := m.current(dataset, digestOf(0x50, s), bound)
						most := rapid.IntRange(0, 20).Draw(t, "most")
						got, err := x.Current(t.Context(), dataset, digestOf(0x50, s), bound, most)
						if err != nil {
							t.Fatal(err)
						}
						want = want[:min(most, len(want))]
						if fmt.Sprint(got) != fmt.Sprint(want) {
							t.Fatalf("subject %d of %s within %+v:\ngot  %v\nwant %v\nof %v", s, dataset, bound, got, want, m.entries)
						}
					}
				}
			}
			for _, s := range x.Sources() {
				to := int64(rapid.IntRange(0, int(s.Next)).Draw(t, "expire"))
				m.floors[place{s.TopicID, s.Partition}] = to
				if err := x.Expire(t.Context(), s.TopicID, s.Partition, to); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.Bool().Draw(t, "sweep") {
				held, n, err := x.Digest(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for step := range Steps {
					if step == 0x50 || step >= 0xe0 && step <= 0xe1 {
						if _, err := x.Sweep(t.Context(), step); err != nil {
							t.Fatal(err)
						}
					}
				}
				swept, left, err := x.Digest(t.Context())
				if err != nil || swept != held || left != n {
					t.Fatalf("sweeping changed what is held: %d records, then %d; %v", n, left, err)
				}
				var rows int64
				if err := x.writing.QueryRow("SELECT count(*) FROM record").Scan(&rows); err != nil || rows != left {
					t.Fatalf("%d rows are left, of %d records: %v", rows, left, err)
				}
			}
		}
	})
}
