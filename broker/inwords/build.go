package inwords

import (
	"cmp"
	"slices"
	"strings"

	"datafordeler/broker"
)

func (w *writer) build() {
	w.d.Title = w.f(pTitle, w.a.ID)
	w.summary()
	w.who()
	w.what()
	w.records()
	w.law()
	w.library()
	w.conditions()
	w.shielding()
	w.corrections()
	w.cost()
	w.responsibility()
	w.tables()
	w.now()
	w.denies()
}

func (w *writer) quote(s string) string {
	if w.code == "en" {
		return "“" + s + "”"
	}
	return "«" + s + "»"
}

// quoted puts each in quotation marks, which an empty one is seen by.
func (w *writer) quoted(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = w.quote(s)
	}
	return out
}

func texts[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = string(s)
	}
	return out
}

func (w *writer) summary() {
	d := w.t.Dataset
	w.section("summary", pShort)
	w.say(pSummary, w.name(w.a.Provider), w.name(w.a.Consumer), d.Title, d.ID, w.a.Purpose)
	if d.Purpose == w.a.Purpose {
		w.say(pCollected, d.Purpose)
	} else {
		w.say(pOtherUse, d.Purpose)
	}
	if p, ok := pRights[d.AccessRights]; ok {
		w.say(p)
	}
	if p, ok := pStatus[w.a.Status]; ok {
		w.say(p)
	}
	if u, ended := w.st.EndedParty(w.a); ended && u.Successor != "" {
		w.say(pMerged, w.name(u.Organisation), w.name(u.Successor), w.day(u.On))
	} else if ended {
		w.say(pDeleted, w.name(u.Organisation), w.day(u.On))
	}
	w.put(Line{Text: strings.TrimSpace(w.f(pValid, w.span(w.a.Valid)) + " " + w.inForce(w.a.Valid))})
	if w.a.Framework != "" {
		w.say(pFramework, w.a.Framework)
	}
}

func (w *writer) who() {
	w.section("who", pWho)
	w.put(Line{Text: w.f(pGives, w.org(w.a.Provider)), About: string(w.a.Provider)})
	if types := w.t.Consumer.Types; len(types) > 0 {
		w.put(Line{Text: w.f(pGets, w.org(w.a.Consumer), w.and(types)), About: string(w.a.Consumer)})
	} else {
		w.put(Line{Text: w.f(pGetsOnly, w.org(w.a.Consumer)), About: string(w.a.Consumer)})
	}
	if w.a.Supplier == "" {
		w.say(pNoSupplier)
		return
	}
	w.put(Line{Text: w.f(pSupplier, w.org(w.a.Supplier)), About: string(w.a.Supplier)})
	for i := range w.t.Delegations {
		d := &w.t.Delegations[i]
		w.item(string(d.ID), strings.TrimSpace(w.f(pDelegation, d.ID, w.and(texts(d.Datasets)), w.span(d.Valid))+" "+w.inForce(d.Valid)))
	}
	if len(w.t.Delegations) == 0 {
		w.item("", w.f(pNoDelegation))
	}
}

func (w *writer) what() {
	p := w.t.Package
	w.section("what", pWhat)
	if h := p.Household; h != nil {
		w.household(h)
	} else {
		w.say(pFields, p.ID, p.Version, p.Title, len(p.Fields))
	}
	for _, f := range p.Fields {
		text := w.f(pField, leaf(f), f)
		if uri := w.concept(f); uri != "" {
			text += ". " + w.f(pConcept, uri)
		}
		w.item(string(f), text)
	}
	if len(p.Derivations) > 0 {
		w.say(pDerivations, len(p.Derivations))
		for i := range p.Derivations {
			w.item(string(p.Derivations[i].Target), w.derivation(&p.Derivations[i]))
		}
	}
	w.put(Line{Text: w.f(pPackageAssessed) + " " + w.assessed(&p.Assessment), About: p.ID})
}

