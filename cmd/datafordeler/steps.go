package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// deed is what every command that does something for an organisation takes.
type deed struct {
	place
	org, by, actor *string
	dry, json      *bool
	wait           *time.Duration
}

func deedFlags(fs *flag.FlagSet) deed {
	return deed{
		placeFlags(fs), fs.String("for", "", ""), fs.String("by", "", ""), fs.String("actor", "", ""),
		fs.Bool("dry-run", false, ""), fs.Bool("json", false, ""), fs.Duration("wait", 30*time.Second, ""),
	}
}

const deedHelp = `
Who does it:
  --for ORG       the organisation number that it is done for
  --by FUNCTION   who acts for it: a function, such as "Juridisk seksjon"
  --actor NAME    who runs this command; all three stand in the registry's log
  --dry-run       say what would happen, and write nothing
  --json          answer in JSON
`

// needs refuses what is left out. What is read as a name is checked before anything
// says it.
func (d deed) needs(org bool) error {
	switch {
	case *d.actor == "":
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	case org && *d.org == "":
		return usagef("--for is missing: the organisation that it is done for")
	}
	if *d.org != "" {
		if _, err := broker.ParseOrgNumber(*d.org); err != nil {
			return usagef("--for: want an organisation number, nine digits whose check digit fits")
		}
	}
	return nil
}

func (d deed) organisation() broker.OrgNumber { return broker.OrgNumber(*d.org) }

// done is what a deed came to.
type done struct {
	Revision broker.Revision `json:"revision"`
	Written  bool            `json:"written"`
	Said     string          `json:"said"`
}

// do appends what plan makes of the newest registry, says what was done, and waits
// for it to bind.
func (d deed) do(ctx context.Context, std stdio, plan func(st *registry.State, now time.Time) (c []registry.Change, said string, err error)) error {
	n, err := d.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var said string
	wrote := false
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		now := notBefore(st, time.Now())
		var changes []registry.Change
		var err error
		if changes, said, err = plan(st, now); err != nil {
			return nil, err
		}
		events, err := st.Link(now, *d.actor, changes...)
		if err != nil || len(events) == 0 {
			return nil, err
		}
		var refused *registry.RefusedError
		if err := st.Check(events[0]); errors.As(err, &refused) {
			return nil, fmt.Errorf("nothing was written: %s", refused.Reason)
		} else if err != nil {
			return nil, err
		}
		if wrote = !*d.dry; *d.dry {
			return nil, nil
		}
		return events, nil
	})
	if err != nil {
		return err
	}
	if *d.json {
		if err := printJSON(std.out, done{rev, wrote, said}, false); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(std.out, said)
		if *d.dry {
			fmt.Fprintln(std.out, "dry run: nothing was written")
		}
	}
	if !wrote {
		return nil
	}
	quiet := std
	if *d.json {
		quiet.out = std.err // the answer is one line of JSON
	}
	unkept := n.keepKafkaAccess(ctx, quiet.out)
	return errors.Join(unkept, n.ensureTopics(ctx), n.reportBinding(ctx, quiet, rev, *d.wait))
}

// ask opens the broker and shows its registry to fn.
func (p place) ask(ctx context.Context, std stdio, fn func(st *registry.State, now time.Time) error) error {
	n, err := p.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	n.control.View(func(st *registry.State) { err = fn(st, notBefore(st, time.Now())) })
	return err
}
