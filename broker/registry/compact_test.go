package registry

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// anyTime is one that a control event may hold, and now and then an odd one.
var anyTime = rapid.Custom(func(t *rapid.T) time.Time {
	year := rapid.SampledFrom([]int{2026, 2026, 2026, 2, 1600, 1677, 1823, 1824, 1969, 1970, 2116, 2117, 2262, 9998}).Draw(t, "year")
	at := time.Date(year, 1, 1, 0, 0, rapid.IntRange(0, 40_000_000).Draw(t, "second"), 0, time.UTC)
	if rapid.IntRange(0, 2).Draw(t, "fine") == 0 {
		at = at.Add(time.Duration(rapid.IntRange(0, 999_999_999).Draw(t, "nanosecond")))
	}
	if rapid.IntRange(0, 5).Draw(t, "zone") == 0 {
		at = at.In(time.FixedZone("", 3600*rapid.IntRange(-12, 12).Draw(t, "hours")))
	}
	return at
})

// A time comes back as it was, to the nanosecond and with its zone.
func TestInstantIsLossless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o times
		all := []time.Time{{}, time.Unix(0, 0).UTC(), time.Unix(-1, 0).UTC(), time.Unix(0, math.MaxInt64/2).UTC(), time.Unix(0, math.MinInt64/2).UTC(), time.Unix(math.MaxInt64/8, 0).UTC()}
		all = append(all, rapid.SliceOf(anyTime).Draw(t, "times")...)
		var packed []instant
		for _, at := range all {
			packed = append(packed, o.pack(at))
		}
		for i, at := range all {
			if got := o.time(packed[i]); got != at {
				t.Fatalf("%v came back as %v", at, got)
			}
		}
		if i := o.pack(now.Add(1)); i&1 == 0 {
			t.Fatal("a plain time is kept apart")
		}
	})
}

// Texts of all lengths, over several pages, come back as they were.
func TestTextsComeBack(t *testing.T) {
	var x texts
	var at []uint32
	want := func(i int) (a, b string) {
		return fmt.Sprint("a", i), strings.Repeat("x", i%300) + fmt.Sprint(i)
	}
	const n = 3*pageRows + 5
	for i := range n {
		a, b := want(i)
		at = append(at, x.put(i, a, b))
		if i%1000 != 0 {
			continue
		}
		for j := range i + 1 { // as it is read while it grows
			a, b := want(j)
			got, next := x.get(uint32(j), at[j])
			if second, _ := x.get(uint32(j), next); got != a || second != b {
				t.Fatalf("row %d of %d: %q %q", j, i, got, second)
			}
		}
	}
}

// modelState is what subjects should be: plain maps and lists.
type modelState struct {
	cases    map[string]*modelCase
	consents map[broker.ConsentID]*broker.Consent
	order    []any // of the log
}

type modelCase struct {
	broker.Case
	ended bool
}

// The tables give what maps of structs would: the same answers to all that is
// asked of them, in the same order, whatever was folded.
func TestTablesEqualMaps(t *testing.T) {
	_, log := base(t)
	consumers := []broker.OrgNumber{"964338531", "958935420", "974761076"}
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for _, e := range log {
			must(s.Fold(e))
		}
		// A second subscription to count cases from one in, too.
		second := *s.Subscription("bergen")
		second.ID = "bergen-2"
		must(s.Fold(must(s.Link(now, "w", must(Put(second))))[0]))
		m := modelState{cases: map[string]*modelCase{}, consents: map[broker.ConsentID]*broker.Consent{}}
		name := rapid.Custom(func(t *rapid.T) string {
			if rapid.IntRange(0, 3).Draw(t, "long") == 0 {
				return strings.Repeat("n", rapid.IntRange(1, 80).Draw(t, "length"))
			}
			return fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "name"))
		})
		subject := rapid.Custom(func(t *rapid.T) broker.SubjectKey {
			return broker.SubjectKey{1, byte(rapid.IntRange(0, 12).Draw(t, "subject"))}
		})
		sub := rapid.SampledFrom([]broker.SubscriptionID{"bergen", "bergen-2"})
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			var c Change
			var then func()
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				v := broker.Case{ID: broker.CaseID(name.Draw(t, "case")), Subscription: sub.Draw(t, "sub"), Subject: subject.Draw(t, "of"), Open: broker.Interval{From: anyTime.Draw(t, "from").UTC()}}
				c = OpenCase(v)
				then = func() {
					h := &modelCase{v, false}
					m.cases[string(v.Subscription)+"/"+string(v.ID)] = h
					m.order = append(m.order, h)
				}
			case 1:
				id, of := name.Draw(t, "case"), sub.Draw(t, "sub")
				e := CaseEnd{Subscription: of, ID: broker.CaseID(id), At: anyTime.Draw(t, "end")}
				c = change(CaseEnded, e)
				then = func() {
					h := m.cases[string(of)+"/"+id]
					h.Open.To, h.ended = e.At, true
				}
			case 2:
				v := broker.Consent{ID: broker.ConsentID(name.Draw(t, "consent")), Subject: subject.Draw(t, "of"), Consumer: rapid.SampledFrom(consumers).Draw(t, "consumer"),
					Dataset: "inntekt", Purpose: broker.Purpose(rapid.SampledFrom([]string{"sosialhjelp", "boliglaan"}).Draw(t, "purpose")),
					External: strings.Repeat("e", rapid.SampledFrom([]int{0, 0, 36, 254, 255, 256, 1000}).Draw(t, "external"))}
				if rapid.Bool().Draw(t, "bounded") {
					v.Valid.To = anyTime.Draw(t, "to").UTC()
				}
				c = GiveConsent(v)
				then = func() { m.consents[v.ID] = &v; m.order = append(m.order, &v) }
			case 3:
				w := Withdrawal{name.Draw(t, "consent"), anyTime.Draw(t, "at")}
				c = change(ConsentWithdrawn, w)
				then = func() { m.consents[broker.ConsentID(w.ID)].Withdrawn = w.At }
			}
			if must(s.Fold(must(s.Link(now, "w", c))[0])) {
				then()
			}
		}
		m.compare(t, s, consumers)
	})
}

