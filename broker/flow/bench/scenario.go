package bench

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/deploy/demo"
	"datafordeler/providers/synthetic"
)

// Dataset is the one that every scenario has: synthetic income records of about
// 760 bytes.
const Dataset broker.DatasetID = "inntekt"

const (
	provider     broker.OrgNumber = "974761076"
	statute                       = broker.Purpose("foreldrebetaling")
	consented                     = broker.Purpose("boliglaan")
	packageID                     = "bench"
	otherPeriod                   = "2025-01" // no record of a scenario is about it
	declaredFrom                  = "benchmark"
)

// Scenario is the size of what is decided.
type Scenario struct {
	Records       int
	Subscriptions int
	// Fanout is how many subscriptions are in scope of each record. The others
	// are registered and indexed all the same.
	Fanout int
	// ConsentShare of the decisions, about, stand on the subject's own consent;
	// the rest on statute. Each subject's consents have times of their own, as
	// real ones do.
	ConsentShare float64
	// Lines is how often each income stands in its record, which makes records of
	// other sizes; 0 is 1.
	Lines int
	Seed  uint64
}

// Validate says what cannot be.
func (s Scenario) Validate() error {
	var errs []error
	if s.Records < 1 || s.Records > synthetic.MaxPeople {
		errs = append(errs, fmt.Errorf("records: %d is outside 1 to %d", s.Records, synthetic.MaxPeople))
	}
	if s.Fanout < 1 || s.Fanout > 1000 {
		errs = append(errs, fmt.Errorf("fanout: %d is outside 1 to 1,000", s.Fanout))
	}
	if s.Subscriptions < s.Fanout || s.Subscriptions > 200_000 {
		errs = append(errs, fmt.Errorf("subscriptions: %d is outside fanout (%d) to 200,000", s.Subscriptions, s.Fanout))
	}
	if s.Lines < 0 || s.Lines > 100 {
		errs = append(errs, fmt.Errorf("lines: %d is outside 1 to 100", s.Lines))
	}
	if !(s.ConsentShare >= 0 && s.ConsentShare <= 1) {
		errs = append(errs, fmt.Errorf("consent-share: %v is outside 0 to 1", s.ConsentShare))
	}
	return errors.Join(errs...)
}

// slot is one subscription of the scenario.
type slot struct {
	municipalities []string
	inhabitants    int
	consent        bool
	aside          aside
}

// aside is why no record is in a subscription's scope.
type aside uint8

const (
	inScope      aside = iota
	otherScope         // it asks for a period that no record is about
	otherFilter        // it asks for a municipality, but its package is about that period
	nobodyListed       // it asks for listed subjects, and has none
	asides
)

// slots divides the country Fanout times among as many subscriptions as there
// are for each; what is left over is in scope of nothing, in one of three ways.
func (s Scenario) slots() []slot {
	slots := make([]slot, s.Subscriptions)
	all := synthetic.Municipalities()
	share := min(s.Subscriptions/s.Fanout, len(all))
	total := 0
	for layer := range s.Fanout {
		for i, m := range all {
			at := &slots[layer*share+i%share]
			at.municipalities = append(at.municipalities, m.Number)
			at.inhabitants += m.Inhabitants
			total += m.Inhabitants
		}
	}
	for i := s.Fanout * share; i < len(slots); i++ {
		slots[i].aside = inScope + 1 + aside(i)%(asides-1)
		slots[i].municipalities = []string{all[i%len(all)].Number}
	}
	// The largest first, so that what is taken comes near to the share.
	order := make([]int, s.Fanout*share)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(slots[b].inhabitants, slots[a].inhabitants) })
	taken := 0
	for _, i := range order {
		if float64(taken+slots[i].inhabitants) <= s.ConsentShare*float64(total)+0.5 {
			slots[i].consent = true
			taken += slots[i].inhabitants
		}
	}
	return slots
}

func name(i int) string { return "bench-" + strconv.Itoa(i) }

