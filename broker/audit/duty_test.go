package audit

import (
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// Who processes the data for whom and where, and whom to ask, is told in each language;
// of an agreement that says nothing of it, nothing is told.
func TestResponsibilityIsExplained(t *testing.T) {
	text := func(lang string, r broker.Responsibility, why string) string {
		t.Helper()
		d := &broker.Decision{Outcome: broker.Outcome{Permit: true}, Package: broker.PackageRef{ID: "p", Version: 1}}
		x := &Explanation{decision: d, state: registry.New(), Terms: &broker.Agreement{ID: "a", Provider: "974761076", Consumer: "958935420", Responsibility: r, Justification: why}}
		var b strings.Builder
		if err := x.Text(&b, lang); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	full := broker.Responsibility{ConsumerController: "958935420", ConsumerContact: "post@example.test", Processors: []broker.Processor{
		{Organisation: "313876144", For: "958935420", Task: "drift", Contract: "sak 2026/17", Locations: []broker.Country{"NO", "IS"}}}}
	for lang, want := range map[string][3]string{
		"nb": {"  Spørsmål: ikke oppgitt (gir), post@example.test (mottar)\n", "  Databehandler for 958935420: 313876144, drift (sak 2026/17), i NO IS\n", "  Hvorfor det bes om samtykke: fritt valg\n"},
		"nn": {"  Spørsmål: ikkje oppgjeve (gjev), post@example.test (tek imot)\n", "  Databehandlar for 958935420: 313876144, drift (sak 2026/17), i NO IS\n", "  Kvifor det blir bede om samtykke: fritt valg\n"},
		"en": {"  Questions: not stated (gives), post@example.test (receives)\n", "  Processor for 958935420: 313876144, drift (sak 2026/17), in NO IS\n", "  Why consent is asked for: fritt valg\n"},
	} {
		got, bare := text(lang, full, "fritt valg"), text(lang, broker.Responsibility{}, "")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s lacks %q:\n%s", lang, w, got)
			}
			if head, _, _ := strings.Cut(w, ":"); strings.Contains(bare, head) {
				t.Errorf("%s tells of %q where nothing is said:\n%s", lang, head, bare)
			}
		}
	}
}

// That a party was no more is why an agreement counts as ended; it is said in words.
func TestEndedPartyIsExplained(t *testing.T) {
	text := func(lang string, u *registry.UnitEnd) string {
		t.Helper()
		x := &Explanation{decision: &broker.Decision{Outcome: broker.Outcome{Reasons: []broker.Reason{"agreement_not_active"}}, Package: broker.PackageRef{ID: "p", Version: 1}},
			state: registry.New(), Terms: &broker.Agreement{ID: "a", Provider: "974761076", Consumer: "958935420", Status: broker.Ended}, Ended: u}
		var b strings.Builder
		if err := x.Text(&b, lang); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	on := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	merged, deleted := &registry.UnitEnd{Organisation: "958935420", On: on, Successor: "964338531"}, &registry.UnitEnd{Organisation: "958935420", On: on}
	for lang, want := range map[string][2]string{
		"nb": {"958935420 ble slått sammen med 964338531 2026-11-20", "958935420 ble slettet fra enhetsregisteret 2026-11-20"},
		"nn": {"958935420 vart slått saman med 964338531 2026-11-20", "958935420 vart sletta frå einingsregisteret 2026-11-20"},
		"en": {"958935420 was merged into 964338531 on 2026-11-20", "958935420 was deleted from its register on 2026-11-20"},
	} {
		if got := text(lang, merged); !strings.Contains(got, want[0]) {
			t.Errorf("%s lacks %q:\n%s", lang, want[0], got)
		}
		if got := text(lang, deleted); !strings.Contains(got, want[1]) {
			t.Errorf("%s lacks %q:\n%s", lang, want[1], got)
		}
		if got := text(lang, nil); strings.Contains(got, "2026-11-20") {
			t.Errorf("%s:\n%s", lang, got)
		}
	}
}
