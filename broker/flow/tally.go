package flow

import (
	"time"

	"datafordeler/broker"
)

// tally counts one partition's part of a transaction. It is merged into the
// metrics and the totals when the transaction has committed, never before.
type tally struct {
	outOfScope, repeated, bytesIn int64
	policy                        time.Duration // spent in policy

	rejected map[broker.RejectionCode]int64
	subs     map[*broker.Terms]*subTally
}

type subTally struct {
	inScope, permitted, shielded int64
	bytesIn, bytesOut            int64
	denied                       map[broker.Reason]int64 // by first reason
}

func (t *tally) reset() {
	t.outOfScope, t.repeated, t.bytesIn, t.policy = 0, 0, 0, 0
	if t.rejected == nil {
		t.rejected = map[broker.RejectionCode]int64{}
		t.subs = map[*broker.Terms]*subTally{}
	}
	clear(t.rejected)
	clear(t.subs)
}

func (t *tally) sub(terms *broker.Terms) *subTally {
	s := t.subs[terms]
	if s == nil {
		s = &subTally{denied: map[broker.Reason]int64{}}
		t.subs[terms] = s
	}
	return s
}

func (t *tally) decision(terms *broker.Terms)              { t.sub(terms).inScope++ }
func (t *tally) permit(terms *broker.Terms)                { t.sub(terms).permitted++ }
func (t *tally) deny(terms *broker.Terms, r broker.Reason) { t.sub(terms).denied[r]++ }
func (t *tally) delivered(terms *broker.Terms, in, out int64, shielded bool) {
	s := t.sub(terms)
	if shielded {
		s.shielded++
	}
	s.bytesIn += in
	s.bytesOut += out
}
