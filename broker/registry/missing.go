package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// Lack is one thing that keeps an agreement from being activated.
type Lack struct {
	// Code is of a closed set: agreement, framework, provider_not_owner, controller, basis,
	// assessment, compatibility, mapping, package, cost, acceptance, truth_table, approval.
	Code string `json:"code"`
	// By is whose it is to see to, where it is one organisation's.
	By broker.OrgNumber `json:"by,omitempty"`
	// What is missing, and what By (or either party) is to do about it, in words.
	What string `json:"what"`
	Do   string `json:"do"`
}

// Lacks is the whole list.
type Lacks []Lack

// are says how many there are, and lists them.
func (l Lacks) are() string {
	if len(l) == 1 {
		return "one thing is missing\n" + l.String()
	}
	return fmt.Sprintf("%d things are missing\n%s", len(l), l)
}

// String has one a line.
func (l Lacks) String() string {
	var b strings.Builder
	for i, x := range l {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "  %s: %s; %s: %s", x.Code, x.What, cmp.Or(string(x.By), "either party"), x.Do)
	}
	return b.String()
}

// addLack adds one: its code, whose it is, what to do about it, and what is missing.
type addLack func(code string, by broker.OrgNumber, do, what string, args ...any)

func (l *Lacks) add(code string, by broker.OrgNumber, do, what string, args ...any) {
	*l = append(*l, Lack{code, by, fmt.Sprintf(what, args...), do})
}

// What is to be done: the same words wherever it is said.
const (
	doAmend   = "take the step amended, with terms that say it"
	doMap     = "take the step mapped, with every field of the rights package"
	doApprove = "read the mapping, and take the step mapping-approved"
	doAccept  = "read the terms, and take the step accepted"
	doCover   = "take the step cost-covered"
	doPackage = "take the step package-approved"
)

func doAssess(side broker.Side) string { return "take the step assessed, side " + string(side) }

// Missing is all that an agreement, as it is on the table, lacks before it can be
// activated at a time. A legal basis that is not in force yet lacks nothing: policy
// denies until it is. For what is in force already it says what would be missing, were
// it to be agreed anew.
func (s *State) Missing(id broker.AgreementID, at time.Time) (lacks Lacks) {
	a := s.OnTheTable(id)
	if a == nil {
		return Lacks{{Code: "agreement", What: "there is no such agreement", Do: "take the step proposed"}}
	}
	l := s.lifecycles[id]
	if l == nil {
		l = &Lifecycle{}
	}
	s.missingLaw(a, func(side broker.Side) (*broker.SideAssessment, string) {
		return s.assessed(a, l, side)
	}, a.Consumer, at, lacks.add)
	p, d := s.packages[a.Package], s.datasets[a.Dataset]
	missingMapping(l.Mapping, p, d, lacks.add)
	if l.Mapped > 0 {
		mapper := l.Steps[l.Mapped-1].AgreementStep
		other := a.Provider
		if mapper.Organisation == other {
			other = a.Consumer
		}
		if mapper.On != s.StepDigest(id, broker.StepMapped) {
			lacks.add("mapping", mapper.Organisation, doMap, "the mapping is of another rights package or purpose")
		}
		if why, ok := s.taken(a, l, broker.StepMapping, other); !ok {
			lacks.add("mapping", other, doApprove, "the mapping is not approved%s", why)
		}
		if s.sameEyes(a, l, &mapper) {
			lacks.add("mapping", mapper.Organisation, "another function takes the step mapped", "the mapping is by the function that made the offer (four eyes)")
		}
	}
	if why, ok := s.taken(a, l, broker.StepPackage, a.Provider); !ok {
		lacks.add("package", a.Provider, doPackage, "rights package %s version %d is not approved for this use%s", p.ID, p.Version, why)
	}
	if a.Responsibility.ProviderController == "" {
		lacks.add("controller", a.Provider, doAmend, "no controller on the provider's side")
	}
	if a.Responsibility.ConsumerController == "" {
		lacks.add("controller", a.Consumer, doAmend, "no controller on the consumer's side")
	}
	payer := a.Cost.Payer
	if a.Cost.Model == broker.Free && payer == "" {
		payer = a.Provider
	}
	switch {
	case a.Cost.Model == "":
		lacks.add("cost", "", doAmend, "cost cover is not agreed: the terms name no model")
	case payer == "":
		lacks.add("cost", "", doAmend, "the terms name no payer")
	default:
		if why, ok := s.taken(a, l, broker.StepCost, payer); !ok {
			lacks.add("cost", payer, doCover, "the cost is not covered%s", why)
		}
	}
	s.missingTables(a, lacks.add)
	for _, n := range []broker.OrgNumber{a.Provider, a.Consumer} {
		if why, ok := s.taken(a, l, broker.StepAccepted, n); !ok {
			lacks.add("acceptance", n, doAccept, "%s has not accepted%s", n, why)
		}
	}
	return lacks
}

