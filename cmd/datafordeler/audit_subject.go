package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/audit"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

func auditSubject(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit subject")
	where := placeFlags(fs)
	q := audit.SubjectQuestion{}
	span, form := declareSpan(fs), declareForm(fs)
	fs.StringVar((*string)(&q.Kind), "kind", "", "")
	fs.StringVar(&q.Actor, "actor", "", "")
	fs.StringVar(&q.Reason, "reason", "", "")
	fs.IntVar(&q.Limit, "limit", store.MaxLimit, "")
	fs.StringVar(&q.Cursor, "cursor", "", "")
	fs.BoolVar(&q.Oldest, "oldest", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if q.Actor == "" {
		return usagef("--actor is missing: who asks? It stands in the registry's log")
	}
	if strings.TrimSpace(q.Reason) == "" {
		return usagef("--reason is missing: why is this subject looked up? It stands in the registry's log")
	}
	listed, err := readIDs(std.in)
	if err != nil {
		return err
	}
	if len(listed) != 1 {
		return usagef("standard input: want one identifier, and there are %d", len(listed))
	}
	ids, err := subjectsOf(&broker.Dataset{Subject: broker.SubjectRule{Kind: q.Kind}}, listed)
	if err != nil {
		return err
	}
	q.ID = audit.NewIdentifier(ids[0])
	desk, err := openDeskWith(ctx, std, where, true, span, form)
	if err != nil {
		return err
	}
	defer desk.close()
	q.From, q.To = span.begin, span.end
	a, err := desk.Subject(ctx, q)
	if err != nil {
		return flagFault(err)
	}
	if err := printHits(std, form, a.Page); err != nil {
		return err
	}
	fmt.Fprintf(std.err, "%d decisions in %d months; that %s asked is logged at revision %d of the registry\n", len(a.Page.Hits), a.Periods, q.Actor, a.Revision)
	if len(a.Destroyed) > 0 {
		fmt.Fprintf(std.err, "not searchable any more, since the keys of their pseudonyms were destroyed: %s\n", strings.Join(a.Destroyed, " "))
	}
	return nil
}

// Pseudonyms hashes a subject's identifier here, for audit.Subjects.
func (n *node) Pseudonyms(kind broker.SubjectKind, id string, now time.Time) ([]broker.Pseudonym, []string, error) {
	ids, err := subjectsOf(&broker.Dataset{Subject: broker.SubjectRule{Kind: kind}}, []listedID{{id, 1}})
	if err != nil {
		why := "not an organisation number: want nine digits whose check digit fits"
		if kind == broker.Person {
			why = "not a national identity number: want eleven digits whose check digits fit"
		}
		return nil, nil, &audit.SubjectError{Why: why}
	}
	return n.PseudonymsOf(n.ring.Subject(kind, ids[0]), now)
}

// PseudonymsOf are a subject's in every month until now whose key stands; the months
// whose keys were destroyed are named.
func (n *node) PseudonymsOf(subject broker.SubjectKey, now time.Time) (all []broker.Pseudonym, destroyed []string, err error) {
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
