package registry

import (
	"errors"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

// rights are to resources, without bounds.
func rights(resources ...string) (all []ForeignRight) {
	for _, r := range resources {
		all = append(all, ForeignRight{Resource: r})
	}
	return all
}

// A consent that is bounded is one to a basis that is bounded by the same.
func TestTakeBoundedConsent(t *testing.T) {
	s, _ := everything(t)
	for id, bound := range map[broker.LegalBasisID]map[string]string{"ett": {"inntektsaar": "2025"}, "alle": {"inntektsaar": broker.AnyMetadata, "bank": "x"}} {
		fold(t, s, must(s.Link(s.At(), "test", must(Put(broker.LegalBasis{ID: id, Type: broker.Samtykke, Sides: []broker.Side{broker.Disclosure}, Title: "Samtykke", GDPR: "A6-1-a",
			Datasets: []broker.DatasetID{"d"}, Purposes: []broker.Purpose{broker.Purpose(id)}, ConsentResource: "laan", ConsentMetadata: bound, Assessed: broker.Assessment{By: "test"}}))))...)
	}
	for _, x := range []struct {
		bound map[string]string
		want  broker.Purpose
	}{
		{map[string]string{"inntektsaar": "2025"}, "ett"},
		{map[string]string{"inntektsaar": "2024", "bank": "x"}, "alle"},
		{map[string]string{"inntektsaar": "2025", "bank": "x"}, "alle"},
		{map[string]string{"inntektsaar": "2024"}, ""},
		{map[string]string{"inntektsaar": broker.AnyMetadata}, ""},
		{map[string]string{"inntektsaar": "2025", "beloep": "1"}, ""},
		{map[string]string{"bank": "2025"}, ""},
		{map[string]string{"inntektsaar": "2024", "bank": "y"}, ""},
		{nil, ""},
	} {
		f := ForeignConsent{External: "5f0f6f5e-1f5b-4a39-9a9b-0d3b6b2c7a10", Subject: subjectNamed("a"), Consumer: "964338531",
			Valid: broker.Interval{From: s.At(), To: s.At().Add(time.Hour)}, Rights: []ForeignRight{{Resource: "laan", Metadata: x.bound}}}
		_, changes, err := s.TakeConsent(f)
		if x.want == "" {
			if err == nil {
				t.Errorf("%v: %d changes", x.bound, len(changes))
			}
			continue
		}
		if err != nil || len(changes) != 1 || !strings.Contains(string(changes[0].Data), `"purpose":"`+string(x.want)+`"`) {
			t.Errorf("%v: %s, %v", x.bound, changes, err)
		}
	}
}

func TestTakeConsent(t *testing.T) {
	s, _ := everything(t)
	do := func(changes ...Change) {
		t.Helper()
		fold(t, s, must(s.Link(s.At(), "test", changes...))...)
	}
	declare := func(b broker.LegalBasis) Change { return must(Put(b)) }
	for _, d := range []broker.DatasetID{"d", "e"} {
		do(declare(broker.LegalBasis{ID: broker.LegalBasisID("samtykke-" + d), Type: broker.Samtykke, Sides: []broker.Side{broker.Disclosure}, Title: "Samtykke", GDPR: "A6-1-a",
			Datasets: []broker.DatasetID{d}, Purposes: []broker.Purpose{"laan"}, ConsentResource: "laan-i-banken", Assessed: broker.Assessment{By: "test"}}))
	}
	do(declare(broker.LegalBasis{ID: "annet", Type: broker.Samtykke, Sides: []broker.Side{broker.Disclosure}, Title: "Samtykke", GDPR: "A6-1-a",
		Datasets: []broker.DatasetID{"d"}, Purposes: []broker.Purpose{"barnehage"}, ConsentResource: "annet", Assessed: broker.Assessment{By: "test"}}))
	now := s.At()
	f := ForeignConsent{External: "5F0F6F5E-1f5b-4a39-9a9b-0d3b6b2c7a10", Subject: subjectNamed("a"), Consumer: "964338531",
		Valid: broker.Interval{From: now.Add(-time.Hour), To: now.Add(time.Hour)}, Rights: rights("laan-i-banken", "laan-i-banken")}
	stands, given, err := s.TakeConsent(f)
	if err != nil || len(stands) != 2 {
		t.Fatal(stands, err)
	}
	if len(given) != 2 {
		t.Fatalf("%d changes", len(given))
	}
	do(given...)
	for _, d := range []broker.DatasetID{"d", "e"} {
		got := s.Consents(nil, "964338531", d, "laan", f.Subject)
		if len(got) != 1 || got[0].Valid != f.Valid || got[0].External != "5f0f6f5e-1f5b-4a39-9a9b-0d3b6b2c7a10" {
			t.Errorf("dataset %s: %+v", d, got)
		}
	}
	// Again, and in other letters: nothing more.
	if stands, again, err := s.TakeConsent(f); err != nil || len(again) != 0 || len(stands) != 2 {
		t.Errorf("%d changes: %v", len(again), err)
	}
	// What else one may try.
	for what, wrong := range map[string]func(*ForeignConsent){
		"another person's":         func(f *ForeignConsent) { f.Subject = subjectNamed("b") },
		"to another":               func(f *ForeignConsent) { f.Consumer = "313876144" },
		"to nobody known":          func(f *ForeignConsent) { f.Consumer = "310149942" },
		"of nothing":               func(f *ForeignConsent) { f.Rights = nil },
		"of something else":        func(f *ForeignConsent) { f.Rights = append(f.Rights, rights("inntekt")...) },
		"of an empty resource":     func(f *ForeignConsent) { f.Rights = rights("") },
		"without an identifier":    func(f *ForeignConsent) { f.External = "" },
		"and one more it knows of": func(f *ForeignConsent) { f.Rights = rights("annet", "?") },
	} {
		g := f
		wrong(&g)
		if _, changes, err := s.TakeConsent(g); err == nil {
			t.Errorf("%s: %d changes", what, len(changes))
		}
	}
	// Withdrawn where it was given: all of it, once, and for good.
	do(s.EndForeign(f.External, s.At(), s.At(), false)...)
	for _, d := range []broker.DatasetID{"d", "e"} {
		if got := s.Consents(nil, "964338531", d, "laan", f.Subject); got[0].Withdrawn.IsZero() {
			t.Errorf("dataset %s: it stands", d)
		}
	}
	if more := s.EndForeign(f.External, s.At(), s.At(), false); len(more) != 0 {
		t.Errorf("withdrawn twice: %d", len(more))
	}
	if _, _, err := s.TakeConsent(f); !errors.Is(err, ErrConsentEnded) {
		t.Errorf("given again by its old proof: %v", err)
	}
}
