package registry

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

const formatFile = "testdata/format-1.ndjson"

// everything is one event of every type, with every field set, on one another.
func everything(t *testing.T) (*State, []Event) {
	day := func(d int) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC) }
	span := broker.Interval{From: day(1), To: day(20)}
	subject := subjectNamed("kari")
	assessed := broker.Assessment{By: "Juridisk seksjon", At: day(2), Review: day(3), Note: "ingen"}
	put := func(v any) Change { return must(Put(v)) }
	table := broker.TruthTable{ID: "tt", Title: "TT", Agreement: "a", CSV: "situation,at,expect\na,2026-01-01T00:00:00Z,permit\n"}
	wrong := NewDeviation(broker.Digest{1}, "s", WrongValue, []broker.Pointer{"/p"}, "gjelder mars")
	changes := []Change{
		put(broker.Organisation{Number: "974761076", Name: "Skatteetaten", Types: []string{"statlig"}, Contact: "post@example.test"}),
		put(broker.Organisation{Number: "964338531", Name: "Bergen", Types: []string{"kommune"}}),
		put(broker.Organisation{Number: "313876144", Name: "Leverandøren"}),
		put(broker.Dataset{ID: "d", Title: "D <&>", Owner: "974761076", Purpose: "skatt", AccessRights: broker.NonPublic,
			Schemas: []broker.Schema{{Version: "1", URI: "https://example.test/d/1", Document: []byte(`{"properties":{"p":{"pattern":"<é>"}}}`)}}, Current: "1",
			Subject:    broker.SubjectRule{Kind: broker.Person, Pointer: "/p"},
			Attributes: []broker.Attribute{{Name: "a", Pointer: "/p", Optional: true}, {Name: "b", Extension: "b"}},
			Concepts:   map[broker.Pointer]string{"/p": "https://begrep.example/p"}, Partitions: 4}),
		put(broker.LegalBasis{ID: "lov", Type: broker.Lov, Sides: []broker.Side{broker.Disclosure}, Title: "Lov", ELI: "https://lovdata.no/eli/lov/2012/06/22/43", Paragraph: "§ 7",
			GDPR: "A6-1-c", Datasets: []broker.DatasetID{"d"}, Purposes: []broker.Purpose{"p"}, Recipients: []string{"kommune"}, RequiresCase: true, Valid: span,
			About: &broker.AboutBound{Attribute: "a", From: "2026-01", To: "2026-02"}, Assessed: assessed}),
		put(broker.RightsPackage{ID: "r", Version: 1, Dataset: "d", Title: "R", Fields: []broker.Pointer{"/p"},
			Filter:    []broker.Condition{{Attribute: "a", In: []string{"1"}, NotIn: []string{"2"}}},
			Shielding: &broker.Shielding{When: broker.Condition{Attribute: "b", In: []string{"true"}}, Remove: []broker.Pointer{"/p"}, Body: true}, Assessment: assessed}),
		put(broker.Mailbox{ID: "m", Organisation: "313876144", Client: "c", Channel: broker.KafkaChannel, Partitions: 2, Suspended: true}),
		put(broker.Agreement{ID: "a", Provider: "974761076", Consumer: "964338531", Supplier: "313876144", Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
			Bases: []broker.LegalBasisID{"lov"}, Responsibility: broker.Responsibility{ProviderController: "974761076", ConsumerController: "964338531"},
			Cost: broker.Cost{Model: broker.PerRecord, Payer: "964338531", Ceiling: 40}, Corrections: broker.DeliverCorrections, Status: broker.Active, Valid: span, Framework: "f"}),
		put(broker.Subscription{ID: "s", Agreement: "a", Mailbox: "m", Scope: broker.Scope{Kind: broker.ScopeAttribute, Attribute: "a", Values: []string{"1"}}, Suspended: true}),
		put(broker.Delegation{ID: "g", From: "964338531", To: "313876144", Datasets: []broker.DatasetID{"d"}, Valid: span}),
		WithdrawDelegation("g", day(5)),
		OpenCase(broker.Case{ID: "c", Subscription: "s", Subject: subject, Open: span}),
		EndCase("s", "c", day(6)),
		GiveConsent(broker.Consent{ID: "k", Subject: subject, Consumer: "964338531", Dataset: "d", Purpose: "p", Valid: span, External: "x"}),
		WithdrawConsent("k", day(7)),
		ActivatePolicy(Policy{Digest: "0123", Modules: map[string]string{"b.rego": "package b", "a.rego": "package a"}}),
		RegisterKeystore("4567", ""),
		LeaseBudget("a", [16]byte{1, 2}, 3, 10),
		RegisterLedger(Ledger{Origin: "datafordeler.example/log", Key: "datafordeler.example/log+0a1b2c3d+AQ=="}),
		DestroyPeriod(Destruction{Period: "2025-12", Check: "4567", Reason: "kept for as long as was agreed"}),
		put(broker.Dataset{ID: "e", Title: "E", Owner: "974761076", Purpose: "skatt", AccessRights: broker.NonPublic,
			Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}}, Current: "1", Subject: broker.SubjectRule{Kind: broker.NoSubject}, Attributes: []broker.Attribute{},
			Retention: &broker.Retention{SourceDays: 60, RejectedDays: 20, DeliveriesDays: 10}}),
		put(broker.Mailbox{ID: "n", Organisation: "313876144", Client: "c", Channel: broker.KafkaChannel, RetentionDays: 5}),
		LookUpSubject(SubjectLookup{Reason: "asked for by the subject", Periods: 3, Found: 7}),
		put(broker.Role{ID: "revisjon", Organisation: "974761076", Role: broker.Auditor, Valid: span}),
		IssueCredential(Credential{ID: "df-313876144-abcdefghij234567", Organisation: "313876144", Client: "c", Mailbox: "m"}),
		IssueCredential(Credential{ID: "df-974761076-abcdefghij234567", Organisation: "974761076", Dataset: "e"}),
		EndCredential("df-313876144-abcdefghij234567", day(9), "taken back by its owner"),
		put(broker.Mailbox{ID: "w", Organisation: "964338531", Channel: broker.Webhook}),
		SetWebhook(Webhook{Mailbox: "w", URL: "https://mottak.example.no/df?x=1", Generation: 1}),
		ProveWebhook("w", 29),
		RotateWebhook("w", 2, day(10)),
		StopWebhook("w", 29, "it answered 410"),
		RemoveWebhook("w"),
		put(broker.Dataset{ID: "o", Title: "O", Owner: "974761076", Purpose: "skatt", AccessRights: broker.NonPublic,
			Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}}, Current: "1", Subject: broker.SubjectRule{Kind: broker.Person, Pointer: "/p"}, Attributes: []broker.Attribute{},
			Endpoint: &broker.Endpoint{URL: "https://data.example.no/oppslag", TimeoutMillis: 500}}),
		put(broker.Subscription{ID: "l", Agreement: "a", Scope: broker.Scope{Kind: broker.ScopeAll}, Lookup: true}),
		put(broker.Subscription{ID: "t", Agreement: "a", Mailbox: "m", Scope: broker.Scope{Kind: broker.ScopeAll}, Start: day(1), CatchUp: new(3)}),
		put(broker.Agreement{ID: "u", Provider: "974761076", Consumer: "964338531", Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
			Bases: []broker.LegalBasisID{"lov"}, Corrections: broker.NotifyCorrections, Status: broker.Proposed, Valid: span}),
		put(broker.LegalBasis{ID: "samtykke", Type: broker.Samtykke, Sides: []broker.Side{broker.Disclosure}, Title: "Samtykke", GDPR: "A6-1-a", Datasets: []broker.DatasetID{"d"},
			Purposes: []broker.Purpose{"p"}, ConsentResource: "inntekt-til-laan", Assessed: assessed}),
		put(broker.RightsPackage{ID: "x", Version: 1, Dataset: "d", Title: "X", Fields: []broker.Pointer{}, Assessment: assessed,
			Derivations: []broker.Derivation{
				{V: 1, Target: "/baand", Title: "Sum i bånd", Rows: "/i", Op: broker.Sum, Value: "/b", Absent: broker.AbsentSkips, Empty: "0",
					Where: []broker.RowCondition{{Field: "/f", In: []string{"k"}, Absent: broker.AbsentHolds}, {Field: "/f", NotIn: []string{"<n>"}}, {Field: "/b", AtLeast: "1", Below: "9.5"}, {Field: "/d", From: "2026-01", Before: "2026-07"}},
					Bands: []broker.Band{{Name: "lav", Below: "2"}, {Name: "høy"}}},
				{V: 1, Target: "/siste", Title: "Siste", Rows: "/i", Op: broker.Latest, Value: "/b", By: "/d", AtMost: "2"},
				{V: 1, Target: "/flere", Title: "Flere", Rows: "/i", Op: broker.Count, Above: "1"},
				{V: 1, Target: "/minst", Title: "Minst", Rows: "/i", Op: broker.Min, Value: "/b", AtLeast: "2"},
				{V: 1, Target: "/under", Title: "Under", Rows: "/i", Op: broker.Max, Value: "/b", Below: "2"},
				{V: 1, Target: "/antall", Title: "Antall", Rows: "/i", Op: broker.Distinct, Value: "/b"},
			},
			Tests: []broker.DerivationTest{
				{Name: "én rad", Record: []byte(`{"i":[{"b":2.50,"d":"2026-01-05","f":"k"}]}`), Want: []byte(`{"baand":"høy","siste":false,"flere":false,"minst":true,"under":false,"antall":1}`)},
				{Name: "uten rader", Record: []byte(`{}`), Fails: "/siste"},
			}}),
		SetFreeze(Freeze{Kind: FreezeMailbox, ID: "m", By: ByOwner, Why: "a key was lost"}),
		SetFreeze(Freeze{Kind: FreezeMailbox, ID: "m", By: ByOperator, Why: "a key was lost"}),
		LiftFreeze(FreezeEnd{Kind: FreezeMailbox, ID: "m", By: ByOwner, Why: "the key was replaced"}),
		put(broker.LegalAssessment{ID: "v", Title: "V", Question: "Kan D utleveres?", Conclusion: "Ja, etter § 7.", By: "Juridisk seksjon", At: day(2), Review: day(3),
			Sources: []broker.Source{{Title: "Lov", ELI: "https://lovdata.no/eli/lov/2012/06/22/43", Paragraph: "§ 7"}}}),
		put(broker.LegalBasis{ID: "lov2", Type: broker.Lov, Sides: []broker.Side{broker.Collection}, Title: "Lov", GDPR: "A6-1-e", Datasets: []broker.DatasetID{"d"}, Purposes: []broker.Purpose{"p"},
			Recipients: []string{"kommune"}, Valid: span, Assessed: broker.Assessment{By: "Juridisk seksjon", RestsOn: []broker.AssessmentID{"v"}}}),
		put(table),
		put(broker.TruthTable{ID: "tp", Title: "TP", Package: &broker.PackageRef{ID: "r", Version: 1}, CSV: table.CSV}),
		put(broker.TruthTable{ID: "td", Title: "TD", Dataset: "d", CSV: table.CSV}),
		ApproveTable(Approval{ID: "tt", Digest: table.Digest(), By: "Juridisk seksjon"}),
		put(broker.Agreement{ID: "pr", Provider: "974761076", Consumer: "964338531", Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p2",
			Bases: []broker.LegalBasisID{"lov"}, Justification: "fritt valg", Responsibility: broker.Responsibility{ProviderController: "974761076", ConsumerController: "964338531",
				ProviderContact: "datakvalitet@example.test", ConsumerContact: "post@example.test", Locations: []broker.Country{"NO", "GB"}, Transfer: broker.Adequacy,
				Processors: []broker.Processor{{Organisation: "313876144", For: "964338531", Task: "drift", Contract: "sak 1", Locations: []broker.Country{"NO"}, Transfer: ""}}},
			Corrections: broker.RefuseCorrections, Status: broker.Proposed, Valid: span}),
		put(broker.Dataset{ID: "v", Title: "V", Owner: "974761076", Purpose: "skatt", AccessRights: broker.NonPublic, Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}}, Current: "1",
			Subject: broker.SubjectRule{Kind: broker.Person, Pointer: "/p"}, Attributes: []broker.Attribute{{Name: "vern", Register: broker.ProtectionRegister}}}),
		SetProtection(Protect{Subject: subject, Grade: broker.StrictlyConfidential}),
		SyncProtection(ProtectionSync{Source: "folkeregisteret", Sequence: 17, Current: true}),
		ReportDeviation(wrong),
		AnswerDeviation(DeviationAnswer{ID: wrong.ID, Status: DeviationConfirmed, Note: "rettes i neste leveranse"}),
		put(broker.RightsPackage{ID: "hh", Version: 1, Dataset: "d", Title: "HH", Fields: []broker.Pointer{}, Assessment: assessed,
			Household: &broker.Household{V: 1, Least: 2, Most: 3, Missing: broker.AbsentSkips,
				Each:    []broker.Derivation{{V: 1, Target: "/sum", Title: "Sum", Rows: "/i", Op: broker.Sum, Value: "/b", Empty: "0"}},
				Answers: []broker.Derivation{{V: 1, Target: "/under", Title: "Under", Op: broker.Sum, Value: "/sum", Below: "2"}},
				Tests: []broker.HouseholdTest{
					{Name: "to", Records: []json.RawMessage{[]byte(`{"i":[{"b":1.5}]}`), []byte(`null`), []byte(`{}`)}, Want: []byte(`{"under":true}`)},
					{Name: "én", Records: []json.RawMessage{[]byte(`{}`)}, Fails: "/under"},
				}}}),
	}
	s := New()
	events := must(s.Link(day(1).Add(time.Nanosecond), "test", changes...))
	fold(t, s, events...)
	for _, make := range regimeOfAll(day) { // each is on what the others made
		e := must(s.Link(day(1).Add(time.Nanosecond), "test", make(s)))
		fold(t, s, e...)
		events = append(events, e...)
	}
	types := map[Type]bool{}
	for _, e := range events {
		types[e.Type] = true
	}
	for _, x := range []Type{
		OrganisationPut, DatasetPut, BasisPut, PackagePut, MailboxPut, AgreementPut, SubscriptionPut,
		DelegationPut, DelegationWithdrawn,
		CaseOpened, CaseEnded, ConsentGiven, ConsentWithdrawn, ConsentEnded, ConsentFollowed,
		PolicyActivated, KeystoreRegistered, BudgetLeased, LedgerRegistered, PeriodDestroyed, SubjectLookedUp,
		RolePut, CredentialIssued, CredentialRevoked,
		WebhookSet, WebhookProven, WebhookRotated, WebhookStopped, WebhookRemoved,
		FreezeSet, FreezeLifted,
		AssessmentPut, TruthTablePut, TruthTableApproved,
		ProtectionSet, ProtectionSynced, UnitEnded, UnitRestored, UnitsSynced, SubjectSucceeded,
		DeviationReport, DeviationAnswered, ReceiptGiven,
		NeedPut, NeedCosigned, NeedClosedType, AgreementStepped, FrameworkPut, FrameworkApproved, FrameworkInvited, FrameworkAcceded,
	} {
		if !types[x] {
			t.Errorf("no event of type %s", x)
		}
	}
	return s, events
}

