package flow

import (
	"time"

	"datafordeler/broker"
)

// tally counts one partition's part of a transaction, or a whole one. It goes
// into the metrics and the totals when the transaction has committed, never
// before.
type tally struct {
	records, outOfScope, repeated, bytesIn int64
	policy                                 time.Duration // spent in policy, estimated
	asked                                  int           // how often

	rejected map[broker.RejectionCode]int64
	of       *world               // whose routes subs has
	subs     map[*route]*subTally // kept from one transaction to the next
	touched  []*subTally          // those of this one
	gen      uint64               // this one
}

type subTally struct {
	gen   uint64 // whose counts these are
	route *route

	inScope, permitted, shielded int64
	bytesIn, bytesOut            int64
	denied                       []denials
}

// denials are counted by their first reason.
type denials struct {
	reason broker.Reason
	n      int64
}

// policySample is of how many decisions one is timed: to read a clock twice
// takes as long as a compiled policy.
const policySample = 64

func (t *tally) timePolicy() bool {
	t.asked++
	return t.asked%policySample == 1
}

// reset begins anew, for the routes of a world: those of another are let go of.
func (t *tally) reset(now *world) {
	t.records, t.outOfScope, t.repeated, t.bytesIn, t.policy = 0, 0, 0, 0, 0
	if t.rejected == nil {
		t.rejected = map[broker.RejectionCode]int64{}
	}
	clear(t.touched)
	if t.subs == nil || t.of != now {
		t.of, t.subs = now, map[*route]*subTally{}
	}
	clear(t.rejected)
	t.touched = t.touched[:0]
	t.gen++
}

func (t *tally) sub(r *route) *subTally {
	s := t.subs[r]
	if s == nil {
		s = &subTally{}
		t.subs[r] = s
	}
	if s.gen != t.gen {
		*s = subTally{gen: t.gen, route: r, denied: s.denied[:0]}
		t.touched = append(t.touched, s)
	}
	return s
}

func (s *subTally) deny(reason broker.Reason, n int64) {
	for i := range s.denied {
		if s.denied[i].reason == reason {
			s.denied[i].n += n
			return
		}
	}
	s.denied = append(s.denied, denials{reason, n})
}

// add counts what another has counted.
func (t *tally) add(o *tally) {
	t.records += o.records
	t.outOfScope += o.outOfScope
	t.repeated += o.repeated
	t.bytesIn += o.bytesIn
	t.policy += o.policy
	for code, n := range o.rejected {
		t.rejected[code] += n
	}
	for _, from := range o.touched {
		to := t.sub(from.route)
		to.inScope += from.inScope
		to.permitted += from.permitted
		to.shielded += from.shielded
		to.bytesIn += from.bytesIn
		to.bytesOut += from.bytesOut
		for _, d := range from.denied {
			to.deny(d.reason, d.n)
		}
	}
}