// missingLaw is what the legal side lacks: of an agreement, or of a framework.
func (s *State) missingLaw(a *broker.Agreement, assessed func(broker.Side) (*broker.SideAssessment, string), recipient broker.OrgNumber, at time.Time, add addLack) {
	d := s.datasets[a.Dataset]
	if d.Owner != a.Provider {
		add("provider_not_owner", a.Provider, "have the terms name the owner as the provider", "dataset %s belongs to %s", d.ID, d.Owner)
	}
	if o := s.organisations[recipient]; a.Justification == "" && o != nil && o.Public() &&
		slices.ContainsFunc(a.Bases, func(id broker.LegalBasisID) bool { return s.bases[id].Type == broker.Samtykke }) {
		add("justification", recipient, doAmend, "%s is a public authority and asks for consent: the terms do not say why that is a free choice (justification)", o.Name)
	}
	for _, side := range []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality} {
		if side == broker.Confidentiality && d.AccessRights == broker.Public {
			continue
		}
		by := a.Provider
		if side == broker.Collection {
			by = recipient
		}
		covers := map[broker.LegalBasisID]bool{}
		lapsed := ""
		for _, id := range a.Bases {
			b := s.bases[id]
			if !slices.Contains(b.Sides, side) || !s.covers(b, a.Dataset, a.Purpose, recipient) {
				continue
			}
			if !b.Valid.To.IsZero() && !at.Before(b.Valid.To) {
				lapsed = fmt.Sprintf("; basis %s has lapsed", id)
				continue
			}
			covers[id] = true
		}
		if len(covers) == 0 {
			add("basis", by, "have a basis that does recorded in the registry, and take the step amended to list it", "no basis for %s covers dataset, purpose and recipient%s", side, lapsed)
			continue
		}
		x, why := assessed(side)
		switch {
		case x == nil:
			add("assessment", by, doAssess(side), "%s is not assessed%s", side, why)
		case !x.Holds:
			add("assessment", by, doAssess(side)+", once the objection is met, or decline", "%s is assessed, and does not hold: %s", side, x.Note)
		case !covers[x.Basis]:
			add("assessment", by, doAssess(side)+", by a basis that covers it", "%s is assessed by basis %s, which does not cover it", side, x.Basis)
		case !x.Review.IsZero() && !at.Before(x.Review):
			add("assessment", by, doAssess(side)+", anew", "the assessment of %s was to be reviewed by %s", side, day(x.Review))
		}
	}
	if a.Purpose == d.Purpose {
		return
	}
	x, why := assessed(broker.Compatibility)
	switch {
	case x == nil:
		add("compatibility", a.Provider, doAssess(broker.Compatibility), "the purpose %s is not assessed against %s, which the data was collected for%s", a.Purpose, d.Purpose, why)
	case !x.Holds:
		add("compatibility", a.Provider, doAssess(broker.Compatibility)+", once the objection is met, or decline", "the purpose %s is not compatible with %s: %s", a.Purpose, d.Purpose, x.Note)
	case !x.Review.IsZero() && !at.Before(x.Review):
		add("compatibility", a.Provider, doAssess(broker.Compatibility)+", anew", "the assessment of compatibility was to be reviewed by %s", day(x.Review))
	}
}

