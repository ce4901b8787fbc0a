package registry

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// Invited is that an organisation was invited to a framework.
type Invited struct {
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
}

// FrameworkApprovedBy is an approval of a framework's terms that was given.
type FrameworkApprovedBy struct {
	broker.FrameworkApproval
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
}

// Acceded is an accession that was made.
type Acceded struct {
	broker.Accession
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	Revision broker.Revision `json:"revision"`
}

// ApproveFramework approves a framework's terms for its provider.
func ApproveFramework(v broker.FrameworkApproval) Change { return change(FrameworkApproved, v) }

// Invite invites organisations to a framework.
func Invite(v broker.Invitation) Change { return change(FrameworkInvited, v) }

// Accede makes an agreement of a framework's terms.
func Accede(v broker.Accession) Change { return change(FrameworkAcceded, v) }

// Framework finds a framework; nil if there is none.
func (s *State) Framework(id broker.AgreementID) *broker.Framework { return s.frameworks[id] }

// Frameworks lists all frameworks.
func (s *State) Frameworks() []*broker.Framework { return sorted(s.frameworks) }

// MayAccede reports whether an organisation may accede to a framework by who it is, or
// because it was invited.
func (s *State) MayAccede(id broker.AgreementID, n broker.OrgNumber) bool {
	f := s.frameworks[id]
	if f == nil || f.Provider == n {
		return false
	}
	_, invited := s.invited[id][n]
	return invited || s.named(f.Eligible, n)
}

// InvitedTo are the organisations that were invited, by number.
func (s *State) InvitedTo(id broker.AgreementID) []broker.OrgNumber { return sortedKeys(s.invited[id]) }

// Accession is how an agreement came of a framework; ok is false where it did not.
func (s *State) Accession(id broker.AgreementID) (a Acceded, ok bool) {
	a, ok = s.acceded[id]
	return a, ok
}

// FrameworkDigest names a framework's terms, with the rights package and the bases as
// they stand; who may accede is no part of them.
func (s *State) FrameworkDigest(f *broker.Framework) broker.Digest {
	t := *f
	t.Title, t.Eligible, t.Closed, t.FourEyes = "", nil, false, false
	return hashed("framework", t, s.packages[f.Package], s.basesOf(f.Bases))
}

// FrameworkMissing is what keeps a framework from being acceded to by an organisation;
// "" is whoever is eligible.
func (s *State) FrameworkMissing(id broker.AgreementID, by broker.OrgNumber, at time.Time) (lacks Lacks) {
	f := s.frameworks[id]
	if f == nil {
		return Lacks{{Code: "framework", What: "there is no such framework", Do: "declare it"}}
	}
	terms := &broker.Agreement{Provider: f.Provider, Dataset: f.Dataset, Package: f.Package, Purpose: f.Purpose, Bases: f.Bases, Justification: f.Justification}
	s.missingLaw(terms, func(side broker.Side) (*broker.SideAssessment, string) {
		for i := range slices.Backward(f.Assessments) {
			if f.Assessments[i].Side == side {
				return &f.Assessments[i], ""
			}
		}
		return nil, ""
	}, by, at, lacks.add)
	missingMapping(f.Mapping, s.packages[f.Package], s.datasets[f.Dataset], lacks.add)
	s.missingTables(terms, lacks.add)
	if f.Cost.Model == "" {
		lacks.add("cost", f.Provider, "declare a framework that does", "the framework names no cost model")
	}
	if f.FourEyes && s.approvals[id].On != s.FrameworkDigest(f) {
		lacks.add("approval", f.Provider, "have another function than "+f.By+" approve them", "the terms are not approved by a second function (four eyes)")
	}
	for i := range lacks { // no step mends a framework
		switch l := &lacks[i]; l.Code {
		case "basis":
			l.Do = "have a basis that does recorded in the registry, and declare the framework with it"
		case "assessment", "compatibility":
			l.Do = "declare the framework with an assessment that holds"
			l.By = f.Provider
		case "mapping":
			l.Do = "declare the framework with a mapping of the field, and the dataset with its concept"
			l.By = f.Provider
		}
	}
	return lacks
}