func (m *modelState) compare(t *rapid.T, s *State, consumers []broker.OrgNumber) {
	// Times that went through JSON may have another pointer to the same zone.
	same := func(a, b any) bool { return reflect.DeepEqual(a, b) || string(raw(a)) == string(raw(b)) }
	for id, want := range m.consents {
		if got, ok := s.Consent(id); !ok || !same(got, *want) {
			t.Fatalf("consent %s: %+v, want %+v", id, got, *want)
		}
	}
	for _, want := range m.cases {
		got, ok := s.Case(want.Subscription, want.ID)
		_, ended, _ := s.caseOpen(want.Subscription, want.ID)
		if !ok || !same(got, want.Case) || ended != want.ended {
			t.Fatalf("case %+v ended %v, want %+v %v", got, ended, want.Case, want.ended)
		}
	}
	if _, ok := s.Consent("nobody-gave-this"); ok {
		t.Fatal("a consent that nobody gave")
	}
	known := map[broker.SubjectKey]bool{}
	for i := range 13 {
		k := broker.SubjectKey{1, byte(i)}
		var listed []broker.SubscriptionID
		cases := map[broker.SubscriptionID][]broker.Interval{}
		consents := map[consentKey][]broker.Consent{}
		for _, v := range m.order {
			switch v := v.(type) {
			case *modelCase:
				if v.Subject == k {
					listed, known[k] = append(listed, v.Subscription), true
					cases[v.Subscription] = append(cases[v.Subscription], v.Open)
				}
			case *broker.Consent:
				if v.Subject == k {
					known[k] = true
					g := consentKey{v.Consumer, v.Dataset, v.Purpose}
					consents[g] = append(consents[g], *v)
					for _, x := range s.AllTerms() {
						if a := x.Agreement; (consentKey{a.Consumer, a.Dataset, a.Purpose}) == g {
							listed = append(listed, x.Subscription.ID)
						}
					}
				}
			}
		}
		slices.Sort(listed)
		if got := s.Listed(nil, "inntekt", k); !slices.Equal(got, slices.Compact(listed)) {
			t.Fatalf("listed %v, want %v", got, listed)
		}
		for _, sub := range []broker.SubscriptionID{"bergen", "bergen-2"} {
			if got := s.Cases(nil, sub, k); !same(got, cases[sub]) {
				t.Fatalf("cases of %s: %v, want %v", sub, got, cases[sub])
			}
		}
		for _, o := range consumers {
			for _, p := range []broker.Purpose{"sosialhjelp", "boliglaan"} {
				if got := s.Consents(nil, o, "inntekt", p, k); !same(got, consents[consentKey{o, "inntekt", p}]) {
					t.Fatalf("consents %v, want %v", got, consents[consentKey{o, "inntekt", p}])
				}
			}
		}
	}
	if s.Subjects() != len(known) {
		t.Fatalf("%d subjects, want %d", s.Subjects(), len(known))
	}
}

// Over many pages and growths of the index every row is found, and no other.
func TestTablesGrow(t *testing.T) {
	s, _ := base(t)
	const n = 3*pageRows + 100
	changes := make([]Change, n)
	for i := range changes {
		changes[i] = consentOf(i, 3, i%2 == 0)
	}
	for _, e := range must(s.Link(now, "test", changes...)) {
		if !must(s.Fold(e)) {
			t.Fatal("refused")
		}
	}
	for i := range n {
		c, ok := s.Consent(broker.ConsentID(uuid4(i)))
		if !ok || c.Subject != people(i/3) || !c.Valid.From.Equal(now.Add(time.Duration(i)*time.Second)) || (c.External != "") != (i%2 == 0) {
			t.Fatalf("%d: %v %+v", i, ok, c)
		}
		got := s.Consents(nil, "964338531", "inntekt", "sosialhjelp", people(i/3))
		if want := min(3, n-i/3*3); len(got) != want || got[i%3].ID != c.ID {
			t.Fatalf("%d: %d consents, want %d", i, len(got), want)
		}
	}
	if _, ok := s.Consent(broker.ConsentID(uuid4(n))); ok {
		t.Fatal("one too many")
	}
	if s.Subjects() != (n+2)/3 {
		t.Fatal(s.Subjects())
	}
}

// The hash of a content is the same as it has been since the first version:
// instances of different versions compare theirs.
func TestHashStaysTheSame(t *testing.T) {
	s, _ := everything(t)
	if got, want := s.Hash().String(), "3c09fe8de138d9bd3e2f743d826e8e81"; got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}
