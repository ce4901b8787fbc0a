package replay

import (
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/flow"
	"datafordeler/broker/intake"
)

const bandText = `kind: package
id: band
version: 1
dataset: d
title: Beløpet, i bånd
fields: [/person]
shielding: {when: {attribute: protected, notIn: ["false"]}, remove: [/amount]}
derivations:
  - {v: 1, target: /band, title: Bånd, op: sum, value: /amount, bands: [{name: lav, below: 3}, {name: høy}]}
tests:
  - {name: lav, record: {amount: 2}, want: {band: lav}}
  - {name: høy, record: {amount: 3}, want: {band: høy}}
assessment: {by: juridisk, at: 2026-01-01, review: 2030-01-01}
---
`

// What was derived is derived again: the fields delivered name the answer, a shielded
// record's do not, and what gave no answer is denied as it was then. A candidate without
// the answer differs by the package, and where there was no answer it permits.
func TestDerived(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.endAll()
	told := strings.Replace(agreementText("told", "all-work", "statute", ""), "id: small", "id: band", 1)
	h.applyText(bandText + told + strings.Replace(toldText, "START", "", 1))
	h.publish(h.record("e1", 1, 2, "4601", false), h.record("e2", 2, 2_000_000_000_000_000_000, "4601", false),
		h.record("e3", 3, 3, "4601", true), h.record("e4", 4, 2_000_000_000_000_000_000, "4601", true))
	got := map[string]int{}
	if err := flow.Decisions(h.ctx, h.engine, h.topics, func(_ *deliver.BatchHeader, d *broker.Decision) error {
		var words []string
		for _, f := range d.Fields {
			words = append(words, string(f))
		}
		for _, r := range d.Outcome.Reasons {
			words = append(words, string(r))
		}
		got[strings.Join(words, " ")]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got["/person /band"] != 1 || got["derivation_failed"] != 1 || got["/skjermet /person"] != 2 {
		t.Fatalf("the broker made %v", got)
	}
	h.same(h.replay(h.options()))
	o := h.options()
	o.Registry = h.documents(strings.Replace(told, "id: band", "id: small", 1))
	r := h.replay(o)
	if r.Faults != 0 || len(r.Unchecked) != 0 {
		t.Fatalf("%+v, %+v", r.FaultSamples, r.Unchecked)
	}
	differ := map[string]int64{}
	for _, d := range r.Differences {
		differ[strings.Join([]string{string(d.Subscription), d.Before, d.After, d.What}, " ")] += d.Count
	}
	if len(differ) != 2 || differ["told permit permit package"] != 3 || differ["told derivation_failed permit "] != 1 {
		t.Errorf("%v", differ)
	}
}
