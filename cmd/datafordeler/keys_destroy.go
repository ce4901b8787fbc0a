package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
)

func keysDestroy(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("keys destroy")
	where := placeFlags(fs)
	period := fs.String("period", "", "")
	actor := fs.String("actor", "", "")
	reason := fs.String("reason", "", "")
	force := fs.Bool("force", false, "")
	yes := fs.Bool("yes", false, "")
	dry := fs.Bool("dry-run", false, "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	month, err := time.Parse("2006-01", *period)
	if err != nil || month.Format("2006-01") != *period {
		return usagef("--period%s: want one month, such as 2026-01", quoted(*period))
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	if strings.TrimSpace(*reason) == "" {
		return usagef("--reason is missing: why may these pseudonyms lead nowhere from now on? It stands in the registry's log")
	}
	now := time.Now().UTC()
	if *period >= now.Format("2006-01") {
		return usagef("--period: %s is not over (it is %s, UTC): decisions of that month need its key, and no instance could make any; not even --force does this", *period, now.Format(time.DateOnly))
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	file, s := n.keystore(), n.standing()
	i, err := keys.Inspect(file)
	if err != nil {
		return err
	}
	if why := s.misfit(file, i); why != "" {
		return fmt.Errorf("the keystore %s: %s", file, why)
	}
	if slices.Contains(s.periods(), *period) {
		return n.destroyHere(std, file, *period)
	}
	if !slices.ContainsFunc(i.Periods, func(p keys.Period) bool { return p.Period == *period }) {
		first, last := i.Covers()
		return usagef("--period: the keystore has no key of %s (it covers %s to %s)", *period, first, last)
	}
	batches, records, singles, err := flow.InPeriod(ctx, n.engine, n.cfg.Topics(), month)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, `Destroying the key of %s:
  %d records decided in that month, in %d batches, stay readable, and every proof over them verifies;
  whose they were can never be found again: no subject lookup, no answer to "who got my data" for that month;
  none of that month's decisions can be computed again by replay;
  it cannot be undone, by anybody.
`, *period, records, batches)
	if singles > 0 {
		fmt.Fprintf(std.out, "  So it is with %d decisions of that month in backfills, on lookups and at doors.\n", singles)
	}
	if soon := n.stillNeeded(month, now); soon != "" {
		if !*force {
			if *dry {
				fmt.Fprintln(std.out, "It would be refused without --force:", soon)
				return nil
			}
			return fmt.Errorf("refused: %s: wait until then, or say --force", soon)
		}
		fmt.Fprintln(std.out, "FORCED:", soon)
		*reason += " (forced: records of the month may still be in the sources)"
	}
	if *dry {
		fmt.Fprintln(std.out, "dry run: nothing was destroyed")
		return nil
	}
	if err := confirmed(std, *period, *yes); err != nil {
		return err
	}
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		events, err := st.Link(time.Now(), *actor, registry.DestroyPeriod(registry.Destruction{Period: *period, Check: i.Check, Reason: *reason}))
		if err != nil {
			return nil, err
		}
		// It is folded by every reader alike; what they would refuse is said here.
		if err := st.Check(events[0]); err != nil {
			return nil, usageError{err}
		}
		return events, nil
	})
	if err != nil {
		return err
	}
	// From here it is decided: if we stop now, every instance does the rest at
	// its next start, this machine's too.
	fmt.Fprintf(std.out, "the key of %s is destroyed, by the event at revision %d\n", *period, rev)
	if err := n.destroyHere(std, file, *period); err != nil {
		return err
	}
	fmt.Fprintln(std.out, "Each other instance destroys it in its own copy as it reads the event, or at its next start. Backups are yours:\n  make a new one (datafordeler keys backup) and destroy the old ones; datafordeler keys check FILE tells which hold the key.")
	return n.reportBinding(ctx, std, rev, *wait)
}

// destroyHere takes what is registered as destroyed out of this machine's file.
func (n *node) destroyHere(std stdio, file keys.File, period string) error {
	s := n.standing()
	gone, err := keys.Destroy(file, s.periods()...)
	if err != nil {
		return fmt.Errorf("registered as destroyed, and the key may still stand in %s: %w: make the file writable and run this again", file, err)
	}
	if slices.Contains(gone, period) {
		fmt.Fprintf(std.out, "it is gone from %s; what the file system keeps of the old file (snapshots, spare blocks) is not in reach of this program\n", file)
	} else {
		fmt.Fprintf(std.out, "%s does not hold it\n", file)
	}
	return nil
}

// stillNeeded says why a month's key may be needed yet; "" where it is not.
func (n *node) stillNeeded(month, now time.Time) string {
	over := month.AddDate(0, 1, 0)
	longest, whose := n.cfg.Intake.WindowAge, "the window of repeats"
	forever := ""
	n.control.View(func(st *registry.State) {
		kept := flow.Retention(n.cfg.Config, st)
		for _, d := range st.Datasets() {
			switch k := kept.Source[d.ID]; {
			case k.For <= 0:
				forever = string(d.ID)
			case kafka.Gone(k.For) > longest:
				longest, whose = kafka.Gone(k.For), "source."+string(d.ID)
			}
		}
	})
	if forever != "" {
		return fmt.Sprintf("source.%s keeps records for ever, so those of that month can still be computed again", forever)
	}
	if free := over.Add(longest); now.Before(free) {
		return fmt.Sprintf("records published in that month may be in %s until %s, and repeats, replay and questions about them need the key", whose, free.Format(time.DateOnly))
	}
	return ""
}

// confirmed asks on a terminal, and elsewhere wants --yes.
func confirmed(std stdio, period string, yes bool) error {
	if yes {
		return nil
	}
	if f, ok := std.in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return usagef("nobody is there to be asked: say --yes")
	}
	fmt.Fprintf(std.err, "Type %s to destroy its key for good: ", period)
	line, err := bufio.NewReader(std.in).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(line) != period {
		return fmt.Errorf("nothing was destroyed")
	}
	return nil
}
