package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/derive"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// Fields sets what was agreed against what was delivered, under one agreement
// and one version of its rights package.
type Fields struct {
	Agreement  broker.AgreementID `json:"agreement"`
	Consumer   broker.OrgNumber   `json:"consumer"`
	Package    broker.PackageRef  `json:"package"`
	Deliveries int64              `json:"deliveries"`
	// Of the deliveries: those to somebody who asked, and those of records from before.
	Lookups   int64 `json:"by_lookup,omitempty" doc:"of the deliveries, those that answered a lookup"`
	Backfills int64 `json:"by_backfill,omitempty" doc:"of the deliveries, those of records that had been published before"`
	// Notices had no data, and no fields: they are no fault.
	Notices int64 `json:"notices,omitempty" doc:"of the deliveries, those that only told of a correction or retraction, without data"`
	// Nothing were permitted lookups that found no record: no delivery.
	Nothing int64            `json:"nothing_found,omitempty" doc:"permitted lookups that found no record; they are not among the deliveries"`
	Agreed  []broker.Pointer `json:"agreed"`
	// Never were agreed and in no delivery: the agreement may be wider than need be.
	Never []broker.Pointer `json:"never_delivered,omitempty"`
	Sets  []FieldSet       `json:"delivered"`
	// Faults say what was delivered and not agreed.
	Faults []string `json:"faults,omitempty"`
}

// FieldSet is a set of fields that was delivered.
type FieldSet struct {
	Fields    []broker.Pointer `json:"fields"`
	Shielded  bool             `json:"shielded,omitempty"`
	Count     int64            `json:"count"`
	Lookups   int64            `json:"by_lookup,omitempty"`
	Backfills int64            `json:"by_backfill,omitempty"`
	First     time.Time        `json:"first"`
	Last      time.Time        `json:"last"`
	NotAgreed []broker.Pointer `json:"not_agreed,omitempty"`
}

// FieldsColumns are the names of a report's columns in CSV: a row for each set of
// fields that was delivered.
var FieldsColumns = []string{"agreement", "consumer", "package", "version", "fields", "shielded", "count", "first", "last", "not_agreed", "never_delivered", "faults", "by_lookup", "by_backfill", "nothing_found", "notices"}

// Rows are a report's rows.
func (r *Fields) Rows() (rows [][]string) {
	for _, s := range r.Sets {
		notices := "0"
		if len(s.Fields) == 0 && !s.Shielded {
			notices = fmt.Sprint(s.Count)
		}
		rows = append(rows, []string{string(r.Agreement), string(r.Consumer), r.Package.ID, fmt.Sprint(r.Package.Version), Cell(s.Fields), fmt.Sprint(s.Shielded),
			fmt.Sprint(s.Count), s.First.UTC().Format(time.RFC3339Nano), s.Last.UTC().Format(time.RFC3339Nano), Cell(s.NotAgreed), Cell(r.Never), strings.Join(r.Faults, "; "),
			fmt.Sprint(s.Lookups), fmt.Sprint(s.Backfills), "", notices})
	}
	if r.Nothing > 0 { // a row of its own: it has no fields
		rows = append(rows, []string{string(r.Agreement), string(r.Consumer), r.Package.ID, fmt.Sprint(r.Package.Version), "", "false",
			"0", "", "", "", Cell(r.Never), strings.Join(r.Faults, "; "), "0", "0", fmt.Sprint(r.Nothing), "0"})
	}
	return rows
}

// Fields sets what was agreed against what was delivered in [from, to), for one
// agreement or, where it is empty, for all that the asker is party to.
func (d *Desk) Fields(ctx context.Context, s Scope, agreement broker.AgreementID, from, to time.Time) ([]Fields, error) {
	var asked []broker.AgreementID
	if agreement != "" {
		asked = append(asked, agreement)
		known := false
		d.Control.View(func(st *registry.State) { known = st.Agreement(agreement) != nil })
		if !known {
			return nil, &QuestionError{"agreement", "no agreement of that name is registered"}
		}
	}
	delivered, err := d.Store.Delivered(ctx, from, to, asked...)
	if err != nil {
		return nil, err
	}
	agreed, err := d.agreedPackages(ctx)
	if err != nil {
		return nil, err
	}
	var all []Fields
	for i := range delivered {
		one := &delivered[i]
		if !s.sees(one.Parties.Provider, one.Parties.Consumer, one.Parties.Supplier) {
			continue
		}
		var pack *broker.RightsPackage
		d.Control.View(func(st *registry.State) { pack = st.Package(one.Package) })
		all = append(all, compareFields(one, pack, agreed[one.Agreement][one.Package]))
	}
	return all, nil
}

