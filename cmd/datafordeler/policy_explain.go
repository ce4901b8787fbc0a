package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// explained is one subscription as policy explain tells of it.
type explained struct {
	Subscription broker.SubscriptionID `json:"subscription"`
	Agreement    broker.AgreementID    `json:"agreement"`
	policy.Form
}

func policyExplain(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy explain")
	where := placeFlags(fs)
	only := fs.String("subscription", "", "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var active *registry.Policy
	var terms []*broker.Terms
	n.control.View(func(st *registry.State) { active, terms = st.Policy(), st.AllTerms() })
	if active == nil {
		return fmt.Errorf("no policy is active: datafordeler policy activate")
	}
	if *only != "" {
		terms = slices.DeleteFunc(slices.Clone(terms), func(t *broker.Terms) bool { return string(t.Subscription.ID) != *only })
		if len(terms) == 0 {
			return fmt.Errorf("no subscription%s is registered", quoted(*only))
		}
	}
	engine, err := policy.Compile(policy.Bundle{Modules: active.Modules})
	if err != nil {
		return err
	}
	all := make([]explained, len(terms))
	for i, t := range terms {
		if all[i], err = explain(ctx, engine, t); err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b explained) int { return strings.Compare(string(a.Subscription), string(b.Subscription)) })
	switch {
	case *asJSON && *only != "":
		return printJSON(std.out, struct {
			Digest string `json:"digest"`
			explained
		}{active.Digest, all[0]}, true)
	case *asJSON:
		for i := range all { // what is left of each requirement is for one at a time
			all[i].Requirements, all[i].Bases = nil, nil
		}
		return printJSON(std.out, struct {
			Digest        string      `json:"digest"`
			Subscriptions []explained `json:"subscriptions"`
		}{active.Digest, all}, true)
	case *only != "":
		return writeRemainders(std.out, &all[0])
	}
	fmt.Fprintf(std.out, "%s\n\n", active.Digest)
	return writeForms(std.out, all)
}

// explain fails only when ctx is done: terms that cannot be prepared are denied
// altogether, and that is what is told of them.
func explain(ctx context.Context, engine *policy.Engine, t *broker.Terms) (explained, error) {
	out := explained{Subscription: t.Subscription.ID, Agreement: t.Agreement.ID}
	p, err := engine.Prepare(t)
	if err != nil {
		out.Form = policy.Form{State: policy.Full, Why: "every record is denied: " + err.Error()}
		return out, nil
	}
	_ = p.Compile(ctx) // its error is in the form
	out.Form = p.Form()
	return out, ctx.Err()
}

func writeForms(w io.Writer, all []explained) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	full := 0
	for i := range all {
		x := &all[i]
		note := x.Why
		if x.State == policy.Compiled {
			open := 0
			for _, r := range x.Requirements {
				if r.Holds == policy.Open {
					open++
				}
			}
			note = fmt.Sprintf("%d of %d requirements ask something of the record", open, len(x.Requirements))
		} else {
			full++
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", x.Subscription, x.State, note)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d compiled, %d by full evaluation\n", len(all)-full, full)
	return err
}

func writeRemainders(w io.Writer, x *explained) error {
	fmt.Fprintf(w, "%s (agreement %s): %s\n", x.Subscription, x.Agreement, x.Form)
	section := func(title string, all []policy.Remainder) {
		if len(all) == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s\n", title)
		for _, r := range all {
			fmt.Fprintf(w, "  %s: %s\n", r.Of, r.Holds)
			for i, alternative := range r.Alternatives {
				if i > 0 {
					fmt.Fprintln(w, "    or")
				}
				for _, line := range alternative {
					fmt.Fprintf(w, "    %s\n", line)
				}
			}
		}
	}
	section("What clears each requirement:", x.Requirements)
	section("When each legal basis carries a permit:", x.Bases)
	return nil
}