// agreementOf is the agreement that an accession makes: of the framework's terms, and
// of who accedes.
func agreementOf(f *broker.Framework, v *broker.Accession) broker.Agreement {
	a := broker.Agreement{
		ID: v.Agreement, Provider: f.Provider, Consumer: v.Organisation, Supplier: v.Supplier, Dataset: f.Dataset, Package: f.Package, Purpose: f.Purpose,
		Bases: f.Bases, Justification: f.Justification, OnWithdrawal: f.OnWithdrawal, Visibility: f.Visibility, Responsibility: broker.Responsibility{ProviderController: f.Provider, ConsumerController: v.Organisation},
		Cost: f.Cost, Corrections: f.Corrections, Status: broker.Active, Valid: f.Valid, Framework: f.ID,
	}
	if a.Cost.Payer == "" && a.Cost.Model != broker.Free {
		a.Cost.Payer = v.Organisation
	}
	return a
}

// AsksFourEyes reports whether a provider, or its dataset, asks for four eyes: then a
// framework that is declared has them.
func (s *State) AsksFourEyes(provider broker.OrgNumber, d broker.DatasetID) bool {
	o, ds := s.organisations[provider], s.datasets[d]
	return o != nil && o.FourEyes || ds != nil && ds.FourEyes
}

func (s *State) refuseFrameworkApproval(v *broker.FrameworkApproval) string {
	f := s.frameworks[v.Framework]
	if f == nil {
		return unknown("framework", v.Framework)
	}
	if r := aFunction(v.By); r != "" {
		return r
	}
	switch on := s.FrameworkDigest(f); {
	case !f.FourEyes:
		return fmt.Sprintf("framework %s does not ask for four eyes (fourEyes): nothing waits for an approval", f.ID)
	case sameFunction(v.By, f.By):
		return fmt.Sprintf("the terms of framework %s are declared by %s: another function approves them (four eyes)", f.ID, f.By)
	case v.On != on:
		return fmt.Sprintf("the approval of framework %s is on %s, but its terms are %s: read them again, and decide anew", f.ID, v.On, on)
	case s.approvals[f.ID].On == on:
		return fmt.Sprintf("framework %s is approved as it stands, by %s", f.ID, s.approvals[f.ID].By)
	}
	return ""
}

func (s *State) refuseFramework(v *broker.Framework) string {
	if s.agreements[v.ID] != nil {
		return fmt.Sprintf("%s is an agreement: name the framework otherwise", v.ID)
	}
	if r := first(name(v.ID), name(v.Purpose), s.organisation("provider", v.Provider), aText("title", v.Title), aFunction(v.By)); r != "" {
		return r
	}
	if s.datasets[v.Dataset] == nil {
		return unknown("dataset", v.Dataset)
	}
	if v.Cost.Payer != "" && s.organisations[v.Cost.Payer] == nil {
		return unknown("payer", v.Cost.Payer)
	}
	p := s.packages[v.Package]
	if p == nil || p.Dataset != v.Dataset {
		return fmt.Sprintf("rights package %s version %d is not one of dataset %s", v.Package.ID, v.Package.Version, v.Dataset)
	}
	for _, b := range v.Bases {
		if s.bases[b] == nil {
			return unknown("legal basis", b)
		}
	}
	if err := v.Valid.Check(); err != nil {
		return err.Error()
	}
	for i := range v.Assessments {
		if r := s.refuseAssessment(&v.Assessments[i], v.Bases); r != "" {
			return r
		}
	}
	if r := first(s.refuseMapping(v.Mapping, p), refuseDuty(v.OnWithdrawal), refuseVisibility(v.Visibility)); r != "" {
		return r
	}
	if old := s.frameworks[v.ID]; old != nil {
		if old.Provider != v.Provider || old.Dataset != v.Dataset {
			return fmt.Sprintf("framework %s keeps its provider and dataset: declare a new one", v.ID)
		}
		if old.FourEyes && !v.FourEyes {
			return fmt.Sprintf("framework %s asks for four eyes (fourEyes), and goes on to: close it and declare a new one", v.ID)
		}
		if s.FrameworkDigest(old) != s.FrameworkDigest(v) && slices.ContainsFunc(slices.Collect(maps.Values(s.acceded)), func(a Acceded) bool { return a.Framework == v.ID }) {
			return fmt.Sprintf("framework %s has parties, and its terms never change: close it, and declare a new one", v.ID)
		}
	}
	return ""
}

// mostInvited bounds one event.
const mostInvited = 2000

func (s *State) refuseInvitation(v *broker.Invitation) string {
	f := s.frameworks[v.Framework]
	switch {
	case f == nil:
		return unknown("framework", v.Framework)
	case f.Closed:
		return fmt.Sprintf("framework %s is closed", v.Framework)
	case len(v.Organisations) == 0 || len(v.Organisations) > mostInvited:
		return fmt.Sprintf("an invitation is to 1 to %d organisations", mostInvited)
	}
	for _, n := range v.Organisations {
		if r := s.organisation("organisation", n); r != "" {
			return r
		}
		if n == f.Provider {
			return fmt.Sprintf("%s provides framework %s itself", n, f.ID)
		}
	}
	return aFunction(v.By)
}

