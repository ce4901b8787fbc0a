package registry

import (
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
	}
	s := New()
	events := must(s.Link(day(1).Add(time.Nanosecond), "test", changes...))
	fold(t, s, events...)
	types := map[Type]bool{}
	for _, e := range events {
		types[e.Type] = true
	}
	for _, x := range []Type{OrganisationPut, DatasetPut, BasisPut, PackagePut, MailboxPut, AgreementPut, SubscriptionPut, DelegationPut, DelegationWithdrawn,
		CaseOpened, CaseEnded, ConsentGiven, ConsentWithdrawn, PolicyActivated, KeystoreRegistered, BudgetLeased, LedgerRegistered, PeriodDestroyed, SubjectLookedUp, RolePut, CredentialIssued, CredentialRevoked} {
		if !types[x] {
			t.Errorf("no event of type %s", x)
		}
	}
	return s, events
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
