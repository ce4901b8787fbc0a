package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// registryDelegation withdraws a supplier's leave to act. It is given by apply.
func registryDelegation(ctx context.Context, std stdio, args []string) error {
	if len(args) == 0 || args[0] != "withdraw" {
		return usagef("delegation what? withdraw; give one with: datafordeler registry apply")
	}
	fs := newFlags("registry delegation")
	where := placeFlags(fs)
	id := fs.String("id", "", "")
	actor := fs.String("actor", "", "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args[1:], 0, 0); err != nil {
		return err
	}
	if *id == "" {
		return usagef("--id is missing: which delegation? See: datafordeler registry get delegation")
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	now, what := time.Now(), "withdrawn"
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		d := broker.DelegationID(*id)
		if st.Delegation(d) == nil {
			return nil, usagef("--id: no delegation%s is registered; see: datafordeler registry get delegation", quoted(*id))
		}
		if w, ok := st.DelegationWithdrawn(d); ok {
			what = "was withdrawn before, " + w.At.Format(time.RFC3339)
			return nil, nil
		}
		return st.Link(now, *actor, registry.WithdrawDelegation(d, now))
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "delegation %s %s\n", *id, what)
	unkept := n.keepKafkaAccess(ctx, std.out)
	return errors.Join(unkept, n.reportBinding(ctx, std, rev, *wait))
}
