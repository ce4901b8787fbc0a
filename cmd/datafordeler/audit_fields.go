package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/minimise"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// fieldsReport sets what was agreed against what was delivered, under one agreement
// and one version of its rights package.
type fieldsReport struct {
	Agreement  broker.AgreementID `json:"agreement"`
	Consumer   broker.OrgNumber   `json:"consumer"`
	Package    broker.PackageRef  `json:"package"`
	Deliveries int64              `json:"deliveries"`
	Agreed     []broker.Pointer   `json:"agreed"`
	// Never were agreed and in no delivery: the agreement may be wider than need be.
	Never []broker.Pointer `json:"never_delivered,omitempty"`
	Sets  []fieldSet       `json:"delivered"`
	// Faults say what was delivered and not agreed.
	Faults []string `json:"faults,omitempty"`
}

type fieldSet struct {
	Fields    []broker.Pointer `json:"fields"`
	Shielded  bool             `json:"shielded,omitempty"`
	Count     int64            `json:"count"`
	First     time.Time        `json:"first"`
	Last      time.Time        `json:"last"`
	NotAgreed []broker.Pointer `json:"not_agreed,omitempty"`
}

func auditFields(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit fields")
	where := placeFlags(fs)
	agreement := fs.String("agreement", "", "")
	from, to := fs.String("from", "", ""), fs.String("to", "", "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	begin, err := timeFlag("from", *from)
	if err != nil {
		return err
	}
	end, err := timeFlag("to", *to)
	if err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var asked []broker.AgreementID
	if *agreement != "" {
		asked = append(asked, broker.AgreementID(*agreement))
		known := false
		n.control.View(func(st *registry.State) { known = st.Agreement(asked[0]) != nil })
		if !known {
			return usagef("--agreement: no agreement%s is registered; see: datafordeler registry get agreement", quoted(*agreement))
		}
	}
	s, err := n.openStore(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	delivered, err := s.Delivered(ctx, begin, end, asked...)
	if err != nil {
		return err
	}
	agreed, err := n.agreedPackages(ctx)
	if err != nil {
		return err
	}
	wrong := 0
	for i := range delivered {
		d := &delivered[i]
		var pack *broker.RightsPackage
		n.control.View(func(st *registry.State) { pack = st.Package(d.Package) })
		r := compareFields(d, pack, agreed[d.Agreement][d.Package])
		if len(r.Faults) > 0 {
			wrong++
		}
		if *asJSON {
			err = errors.Join(err, printJSON(std.out, r, false))
		} else {
			r.print(std.out)
		}
	}
	if len(delivered) == 0 {
		fmt.Fprintln(std.err, "nothing was delivered in that time")
	}
	if wrong > 0 {
		return fmt.Errorf("under %d agreements something was delivered that was not agreed", wrong)
	}
	return err
}

// agreedPackages are the versions of rights packages that each agreement has ever
// rested on, by the log of the registry.
func (n *node) agreedPackages(ctx context.Context) (map[broker.AgreementID]map[broker.PackageRef]bool, error) {
	agreed := map[broker.AgreementID]map[broker.PackageRef]bool{}
	err := n.control.Log(ctx, func(offset int64, e registry.Event, accepted bool) error {
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
func compareFields(d *store.Delivered, pack *broker.RightsPackage, agreed bool) fieldsReport {
	r := fieldsReport{Agreement: d.Agreement, Consumer: d.Parties.Consumer, Package: d.Package, Deliveries: d.Permits}
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
		f := fieldSet{Fields: set.Fields, Shielded: set.Shielded, Count: set.Count, First: set.First, Last: set.Last}
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
			r.Faults = append(r.Faults, fmt.Sprintf("not agreed, in %d deliveries: %s", f.Count, cellOf(f.NotAgreed)))
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

func (r *fieldsReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s  %s, %s@%d: %s deliveries, %d fields agreed\n", r.Agreement, r.Consumer, r.Package.ID, r.Package.Version, thousands(r.Deliveries), len(r.Agreed))
	for _, s := range r.Sets {
		shielded := ""
		if s.Shielded {
			shielded = ", shielded"
		}
		fmt.Fprintf(w, "  %s with %d fields%s: %s\n", thousands(s.Count), len(s.Fields), shielded, cellOf(s.Fields))
	}
	if len(r.Never) > 0 {
		fmt.Fprintf(w, "  agreed and never delivered: %s\n", cellOf(r.Never))
	}
	for _, f := range r.Faults {
		fmt.Fprintf(w, "  FAULT %s\n", f)
	}
}
