package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"datafordeler/broker/registry"
	"datafordeler/policy"
)

func policyCommand() command {
	return command{
		name:    "policy",
		summary: "activate a policy, and show what it may answer",
		help: `Usage: datafordeler policy activate --actor NAME [--dir DIR] [--wait 30s]
       datafordeler policy show [--lang nb|nn|en] [--json]
       datafordeler policy explain [--subscription ID] [--json]

activate writes the policy's bytes to control, as the one that all instances
decide by from that revision on. Without --dir it is the policy that this
version carries. It must compile under the restricted capabilities.
show prints the active policy's digest and every reason that it may give: its
code, what it rests on, what it says and what to do about it.
explain lists every subscription, and whether its records are decided by the
compiled form of the policy or, and then why, by full evaluation: the same
answers, a thousand times slower. With --subscription it shows what is left of
each requirement once the agreement is known: always, never, or open, and then
what is asked of a record. A letter in brackets is one and the same case or
consent throughout an alternative.
` + placeHelp + `
Examples:
  datafordeler policy activate --actor "kari at digdir" --config broker.yaml
  datafordeler policy show --lang en --data data
  datafordeler policy explain --config broker.yaml
  datafordeler policy explain --subscription oslo-sosialhjelp --data data

Exit codes: 0 done, 1 no policy is active or no such subscription, 2 flags, or
a policy that does not compile.
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			if len(args) == 0 {
				return usagef("what? activate, show or explain")
			}
			switch args[0] {
			case "activate":
				return policyActivate(ctx, std, args[1:])
			case "show":
				return policyShow(ctx, std, args[1:])
			case "explain":
				return policyExplain(ctx, std, args[1:])
			case "-h", "--help":
				return flag.ErrHelp
			}
			return usagef("no verb %q: activate, show or explain", args[0])
		},
	}
}

func policyActivate(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy activate")
	where := placeFlags(fs)
	dir := fs.String("dir", "", "")
	actor := fs.String("actor", "", "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	bundle := policy.Embedded()
	if *dir != "" {
		var err error
		if bundle, err = policy.FromFS(os.DirFS(*dir)); err != nil {
			return usagef("--dir: %w", err)
		}
	}
	if _, err := policy.Compile(bundle); err != nil {
		return usagef("nothing was written: %w", err)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	changed, err := n.activatePolicy(ctx, *actor, bundle)
	if err != nil {
		return err
	}
	if !changed {
		fmt.Fprintf(std.out, "%s is active already\n", bundle.Digest())
		return nil
	}
	fmt.Fprintf(std.out, "%s activated\n", bundle.Digest())
	return n.reportBinding(ctx, std, n.control.Revision(), *wait)
}

func policyShow(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy show")
	where := placeFlags(fs)
	lang := fs.String("lang", "nb", "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if !slices.Contains([]string{"nb", "nn", "en"}, *lang) {
		return usagef("--lang: %q is not nb, nn or en", *lang)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var active *registry.Policy
	n.control.View(func(st *registry.State) { active = st.Policy() })
	if active == nil {
		return fmt.Errorf("no policy is active: datafordeler policy activate")
	}
	engine, err := policy.Compile(policy.Bundle{Modules: active.Modules})
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(std.out, struct {
			Digest  string              `json:"digest"`
			Reasons []policy.ReasonInfo `json:"reasons"`
		}{active.Digest, engine.Reasons()}, true)
	}
	fmt.Fprintf(std.out, "%s\n\n", active.Digest)
	tw := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	for _, r := range engine.Reasons() {
		fmt.Fprintf(tw, "%s\t%s\n\t→ %s\n", r.Code, r.Message[*lang], r.Remedy[*lang])
	}
	return tw.Flush()
}
