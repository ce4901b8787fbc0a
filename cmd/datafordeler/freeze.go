package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"datafordeler/broker/registry"
)

func freezeCommand() command {
	return command{
		name:    "freeze",
		summary: "stop a dataset, an organisation or a mailbox at once, or let it go on",
		help: `Usage: datafordeler freeze dataset|organisation|mailbox ID --why WHY --actor NAME [--lift] [--wait 30s]
       datafordeler freeze list [--json]

What is frozen is denied with the reason frozen, at every door: nothing of a
dataset goes to anybody, nothing goes to an organisation (as consumer or as
supplier), nothing goes into or out of a mailbox. It is not kept for later: what
was denied stays denied when the freeze is lifted.
Here the broker's operator freezes, and lifts whatever freeze there is. Owners
freeze what is theirs over HTTP.
It returns when the freeze binds on every running instance.
  --why WHY      stands in the registry's log, and those who are stopped see it
  --lift         let it go on
` + placeHelp + `
Examples:
  datafordeler freeze mailbox oslo-sosialhjelp --why "a key was lost" --actor "drift" --config broker.yaml
  datafordeler freeze mailbox oslo-sosialhjelp --lift --why "the key was replaced" --actor "drift" --config broker.yaml
`,
		run: freeze,
	}
}

func freeze(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("freeze")
	where := placeFlags(fs)
	why := fs.String("why", "", "")
	actor := fs.String("actor", "", "")
	lift := fs.Bool("lift", false, "")
	asJSON := fs.Bool("json", false, "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parseMixed(fs, args, 1, 2); err != nil {
		return err
	}
	kind, id := registry.FreezeKind(fs.Arg(0)), fs.Arg(1)
	list := fs.Arg(0) == "list"
	switch {
	case list && id != "":
		return usagef("list takes no name")
	case !list && !slices.Contains(registry.FreezeKinds, kind):
		return usagef("freeze what%s? dataset, organisation or mailbox; or list", quoted(fs.Arg(0)))
	case !list && id == "":
		return usagef("which %s? See: datafordeler registry get %s", kind, kind)
	case !list && *actor == "":
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	if !list {
		if err := registry.CheckFreezeWhy(*why); err != nil {
			return usagef("--why: %w", err)
		}
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	if list {
		return n.listFreezes(std, *asJSON)
	}
	var said string
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		now := notBefore(st, time.Now())
		var changes []registry.Change
		standing := st.FrozenBy(kind, id)
		if *lift {
			said = "was not frozen"
			for _, f := range standing {
				said = "is let go on"
				changes = append(changes, registry.LiftFreeze(registry.FreezeEnd{Kind: kind, ID: id, By: f.By, Why: *why}))
			}
		} else {
			said = "is frozen"
			for _, f := range standing {
				if f.By == registry.ByOperator {
					said = "was frozen before, " + f.At.Format(time.RFC3339)
					return nil, nil
				}
			}
			changes = append(changes, registry.SetFreeze(registry.Freeze{Kind: kind, ID: id, By: registry.ByOperator, Why: *why}))
		}
		events, err := st.Link(now, *actor, changes...)
		if err != nil || len(events) == 0 {
			return nil, err
		}
		var refused *registry.RefusedError
		if err := st.Check(events[0]); errors.As(err, &refused) {
			return nil, usagef("no %s%s is registered; see: datafordeler registry get %s", kind, quoted(id), kind)
		} else if err != nil {
			return nil, err
		}
		return events, nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s %s %s\n", kind, id, said)
	unkept := n.keepKafkaAccess(ctx, std.out)
	return errors.Join(unkept, n.reportBinding(ctx, std, rev, *wait))
}

func (n *node) listFreezes(std stdio, asJSON bool) error {
	var all []registry.Frozen
	n.control.View(func(st *registry.State) { all = st.Freezes() })
	for _, f := range all {
		if asJSON {
			if err := printJSON(std.out, f, false); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(std.out, "%s %s  by its %s since %s (%s): %s\n", f.Kind, f.ID, f.By, f.At.Format(time.RFC3339), f.Actor, f.Why)
	}
	if len(all) == 0 && !asJSON {
		fmt.Fprintln(std.out, "nothing is frozen")
	}
	return nil
}
