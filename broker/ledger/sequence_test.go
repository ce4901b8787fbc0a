package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

func batchEntry(topic byte, partition int32, at, first, last int64, rev broker.Revision, second int64) Entry {
	n := last - first + 1
	return Entry{Type: BatchEntry, Lines: 1, Revision: rev, Batch: Batch{At: Place{0, at}, Kind: "stream", Dataset: broker.DatasetID(rune('a' + topic)), TopicID: broker.Digest{topic},
		Partition: partition, First: first, Last: last, Records: n, OutOfScope: n, Time: time.Unix(second, 0)}}
}

func controlEntry(first, last, events int64, rev broker.Revision) Entry {
	return Entry{Type: ControlEntry, Lines: last - first + 1, Revision: rev, Control: Control{First: first, Last: last, Events: events}}
}

func TestSequenceRefuses(t *testing.T) {
	base := []Entry{controlEntry(0, 4, 3, 3), batchEntry(1, 0, 10, 0, 9, 3, 100), batchEntry(1, 1, 11, 0, 4, 2, 100), controlEntry(6, 6, 1, 4)}
	with := func(e Entry, change func(*Entry)) Entry { change(&e); return e }
	next := batchEntry(1, 0, 12, 10, 19, 4, 101)
	for _, c := range []struct {
		name string
		e    Entry
		want FaultName
	}{
		{"the next one", next, ""},
		{"of another topic id", batchEntry(2, 0, 12, 0, 3, 1, 1), ""},
		{"at the same revision and time", with(next, func(e *Entry) { e.Revision, e.Batch.Time = 3, time.Unix(100, 0) }), ""},
		{"a gap", with(next, func(e *Entry) { e.Batch.First++; e.Batch.Records--; e.Batch.OutOfScope-- }), Gap},
		{"a gap at the beginning", batchEntry(2, 0, 12, 5, 9, 1, 1), Gap},
		{"a labelled skip", with(batchEntry(2, 0, 12, 5, 9, 1, 1), func(e *Entry) { e.Batch.Skipped = 5 }), ""},
		{"a skip labelled too small", with(batchEntry(2, 0, 12, 5, 9, 1, 1), func(e *Entry) { e.Batch.Skipped = 4 }), Gap},
		{"a skip where there is none", with(next, func(e *Entry) { e.Batch.Skipped = 1 }), Gap},
		{"an overlap", with(next, func(e *Entry) { e.Batch.First = 8 }), Overlap},
		{"a labelled overlap", with(next, func(e *Entry) { e.Batch.First, e.Batch.Overlap = 8, 2 }), ""},
		{"an overlap labelled too large", with(next, func(e *Entry) { e.Batch.First, e.Batch.Overlap = 8, 3 }), Overlap},
		{"an overlap where there is none", with(next, func(e *Entry) { e.Batch.Overlap = 1 }), Overlap},
		{"a labelled overlap, older", with(batchEntry(1, 0, 12, 5, 9, 1, 1), func(e *Entry) { e.Batch.Overlap = 5 }), ""},
		{"decisions out of order", with(next, func(e *Entry) { e.Batch.At.Offset = 11 }), BatchOutOfOrder},
		{"time going back", with(next, func(e *Entry) { e.Batch.Time = time.Unix(99, 0) }), BatchOutOfOrder},
		{"revision going back", with(next, func(e *Entry) { e.Revision = 2 }), BatchOutOfOrder},
		{"another dataset", with(next, func(e *Entry) { e.Batch.Dataset = "other" }), BatchOutOfOrder},
		{"a revision that is not made yet", with(next, func(e *Entry) { e.Revision = 5 }), UnknownRevision},
		{"another kind", with(next, func(e *Entry) { e.Batch.Kind = "door" }), UnknownFormat},
		{"counts that do not add up", with(next, func(e *Entry) { e.Batch.Rejected = 1 }), EntryChanged},
		{"control going on", controlEntry(7, 8, 2, 6), ""},
		{"control after a marker", controlEntry(9, 9, 0, 4), ""},
		{"control twice", controlEntry(6, 7, 1, 5), BatchOutOfOrder},
		{"control that makes too much", controlEntry(7, 8, 1, 6), ControlBroken},
		{"control that goes back", controlEntry(7, 8, 1, 3), ControlBroken},
		{"more events than lines", controlEntry(7, 8, 3, 7), EntryChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewSequence()
			for i := range base {
				if err := s.Accept(&base[i]); err != nil {
					t.Fatal(err)
				}
			}
			before := must(json.Marshal(s))
			err := s.Accept(&c.e)
			if NameOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if after := must(json.Marshal(s)); bytes.Equal(before, after) != (err != nil) {
				t.Errorf("state before and after:\n%s\n%s", before, after)
			}
		})
	}
	s := NewSequence()
	e := batchEntry(3, 0, 0, 7, 9, 0, 1)
	gap, ok := errors.AsType[*GapError](s.Accept(&e))
	if !ok || gap.Want != 0 || gap.First != 7 || gap.Partition != 0 {
		t.Errorf("%+v", gap)
	}
	if s.Label(&e); s.Accept(&e) != nil || s.Next(e.Batch.TopicID, 0) != 10 {
		t.Errorf("labelled: next %d", s.Next(e.Batch.TopicID, 0))
	}
}

