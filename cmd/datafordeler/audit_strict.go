package main

import (
	"fmt"
	"strings"

	"datafordeler/broker/ledger"
)

// strictness is what is no fault of a ledger, and what audit verify --strict does
// not let pass.
type strictness struct {
	Kind  string `json:"kind"` // overlaps, skips, refused, uncovered, unentered or too_few_witnesses
	Count int64  `json:"count"`
	Text  string `json:"text"`
}

// strictly lists what a report has of it; unentered are records of decisions that
// stand in a running broker and in no entry yet.
func strictly(r *ledger.Report, p *ledger.Policy, unentered int64) []strictness {
	all := []strictness{
		{"overlaps", r.OverlapCount, "entries are labelled as overlapping: records were decided twice, after an unclean stop"},
		{"skips", r.SkipCount, "entries are labelled as skipping: records were gone before they were decided"},
		{"refused", r.ControlRefused, "control events were refused for what they say: a faulty writer made them"},
		{"uncovered", r.Uncovered, "entries are under no head that counts yet"},
		{"unentered", unentered, "records of decisions are in no entry yet"},
		{"too_few_witnesses", r.Awaiting, fmt.Sprintf("of the newest heads are cosigned by fewer witnesses than the %d needed", p.Need)},
	}
	out := []strictness{}
	for _, s := range all {
		if s.Count > 0 {
			out = append(out, s)
		}
	}
	return out
}

// strictError is that all fits and --strict is not content.
type strictError []strictness

func (e strictError) Error() string {
	var b strings.Builder
	b.WriteString("nothing is at fault, and --strict does not let pass:")
	for i, s := range e {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " %s %s", thousands(s.Count), s.Text)
	}
	return b.String()
}
