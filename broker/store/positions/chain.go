package positions

import (
	"context"
	"database/sql"

	"datafordeler/broker"
)

// chainsOf finds all changes in the chains that the records on a subject belong to,
// whoever these are about: it goes from each event to the changes that name it, and
// to what it names itself. One statement, since each costs more than what it does. CROSS JOIN keeps the order in
// which the tables are asked.
const chainsOf = `WITH RECURSIVE chain (event) AS (
		SELECT event FROM record WHERE subject = ?1
		UNION SELECT c.event FROM chain CROSS JOIN change c ON c.parent = chain.event
		UNION SELECT c.parent FROM chain CROSS JOIN change c ON c.event = chain.event
	) SELECT c.source, c.offset, c.stamp, c.event, c.parent FROM chain CROSS JOIN change c ON c.event = chain.event`

// firsts are entries by their events. A repeated event is ignored: its first
// position stays.
type firsts map[broker.EventHash]*Entry

func (f firsts) add(e Entry) {
	if have := f[e.Event]; have == nil || compare(&e, have) < 0 {
		f[e.Event] = &e
	}
}

// current finds the current records on a subject.
func (v *view) current(ctx context.Context, subject broker.SubjectKey) ([]Entry, error) {
	here, known := firsts{}, firsts{}
	collect := func(into ...firsts) func(*sql.Rows) error {
		return func(rs *sql.Rows) error {
			e, ok, err := v.entry(rs)
			for i := 0; ok && err == nil && i < len(into); i++ {
				into[i].add(e)
			}
			return err
		}
	}
	if err := v.query(ctx, v.x.ofSubject, subject, collect(here, known)); err != nil || len(here) == 0 {
		return nil, err
	}
	if err := v.query(ctx, v.x.chains, subject, collect(known)); err != nil {
		return nil, err
	}
	c := chains{}
	named := map[broker.EventHash]bool{}
	for event, e := range known {
		if e.Kind != broker.Original {
			named[e.Of] = true
			c.join(event, e.Of)
		}
	}
	// The last word of each chain: of those that none names, the newest.
	last := map[broker.EventHash]*Entry{}
	for event, e := range known {
		if root := c.root(event); !named[event] && (last[root] == nil || compare(e, last[root]) > 0) {
			last[root] = e
		}
	}
	var out []Entry
	for _, e := range last {
		if e.Kind != broker.Retraction && here[e.Event] != nil && *here[e.Event] == *e && v.asked(e) {
			out = append(out, *e)
		}
	}
	return out, nil
}

// chains joins events that name each other: each points toward a representative.
type chains map[broker.EventHash]broker.EventHash

func (c chains) root(e broker.EventHash) broker.EventHash {
	for {
		up, ok := c[e]
		if !ok {
			return e
		}
		if over, ok := c[up]; ok { // halve the way for those who come after
			c[e] = over
		}
		e = up
	}
}

func (c chains) join(a, b broker.EventHash) {
	if a, b = c.root(a), c.root(b); a != b {
		c[a] = b
	}
}
