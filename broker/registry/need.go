package registry

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// regime is what the log says of needs, of frameworks, and of how agreements came
// about. What the maps hold is never changed in place.
type regime struct {
	cosigned   map[broker.NeedID]map[broker.OrgNumber]Cosigned
	closed     map[broker.NeedID]NeedClosed
	approvals  map[broker.AgreementID]FrameworkApprovedBy // the last of each framework
	invited    map[broker.AgreementID]map[broker.OrgNumber]Invited
	acceded    map[broker.AgreementID]Acceded // by the agreement that it made
	lifecycles map[broker.AgreementID]*Lifecycle
}

func newRegime() regime {
	return regime{
		cosigned:   map[broker.NeedID]map[broker.OrgNumber]Cosigned{},
		closed:     map[broker.NeedID]NeedClosed{},
		approvals:  map[broker.AgreementID]FrameworkApprovedBy{},
		invited:    map[broker.AgreementID]map[broker.OrgNumber]Invited{},
		acceded:    map[broker.AgreementID]Acceded{},
		lifecycles: map[broker.AgreementID]*Lifecycle{},
	}
}

func (r *regime) clone() regime {
	return regime{maps.Clone(r.cosigned), maps.Clone(r.closed), maps.Clone(r.approvals), maps.Clone(r.invited), maps.Clone(r.acceded), maps.Clone(r.lifecycles)}
}

// Cosigned is a co-signature that was given.
type Cosigned struct {
	broker.Cosignature
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
}

// NeedClosed is how a need ended.
type NeedClosed struct {
	broker.NeedClosure
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
}

// CosignNeed says that another organisation has a need too.
func CosignNeed(c broker.Cosignature) Change { return change(NeedCosigned, c) }

// CloseNeed ends a need.
func CloseNeed(c broker.NeedClosure) Change { return change(NeedClosedType, c) }

// Need finds a need; nil if there is none.
func (s *State) Need(id broker.NeedID) *broker.Need { return s.needs[id] }

// Needs lists all needs, closed ones too.
func (s *State) Needs() []*broker.Need { return sorted(s.needs) }

// Cosignatures are those of a need, by organisation.
func (s *State) Cosignatures(id broker.NeedID) []Cosigned {
	return slices.SortedFunc(maps.Values(s.cosigned[id]), func(a, b Cosigned) int { return cmp.Compare(a.Organisation, b.Organisation) })
}

// NeedClosed says how a need ended; ok is false while it is open.
func (s *State) NeedClosed(id broker.NeedID) (c NeedClosed, ok bool) {
	c, ok = s.closed[id]
	return c, ok
}

// maxText bounds what somebody writes, in bytes.
const maxText = 2000

// aText refuses what may not stand in the log: nothing, too much, or what could be a
// person's number.
func aText(what, s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return what + " is empty"
	case len(s) > maxText:
		return fmt.Sprintf("%s is longer than %d bytes", what, maxText)
	case elevenDigits(s):
		return what + " holds eleven digits in a row: it could be a person's number"
	}
	return ""
}

// aFunction refuses who cannot stand as the one that acts for an organisation.
func aFunction(by string) string {
	if len(by) > 200 {
		return "by is longer than 200 bytes"
	}
	return aText("by: the function that acts for the organisation", by)
}

func aURI(what, s string) string {
	if u, err := url.Parse(s); err != nil || !u.IsAbs() || len(s) > maxText || elevenDigits(s) {
		return what + " is no URI of a concept, such as https://data.norge.no/concepts/…"
	}
	return ""
}

func (s *State) refuseNeed(v *broker.Need) string {
	if (v.Dataset == "") == (v.Concept == "") {
		return fmt.Sprintf("need %s is of a dataset or of a concept: name one of them", v.ID)
	}
	if v.Dataset != "" && s.datasets[v.Dataset] == nil {
		return unknown("dataset", v.Dataset)
	}
	if v.Concept != "" {
		if r := aURI("concept", v.Concept); r != "" {
			return r
		}
	}
	if old := s.needs[v.ID]; old != nil {
		switch _, closed := s.closed[v.ID]; {
		case closed:
			return fmt.Sprintf("need %s is closed: declare a new one under another id", v.ID)
		case old.Organisation != v.Organisation || old.Dataset != v.Dataset || old.Concept != v.Concept || old.Purpose != v.Purpose:
			return fmt.Sprintf("need %s keeps its organisation, what it is of and its purpose: close it and declare a new one", v.ID)
		case len(s.cosigned[v.ID]) > 0 && !equal(old, v):
			return fmt.Sprintf("need %s is co-signed and does not change: those who signed would have signed something else; close it and declare a new one", v.ID)
		}
	}
	for _, f := range v.Fields {
		if _, err := f.Tokens(); err != nil {
			return err.Error()
		}
	}
	return first(name(v.ID), name(v.Purpose), name(v.Sector), s.organisation("organisation", v.Organisation), aText("why", v.Why))
}

func (s *State) refuseCosignature(v *broker.Cosignature) string {
	n := s.needs[v.Need]
	if n == nil {
		return unknown("need", v.Need)
	}
	if _, closed := s.closed[v.Need]; closed {
		return fmt.Sprintf("need %s is closed", v.Need)
	}
	if _, done := s.cosigned[v.Need][v.Organisation]; done || n.Organisation == v.Organisation {
		return fmt.Sprintf("need %s is %s's already", v.Need, v.Organisation)
	}
	return first(s.organisation("organisation", v.Organisation), aFunction(v.By))
}

func (s *State) refuseNeedClosure(v *broker.NeedClosure) string {
	if s.needs[v.Need] == nil {
		return unknown("need", v.Need)
	}
	if _, closed := s.closed[v.Need]; closed {
		return fmt.Sprintf("need %s is closed already", v.Need)
	}
	return first(aFunction(v.By), aText("why", v.Why))
}

// applyRegime changes what is known of needs, frameworks and steps, and says whether
// an agreement changed. refuse has had its say.
func (s *State) applyRegime(p payload, e *Event) (structural bool) {
	switch v := p.(type) {
	case *broker.Need, *broker.Framework:
		s.catalogue.put(v)
	case *broker.Cosignature:
		s.cosigned[v.Need] = with(s.cosigned[v.Need], v.Organisation, Cosigned{*v, e.At, e.Actor})
	case *broker.NeedClosure:
		s.closed[v.Need] = NeedClosed{*v, e.At, e.Actor}
	case *broker.FrameworkApproval:
		s.approvals[v.Framework] = FrameworkApprovedBy{*v, e.At, e.Actor}
	case *broker.Invitation:
		for _, n := range v.Organisations {
			if _, again := s.invited[v.Framework][n]; !again {
				s.invited[v.Framework] = with(s.invited[v.Framework], n, Invited{v.By, e.At, e.Actor})
			}
		}
	case *broker.Accession:
		s.accede(v, e)
		return true
	case *broker.AgreementStep:
		return s.step(v, e)
	default:
		panic(fmt.Sprintf("registry: %T is nothing of needs, frameworks or steps", p))
	}
	return false
}

// with is a copy of m that has k too.
func with[K comparable, V any](m map[K]V, k K, v V) map[K]V {
	c := maps.Clone(m)
	if c == nil {
		c = map[K]V{}
	}
	c[k] = v
	return c
}
