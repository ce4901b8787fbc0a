package registry

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// Lifecycle is how an agreement came about.
type Lifecycle struct {
	Steps []Stepped `json:"steps"`
	// Offer are the terms on the table, nil where there are none. Offered is the number
	// of the step that put them there.
	Offer   *broker.Agreement `json:"offer,omitempty"`
	Offered int               `json:"offered,omitempty"`
	// Mapping is the latest, and Mapped the number of its step.
	Mapping []broker.FieldMeaning `json:"mapping,omitempty"`
	Mapped  int                   `json:"mapped,omitempty"`
	// Suspended are the parties whose suspension stands.
	Suspended []broker.OrgNumber `json:"suspended,omitempty"`
	// Agreed is the digest of what was last activated.
	Agreed broker.Digest `json:"agreed,omitzero"`
}

// Stepped is a step that was taken.
type Stepped struct {
	broker.AgreementStep
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	Revision broker.Revision `json:"revision"`
}

// TakeStep takes a step in an agreement's life. [State.NextStep] gives its number and
// [State.StepDigest] what it is on.
func TakeStep(v broker.AgreementStep) Change { return change(AgreementStepped, v) }

// Lifecycle is what steps an agreement has had; nil where it has had none.
func (s *State) Lifecycle(id broker.AgreementID) *Lifecycle { return s.lifecycles[id] }

// NextStep is the number of an agreement's next step.
func (s *State) NextStep(id broker.AgreementID) int {
	if l := s.lifecycles[id]; l != nil {
		return len(l.Steps) + 1
	}
	return 1
}

// OnTheTable are the terms that steps are about: the offer, or else what is in force;
// nil where there is no such agreement.
func (s *State) OnTheTable(id broker.AgreementID) *broker.Agreement {
	if l := s.lifecycles[id]; l != nil && l.Offer != nil {
		return l.Offer
	}
	return s.agreements[id]
}

// hashed is the digest of values as they are written.
func hashed(parts ...any) broker.Digest {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, p := range parts {
		if err := enc.Encode(p); err != nil {
			panic(fmt.Sprintf("registry: %v", err)) // all of it came from JSON
		}
	}
	return broker.Digest(h.Sum(nil)[:16])
}

// TermsDigest names all that is agreed: the terms but for their status, the rights
// package and the bases as they stand, and the mapping.
func (s *State) TermsDigest(a *broker.Agreement, mapping []broker.FieldMeaning) broker.Digest {
	t := *a
	t.Status = ""
	return hashed("terms", t, s.packages[a.Package], s.basesOf(a.Bases), mapping)
}

func (s *State) basesOf(ids []broker.LegalBasisID) []*broker.LegalBasis {
	out := make([]*broker.LegalBasis, len(ids))
	for i, id := range ids {
		out[i] = s.bases[id]
	}
	return out
}

// StepDigest is what a step of that name would be on, were it taken now; zero for
// steps that are on nothing that was there before.
func (s *State) StepDigest(id broker.AgreementID, step broker.StepName) broker.Digest {
	a := s.OnTheTable(id)
	if a == nil {
		return broker.Digest{}
	}
	l := s.lifecycles[id]
	if l == nil {
		l = &Lifecycle{}
	}
	p := s.packages[a.Package]
	switch step {
	case broker.StepAssessed:
		d := s.datasets[a.Dataset]
		return hashed("law", a.Provider, a.Consumer, a.Dataset, d.Purpose, d.AccessRights, a.Purpose, p, s.basesOf(a.Bases))
	case broker.StepMapped:
		return hashed("fields", a.Dataset, a.Purpose, p)
	case broker.StepMapping:
		return hashed("mapping", a.Dataset, a.Purpose, p, l.Mapping)
	case broker.StepPackage:
		return hashed("package", a.Consumer, a.Dataset, a.Purpose, p)
	case broker.StepCost:
		return hashed("cost", a.Provider, a.Consumer, a.Dataset, a.Cost)
	case broker.StepAccepted, broker.StepActivated, broker.StepDeclined:
		return s.TermsDigest(a, l.Mapping)
	}
	return broker.Digest{}
}

// stepped says whether steps alone change an agreement: its dataset asks for it, or it
// has had one.
func (s *State) stepped(a *broker.Agreement) bool {
	_, acceded := s.acceded[a.ID]
	return s.lifecycles[a.ID] != nil || acceded || s.datasets[a.Dataset].Lifecycle == broker.LifecycleRequired
}

