package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// base is the scenarios' beginning with bergen, and the log that made it.
func base(t testing.TB) (*State, []Event) {
	s := New()
	return s, apply(t, s, append(must(Load("testdata/base.yaml")), bergen(t)...)).Events
}

// bergen is a listed subscription whose agreement has a ceiling of 40.
func bergen(t testing.TB) []Document {
	docs, faults := read("more.yaml", []byte(`
kind: agreement
id: bergen
provider: "974761076"
consumer: "964338531"
dataset: inntekt
package: {id: liten, version: 1}
purpose: sosialhjelp
bases: [lov]
responsibility: {}
cost: {ceiling: 40}
corrections: deliver
status: active
valid: {from: 2026-01-01}
---
kind: mailbox
id: bergen
organisation: "964338531"
client: fagsystem
channel: feed
---
kind: subscription
id: bergen
agreement: bergen
mailbox: bergen
scope: {kind: listed}
`))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return docs
}

// anyChange is a change that a writer might want, sensible or not.
func anyChange(t *rapid.T) Change {
	name := rapid.SampledFrom([]string{"a", "b", "c"})
	at := rapid.Custom(func(t *rapid.T) time.Time {
		return now.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "h")) * time.Hour)
	})
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0:
		return OpenCase(broker.Case{ID: broker.CaseID(name.Draw(t, "case")), Subscription: "bergen", Subject: subjectNamed(name.Draw(t, "subject")), Open: broker.Interval{From: at.Draw(t, "from")}})
	case 1:
		return EndCase("bergen", broker.CaseID(name.Draw(t, "case")), at.Draw(t, "end"))
	case 2:
		return GiveConsent(broker.Consent{ID: broker.ConsentID(name.Draw(t, "consent")), Subject: subjectNamed(name.Draw(t, "subject")), Consumer: "964338531", Dataset: "inntekt", Purpose: "sosialhjelp"})
	case 3:
		return WithdrawConsent(broker.ConsentID(name.Draw(t, "consent")), at.Draw(t, "at"))
	case 4, 5:
		return LeaseBudget("bergen", [16]byte{1}, int32(rapid.IntRange(0, 2).Draw(t, "partition")), int64(rapid.IntRange(-1, 25).Draw(t, "amount")))
	case 6:
		return RegisterKeystore(name.Draw(t, "check"), rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "replaces"))
	default:
		o := broker.Organisation{Number: "940493021", Name: name.Draw(t, "name")}
		return must(Put(o))
	}
}

// Writers who each see only a part of the log append as they like, one event or
// several resting on each other, and the log interleaves them as it likes. All
// who fold it come to the same state after every event; of two writers on one
// revision at most one wins; and what a writer linked is accepted as a run from
// its first on, or not at all.
func TestWritersNeverFork(t *testing.T) {
	_, log := base(t)
	rapid.Check(t, func(t *rapid.T) {
		type writer struct {
			state   *State
			read    int
			pending []Event
		}
		all := slices.Clone(log)
		writers := make([]*writer, 3)
		for i := range writers {
			writers[i] = &writer{state: New()}
		}
		runs := map[int]int{} // index in the log → of which run it is a part
		run := 0
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			w := rapid.SampledFrom(writers).Draw(t, "writer")
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0: // reads some of what there is
				for range rapid.IntRange(0, len(all)-w.read).Draw(t, "reads") {
					if _, err := w.state.Fold(all[w.read]); err != nil {
						t.Fatal(err)
					}
					w.read++
				}
			case 1: // decides on something
				var c []Change
				for range rapid.IntRange(1, 3).Draw(t, "changes") {
					c = append(c, anyChange(t))
				}
				w.pending = must(w.state.Link(now, "writer", c...))
			case 2: // appends what it decided, maybe long ago, maybe again
				run++
				for _, e := range w.pending {
					runs[len(all)] = run
					all = append(all, e)
				}
			}
		}
		var states []*State
		var first []broker.Digest // after each event
		for round := range 2 {
			s := New()
			byRevision := map[broker.Revision]bool{}
			var hashes []broker.Digest
			lost := map[int]bool{} // runs of which one was not accepted
			for i, e := range all {
				before := s.Revision()
				ok, err := s.Fold(e)
				if err != nil {
					t.Fatal(err)
				}
				if ok != (s.Revision() == before+1) {
					t.Fatalf("accepted %v, and revision %d after %d", ok, s.Revision(), before)
				}
				if r := runs[i]; r > 0 {
					if ok && lost[r] {
						t.Fatalf("event %d was accepted after one that it rests on was not", i)
					}
					lost[r] = lost[r] || !ok
				}
				if ok && byRevision[e.Seq] {
					t.Fatalf("revision %d twice", e.Seq)
				}
				byRevision[e.Seq] = byRevision[e.Seq] || ok
				hashes = append(hashes, s.Hash())
			}
			if round == 0 {
				first = hashes
			} else if !slices.Equal(hashes, first) {
				t.Fatal("folded twice, one log gives two stories")
			}
			states = append(states, s)
			if sum := s.leasedSum("bergen"); sum > 40 || sum < 0 {
				t.Fatalf("%d leased of a ceiling of 40", sum)
			}
		}
		for _, w := range writers {
			for ; w.read < len(all); w.read++ {
				if _, err := w.state.Fold(all[w.read]); err != nil {
					t.Fatal(err)
				}
			}
			states = append(states, w.state)
		}
		for _, s := range states {
			if s.Hash() != states[0].Hash() || s.Head() != states[0].Head() {
				t.Fatal("two who folded one log differ")
			}
		}
	})
}

