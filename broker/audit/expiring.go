package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// Due is something that ends, or that somebody must look at again.
type Due struct {
	At   time.Time `json:"at"`
	Days int       `json:"days"` // until then; below zero it is past
	What string    `json:"what"` // ends or review
	Kind string    `json:"kind"`
	ID   string    `json:"id"`
	// Agreements that rest on it and have not ended.
	Agreements []broker.AgreementID `json:"agreements"`
	By         string               `json:"by,omitempty"` // who assessed it
	// Count is how many end, of consents; At is then the day of the first.
	Count int64 `json:"count,omitempty"`
}

// DueColumns are the names of the columns in CSV.
var DueColumns = []string{"at", "days", "what", "kind", "id", "agreements", "by", "count"}

// Row are its cells.
func (d *Due) Row() []string {
	return []string{d.At.UTC().Format(time.RFC3339), strconv.Itoa(d.Days), d.What, d.Kind, d.ID, Cell(d.Agreements), d.By, strconv.FormatInt(d.Count, 10)}
}

// MaxDays bounds how far ahead may be asked, in days.
const MaxDays = 36500

// Expiring lists what ends or is due for review within so many days: of the
// agreements that the asker is party to, and what they rest on.
func (d *Desk) Expiring(s Scope, days int) (all []Due, err error) {
	if days < 0 || days > MaxDays {
		return nil, &QuestionError{"days", fmt.Sprintf("want 0 to %d", MaxDays)}
	}
	now := d.now()
	d.Control.View(func(st *registry.State) { all = expiring(st, s, now, days) })
	return all, nil
}

// expiring lists what of the registry ends or is due for review before so many days
// have gone, the earliest first. What is past is listed too: a review that nobody
// held, and an end of something that an agreement still rests on. Consents are each one
// person's affair: they are counted, by consumer, dataset and purpose.
func expiring(st *registry.State, s Scope, now time.Time, days int) (all []Due) {
	until := now.AddDate(0, 0, days)
	add := func(at time.Time, what, kind, id, by string, on []broker.AgreementID) {
		if !s.all && len(on) == 0 {
			return // no agreement that the asker is party to
		}
		if at.IsZero() || at.After(until) || what == "ends" && at.Before(now) && len(on) == 0 {
			return
		}
		left := int(at.Sub(now).Hours() / 24)
		if at.Before(now) {
			left = min(left, -1)
		}
		all = append(all, Due{At: at, Days: left, What: what, Kind: kind, ID: id, By: by, Agreements: on})
	}
	byBasis, byPackage := map[broker.LegalBasisID][]broker.AgreementID{}, map[broker.PackageRef][]broker.AgreementID{}
	var live []*broker.Agreement
	for _, a := range st.Agreements() {
		if a.Status == broker.Ended || !s.sees(a.Provider, a.Consumer, a.Supplier) {
			continue
		}
		live = append(live, a)
		byPackage[a.Package] = append(byPackage[a.Package], a.ID)
		for _, b := range a.Bases {
			byBasis[b] = append(byBasis[b], a.ID)
		}
		add(a.Valid.To, "ends", "agreement", string(a.ID), "", []broker.AgreementID{a.ID})
		for _, v := range latestAssessments(st, a.ID) {
			add(v.Assessment.Review, "review", "assessment", string(a.ID)+"/"+string(v.Assessment.Side), v.By, []broker.AgreementID{a.ID})
		}
	}
	onAssessment := map[broker.AssessmentID][]broker.AgreementID{}
	rests := func(a *broker.Assessment, on []broker.AgreementID) {
		for _, id := range a.RestsOn {
			onAssessment[id] = append(onAssessment[id], on...)
		}
	}
	for _, b := range st.Bases() {
		rests(&b.Assessed, byBasis[b.ID])
		add(b.Valid.To, "ends", "basis", string(b.ID), b.Assessed.By, byBasis[b.ID])
		add(b.Assessed.Review, "review", "basis", string(b.ID), b.Assessed.By, byBasis[b.ID])
	}
	for _, p := range st.Packages() {
		if on := byPackage[p.Ref()]; len(on) > 0 { // an old version that nobody uses is nobody's to review
			rests(&p.Assessment, on)
			add(p.Assessment.Review, "review", "package", fmt.Sprintf("%s@%d", p.ID, p.Version), p.Assessment.By, on)
		}
	}
	for _, f := range st.Frameworks() {
		var on []broker.AgreementID
		for _, a := range live {
			if a.Framework == f.ID {
				on = append(on, a.ID)
			}
		}
		if f.Closed && len(on) == 0 {
			continue
		}
		add(f.Valid.To, "ends", "framework", string(f.ID), f.By, on)
		for i := range f.Assessments {
			add(f.Assessments[i].Review, "review", "assessment", string(f.ID)+"/"+string(f.Assessments[i].Side), f.By, on)
		}
	}
	for _, v := range st.LegalAssessments() {
		on := onAssessment[v.ID]
		slices.Sort(on)
		add(v.Review, "review", "assessment", string(v.ID), v.By, slices.Compact(on))
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
	for _, c := range st.ConsentsEnding(now, until) {
		var on []broker.AgreementID
		for _, a := range live {
			if a.Consumer == c.Consumer && a.Dataset == c.Dataset && a.Purpose == c.Purpose {
				on = append(on, a.ID)
			}
		}
		n := len(all)
		add(c.First, "ends", "consents", fmt.Sprintf("%s/%s/%s", c.Consumer, c.Dataset, c.Purpose), "", on)
		if len(all) > n {
			d := &all[n]
			d.At, d.Count = d.At.UTC().Truncate(24*time.Hour), c.Count // the hour would be one person's
		}
	}
	slices.SortFunc(all, func(a, b Due) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.What, b.What))
	})
	return all
}

// latestAssessments are an agreement's own, by its steps: the latest of each side.
func latestAssessments(st *registry.State, id broker.AgreementID) (all []registry.Stepped) {
	l := st.Lifecycle(id)
	if l == nil {
		return nil
	}
	seen := map[broker.Side]bool{}
	for _, v := range slices.Backward(l.Steps) {
		if v.Step == broker.StepAssessed && !seen[v.Assessment.Side] {
			seen[v.Assessment.Side] = true
			all = append(all, v)
		}
	}
	return all
}