// refuseDeclared holds a declared agreement to the steps that it must come about by.
// It may be proposed, suspended, let go on, or ended.
func (s *State) refuseDeclared(old, v *broker.Agreement) string {
	if !s.stepped(v) {
		return ""
	}
	l := s.lifecycles[v.ID]
	if old == nil {
		if v.Status != broker.Proposed {
			return fmt.Sprintf("agreements on dataset %s come about by steps, so agreement %s cannot be declared as %s: declare it as proposed, or have its parties take the steps", v.Dataset, v.ID, v.Status)
		}
		return ""
	}
	x, y := *old, *v
	x.Status, y.Status = "", ""
	_, acceded := s.acceded[v.ID]
	switch {
	case !equal(x, y) && (l != nil || acceded || old.Status != broker.Proposed):
		return fmt.Sprintf("agreement %s is changed by its parties' steps: have one of them take the step %s", v.ID, broker.StepAmended)
	case v.Status == old.Status, v.Status == broker.Ended:
	case v.Status == broker.Suspended && old.Status == broker.Active:
	case v.Status == broker.Active && old.Status == broker.Suspended && (l == nil || len(l.Suspended) == 0):
	default:
		return fmt.Sprintf("agreement %s is %s, and becomes %s by its parties' steps alone", v.ID, old.Status, v.Status)
	}
	return ""
}

// stepRule is what each step asks for and leaves out.
type stepRule struct {
	terms, until, assessment, mapping, why bool
	// offer: it needs terms on the table that are not in force.
	offer bool
	// from are the statuses of the agreement in which it may be taken.
	from []broker.AgreementStatus
}

var (
	alive     = []broker.AgreementStatus{broker.Proposed, broker.Accepted, broker.Active, broker.Suspended}
	stepRules = map[broker.StepName]stepRule{
		broker.StepProposed:  {terms: true},
		broker.StepAssessed:  {assessment: true, from: alive},
		broker.StepMapped:    {mapping: true, from: alive},
		broker.StepMapping:   {from: alive},
		broker.StepPackage:   {from: alive},
		broker.StepCost:      {from: alive},
		broker.StepAccepted:  {offer: true, from: alive},
		broker.StepActivated: {offer: true, from: alive},
		broker.StepSuspended: {why: true, from: []broker.AgreementStatus{broker.Active, broker.Suspended}},
		broker.StepResumed:   {why: true, from: []broker.AgreementStatus{broker.Suspended}},
		broker.StepAmended:   {terms: true, from: alive},
		broker.StepRenewed:   {until: true, from: []broker.AgreementStatus{broker.Active, broker.Suspended}},
		broker.StepDeclined:  {why: true, offer: true, from: alive},
		broker.StepEnded:     {why: true, from: alive},
	}
)

func (s *State) refuseStep(v *broker.AgreementStep, at time.Time) string {
	h, ok := stepRules[v.Step]
	if !ok {
		return fmt.Sprintf("there is no step %q of an agreement", string(v.Step))
	}
	if r := first(name(v.Agreement), s.organisation("organisation", v.Organisation), aFunction(v.By)); r != "" {
		return r
	}
	if n := s.NextStep(v.Agreement); v.Number != n {
		return fmt.Sprintf("the next step of agreement %s is number %d, not %d: read what has been done since, and decide anew", v.Agreement, n, v.Number)
	}
	if (v.Terms != nil) != h.terms || !v.Until.IsZero() != h.until || (v.Assessment != nil) != h.assessment || (len(v.Mapping) > 0) != h.mapping || (v.Why != "") != h.why {
		return fmt.Sprintf("the step %s takes %s, and nothing else", v.Step, h.takes())
	}
	if h.why {
		if r := aText("why", v.Why); r != "" {
			return r
		}
	}
	in := s.agreements[v.Agreement]
	switch {
	case v.Step == broker.StepProposed:
		if in != nil && (s.lifecycles[v.Agreement] != nil || in.Status != broker.Proposed) {
			return fmt.Sprintf("agreement %s is there already: have a party take the step %s", v.Agreement, broker.StepAmended)
		}
	case in == nil:
		return unknown("agreement", v.Agreement)
	case !slices.Contains(h.from, in.Status):
		return fmt.Sprintf("agreement %s is %s, so the step %s is nothing to do with it", v.Agreement, in.Status, v.Step)
	}
	if h.terms {
		return s.refuseOffer(v, in)
	}
	l := s.lifecycles[v.Agreement]
	if h.offer && (l == nil || l.Offer == nil) {
		return fmt.Sprintf("agreement %s has no offer on the table", v.Agreement)
	}
	if on := s.StepDigest(v.Agreement, v.Step); v.On != on {
		return fmt.Sprintf("the step %s of agreement %s is on %s, but what stands is %s: read it again, and decide anew", v.Step, v.Agreement, v.On, on)
	}
	if r := s.refuseWho(v, l); r != "" {
		return r
	}
	return s.refuseContent(v, l, at)
}

