package registry

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// UnitEnd says that an organisation is no more, after the register of legal entities. Its
// agreements and delegations count as ended from then on, and nothing passes to a
// successor: whoever took over needs a legal basis and an agreement of its own.
type UnitEnd struct {
	Organisation broker.OrgNumber `json:"organisation"`
	// On is the day of the deletion or the merger, as the register has it.
	On time.Time `json:"on"`
	// Successor is who took it over, where it was merged and that is known.
	Successor broker.OrgNumber `json:"successor,omitempty"`
}

// UnitRestoration says that an end was a mistake of the register's, or is undone.
type UnitRestoration struct {
	Organisation broker.OrgNumber `json:"organisation"`
}

// SubjectSuccession says that what concerned one subject concerns another since: an
// organisation that was merged into another, a property that was joined to one. Who they
// are stands nowhere but in whoever wrote it.
type SubjectSuccession struct {
	Subject broker.SubjectKey `json:"subject"`
	// Successor is nobody (zero) where it was a mistake: the subject stands for itself again.
	Successor broker.SubjectKey `json:"successor"`
}

// UnitSync says how far the register of legal entities has been followed.
type UnitSync struct {
	Source string `json:"source"`
	// Sequence is the register's own number of its last update that was taken; they rise,
	// and are not free of gaps.
	Sequence int64 `json:"sequence"`
}

// EndedUnit is an end as it was recorded.
type EndedUnit struct {
	UnitEnd
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	Revision broker.Revision `json:"revision"`
}

// UnitState is how far the register has been followed, and when that was said.
type UnitState struct {
	UnitSync
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
}

// units are what the register of legal entities told.
type units struct {
	ended  map[broker.OrgNumber]EndedUnit
	after  map[broker.SubjectKey]broker.SubjectKey
	before map[broker.SubjectKey][]broker.SubjectKey // the same, the other way
	synced *UnitState
}

func newUnits() units {
	return units{ended: map[broker.OrgNumber]EndedUnit{}, after: map[broker.SubjectKey]broker.SubjectKey{}, before: map[broker.SubjectKey][]broker.SubjectKey{}}
}

// EndUnit records an organisation's end.
func EndUnit(u UnitEnd) Change { return change(UnitEnded, u) }

// RestoreUnit takes an end back.
func RestoreUnit(n broker.OrgNumber) Change { return change(UnitRestored, UnitRestoration{n}) }

// SucceedSubject records that one subject follows another.
func SucceedSubject(v SubjectSuccession) Change { return change(SubjectSucceeded, v) }

// SyncUnits records how far the register has been followed.
func SyncUnits(v UnitSync) Change { return change(UnitsSynced, v) }

func (s *State) refuseUnitEnd(v *UnitEnd) string {
	if _, err := broker.ParseOrgNumber(string(v.Organisation)); err != nil {
		return fmt.Sprintf("organisation: %v", err)
	}
	old, ended := s.units.ended[v.Organisation]
	switch {
	case v.On.IsZero():
		return "the day on which it ended is missing"
	case v.Successor == v.Organisation:
		return fmt.Sprintf("%s cannot be its own successor", v.Organisation)
	case ended && (old.Successor != "" || v.Successor == ""):
		return fmt.Sprintf("%s has ended already", v.Organisation)
	}
	if v.Successor != "" {
		if _, err := broker.ParseOrgNumber(string(v.Successor)); err != nil {
			return fmt.Sprintf("successor: %v", err)
		}
		for n := v.Successor; n != ""; n = s.units.ended[n].Successor {
			if n == v.Organisation {
				return fmt.Sprintf("%s was merged into %s before: one of the two is wrong", v.Successor, v.Organisation)
			}
		}
	}
	return ""
}

func (s *State) refuseUnitRestoration(v *UnitRestoration) string {
	if _, ended := s.units.ended[v.Organisation]; !ended {
		return fmt.Sprintf("%s has not ended", v.Organisation)
	}
	return ""
}

func (s *State) refuseSuccession(v *SubjectSuccession) string {
	old, known := s.units.after[v.Subject]
	switch {
	case v.Subject.IsZero():
		return "a succession is of a subject"
	case v.Successor.IsZero() && !known:
		return "nobody is recorded to follow the subject"
	case known && old == v.Successor:
		return "that one follows the other is recorded already"
	}
	for k := v.Successor; !k.IsZero(); k = s.units.after[k] {
		if k == v.Subject {
			return "the successor was succeeded by the subject before: one of the two is wrong"
		}
	}
	return ""
}

func (s *State) refuseUnitSync(v *UnitSync) string {
	old := s.units.synced
	switch {
	case v.Source == "" || len(v.Source) > maxSource:
		return fmt.Sprintf("a register is named, in %d bytes at the most", maxSource)
	case elevenDigits(v.Source):
		return "the register's name holds eleven digits in a row: it could be a person's number"
	case v.Sequence < 0:
		return "a register counts its updates from 1"
	case old != nil && old.Source == v.Source && v.Sequence < old.Sequence:
		return fmt.Sprintf("the register %s has been followed to %d: it does not go back to %d", v.Source, old.Sequence, v.Sequence)
	}
	return ""
}

