package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// Freeze stops all that goes out of a dataset, to an organisation or into a mailbox,
// at once: policy denies with the reason frozen until it is lifted. Each authority's
// freeze is its own, so that nobody lifts another's by lifting theirs.
type Freeze struct {
	Kind FreezeKind `json:"kind"`
	ID   string     `json:"id"`
	By   Authority  `json:"by"`
	Why  string     `json:"why"`
}

// FreezeEnd lifts a freeze. What is denied meanwhile stays denied.
type FreezeEnd struct {
	Kind FreezeKind `json:"kind"`
	ID   string     `json:"id"`
	By   Authority  `json:"by"`
	Why  string     `json:"why"`
}

// FreezeKind says what is frozen. The set is closed.
type FreezeKind string

// The kinds.
const (
	FreezeDataset      FreezeKind = "dataset"      // nothing of it goes to anybody
	FreezeOrganisation FreezeKind = "organisation" // nothing goes to it, as consumer or as supplier
	FreezeMailbox      FreezeKind = "mailbox"      // nothing goes into it or out of it
)

// FreezeKinds are all of them.
var FreezeKinds = []FreezeKind{FreezeDataset, FreezeOrganisation, FreezeMailbox}

// Authority is by which right somebody freezes. The set is closed.
type Authority string

// The authorities.
const (
	ByOperator Authority = "operator" // whoever runs the broker
	ByOwner    Authority = "owner"    // of the dataset or the mailbox
)

// Frozen is a freeze that stands.
type Frozen struct {
	Freeze
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	Revision broker.Revision `json:"revision"`
}

// SetFreeze freezes.
func SetFreeze(f Freeze) Change { return change(FreezeSet, f) }

// LiftFreeze lifts the freeze of one authority.
func LiftFreeze(f FreezeEnd) Change { return change(FreezeLifted, f) }

// maxFreezeWhy is in bytes.
const maxFreezeWhy = 500

// CheckFreezeWhy says what a reason may not be: it stands in the log for ever, and is
// shown to those concerned.
func CheckFreezeWhy(why string) error {
	switch {
	case strings.TrimSpace(why) == "":
		return fmt.Errorf("say why: those who are stopped are told")
	case len(why) > maxFreezeWhy:
		return fmt.Errorf("the reason is longer than %d bytes", maxFreezeWhy)
	case elevenDigits(why):
		return fmt.Errorf("the reason holds eleven digits in a row: it could be a person's number")
	}
	return nil
}

type frozenThing struct {
	kind FreezeKind
	id   string
}

func (s *State) refuseFreeze(kind FreezeKind, id string, by Authority, why string) string {
	known := false
	switch kind {
	case FreezeDataset:
		known = s.datasets[broker.DatasetID(id)] != nil
	case FreezeOrganisation:
		known = s.organisations[broker.OrgNumber(id)] != nil
	case FreezeMailbox:
		known = s.mailboxes[broker.MailboxID(id)] != nil
	default:
		return fmt.Sprintf("a freeze is of a dataset, an organisation or a mailbox, not of %q", string(kind))
	}
	switch {
	case !known:
		return unknown(string(kind), id)
	case by != ByOperator && by != ByOwner, kind == FreezeOrganisation && by != ByOperator:
		return fmt.Sprintf("no %q freezes a %s", string(by), kind)
	}
	if err := CheckFreezeWhy(why); err != nil {
		return err.Error()
	}
	return ""
}

func (s *State) refuseFreezeSet(v *Freeze) string {
	if r := s.refuseFreeze(v.Kind, v.ID, v.By, v.Why); r != "" {
		return r
	}
	if _, ok := s.frozen[frozenThing{v.Kind, v.ID}][v.By]; ok {
		return fmt.Sprintf("%s %s is frozen already by its %s", v.Kind, v.ID, v.By)
	}
	return ""
}

func (s *State) refuseFreezeEnd(v *FreezeEnd) string {
	if r := s.refuseFreeze(v.Kind, v.ID, v.By, v.Why); r != "" {
		return r
	}
	if _, ok := s.frozen[frozenThing{v.Kind, v.ID}][v.By]; !ok {
		return fmt.Sprintf("%s %s is not frozen by its %s", v.Kind, v.ID, v.By)
	}
	return ""
}

func (s *State) applyFreeze(p payload, e *Event) {
	switch v := p.(type) {
	case *Freeze:
		k := frozenThing{v.Kind, v.ID}
		if s.frozen[k] == nil {
			s.frozen[k] = map[Authority]Frozen{}
		}
		s.frozen[k][v.By] = Frozen{Freeze: *v, At: e.At, Actor: e.Actor, Revision: e.Seq}
	case *FreezeEnd:
		k := frozenThing{v.Kind, v.ID}
		if delete(s.frozen[k], v.By); len(s.frozen[k]) == 0 {
			delete(s.frozen, k)
		}
	default:
		panic(fmt.Sprintf("registry: %T is nothing of a freeze", p))
	}
}

// Freezes are those that stand, by kind, name and authority.
func (s *State) Freezes() []Frozen {
	var all []Frozen
	for _, by := range s.frozen {
		for _, f := range by {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b Frozen) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.By, b.By))
	})
	return all
}

// FrozenBy are the freezes that stand on one thing, by authority.
func (s *State) FrozenBy(kind FreezeKind, id string) []Frozen {
	var all []Frozen
	for _, f := range s.frozen[frozenThing{kind, id}] {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Frozen) int { return cmp.Compare(a.By, b.By) })
	return all
}

// stopped reports whether some freeze stops what a subscription gets.
func (s *State) stopped(sub *broker.Subscription, a *broker.Agreement) bool {
	if len(s.frozen) == 0 {
		return false
	}
	is := func(kind FreezeKind, id string) bool { return id != "" && len(s.frozen[frozenThing{kind, id}]) > 0 }
	return is(FreezeDataset, string(a.Dataset)) || is(FreezeMailbox, string(sub.Mailbox)) ||
		is(FreezeOrganisation, string(a.Consumer)) || is(FreezeOrganisation, string(a.Supplier))
}