func (h stepRule) takes() string {
	var s []string
	for _, x := range []struct {
		wanted bool
		name   string
	}{{h.terms, "terms"}, {h.until, "until"}, {h.assessment, "an assessment"}, {h.mapping, "a mapping"}, {h.why, "why"}} {
		if x.wanted {
			s = append(s, x.name)
		}
	}
	if s == nil {
		return "what it is on"
	}
	return strings.Join(s, " and ")
}

// refuseOffer holds terms to what any agreement is held to.
func (s *State) refuseOffer(v *broker.AgreementStep, in *broker.Agreement) string {
	t := v.Terms
	if t.ID != v.Agreement || t.Status != broker.Proposed {
		return fmt.Sprintf("terms carry the agreement's own id, %s, and the status proposed", v.Agreement)
	}
	if !v.On.IsZero() {
		return fmt.Sprintf("the step %s is on its own terms: leave on out", v.Step)
	}
	if v.Organisation != t.Provider && v.Organisation != t.Consumer {
		return fmt.Sprintf("%s is no party to the terms of agreement %s", v.Organisation, t.ID)
	}
	if r := s.refuseTerms(t, in); r != "" {
		return r
	}
	if err := t.Valid.Check(); err != nil {
		return err.Error()
	}
	return s.overlapping(t)
}

// overlapping names an agreement on the same thing at the same time.
func (s *State) overlapping(t *broker.Agreement) string {
	var found broker.AgreementID
	for id, o := range s.agreements {
		if id != t.ID && o.Status != broker.Ended && o.Provider == t.Provider && o.Consumer == t.Consumer && o.Dataset == t.Dataset &&
			o.Purpose == t.Purpose && o.Valid.Overlaps(t.Valid) && (found == "" || id < found) {
			found = id
		}
	}
	if found != "" {
		return fmt.Sprintf("agreement %s overlaps agreement %s: same provider, consumer, dataset and purpose, at the same time; end that one, or let one stop where the other begins", t.ID, found)
	}
	return ""
}

// refuseWho says when a step is another's to take.
func (s *State) refuseWho(v *broker.AgreementStep, l *Lifecycle) string {
	a := s.OnTheTable(v.Agreement)
	party := v.Organisation == a.Provider || v.Organisation == a.Consumer
	want := a.Provider
	switch v.Step {
	case broker.StepAssessed:
		if v.Assessment.Side == broker.Collection {
			want = a.Consumer
		}
	case broker.StepPackage:
	case broker.StepCost:
		if a.Cost.Payer != "" {
			want = a.Cost.Payer
		}
	case broker.StepMapping:
		if l == nil || l.Mapped == 0 {
			return fmt.Sprintf("agreement %s has no mapping to approve", v.Agreement)
		}
		if want = a.Provider; l.Steps[l.Mapped-1].Organisation == want {
			want = a.Consumer
		}
	case broker.StepResumed:
		if l == nil || !slices.Contains(l.Suspended, v.Organisation) {
			return fmt.Sprintf("%s has not suspended agreement %s by a step: whoever suspended it lets it go on", v.Organisation, v.Agreement)
		}
		return ""
	default:
		if !party {
			return fmt.Sprintf("%s is no party to agreement %s", v.Organisation, v.Agreement)
		}
		return ""
	}
	if v.Organisation != want {
		return fmt.Sprintf("the step %s of agreement %s is %s's to take", v.Step, v.Agreement, want)
	}
	return ""
}

func (s *State) refuseContent(v *broker.AgreementStep, l *Lifecycle, at time.Time) string {
	a := s.OnTheTable(v.Agreement)
	switch v.Step {
	case broker.StepAssessed:
		return s.refuseAssessment(v.Assessment, a.Bases)
	case broker.StepMapped:
		return s.refuseMapping(v.Mapping, s.packages[a.Package])
	case broker.StepSuspended:
		if l != nil && slices.Contains(l.Suspended, v.Organisation) {
			return fmt.Sprintf("%s has suspended agreement %s already", v.Organisation, v.Agreement)
		}
	case broker.StepRenewed:
		if !v.Until.After(at) || !v.Until.After(s.agreements[v.Agreement].Valid.To) {
			return fmt.Sprintf("agreement %s is renewed until a time that lies ahead, and after its end", v.Agreement)
		}
		if s.agreements[v.Agreement].Valid.To.IsZero() {
			return fmt.Sprintf("agreement %s has no end to be renewed beyond", v.Agreement)
		}
		t := renewed(s.agreements[v.Agreement], v.Until)
		return s.overlapping(&t)
	case broker.StepActivated:
		if lacks := s.Missing(v.Agreement, at); len(lacks) > 0 {
			return fmt.Sprintf("agreement %s cannot be activated: %s", v.Agreement, lacks.are())
		}
	}
	return ""
}

