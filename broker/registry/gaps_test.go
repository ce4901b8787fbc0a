package registry

import (
	"slices"
	"testing"
	"time"

	"datafordeler/broker"
)

// Each reason for which a need has no basis in force, and the side and the bases told.
func TestGaps(t *testing.T) {
	s, log := regimeBase(t)
	w := &walker{t: t, s: s, log: log, at: now}
	put := func(v any) {
		t.Helper()
		if err := w.change(must(Put(v))); err != nil {
			t.Fatal(err)
		}
	}
	empty := *s.datasets["barn"]
	empty.ID, empty.Concepts = "tom", map[broker.Pointer]string{"/sum": "https://begrep.example/tom"}
	put(empty)
	law := *s.bases["barnelov"]
	with := func(change func(*broker.LegalBasis)) *broker.LegalBasis {
		b := law
		change(&b)
		return &b
	}
	all := []broker.Side{broker.Collection, broker.Confidentiality, broker.Disclosure}
	for _, c := range []struct {
		name    string
		basis   *broker.LegalBasis // instead of law
		dataset broker.DatasetID
		concept string
		purpose broker.Purpose
		org     broker.OrgNumber
		why     GapReason
		sides   []broker.Side
	}{
		{"covered", nil, "barn", "", "foreldrebetaling", by1, gapless, nil},
		{"covered, by concept", nil, "", concepts["/sum"], "foreldrebetaling", by1, gapless, nil},
		{"unknown concept", nil, "", "https://begrep.example/annet", "foreldrebetaling", by1, GapNoDataset, nil},
		{"a dataset without law", nil, "tom", "", "foreldrebetaling", by1, GapNoBasis, all},
		{"another purpose", nil, "barn", "", "eiendomsskatt", by1, GapPurpose, all},
		{"another recipient", nil, "barn", "", "foreldrebetaling", "313876144", GapRecipient, all},
		{"one side alone", with(func(b *broker.LegalBasis) { b.Sides = []broker.Side{broker.Disclosure} }), "barn", "", "foreldrebetaling", by1, GapSide, all[:2]},
		{"lapsed", with(func(b *broker.LegalBasis) { b.Valid.From, b.Valid.To = now.Add(-2*time.Hour), now }), "barn", "", "foreldrebetaling", by1, GapLapsed, all},
		{"to come", with(func(b *broker.LegalBasis) { b.Valid.From = now.Add(1) }), "barn", "", "foreldrebetaling", by1, GapNotYet, all},
		{"from now on", with(func(b *broker.LegalBasis) { b.Valid.From = now }), "barn", "", "foreldrebetaling", by1, gapless, nil},
	} {
		if put(law); c.basis != nil {
			put(*c.basis)
		}
		id := broker.NeedID("n-" + broker.NeedID([]byte{byte('a' + len(s.needs))}))
		put(broker.Need{ID: id, Organisation: c.org, Dataset: c.dataset, Concept: c.concept, Purpose: c.purpose, Why: "w", Sector: "s"})
		gaps := s.Gaps(now)
		switch {
		case c.why == gapless && len(gaps) == 0:
		case len(gaps) != 1 || gaps[0].Why != c.why || !slices.Equal(gaps[0].Sides, c.sides) && c.sides != nil || !slices.Equal(gaps[0].Organisations, []broker.OrgNumber{c.org}) || gaps[0].Why.Words(&gaps[0]) == "":
			t.Errorf("%s: %+v", c.name, gaps)
		case c.why == GapNotYet && !gaps[0].From.Equal(now.Add(1)):
			t.Errorf("%s: from %v", c.name, gaps[0].From)
		}
		if err := w.change(CloseNeed(broker.NeedClosure{Need: id, By: "b", Why: "w"})); err != nil {
			t.Fatal(err)
		}
		if len(s.Gaps(now)) != 0 {
			t.Errorf("%s: a closed need has a gap", c.name)
		}
	}
	// Most asked for comes first, and each organisation is counted once.
	put(law)
	put(broker.Need{ID: "few", Organisation: by1, Dataset: "barn", Purpose: "a", Why: "w", Sector: "s"})
	put(broker.Need{ID: "many", Organisation: by1, Dataset: "barn", Purpose: "b", Why: "w", Sector: "s"})
	put(broker.Need{ID: "more", Organisation: "940493021", Dataset: "barn", Purpose: "b", Why: "w", Sector: "t"})
	if err := w.change(CosignNeed(broker.Cosignature{Need: "many", Organisation: "940493021", By: "b"})); err != nil {
		t.Fatal(err)
	}
	if g := s.Gaps(now); len(g) != 2 || g[0].Purpose != "b" || len(g[0].Organisations) != 2 || len(g[0].Sectors) != 2 || len(g[0].Needs) != 2 {
		t.Errorf("%+v", g)
	}
}
