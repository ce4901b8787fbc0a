package match

import (
	"fmt"
	"testing"

	"datafordeler/broker"
)

// crowd is n subscriptions that have much in common, a record that is in the scope
// of one of them, and how many may be tested for it at the most.
type crowd struct {
	name  string
	n     int
	of    func(i int, t *broker.Terms)
	rec   []string // municipality, kind, year
	tests int
}

func in(attribute string, values ...string) broker.Condition {
	return broker.Condition{Attribute: attribute, In: values}
}

var crowds = []crowd{
	{"one municipality, a kind each by filter", 5_000, func(i int, t *broker.Terms) {
		t.Subscription.Scope = broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{"0301"}}
		t.Package.Filter = []broker.Condition{in("kind", fmt.Sprint("k", i))}
	}, []string{"0301", "k7", "2026"}, 1},
	{"a municipality each, one kind by filter", 5_000, func(i int, t *broker.Terms) {
		t.Subscription.Scope = broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{fmt.Sprint(i)}}
		t.Package.Filter = []broker.Condition{in("kind", "k7")}
	}, []string{"7", "k7", "2026"}, 1},
	{"all, one kind, a municipality each", 10_000, func(i int, t *broker.Terms) {
		t.Package.Filter = []broker.Condition{in("kind", "k7"), in("municipality", fmt.Sprint(i))}
	}, []string{"7", "k7", "2026"}, 1},
	{"a hundred municipalities, a hundred kinds, no pair twice", 10_000, func(i int, t *broker.Terms) {
		t.Subscription.Scope = broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{fmt.Sprint(i % 100)}}
		t.Package.Filter = []broker.Condition{in("kind", fmt.Sprint("k", i/100))}
	}, []string{"7", "k7", "2026"}, 1},
	{"twenty each of three, no triple twice", 8_000, func(i int, t *broker.Terms) {
		t.Package.Filter = []broker.Condition{in("municipality", fmt.Sprint(i%20)), in("kind", fmt.Sprint("k", i/20%20)), in("year", fmt.Sprint(2020+i/400))}
	}, []string{"7", "k7", "2026"}, few},
	{"lists that overlap", 10_000, func(i int, t *broker.Terms) {
		t.Subscription.Scope = broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{"0301", "4601", fmt.Sprint(i)}}
		t.Package.Filter = []broker.Condition{in("kind", fmt.Sprint("k", i), "other"), {Attribute: "year", NotIn: []string{"2025"}}}
	}, []string{"0301", "k7", "2026"}, few},
	{"all but the ones of a kind each", 10_000, func(i int, t *broker.Terms) {
		t.Package.Filter = []broker.Condition{in("municipality", fmt.Sprint(i)), {Attribute: "kind", NotIn: []string{fmt.Sprint("k", i+1)}}}
	}, []string{"7", "k7", "2026"}, 1},
}

func (c *crowd) terms() []*broker.Terms {
	d := &broker.Dataset{ID: "inntekt", Attributes: []broker.Attribute{{Name: "municipality"}, {Name: "kind"}, {Name: "year"}}}
	terms := make([]*broker.Terms, c.n)
	for i := range terms {
		terms[i] = &broker.Terms{Dataset: d, Package: &broker.RightsPackage{}}
		terms[i].Subscription.ID = broker.SubscriptionID(fmt.Sprintf("s%06d", i))
		terms[i].Subscription.Scope.Kind = broker.ScopeAll
		c.of(i, terms[i])
	}
	return terms
}

func (c *crowd) record() *broker.Record {
	rec := &broker.Record{Attributes: c.rec}
	rec.Dataset = "inntekt"
	return rec
}

// tested is how many entries are looked at for a record.
func (n *node) tested(rec *broker.Record) (sum int) {
	sum = len(n.rest)
	for _, b := range n.by {
		if below := b.values[value(rec, b.position)]; below != nil {
			sum += below.tested(rec)
		}
	}
	return sum
}

// places is how many places entries are filed in.
func (n *node) places() (sum int) {
	sum = len(n.rest)
	for _, b := range n.by {
		for _, below := range b.values {
			sum += below.places()
		}
	}
	return sum
}

// However much subscriptions have in common, a record is held against few that it
// does not concern.
func TestCrowdsArePartedByWhatIsTheirOwn(t *testing.T) {
	for _, c := range crowds {
		t.Run(c.name, func(t *testing.T) {
			terms, rec := c.terms(), c.record()
			x := New(terms)
			want := 0
			for _, x := range terms {
				if inScope(x, rec, nil) {
					want++
				}
			}
			if got := len(x.Match(nil, rec, lists{})); got != want || want == 0 {
				t.Fatalf("%d in scope, want %d", got, want)
			}
			if got := x.datasets["inntekt"].root.tested(rec); got > c.tests {
				t.Errorf("%d were tested, want %d at the most", got, c.tests)
			}
		})
	}
}

// Long lists under several attributes are not filed in every combination.
func TestPlacesAreBounded(t *testing.T) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprint(i))
	}
	c := crowd{n: 500, of: func(i int, t *broker.Terms) {
		t.Package.Filter = []broker.Condition{in("municipality", many[:200+i%100]...), in("kind", many[:200+i%100]...), in("year", many...)}
	}}
	x := New(c.terms())
	if got, most := x.datasets["inntekt"].root.places(), c.n*300; got > most {
		t.Errorf("filed in %d places, want %d at the most", got, most)
	}
}

func BenchmarkMatchCrowd(b *testing.B) {
	for _, c := range crowds {
		b.Run(c.name, func(b *testing.B) {
			x, rec := New(c.terms()), c.record()
			var dst []int32
			var nobody Lister = lists{}
			b.ReportAllocs()
			for b.Loop() {
				dst = x.Match(dst[:0], rec, nobody)
			}
		})
	}
}

// BenchmarkNew is the index anew after a change of structure.
func BenchmarkNew(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		terms, _ := country(n)
		b.Run(fmt.Sprint("country/", n), func(b *testing.B) {
			for b.Loop() {
				New(terms)
			}
		})
	}
	for _, c := range crowds[3:5] {
		terms := c.terms()
		b.Run(fmt.Sprintf("crowd/%d", c.n), func(b *testing.B) {
			for b.Loop() {
				New(terms)
			}
		})
	}
}
