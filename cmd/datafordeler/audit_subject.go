package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

func auditSubject(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit subject")
	where := placeFlags(fs)
	flags := &searchFlags{}
	flags.declareWindow(fs)
	kind := fs.String("kind", "", "")
	actor := fs.String("actor", "", "")
	reason := fs.String("reason", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	of := broker.SubjectKind(*kind)
	if of != broker.Person && of != broker.OrganisationSubject && of != broker.PropertySubject {
		return usagef("--kind: want person, organisation or property")
	}
	if *actor == "" {
		return usagef("--actor is missing: who asks? It stands in the registry's log")
	}
	if strings.TrimSpace(*reason) == "" {
		return usagef("--reason is missing: why is this subject looked up? It stands in the registry's log")
	}
	if flags.q.Cursor != "" {
		return usagef("--cursor: all that is found is printed at once, so that a lookup is logged once")
	}
	flags.dataset, flags.partition, flags.offset = "", -1, -1
	limit := flags.q.Limit
	flags.q.Limit = store.MaxLimit
	q, err := flags.query()
	if err != nil {
		return err
	}
	if limit != store.DefaultLimit {
		return usagef("--limit: all that is found is printed; bound it with --from and --to")
	}
	listed, err := readIDs(std.in)
	if err != nil {
		return err
	}
	if len(listed) != 1 {
		return usagef("standard input: want one identifier, and there are %d", len(listed))
	}
	ids, err := subjectsOf(&broker.Dataset{Subject: broker.SubjectRule{Kind: of}}, listed)
	if err != nil {
		return err
	}
	n, err := where.open(ctx, std, true)
	if err != nil {
		return err
	}
	defer n.close()
	var destroyed []string
	if q.Subjects, destroyed, err = n.pseudonyms(n.ring.Subject(of, ids[0]), time.Now()); err != nil {
		return err
	}
	s, err := n.openStore(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	var all store.Page
	for {
		page, err := s.Search(ctx, q)
		if err != nil {
			return err
		}
		all.Hits = append(all.Hits, page.Hits...)
		if q.Cursor = page.Next; q.Cursor == "" {
			break
		}
	}
	// First it is in the log that somebody asked; only then they have the answer.
	lookup := registry.SubjectLookup{Reason: strings.TrimSpace(*reason), Periods: len(q.Subjects), Found: int64(len(all.Hits))}
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		events, err := st.Link(time.Now(), *actor, registry.LookUpSubject(lookup))
		if err != nil {
			return nil, usageError{err}
		}
		var refused *registry.RefusedError
		if err := st.Check(events[0]); errors.As(err, &refused) {
			return nil, usageError{err}
		}
		return events, nil
	})
	if err != nil {
		return fmt.Errorf("the lookup could not be logged, so nothing is shown: %w", err)
	}
	if err := flags.print(std, all); err != nil {
		return err
	}
	fmt.Fprintf(std.err, "%d decisions in %d months; that %s asked is logged at revision %d of the registry\n", lookup.Found, lookup.Periods, *actor, rev)
	if len(destroyed) > 0 {
		fmt.Fprintf(std.err, "not searchable any more, since the keys of their pseudonyms were destroyed: %s\n", strings.Join(destroyed, " "))
	}
	return nil
}

// pseudonyms are a subject's in every month until now whose key stands; the months
// whose keys were destroyed are named.
func (n *node) pseudonyms(subject broker.SubjectKey, now time.Time) (all []broker.Pseudonym, destroyed []string, err error) {
	info, err := keys.Inspect(n.keystore())
	if err != nil {
		return nil, nil, err
	}
	n.control.View(func(st *registry.State) {
		for _, d := range st.DestroyedPeriods() {
			destroyed = append(destroyed, d.Period)
		}
	})
	all = []broker.Pseudonym{}                           // none is not any
	last := now.UTC().AddDate(0, 0, 1).Format("2006-01") // another instance's clock may be ahead at a month's end
	for _, p := range info.Periods {
		switch {
		case p.Period > last || slices.Contains(destroyed, p.Period):
		case p.Destroyed:
			destroyed = append(destroyed, p.Period)
		default:
			pseudonym, err := n.ring.Pseudonym(p.Period, subject)
			if err != nil {
				return nil, nil, err
			}
			all = append(all, pseudonym)
		}
	}
	slices.Sort(destroyed)
	return all, destroyed, nil
}