// Documents are the declarations, to be planned and appended like any others.
func (s Scenario) Documents() ([]registry.Document, error) {
	schema, err := demo.Files.ReadFile("schemas/income-1.json")
	if err != nil {
		return nil, err
	}
	from := broker.Interval{From: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	assessed := broker.Assessment{By: "benchmark"}
	pointer := func(p string) broker.Pointer { return broker.Pointer("/oppgaveInntektsmottaker/" + p) }
	var docs []registry.Document
	add := func(k registry.Kind, body any) {
		docs = append(docs, registry.Document{File: declaredFrom, Line: len(docs) + 1, Kind: k, Body: body})
	}
	add(registry.KindOrganisation, &broker.Organisation{Number: provider, Name: "Provider", Types: []string{"statlig"}})
	add(registry.KindDataset, &broker.Dataset{
		ID: Dataset, Title: "Income", Owner: provider, Purpose: "skattefastsetting", AccessRights: broker.NonPublic,
		Schemas: []broker.Schema{{Version: "1", URI: synthetic.IncomeSchema, Document: schema}}, Current: "1",
		Subject: broker.SubjectRule{Kind: broker.Person, Pointer: pointer("inntektsmottaker/personidentifikator")},
		Attributes: []broker.Attribute{
			{Name: "municipality", Extension: "municipality"},
			{Name: "protected", Extension: "protected"},
			{Name: "period", Pointer: pointer("kalendermaaned")},
		},
	})
	basis := func(id string, t broker.BasisType, gdpr string, p broker.Purpose, recipient string, sides ...broker.Side) {
		add(registry.KindBasis, &broker.LegalBasis{ID: broker.LegalBasisID(id), Type: t, Sides: sides, Title: id, GDPR: gdpr,
			Datasets: []broker.DatasetID{Dataset}, Purposes: []broker.Purpose{p}, Recipients: []string{recipient}, Valid: from, Assessed: assessed})
	}
	basis("disclosure", broker.Lov, "A6-1-e", statute, "kommune", broker.Disclosure, broker.Confidentiality)
	basis("collection", broker.Lov, "A6-1-e", statute, "kommune", broker.Collection)
	basis("consent", broker.Samtykke, "A6-1-a", consented, "bank", broker.Disclosure, broker.Collection, broker.Confidentiality)
	pack := &broker.RightsPackage{
		ID: packageID, Version: 1, Dataset: Dataset, Title: "Income for a means-tested service",
		Fields: []broker.Pointer{
			pointer("opplysningspliktigId"), pointer("virksomhetId"), pointer("kalendermaaned"),
			pointer("inntektsmottaker/personidentifikator"), pointer("inntekt/fordel"), pointer("inntekt/beloep"),
			pointer("inntekt/loennsinntekt/beskrivelse"), pointer("inntekt/ytelseFraOffentlige/beskrivelse"),
			pointer("inntekt/pensjonEllerTrygd/beskrivelse"), pointer("forskuddstrekk/beloep"),
		},
		Shielding: &broker.Shielding{
			When:   broker.Condition{Attribute: "protected", NotIn: []string{"false"}},
			Remove: []broker.Pointer{pointer("opplysningspliktigId"), pointer("virksomhetId")},
		},
		Assessment: assessed,
	}
	add(registry.KindPackage, pack)
	filtered := *pack
	filtered.ID, filtered.Filter = packageID+"-"+otherPeriod, []broker.Condition{{Attribute: "period", In: []string{otherPeriod}}}
	add(registry.KindPackage, &filtered)
	for i, at := range s.slots() {
		id, org := name(i), orgNumber(i)
		purpose, bases, kind := statute, []broker.LegalBasisID{"disclosure", "collection"}, "kommune"
		if at.consent {
			purpose, bases, kind = consented, []broker.LegalBasisID{"consent"}, "bank"
		}
		scope := broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: at.municipalities}
		ref := pack.Ref()
		switch at.aside {
		case otherScope:
			scope.Attribute, scope.Values = "period", []string{otherPeriod}
		case otherFilter:
			ref = filtered.Ref()
		case nobodyListed:
			scope = broker.Scope{Kind: broker.ScopeListed}
		}
		add(registry.KindOrganisation, &broker.Organisation{Number: org, Name: "Consumer " + strconv.Itoa(i), Types: []string{kind}})
		add(registry.KindMailbox, &broker.Mailbox{ID: broker.MailboxID(id), Organisation: org, Client: "bench", Channel: broker.Feed})
		add(registry.KindAgreement, &broker.Agreement{
			ID: broker.AgreementID(id), Provider: provider, Consumer: org, Dataset: Dataset,
			Package: ref, Purpose: purpose, Bases: bases,
			Responsibility: broker.Responsibility{ProviderController: provider, ConsumerController: org},
			Cost:           broker.Cost{Model: broker.Free}, Corrections: broker.DeliverCorrections, Status: broker.Active, Valid: from,
		})
		add(registry.KindSubscription, &broker.Subscription{ID: broker.SubscriptionID(id), Agreement: broker.AgreementID(id),
			Mailbox: broker.MailboxID(id), Scope: scope})
	}
	return docs, nil
}