func (s *State) refuseAccession(v *broker.Accession, at time.Time) string {
	f := s.frameworks[v.Framework]
	if f == nil {
		return unknown("framework", v.Framework)
	}
	if r := first(name(v.Agreement), s.organisation("organisation", v.Organisation), aFunction(v.By)); r != "" {
		return r
	}
	switch {
	case f.Closed:
		return fmt.Sprintf("framework %s is closed", v.Framework)
	case !f.Valid.To.IsZero() && !at.Before(f.Valid.To):
		return fmt.Sprintf("framework %s ended on %s", v.Framework, day(f.Valid.To))
	case !s.MayAccede(v.Framework, v.Organisation):
		return fmt.Sprintf("%s is neither eligible for framework %s nor invited to it", v.Organisation, v.Framework)
	case s.agreements[v.Agreement] != nil || s.frameworks[v.Agreement] != nil:
		return fmt.Sprintf("agreement %s is there already: name the new one otherwise", v.Agreement)
	case v.Supplier == v.Organisation:
		return "the supplier is the organisation itself: leave supplier out"
	case v.Supplier != "" && s.organisations[v.Supplier] == nil:
		return unknown("supplier", v.Supplier)
	}
	if on := s.FrameworkDigest(f); v.On != on {
		return fmt.Sprintf("the accession to framework %s is on %s, but its terms are %s: read them again, and decide anew", v.Framework, v.On, on)
	}
	if lacks := s.FrameworkMissing(v.Framework, v.Organisation, at); len(lacks) > 0 {
		return fmt.Sprintf("framework %s cannot be acceded to: %s", v.Framework, lacks.are())
	}
	a := agreementOf(f, v)
	return s.overlapping(&a)
}

func (s *State) accede(v *broker.Accession, e *Event) {
	a := agreementOf(s.frameworks[v.Framework], v)
	s.catalogue.put(&a)
	s.acceded[v.Agreement] = Acceded{*v, e.At, e.Actor, e.Seq}
}

// AccededParty is one that acceded, and how its agreement stands beside the framework.
type AccededParty struct {
	Organisation broker.OrgNumber       `json:"organisation"`
	Agreement    broker.AgreementID     `json:"agreement"`
	Supplier     broker.OrgNumber       `json:"supplier,omitempty"`
	Status       broker.AgreementStatus `json:"status"`
	At           time.Time              `json:"at"`
	By           string                 `json:"by"`
	// Terms is the digest of the terms that it has now: the same digest is the same
	// terms, but for whose they are.
	Terms broker.Digest `json:"terms"`
	// Deviations are where the terms differ from the framework's, none where they do not.
	Deviations []string `json:"deviations"`
}

// Parties are those that acceded to a framework, by organisation.
func (s *State) Parties(id broker.AgreementID) []AccededParty {
	f := s.frameworks[id]
	var out []AccededParty
	for _, c := range s.acceded {
		if c.Framework != id {
			continue
		}
		now := *s.agreements[c.Agreement]
		want := agreementOf(f, &c.Accession)
		want.Status = now.Status
		p := AccededParty{Organisation: c.Organisation, Agreement: c.Agreement, Supplier: now.Supplier, Status: now.Status, At: c.At, By: c.By, Deviations: []string{}}
		p.Terms = s.sharedTerms(now)
		p.Deviations = append(p.Deviations, diff(want, now)...)
		if c.On != s.FrameworkDigest(f) {
			p.Deviations = append(p.Deviations, "the bases or the rights package read otherwise now than when it acceded")
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b AccededParty) int {
		return cmp.Or(cmp.Compare(a.Organisation, b.Organisation), cmp.Compare(a.Agreement, b.Agreement))
	})
	return out
}

// sharedTerms is the digest of terms without whose they are.
func (s *State) sharedTerms(a broker.Agreement) broker.Digest {
	own := func(n *broker.OrgNumber) {
		if *n == a.Consumer {
			*n = "consumer"
		}
	}
	own(&a.Responsibility.ConsumerController)
	own(&a.Cost.Payer)
	a.ID, a.Consumer, a.Supplier, a.Status = "", "", "", ""
	return hashed("shared", a, s.packages[a.Package], s.basesOf(a.Bases))
}
