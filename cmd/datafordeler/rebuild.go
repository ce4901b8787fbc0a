package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"datafordeler/broker/flow/readmodel"
)

func rebuildCommand() command {
	return command{
		name:    "rebuild",
		summary: "make the read model anew from the log, or check it against the log",
		help: `Usage: datafordeler rebuild [--check] [--json]

Empties the read model and fills it from the log of decisions; then prints the
digest of its content. The same log gives the same digest, on SQLite and on
PostgreSQL. It refuses while an instance fills the read model: stop that first.

  --check   change nothing: make a second one in a temporary file, of the same
            part of the log, and compare the two digests; exit code 1 where they
            differ. An instance may go on meanwhile, but it is compared with
            what stood when the check began, so give it a quiet moment
  --json    print one JSON object
` + placeHelp + `
Examples:
  datafordeler rebuild --data data
  datafordeler rebuild --config broker.yaml --check

Exit codes: 0 done, 1 different or failed, 2 flags.
`,
		run: rebuild,
	}
}

// rebuilt is what rebuild says, for programs.
type rebuilt struct {
	Digest    string `json:"digest"`
	Decisions int64  `json:"decisions"`
	// Of the log, with --check.
	LogDigest    string `json:"log_digest,omitempty"`
	LogDecisions int64  `json:"log_decisions,omitempty"`
	Same         *bool  `json:"same,omitempty"`
}

func rebuild(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("rebuild")
	where := placeFlags(fs)
	check := fs.Bool("check", false, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	o, err := n.readOptions()
	if err != nil {
		return err
	}
	if err := n.engine.EnsureTopics(ctx, n.cfg.DecisionsSpec()); err != nil {
		return err
	}
	var done, total atomic.Int64
	stop := newProgress(std.err).watch(func() string {
		return fmt.Sprintf("read %s of %s places of the log", thousands(done.Load()), thousands(total.Load()))
	})
	progress := func(d, t int64) { done.Store(d); total.Store(t) }
	var out rebuilt
	if *check {
		out, err = checkStore(ctx, o, progress)
	} else {
		var c readmodel.Content
		c, err = readmodel.Rebuild(ctx, o, progress)
		out.Digest, out.Decisions = c.Digest, c.Decisions
	}
	stop()
	if err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(std.out, out, true)
	} else {
		fmt.Fprintf(std.out, "decisions %s\ndigest    %s\n", thousands(out.Decisions), out.Digest)
		if *check {
			fmt.Fprintf(std.out, "the log   %s (%s decisions)\n", out.LogDigest, thousands(out.LogDecisions))
		}
	}
	if err == nil && *check && !*out.Same {
		return fmt.Errorf("the read model does not hold what the log holds: make it anew with 'datafordeler rebuild', and find out who wrote to it")
	}
	return err
}

// checkStore compares the read model with a second one of the same part of the log.
func checkStore(ctx context.Context, o readmodel.Options, progress func(done, total int64)) (out rebuilt, err error) {
	held, next, err := readmodel.Held(ctx, o.DSN)
	if err != nil {
		return out, err
	}
	dir, err := os.MkdirTemp("", "datafordeler-rebuild-")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	o.DSN = "sqlite:" + filepath.Join(dir, "check.db")
	again, err := readmodel.Again(ctx, o, next, progress)
	same := again == held
	return rebuilt{Digest: held.Digest, Decisions: held.Decisions, LogDigest: again.Digest, LogDecisions: again.Decisions, Same: &same}, err
}