// A snapshot goes on as the sequence itself does.
func TestSequenceSnapshot(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := NewSequence()
		for i := range rapid.IntRange(0, 30).Draw(rt, "entries") {
			var e Entry
			if rapid.IntRange(0, 3).Draw(rt, "control") == 0 {
				first := s.ControlNext() + rapid.Int64Range(-1, 2).Draw(rt, "marker")
				e = controlEntry(first, first+1, 1, s.Revision()+1)
			} else {
				topic, part := rapid.ByteRange(0, 2).Draw(rt, "topic"), rapid.Int32Range(0, 1).Draw(rt, "partition")
				first := max(0, s.Next(broker.Digest{topic}, part)+rapid.Int64Range(-1, 1).Draw(rt, "off"))
				e = batchEntry(topic, part, int64(i), first, first+rapid.Int64Range(0, 3).Draw(rt, "n"), s.Revision(), int64(100+i))
				if rapid.Bool().Draw(rt, "label") {
					s.Label(&e)
				}
			}
			text := must(json.Marshal(s))
			again := NewSequence()
			if err := json.Unmarshal(text, again); err != nil {
				rt.Fatal(err)
			}
			if !reflect.DeepEqual(again.Ranges(), s.Ranges()) || again.Revision() != s.Revision() {
				rt.Fatalf("restored %s", text)
			}
			one, two := s.Accept(&e), again.Accept(&e)
			if (one == nil) != (two == nil) || NameOf(one) != NameOf(two) || !bytes.Equal(must(json.Marshal(s)), must(json.Marshal(again))) {
				rt.Fatalf("the restored one says %v, the other %v", two, one)
			}
		}
	})
	var s Sequence
	for _, bad := range []string{`{`, `{"v":2}`, `{"v":1,"sources":[null]}`} {
		if json.Unmarshal([]byte(bad), &s) == nil {
			t.Errorf("read %s", bad)
		}
	}
}

