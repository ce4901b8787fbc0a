package inwords_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/inwords"
	"datafordeler/broker/registry"
)

var update = flag.Bool("update", false, "write the golden files anew")

var at = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func fold(t interface{ Fatalf(string, ...any) }, st *registry.State, changes ...registry.Change) {
	events, err := st.Link(at, "test", changes...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, e := range events {
		if err := st.Check(e); err != nil {
			t.Fatalf("%s: %v", e.Type, err)
		}
		if ok, err := st.Fold(e); !ok || err != nil {
			t.Fatalf("%s: %v, %v", e.Type, ok, err)
		}
	}
}

func demo(t *testing.T) *registry.State {
	t.Helper()
	docs, err := registry.Load("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	st := registry.New()
	plan, err := registry.NewPlan(st, docs, "test", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range plan.Events {
		if ok, err := st.Fold(e); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	return st
}

// answers is a policy that says something of each kind. What the real one says is
// tested where it is asked, in cmd/datafordeler.
func answers() inwords.Policy {
	say := func(s string) map[string]string {
		return map[string]string{"nb": s + " (nb)", "nn": s + " (nn)", "en": s + " (en)"}
	}
	return inwords.Policy{
		Digest: "sha256:abc",
		Reasons: []inwords.Reason{
			{"no_open_case", []string{"GDPR article 5(1)(c)", "forvaltningsloven § 13 b", "The legal basis, its requirement of a case"}, say("Ingen sak."), say("Åpne en."), inwords.Depends},
			{"cost_not_agreed", []string{"The agreement, its cost cover"}, say("Ikke avtalt."), say("Avtal."), inwords.Unmet},
			{"frozen", nil, say("Frosset."), say("Vent."), inwords.Met},
			{"policy_error", nil, say("Feil."), say("Rett den."), inwords.Unsettled},
		},
		Answers: []inwords.Answer{
			{Situation: inwords.Neither, Reasons: []broker.Reason{"no_open_case", "unheard_of"}},
			{Situation: inwords.Case, Permit: true, Bases: []broker.LegalBasisID{"a", "b"}},
			{Situation: inwords.Consent, Fault: "det gikk ikke"},
			{Situation: inwords.Both, Permit: true, Bases: []broker.LegalBasisID{"a"}},
		},
	}
}

func words(t interface{ Fatalf(string, ...any) }, in *inwords.Input, language string) (*inwords.Description, string) {
	d, err := inwords.Agreement(in, language)
	if err != nil || d == nil {
		t.Fatalf("%v, %v", d, err)
	}
	var b strings.Builder
	for _, s := range d.Sections {
		for _, l := range s.Lines {
			b.WriteString(l.Text + "\n")
		}
	}
	return d, b.String()
}

// The demonstration's agreements, in three languages, for people to read in a review.
func TestAgreementsInWords(t *testing.T) {
	st := demo(t)
	v := st.TruthTable("oslo-sosialhjelp")
	fold(t, st, registry.ApproveTable(registry.Approval{ID: v.ID, Digest: v.Digest(), By: "Juridisk seksjon, demo"}))
	for _, id := range []broker.AgreementID{"oslo-sosialhjelp", "testbanken-boliglaan", "kristiansand-barnehage", "asker-aktivitetskort"} {
		for _, language := range inwords.Languages {
			d, _ := words(t, &inwords.Input{State: st, Agreement: id, At: at, Policy: answers()}, language)
			var got strings.Builder
			if err := d.Text(&got); err != nil {
				t.Fatal(err)
			}
			path := fmt.Sprintf("testdata/%s.%s.txt", id, language)
			if *update {
				if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if want, err := os.ReadFile(path); err != nil || string(want) != got.String() {
				t.Errorf("%s differs (%v); -update writes it anew:\n%s", path, err, got.String())
			}
		}
	}
}

func TestWhatIsNoAgreement(t *testing.T) {
	st := demo(t)
	if d, err := inwords.Agreement(&inwords.Input{State: st, Agreement: "nix", At: at}, "nb"); d != nil || err != nil {
		t.Error(d, err)
	}
	if _, err := inwords.Agreement(&inwords.Input{State: st, Agreement: "oslo-sosialhjelp", At: at}, "fr"); err == nil {
		t.Error("French is spoken")
	}
	_, text := words(t, &inwords.Input{State: st, Agreement: "oslo-sosialhjelp", At: at}, "en")
	if !strings.Contains(text, "No policy is in force, so nothing is delivered.") {
		t.Error(text)
	}
	_, text = words(t, &inwords.Input{State: st, Agreement: "oslo-sosialhjelp", At: at, Frozen: map[broker.SubscriptionID]bool{"oslo-sosialhjelp": true}}, "nn")
	if !strings.Contains(text, "Alt herfrå er stansa inntil vidare.") {
		t.Error(text)
	}
}

// Where case and consent make no difference, that is said once.
func TestOneAnswerIsSaidOnce(t *testing.T) {
	in := &inwords.Input{State: demo(t), Agreement: "oslo-sosialhjelp", At: at, Policy: answers()}
	for i := range in.Policy.Answers {
		in.Policy.Answers[i] = inwords.Answer{Situation: inwords.Situations[i], Permit: true, Bases: []broker.LegalBasisID{"a"}}
	}
	if _, text := words(t, in, "nb"); !strings.Contains(text, "Enten det finnes sak og samtykke eller ikke: den utleveres, etter a.") || strings.Contains(text, "Med åpen sak") {
		t.Error(text)
	}
}

// Whatever is agreed is said, in each language: every field, answer, basis, condition,
// assessment, delegation and reason.
func TestNothingIsLeftOut(t *testing.T) {
	base := demo(t)
	rapid.Check(t, func(t *rapid.T) {
		st, err := base.Preview(nil)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var changes []registry.Change
		put := func(v any) {
			c, err := registry.Put(v)
			if err != nil {
				t.Fatalf("%v", err)
			}
			changes = append(changes, c)
		}
		some := func(name string, all ...string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, len(all), rapid.ID).Draw(t, name)
		}
		yes := func(name string) bool { return rapid.Bool().Draw(t, name) }
		when := func(name string) time.Time {
			return time.Unix(rapid.Int64Range(1_500_000_000, 2_000_000_000).Draw(t, name), 0).UTC()
		}
		var want []string
		said := func(s ...string) { want = append(want, s...) }

		v := broker.LegalAssessment{ID: "vurdering-x", Title: "Vurderingens tittel", Question: "Hva er spurt?", Conclusion: "Dette er svaret.",
			Sources: []broker.Source{{Title: "Forarbeidet", ELI: "https://lovdata.no/eli/lov/2000/01/01/1", Paragraph: "punkt 7"}}, By: "Avdeling V", At: when("concluded")}
		put(v)
		p := broker.RightsPackage{ID: "tilfeldig", Version: 7, Dataset: "inntekt", Title: "Tilfeldig pakke", Assessment: broker.Assessment{By: "Avdeling P"}}
		for _, f := range some("fields", "/a", "/b/c", "/d/eF", "/g~1h") {
			p.Fields = append(p.Fields, broker.Pointer(f))
			said("(" + f + ")")
		}
		if yes("derives") {
			d := broker.Derivation{V: 1, Target: "/svaret", Title: "Svarets tittel", Rows: "/rader", Op: broker.Sum, Value: "/verdi", Empty: "17",
				Where: []broker.RowCondition{{Field: "/slag", In: []string{"lønn"}, Absent: broker.AbsentSkips}, {Field: "/dato", From: "2026-01", Before: "2026-07"}, {Field: "/tall", AtLeast: "3", Below: "9"}}}
			said("(/svaret)", "Svarets tittel", "/rader", "/verdi", "17", "/slag", "lønn", "/dato", "2026-01", "2026-07", "/tall", "3", "9")
			if yes("bands") {
				d.Bands = []broker.Band{{Name: "lavt", Below: "1000"}, {Name: "høyt"}}
				said("lavt", "1000", "høyt")
			} else {
				d.AtLeast = "4711"
				said("4711")
			}
			p.Derivations = append(p.Derivations, d)
		}
		if yes("household") {
			p.Fields, p.Derivations = nil, nil
			want = slices.DeleteFunc(want, func(string) bool { return true })
			p.Household = &broker.Household{V: 1, Least: 2, Most: 9, Missing: broker.AbsentSkips,
				Each:    []broker.Derivation{{V: 1, Target: "/hver", Title: "Hver enkelt", Op: broker.Count, Rows: "/rader"}},
				Answers: []broker.Derivation{{V: 1, Target: "/sammen", Title: "Alle sammen", Op: broker.Sum, Value: "/hver", Above: "815"}}}
			said("(/hver)", "Hver enkelt", "(/sammen)", "Alle sammen", "815", " 2 ", " 9 ")
		}
		if yes("filters") {
			p.Filter = []broker.Condition{{Attribute: "municipality", In: []string{"0301", "4601"}}, {Attribute: "period", NotIn: []string{"2020-13"}}}
			said("municipality", "0301", "4601", "period", "2020-13")
		}
		if yes("shields") {
			p.Shielding = &broker.Shielding{When: broker.Condition{Attribute: "protected", NotIn: []string{"usikker"}}, Remove: []broker.Pointer{"/bort/her"}}
			said("protected", "usikker", "(/bort/her)")
		}
		put(p)
		a := broker.Agreement{ID: "tilfeldig", Provider: "974761076", Consumer: "921234554", Dataset: "inntekt", Package: p.Ref(), Purpose: "et-formål",
			Responsibility: broker.Responsibility{ProviderController: "974761076", ConsumerController: "921234554", Locations: []broker.Country{"SE"}},
			Cost:           broker.Cost{Model: broker.PerRecord, Payer: "921234554", Ceiling: rapid.Int64Range(0, 999).Draw(t, "ceiling")},
			Corrections:    rapid.SampledFrom([]broker.Corrections{broker.DeliverCorrections, broker.NotifyCorrections, broker.RefuseCorrections}).Draw(t, "corrections"),
			Status:         broker.Proposed, Valid: broker.Interval{From: at.AddDate(-1, 0, 0)}}
		said("et-formål", "974761076", "921234554", "SE")
		if a.Cost.Ceiling > 0 {
			said(fmt.Sprint(a.Cost.Ceiling))
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "bases") {
			b := broker.LegalBasis{ID: broker.LegalBasisID(fmt.Sprintf("hjemmel-%d", i)), Type: broker.Lov, Title: fmt.Sprintf("Hjemmel nummer %d", i), GDPR: "A6-1-c",
				ELI: fmt.Sprintf("https://lovdata.no/eli/lov/1999/01/01/%d", i+1), Paragraph: fmt.Sprintf("§ %d-%d", i+3, i+8),
				Sides: []broker.Side{broker.Disclosure, broker.Collection}, Datasets: []broker.DatasetID{"inntekt"}, Purposes: []broker.Purpose{"et-formål"}, Recipients: []string{"kommune"},
				RequiresCase: yes("case"), Valid: broker.Interval{From: when("from")}, Assessed: broker.Assessment{By: fmt.Sprintf("Avdeling %d", i), At: when("assessed"), Note: fmt.Sprintf("Merknaden %d.", i)}}
			said(string(b.ID), b.Title, b.ELI, b.Paragraph, b.Assessed.By, b.Assessed.Note)
			if yes("rests") {
				b.Assessed.RestsOn = []broker.AssessmentID{v.ID}
				said(string(v.ID), v.Title, v.Question, v.Conclusion, "Forarbeidet punkt 7 (https://lovdata.no/eli/lov/2000/01/01/1)", v.By)
			}
			if yes("consent") {
				b.Type, b.ConsentResource = broker.Samtykke, "ressurs-i-altinn"
				b.ConsentMetadata = map[string]string{"inntektsaar": "2025", "bank": broker.AnyMetadata}
				a.Justification = "Valget er fritt, og her står hvorfor."
				said(b.ConsentResource, a.Justification, "inntektsaar", "2025", "bank")
			}
			if yes("about") {
				b.About = &broker.AboutBound{Attribute: "period", From: "2019-05", To: "2031-06"}
				said("2019-05", "2031-06")
			}
			put(b)
			a.Bases = append(a.Bases, b.ID)
		}
		if yes("supplier") {
			a.Supplier = "313876144"
			said("313876144")
			if yes("delegated") {
				put(broker.Delegation{ID: "fullmakt-x", From: a.Consumer, To: a.Supplier, Datasets: []broker.DatasetID{"inntekt"}, Valid: broker.Interval{From: when("delegated from")}})
				said("fullmakt-x")
			}
		}
		put(a)
		events, err := st.Link(at, "test", changes...)
		if err != nil {
			t.Fatalf("%v", err)
		}
		after, err := st.Preview(events)
		if err != nil {
			t.Fatalf("%v", err)
		}
		in := &inwords.Input{State: after, Agreement: a.ID, At: at, Policy: answers()}
		for _, r := range in.Policy.Reasons {
			said("[" + string(r.Code) + "]")
		}
		sections, lines := []string(nil), 0
		for _, language := range inwords.Languages {
			d, text := words(t, in, language)
			for _, s := range want {
				if !strings.Contains(text, s) {
					t.Fatalf("%s: %q is not said:\n%s", language, s, text)
				}
			}
			for _, bad := range []string{"%!", "  ", "«»", "“”"} {
				if strings.Contains(text, bad) {
					t.Fatalf("%s: %q is said:\n%s", language, bad, text)
				}
			}
			// The three say the same things, in the same order.
			var ids []string
			n := 0
			for _, s := range d.Sections {
				ids, n = append(ids, s.ID), n+len(s.Lines)
			}
			if sections != nil && (!slices.Equal(ids, sections) || n != lines) {
				t.Fatalf("%s says other things: %v, %d lines and not %d", language, ids, n, lines)
			}
			sections, lines = ids, n
		}
	})
}

// What a citizen sees later, and where protection is looked up, is said in each language.
func TestLaterAndRegisterInWords(t *testing.T) {
	st := demo(t)
	a := *st.Agreement("oslo-sosialhjelp")
	a.Visibility = &broker.Visibility{Days: 30, ELI: "https://lovdata.no/eli/lov/2018/06/15/38", Paragraph: "§ 16"}
	c, err := registry.Put(a)
	if err != nil {
		t.Fatal(err)
	}
	fold(t, st, c)
	d := *st.Dataset(a.Dataset)
	shield := st.Package(a.Package).Shielding
	if shield == nil {
		t.Fatal("the demonstration's package shields nothing")
	}
	d.Attributes = slices.Clone(d.Attributes)
	for i := range d.Attributes {
		if d.Attributes[i].Name == shield.When.Attribute {
			d.Attributes[i] = broker.Attribute{Name: shield.When.Attribute, Register: broker.ProtectionRegister}
		}
	}
	if c, err = registry.Put(d); err != nil {
		t.Fatal(err)
	}
	fold(t, st, c)
	for language, want := range map[string][]string{
		"nb": {"30 dager etterpå", "§ 16", "folkeregisterets opplysninger om vern"},
		"nn": {"30 dagar etterpå", "§ 16", "opplysningane om vern frå folkeregisteret"},
		"en": {"30 days later", "§ 16", "what the population register says of protection"},
	} {
		_, text := words(t, &inwords.Input{State: st, Agreement: a.ID, At: at, Policy: answers()}, language)
		text = strings.Join(strings.Fields(text), " ")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q is not said in\n%s", language, w, text)
			}
		}
	}
}
