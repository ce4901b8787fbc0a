package check

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable"
	"datafordeler/policy"
	"datafordeler/policy/cases"
)

var at = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// demo is the demonstration's registry, with the embedded policy in force.
func demo(t *testing.T) *registry.State {
	t.Helper()
	docs, err := registry.Load("../../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	st := registry.New()
	plan, err := registry.NewPlan(st, docs, "test", at)
	if err != nil {
		t.Fatal(err)
	}
	fold(t, st, plan.Events)
	b := policy.Embedded()
	fold(t, st, link(t, st, registry.ActivatePolicy(registry.Policy{Digest: b.Digest(), Modules: b.Modules})))
	return st
}

func link(t *testing.T, st *registry.State, changes ...registry.Change) []registry.Event {
	t.Helper()
	events, err := st.Link(at, "test", changes...)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func fold(t *testing.T, st *registry.State, events []registry.Event) {
	t.Helper()
	for _, e := range events {
		if err := st.Check(e); err != nil {
			t.Fatal(err)
		}
		if ok, err := st.Fold(e); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
}

func put(t *testing.T, v any) registry.Change {
	t.Helper()
	c, err := registry.Put(v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const assistance = `situation,at,purpose,recipient,supplier,delegation,status,about,record,case,consent,protected,corrections,cost,payer,ceiling,attribute:municipality,expect,reason
open case,2026-10-15,,,,,,,,open,,,,,,,,permit,
"open case, protected",2026-10-15,,,,,,,,open,,yes,,,,,,shielded,
no case,2026-10-15,,,,,,,,,,,,,,,,deny,no_open_case
closed case,2026-10-15,,,,,,,,closed,,,,,,,,deny,no_open_case
a consent is no case,2026-10-15,,,,,,,,,given,,,,,,,deny,no_open_case
property tax,2026-10-15,eiendomsskatt,,,,,,,open,,,,,,,,deny,no_collection_basis
a bank,2026-10-15,,bank,,,,,,open,,,,,,,,deny,no_legal_basis
any municipality,2026-10-15,,kommune,,,,,,open,,,,,,,,permit,
a supplier without leave,2026-10-15,,,974760673,,,,,open,,,,,,,,deny,supplier_not_delegated
a supplier with leave,2026-10-15,,,974760673,given,,,,open,,,,,,,,permit,
the leave is over,2026-10-15,,,,expired,,,,open,,,,,,,,deny,delegation_not_in_force
suspended,2026-10-15,,,,,suspended,,,open,,,,,,,,deny,agreement_not_active
before it begins,2025-12-31 23:59,,,,,,,,open,,,,,,,,deny,agreement_outside_interval
as it begins,2026-01-01 00:00,,,,,,,,open,,,,,,,,permit,
a correction,2026-10-15,,,,,,,correction,open,,,,,,,,permit,
a correction that is told of,2026-10-15,,,,,,,correction,open,,,notify,,,,,notify,
a correction that is refused,2026-10-15,,,,,,,correction,open,,,refuse,,,,,deny,corrections_not_agreed
no cost cover,2026-10-15,,,,,,,,open,,,,none,,,,deny,cost_not_agreed
nobody pays,2026-10-15,,,,,,,,open,,,,per-record,none,,,deny,payer_missing
the ceiling is reached,2026-10-15,,,,,,,,open,,,,,,reached,,deny,ceiling_reached
`

func table(t *testing.T, csv string) *broker.TruthTable {
	t.Helper()
	parsed, err := truthtable.Parse([]byte(csv))
	if err != nil {
		t.Fatal(err)
	}
	return &broker.TruthTable{ID: "tabell", Title: "Tabell", Agreement: "oslo-sosialhjelp", CSV: string(parsed.Canonical())}
}

func engine(t *testing.T) *policy.Engine {
	t.Helper()
	e, err := policy.Compile(policy.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEverySituation(t *testing.T) {
	st := demo(t)
	rows, err := Table(t.Context(), engine(t), st, "oslo-sosialhjelp", table(t, assistance))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if !rows[i].OK {
			t.Errorf("line %d: %s", rows[i].Line, &rows[i])
		}
	}
}

func TestWhatCannotBeJudgedFails(t *testing.T) {
	st, e := demo(t), engine(t)
	for csv, want := range map[string]string{
		"situation,at,expect,reason\na,2026-10-15,deny,no_such_reason\n":                   `the policy has no reason "no_such_reason"`,
		"situation,at,recipient,expect\na,2026-10-15,974760673,deny\n":                     "organisation 974760673 is not registered",
		"situation,at,about,expect\na,2026-10-15,2026-09,deny\n":                           "no legal basis of the agreement bounds",
		"situation,at,attribute:weather,expect\na,2026-10-15,rain,deny\n":                  `has no attribute "weather"`,
		"situation,at,protected,attribute:protected,expect\na,2026-10-15,yes,false,deny\n": "said twice",
	} {
		rows, err := Table(t.Context(), e, st, "oslo-sosialhjelp", table(t, csv))
		if err != nil {
			t.Fatal(err)
		}
		if r := rows[0]; r.OK || !strings.Contains(r.Fault, want) {
			t.Errorf("got %+v, want %s", r, want)
		}
	}
	if _, err := Table(t.Context(), e, st, "oslo-sosialhjelp", &broker.TruthTable{ID: "x", CSV: "nothing"}); err == nil {
		t.Error("a table that cannot be read passes")
	}
}

// refused runs the guard over changes, and returns what it says.
func refused(t *testing.T, st *registry.State, changes ...registry.Change) *Failed {
	t.Helper()
	judge, err := Guard(st, link(t, st, changes...))
	if err != nil {
		t.Fatal(err)
	}
	if judge == nil {
		return nil
	}
	err = judge(t.Context())
	var f *Failed
	if err != nil && !errors.As(err, &f) {
		t.Fatal(err)
	}
	return f
}

// signed is the demonstration with the table signed off.
func signed(t *testing.T, csv string) *registry.State {
	t.Helper()
	st, v := demo(t), table(t, csv)
	fold(t, st, link(t, st, put(t, *v), registry.ApproveTable(registry.Approval{ID: v.ID, Digest: v.Digest(), By: "Juridisk seksjon"})))
	return st
}

func lawless() registry.Change {
	b := policy.Embedded()
	modules := map[string]string{}
	for name, text := range b.Modules {
		// Any case will do, also one that is over.
		modules[name] = strings.Replace(text, "open_case if {\n\tsome case in input.cases\n\tcase.from <= input.time\n\tinput.time < case.to\n}", "open_case if some case in input.cases", 1)
	}
	weak := policy.Bundle{Modules: modules}
	return registry.ActivatePolicy(registry.Policy{Digest: weak.Digest(), Modules: weak.Modules})
}

func TestAPolicyThatFailsATableIsNotActivated(t *testing.T) {
	weak := lawless()
	if f := refused(t, demo(t), weak); f != nil {
		t.Errorf("nothing is signed off, and yet: %v", f)
	}
	st := signed(t, assistance)
	f := refused(t, st, weak)
	if f == nil {
		t.Fatal("a policy that asks for no case was let through")
	}
	for _, want := range []string{`table tabell, line 5 (signed off by Juridisk seksjon), agreement oslo-sosialhjelp, row "closed case": want deny (no_open_case), got permit`} {
		if !strings.Contains(f.Error(), want) {
			t.Errorf("%v\nlacks %s", f, want)
		}
	}
	// Declaring a weaker table does not set the signed one aside.
	weaker := table(t, "situation,at,case,expect\nopen case,2026-10-15,open,permit\n")
	fold(t, st, link(t, st, put(t, *weaker)))
	if refused(t, st, weak) == nil {
		t.Error("a table that nobody signed off set one aside that somebody did")
	}
	// A suspended agreement shares nothing and holds nothing up.
	a := *st.Agreement("oslo-sosialhjelp")
	a.Status = broker.Suspended
	if f := refused(t, st, put(t, a)); f != nil {
		t.Errorf("a suspension is held up: %v", f)
	}
	fold(t, st, link(t, st, put(t, a)))
	if f := refused(t, st, weak); f != nil {
		t.Errorf("held up by a suspended agreement: %v", f)
	}
	// And does not come back while its table fails.
	fold(t, st, link(t, st, weak))
	a.Status = broker.Active
	if refused(t, st, put(t, a)) == nil {
		t.Error("an agreement whose table fails was put in force")
	}
}

func TestAnAgreementThatFailsATableIsNotActivated(t *testing.T) {
	st := signed(t, assistance)
	a := *st.Agreement("oslo-sosialhjelp")
	a.Bases = a.Bases[:1] // no right to collect
	f := refused(t, st, put(t, a))
	if f == nil || !strings.Contains(f.Error(), `"open case": want permit, got deny (no_collection_basis)`) {
		t.Errorf("got %v", f)
	}
	a.Status = broker.Proposed
	if f := refused(t, st, put(t, a)); f != nil {
		t.Errorf("a proposal is held up: %v", f)
	}
	// In one step with the sign-off, too.
	v := table(t, "situation,at,case,expect\nno case,2026-10-15,,permit\n")
	v.ID = "annen"
	a = *st.Agreement("oslo-sosialhjelp")
	a.Cost.Ceiling = 10
	if refused(t, st, put(t, *v), registry.ApproveTable(registry.Approval{ID: v.ID, Digest: v.Digest(), By: "J"}), put(t, a)) == nil {
		t.Error("a table that is signed off with the activation was not asked")
	}
}

// A law that is repealed is not kept alive by a table; one that gets wider is.
func TestABasisMayNarrowAndNotWiden(t *testing.T) {
	st := signed(t, assistance)
	b := *st.Basis("sosialtjenesteloven-43")
	narrow := b
	narrow.Valid.To = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	if f := refused(t, st, put(t, narrow)); f != nil {
		t.Errorf("a repeal is held up: %v", f)
	}
	wide := b
	wide.RequiresCase = false
	f := refused(t, st, put(t, wide))
	if f == nil || !strings.Contains(f.Error(), `"closed case"`) || strings.Contains(f.Error(), `"open case"`) {
		t.Errorf("got %v", f)
	}
	// What was wide before is not this change's doing.
	fold(t, st, link(t, st, put(t, wide)))
	wide.Title += "."
	if f := refused(t, st, put(t, wide)); f != nil {
		t.Errorf("a title is held up by what was so before: %v", f)
	}
}

// Who says that there must be a table gets nothing in force without one.
func TestWhatMustHaveATable(t *testing.T) {
	st := demo(t)
	a := *st.Agreement("oslo-sosialhjelp")
	a.RequiresTruthTable = true
	f := refused(t, st, put(t, a))
	if f == nil || !slices.Equal(f.Unsigned, []broker.AgreementID{a.ID}) || !strings.Contains(f.Error(), "agreement oslo-sosialhjelp must have a truth table that is signed off, and has none") {
		t.Fatalf("got %v", f)
	}
	a.Status = broker.Suspended
	if f := refused(t, st, put(t, a)); f != nil {
		t.Errorf("to suspend it is held up: %v", f)
	}
	a.Status = broker.Active
	v := table(t, assistance)
	if f := refused(t, st, put(t, *v), put(t, a)); f == nil {
		t.Error("a table that is not signed off will do")
	}
	signed := registry.ApproveTable(registry.Approval{ID: v.ID, Digest: v.Digest(), By: "J"})
	if f := refused(t, st, put(t, *v), signed, put(t, a)); f != nil {
		t.Errorf("with its table signed off: %v", f)
	}

	d := *st.Dataset("inntekt")
	d.RequiresTruthTable = true
	if f := refused(t, st, put(t, d)); f == nil || len(f.Unsigned) < 3 {
		t.Errorf("a dataset's agreements: %v", f)
	}
	// It was so before: then a title may change, and no policy comes.
	fold(t, st, link(t, st, put(t, d)))
	d.Title += "."
	if f := refused(t, st, put(t, d)); f != nil {
		t.Errorf("a title is held up: %v", f)
	}
	if f := refused(t, st, lawless()); f == nil || len(f.Rows) > 0 {
		t.Errorf("a policy: %v", f)
	}
}

// A policy is held to every row, also to those that say what must come through.
func TestAPolicyMayNotNarrowEither(t *testing.T) {
	b := policy.Embedded()
	modules := map[string]string{}
	for name, text := range b.Modules {
		modules[name] = strings.Replace(text, `models := {"free", `, `models := {`, 1)
	}
	strict := policy.Bundle{Modules: modules}
	if f := refused(t, signed(t, assistance), registry.ActivatePolicy(registry.Policy{Digest: strict.Digest(), Modules: modules})); f == nil || !strings.Contains(f.Error(), `"open case": want permit, got deny (cost_not_agreed)`) {
		t.Errorf("got %v", f)
	}
}

// The file and line are those of whoever is told.
func TestAFailureSaysWhere(t *testing.T) {
	f := refused(t, signed(t, assistance), lawless())
	f.Where = func(_ broker.TruthTableID, row string) string {
		return map[string]string{"closed case": "t.csv:5"}[row]
	}
	if !strings.Contains(f.Error(), "\n  t.csv:5: table tabell (signed off by") {
		t.Error(f)
	}
}

// What is changed after the sign-off does not hold, and is told of.
func TestTablesTellOfTheSignOff(t *testing.T) {
	st, e := demo(t), engine(t)
	all := func() []Report {
		r, err := Tables(t.Context(), e, st, Only{Table: "tabell"})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := all(); len(r) != 0 {
		t.Fatal(r)
	}
	v := table(t, assistance)
	fold(t, st, link(t, st, put(t, *v)))
	if r := all(); len(r) != 1 || r[0].Status != NotSigned || len(r[0].Rows) != 20 || r[0].Failed() != 0 {
		t.Fatalf("%+v", r)
	}
	fold(t, st, link(t, st, registry.ApproveTable(registry.Approval{ID: v.ID, Digest: v.Digest(), By: "J"})))
	if r := all(); len(r) != 1 || r[0].Status != Signed || r[0].By != "J" {
		t.Fatalf("%+v", r)
	}
	fold(t, st, link(t, st, put(t, *table(t, "situation,at,case,expect\nclosed case,2026-10-15,closed,permit\n"))))
	r := all()
	if len(r) != 2 || r[0].Status != Signed || r[0].Failed() != 0 || r[1].Status != Changed || r[1].Failed() != 1 || r[0].Digest == r[1].Digest {
		t.Fatalf("%+v", r)
	}
	for only, want := range map[Only]int{{Table: "tabell"}: 2, {Table: "x"}: 0, {Agreement: "oslo-sosialhjelp"}: 3, {Agreement: "drammen-analyse"}: 0} {
		if r, err := Tables(t.Context(), e, st, only); err != nil || len(r) != want {
			t.Errorf("%+v: %d, %v", only, len(r), err)
		}
	}
}

// Every type of event is judged or named as one that changes nothing: see touches.
func TestOnlyWhatChangesNothingIsNotJudged(t *testing.T) {
	for _, typ := range []registry.Type{registry.PolicyActivated, registry.AgreementPut, registry.BasisPut, registry.PackagePut, registry.DatasetPut,
		registry.OrganisationPut, registry.DelegationPut, "something.new"} {
		if !touches(registry.Event{Type: typ}) {
			t.Errorf("%s is not judged", typ)
		}
	}
}

func TestCasesAndConsentsAreNotHeldUp(t *testing.T) {
	st := signed(t, assistance)
	judge, err := Guard(st, link(t, st, registry.OpenCase(broker.Case{ID: "c", Subscription: "oslo-sosialhjelp", Subject: broker.Digest{1}, Open: broker.Interval{From: at}})))
	if judge != nil || err != nil {
		t.Error(judge != nil, err)
	}
}

// Terms are shared by everybody: to lay a situation over them changes nothing.
func TestSituationsLeaveTermsAlone(t *testing.T) {
	st, e := registry.New(), engine(t)
	rapid.Check(t, func(t *rapid.T) {
		s := cases.New(rapid.Uint64().Draw(t, "seed"))
		seed := rapid.Uint64().Draw(t, "terms")
		terms, same := cases.New(seed).Terms(), cases.New(seed).Terms()
		row := &truthtable.Row{Name: "r", At: cases.Noon, Set: map[truthtable.Column]string{}, Expect: truthtable.Deny}
		some := func(c truthtable.Column, of ...string) {
			if s.Intn(2) == 0 {
				row.Set[c] = cases.Pick(s, of...)
			}
		}
		some(truthtable.Purpose, "sosialhjelp", "annet")
		some(truthtable.Recipient, "kommune", "bank")
		some(truthtable.Supplier, "none", string(cases.Supplier))
		some(truthtable.Delegation, "given", "none", "expired", "withdrawn")
		some(truthtable.Status, "active", "suspended")
		some(truthtable.Record, "original", "correction", "retraction")
		some(truthtable.Case, "open", "closed", "none")
		some(truthtable.Consent, "given", "withdrawn", "expired", "none")
		some(truthtable.Cost, "free", "none", "per-record")
		some(truthtable.Payer, "none", string(cases.Consumer))
		some(truthtable.Ceiling, "left", "reached")
		some("attribute:period", "2026-09", "2026-10")
		r, err := Row(context.Background(), e, st, terms, row)
		if err != nil {
			t.Fatal(err)
		}
		if r.Fault == "" && r.Got == "" {
			t.Errorf("%+v says nothing", r)
		}
		if !reflect.DeepEqual(terms, same) {
			t.Errorf("the terms were changed by %v", row.Set)
		}
	})
}
