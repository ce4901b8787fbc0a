package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"datafordeler/broker"
)

// Languages that every message and remedy is given in, by their ISO 639-1 codes:
// bokmål, nynorsk, English.
var Languages = []string{"nb", "nn", "en"}

// ReasonInfo explains a reason for denial to whoever meets it.
type ReasonInfo struct {
	Code broker.Reason `json:"code"`
	// Title names the requirement that did not hold.
	Title string `json:"title"`
	// Cites is which law or part of the agreement it is about, in general. Which
	// act and section a decision rests on is data: the legal bases it names.
	Cites []string `json:"cites"`
	// Message and Remedy by language.
	Message map[string]string `json:"message"`
	Remedy  map[string]string `json:"remedy"`
}

// brokerReasons come before the policy's own: they say that policy did not
// answer, or that its answer could not be carried out.
var brokerReasons = []ReasonInfo{
	{
		Code:  broker.ReasonPolicyError,
		Title: "The policy answered",
		Cites: []string{"GDPR article 5(2)", "GDPR article 25(2)"},
		Message: map[string]string{
			"nb": "Reglene kunne ikke avgjøre om opplysningen kan deles, og da deles den ikke.",
			"nn": "Reglane kunne ikkje avgjere om opplysninga kan delast, og då blir ho ikkje delt.",
			"en": "The rules could not settle whether the record may be shared, so it is not.",
		},
		Remedy: map[string]string{
			"nb": "Den som drifter datafordeleren, må rette feilen i reglene eller dataene. Hendelsesloggen har detaljene.",
			"nn": "Den som driftar datafordelaren, må rette feilen i reglane eller dataa. Hendingsloggen har detaljane.",
			"en": "The broker's operator must correct the rules or the data. The log has the details.",
		},
	},
	{
		Code:  broker.ReasonNotMinimisable,
		Title: "The record can be reduced to the rights package",
		Cites: []string{"GDPR article 5(1)(c)"},
		Message: map[string]string{
			"nb": "Oppføringen kunne ikke avgrenses til feltene i rettighetspakken.",
			"nn": "Oppføringa kunne ikkje avgrensast til felta i rettigheitspakka.",
			"en": "The record could not be reduced to the fields of the rights package.",
		},
		Remedy: map[string]string{
			"nb": "Tilbyderen må rette oppføringens innhold, eller rettighetspakken må følge datasettets skjema.",
			"nn": "Tilbydaren må rette innhaldet i oppføringa, eller rettigheitspakka må følgje skjemaet til datasettet.",
			"en": "The provider must correct the record's content, or the rights package must follow the dataset's schema.",
		},
	},
	{
		Code:  broker.ReasonDerivation,
		Title: "The answer can be worked out of the record",
		Cites: []string{"GDPR article 5(1)(d)"},
		Message: map[string]string{
			"nb": "Oppføringen mangler noe som svaret skal utledes av, eller har det på en form som ikke kan brukes. Det gis ikke svar på gjetning.",
			"nn": "Oppføringa manglar noko som svaret skal utleiast av, eller har det på ei form som ikkje kan brukast. Det blir ikkje gjeve svar på gissing.",
			"en": "The record lacks something that the answer is to be derived from, or has it in a form that cannot be used. No answer is given on a guess.",
		},
		Remedy: map[string]string{
			"nb": "Tilbyderen må rette oppføringens innhold, eller utledningen i rettighetspakken må si hva som gjelder når noe mangler.",
			"nn": "Tilbydaren må rette innhaldet i oppføringa, eller utleiinga i rettigheitspakka må seie kva som gjeld når noko manglar.",
			"en": "The provider must correct the record's content, or the derivation in the rights package must say what holds where something is absent.",
		},
	},
	{
		Code:  broker.ReasonHousehold,
		Title: "All who were asked about together may be answered for",
		Cites: []string{"GDPR article 5(1)(c)", "GDPR article 5(1)(f)"},
		Message: map[string]string{
			"nb": "Det ble spurt om flere sammen, og for en annen av dem kunne det ikke gis svar. Da gis det ikke svar for noen.",
			"nn": "Det vart spurt om fleire saman, og for ein annan av dei kunne det ikkje gjevast svar. Då blir det ikkje gjeve svar for nokon.",
			"en": "Several were asked about together, and of another of them no answer could be given. Then none is given of anybody.",
		},
		Remedy: map[string]string{
			"nb": "Se til at det er sak eller samtykke for alle det spørres om, og at ingen er med som ikke hører til. Ellers må opplysningene innhentes på annen måte.",
			"nn": "Sjå til at det er sak eller samtykke for alle det blir spurt om, og at ingen er med som ikkje høyrer til. Elles må opplysningane hentast inn på annan måte.",
			"en": "See that there is a case or a consent for everyone asked about, and that nobody is among them who does not belong. Else the information must be obtained by other means.",
		},
	},
	{
		Code:  broker.ReasonTooLarge,
		Title: "The delivery is within the size limit",
		Cites: []string{"The broker's limits"},
		Message: map[string]string{
			"nb": "Leveransen er større enn datafordeleren kan levere.",
			"nn": "Leveransen er større enn datafordelaren kan levere.",
			"en": "The delivery is larger than the broker can deliver.",
		},
		Remedy: map[string]string{
			"nb": "Del opp oppføringen hos tilbyderen, eller velg en rettighetspakke med færre felter.",
			"nn": "Del opp oppføringa hos tilbydaren, eller vel ei rettigheitspakke med færre felt.",
			"en": "Split the record at the provider, or choose a rights package with fewer fields.",
		},
	},
	{
		Code:  broker.ReasonDeliveryUnknown,
		Title: "What is corrected is known to have been delivered",
		Cites: []string{"GDPR article 19", "GDPR article 5(1)(f)"},
		Message: map[string]string{
			"nb": "Det lot seg ikke avgjøre om mottakeren har fått opplysningen som rettes eller trekkes tilbake, og da varsles den ikke.",
			"nn": "Det let seg ikkje avgjere om mottakaren har fått opplysninga som blir retta eller trekt tilbake, og då blir han ikkje varsla.",
			"en": "Whether the consumer was delivered what is corrected or retracted could not be determined, so it is not told.",
		},
		Remedy: map[string]string{
			"nb": "Den behandlingsansvarlige hos tilbyderen må varsle mottakeren på annen måte. Den som drifter datafordeleren, kan se til at indeksen over opplysninger er på.",
			"nn": "Den behandlingsansvarlege hos tilbydaren må varsle mottakaren på annan måte. Den som driftar datafordelaren, kan sjå til at indeksen over opplysningar er på.",
			"en": "The provider's controller must tell the consumer by other means. Whoever runs the broker can see to it that the index of positions is on.",
		},
	},
}

