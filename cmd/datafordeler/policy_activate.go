package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"datafordeler/broker/flow/replay"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// What is replayed before a policy is activated, unless a flag says otherwise.
const (
	replayTime    = time.Hour
	replayRecords = 100_000
)

func policyActivate(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy activate")
	where := placeFlags(fs)
	dir := fs.String("dir", "", "")
	actor := fs.String("actor", "", "")
	wait := fs.Duration("wait", 30*time.Second, "")
	yes := fs.Bool("yes", false, "")
	dry := fs.Bool("dry-run", false, "")
	last := fs.String("replay-last", "", "")
	without := fs.String("no-replay", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	if *without != "" {
		if *last != "" {
			return usagef("--replay-last and --no-replay exclude each other")
		}
		*actor += " (not replayed: " + *without + ")"
	}
	since, records, err := replayLast(*last)
	if err != nil {
		return err
	}
	bundle := policy.Embedded()
	if *dir != "" {
		if bundle, err = policy.FromFS(os.DirFS(*dir)); err != nil {
			return usagef("--dir %s: %w", *dir, err)
		}
	}
	engine, err := policy.Compile(bundle)
	if err != nil {
		return usagef("nothing was written: %w", err)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	active := false
	n.control.View(func(st *registry.State) { active = st.Policy() != nil && st.Policy().Digest == bundle.Digest() })
	if active {
		fmt.Fprintf(std.out, "%s is active already\n", bundle.Digest())
		return nil
	}
	if err := testPolicy(ctx, std, bundle); err != nil {
		return err
	}
	if err := n.judge(ctx, func(st *registry.State) ([]registry.Event, error) {
		return st.Link(time.Now(), *actor, registry.ActivatePolicy(registry.Policy{Digest: bundle.Digest(), Modules: bundle.Modules}))
	}); err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	doubt := ""
	if *without == "" {
		o := replay.Options{Policy: engine, Latest: records, Sample: 3}
		if since > 0 {
			o.From = time.Now().Add(-since)
		}
		report, err := n.replay(ctx, std, o)
		if err != nil {
			return fmt.Errorf("nothing was written: the difference could not be computed (--no-replay REASON does without): %w", err)
		}
		if *last == "" && !report.Computed() && len(report.Unchecked) == 0 { // a quiet hour: what was before it
			o.From = time.Time{}
			if report, err = n.replay(ctx, std, o); err != nil {
				return fmt.Errorf("nothing was written: the difference could not be computed (--no-replay REASON does without): %w", err)
			}
		}
		if report.Batches == 0 && len(report.Unchecked) == 0 && report.Faults == 0 {
			fmt.Fprintln(std.out, "nothing has been decided yet: no difference to show")
		} else if err := n.writeReplay(std.out, report); err != nil {
			return err
		}
		doubt = doubtIn(report)
	}
	if *dry {
		fmt.Fprintln(std.out, "dry run: nothing was written")
		return nil
	}
	if !*yes {
		if err := agree(std, bundle.Digest(), doubt); err != nil {
			return err
		}
	}
	changed, err := n.activatePolicy(ctx, *actor, bundle)
	if err != nil {
		return err
	}
	if !changed { // by another meanwhile
		fmt.Fprintf(std.out, "%s is active already\n", bundle.Digest())
		return nil
	}
	fmt.Fprintf(std.out, "%s activated\n", bundle.Digest())
	return n.reportBinding(ctx, std, n.control.Revision(), *wait)
}

// replayLast reads how much is replayed: a number of records, or a time.
func replayLast(s string) (since time.Duration, records int64, err error) {
	if s == "" {
		return replayTime, replayRecords, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
		return 0, n, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d, 0, nil
	}
	return 0, 0, usagef("--replay-last: want a number of records such as 100000, or a time such as 24h")
}

// testPolicy refuses a policy that fails its own tests, or has none.
func testPolicy(ctx context.Context, std stdio, bundle policy.Bundle) error {
	tests, err := bundle.Test(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return usagef("nothing was written: %w", err)
	case len(tests.Failed) > 0:
		return usagef("nothing was written: %d of the policy's tests failed:\n  %s", len(tests.Failed), strings.Join(tests.Failed, "\n  "))
	case tests.Passed == 0:
		return usagef("nothing was written: the policy has no tests; write what must hold in files that end with _test.rego, beside the modules")
	}
	fmt.Fprintf(std.out, "%d tests passed; they reach %.1f %% of the policy's lines\n", tests.Passed, tests.Coverage)
	if len(tests.Uncovered) > 0 {
		fmt.Fprintf(std.err, "no test reaches: %s\n", strings.Join(tests.Uncovered, ", "))
	}
	return nil
}

// doubtIn says why somebody must say yes to what was replayed; "" where it is known
// that no answer changes.
func doubtIn(r *replay.Report) string {
	switch {
	case r.Different() > 0:
		return "answers would change"
	case r.Faults > 0:
		return "decisions came out otherwise than recorded, so what would change is not known"
	case slices.ContainsFunc(r.Unchecked, func(u replay.Unchecked) bool { return u.Batches > 0 || !r.Computed() }):
		return "some decisions could not be computed again, so what would change is not known"
	}
	return ""
}

// agree asks on a terminal. Elsewhere nobody can be asked: where there is doubt,
// it needs --yes.
func agree(std stdio, digest, doubt string) error {
	f, ok := std.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		if doubt != "" {
			return fmt.Errorf("nothing was written: %s; give --yes to activate %s all the same", doubt, digest)
		}
		return nil
	}
	fmt.Fprintf(std.err, "Activate %s? [y/N] ", digest)
	line, err := bufio.NewReader(f).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return fmt.Errorf("nothing was written: not agreed to")
}
