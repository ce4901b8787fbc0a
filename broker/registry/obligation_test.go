package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// asked is a registry with agreements by consent and without, for two consumers.
func asked(t testing.TB) *State {
	s, _ := everything(t.(*testing.T))
	day := func(d int) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC) }
	keep := &broker.OnWithdrawal{Do: broker.KeepWithdrawn, Days: 14, ELI: "https://lovdata.no/eli/lov/2004/11/19/73", Paragraph: "§ 13"}
	for id, a := range map[broker.AgreementID]broker.Agreement{
		"ask-delete":  {Status: broker.Active, Bases: []broker.LegalBasisID{"samtykke"}},
		"ask-keep":    {Status: broker.Suspended, Bases: []broker.LegalBasisID{"samtykke"}, OnWithdrawal: keep},
		"ask-stop":    {Status: broker.Ended, Bases: []broker.LegalBasisID{"lov", "samtykke"}, OnWithdrawal: &broker.OnWithdrawal{Do: broker.StopUsing, Days: 1}},
		"by-law":      {Status: broker.Active, Bases: []broker.LegalBasisID{"lov"}},
		"never":       {Status: broker.Proposed, Bases: []broker.LegalBasisID{"samtykke"}},
		"not-yet":     {Status: broker.Accepted, Bases: []broker.LegalBasisID{"samtykke"}},
		"other-asker": {Status: broker.Active, Bases: []broker.LegalBasisID{"samtykke"}, Consumer: "313876144"},
	} {
		a.ID, a.Provider, a.Dataset, a.Package, a.Purpose, a.Corrections = id, "974761076", "d", broker.PackageRef{ID: "r", Version: 1}, "laan", broker.DeliverCorrections
		if a.Consumer == "" {
			a.Consumer = "964338531"
		}
		fold(t, s, must(s.Link(day(2), "test", must(Put(a))))...)
	}
	return s
}

// What the fold keeps of obligations is what one would work out of the log by hand:
// whom a withdrawal obliges, to what and until when, and what was answered.
func TestObligationsAreThoseOfTheLog(t *testing.T) {
	duties := map[broker.AgreementID]broker.OnWithdrawal{
		"ask-delete": broker.DeleteOnWithdrawal,
		"ask-keep":   {Do: broker.KeepWithdrawn, Days: 14, ELI: "https://lovdata.no/eli/lov/2004/11/19/73", Paragraph: "§ 13"},
		"ask-stop":   {Do: broker.StopUsing, Days: 1},
	}
	type key struct {
		consent   broker.ConsentID
		agreement broker.AgreementID
	}
	runs := 0
	rapid.Check(t, func(r *rapid.T) {
		s := asked(t)
		runs++
		given, withdrawn := map[broker.ConsentID]string{}, map[broker.ConsentID]time.Time{}
		before := slices.Collect(s.ObligationsAfter(0))
		start := s.Revision()
		receipts := map[key]Receipt{}
		var order []key
		at := time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)
		for i := range rapid.IntRange(1, 40).Draw(r, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(1, 72).Draw(r, "hours")) * time.Hour)
			do := func(c Change) error {
				e := must(s.Link(at, "test", c))[0]
				if err := s.Check(e); err != nil {
					return err
				}
				_, err := s.Fold(e)
				return err
			}
			switch rapid.SampledFrom([]string{"give", "withdraw", "receipt", "receipt"}).Draw(r, "do") {
			case "give":
				id, who := broker.ConsentID(fmt.Sprint("ask-", i)), rapid.SampledFrom([]string{"anna", "per"}).Draw(r, "who")
				if err := do(GiveConsent(broker.Consent{ID: id, Subject: subjectNamed(who), Consumer: "964338531", Dataset: "d", Purpose: "laan", Valid: broker.Interval{From: at}})); err != nil {
					r.Fatal(err)
				}
				given[id] = who
			case "withdraw":
				if len(given) == 0 {
					continue
				}
				id := rapid.SampledFrom(slices.Sorted(maps.Keys(given))).Draw(r, "consent")
				_, twice := withdrawn[id]
				if err := do(WithdrawConsent(id, at)); (err != nil) != twice {
					r.Fatalf("withdrawn before: %v; %v", twice, err)
				}
				if twice {
					continue
				}
				withdrawn[id] = at
				got := s.ObligationsOf(id)
				if len(got) != len(duties) {
					r.Fatalf("%d are obliged, want %d: %v", len(got), len(duties), got)
				}
				for _, o := range got {
					if o.OnWithdrawal != duties[o.Agreement] || !o.Since.Equal(at) || !o.Due.Equal(at.AddDate(0, 0, duties[o.Agreement].Days)) || o.Revision != s.Revision() || o.Receipt != nil {
						r.Fatalf("%+v", o)
					}
					order = append(order, key{id, o.Agreement})
				}
			case "receipt":
				if len(given) == 0 {
					continue
				}
				k := key{rapid.SampledFrom(slices.Sorted(maps.Keys(given))).Draw(r, "consent"), rapid.SampledFrom([]broker.AgreementID{"ask-delete", "ask-keep", "ask-stop", "by-law", "never", "not-yet", "other-asker"}).Draw(r, "agreement")}
				v := Receipt{Consent: k.consent, Agreement: k.agreement, Did: rapid.SampledFrom(append(slices.Clone(Deeds), "sold")).Draw(r, "did")}
				if rapid.Bool().Draw(r, "law") {
					v.ELI, v.Paragraph = "https://lovdata.no/eli/lov/2004/11/19/73", "§ 13"
				}
				_, isWithdrawn := withdrawn[k.consent]
				d, isDuty := duties[k.agreement]
				another := false
				for id, who := range given {
					_, gone := withdrawn[id]
					another = another || id != k.consent && who == given[k.consent] && !gone
				}
				old, answered := receipts[k]
				final := func(d Deed) bool { return d == DidDelete || d == HadNothing }
				may := isWithdrawn && isDuty && v.Did != "sold" &&
					(v.Did != DidStop || d.Do == broker.StopUsing) &&
					(v.Did == DidKeep || v.ELI == "") && (v.Did != DidKeep || d.Do == broker.KeepWithdrawn || v.ELI != "") &&
					(v.Did != Consented || another) &&
					(!answered || !final(old.Did) && final(v.Did))
				if err := do(GiveReceipt(v)); (err == nil) != may {
					r.Fatalf("%+v after %+v: %v, want %v", v, old, err, may)
				}
				if may {
					receipts[k] = v
				}
			}
		}
		i, open, overdue := 0, 0, 0
		for o := range s.ObligationsAfter(start) {
			k := key{o.Consent, o.Agreement}
			want, answered := receipts[k]
			if (o.Receipt != nil) != answered || answered && (o.Receipt.Did != want.Did || o.Receipt.ELI != want.ELI) {
				r.Fatalf("%v: receipt %+v, want %+v", k, o.Receipt, want)
			}
			if !answered {
				if open++; at.After(o.Due) {
					overdue++
				}
			}
			if o.Overdue(at) != (!answered && at.After(withdrawn[o.Consent].AddDate(0, 0, duties[o.Agreement].Days))) {
				r.Fatalf("%+v is not overdue when it should be, or the other way", o)
			}
			if i >= len(order) || o.Consent != order[i].consent {
				r.Fatalf("%d: %v is out of order", i, k)
			}
			i++
		}
		if i != len(order) {
			r.Fatalf("%d stand after what was there before, want %d", i, len(order))
		}
		if o, late := s.ObligationsOpen(at); o != open || late < overdue || late > overdue+len(before) {
			r.Fatalf("%d open and %d overdue, want %d and %d", o, late, open, overdue)
		}
		if n := len(slices.Collect(s.ObligationsAfter(0))); n != len(before)+len(order) {
			r.Fatalf("%d in all", n)
		}
	})
}

