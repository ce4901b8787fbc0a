package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow/replay"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

func policyReplay(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("policy replay")
	where := placeFlags(fs)
	from := fs.String("from", "", "")
	to := fs.String("to", "", "")
	dir := fs.String("policy", "", "")
	var declared files
	fs.Var(&declared, "registry", "")
	dataset := fs.String("dataset", "", "")
	subscription := fs.String("subscription", "", "")
	sample := fs.Int("sample", 3, "")
	every := fs.Int("every", 1, "")
	asJSON := fs.Bool("json", false, "")
	strict := fs.Bool("fail-on-difference", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	o := replay.Options{Dataset: broker.DatasetID(*dataset), Subscription: broker.SubscriptionID(*subscription), Sample: *sample, Every: *every}
	var err error
	if o.From, err = timeFlag("from", *from); err != nil {
		return err
	}
	if o.To, err = timeFlag("to", *to); err != nil {
		return err
	}
	switch {
	case *sample < 1:
		return usagef("--sample: %d; want at least 1", *sample)
	case *every < 1:
		return usagef("--every: %d; want 1 for all batches, 10 for one in ten", *every)
	case !o.To.IsZero() && !o.From.Before(o.To):
		return usagef("--to is not after --from")
	}
	if *dir != "" {
		bundle, err := policy.FromFS(os.DirFS(*dir))
		if err != nil {
			return usagef("--policy: %w", err)
		}
		if o.Policy, err = policy.Compile(bundle); err != nil {
			return usagef("--policy: %w", err)
		}
	}
	if len(declared) > 0 {
		if o.Registry, err = registry.Load(declared...); err != nil {
			return usagef("--registry: %w", err)
		}
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.knows(decisionFilter{dataset: o.Dataset, subscription: o.Subscription}); err != nil {
		return err
	}
	report, err := n.replay(ctx, std, o)
	if err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(std.out, report, true)
	} else {
		err = n.writeReplay(std.out, report)
	}
	if err != nil {
		return err
	}
	switch {
	case report.Faults > 0:
		return fmt.Errorf("%d places came out otherwise than recorded", report.Faults)
	case report.Candidate && report.Different() > 0 && *strict:
		return fmt.Errorf("the candidate would have answered %d decisions otherwise", report.Different())
	case !report.Computed() && len(report.Unchecked) > 0:
		return errors.New("nothing could be computed again; why stands above")
	}
	return nil
}

// replay runs with the node's keys, and shows how far it has come.
func (n *node) replay(ctx context.Context, std stdio, o replay.Options) (*replay.Report, error) {
	registered, err := n.openRegisteredKeys()
	if err != nil {
		return nil, err
	}
	if !registered { // an instance registers its keystore before it decides anything
		return &replay.Report{Candidate: o.Policy != nil || len(o.Registry) > 0}, nil
	}
	o.Engine, o.Topics, o.Hasher, o.Log = n.engine, n.cfg.Topics(), n.ring, n.log
	o.WindowAge = n.cfg.Intake.WindowAge
	o.Progress = &replay.Progress{}
	begun := time.Now()
	stop := newProgress(std.err).watch(func() string {
		done := o.Progress.Decisions.Load()
		line := fmt.Sprintf("replaying: %s decisions on %s records, %s/s", thousands(done), thousands(o.Progress.Records.Load()),
			thousands(int64(float64(done)/time.Since(begun).Seconds())))
		if at := o.Progress.At.Load(); at != 0 {
			line += ", at " + time.Unix(0, at).UTC().Format(time.RFC3339)
		}
		return line
	})
	defer stop()
	return replay.Run(ctx, o)
}

// openRegisteredKeys opens the keystore that the records were hashed with, and
// says whether there is one yet. It never makes one.
func (n *node) openRegisteredKeys() (registered bool, err error) {
	var check string
	n.control.View(func(st *registry.State) { check = st.Keystore() })
	if check == "" || n.ring != nil {
		return check != "", nil
	}
	ring, err := keys.Open(n.cfg.keystorePath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, fmt.Errorf("keystore %s is not there: what is compared was hashed with it (fingerprint %s)", n.cfg.keystorePath(), check)
	case err != nil:
		return true, err
	case ring.Check() != check:
		return true, fmt.Errorf("the keystore %s is not the one that the records were hashed with (fingerprint %s, registered %s)",
			n.cfg.keystorePath(), ring.Check(), check)
	}
	n.ring = ring
	n.forgetPeriods() // a copy may still have what was destroyed
	return true, nil
}

// ofKind is a subscription with the kind of decision, where it is not the stream's.
func ofKind(s broker.SubscriptionID, kind string) string {
	if kind == "" {
		return string(s)
	}
	return string(s) + " (" + kind + ")"
}

// writeReplay is a report for a person to read.
func (n *node) writeReplay(w io.Writer, r *replay.Report) error {
	if r.Batches == 0 && len(r.Unchecked) == 0 && r.Faults == 0 {
		_, err := fmt.Fprintln(w, "Nothing was decided in that time.")
		return err
	}
	fmt.Fprintf(w, "%s decisions on %s records in %s batches computed again", thousands(r.Decisions), thousands(r.Records), thousands(r.Batches))
	if !r.First.IsZero() {
		fmt.Fprintf(w, ", made %s to %s", r.First.UTC().Format(time.RFC3339), r.Last.UTC().Format(time.RFC3339))
	}
	if s := r.Took.Seconds(); s > 0 {
		fmt.Fprintf(w, " (%.1f s, %s decisions/s)", s, thousands(int64(float64(r.Decisions)/s)))
	}
	fmt.Fprintln(w)
	if len(r.Singles) > 0 {
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(r.Singles)) {
			kinds = append(kinds, thousands(r.Singles[kind])+" "+kind)
		}
		fmt.Fprintf(w, "Of these, decisions that no range of records accounts for: %s.\n", strings.Join(kinds, ", "))
	}
	if r.Left > 0 {
		fmt.Fprintf(w, "A sample: %s batches were left out.\n", thousands(r.Left))
	}
	for _, u := range r.Unchecked {
		count := thousands(u.Records) + " records"
		if u.Batches > 0 {
			count = fmt.Sprintf("%s batches, %s", thousands(u.Batches), count)
		}
		fmt.Fprintf(w, "Not checked (%s): %s: %s\n", u.What, u.Why, count)
	}
	if r.Faults > 0 {
		fmt.Fprintf(w, "\n%s places came out otherwise than recorded:\n", thousands(r.Faults))
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range r.FaultSamples {
			fmt.Fprintf(tw, "%s\t%s\t%s\trecorded: %s\tcomputed: %s\tdecisions/%d@%d\n", f.Place, ofKind(f.Subscription, f.Kind), f.What, f.Recorded, f.Computed,
				f.DecisionsPartition, f.DecisionsOffset)
		}
		for _, what := range slices.Sorted(maps.Keys(r.FaultsBy)) {
			fmt.Fprintf(tw, "%s:\t%d in all\n", what, r.FaultsBy[what])
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if !r.Candidate {
		if r.Faults == 0 && r.Batches > 0 {
			fmt.Fprintln(w, "Every one came out as it was recorded.")
		}
		return nil
	}
	if len(r.Differences) == 0 {
		if r.Batches > 0 {
			fmt.Fprintln(w, "The candidate would have answered every one alike.")
		}
		return nil
	}
	fmt.Fprintf(w, "\nThe candidate would have answered %s decisions otherwise: %s permits more, %s fewer.\n\n", thousands(r.Different()), thousands(r.Won), thousands(r.Lost))
	names := map[broker.OrgNumber]string{}
	n.control.View(func(st *registry.State) {
		for _, o := range st.Organisations() {
			names[o.Number] = o.Name
		}
	})
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "CONSUMER\tSUBSCRIPTION\tBEFORE\tAFTER\tCOUNT\tSUCH AS")
	for _, d := range r.Differences {
		after := d.After
		if d.What != "" {
			after += " (other " + d.What + ")"
		}
		var places []string
		for _, s := range d.Samples {
			places = append(places, s.String())
		}
		fmt.Fprintf(tw, "%s %s\t%s\t%s\t%s\t%s\t%s\n", d.Consumer, names[d.Consumer], ofKind(d.Subscription, d.Kind), d.Before, after, thousands(d.Count), strings.Join(places, " "))
	}
	return tw.Flush()
}
