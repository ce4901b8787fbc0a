package main

import (
	"strings"
	"testing"

	"datafordeler/broker/flow/replay"
)

// Nobody has to be asked only where it is known that no answer changes.
func TestDoubt(t *testing.T) {
	computed := replay.Report{Batches: 9, Records: 90, Decisions: 90, Candidate: true}
	with := func(change func(*replay.Report)) *replay.Report {
		r := computed
		change(&r)
		return &r
	}
	for name, c := range map[string]struct {
		report *replay.Report
		want   string
	}{
		"no change":           {&computed, ""},
		"nothing was decided": {&replay.Report{Candidate: true}, ""},
		"a change":            {with(func(r *replay.Report) { r.Differences = []replay.Difference{{Count: 1}} }), "would change"},
		"a fault":             {with(func(r *replay.Report) { r.Faults = 1 }), "otherwise than recorded"},
		// Of what a candidate cannot even be asked about, most may be concerned.
		"one batch":    {with(func(r *replay.Report) { r.Unchecked = []replay.Unchecked{{What: "candidate", Batches: 1, Records: 10}} }), "not known"},
		"rows alone":   {with(func(r *replay.Report) { r.Unchecked = []replay.Unchecked{{What: "pseudonyms", Records: 10}} }), ""},
		"nothing else": {&replay.Report{Candidate: true, Unchecked: []replay.Unchecked{{What: "gap", Records: 10}}}, "not known"},
	} {
		if got := doubtIn(c.report); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
