package match

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

type lists map[broker.SubjectKey][]broker.SubscriptionID

func (l lists) Listed(dst []broker.SubscriptionID, _ broker.DatasetID, s broker.SubjectKey) []broker.SubscriptionID {
	return append(dst, l[s]...)
}

// inScope is the rule as rulings put it, asked of every subscription.
func inScope(t *broker.Terms, rec *broker.Record, l lists) bool {
	if t.Dataset.ID != rec.Dataset {
		return false
	}
	at := func(name string) string {
		if i := t.Dataset.AttributeIndex(name); i >= 0 && i < len(rec.Attributes) {
			return rec.Attributes[i]
		}
		return ""
	}
	for _, c := range t.Package.Filter {
		if !c.Holds(at(c.Attribute)) {
			return false
		}
	}
	switch sc := t.Subscription.Scope; sc.Kind {
	case broker.ScopeAll:
		return true
	case broker.ScopeAttribute:
		return slices.Contains(sc.Values, at(sc.Attribute))
	case broker.ScopeListed:
		return rec.HasSubject && slices.Contains(l[rec.Subject], t.Subscription.ID)
	}
	return false
}

// The index gives what a scan of all subscriptions gives, whatever the scopes,
// filters and lists, in order of name.
func TestIndexEqualsScan(t *testing.T) {
	datasets := []*broker.Dataset{
		{ID: "a", Attributes: []broker.Attribute{{Name: "x"}, {Name: "y"}, {Name: "z"}}},
		{ID: "b", Attributes: []broker.Attribute{{Name: "y"}, {Name: "x"}}},
	}
	val := rapid.SampledFrom([]string{"", "1", "2", "3"})
	vals := rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2", "3"}), 0, 3)
	subject := rapid.SampledFrom([]broker.SubjectKey{{1}, {2}, {3}})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "n")
		var terms []*broker.Terms
		listed := lists{}
		for i := range n {
			d := rapid.SampledFrom(datasets).Draw(t, "dataset")
			attr := rapid.Custom(func(t *rapid.T) string { return rapid.SampledFrom(d.Attributes).Draw(t, "a").Name })
			x := &broker.Terms{Dataset: d, Package: &broker.RightsPackage{}}
			x.Subscription.ID = broker.SubscriptionID(fmt.Sprintf("s%02d", i*7%41)) // n names in no order
			for range rapid.IntRange(0, 4).Draw(t, "conditions") {
				x.Package.Filter = append(x.Package.Filter, broker.Condition{Attribute: attr.Draw(t, "f"), In: vals.Draw(t, "in"), NotIn: vals.Draw(t, "notIn")})
			}
			x.Subscription.Scope.Kind = rapid.SampledFrom([]broker.ScopeKind{broker.ScopeAll, broker.ScopeAttribute, broker.ScopeListed}).Draw(t, "scope")
			switch x.Subscription.Scope.Kind {
			case broker.ScopeAttribute:
				x.Subscription.Scope.Attribute = attr.Draw(t, "attribute")
				x.Subscription.Scope.Values = vals.Draw(t, "values")
			case broker.ScopeListed:
				for range rapid.IntRange(0, 3).Draw(t, "times") { // the same one twice, too
					s := subject.Draw(t, "subject")
					listed[s] = append(listed[s], x.Subscription.ID)
				}
			}
			terms = append(terms, x)
		}
		x := New(terms)
		dst := []int32{-1} // what stands in dst stays
		for range 4 {
			rec := &broker.Record{HasSubject: rapid.Bool().Draw(t, "hasSubject"), Subject: subject.Draw(t, "of")}
			rec.Dataset = rapid.SampledFrom([]broker.DatasetID{"a", "b", "c"}).Draw(t, "in")
			for _, d := range datasets {
				if d.ID == rec.Dataset {
					for range d.Attributes {
						rec.Attributes = append(rec.Attributes, val.Draw(t, "value"))
					}
				}
			}
			var want []string
			for _, x := range terms {
				if inScope(x, rec, listed) {
					want = append(want, string(x.Subscription.ID))
				}
			}
			slices.Sort(want)
			dst = x.Match(dst[:1], rec, listed)
			var got []string
			for _, n := range dst[1:] {
				got = append(got, string(x.Terms()[n].Subscription.ID))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("record %v of %s: %v, want %v", rec.Attributes, rec.Dataset, got, want)
			}
		}
	})
}

// country makes n subscriptions: half by municipality, half by case.
func country(n int) ([]*broker.Terms, lists) {
	d := &broker.Dataset{ID: "inntekt", Attributes: []broker.Attribute{{Name: "municipality"}, {Name: "protected"}}}
	var terms []*broker.Terms
	listed := lists{}
	for i := range n {
		t := &broker.Terms{Dataset: d, Package: &broker.RightsPackage{Filter: []broker.Condition{{Attribute: "protected", NotIn: []string{"secret"}}}}}
		t.Subscription.ID = broker.SubscriptionID(fmt.Sprintf("s%06d", i))
		if i%2 == 0 {
			t.Subscription.Scope = broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{fmt.Sprint(i / 8)}}
		} else {
			t.Subscription.Scope = broker.Scope{Kind: broker.ScopeListed}
			s := broker.SubjectKey{byte(i), byte(i >> 8)}
			if len(listed[s]) < 3 {
				listed[s] = append(listed[s], t.Subscription.ID)
			}
		}
		terms = append(terms, t)
	}
	return terms, listed
}

func TestNoAllocation(t *testing.T) {
	if raceDetector {
		t.Skip("pools allocate under the race detector")
	}
	terms, listed := country(1000)
	x := New(terms)
	rec := &broker.Record{HasSubject: true, Subject: broker.SubjectKey{1}, Attributes: []string{"3", ""}}
	rec.Dataset = "inntekt"
	dst := x.Match(nil, rec, listed)
	if len(dst) != 5 {
		t.Fatalf("%d in scope, want 4 by municipality and 1 by case", len(dst))
	}
	if n := testing.AllocsPerRun(1000, func() { dst = x.Match(dst[:0], rec, listed) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

var raceDetector bool

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			terms, listed := country(n)
			x := New(terms)
			rec := &broker.Record{HasSubject: true, Subject: broker.SubjectKey{1}, Attributes: []string{"1", ""}}
			rec.Dataset = "inntekt"
			var dst []int32
			b.ReportAllocs()
			for b.Loop() {
				dst = x.Match(dst[:0], rec, listed)
			}
			b.ReportMetric(float64(len(dst)), "in-scope")
		})
	}
}