// Check never lies about Fold, and neither changes anything when it refuses.
func TestRefusedChangesNothing(t *testing.T) {
	_, log := base(t)
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for _, e := range log {
			must(s.Fold(e))
		}
		for range rapid.IntRange(1, 10).Draw(t, "n") {
			e := must(s.Link(now, "w", anyChange(t)))[0]
			before, why := s.Hash(), s.Check(e)
			if s.Hash() != before {
				t.Fatal("Check changed the state")
			}
			ok, err := s.Fold(e)
			if err != nil || ok != (why == nil) {
				t.Fatalf("Check: %v, Fold: %v, %v", why, ok, err)
			}
			if !ok && s.Hash() != before {
				t.Fatal("a refused event changed the state")
			}
		}
	})
}

// Terms that nothing touched stay the same, pointer and all; those that something
// touched are new, and what was handed out before does not change.
func TestTermsAreMadeAnewOnlyWhereTouched(t *testing.T) {
	s := demo(t)
	before := slices.Clone(s.AllTerms())
	kept := raw(before)
	x := *s.Mailbox("oslo-sosialhjelp")
	x.Suspended = true
	fold(t, s, must(s.Link(now, "test", must(Put(x))))...)
	after := s.AllTerms()
	for i := range after {
		touched := after[i].Subscription.ID == "oslo-sosialhjelp"
		if (after[i] != before[i]) != touched {
			t.Errorf("terms of %s: new %v, touched %v", after[i].Subscription.ID, after[i] != before[i], touched)
		}
	}
	if !bytes.Equal(raw(before), kept) {
		t.Error("terms handed out before have changed")
	}
	structure := s.Structure()
	fold(t, s, must(s.Link(now, "test", OpenCase(broker.Case{ID: "c", Subscription: "oslo-sosialhjelp", Subject: subjectNamed("a"), Open: broker.Interval{From: now}}),
		LeaseBudget("trondheim-barnehage", [16]byte{}, 0, 10)))...)
	if s.Structure() != structure || &s.AllTerms()[0] != &after[0] {
		t.Error("a case or a lease changed the structure")
	}
}

