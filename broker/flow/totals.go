package flow

import (
	"slices"
	"sync"

	"datafordeler/broker"
)

// Totals is what an instance has committed since it began. Records are those
// read from the sources; Records = Rejected + Repeated + OutOfScope + those in
// some scope.
type Totals struct {
	Records       int64                          `json:"records"`
	Rejected      map[broker.RejectionCode]int64 `json:"rejected"`
	Repeated      int64                          `json:"repeated"`
	OutOfScope    int64                          `json:"out_of_scope"`
	Decisions     int64                          `json:"decisions"`
	Permitted     int64                          `json:"permitted"`
	Denied        map[broker.Reason]int64        `json:"denied"` // by first reason
	Transactions  int64                          `json:"transactions"`
	Subscriptions []SubscriptionTotals           `json:"subscriptions"`
}

// SubscriptionTotals is one subscription's part of Totals. BytesIn are the
// payloads of the records permitted, BytesOut what was delivered of them.
type SubscriptionTotals struct {
	ID        broker.SubscriptionID   `json:"id"`
	InScope   int64                   `json:"in_scope"`
	Permitted int64                   `json:"permitted"`
	Denied    map[broker.Reason]int64 `json:"denied"`
	Shielded  int64                   `json:"shielded"` // permitted, of protected subjects
	BytesIn   int64                   `json:"bytes_in"`
	BytesOut  int64                   `json:"bytes_out"`
}

// totals is Totals under a lock: the loop adds, others read.
type totals struct {
	mu   sync.Mutex
	sum  Totals
	subs map[broker.SubscriptionID]*SubscriptionTotals
}

func (t *totals) add(sum *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.subs == nil {
		t.subs = map[broker.SubscriptionID]*SubscriptionTotals{}
		t.sum.Rejected = map[broker.RejectionCode]int64{}
		t.sum.Denied = map[broker.Reason]int64{}
	}
	t.sum.Transactions++
	t.sum.Records += sum.records
	t.sum.Repeated += sum.repeated
	t.sum.OutOfScope += sum.outOfScope
	for code, n := range sum.rejected {
		t.sum.Rejected[code] += n
	}
	for i := range sum.touched {
		s := &sum.touched[i]
		id := s.route.terms.Subscription.ID
		sub := t.subs[id]
		if sub == nil {
			sub = &SubscriptionTotals{ID: id, Denied: map[broker.Reason]int64{}}
			t.subs[id] = sub
		}
		sub.InScope += s.inScope
		sub.Permitted += s.permitted
		sub.Shielded += s.shielded
		sub.BytesIn += s.bytesIn
		sub.BytesOut += s.bytesOut
		t.sum.Decisions += s.inScope
		t.sum.Permitted += s.permitted
		for _, d := range s.denied {
			sub.Denied[d.reason] += d.n
			t.sum.Denied[d.reason] += d.n
		}
	}
}

// Records is how many records of the sources were committed so far: one field
// of Totals, at no cost.
func (b *Broker) Records() int64 {
	b.totals.mu.Lock()
	defer b.totals.mu.Unlock()
	return b.totals.sum.Records
}

// Totals is a copy of what was committed so far.
func (b *Broker) Totals() Totals {
	t := &b.totals
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.sum
	out.Rejected = clone(t.sum.Rejected)
	out.Denied = clone(t.sum.Denied)
	for _, s := range t.subs {
		c := *s
		c.Denied = clone(s.Denied)
		out.Subscriptions = append(out.Subscriptions, c)
	}
	slices.SortFunc(out.Subscriptions, func(a, b SubscriptionTotals) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

func clone[K comparable](m map[K]int64) map[K]int64 {
	out := make(map[K]int64, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
