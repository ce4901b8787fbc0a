package registry

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"datafordeler/broker"
)

// GapReason is why a need has no legal basis in force. The set is closed.
type GapReason string

// The reasons, in the order in which the first that applies is told.
const (
	GapNoDataset GapReason = "no_dataset"            // nobody has a dataset with the concept
	GapNoBasis   GapReason = "no_basis"              // no basis names the dataset
	GapPurpose   GapReason = "purpose_not_covered"   // none that does names the purpose
	GapRecipient GapReason = "recipient_not_covered" // none of those names the organisation
	GapSide      GapReason = "side_not_covered"      // there are bases, but none to disclose, to collect, or for confidentiality
	GapLapsed    GapReason = "lapsed"                // it was covered, and is no more
	GapNotYet    GapReason = "not_yet_in_force"      // it will be covered
	gapless      GapReason = ""
)

var gapOrder = []GapReason{GapNoDataset, GapNoBasis, GapPurpose, GapRecipient, GapSide, GapLapsed, GapNotYet, gapless}

func (g GapReason) rank() int { return slices.Index(gapOrder, g) }

// Gap is what organisations need and no basis in force lets them have.
type Gap struct {
	Dataset broker.DatasetID `json:"dataset,omitempty"`
	Concept string           `json:"concept,omitempty"`
	Purpose broker.Purpose   `json:"purpose"`
	Why     GapReason        `json:"why"`
	// Sides are those that lack a basis.
	Sides []broker.Side `json:"sides"`
	// Bases came closest: those that have lapsed, or are to come, or that cover another purpose or
	// recipient.
	Bases []broker.LegalBasisID `json:"bases"`
	// From is when a basis that is to come is in force, at the earliest.
	From          time.Time          `json:"from,omitzero"`
	Organisations []broker.OrgNumber `json:"organisations"`
	Sectors       []string           `json:"sectors"`
	Needs         []broker.NeedID    `json:"needs"`
}

// Gaps are the open needs that no basis in force at a time covers: for dataset, purpose
// and each organisation that has the need. The most asked for come first.
func (s *State) Gaps(at time.Time) []Gap {
	type key struct {
		dataset broker.DatasetID
		concept string
		purpose broker.Purpose
		why     GapReason
	}
	found := map[key]*Gap{}
	for _, n := range s.Needs() {
		if _, closed := s.closed[n.ID]; closed {
			continue
		}
		asking := []broker.OrgNumber{n.Organisation}
		asking = append(asking, sortedKeys(s.cosigned[n.ID])...)
		for _, o := range asking {
			g := s.gap(n, o, at)
			if g.Why == gapless {
				continue
			}
			k := key{n.Dataset, n.Concept, n.Purpose, g.Why}
			f := found[k]
			if f == nil {
				f = &Gap{Dataset: n.Dataset, Concept: n.Concept, Purpose: n.Purpose, Why: g.Why, Sides: []broker.Side{}, Bases: []broker.LegalBasisID{}}
				found[k] = f
			}
			f.Sides, f.Bases = append(f.Sides, g.Sides...), append(f.Bases, g.Bases...)
			if f.From.IsZero() || !g.From.IsZero() && g.From.Before(f.From) {
				f.From = g.From
			}
			f.Organisations, f.Sectors, f.Needs = append(f.Organisations, o), append(f.Sectors, n.Sector), append(f.Needs, n.ID)
		}
	}
	out := make([]Gap, 0, len(found))
	for _, g := range found {
		g.Sides, g.Bases = distinct(g.Sides), distinct(g.Bases)
		g.Organisations, g.Sectors, g.Needs = distinct(g.Organisations), distinct(g.Sectors), distinct(g.Needs)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(len(b.Organisations), len(a.Organisations)), cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Concept, b.Concept),
			cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Why.rank(), b.Why.rank()))
	})
	return out
}

func distinct[T cmp.Ordered](l []T) []T {
	slices.Sort(l)
	return slices.Compact(l)
}