func renewed(a *broker.Agreement, until time.Time) broker.Agreement {
	t := *a
	t.Status, t.Valid.To = broker.Proposed, until
	return t
}

var assessable = []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality, broker.Compatibility}

func (s *State) refuseAssessment(v *broker.SideAssessment, among []broker.LegalBasisID) string {
	switch {
	case !slices.Contains(assessable, v.Side):
		return fmt.Sprintf("an assessment is of disclosure, collection, confidentiality or compatibility, not of %q", string(v.Side))
	case v.Side == broker.Compatibility && v.Basis != "":
		return "compatibility rests on no basis of its own: leave basis out"
	case v.Side != broker.Compatibility && !slices.Contains(among, v.Basis):
		return fmt.Sprintf("the assessment of %s relies on basis %q, which the terms do not list", v.Side, string(v.Basis))
	}
	for _, id := range v.RestsOn {
		if s.assessments[id] == nil {
			return unknown("assessment", id)
		}
	}
	return aText("note", v.Note)
}

func (s *State) refuseMapping(m []broker.FieldMeaning, p *broker.RightsPackage) string {
	for i, f := range m {
		if !slices.Contains(p.Fields, f.Field) {
			return fmt.Sprintf("rights package %s version %d has no field %s to map", p.ID, p.Version, f.Field)
		}
		if slices.ContainsFunc(m[:i], func(o broker.FieldMeaning) bool { return o.Field == f.Field }) {
			return fmt.Sprintf("field %s is mapped twice", f.Field)
		}
		if r := aURI("the concept of field "+string(f.Field), f.Concept); r != "" {
			return r
		}
		if f.Use != "" {
			if r := aText("use", f.Use); r != "" {
				return r
			}
		}
	}
	return ""
}

// step takes one, and says whether the agreement in force changed.
func (s *State) step(v *broker.AgreementStep, e *Event) (structural bool) {
	l := &Lifecycle{}
	if old := s.lifecycles[v.Agreement]; old != nil {
		*l = *old
	}
	l.Steps = append(l.Steps[:len(l.Steps):len(l.Steps)], Stepped{*v, e.At, e.Actor, e.Seq})
	in := s.agreements[v.Agreement]
	status := func(to broker.AgreementStatus) {
		if in.Status != to {
			b := *in
			b.Status = to
			s.catalogue.put(&b)
			structural = true
		}
	}
	offer := func(t broker.Agreement) {
		l.Offer, l.Offered = &t, v.Number
		if in == nil || in.Status == broker.Proposed || in.Status == broker.Accepted {
			s.catalogue.put(&t) // nothing is in force yet, so what is offered is what there is
			structural = true
		} else {
			s.used[t.Package] = true // what is offered keeps its meaning
		}
	}
	switch v.Step {
	case broker.StepProposed, broker.StepAmended:
		offer(*v.Terms)
	case broker.StepRenewed:
		offer(renewed(in, v.Until))
	case broker.StepMapped:
		l.Mapping, l.Mapped = v.Mapping, v.Number
	case broker.StepActivated:
		t := *l.Offer
		if t.Status = broker.Active; len(l.Suspended) > 0 || in.Status == broker.Suspended {
			t.Status = broker.Suspended
		}
		l.Offer, l.Offered, l.Agreed = nil, 0, v.On
		s.catalogue.put(&t)
		structural = true
	case broker.StepSuspended:
		l.Suspended = append(slices.Clone(l.Suspended), v.Organisation)
		status(broker.Suspended)
	case broker.StepResumed:
		l.Suspended = slices.DeleteFunc(slices.Clone(l.Suspended), func(n broker.OrgNumber) bool { return n == v.Organisation })
		if len(l.Suspended) == 0 {
			status(broker.Active)
		}
	case broker.StepDeclined:
		l.Offer, l.Offered = nil, 0
		if in.Status == broker.Proposed || in.Status == broker.Accepted {
			status(broker.Ended)
		}
	case broker.StepEnded:
		l.Offer, l.Offered = nil, 0
		status(broker.Ended)
	}
	s.lifecycles[v.Agreement] = l
	if v.Step == broker.StepAccepted && in.Status == broker.Proposed {
		_, p := s.taken(in, l, broker.StepAccepted, in.Provider)
		if _, c := s.taken(in, l, broker.StepAccepted, in.Consumer); p && c {
			status(broker.Accepted)
		}
	}
	return structural
}