// Reasons are all that a decision can name, in order of precedence: the first one
// of a denial is the one it is counted by. Read-only.
func (e *Engine) Reasons() []ReasonInfo { return e.reasons }

// Reason finds one by its code.
func (e *Engine) Reason(code broker.Reason) (ReasonInfo, bool) {
	i, ok := e.byCode[code]
	if !ok {
		return ReasonInfo{}, false
	}
	return e.reasons[i], true
}

// readReasons takes the order from sharing.chains and the words from the METADATA
// of each rule named cleared.<code>, and refuses a policy where the two differ or
// where any of them lacks a word.
func (e *Engine) readReasons() error {
	if err := e.readChains(); err != nil {
		return err
	}
	if err := e.readTold(); err != nil {
		return err
	}
	infos := map[broker.Reason]ReasonInfo{}
	rules := map[broker.Reason]string{}
	var faults []error
	for _, m := range e.compiler.Modules {
		for _, r := range m.Rules {
			ref := r.Ref() // data.sharing.<part>.cleared.<code>
			if len(ref) < 5 || !ref[:2].Equal(sharingRef) || !ref[3].Equal(clearedTerm) {
				continue
			}
			text, ok := ref[len(ref)-1].Value.(ast.String)
			if !ok || len(ref) != 5 {
				faults = append(faults, fmt.Errorf("%s: a requirement is named cleared.<code>, one word; have %s", r.Location, ref))
				continue
			}
			code := broker.Reason(text)
			if path, ok := rules[code]; ok {
				if path != ref.String() {
					faults = append(faults, fmt.Errorf("%s: requirement %s is also in %s; one rule for each", r.Location, code, path))
				}
				continue
			}
			rules[code] = ref.String()
			info, err := describe(e.compiler.GetAnnotationSet().GetDocumentScope(ref.GroundPrefix()), code)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: requirement %s: %w", r.Location, code, err))
			}
			infos[code] = info
		}
	}
	e.reasons = slices.Clone(brokerReasons)
	e.byCode = map[broker.Reason]int{}
	e.rules = map[broker.Reason]ast.Ref{}
	for _, chain := range e.chains {
		for _, step := range chain {
			for _, code := range step {
				info, ok := infos[code]
				if !ok {
					faults = append(faults, fmt.Errorf("sharing.chains names %s twice, or no rule cleared.%s exists", code, code))
					continue
				}
				e.reasons = append(e.reasons, info)
				e.rules[code] = ast.MustParseRef(rules[code])
				delete(infos, code)
			}
		}
	}
	for _, code := range slices.Sorted(maps.Keys(infos)) {
		faults = append(faults, fmt.Errorf("requirement %s has no place in sharing.chains", code))
	}
	for i := range e.reasons {
		if _, ok := e.byCode[e.reasons[i].Code]; ok {
			faults = append(faults, fmt.Errorf("%s is a reason of the broker's own; choose another code", e.reasons[i].Code))
		}
		e.byCode[e.reasons[i].Code] = i
	}
	for code := range e.told {
		if _, ok := e.rules[code]; !ok {
			faults = append(faults, fmt.Errorf("sharing.told_despite names %s, which is no requirement", code))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

var noticeGiven = &broker.Outcome{Permit: true}

// Notice turns an answer about a correction or retraction into the answer whether its
// consumer, who was delivered what it changes, is told of it without data: yes where
// the data may be shared, or where all that stands in its way is among what the policy
// lists in sharing.told_despite. Otherwise no, for the reasons that remain. A policy
// from before there was such a list tells of nothing, and the broker's own reasons,
// such as that policy gave no answer, always stand in the way.
func (e *Engine) Notice(o *broker.Outcome) *broker.Outcome {
	if o.Permit {
		return noticeGiven
	}
	var left []broker.Reason
	for _, r := range o.Reasons {
		if !e.told[r] {
			left = append(left, r)
		}
	}
	switch {
	case len(o.Reasons) == 0: // no answer
		return &broker.Outcome{Reasons: []broker.Reason{broker.ReasonPolicyError}}
	case len(left) == 0:
		return noticeGiven
	}
	return &broker.Outcome{Reasons: left}
}

// readTold evaluates sharing.told_despite, which does not depend on the input. Older
// policies have none.
func (e *Engine) readTold() error {
	const query = "data.sharing.told_despite"
	q, err := e.prepare(query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	rs, err := q.Eval(context.Background())
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	e.told = map[broker.Reason]bool{}
	if len(rs) != 1 {
		return nil
	}
	v, err := ast.JSON(rs[0].Expressions[0].Value.(ast.Value))
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	list, ok := v.([]any)
	for _, x := range list {
		code, is := x.(string)
		ok = ok && is
		e.told[broker.Reason(code)] = true
	}
	if !ok {
		return fmt.Errorf("%s: want a set of codes", query)
	}
	return nil
}

// readChains evaluates sharing.chains, which does not depend on the input.
func (e *Engine) readChains() error {
	const query = "data.sharing.chains"
	q, err := e.prepare(query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	rs, err := q.Eval(context.Background())
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	if len(rs) != 1 {
		return fmt.Errorf("%s is undefined; want the requirements in order of precedence: chains of steps of codes", query)
	}
	v, err := ast.JSON(rs[0].Expressions[0].Value.(ast.Value))
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	if err := json.Unmarshal(text, &e.chains); err != nil {
		return fmt.Errorf("%s: want an array of chains, each an array of steps, each an array of codes: %w", query, err)
	}
	return nil
}

// describe reads a requirement's METADATA and says all that it lacks.
func describe(a *ast.Annotations, code broker.Reason) (ReasonInfo, error) {
	info := ReasonInfo{Code: code}
	if a == nil {
		return info, errors.New("no METADATA with scope: document above it")
	}
	var faults []error
	if !codePattern.MatchString(string(code)) {
		faults = append(faults, errors.New("a code is snake_case: a–z, 0–9 and _, at most 40"))
	}
	if info.Title = a.Title; info.Title == "" {
		faults = append(faults, errors.New("METADATA lacks title"))
	}
	text, err := json.Marshal(a.Custom)
	if err != nil {
		return info, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	custom := struct {
		Cites           []string
		Message, Remedy map[string]string
	}{}
	if err := dec.Decode(&custom); err != nil {
		return info, fmt.Errorf("METADATA custom: want cites, message and remedy: %w", err)
	}
	info.Cites, info.Message, info.Remedy = custom.Cites, custom.Message, custom.Remedy
	if len(info.Cites) == 0 || slices.Contains(info.Cites, "") {
		faults = append(faults, errors.New("METADATA lacks custom.cites: which law or part of the agreement it is about"))
	}
	faults = append(faults, inAllLanguages("message", info.Message), inAllLanguages("remedy", info.Remedy))
	return info, errors.Join(faults...)
}

func inAllLanguages(what string, words map[string]string) error {
	for _, l := range Languages {
		if strings.TrimSpace(words[l]) == "" {
			return fmt.Errorf("METADATA lacks custom.%s.%s", what, l)
		}
	}
	if len(words) != len(Languages) {
		return fmt.Errorf("METADATA custom.%s: want %s and no other", what, strings.Join(Languages, ", "))
	}
	return nil
}

var (
	codePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{1,39}$`)
	sharingRef  = ast.MustParseRef("data.sharing")
	clearedTerm = ast.StringTerm("cleared")
)
