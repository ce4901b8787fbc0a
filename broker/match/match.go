// Package match finds the subscriptions in whose scope a record is. Scope is a
// function of the subscription's scope, the rights package's filter and the
// record's attributes, and of whether a case or consent ever listed the subject;
// never of status, interval or law: those are policy's to deny, visibly.
//
// An [Index] asks few questions of many subscriptions: it files each under one
// condition that it needs — an attribute's values, or being listed — and tests
// the rest of its conditions on those few that a record turns up. The cost
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
	datasets map[broker.DatasetID]*dataset
	scratch  sync.Pool // *[]broker.SubscriptionID
}

// dataset files each subscription in exactly one of these.
type dataset struct {
	every  []*entry // nothing to file it by
	by     []attribute
	listed map[broker.SubscriptionID]*entry
}

// attribute files by the values of the attribute at one position.
type attribute struct {
	position int
	values   map[string][]*entry
}

// entry is a subscription's terms with its conditions resolved to positions.
type entry struct {
	terms *broker.Terms
	// scope is the position that one of values must stand at; −1: not asked.
	scope  int
	values []string
	filter []condition
}

type condition struct {
	position int
	*broker.Condition
}

// New files terms. Their order does not matter.
func New(terms []*broker.Terms) *Index {
	x := &Index{datasets: map[broker.DatasetID]*dataset{}}
	x.scratch.New = func() any { return new([]broker.SubscriptionID) }
	terms = slices.Clone(terms)
	slices.SortFunc(terms, byName)
	for _, t := range terms {
		d := x.datasets[t.Dataset.ID]
		if d == nil {
			d = &dataset{listed: map[broker.SubscriptionID]*entry{}}
			x.datasets[t.Dataset.ID] = d
		}
		d.file(t)
	}
	return x
}

func (d *dataset) file(t *broker.Terms) {
	e := &entry{terms: t, scope: -1}
	for i := range t.Package.Filter {
		c := &t.Package.Filter[i]
		e.filter = append(e.filter, condition{t.Dataset.AttributeIndex(c.Attribute), c})
	}
	switch t.Subscription.Scope.Kind {
	case broker.ScopeListed:
		d.listed[t.Subscription.ID] = e
		return
	case broker.ScopeAttribute:
		e.scope = t.Dataset.AttributeIndex(t.Subscription.Scope.Attribute)
		e.values = t.Subscription.Scope.Values
		if e.scope < 0 {
			return // no record has the attribute; registry admits no such scope
		}
		d.fileBy(e, e.scope, e.values)
		return
	case broker.ScopeAll:
	default:
		return // registry admits no other
	}
	// The filter's narrowest list is the best to file by.
	best := -1
	for i, c := range e.filter {
		if len(c.In) > 0 && c.position >= 0 && (best < 0 || len(c.In) < len(e.filter[best].In)) {
			best = i
		}
	}
	if best < 0 {
		d.every = append(d.every, e)
		return
	}
	d.fileBy(e, e.filter[best].position, e.filter[best].In)
}

func (d *dataset) fileBy(e *entry, position int, values []string) {
	i := slices.IndexFunc(d.by, func(a attribute) bool { return a.position == position })
	if i < 0 {
		i = len(d.by)
		d.by = append(d.by, attribute{position, map[string][]*entry{}})
	}
	m := d.by[i].values
	for _, v := range values {
		// A value that is named twice files it once; entries come by name, so it is last.
		if l := m[v]; len(l) == 0 || l[len(l)-1] != e {
			m[v] = append(l, e)
		}
	}
}

// Match appends the terms in whose scope the record is, in order of subscription
// name. The record's attributes are in the order of its dataset's. It allocates
// only where dst must grow.
func (x *Index) Match(dst []*broker.Terms, rec *broker.Record, l Lister) []*broker.Terms {
	d := x.datasets[rec.Dataset]
	if d == nil {
		return dst
	}
	from, lists := len(dst), 0
	take := func(l []*entry) {
		n := len(dst)
		for _, e := range l {
			if e.holds(rec) {
				dst = append(dst, e.terms)
			}
		}
		if len(dst) > n {
			lists++
		}
	}
	take(d.every)
	for i := range d.by {
		take(d.by[i].values[value(rec, d.by[i].position)])
	}
	if len(d.listed) > 0 && rec.HasSubject {
		s := x.scratch.Get().(*[]broker.SubscriptionID)
		*s = l.Listed((*s)[:0], rec.Dataset, rec.Subject)
		for _, id := range *s {
			if e := d.listed[id]; e != nil && e.holds(rec) {
				dst = append(dst, e.terms)
				lists = 2 // a lister owes us no order
			}
		}
		x.scratch.Put(s)
	}
	if lists > 1 {
		slices.SortFunc(dst[from:], byName)
		dst = dst[:from+len(slices.Compact(dst[from:]))] // nor that it names each once
	}
	return dst
}

// holds tests all conditions but being listed.
func (e *entry) holds(rec *broker.Record) bool {
	if e.scope >= 0 && !slices.Contains(e.values, value(rec, e.scope)) {
		return false
	}
	for _, c := range e.filter {
		if !c.Holds(value(rec, c.position)) {
			return false
		}
	}
	return true
}

// value is an attribute's, or "" where the record has none.
func value(rec *broker.Record, position int) string {
	if position < 0 || position >= len(rec.Attributes) {
		return ""
	}
	return rec.Attributes[position]
}

func byName(a, b *broker.Terms) int {
	return strings.Compare(string(a.Subscription.ID), string(b.Subscription.ID))
}
