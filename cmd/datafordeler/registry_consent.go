package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/policy"
)

// registryConsentImport records the consents that a token of Maskinporten proves. It is
// read from standard input: an argument would stand in the list of processes.
func registryConsentImport(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("registry consent import")
	where := placeFlags(fs)
	actor := fs.String("actor", "", "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	n, err := where.open(ctx, std, true)
	if err != nil {
		return err
	}
	defer n.close()
	if len(n.cfg.Access.Issuers) == 0 {
		return usagef("the configuration names no issuer whose tokens count (access.issuers), so none proves a consent")
	}
	text, err := io.ReadAll(io.LimitReader(std.in, 64<<10))
	if err != nil {
		return err
	}
	grants, err := n.consentsOf(ctx, strings.TrimSpace(string(text)))
	if bad, ok := errors.AsType[*access.TokenError](err); ok {
		return usagef("standard input: %s", bad.Why)
	}
	if err != nil {
		return err
	}
	stand, count := 0, 0
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		now := notBefore(st, time.Now())
		var changes []registry.Change
		stand = 0
		for i := range grants {
			stands, more, err := st.TakeConsent(web.Foreign(&grants[i], n.ring.Subject(broker.Person, grants[i].From.Number())))
			if err != nil {
				return nil, err
			}
			stand += len(stands)
			changes = append(changes, more...)
		}
		count = len(changes)
		return st.Link(now, *actor, changes...)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d of %d changed\n", count, stand)
	return n.reportBinding(ctx, std, rev, *wait)
}

// consentsOf says what a token proves, by the issuers that the configuration names.
func (n *node) consentsOf(ctx context.Context, token string) ([]access.ConsentGrant, error) {
	rules, err := policy.NewAccessChecker()
	if err != nil {
		return nil, err
	}
	guard, err := access.New(n.cfg.Access, access.Options{View: n.control.View, Checker: rules, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, usageError{err}
	}
	defer guard.Close()
	return guard.Consents(ctx, token)
}