// The chain of control events is the registry's: the same events are accepted, and
// their digests are the same.
func TestChainIsTheRegistrys(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := registry.Event{V: 1, Seq: 1, At: moment.Draw(rt, "at"), Actor: text.Draw(rt, "actor"), Type: registry.Type(text.Draw(rt, "type")), Data: json.RawMessage(must(json.Marshal(text.Draw(rt, "data"))))}
		if rapid.Bool().Draw(rt, "later") {
			e.On, e.Prev = broker.Revision(rapid.Uint64Range(1, 1<<40).Draw(rt, "on")), drawDigest(rt, "prev")
			e.Seq = e.On + 1
		}
		value := must(registry.Encode(e))
		var back registry.Event
		if err := json.Unmarshal(value, &back); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "by hand") {
			value = bytes.Replace(value, []byte(`,"seq"`), []byte(",\n\"seq\""), 1)
		}
		line := must(ControlLine(value))
		l, err := readLink(line)
		if err != nil || l.digest != back.Hash() || l.on != e.On || l.prev != e.Prev || l.seq != e.Seq || bytes.IndexByte(line, '\n') >= 0 {
			rt.Fatalf("%v %+v, the registry has %v\n%s", err, l, back.Hash(), line)
		}
		if v, err := controlValue(line); err != nil || !bytes.Equal(v, value) {
			rt.Fatalf("%v: the line %s is of %s", err, line, value)
		}
		c := Chain{e.On, e.Prev}
		if !c.take(&l) || c != (Chain{e.Seq, l.digest}) {
			rt.Fatalf("chain %+v", c)
		}
		if c = (Chain{e.On + 1, e.Prev}); c.take(&l) {
			rt.Fatal("an event validated on another revision was accepted")
		}
		if c = (Chain{e.On, broker.Digest{0xff, 0xee}}); e.Prev != c.Digest && c.take(&l) {
			rt.Fatal("an event validated on another event was accepted")
		}
	})
	for _, bad := range []string{"", "x", "\x00", "{\"a\":\xff}", `{"v":1`} {
		if _, err := ControlLine([]byte(bad)); err == nil {
			t.Errorf("a line was made of %q", bad)
		}
	}
	for _, bad := range []string{`"{}"`, `"x`, `[1]`, `{"v":2,"seq":1,"on":0}`, `{"v":1,"seq":3,"on":0}`} {
		if _, err := readLink([]byte(bad)); NameOf(err) == "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// An event that the registry refused changes nothing, is labelled, and the label
// says just what is so: taken away, added or moved, it is found.
func TestRefusedIsLabelled(t *testing.T) {
	value := func(on Chain, n int) []byte {
		return must(json.Marshal(map[string]any{"v": 1, "seq": on.Revision + 1, "on": on.Revision, "prev": on.Digest,
			"at": "2026-11-22T09:00:00Z", "actor": "test", "type": "case.opened", "data": n}))
	}
	after := func(c Chain, value []byte) Chain {
		l := must(readLink(must(ControlLine(value))))
		c.take(&l)
		return c
	}
	first := value(Chain{}, 0)
	one := after(Chain{}, first)
	refused, next := value(one, 1), value(one, 2)
	two := after(one, next)
	stale := value(one, 3)
	var b ControlBuilder
	b.Begin(Chain{})
	var links []link
	for i, v := range [][]byte{first, refused, next, stale} {
		links = append(links, must(readLink(must(b.Add(int64(10+i), v, i == 1)))))
	}
	e, chain := b.End()
	if chain != two || e.Control.Events != 2 || len(e.Control.Refused) != 1 || e.Control.Refused[0] != 1 {
		t.Fatalf("%+v, chain %+v", e.Control, chain)
	}
	line := AppendEntry(nil, &e)
	if back, err := ParseEntry(line); err != nil || !bytes.Equal(AppendEntry(nil, &back), line) {
		t.Fatalf("%s: %v", line, err)
	}
	for _, c := range []struct {
		refused []int64
		ok      bool
	}{{[]int64{1}, true}, {nil, false}, {[]int64{2}, false}, {[]int64{1, 3}, false}, {[]int64{0}, false}, {[]int64{1, 2}, false}} {
		chain := Chain{}
		accepted, err := chain.fold(links, c.refused)
		if ok := err == nil && accepted == e.Control.Events && chain == two; ok != c.ok {
			t.Errorf("refused %v: %d accepted, %v", c.refused, accepted, err)
		}
	}
	b.Begin(two)
	if _, err := b.Add(14, stale, true); err == nil {
		t.Error("an event that had lost was labelled as refused")
	}
	for _, bad := range []string{`"refused":[]`, `"refused":[1,1]`, `"refused":[4]`, `"refused":[0,1,2]`, `"refused":[2,1]`, `"refused":[-1]`, `"refused":[01]`} {
		if _, err := ParseEntry(bytes.Replace(line, []byte(`"refused":[1]`), []byte(bad), 1)); NameOf(err) == "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
