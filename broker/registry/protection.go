package registry

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// Protect says how a person is protected from now on, after the population register.
type Protect struct {
	Subject broker.SubjectKey `json:"subject"`
	Grade   broker.Protection `json:"grade"`
}

// ProtectionSync says how far the population register has been followed: all of it up
// to Sequence stands in the log.
type ProtectionSync struct {
	// Source names the register, or the list, that it was taken from.
	Source string `json:"source"`
	// Sequence is the register's own number of its last event that was taken; they rise,
	// and are not free of gaps. 0 is a list without such.
	Sequence int64 `json:"sequence"`
	// Current: there was no more to take. Before that was so once, nobody is known to be
	// unprotected.
	Current bool `json:"current"`
}

// ProtectionState is how far the register has been followed, and when that was said.
type ProtectionState struct {
	ProtectionSync
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
}

// protections are those who are protected. Who is not does not stand here.
type protections struct {
	grades map[broker.SubjectKey]broker.Protection
	synced *ProtectionState
	known  bool // the end of the register has been seen
}

// SetProtection records a person's protection.
func SetProtection(p Protect) Change { return change(ProtectionSet, p) }

// SyncProtection records how far the register has been followed.
func SyncProtection(p ProtectionSync) Change { return change(ProtectionSynced, p) }

const maxSource = 200 // bytes

func (s *State) refuseProtection(v *Protect) string {
	switch {
	case v.Subject.IsZero():
		return "a protection is of a subject"
	case !slices.Contains(broker.Protections, v.Grade):
		return fmt.Sprintf("there is no protection %q", string(v.Grade))
	}
	return ""
}

func (s *State) refuseProtectionSync(v *ProtectionSync) string {
	old := s.protected.synced
	switch {
	case v.Source == "" || len(v.Source) > maxSource:
		return fmt.Sprintf("a register is named, in %d bytes at the most", maxSource)
	case elevenDigits(v.Source):
		return "the register's name holds eleven digits in a row: it could be a person's number"
	case v.Sequence < 0:
		return "a register counts its events from 1"
	case old != nil && v.Sequence > 0 && old.Source == v.Source && v.Sequence < old.Sequence:
		return fmt.Sprintf("the register %s has been followed to %d: it does not go back to %d", v.Source, old.Sequence, v.Sequence)
	}
	return ""
}

func (s *State) applyProtection(p payload, e *Event) {
	switch v := p.(type) {
	case *Protect:
		if v.Grade == broker.Unprotected {
			delete(s.protected.grades, v.Subject)
		} else {
			s.protected.grades[v.Subject] = v.Grade
		}
	case *ProtectionSync:
		s.protected.synced = &ProtectionState{*v, e.At, e.Actor}
		s.protected.known = s.protected.known || v.Current
	default:
		panic(fmt.Sprintf("registry: %T is nothing of a protection", p))
	}
}

// Protection is a person's grade; "" for who is not known to be protected, as long as
// the register has not been read to its end.
func (s *State) Protection(k broker.SubjectKey) broker.Protection {
	if g, ok := s.protected.grades[k]; ok {
		return g
	}
	if !s.protected.known {
		return ""
	}
	return broker.Unprotected
}

// ProtectionFollowed says how far the register has been followed; ok is false before
// anything was heard of it.
func (s *State) ProtectionFollowed() (p ProtectionState, ok bool) {
	if s.protected.synced == nil {
		return p, false
	}
	return *s.protected.synced, true
}

// Protected are those who are protected. It is read-only.
func (s *State) Protected() map[broker.SubjectKey]broker.Protection { return s.protected.grades }

// Consult fills the attributes of a record that come from registers, as of this state.
// Whoever decides on a record consults first; without it they are empty, and shield.
func (s *State) Consult(rec *broker.Record) {
	if len(s.registers) == 0 {
		return
	}
	for _, i := range s.registers[rec.Dataset] {
		if i < len(rec.Attributes) {
			rec.Attributes[i] = string(s.Protection(rec.Subject))
		}
	}
}

// consulted are the places of the attributes that come from registers.
func consulted(d *broker.Dataset) (places []int) {
	for i := range d.Attributes {
		if d.Attributes[i].Register == broker.ProtectionRegister {
			places = append(places, i)
		}
	}
	return places
}

// hashed is them in an order that does not depend on maps.
func (p *protections) hashed() any {
	type one struct {
		Subject broker.SubjectKey
		Grade   broker.Protection
	}
	all := []one{}
	for _, k := range slices.SortedFunc(maps.Keys(p.grades), func(a, b broker.SubjectKey) int { return bytes.Compare(a[:], b[:]) }) {
		all = append(all, one{k, p.grades[k]})
	}
	return []any{all, p.synced, p.known}
}

func (w *world) register(a at, path string, d *broker.Dataset, at *broker.Attribute) {
	switch {
	case at.Register != broker.ProtectionRegister:
		w.at(a, path+"/register", fmt.Sprintf("there is no register %q", string(at.Register)), fmt.Sprintf("want %s, or leave it out", broker.ProtectionRegister))
	case at.Pointer != "" || at.Extension != "":
		w.at(a, path, fmt.Sprintf("attribute %q comes from a register, and from the record as well", at.Name), "give one of pointer, extension and register")
	case d.Subject.Kind != broker.Person:
		w.at(a, path+"/register", fmt.Sprintf("the register %s is of persons, and the dataset is about subjects of kind %s", at.Register, d.Subject.Kind), "leave the attribute out")
	}
}
