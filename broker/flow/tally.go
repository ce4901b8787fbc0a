package flow

import (
	"slices"
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
	of       *world // whose routes are counted
	// touched has the subscriptions that there is something to count of, and
	// place, by the number of a route, where: one more than its place, 0 for none.
	touched []subTally
	place   []int32
}

type subTally struct {
	number int32 // of the route
	route  *route

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
	for i := range t.touched {
		s := &t.touched[i]
		t.place[s.number] = 0
		*s = subTally{denied: s.denied[:0]} // what it has room for is kept
	}
	t.touched = t.touched[:0]
	clear(t.rejected)
	if t.of != now {
		t.of = now
		t.place = slices.Grow(t.place[:0], len(now.numbered))[:len(now.numbered)]
		clear(t.place)
	}
}

// sub counts for the route with a number, until the next call.
func (t *tally) sub(number int32) *subTally {
	if at := t.place[number]; at > 0 {
		return &t.touched[at-1]
	}
	if n := len(t.touched); n < cap(t.touched) {
		t.touched = t.touched[:n+1]
	} else {
		t.touched = append(t.touched, subTally{})
	}
	t.place[number] = int32(len(t.touched))
	s := &t.touched[len(t.touched)-1]
	s.number, s.route = number, t.of.numbered[number]
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

// add counts what another of the same world has counted.
func (t *tally) add(o *tally) {
	t.records += o.records
	t.outOfScope += o.outOfScope
	t.repeated += o.repeated
	t.bytesIn += o.bytesIn
	t.policy += o.policy
	for code, n := range o.rejected {
		t.rejected[code] += n
	}
	for i := range o.touched {
		from := &o.touched[i]
		to := t.sub(from.number)
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