// applyUnits says whether it changed what binds anybody.
func (s *State) applyUnits(p payload, e *Event) (structural bool) {
	u := &s.units
	switch v := p.(type) {
	case *UnitEnd:
		u.ended[v.Organisation] = EndedUnit{*v, e.At, e.Actor, e.Seq}
		return true
	case *UnitRestoration:
		delete(u.ended, v.Organisation)
		return true
	case *SubjectSuccession:
		if old, known := u.after[v.Subject]; known { // it was wrong
			u.before[old] = slices.DeleteFunc(slices.Clone(u.before[old]), func(k broker.SubjectKey) bool { return k == v.Subject })
		}
		if v.Successor.IsZero() {
			delete(u.after, v.Subject)
			return false
		}
		u.after[v.Subject] = v.Successor
		u.before[v.Successor] = append(slices.Clone(u.before[v.Successor]), v.Subject)
		return false // it is consulted for each record
	case *UnitSync:
		u.synced = &UnitState{*v, e.At, e.Actor}
		return false
	}
	panic(fmt.Sprintf("registry: %T is nothing of a unit", p))
}

// Ended says since when an organisation is no more.
func (s *State) Ended(n broker.OrgNumber) (EndedUnit, bool) {
	u, ok := s.units.ended[n]
	return u, ok
}

// EndedUnits are all of them, by number.
func (s *State) EndedUnits() []EndedUnit {
	out := make([]EndedUnit, 0, len(s.units.ended))
	for _, n := range slices.Sorted(maps.Keys(s.units.ended)) {
		out = append(out, s.units.ended[n])
	}
	return out
}

// EndedParty is the first of an agreement's parties that is no more: such an agreement
// counts as ended, whatever its status says.
func (s *State) EndedParty(a *broker.Agreement) (EndedUnit, bool) {
	if len(s.units.ended) == 0 {
		return EndedUnit{}, false
	}
	for _, n := range []broker.OrgNumber{a.Consumer, a.Supplier, a.Provider} {
		if u, ok := s.units.ended[n]; ok {
			return u, true
		}
	}
	return EndedUnit{}, false
}

// UnitsFollowed is how far the register was followed; false before it ever was.
func (s *State) UnitsFollowed() (UnitState, bool) {
	if s.units.synced == nil {
		return UnitState{}, false
	}
	return *s.units.synced, true
}

// predecessors calls fn with each subject that a subject has taken over, near and far,
// where the dataset follows.
func (s *State) predecessors(ds broker.DatasetID, k broker.SubjectKey, fn func(broker.SubjectKey)) {
	if len(s.units.before[k]) == 0 {
		return
	}
	if d := s.datasets[ds]; d == nil || !d.Subject.Follow {
		return
	}
	// There are no circles: refuseSuccession sees to that.
	for next := slices.Clone(s.units.before[k]); len(next) > 0; {
		p := next[0]
		next = append(next[1:], s.units.before[p]...)
		fn(p)
	}
}

// Predecessors are the subjects that a subject has taken over, where the dataset follows.
func (s *State) Predecessors(ds broker.DatasetID, k broker.SubjectKey) (all []broker.SubjectKey) {
	s.predecessors(ds, k, func(p broker.SubjectKey) { all = append(all, p) })
	return all
}

// Successors are those who took a subject over, the next first and whoever it is by now
// last, where the dataset follows.
func (s *State) Successors(ds broker.DatasetID, k broker.SubjectKey) (all []broker.SubjectKey) {
	if d := s.datasets[ds]; d == nil || !d.Subject.Follow {
		return nil
	}
	for next, ok := s.units.after[k]; ok; next, ok = s.units.after[next] {
		all = append(all, next)
	}
	return all
}

// refuseEndedParties holds what is put in force to the register of legal entities.
func (s *State) refuseEndedParties(v *broker.Agreement) string {
	u, ended := s.EndedParty(v)
	if !ended || v.Status == broker.Ended {
		return ""
	}
	if u.Successor != "" {
		return fmt.Sprintf("%s was merged into %s on %s: %s needs an agreement of its own, by a legal basis of its own", u.Organisation, u.Successor, u.On.Format(time.DateOnly), u.Successor)
	}
	return fmt.Sprintf("%s was deleted from its register on %s: end the agreement", u.Organisation, u.On.Format(time.DateOnly))
}

// hashed is them in an order that does not depend on maps.
func (u *units) hashed() any {
	type pair struct{ Subject, Successor broker.SubjectKey }
	var pairs []pair
	for k, v := range u.after {
		pairs = append(pairs, pair{k, v})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return slices.Compare(a.Subject[:], b.Subject[:]) })
	return []any{u.ended, pairs, u.synced}
}

func (s *State) gone(n broker.OrgNumber) bool {
	_, ended := s.units.ended[n]
	return ended
}

func (s *State) partyEnded(a *broker.Agreement) bool {
	_, ended := s.EndedParty(a)
	return ended
}

// Successor is whom a subject was taken over by.
func (s *State) Successor(k broker.SubjectKey) (broker.SubjectKey, bool) {
	v, ok := s.units.after[k]
	return v, ok
}

// Foresee is the first of the changes that would be refused, each on what those before it
// make: a *RefusedError, or nil. It is for changes of units, and folds no others.
func (s *State) Foresee(changes []Change) error {
	ahead := &State{units: units{ended: maps.Clone(s.units.ended), after: maps.Clone(s.units.after), before: maps.Clone(s.units.before), synced: s.units.synced}}
	for _, c := range changes {
		e := Event{Type: c.Type, Data: c.Data}
		p, err := parse(&e)
		if err != nil {
			return err
		}
		if reason := ahead.refuse(p, c.Type); reason != "" {
			return &RefusedError{reason}
		}
		ahead.applyUnits(p, &e)
	}
	return nil
}