// agreedPackages are the versions of rights packages that each agreement has ever
// rested on, by the log of the registry.
func (d *Desk) agreedPackages(ctx context.Context) (map[broker.AgreementID]map[broker.PackageRef]bool, error) {
	agreed := map[broker.AgreementID]map[broker.PackageRef]bool{}
	rests := func(id broker.AgreementID, p broker.PackageRef) {
		if agreed[id] == nil {
			agreed[id] = map[broker.PackageRef]bool{}
		}
		agreed[id][p] = true
	}
	offers, standard := map[broker.AgreementID]broker.PackageRef{}, map[broker.AgreementID]broker.PackageRef{}
	err := d.Control.Log(ctx, func(offset int64, e registry.Event, accepted bool) (err error) {
		if !accepted {
			return nil
		}
		switch e.Type {
		case registry.AgreementPut:
			var a broker.Agreement
			err = json.Unmarshal(e.Data, &a)
			rests(a.ID, a.Package)
		case registry.AgreementStepped: // an offer is rested on once it is activated
			var v broker.AgreementStep
			if err = json.Unmarshal(e.Data, &v); v.Terms != nil {
				offers[v.Agreement] = v.Terms.Package
			}
			if p, ok := offers[v.Agreement]; ok && v.Step == broker.StepActivated {
				rests(v.Agreement, p)
			}
		case registry.FrameworkPut:
			var f broker.Framework
			err = json.Unmarshal(e.Data, &f)
			standard[f.ID] = f.Package
		case registry.FrameworkAcceded:
			var v broker.Accession
			err = json.Unmarshal(e.Data, &v)
			rests(v.Agreement, standard[v.Framework])
		}
		if err != nil {
			return fmt.Errorf("control event at offset %d: %w", offset, err)
		}
		return nil
	})
	return agreed, err
}

// compareFields holds deliveries to the allow-list. pack is nil where it is not
// registered; agreed is whether the agreement ever rested on it.
func compareFields(d *store.Delivered, pack *broker.RightsPackage, agreed bool) Fields {
	r := Fields{Agreement: d.Agreement, Consumer: d.Parties.Consumer, Package: d.Package, Deliveries: d.Permits}
	if !agreed {
		r.Faults = append(r.Faults, "the agreement never rested on this version of a rights package")
	}
	if pack == nil {
		r.Faults = append(r.Faults, "this version of a rights package is not registered")
	} else {
		r.Agreed = pack.Leaving()
	}
	seen := map[broker.Pointer]bool{}
	var sum int64
	for _, set := range d.Sets {
		sum += set.Count
		if n := set.Kinds[broker.LookupDecision]; n > 0 && len(set.Fields) == 0 {
			r.Nothing += n
			r.Deliveries -= n
			set.Count -= n
			set.Kinds[broker.LookupDecision] = 0
			if set.Count == 0 {
				continue
			}
		}
		if len(set.Fields) == 0 && !set.Shielded {
			r.Notices += set.Count
		}
		r.Lookups += set.Kinds[broker.LookupDecision]
		r.Backfills += set.Kinds[broker.BackfillDecision]
		f := FieldSet{Fields: set.Fields, Shielded: set.Shielded, Count: set.Count, Lookups: set.Kinds[broker.LookupDecision], Backfills: set.Kinds[broker.BackfillDecision], First: set.First, Last: set.Last}
		for _, p := range set.Fields {
			if set.Shielded && p == "/"+minimise.Mark && pack != nil && pack.Shielding != nil {
				continue // it says that fields were taken away
			}
			by, ok := allowedBy(r.Agreed, p)
			if set.Shielded && ok {
				ok = !shieldedOff(pack, p)
			}
			if !ok {
				f.NotAgreed = append(f.NotAgreed, p)
			}
			seen[by] = true
		}
		if len(f.NotAgreed) > 0 {
			r.Faults = append(r.Faults, fmt.Sprintf("not agreed, in %d deliveries: %s", f.Count, Cell(f.NotAgreed)))
		}
		r.Sets = append(r.Sets, f)
	}
	if sum != d.Permits {
		r.Faults = append(r.Faults, fmt.Sprintf("%d deliveries, and the fields of %d are known", d.Permits, sum))
	}
	for _, p := range r.Agreed {
		if !seen[p] {
			r.Never = append(r.Never, p)
		}
	}
	return r
}

// shieldedOff reports whether shielding takes a field, or an answer, away.
func shieldedOff(pack *broker.RightsPackage, p broker.Pointer) bool {
	s := pack.Shielding
	if s == nil {
		return false // shielded without a rule: the mark is the fault
	}
	_, removed := allowedBy(s.Remove, p)
	if d := pack.Derivation(p); d != nil {
		removed = removed || slices.ContainsFunc(s.Remove, func(r broker.Pointer) bool { return derive.Touches(d, r) })
	}
	return removed || s.Body
}

// allowedBy is the pointer of an allow-list that permits another: itself, or one
// above it.
func allowedBy(list []broker.Pointer, p broker.Pointer) (broker.Pointer, bool) {
	for _, l := range list {
		if p == l || strings.HasPrefix(string(p), string(l)+"/") {
			return l, true
		}
	}
	return "", false
}
