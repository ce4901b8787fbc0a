package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// activation is a policy's having been put in force.
type activation struct {
	Digest   string          `json:"digest"`
	Revision broker.Revision `json:"revision"`
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	Modules  int             `json:"modules"`
	Active   bool            `json:"active"`
	text     map[string]string
}

// activations are all of them, the first first.
func (n *node) activations(ctx context.Context) ([]activation, error) {
	var all []activation
	err := n.control.Log(ctx, func(_ int64, e registry.Event, accepted bool) error {
		if !accepted || e.Type != registry.PolicyActivated {
			return nil
		}
		var p registry.Policy
		if err := json.Unmarshal(e.Data, &p); err != nil {
			return fmt.Errorf("revision %d: %w", e.Seq, err)
		}
		for i := range all {
			all[i].Active = false
		}
		all = append(all, activation{p.Digest, e.Seq, e.At, e.Actor, len(p.Modules), true, p.Modules})
		return nil
	})
	return all, err
}

func policyList(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy list")
	where := placeFlags(fs)
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	all, err := n.activations(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		if all == nil {
			all = []activation{}
		}
		return printJSON(std.out, all, true)
	}
	if len(all) == 0 {
		fmt.Fprintln(std.out, "no policy was ever active")
		return nil
	}
	tw := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	for _, a := range all {
		mark := ""
		if a.Active {
			mark = "active"
		}
		fmt.Fprintf(tw, "%s\trevision %d\t%s\t%d modules\tby %s\t%s\n", a.Digest, a.Revision, a.At.Format(time.RFC3339), a.Modules, a.Actor, mark)
	}
	return tw.Flush()
}

// find is the latest activation of a policy, by its digest or an unambiguous
// part of it from the beginning; "" is the active one.
func find(all []activation, digest string) (*activation, error) {
	if digest == "" {
		if len(all) == 0 {
			return nil, fmt.Errorf("no policy is active: datafordeler policy activate")
		}
		return &all[len(all)-1], nil
	}
	const head = "sha256:"
	want := head + strings.TrimPrefix(digest, head)
	var found *activation
	for i := range all {
		if !strings.HasPrefix(all[i].Digest, want) {
			continue
		}
		if found != nil && found.Digest != all[i].Digest {
			return nil, usagef("--digest: several policies begin so; give more of it. See: datafordeler policy list")
		}
		found = &all[i]
	}
	if found == nil || len(want) < len(head)+4 {
		return nil, fmt.Errorf("no policy with that digest was ever active; see: datafordeler policy list")
	}
	return found, nil
}

func policyShow(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy show")
	where := placeFlags(fs)
	lang := fs.String("lang", "nb", "")
	digest := fs.String("digest", "", "")
	out := fs.String("out", "", "")
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
	all, err := n.activations(ctx)
	if err != nil {
		return err
	}
	p, err := find(all, *digest)
	if err != nil {
		return err
	}
	if *out != "" {
		if err := writeModules(*out, p.text); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s: %d modules written to %s; its tests are not in the registry's log\n", p.Digest, p.Modules, *out)
		return nil
	}
	bundle := policy.Bundle{Modules: p.text}
	engine, err := policy.Compile(bundle)
	if err != nil {
		return fmt.Errorf("%s: this version cannot compile it (--out DIR writes its modules): %w", p.Digest, err)
	}
	if *asJSON {
		return printJSON(std.out, struct {
			Digest  string              `json:"digest"`
			Reasons []policy.ReasonInfo `json:"reasons"`
		}{p.Digest, engine.Reasons()}, true)
	}
	fmt.Fprintf(std.out, "%s\n\n", p.Digest)
	if bundle.Digest() != p.Digest {
		fmt.Fprint(std.out, "It was activated by a version with another evaluator, whose answers might differ.\n\n")
	}
	tw := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	for _, r := range engine.Reasons() {
		fmt.Fprintf(tw, "%s\t%s\n\t→ %s\n", r.Code, r.Message[*lang], r.Remedy[*lang])
	}
	return tw.Flush()
}

// writeModules writes a policy's text below a directory, over nothing.
func writeModules(dir string, modules map[string]string) error {
	root, err := openNew(dir)
	if err != nil {
		return usagef("--out: %w", err)
	}
	defer root.Close()
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		name := filepath.FromSlash(path)
		// The paths come from the log; a root lets none of them lead out of dir.
		if err := cmp.Or(root.MkdirAll(filepath.Dir(name), 0o755), root.WriteFile(name, []byte(modules[path]), 0o644)); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	return nil
}

// openNew opens a directory that is empty, or makes it.
func openNew(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	have, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(have) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	return os.OpenRoot(dir)
}