// missingTables: a truth table of the agreement's that nobody signed off holds nothing
// up to what it says, so it is signed off, or taken back, first. Whether those that are
// signed off hold is for policy, which runs them.
func (s *State) missingTables(a *broker.Agreement, add addLack) {
	if (a.RequiresTruthTable || s.datasets[a.Dataset].RequiresTruthTable) && len(s.ApprovedTables(a)) == 0 {
		add("truth_table", a.Provider, "declare one, and have it signed off", "a truth table that is signed off is asked for, and there is none")
	}
	for _, t := range s.TruthTables() {
		if _, ok := s.approved[t.ID]; t.Concerns(a) && !ok {
			add("truth_table", a.Provider, "have it signed off", "truth table %s is not signed off", t.ID)
		}
	}
}

func missingMapping(m []broker.FieldMeaning, p *broker.RightsPackage, d *broker.Dataset, add addLack) {
	for _, f := range p.Fields {
		i := slices.IndexFunc(m, func(x broker.FieldMeaning) bool { return x.Field == f })
		switch concept := d.Concepts[f]; {
		case i < 0:
			add("mapping", "", doMap, "field %s is not mapped to a concept", f)
		case concept == "":
			add("mapping", d.Owner, "declare the field's concept with the dataset", "dataset %s gives field %s no concept", d.ID, f)
		case concept != m[i].Concept:
			add("mapping", "", doMap, "field %s is mapped to %s, but the dataset has it as %s", f, m[i].Concept, concept)
		}
	}
}

// covers reports whether a basis reaches a dataset, a purpose and a recipient, at
// whatever time; "" is any recipient.
func (s *State) covers(b *broker.LegalBasis, d broker.DatasetID, p broker.Purpose, to broker.OrgNumber) bool {
	return slices.Contains(b.Datasets, d) && slices.Contains(b.Purposes, p) && (to == "" || s.named(b.Recipients, to))
}

// named reports whether a list has an organisation's number or a type of it.
func (s *State) named(list []string, n broker.OrgNumber) bool {
	if slices.Contains(list, string(n)) {
		return true
	}
	o := s.organisations[n]
	return o != nil && slices.ContainsFunc(o.Types, func(t string) bool { return slices.Contains(list, t) })
}

// assessed is the latest assessment of a side that counts, or why none does.
func (s *State) assessed(a *broker.Agreement, l *Lifecycle, side broker.Side) (*broker.SideAssessment, string) {
	on, why := s.StepDigest(a.ID, broker.StepAssessed), ""
	for i := range slices.Backward(l.Steps) {
		v := &l.Steps[i].AgreementStep
		if v.Step != broker.StepAssessed || v.Assessment.Side != side {
			continue
		}
		switch {
		case v.On != on:
			return nil, ": what it rests on has changed since"
		case v.Assessment.Holds && s.sameEyes(a, l, v): // an objection is one, whoever makes it
			why = ": not by another function than made the offer (four eyes)"
			continue
		}
		return v.Assessment, ""
	}
	return nil, why
}

// taken reports whether a step of a name by an organisation counts, and if none does
// though one was taken, why.
func (s *State) taken(a *broker.Agreement, l *Lifecycle, step broker.StepName, by broker.OrgNumber) (why string, ok bool) {
	on := s.StepDigest(a.ID, step)
	for i := range slices.Backward(l.Steps) {
		v := &l.Steps[i].AgreementStep
		if v.Step != step || v.Organisation != by {
			continue
		}
		switch {
		case v.On != on, step == broker.StepAccepted && v.Number < l.Offered:
			return ": what was agreed to has changed since", false
		case s.sameEyes(a, l, v):
			why = ": not by another function than made the offer (four eyes)"
			continue
		}
		return "", true
	}
	return why, false
}

// sameEyes reports that a step does not count because the function which took it also
// made the offer, where four eyes are asked for.
func (s *State) sameEyes(a *broker.Agreement, l *Lifecycle, v *broker.AgreementStep) bool {
	if l.Offered == 0 {
		return false
	}
	o := &l.Steps[l.Offered-1]
	return (s.organisations[v.Organisation].FourEyes || s.datasets[a.Dataset].FourEyes) &&
		o.Organisation == v.Organisation && sameFunction(o.By, v.By)
}

// sameFunction reports whether two names are of one function, however they are spaced
// and in whichever letters.
func sameFunction(a, b string) bool {
	fold := func(by string) string { return strings.ToLower(strings.Join(strings.Fields(by), " ")) }
	return fold(a) == fold(b)
}