// gap is that of one organisation, in the dataset that comes closest.
func (s *State) gap(n *broker.Need, to broker.OrgNumber, at time.Time) (best Gap) {
	best = Gap{Why: GapNoDataset}
	for _, d := range s.Datasets() {
		if n.Dataset != "" && d.ID != n.Dataset || n.Concept != "" && !slices.Contains(conceptsOf(d), n.Concept) {
			continue
		}
		if g := s.gapIn(d, n.Purpose, to, at); best.Why == GapNoDataset || g.Why.rank() > best.Why.rank() {
			best = g
		}
	}
	return best
}

func conceptsOf(d *broker.Dataset) (all []string) {
	for _, c := range d.Concepts {
		all = append(all, c)
	}
	return all
}

// gapIn is the side that is worst off.
func (s *State) gapIn(d *broker.Dataset, p broker.Purpose, to broker.OrgNumber, at time.Time) (worst Gap) {
	sides := []broker.Side{broker.Disclosure, broker.Collection}
	if d.AccessRights != broker.Public {
		sides = append(sides, broker.Confidentiality)
	}
	some := slices.ContainsFunc(s.Bases(), func(b *broker.LegalBasis) bool { return slices.Contains(b.Datasets, d.ID) })
	for _, side := range sides {
		g := s.gapOn(side, d.ID, p, to, at)
		if g.Why == GapNoBasis && some {
			g.Why = GapSide
		}
		switch {
		case g.Why == gapless:
			continue
		case worst.Why == gapless || g.Why.rank() < worst.Why.rank():
			worst = g
		case g.Why == worst.Why:
			worst.Sides, worst.Bases = append(worst.Sides, side), append(worst.Bases, g.Bases...)
			if g.From.After(worst.From) { // all sides are needed
				worst.From = g.From
			}
		}
	}
	return worst
}

// gapOn is how far any basis reaches on one side.
func (s *State) gapOn(side broker.Side, d broker.DatasetID, p broker.Purpose, to broker.OrgNumber, at time.Time) (best Gap) {
	best = Gap{Why: GapNoBasis, Sides: []broker.Side{side}}
	for _, b := range s.Bases() {
		if !slices.Contains(b.Sides, side) || !slices.Contains(b.Datasets, d) {
			continue
		}
		why, from := gapless, time.Time{}
		switch {
		case !slices.Contains(b.Purposes, p):
			why = GapPurpose
		case !s.named(b.Recipients, to):
			why = GapRecipient
		case b.Valid.Contains(at):
		case at.Before(b.Valid.From):
			why, from = GapNotYet, b.Valid.From
		default:
			why = GapLapsed
		}
		switch {
		case why == gapless:
			return Gap{}
		case why.rank() > best.Why.rank() || best.Why == GapNoBasis:
			best.Why, best.Bases, best.From = why, []broker.LegalBasisID{b.ID}, from
		case why == best.Why:
			best.Bases = append(best.Bases, b.ID)
			if !from.IsZero() && from.Before(best.From) {
				best.From = from
			}
		}
	}
	return best
}

// Words tells a gap's reason to those who make rules.
func (g GapReason) Words(of *Gap) string {
	switch g {
	case GapNoDataset:
		return "nobody has a dataset with that concept"
	case GapNoBasis:
		return "no legal basis names the dataset"
	case GapPurpose:
		return fmt.Sprintf("bases %v name the dataset, and another purpose", of.Bases)
	case GapRecipient:
		return fmt.Sprintf("bases %v name dataset and purpose, and other recipients", of.Bases)
	case GapSide:
		return fmt.Sprintf("there is no legal basis for %v", of.Sides)
	case GapLapsed:
		return fmt.Sprintf("bases %v have lapsed", of.Bases)
	case GapNotYet:
		return fmt.Sprintf("bases %v are in force from %s on", of.Bases, of.From.Format(time.RFC3339))
	}
	return ""
}
