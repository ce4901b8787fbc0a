package inwords

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"datafordeler/broker"
	"datafordeler/broker/truthtable"
)

func (w *writer) law() {
	w.section("law", pWhy)
	if len(w.t.Bases) == 0 {
		w.say(pNoBases)
		return
	}
	w.say(pBases)
	for i := range w.t.Bases {
		b := &w.t.Bases[i]
		w.item(string(b.ID), w.basis(b))
	}
}

func (w *writer) basis(b *broker.LegalBasis) string {
	kind := w.f(pStatute)
	if b.Type == broker.Samtykke {
		kind = w.f(pByConsent)
	}
	paragraph := ""
	if b.Paragraph != "" {
		paragraph = " " + b.Paragraph
	}
	parts := []string{w.f(pBasis, b.ID, b.Title, kind, paragraph, w.gdpr(b.GDPR))}
	if b.ELI != "" {
		parts = append(parts, w.f(pELI, b.ELI))
	}
	var sides []string
	for _, s := range b.Sides {
		if p, ok := pSide[s]; ok {
			sides = append(sides, w.f(p))
		}
	}
	parts = append(parts, w.f(pSides, w.and(sides)),
		w.f(pReach, w.and(texts(b.Datasets)), w.and(texts(b.Purposes)), w.and(w.recipients(b.Recipients))),
		w.f(pBasisValid, w.span(b.Valid)), w.inForce(b.Valid), w.assessed(&b.Assessed))
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

func (w *writer) recipients(all []string) []string {
	out := make([]string, len(all))
	for i, r := range all {
		out[i] = w.org(broker.OrgNumber(r))
	}
	return out
}

func (w *writer) assessed(a *broker.Assessment) string {
	parts := []string{w.f(pAssessed, a.By)}
	if !a.At.IsZero() {
		parts[0] = w.f(pAssessedAt, a.By, w.day(a.At))
	}
	if !a.Review.IsZero() {
		p := pReview
		if a.Review.Before(w.in.At) {
			p = pOverdue
		}
		parts = append(parts, w.f(p, w.day(a.Review)))
	}
	if a.Note != "" {
		parts = append(parts, w.f(pNote, a.Note))
	}
	if len(a.RestsOn) > 0 {
		parts = append(parts, w.f(pRests, w.and(texts(a.RestsOn))))
	}
	return strings.Join(parts, " ")
}

// library is the assessments that bases and package rest on, each once.
func (w *writer) library() {
	var ids []broker.AssessmentID
	ids = append(ids, w.t.Package.Assessment.RestsOn...)
	for i := range w.t.Bases {
		ids = append(ids, w.t.Bases[i].Assessed.RestsOn...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return
	}
	w.section("assessments", pLibrary)
	for _, id := range ids {
		v := w.st.LegalAssessment(id)
		if v == nil {
			continue // the registry refuses that
		}
		var sources []string
		for _, s := range v.Sources {
			text := s.Title
			if s.Paragraph != "" {
				text += " " + s.Paragraph
			}
			if s.ELI != "" {
				text += " (" + s.ELI + ")"
			}
			sources = append(sources, text)
		}
		w.item(string(id), w.f(pAssessment, id, v.Title, v.Question, v.Conclusion), w.f(pSources, strings.Join(sources, "; ")),
			w.assessed(&broker.Assessment{By: v.By, At: v.At, Review: v.Review}))
	}
}

func (w *writer) conditions() {
	w.section("conditions", pConditions)
	w.item("", w.f(pCondValid))
	if w.a.Supplier != "" {
		w.item(string(w.a.Supplier), w.f(pCondSupplier))
	}
	for i := range w.t.Bases {
		b := &w.t.Bases[i]
		if b.RequiresCase {
			w.item(string(b.ID), w.f(pCondCase, b.ID))
		}
		if b.Type == broker.Samtykke {
			text := w.f(pCondConsent, b.ID)
			if b.ConsentResource != "" {
				text += " " + w.f(pCondResource, b.ConsentResource)
			}
			if len(b.ConsentMetadata) > 0 {
				text += " " + w.f(pCondBounded, w.bounds(b.ConsentMetadata))
			}
			if w.a.Justification != "" {
				text += " " + w.f(pCondJustified, w.a.Justification)
			}
			text += " " + w.onWithdrawal(w.a.Duty())
			w.item(string(b.ID), text)
		}
		if b.About != nil {
			w.item(string(b.ID), w.f(pCondAbout, b.ID, w.quote(b.About.Attribute), w.about(b.About)))
		}
	}
	if v := w.a.Visibility; v != nil {
		w.item("", w.f(pVisibleLater, w.days(v.Days), v.ELI, v.Paragraph))
	}
	if w.a.Cost.Ceiling > 0 {
		w.item("", w.f(pCondCeiling, w.number(w.a.Cost.Ceiling)))
	}
}

// days are so many of them.
func (w *writer) days(n int) string {
	if n == 1 {
		return w.f(pOneDay)
	}
	return w.f(pSomeDays, n)
}

func (w *writer) onWithdrawal(d broker.OnWithdrawal) string {
	days := w.days(d.Days)
	switch d.Do {
	case broker.StopUsing:
		return w.f(pWithdrawStop, days)
	case broker.KeepWithdrawn:
		return w.f(pWithdrawKeep, d.ELI, d.Paragraph, days)
	}
	return w.f(pWithdrawDrop, days)
}

func (w *writer) about(b *broker.AboutBound) string {
	switch {
	case b.From == "" && b.To == "":
		return w.f(pCondNothing)
	case b.To == "":
		return w.f(pCondAtLeast, b.From)
	case b.From == "":
		return w.f(pCondAtMost, b.To)
	}
	return w.f(pCondBetween, b.From, b.To)
}

func (w *writer) shielding() {
	s := w.t.Package.Shielding
	w.section("shielding", pShielding)
	if s == nil {
		w.say(pNoShield)
		return
	}
	if len(s.When.In) > 0 {
		w.say(pShieldWhen, w.quote(s.When.Attribute), w.or(w.quoted(s.When.In)))
	}
	if len(s.When.NotIn) > 0 {
		w.say(pShieldNot, w.quote(s.When.Attribute), w.or(w.quoted(s.When.NotIn)))
	}
	for _, a := range w.t.Dataset.Attributes {
		if a.Name == s.When.Attribute && a.Register == broker.ProtectionRegister {
			w.say(pShieldFrom, w.quote(a.Name))
		}
	}
	if s.Body {
		w.say(pShieldBody)
		return
	}
	w.say(pShieldCut, len(s.Remove))
	for _, f := range s.Remove {
		w.item(string(f), w.f(pField, leaf(f), f))
	}
}

func (w *writer) tables() {
	w.section("tables", pTables)
	if w.a.RequiresTruthTable || w.t.Dataset.RequiresTruthTable {
		w.say(pMustTable)
	}
	said := false
	for _, t := range w.st.TruthTables() {
		if !t.Concerns(w.a) {
			continue
		}
		said = true
		shown, text := t, w.f(pNotSigned)
		if signed, ok := w.st.ApprovedTable(t.ID); ok {
			shown, text = signed.Table, w.f(pSigned, signed.By, w.day(signed.At))
			if signed.Table.Digest() != t.Digest() {
				text += " " + w.f(pChanged)
			}
		}
		rows := 0
		if parsed, err := truthtable.Parse([]byte(shown.CSV)); err == nil {
			rows = len(parsed.Rows)
		}
		w.item(string(t.ID), w.f(pTable, t.ID, shown.Title, rows), text)
	}
	if !said {
		w.say(pNoTables)
	}
}

// now is what the policy answered. Where case and consent make no difference, it is
// said once.
func (w *writer) now() {
	w.section("now", pNow)
	p := &w.in.Policy
	if p.Digest == "" {
		w.say(pNoPolicy)
		return
	}
	w.say(pAsked, p.Digest, w.day(w.in.At))
	same := len(p.Answers) == len(Situations)
	for i := range p.Answers {
		a, first := p.Answers[i], p.Answers[0]
		a.Situation = first.Situation
		same = same && reflect.DeepEqual(a, first)
	}
	if same {
		w.item("", w.f(pAlways), w.answer(&p.Answers[0]))
		return
	}
	for i := range p.Answers {
		a := &p.Answers[i]
		w.item(string(a.Situation), w.f(pSituations[a.Situation]), w.answer(a))
	}
}

func (w *writer) answer(a *Answer) string {
	switch {
	case a.Fault != "":
		return w.f(pUnjudged, a.Fault)
	case a.Permit:
		return w.f(pPermit, w.and(texts(a.Bases)))
	}
	var why []string
	for _, code := range a.Reasons {
		i := slices.IndexFunc(w.in.Policy.Reasons, func(r Reason) bool { return r.Code == code })
		if i < 0 {
			why = append(why, "["+string(code)+"]")
			continue
		}
		why = append(why, w.in.Policy.Reasons[i].Message[w.code]+" ["+string(code)+"]")
	}
	return w.f(pDeny, strings.Join(why, " "))
}

// denies is every reason that a decision can name, by whether the agreement as it
// stands settles it.
func (w *writer) denies() {
	if len(w.in.Policy.Reasons) == 0 {
		return
	}
	w.section("denies", pDenies)
	w.say(pEveryDeny)
	for _, group := range []struct {
		stands Standing
		title  phrase
	}{{Unmet, pUnmet}, {Depends, pDepends}, {Unsettled, pUnsettled}, {Met, pMet}} {
		said := false
		for i := range w.in.Policy.Reasons {
			r := &w.in.Policy.Reasons[i]
			if r.Stands != group.stands {
				continue
			}
			if !said {
				said = true
				w.say(group.title)
			}
			text := r.Message[w.code] + " [" + string(r.Code) + "]"
			if group.stands != Met { // what does not come needs no remedy
				if law := w.cited(r.Cites); law != "" {
					text += " " + w.f(pCites, law)
				}
				text += " " + w.f(pRemedy, r.Remedy[w.code])
			}
			w.item(string(r.Code), text)
		}
	}
}

var cited = regexp.MustCompile(`^GDPR article (\d+)(?:\((\d+)\))?(?:\(([a-z])\))?$`)

// cited is the law that a reason is about. That it is about a part of the agreement
// too, which METADATA says in English, its message says.
func (w *writer) cited(all []string) string {
	var out []string
	for _, c := range all {
		m := cited.FindStringSubmatch(c)
		switch {
		case m != nil:
			code := "A" + m[1]
			for _, part := range m[2:] {
				if part != "" {
					code += "-" + part
				}
			}
			out = append(out, w.gdpr(code))
		case w.code == "en" || !strings.HasPrefix(c, "The "):
			out = append(out, c)
		}
	}
	return strings.Join(out, "; ")
}

// bounds are what a consent that is given elsewhere is bounded by.
func (w *writer) bounds(metadata map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		value := w.quote(metadata[name])
		if metadata[name] == broker.AnyMetadata {
			value = w.f(pCondAnyValue)
		}
		all = append(all, w.quote(name)+" = "+value)
	}
	return strings.Join(all, ", ")
}