// regimeOfAll are needs, a framework with a party, and every step of an agreement.
func regimeOfAll(day func(int) time.Time) (all []func(*State) Change) {
	const skatt, arendal = "974761076", "940493021"
	add := func(c Change) { all = append(all, func(*State) Change { return c }) }
	assessed := broker.Assessment{By: "Juridisk seksjon"}
	note := func(side broker.Side, basis broker.LegalBasisID) broker.SideAssessment {
		return broker.SideAssessment{Side: side, Basis: basis, Holds: true, Note: "Ja <&>", Review: day(9), RestsOn: []broker.AssessmentID{"v"}}
	}
	sides := []broker.SideAssessment{note(broker.Disclosure, "lov"), note(broker.Collection, "lov2"), note(broker.Confidentiality, "taus"), note(broker.Compatibility, "")}
	mapping := []broker.FieldMeaning{{Field: "/p", Concept: "https://begrep.example/p", Use: "hvem det gjelder"}}
	for _, id := range []broker.TruthTableID{"tp", "td"} {
		all = append(all, func(s *State) Change {
			return ApproveTable(Approval{ID: id, Digest: s.TruthTable(id).Digest(), By: "Juridisk seksjon"})
		})
	}
	add(must(Put(broker.Organisation{Number: arendal, Name: "Arendal", Types: []string{"kommune"}, FourEyes: true})))
	add(must(Put(broker.LegalBasis{ID: "taus", Type: broker.Lov, Sides: []broker.Side{broker.Confidentiality}, Title: "Lov", GDPR: "A6-1-e", Datasets: []broker.DatasetID{"d"},
		Purposes: []broker.Purpose{"p"}, Recipients: []string{"kommune"}, Assessed: assessed})))
	add(must(Put(broker.Dataset{ID: "krever", Title: "K", Owner: skatt, Purpose: "skatt", AccessRights: broker.NonPublic, Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}},
		Current: "1", Subject: broker.SubjectRule{Kind: broker.NoSubject}, Attributes: []broker.Attribute{}, Lifecycle: broker.LifecycleRequired, FourEyes: true})))
	add(must(Put(broker.Need{ID: "b", Organisation: "964338531", Dataset: "d", Purpose: "p", Fields: []broker.Pointer{"/p"}, Why: "vi spør to ganger", Sector: "oppvekst"})))
	add(must(Put(broker.Need{ID: "c", Organisation: "964338531", Concept: "https://begrep.example/x", Purpose: "p", Why: "vi spør to ganger", Sector: "oppvekst"})))
	add(CosignNeed(broker.Cosignature{Need: "b", Organisation: arendal, By: "Barnehagekontoret"}))
	add(CloseNeed(broker.NeedClosure{Need: "c", By: "Barnehagekontoret", Why: "ikke lenger"}))
	add(must(Put(broker.Framework{ID: "fr", Title: "Rammeavtale", Provider: skatt, Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
		Bases: []broker.LegalBasisID{"lov", "lov2", "taus"}, Cost: broker.Cost{Model: broker.PerRecord, Ceiling: 9}, Corrections: broker.DeliverCorrections,
		Valid: broker.Interval{From: day(1), To: day(10)}, Eligible: []string{"fylke"}, Assessments: sides, Mapping: mapping, By: "Juridisk seksjon"})))
	add(Invite(broker.Invitation{Framework: "fr", Organisations: []broker.OrgNumber{arendal}, By: "Avtaleforvaltning"}))
	all = append(all, func(s *State) Change {
		return Accede(broker.Accession{Framework: "fr", Agreement: "fr-arendal", Organisation: arendal, Supplier: "313876144", By: "Kommunedirektøren", On: s.FrameworkDigest(s.Framework("fr"))})
	})
	step := func(org broker.OrgNumber, by string, v broker.AgreementStep) {
		all = append(all, func(s *State) Change {
			v := v
			v.Agreement, v.Number, v.Organisation, v.By = "st", s.NextStep("st"), org, by
			if v.Terms == nil {
				v.On = s.StepDigest("st", v.Step)
			}
			return TakeStep(v)
		})
	}
	terms := func(ceiling int64) *broker.Agreement {
		return &broker.Agreement{ID: "st", Provider: skatt, Consumer: arendal, Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
			Bases: []broker.LegalBasisID{"lov", "lov2", "taus"}, Responsibility: broker.Responsibility{ProviderController: skatt, ConsumerController: arendal},
			Cost: broker.Cost{Model: broker.PerRecord, Payer: arendal, Ceiling: ceiling}, Corrections: broker.DeliverCorrections, Status: broker.Proposed,
			Valid: broker.Interval{From: day(10), To: day(15)}}
	}
	step(arendal, "Barnehagekontoret", broker.AgreementStep{Step: broker.StepProposed, Terms: terms(5)})
	for i := range sides {
		by := broker.OrgNumber(skatt)
		if sides[i].Side == broker.Collection {
			by = arendal
		}
		step(by, "Juridisk seksjon", broker.AgreementStep{Step: broker.StepAssessed, Assessment: &sides[i]})
	}
	step(arendal, "Fagsystemgruppen", broker.AgreementStep{Step: broker.StepMapped, Mapping: mapping})
	step(skatt, "Informasjonsforvaltning", broker.AgreementStep{Step: broker.StepMapping})
	step(skatt, "Informasjonsforvaltning", broker.AgreementStep{Step: broker.StepPackage})
	step(arendal, "Økonomi", broker.AgreementStep{Step: broker.StepCost})
	step(arendal, "Kommunedirektøren", broker.AgreementStep{Step: broker.StepAccepted})
	step(skatt, "Avtaleforvaltning", broker.AgreementStep{Step: broker.StepAccepted})
	step(arendal, "Kommunedirektøren", broker.AgreementStep{Step: broker.StepActivated})
	step(skatt, "Drift", broker.AgreementStep{Step: broker.StepSuspended, Why: "feil i uttrekket"})
	step(skatt, "Drift", broker.AgreementStep{Step: broker.StepResumed, Why: "rettet"})
	step(arendal, "Kommunedirektøren", broker.AgreementStep{Step: broker.StepRenewed, Until: day(18)})
	step(skatt, "Avtaleforvaltning", broker.AgreementStep{Step: broker.StepDeclined, Why: "loven endres"})
	step(arendal, "Kommunedirektøren", broker.AgreementStep{Step: broker.StepAmended, Terms: terms(7)})
	step(skatt, "Avtaleforvaltning", broker.AgreementStep{Step: broker.StepEnded, Why: "ny avtale"})
	add(must(Put(broker.LegalBasis{ID: "samtykke-2025", Type: broker.Samtykke, Sides: []broker.Side{broker.Disclosure}, Title: "Samtykke", GDPR: "A6-1-a", Datasets: []broker.DatasetID{"d"},
		Purposes: []broker.Purpose{"p4"}, ConsentResource: "inntekt-til-laan", ConsentMetadata: map[string]string{"inntektsaar": "2025", "bank": broker.AnyMetadata}, Assessed: assessed})))
	keep := &broker.OnWithdrawal{Do: broker.KeepWithdrawn, Days: 14, ELI: "https://lovdata.no/eli/lov/2004/11/19/73", Paragraph: "§ 13"}
	add(must(Put(broker.Framework{ID: "fs", Title: "Rammeavtale", Provider: skatt, Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
		Bases: []broker.LegalBasisID{"samtykke"}, Justification: "fritt valg", OnWithdrawal: keep, Corrections: broker.DeliverCorrections, Eligible: []string{},
		Assessments: []broker.SideAssessment{}, Mapping: []broker.FieldMeaning{}, By: "Juridisk seksjon"})))
	add(must(Put(broker.Agreement{ID: "ob", Provider: skatt, Consumer: "964338531", Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
		Bases: []broker.LegalBasisID{"samtykke"}, Justification: "fritt valg", OnWithdrawal: keep, Corrections: broker.DeliverCorrections, Status: broker.Active})))
	add(GiveConsent(broker.Consent{ID: "ob", Subject: subjectNamed("ola"), Consumer: "964338531", Dataset: "d", Purpose: "p", Valid: broker.Interval{From: day(1), To: day(20)}}))
	add(WithdrawConsent("ob", day(7)))
	add(GiveReceipt(Receipt{Consent: "ob", Agreement: "ob", Did: DidKeep, ELI: keep.ELI, Paragraph: keep.Paragraph, Note: "regnskap <&>"}))
	add(change(ConsentEnded, ForeignEnd{"5f0f6f5e-1f5b-4a39-9a9b-0d3b6b2c7a13", day(8)}))
	add(FollowConsents(ConsentFeed{Source: "altinn", Page: "AZ+/==", Entries: 2, Digest: broker.Digest{3}, Gap: true}))
	add(FollowConsents(ConsentFeed{Source: "altinn", Entries: 1, Digest: broker.Digest{4}, Unknown: "viewed", Last: day(8)}))
	add(must(Put(broker.Framework{ID: "fo", Title: "Rammeavtale", Provider: skatt, Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
		Bases: []broker.LegalBasisID{}, Corrections: broker.DeliverCorrections, Eligible: []string{}, Assessments: []broker.SideAssessment{}, Mapping: []broker.FieldMeaning{}, By: "Juridisk seksjon", FourEyes: true})))
	all = append(all, func(s *State) Change {
		return ApproveFramework(broker.FrameworkApproval{Framework: "fo", By: "Avtaleforvaltning", On: s.FrameworkDigest(s.Framework("fo"))})
	})
	later := &broker.Visibility{Days: 90, ELI: "https://lovdata.no/eli/lov/2018/06/15/38", Paragraph: "§ 16"}
	add(must(Put(broker.Agreement{ID: "later", Provider: skatt, Consumer: "964338531", Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p5",
		Bases: []broker.LegalBasisID{"lov"}, Visibility: later, Corrections: broker.RefuseCorrections, Status: broker.Proposed})))
	add(must(Put(broker.Framework{ID: "fv", Title: "Rammeavtale", Provider: skatt, Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p5",
		Bases: []broker.LegalBasisID{"lov"}, Visibility: later, Corrections: broker.RefuseCorrections, Eligible: []string{},
		Assessments: []broker.SideAssessment{}, Mapping: []broker.FieldMeaning{}, By: "Juridisk seksjon"})))
	add(must(Put(broker.Dataset{ID: "enheter", Title: "E", Owner: skatt, Purpose: "skatt", AccessRights: broker.NonPublic, Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}},
		Current: "1", Subject: broker.SubjectRule{Kind: broker.OrganisationSubject, Pointer: "/o", Follow: true}, Attributes: []broker.Attribute{}})))
	add(EndUnit(UnitEnd{Organisation: "313876144", On: day(8)}))
	add(EndUnit(UnitEnd{Organisation: arendal, On: day(9), Successor: "964338531"}))
	add(RestoreUnit("313876144"))
	add(SucceedSubject(SubjectSuccession{Subject: subjectNamed("a"), Successor: subjectNamed("b")}))
	add(SyncUnits(UnitSync{Source: "enhetsregisteret", Sequence: 20001234}))
	return all
}

// The control topic is kept for ever. What version 1 wrote stands in a file; this
// program reads it to the same state, and still writes the same bytes. A new type
// adds a line at its end. When this fails on a line that stands there, raise Version
// and keep the file: do not write it anew.
func TestFormatIsKept(t *testing.T) {
	s, events := everything(t)
	var lines []string
	for _, e := range events {
		lines = append(lines, string(must(Encode(e))))
	}
	written := strings.Join(lines, "\n") + "\n"
	if _, err := os.Stat(formatFile); os.IsNotExist(err) && *update {
		if err := os.WriteFile(formatFile, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept := strings.Split(strings.TrimSpace(string(must(readFile(formatFile)))), "\n")
	if !slices.Equal(kept, lines) {
		t.Errorf("%s", firstDifference(strings.Join(kept, "\n"), strings.Join(lines, "\n")))
	}
	again := New()
	for _, line := range kept {
		e, err := Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		fold(t, again, e)
	}
	if again.Hash() != s.Hash() {
		t.Error("what was kept folds to another state")
	}
}