// household is a rule across several subjects.
func (w *writer) household(h *broker.Household) {
	p := w.t.Package
	w.say(pHousehold, p.ID, p.Version, p.Title, h.AtLeast(), h.Most)
	for i := range h.Answers {
		w.item(string(h.Answers[i].Target), w.derivation(&h.Answers[i]))
	}
	w.say(pHouseEach)
	for i := range h.Each {
		w.item(string(h.Each[i].Target), w.derivation(&h.Each[i]))
	}
	if h.Missing == broker.AbsentSkips {
		w.say(pHouseSkips)
	} else {
		w.say(pHouseFails)
	}
}

// concept is the URI that a field has its meaning from: its own, or that of the
// nearest that holds it.
func (w *writer) concept(f broker.Pointer) string {
	for p := f; p != ""; p = p[:max(0, strings.LastIndexByte(string(p), '/'))] {
		if uri := w.t.Dataset.Concepts[p]; uri != "" {
			return uri
		}
	}
	return ""
}

func (w *writer) records() {
	w.section("records", pRecords)
	for i := range w.t.Package.Filter {
		c := &w.t.Package.Filter[i]
		if len(c.In) > 0 {
			w.put(Line{Text: w.f(pFilterIn, w.quote(c.Attribute), w.or(w.quoted(c.In))), About: c.Attribute})
		}
		if len(c.NotIn) > 0 {
			w.put(Line{Text: w.f(pFilterOut, w.quote(c.Attribute), w.or(w.quoted(c.NotIn))), About: c.Attribute})
		}
	}
	if len(w.t.Package.Filter) == 0 {
		w.say(pNoFilter)
	}
	said := false
	for _, s := range w.st.Subscriptions() {
		if s.Agreement != w.a.ID {
			continue
		}
		if !said {
			said = true
			w.say(pSubs)
		}
		w.item(string(s.ID), w.subscription(s))
	}
	if !said {
		w.say(pNoSubs)
	}
}

func (w *writer) subscription(s *broker.Subscription) string {
	scope := w.f(pScopeAll)
	switch s.Scope.Kind {
	case broker.ScopeAll:
	case broker.ScopeAttribute:
		scope = w.f(pScopeAttr, w.quote(s.Scope.Attribute), w.or(w.quoted(s.Scope.Values)))
	case broker.ScopeListed:
		scope = w.f(pScopeList)
	}
	parts := []string{scope}
	if m := w.st.Mailbox(s.Mailbox); m != nil {
		if p, ok := pChannels[m.Channel]; ok {
			parts = append(parts, w.f(p, m.ID))
		}
	}
	if s.Lookup {
		parts = append(parts, w.f(pLookup))
	}
	text := w.f(pSub, s.ID) + " " + strings.Join(parts, "; ") + "."
	m := w.st.Mailbox(s.Mailbox)
	if s.Suspended || m != nil && m.Suspended {
		text += " " + w.f(pSuspended)
	}
	if w.in.Frozen[s.ID] {
		text += " " + w.f(pFrozen)
	}
	return text
}

func (w *writer) corrections() {
	w.section("corrections", pCorrTitle)
	p, ok := pCorrections[w.a.Corrections]
	if !ok {
		p = pCorrNone
	}
	w.say(p)
	w.say(pDuty)
}

func (w *writer) cost() {
	c := &w.a.Cost
	w.section("cost", pCostTitle)
	p, ok := pCosts[c.Model]
	if !ok {
		p = pCostNone
	}
	w.put(Line{Text: w.f(p), About: string(c.Model)})
	if c.Payer != "" {
		w.put(Line{Text: w.f(pPayer, w.org(c.Payer)), About: string(c.Payer)})
	}
	if c.Ceiling > 0 {
		w.say(pCeiling, w.number(c.Ceiling))
	} else {
		w.say(pNoCeiling)
	}
}