// What does not understand an event stops, and leaves the state as it was.
func TestUnknownStops(t *testing.T) {
	s, _ := base(t)
	good := must(s.Link(now, "test", OpenCase(broker.Case{ID: "c", Subscription: "bergen", Subject: subjectNamed("a"), Open: broker.Interval{From: now}})))[0]
	for name, spoil := range map[string]func(e *Event){
		"type":          func(e *Event) { e.Type = "case.merged" },
		"no type":       func(e *Event) { e.Type = "" },
		"version":       func(e *Event) { e.V = 2 },
		"no version":    func(e *Event) { e.V = 0 },
		"seq":           func(e *Event) { e.Seq++ },
		"no time":       func(e *Event) { e.At = time.Time{} },
		"no actor":      func(e *Event) { e.Actor = "" },
		"a person":      func(e *Event) { e.Actor = "12345678901" },
		"unknown field": func(e *Event) { e.Data = json.RawMessage(`{"id":"c","urgent":true}`) },
		"not JSON":      func(e *Event) { e.Data = json.RawMessage(`{`) },
		"two values":    func(e *Event) { e.Data = append(slices.Clone(e.Data), "{}"...) },
	} {
		e := good
		spoil(&e)
		before := s.Hash()
		if ok, err := s.Fold(e); ok || err == nil || s.Hash() != before {
			t.Errorf("%s: accepted %v, error %v", name, ok, err)
		}
		if b, err := json.Marshal(e); err == nil {
			if _, err := Decode(b); err == nil && name != "unknown field" && name != "two values" {
				t.Errorf("%s: decoded", name)
			}
		}
	}
	for _, b := range []string{``, `null`, `[]`, `{"v":1}`, `{"v":9,"anything":1}`, string(must(Encode(good))) + "x", `{"v":1,"v":1}`} {
		if _, err := Decode([]byte(b)); err == nil {
			t.Errorf("decoded %q", b)
		}
	}
	fold(t, s, good)
}

// What is asked for each record costs no allocation.
func TestListedAllocatesNothing(t *testing.T) {
	s, _ := base(t)
	a := subjectNamed("a")
	fold(t, s, must(s.Link(now, "test",
		OpenCase(broker.Case{ID: "1", Subscription: "bergen", Subject: a, Open: broker.Interval{From: now}}),
		OpenCase(broker.Case{ID: "2", Subscription: "bergen", Subject: a, Open: broker.Interval{From: now}}),
		GiveConsent(broker.Consent{ID: "3", Subject: a, Consumer: "964338531", Dataset: "inntekt", Purpose: "sosialhjelp"})))...)
	subs, cases, consents := make([]broker.SubscriptionID, 0, 8), make([]broker.Interval, 0, 8), make([]broker.Consent, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		subs = s.Listed(subs[:0], "inntekt", a)
		cases = s.Cases(cases[:0], "bergen", a)
		consents = s.Consents(consents[:0], "964338531", "inntekt", "sosialhjelp", a)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if len(subs) != 1 || len(cases) != 2 || len(consents) != 1 {
		t.Errorf("%v %v %v", subs, cases, consents)
	}
}

// However partitions ask and however the ceiling moves, what is leased never
// exceeds the ceiling that stands.
func TestLeasesStayWithinTheCeiling(t *testing.T) {
	_, log := base(t)
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for _, e := range log {
			must(s.Fold(e))
		}
		granted := map[int32]int64{}
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			p, n := int32(rapid.IntRange(0, 3).Draw(t, "partition")), int64(rapid.IntRange(1, 30).Draw(t, "amount"))
			c := LeaseBudget("bergen", [16]byte{7}, p, n)
			if rapid.IntRange(0, 4).Draw(t, "what") == 0 {
				a := *s.Agreement("bergen")
				a.Cost.Ceiling = int64(rapid.IntRange(0, 60).Draw(t, "ceiling"))
				c, n = must(Put(a)), 0
			}
			if must(s.Fold(must(s.Link(now, "w", c))[0])) {
				granted[p] += n
			}
			var sum int64
			for p, n := range granted {
				if got := s.Granted("bergen", [16]byte{7}, p); got != n {
					t.Fatalf("partition %d was granted %d, the state says %d", p, n, got)
				}
				sum += n
			}
			if c := s.Agreement("bergen").Cost.Ceiling; c > 0 && (sum > c || s.Unleased("bergen") != c-sum) {
				t.Fatalf("%d leased of %d, %d left", sum, c, s.Unleased("bergen"))
			}
		}
	})
}

