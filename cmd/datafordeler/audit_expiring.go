package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// due is something that ends, or that somebody must look at again.
type due struct {
	At   time.Time `json:"at"`
	Days int       `json:"days"` // until then; below zero it is past
	What string    `json:"what"` // ends or review
	Kind string    `json:"kind"`
	ID   string    `json:"id"`
	// Agreements that rest on it and have not ended.
	Agreements []broker.AgreementID `json:"agreements"`
	By         string               `json:"by,omitempty"` // who assessed it
}

func auditExpiring(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit expiring")
	where := placeFlags(fs)
	days := fs.Int("days", 90, "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *days < 0 || *days > 36500 {
		return usagef("--days: want 0 to 36500")
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var all []due
	now := time.Now()
	n.control.View(func(st *registry.State) { all = expiring(st, now, *days) })
	if *asJSON {
		for _, d := range all {
			err = errors.Join(err, printJSON(std.out, d, false))
		}
		return err
	}
	if len(all) == 0 {
		fmt.Fprintf(std.err, "nothing ends or is due for review within %d days\n", *days)
	}
	return printDue(std.out, all)
}

func printDue(w io.Writer, all []due) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, d := range all {
		when := fmt.Sprintf("in %d days", d.Days)
		if d.Days < 0 {
			when = fmt.Sprintf("%d days ago", -d.Days)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t%s\n", d.At.UTC().Format(time.DateOnly), when, d.What, d.Kind, d.ID, cellOf(d.Agreements))
	}
	return t.Flush()
}

// expiring lists what of the registry ends or is due for review before so many days
// have gone, the earliest first. What is past is listed too: a review that nobody
// held, and an end of something that an agreement still rests on. Consents and cases
// are each one person's affair, and are not listed here.
func expiring(st *registry.State, now time.Time, days int) (all []due) {
	until := now.AddDate(0, 0, days)
	add := func(at time.Time, what, kind, id, by string, on []broker.AgreementID) {
		if at.IsZero() || at.After(until) || what == "ends" && at.Before(now) && len(on) == 0 {
			return
		}
		left := int(at.Sub(now).Hours() / 24)
		if at.Before(now) {
			left = min(left, -1)
		}
		all = append(all, due{At: at, Days: left, What: what, Kind: kind, ID: id, By: by, Agreements: on})
	}
	byBasis, byPackage := map[broker.LegalBasisID][]broker.AgreementID{}, map[broker.PackageRef][]broker.AgreementID{}
	var live []*broker.Agreement
	for _, a := range st.Agreements() {
		if a.Status == broker.Ended {
			continue
		}
		live = append(live, a)
		byPackage[a.Package] = append(byPackage[a.Package], a.ID)
		for _, b := range a.Bases {
			byBasis[b] = append(byBasis[b], a.ID)
		}
		add(a.Valid.To, "ends", "agreement", string(a.ID), "", []broker.AgreementID{a.ID})
	}
	for _, b := range st.Bases() {
		add(b.Valid.To, "ends", "basis", string(b.ID), b.Assessed.By, byBasis[b.ID])
		add(b.Assessed.Review, "review", "basis", string(b.ID), b.Assessed.By, byBasis[b.ID])
	}
	for _, p := range st.Packages() {
		if on := byPackage[p.Ref()]; len(on) > 0 { // an old version that nobody uses is nobody's to review
			add(p.Assessment.Review, "review", "package", fmt.Sprintf("%s@%d", p.ID, p.Version), p.Assessment.By, on)
		}
	}
	for _, d := range st.Delegations() {
		if _, gone := st.DelegationWithdrawn(d.ID); gone {
			continue
		}
		var on []broker.AgreementID
		for _, a := range live {
			if a.Consumer == d.From && a.Supplier == d.To && slices.Contains(d.Datasets, a.Dataset) {
				on = append(on, a.ID)
			}
		}
		add(d.Valid.To, "ends", "delegation", string(d.ID), "", on)
	}
	slices.SortFunc(all, func(a, b due) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.What, b.What))
	})
	return all
}
