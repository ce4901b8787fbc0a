package registry

import (
	"strings"
	"testing"

	"datafordeler/broker"
)

// Where a framework asks for four eyes, nobody accedes before another function than
// declared it has approved its terms as they stand; and it goes on asking.
func TestFrameworksByFourEyes(t *testing.T) {
	s, log := regimeBase(t)
	w := &walker{t: t, s: s, log: log, at: now}
	yes := func(side broker.Side, b broker.LegalBasisID) broker.SideAssessment {
		return broker.SideAssessment{Side: side, Basis: b, Holds: true, Note: "n"}
	}
	f := broker.Framework{ID: "f", Title: "F", Provider: skatt, Dataset: "barn", Package: broker.PackageRef{ID: "sum", Version: 1}, Purpose: "foreldrebetaling",
		Bases: []broker.LegalBasisID{"barnelov"}, Cost: broker.Cost{Model: broker.Free}, Corrections: broker.DeliverCorrections, Eligible: []string{"kommune"}, By: "Jus", FourEyes: true,
		Assessments: []broker.SideAssessment{yes(broker.Disclosure, "barnelov"), yes(broker.Collection, "barnelov"), yes(broker.Confidentiality, "barnelov"), yes(broker.Compatibility, "")},
		Mapping:     []broker.FieldMeaning{{Field: "/person", Concept: concepts["/person"]}, {Field: "/sum", Concept: concepts["/sum"]}}}
	refused := func(why string, c Change) {
		t.Helper()
		if err := w.change(c); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("want %q, got %v", why, err)
		}
	}
	do := func(c Change) {
		t.Helper()
		if err := w.change(c); err != nil {
			t.Fatal(err)
		}
	}
	on := func() broker.Digest { return s.FrameworkDigest(s.Framework("f")) }
	approve := func(by string) Change {
		return ApproveFramework(broker.FrameworkApproval{Framework: "f", By: by, On: on()})
	}
	accede := func() Change {
		return Accede(broker.Accession{Framework: "f", Agreement: "f-1", Organisation: by1, By: "Ledelsen", On: on()})
	}
	if refused("is not registered", ApproveFramework(broker.FrameworkApproval{Framework: "f", By: "Avtaler"})); s.AsksFourEyes(skatt, "finnes-ikke") {
		t.Error("four eyes of nothing")
	}
	do(must(Put(f)))
	refused("approval: the terms are not approved", accede())
	refused("another function approves them", approve(" jus "))
	refused("by: the function", approve(""))
	refused("read them again", ApproveFramework(broker.FrameworkApproval{Framework: "f", By: "Avtaler", On: broker.Digest{1}}))
	do(approve("Avtaler"))
	refused("approved as it stands, by Avtaler", approve("Drift"))
	// Other terms are another thing to approve, and so are the same terms by another function.
	f.Cost.Model = broker.PerRecord
	do(must(Put(f)))
	refused("approval: the terms are not approved", accede())
	f.By = "Avtaler"
	do(must(Put(f)))
	refused("another function approves them", approve("Avtaler"))
	do(approve("Jus"))
	// Who may accede is no part of the terms; that four eyes are asked for is not taken back.
	f.Eligible = []string{"kommune", "fylke"}
	do(must(Put(f)))
	f.FourEyes = false
	refused("and goes on to", must(Put(f)))
	do(accede())
	f.ID, f.FourEyes = "g", false
	do(must(Put(f)))
	refused("nothing waits for an approval", ApproveFramework(broker.FrameworkApproval{Framework: "g", By: "Drift", On: s.FrameworkDigest(s.Framework("g"))}))
}
