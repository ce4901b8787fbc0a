package registry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"datafordeler/broker"
)

// responsibility: whom to ask, and who processes the data where.
func (w *world) responsibility(a at, r *broker.Responsibility) {
	w.contact(a, "responsibility/providerContact", r.ProviderContact)
	w.contact(a, "responsibility/consumerContact", r.ConsumerContact)
	w.locations(a, "responsibility", r.Locations, r.Transfer)
	for i := range r.Processors {
		p := &r.Processors[i]
		path := "responsibility/processors/" + strconv.Itoa(i)
		w.knownOrg(a, path+"/organisation", p.Organisation)
		switch {
		case p.For == "" || p.For != r.ProviderController && p.For != r.ConsumerController:
			w.at(a, path+"/for", fmt.Sprintf("the processor acts for %q, which is neither controller of the agreement", string(p.For)), "name providerController's or consumerController's organisation number")
		case p.For == p.Organisation:
			w.at(a, path+"/organisation", "a controller is no processor for itself", "leave it out, or name who processes for it")
		}
		if slices.ContainsFunc(r.Processors[:i], func(q broker.Processor) bool {
			return q.Organisation == p.Organisation && q.For == p.For && q.Task == p.Task
		}) {
			w.at(a, path, "this processor stands twice, for the same controller and task", "keep one")
		}
		w.said(a, path+"/task", p.Task, "say what it does, such as: operation of the case system")
		w.said(a, path+"/contract", p.Contract, "give the reference of the data processing agreement (GDPR article 28(3))")
		if len(p.Locations) == 0 {
			w.at(a, path+"/locations", "it is not said where the processor processes the data", `list the countries, such as locations: ["NO"]`)
		}
		w.locations(a, path, p.Locations, p.Transfer)
	}
}

const maxJustification = 1_000 // bytes

// justification: a public authority that asks for consent says why that is a free choice.
func (w *world) justification(a at, g *broker.Agreement) {
	asks := slices.ContainsFunc(g.Bases, func(id broker.LegalBasisID) bool { return w.bases[id] != nil && w.bases[id].Type == broker.Samtykke })
	o := w.organisations[g.Consumer]
	switch {
	case strings.TrimSpace(g.Justification) == "" && asks && o != nil && o.Public():
		w.at(a, "justification", fmt.Sprintf("%s is a public authority and asks for consent, and it is not said why that is a free choice", o.Name),
			"say in justification why no statute is relied on, and what happens to who does not consent (GDPR recital 43)")
	case g.Justification != "" && !asks:
		w.at(a, "justification", "no legal basis of the agreement is a consent", "leave justification out")
	case len(g.Justification) > maxJustification:
		w.at(a, "justification", fmt.Sprintf("it is longer than %d bytes", maxJustification), "shorten it: whoever is asked reads it")
	}
	w.noPerson(a, "justification", g.Justification)
}

// withdrawalDuty: what a withdrawal lays on the receiver is lawful, and there is a consent
// that can be withdrawn.
func (w *world) withdrawalDuty(a at, bases []broker.LegalBasisID, d *broker.OnWithdrawal) {
	if d == nil {
		return
	}
	if r := refuseDuty(d); r != "" {
		what, remedy, _ := strings.Cut(strings.TrimPrefix(r, "onWithdrawal: "), ": ")
		w.at(a, "onWithdrawal", what, remedy)
	}
	if !slices.ContainsFunc(bases, func(id broker.LegalBasisID) bool { return w.bases[id] != nil && w.bases[id].Type == broker.Samtykke }) {
		w.at(a, "onWithdrawal", "no legal basis of the agreement is a consent", "leave onWithdrawal out")
	}
}

func (w *world) said(a at, path, text, remedy string) {
	switch {
	case strings.TrimSpace(text) == "":
		w.at(a, path, "it is not said", remedy)
	case len(text) > 200:
		w.at(a, path, "it is longer than 200 bytes", "shorten it")
	}
	w.noPerson(a, path, text)
}

// contact is a function's address: it is shown to the other party.
func (w *world) contact(a at, path, address string) {
	if len(address) > 200 {
		w.at(a, path, "it is longer than 200 bytes", "give one address")
	}
	w.noPerson(a, path, address)
}

// locations: what leaves the European Economic Area does so on a ground (GDPR chapter
// V), and a ground without a country is a mistake in one of the two.
func (w *world) locations(a at, path string, all []broker.Country, ground broker.Transfer) {
	oneOf(w, a, path+"/transfer", ground, "", broker.Adequacy, broker.StandardClauses, broker.BindingRules, broker.PublicBodies)
	outside := ""
	for i, c := range all {
		at := path + "/locations/" + strconv.Itoa(i)
		switch {
		case len(c) != 2 || strings.ToUpper(string(c)) != string(c) || strings.Trim(string(c), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
			w.at(a, at, fmt.Sprintf("%q is no country", string(c)), "give its two letters by ISO 3166-1, such as NO")
		case slices.Contains(all[:i], c):
			w.at(a, at, fmt.Sprintf("%s stands twice", c), "keep one")
		case !c.InEEA():
			outside = string(c)
		}
	}
	switch {
	case outside != "" && ground == "":
		w.at(a, path+"/transfer", fmt.Sprintf("%s is outside the European Economic Area, and no ground for the transfer is given", outside),
			"say transfer: adequacy, standard-clauses, binding-rules or public-bodies (GDPR chapter V), or leave the country out")
	case outside == "" && ground != "":
		w.at(a, path+"/transfer", "a ground for transfer is given, and no country outside the European Economic Area", "leave transfer out, or list the country")
	}
}
