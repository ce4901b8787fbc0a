// Package match finds the subscriptions in whose scope a record is. Scope is a
// function of the subscription's scope, the rights package's filter and the
// record's attributes, and of whether a case or consent ever listed the subject;
// never of status, interval or law: those are policy's to deny, visibly.
//
// An [Index] asks few questions of many subscriptions: it files each under one
// condition that it needs — an attribute's values, or being listed — and, where
// many are filed alike, under a second and a third, until few are together. It
// tests the rest of the conditions on those few that a record turns up. The cost
// follows the subscriptions in scope, not all there are.
package match

import (
	"slices"
	"strings"
	"sync"

	"datafordeler/broker"
)

// Lister says for which subscriptions to a dataset a case or consent ever listed
// a subject, by appending to dst. registry.State is one.
type Lister interface {
	Listed(dst []broker.SubscriptionID, ds broker.DatasetID, subject broker.SubjectKey) []broker.SubscriptionID
}

// Index finds subscriptions by record. It is read-only after New, for any number
// of goroutines; a change of the registry's structure makes a new one.
type Index struct {
	terms    []*broker.Terms // in order of subscription name: what Match numbers
	datasets map[broker.DatasetID]*dataset
	scratch  sync.Pool // *[]broker.SubscriptionID
}

// Terms are those that the index was made of, in order of subscription name; they
// are not to be changed. Match answers with their numbers, so that what a caller
// keeps for each lies in a list rather than in a map.
func (x *Index) Terms() []*broker.Terms { return x.terms }

// dataset files each subscription in one of the two.
type dataset struct {
	root   *node
	listed map[broker.SubscriptionID]*entry
}

// entry is a subscription's terms with what a record must have for it.
type entry struct {
	number int32 // in Index.terms
	needs  []need
}

// need is of the attribute at a position: to be one of values, or to be none of
// them. They are sorted, and each is there once.
type need struct {
	position int
	values   []string
	none     bool
}

func (n *need) holds(rec *broker.Record) bool {
	v := value(rec, n.position)
	if len(n.values) == 1 {
		return (n.values[0] == v) != n.none
	}
	_, found := slices.BinarySearch(n.values, v)
	return found != n.none
}

// New files terms. Their order does not matter.
func New(terms []*broker.Terms) *Index {
	x := &Index{datasets: map[broker.DatasetID]*dataset{}}
	x.scratch.New = func() any { return new([]broker.SubscriptionID) }
	terms = slices.Clone(terms)
	slices.SortFunc(terms, byName)
	x.terms = terms
	open := map[*dataset][]placed{}
	for i, t := range terms {
		d := x.datasets[t.Dataset.ID]
		if d == nil {
			d = &dataset{listed: map[broker.SubscriptionID]*entry{}}
			x.datasets[t.Dataset.ID] = d
		}
		e, possible := newEntry(t, int32(i))
		switch {
		case !possible:
		case t.Mailbox.Channel == broker.LookupChannel: // nothing comes by itself
		case t.Subscription.Scope.Kind == broker.ScopeListed:
			d.listed[t.Subscription.ID] = e
		default:
			open[d] = append(open[d], placed{e, e.all(), 1})
		}
	}
	for _, d := range x.datasets {
		d.root = grow(open[d], nil)
	}
	return x
}

// Scope is one subscription's, for who has a record and asks about that one. It is
// read-only.
type Scope struct {
	terms    *broker.Terms
	entry    *entry
	possible bool
}

// ScopeOf resolves a subscription's scope and filter.
func ScopeOf(t *broker.Terms) *Scope {
	e, possible := newEntry(t, 0)
	return &Scope{t, e, possible}
}

// Holds reports whether a record of the dataset is in scope, as Match does.
func (s *Scope) Holds(rec *broker.Record, l Lister) bool {
	if !s.possible || rec.Dataset != s.terms.Dataset.ID || !s.entry.holds(rec, s.entry.all()) {
		return false
	}
	if s.terms.Subscription.Scope.Kind != broker.ScopeListed {
		return true
	}
	return rec.HasSubject && slices.Contains(l.Listed(nil, rec.Dataset, rec.Subject), s.terms.Subscription.ID)
}

// newEntry resolves the scope's and the filter's attributes to positions. Nothing
// is in the scope of terms that are not possible.
func newEntry(t *broker.Terms, number int32) (e *entry, possible bool) {
	e = &entry{number: number}
	switch s := &t.Subscription.Scope; s.Kind {
	case broker.ScopeAll, broker.ScopeListed:
	case broker.ScopeAttribute:
		if !e.add(t.Dataset.AttributeIndex(s.Attribute), s.Values, nil) {
			return nil, false
		}
	default:
		return nil, false // registry admits no other
	}
	for i := range t.Package.Filter {
		c := &t.Package.Filter[i]
		position, among := t.Dataset.AttributeIndex(c.Attribute), c.In
		switch {
		case len(among) > 0:
			if !e.add(position, among, c.NotIn) {
				return nil, false
			}
		case len(c.NotIn) == 0:
		case position >= 0:
			e.needs = append(e.needs, need{position, set(c.NotIn, nil), true})
		case slices.Contains(c.NotIn, ""):
			return nil, false
		}
	}
	return e, true
}

// add needs one of values that is none of but. It says whether there is any.
func (e *entry) add(position int, values, but []string) bool {
	values = set(values, but)
	if position < 0 { // no record has the attribute: it is "" in all
		return slices.Contains(values, "")
	}
	e.needs = append(e.needs, need{position, values, false})
	return len(values) > 0
}

// set is values but those in but, sorted, each once.
func set(values, but []string) []string {
	values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return slices.Contains(but, v) })
	slices.Sort(values)
	return slices.Compact(values)
}

// Match appends the numbers, among Terms, of those in whose scope the record is;
// they rise, and so are in order of subscription name. The record's attributes are
// in the order of its dataset's. It allocates only where dst must grow.
func (x *Index) Match(dst []int32, rec *broker.Record, l Lister) []int32 {
	d := x.datasets[rec.Dataset]
	if d == nil {
		return dst
	}
	from := len(dst)
	dst, lists := d.root.match(dst, rec)
	if len(d.listed) > 0 && rec.HasSubject {
		s := x.scratch.Get().(*[]broker.SubscriptionID)
		*s = l.Listed((*s)[:0], rec.Dataset, rec.Subject)
		for _, id := range *s {
			if e := d.listed[id]; e != nil && e.holds(rec, e.all()) {
				dst = append(dst, e.number)
				lists = 2 // a lister owes us no order
			}
		}
		x.scratch.Put(s)
	}
	if lists > 1 {
		slices.Sort(dst[from:])
		dst = dst[:from+len(slices.Compact(dst[from:]))] // nor that it names each once
	}
	return dst
}

// holds tests the needs that are among those given.
func (e *entry) holds(rec *broker.Record, tests uint64) bool {
	for i := range e.needs {
		if (tests&(1<<i) != 0 || i >= maskBits) && !e.needs[i].holds(rec) {
			return false
		}
	}
	return true
}

// value is an attribute's, or "" where the record has none.
func value(rec *broker.Record, position int) string {
	if position >= len(rec.Attributes) {
		return ""
	}
	return rec.Attributes[position]
}

func byName(a, b *broker.Terms) int {
	return strings.Compare(string(a.Subscription.ID), string(b.Subscription.ID))
}