// Changes are the same declarations as they are appended, without the plan that
// holds them to every rule: for a hundred thousand subscriptions.
func (s Scenario) Changes() ([]registry.Change, error) {
	docs, err := s.Documents()
	if err != nil {
		return nil, err
	}
	changes := make([]registry.Change, len(docs))
	for i, d := range docs {
		if changes[i], err = registry.Put(reflect.ValueOf(d.Body).Elem().Interface()); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

// Hasher makes subjects' matching keys; the keystore is one.
type Hasher interface {
	Subject(broker.SubjectKind, string) broker.SubjectKey
}

// Consents are what people [from, to) gave, for the subscriptions that stand on
// consent. The times at which they were given differ by whole minutes.
func (s Scenario) Consents(h Hasher, from, to int) []registry.Change {
	if s.ConsentShare == 0 {
		return nil
	}
	to = min(to, s.Records)
	in := map[string][]int{} // municipality → slots on consent
	for i, at := range s.slots() {
		for _, m := range at.municipalities {
			if at.consent { // never of one that is set aside
				in[m] = append(in[m], i)
			}
		}
	}
	given := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	g := s.records()
	var changes []registry.Change
	for i := from; i < to; i++ {
		p := g.Person(i)
		for _, sub := range in[p.Municipality] {
			changes = append(changes, registry.GiveConsent(broker.Consent{
				ID:      broker.ConsentID("s-" + strconv.Itoa(sub) + "-" + strconv.Itoa(i)),
				Subject: h.Subject(broker.Person, p.ID), Consumer: orgNumber(sub), Dataset: Dataset, Purpose: consented,
				Valid: broker.Interval{From: given.Add(time.Duration(i%500_000) * time.Minute), To: given.AddDate(10, 0, 0)},
			}))
		}
	}
	return changes
}

func (s Scenario) records() *synthetic.Generator {
	return synthetic.New(synthetic.Config{People: s.Records, Seed: s.Seed})
}

// Messages makes the records [from, to) as a provider's SDK writes them, but for
// their keys, with the identifiers that the keys are made of.
func (s Scenario) Messages(topic string, from, to int) (messages []kafka.Raw, subjects []string) {
	g := s.records()
	for i := from; i < min(to, s.Records); i++ {
		e := g.Income(nil, i)
		m := kafka.Raw{Topic: topic, Value: repeatLines(e.Data, s.Lines), Headers: map[string]string{
			"ce_specversion": "1.0", "ce_id": e.ID, "ce_source": e.Source, "ce_type": e.Type,
			"ce_time": e.Time.Format(time.RFC3339Nano), "ce_dataschema": e.DataSchema, "content-type": "application/json",
		}}
		for k, v := range e.Extensions() {
			m.Headers["ce_"+k] = v
		}
		if e.Provisional {
			m.Headers["ce_provisional"] = "true"
		}
		messages, subjects = append(messages, m), append(subjects, string(e.Key))
	}
	return messages, subjects
}

// repeatLines repeats the elements of a record's list of incomes.
func repeatLines(record []byte, times int) []byte {
	const list = `"inntekt":[`
	from := bytes.Index(record, []byte(list)) + len(list)
	depth, end := 1, from // the generator's texts hold no brackets
	for ; depth > 0; end++ {
		switch record[end] {
		case '[':
			depth++
		case ']':
			depth--
		}
	}
	lines, rest := record[from:end-1], record[end-1:]
	out := append([]byte(nil), record[:from]...)
	for i := range max(1, times) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, lines...)
	}
	return append(out, rest...)
}

// orgNumber is the i-th of the numbers that begin with 3, as test organisations'
// do, and have a right check digit.
func orgNumber(i int) broker.OrgNumber {
	// Of two neighbours at least one has a check digit, so pairs never collide.
	for n := 30_000_000 + 2*i; ; n++ {
		for check := range 10 {
			if o, err := broker.ParseOrgNumber(strconv.Itoa(n) + strconv.Itoa(check)); err == nil {
				return o
			}
		}
	}
}