// Nobody is obliged to what the law forbids, and nothing that could be a person's number
// comes into the log.
func TestDutiesAndReceiptsAreHeldToTheirWords(t *testing.T) {
	const act = "https://lovdata.no/eli/lov/2004/11/19/73"
	for want, d := range map[string]broker.OnWithdrawal{
		"nothing to do called":   {Do: "sell"},
		"40 days":                {Do: broker.DeleteWithdrawn, Days: 40},
		"-1 days":                {Do: broker.DeleteWithdrawn, Days: -1},
		"kept by a law":          {Do: broker.KeepWithdrawn, Days: 3},
		"cite it in eli":         {Do: broker.KeepWithdrawn, ELI: act},
		"only for what is kept":  {Do: broker.StopUsing, ELI: act, Paragraph: "§ 1"},
		"Legislation Identifier": {Do: broker.KeepWithdrawn, ELI: "lov/2004", Paragraph: "§ 1"},
		"eleven digits":          {Do: broker.KeepWithdrawn, ELI: act, Paragraph: "§ 01815012345"},
	} {
		if got := refuseDuty(&d); !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", d, got, want)
		}
	}
	for _, d := range []*broker.OnWithdrawal{nil, {Do: broker.StopUsing}, {Do: broker.DeleteWithdrawn, Days: 31}, {Do: broker.KeepWithdrawn, ELI: act, Paragraph: "§ 13"}} {
		if got := refuseDuty(d); got != "" {
			t.Errorf("%+v: %s", d, got)
		}
	}
	s := asked(t)
	at := s.At().Add(time.Hour)
	fold(t, s, must(s.Link(at, "test", GiveConsent(broker.Consent{ID: "kk", Subject: subjectNamed("per"), Consumer: "964338531", Dataset: "d", Purpose: "laan", Valid: broker.Interval{From: at}}), WithdrawConsent("kk", at)))...)
	for want, r := range map[string]Receipt{
		"eleven digits": {Did: DidDelete, Note: "gjaldt 01815012345"},
		"500 bytes":     {Did: DidDelete, Note: strings.Repeat("x", 501)},
		"cite it":       {Did: DidKeep},
		"Identifier":    {Did: DidKeep, ELI: "http://lovdata.no", Paragraph: "§ 1"},
	} {
		r.Consent, r.Agreement = "kk", "ask-delete"
		if err := s.Check(must(s.Link(at, "test", GiveReceipt(r)))[0]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
}
