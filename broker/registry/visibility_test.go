package registry

import (
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

// Nothing is hidden from a citizen without a law, or for ever.
func TestVisibilityRests(t *testing.T) {
	const eli = "https://lovdata.no/eli/lov/2018/06/15/38"
	for want, v := range map[string]*broker.Visibility{
		"0 days":                       {ELI: eli, Paragraph: "§ 16"},
		"732 days":                     {Days: 732, ELI: eli, Paragraph: "§ 16"},
		"-1 days":                      {Days: -1, ELI: eli, Paragraph: "§ 16"},
		"cite it":                      {Days: 1, Paragraph: "§ 16"},
		"eli and paragraph":            {Days: 1, ELI: eli, Paragraph: " "},
		"European Legislation":         {Days: 1, ELI: "loven", Paragraph: "§ 16"},
		"eleven digits in a row; want": {Days: 1, ELI: eli, Paragraph: "§ 07820282307"},
	} {
		if got := refuseVisibility(v); !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", v, got, want)
		}
	}
	for _, v := range []*broker.Visibility{nil, {Days: 1, ELI: eli, Paragraph: "§ 16"}, {Days: 731, ELI: eli, Paragraph: "§ 16"}} {
		if got := refuseVisibility(v); got != "" {
			t.Errorf("%+v: %s", v, got)
		}
	}
	a, at := broker.Agreement{}, time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	if !a.Visible(at).Equal(at) {
		t.Error("what nothing hides waits")
	}
	if a.Visibility = (&broker.Visibility{Days: 9}); !a.Visible(at).Equal(at.AddDate(0, 0, 9)) {
		t.Errorf("%v", a.Visible(at))
	}
}

// A file that hides without a law is refused with its line, and the fold refuses it too.
func TestVisibilityInFiles(t *testing.T) {
	s, _ := base(t)
	docs, faults := read("later.yaml", []byte(strings.Replace(laterAgreement, "PARAGRAPH", "''", 1)))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if _, err := NewPlan(s, docs, "test", now); err == nil || !strings.Contains(err.Error(), "cite it in eli and paragraph") || !strings.Contains(err.Error(), "later.yaml") {
		t.Errorf("%v", err)
	}
	docs, faults = read("later.yaml", []byte(strings.Replace(laterAgreement, "PARAGRAPH", "§ 16", 1)))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	apply(t, s, docs)
	if v := s.Agreement("later").Visibility; v == nil || v.Days != 30 {
		t.Errorf("%+v", v)
	}
	a := *s.Agreement("later")
	a.Visibility = &broker.Visibility{Days: 5}
	if e := must(s.Link(now, "test", must(Put(a)))); s.Check(e[0]) == nil {
		t.Error("the fold takes one without a law")
	}
}

const laterAgreement = `
kind: agreement
id: later
provider: "974761076"
consumer: "964338531"
dataset: inntekt
package: {id: liten, version: 1}
purpose: sosialhjelp
bases: [lov]
visibility: {days: 30, eli: "https://lovdata.no/eli/lov/2018/06/15/38", paragraph: PARAGRAPH}
responsibility: {}
cost: {ceiling: 40}
corrections: deliver
status: active
valid: {from: 2020-01-01, to: 2021-01-01}
`
