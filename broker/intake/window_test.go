package intake

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// logRecord is one accepted record of a partition.
type logRecord struct {
	event   broker.EventHash
	content uint64
	offset  int64
	ts      time.Time
}

// naive judges a whole log: the definition in Window's comment.
func naive(log []logRecord, l Limits) []Verdict {
	var out []Verdict
	for i := range log {
		out = append(out, naiveOne(log, out, i, l))
	}
	return out
}

func naiveOne(log []logRecord, verdicts []Verdict, i int, l Limits) Verdict {
	r := log[i]
	for j, before := range log[:i] {
		if verdicts[j] == Reused || before.event != r.event || r.offset-before.offset > int64(l.Window) || r.ts.Sub(before.ts) > l.WindowAge {
			continue
		}
		if before.content == r.content {
			return Repeated
		}
		return Reused
	}
	return Fresh
}

// TestWindowIsAFunctionOfTheLog: whatever transactions, aborts and restarts
// fall where, each record gets the verdict that the log alone gives.
func TestWindowIsAFunctionOfTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{
			Window:    rapid.IntRange(1, 40).Draw(t, "window"),
			WindowAge: time.Duration(rapid.IntRange(1, 60).Draw(t, "age")) * time.Second,
		}
		ids := rapid.IntRange(1, 60).Draw(t, "ids")
		var log []logRecord
		offset, ts := int64(0), time.Unix(1_700_000_000, 0)
		for range rapid.IntRange(0, 250).Draw(t, "records") {
			offset += int64(rapid.SampledFrom([]int{1, 1, 1, 1, 2, 7}).Draw(t, "gap"))
			ts = ts.Add(time.Duration(rapid.IntRange(-4, 8).Draw(t, "half seconds")) * 500 * time.Millisecond)
			var event broker.EventHash
			event[5] = byte(rapid.IntRange(1, ids).Draw(t, "id"))
			event[4] = event[5] & 1     // which marks tell, or do not
			event[0] = 120 + event[5]/3 // few homes, at the end of the index: long runs, around the corner too
			log = append(log, logRecord{event, uint64(rapid.IntRange(1, 3).Draw(t, "content")), offset, ts})
		}

		want := naive(log, limits)
		w := NewWindow(limits)
		committed := 0
		for i := 0; i < len(log); {
			r := log[i]
			if got := w.Check(r.event, r.content, r.offset, r.ts); got != want[i] {
				t.Fatalf("record %d at offset %d: got %s, want %s", i, r.offset, got, want[i])
			}
			i++
			switch rapid.SampledFrom([]string{"", "", "", "", "commit", "abort", "restart"}).Draw(t, "then") {
			case "commit":
				w.Commit()
				committed = i
			case "abort":
				w.Abort()
				i = committed
			case "restart":
				w = NewWindow(limits)
				i = committed
				if i == len(log) {
					break
				}
				floor := w.Floor(log[i].offset)
				for j, r := range log[:i] {
					if r.offset >= floor && want[j] != Reused {
						w.Restore(r.event, r.content, r.offset, r.ts)
					}
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "settle") == 0 { // or an unlucky run never ends
				w.Commit()
				committed = i
			}
			checkWindow(t, w)
			if w.pending == 0 && w.Len() > limits.Window {
				t.Fatalf("%d records remembered, at most %d matter", w.Len(), limits.Window)
			}
		}
	})
}

// checkWindow audits the ring, the lists and the index against each other.
func checkWindow(t interface{ Fatalf(string, ...any) }, w *Window) {
	lists := map[broker.EventHash][]uint32{}
	for i := range w.count {
		s := w.slot(i)
		lists[w.entries[s].event] = append(lists[w.entries[s].event], uint32(s))
	}
	indexed := 0
	for at, v := range w.index {
		if v == 0 {
			continue
		}
		indexed++
		event := w.entries[w.at(at)].event
		if away := (at - w.home(event)) & (len(w.index) - 1); v>>slotBits != marks(event, away) {
			t.Fatalf("cell %d is marked %o, want %o", at, v>>slotBits, marks(event, away))
		}
	}
	if indexed != len(lists) {
		t.Fatalf("the index holds %d events, the ring %d", indexed, len(lists))
	}
	for event, slots := range lists {
		at, found := w.find(event)
		if !found {
			t.Fatalf("an event in the ring is not in the index")
		}
		var got []uint32
		for s := w.at(at); s != none; s = w.entries[s].next {
			got = append(got, s)
		}
		if !slices.Equal(got, slots) {
			t.Fatalf("an event's list is %v, want %v", got, slots)
		}
		if youngest := w.entries[slots[0]].prev; youngest != slots[len(slots)-1] {
			t.Fatalf("the oldest entry leads to slot %d as the youngest, want %d", youngest, slots[len(slots)-1])
		}
	}
}

func TestWindowRefusesFallingOffsets(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a record at an offset already seen was judged")
		}
	}()
	w := NewWindow(Defaults())
	w.Check(broker.EventHash{1}, 1, 5, time.Unix(0, 0))
	w.Check(broker.EventHash{2}, 1, 5, time.Unix(0, 0))
}