func (w *writer) responsibility() {
	r := &w.a.Responsibility
	w.section("responsibility", pAnswer)
	said := func(n broker.OrgNumber) string {
		if n == "" {
			return w.f(pNotSaid)
		}
		return w.org(n)
	}
	w.put(Line{Text: w.f(pController1, said(r.ProviderController)), About: string(r.ProviderController)})
	w.put(Line{Text: w.f(pController2, said(r.ConsumerController)), About: string(r.ConsumerController)})
	for _, side := range []struct {
		n       broker.OrgNumber
		contact string
	}{{w.a.Provider, r.ProviderContact}, {w.a.Consumer, r.ConsumerContact}} {
		contact := side.contact
		if o := w.st.Organisation(side.n); o != nil {
			contact = cmp.Or(contact, o.Contact)
		}
		if contact != "" {
			w.say(pContact, w.name(side.n), contact)
		}
	}
	for i := range r.Processors {
		p := &r.Processors[i]
		text := w.f(pProcessor, w.name(p.For), w.org(p.Organisation), p.Task, p.Contract, w.and(texts(p.Locations)))
		w.put(Line{Text: w.transfer(text, p.Transfer), About: string(p.Organisation)})
	}
	if len(r.Locations) > 0 {
		w.put(Line{Text: w.transfer(w.f(pLocations, w.and(texts(r.Locations))), r.Transfer)})
	}
}

func (w *writer) transfer(text string, t broker.Transfer) string {
	if p, ok := pTransfers[t]; ok {
		return text + " " + w.f(pTransfer, w.f(p))
	}
	return text
}

// derivation is a rule in words.
func (w *writer) derivation(d *broker.Derivation) string {
	of := w.f(pRecord)
	if d.Rows != "" {
		of = string(d.Rows)
	}
	value, rows := of, ""
	if d.Op != broker.Count && d.Value != "" {
		value, rows = string(d.Value), w.f(pRows, of)
	}
	what := w.f(pOps[d.Op], value) + rows
	if d.By != "" {
		what += w.f(pBy, d.By)
	}
	what += w.absent(d.Absent, d.Op != broker.Count && d.Value != "")
	var where []string
	for i := range d.Where {
		where = append(where, w.rowCondition(&d.Where[i]))
	}
	conditions := ""
	if len(where) > 0 {
		conditions = w.f(pWhere, w.and(where))
	}
	then := ""
	if d.Empty != "" {
		then += w.f(pEmpty, d.Empty)
	}
	for _, y := range []struct {
		p     phrase
		value string
	}{{pYesBelow, d.Below}, {pYesAtMost, d.AtMost}, {pYesAtLst, d.AtLeast}, {pYesAbove, d.Above}} {
		if y.value != "" {
			then += w.f(y.p, y.value)
		}
	}
	if len(d.Bands) > 0 {
		var bands []string
		for _, b := range d.Bands {
			if b.Below == "" {
				bands = append(bands, w.f(pBandLast, w.quote(b.Name)))
			} else {
				bands = append(bands, w.f(pBand, w.quote(b.Name), b.Below))
			}
		}
		then += w.f(pBands, strings.Join(bands, ", "))
	}
	return w.f(pDerived, d.Title, d.Target, what, conditions, then)
}

func (w *writer) rowCondition(c *broker.RowCondition) string {
	var parts []string
	add := func(p phrase, value string) {
		if value != "" {
			parts = append(parts, w.f(p, c.Field, value))
		}
	}
	if len(c.In) > 0 {
		add(pIn, w.or(w.quoted(c.In)))
	}
	if len(c.NotIn) > 0 {
		add(pNotIn, w.or(w.quoted(c.NotIn)))
	}
	add(pAtLeast, c.AtLeast)
	add(pBelow, c.Below)
	add(pDateFrom, c.From)
	add(pDateTo, c.Before)
	return w.and(parts) + w.absent(c.Absent, true)
}

func (w *writer) absent(a broker.WhenAbsent, field bool) string {
	switch {
	case !field:
		return ""
	case a == broker.AbsentSkips:
		return w.f(pSkips)
	case a == broker.AbsentHolds:
		return w.f(pHolds)
	}
	return w.f(pFails)
}

// number is a count with its thousands apart.
func (w *writer) number(n int64) string {
	digits := []byte(nil)
	for i := 0; n > 0 || i == 0; i++ {
		if i > 0 && i%3 == 0 {
			sep := []byte("\u00a0")
			if w.code == "en" {
				sep = []byte(",")
			}
			slices.Reverse(sep)
			digits = append(digits, sep...)
		}
		digits = append(digits, byte('0'+n%10))
		n /= 10
	}
	slices.Reverse(digits)
	return string(digits)
}
