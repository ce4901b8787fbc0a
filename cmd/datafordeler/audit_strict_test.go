package main

import (
	"strings"
	"testing"

	"datafordeler/broker/ledger"
)

// --strict stops at each thing that is no fault, names it, and at nothing else.
func TestStrict(t *testing.T) {
	policy := &ledger.Policy{Need: 2}
	if all := strictly(&ledger.Report{Entries: 7, Checkpoints: 3}, policy, 0); len(all) != 0 {
		t.Errorf("a ledger without such: %v", all)
	}
	for kind, c := range map[string]struct {
		report    ledger.Report
		unentered int64
		says      string
	}{
		"overlaps":          {ledger.Report{OverlapCount: 3}, 0, "3 entries are labelled as overlapping"},
		"skips":             {ledger.Report{SkipCount: 1}, 0, "1 entries are labelled as skipping"},
		"refused":           {ledger.Report{ControlRefused: 1}, 0, "1 control events were refused"},
		"uncovered":         {ledger.Report{Uncovered: 2}, 0, "2 entries are under no head"},
		"unentered":         {ledger.Report{}, 4, "4 records of decisions are in no entry"},
		"too_few_witnesses": {ledger.Report{Awaiting: 1}, 0, "fewer witnesses than the 2 needed"},
	} {
		all := strictly(&c.report, policy, c.unentered)
		if len(all) != 1 || all[0].Kind != kind || !strings.Contains(strictError(all).Error(), c.says) {
			t.Errorf("%s: %v", kind, all)
		}
	}
}
