package audit

import (
	"context"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// Received finds the permits by which an agreement's receiver got what a withdrawn
// consent was about: those on its subject, from before the withdrawal bound, the oldest
// first. destroyed are the months that cannot be searched any more; what was decided
// then must be found otherwise. cursor is that of the page before, "" for the first.
//
// The subject is taken from the consent and named nowhere, so nobody is looked up here.
func (d *Desk) Received(ctx context.Context, s Scope, o *registry.Obligation, limit int, cursor string) (page store.Page, destroyed []string, err error) {
	var c broker.Consent
	d.Control.View(func(st *registry.State) { c, _ = st.Consent(o.Consent) })
	q := store.Query{Agreement: o.Agreement, Verdict: store.Permits, Ascending: true, Limit: limit, Cursor: cursor}
	if q.Subjects, destroyed, err = d.Subjects.PseudonymsOf(c.Subject, d.now()); err != nil {
		return page, nil, err
	}
	page, err = d.search(ctx, s, q)
	return page, destroyed, err
}