func manyCases(b *testing.B, n int) [][]byte {
	s, _ := base(b)
	changes := make([]Change, n)
	for i := range changes {
		changes[i] = OpenCase(broker.Case{ID: broker.CaseID(fmt.Sprintf("c%d", i)), Subscription: "bergen", Subject: subjectNamed(fmt.Sprint(i)), Open: broker.Interval{From: now}})
	}
	out := make([][]byte, n)
	for i, e := range must(s.Link(now, "bench", changes...)) {
		out[i] = must(Encode(e))
	}
	return out
}

func BenchmarkFold100000Cases(b *testing.B) {
	log := manyCases(b, 100_000)
	for b.Loop() {
		s, _ := base(b)
		for _, raw := range log {
			if ok, err := s.Fold(must(Decode(raw))); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	}
}

func BenchmarkListed(b *testing.B) {
	s, _ := base(b)
	for _, raw := range manyCases(b, 100_000) {
		must(s.Fold(must(Decode(raw))))
	}
	k := subjectNamed("77")
	var dst []broker.SubscriptionID
	b.ReportAllocs()
	for b.Loop() {
		dst = s.Listed(dst[:0], "inntekt", k)
	}
}

func FuzzDecode(f *testing.F) {
	s, log := base(f)
	for _, e := range log {
		f.Add(must(Encode(e)))
	}
	f.Add([]byte(`{"v":1,"seq":1,"on":0,"prev":"00000000000000000000000000000000","at":"2026-01-01T00:00:00Z","actor":"a","type":"case.opened","data":{}}`))
	for _, c := range []Change{
		OpenCase(broker.Case{ID: "c", Subscription: "bergen", Subject: subjectNamed("a"), Open: broker.Interval{From: now, To: now.AddDate(0, 0, 1)}}),
		GiveConsent(broker.Consent{ID: "c", Subject: subjectNamed("a"), Consumer: "964338531", Dataset: "inntekt", Purpose: "sosialhjelp", Valid: broker.Interval{To: now}, External: "x"}),
		EndCase("bergen", "c", now),
	} {
		f.Add(must(Encode(must(s.Link(now, "a", c))[0])))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		slow, slowErr := decodeAny(b)
		if (err == nil) != (slowErr == nil) || err == nil && !reflect.DeepEqual(e, slow) {
			t.Fatalf("by hand %+v, %v\nby encoding/json %+v, %v", e, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		p, err := parse(&e)
		slowP, slowErr := parseAny(&e)
		if (err == nil) != (slowErr == nil) || err == nil && !reflect.DeepEqual(p, slowP) {
			t.Fatalf("by hand %+v, %v\nby encoding/json %+v, %v", p, err, slowP, slowErr)
		}
		// It survives a round, place and content, and folding it never panics.
		again, err := Decode(must(Encode(e)))
		if err != nil {
			t.Fatalf("written and read again: %v", err)
		}
		if e.Seq != again.Seq || e.Type != again.Type || e.Actor != again.Actor {
			t.Fatal("changed on the way")
		}
		for _, s := range []*State{New(), s} {
			e.On, e.Seq, e.Prev = s.Revision(), s.Revision()+1, s.Head()
			_ = s.Check(e)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add(must(readFile("testdata/base.yaml")))
	f.Add([]byte("kind: agreement\nid: [a\n"))
	f.Add([]byte("kind: dataset\nschemas: [{document: {a: 1e400, b: 0x1f, c: .nan, d: 2026-01-01}}]"))
	f.Add([]byte("- a\n---\n&a b: *a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		docs, faults := read("f.yaml", b)
		for _, x := range faults {
			if x.File == "" || x.What == "" || x.Line < 0 {
				t.Fatalf("a fault says nothing: %+v", x)
			}
		}
		if len(faults) > 0 {
			return
		}
		// What reads without a fault plans without a panic; and what plans, folds.
		s := New()
		p, err := NewPlan(s, docs, "fuzz", now)
		if err != nil {
			return
		}
		fold(t, s, p.Events...)
		if again, err := NewPlan(s, docs, "fuzz", now); err != nil || len(again.Events) != 0 {
			t.Fatalf("applied again, it would change: %v\n%v", err, again)
		}
	})
}
