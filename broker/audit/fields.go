package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"datafordeler/broker"
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
	Agreed     []broker.Pointer   `json:"agreed"`
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
	First     time.Time        `json:"first"`
	Last      time.Time        `json:"last"`
	NotAgreed []broker.Pointer `json:"not_agreed,omitempty"`
}

// FieldsColumns are the names of a report's columns in CSV: a row for each set of
// fields that was delivered.
var FieldsColumns = []string{"agreement", "consumer", "package", "version", "fields", "shielded", "count", "first", "last", "not_agreed", "never_delivered", "faults"}

// Rows are a report's rows.
func (r *Fields) Rows() (rows [][]string) {
	for _, s := range r.Sets {
		rows = append(rows, []string{string(r.Agreement), string(r.Consumer), r.Package.ID, fmt.Sprint(r.Package.Version), Cell(s.Fields), fmt.Sprint(s.Shielded),
			fmt.Sprint(s.Count), s.First.UTC().Format(time.RFC3339Nano), s.Last.UTC().Format(time.RFC3339Nano), Cell(s.NotAgreed), Cell(r.Never), strings.Join(r.Faults, "; ")})
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
	err := d.Control.Log(ctx, func(offset int64, e registry.Event, accepted bool) error {
		if !accepted || e.Type != registry.AgreementPut {
			return nil
		}
		var a broker.Agreement
		if err := json.Unmarshal(e.Data, &a); err != nil {
			return fmt.Errorf("control event at offset %d: %w", offset, err)
		}
		if agreed[a.ID] == nil {
			agreed[a.ID] = map[broker.PackageRef]bool{}
		}
		agreed[a.ID][a.Package] = true
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
		r.Agreed = pack.Fields
	}
	seen := map[broker.Pointer]bool{}
	var sum int64
	for _, set := range d.Sets {
		f := FieldSet{Fields: set.Fields, Shielded: set.Shielded, Count: set.Count, First: set.First, Last: set.Last}
		for _, p := range set.Fields {
			if set.Shielded && p == "/"+minimise.Mark && pack != nil && pack.Shielding != nil {
				continue // it says that fields were taken away
			}
			by, ok := allowedBy(r.Agreed, p)
			if set.Shielded && ok {
				ok = !shieldedOff(pack.Shielding, p)
			}
			if !ok {
				f.NotAgreed = append(f.NotAgreed, p)
			}
			seen[by] = true
		}
		if len(f.NotAgreed) > 0 {
			r.Faults = append(r.Faults, fmt.Sprintf("not agreed, in %d deliveries: %s", f.Count, Cell(f.NotAgreed)))
		}
		sum += set.Count
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

// shieldedOff reports whether shielding takes a field away.
func shieldedOff(s *broker.Shielding, p broker.Pointer) bool {
	if s == nil {
		return false // shielded without a rule: the mark is the fault
	}
	_, removed := allowedBy(s.Remove, p)
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
