package flow

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// A case, a consent or a start that waits is owed what the stream decided before it,
// and the owner that comes to it may be the third: each must be able to read where
// the stream came to know of it, however far behind the window of repeats that lies.
func TestBackfillWaitsThroughTakeovers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		off    bool // nothing is backfilled at first; otherwise the index is behind
		starts bool
	}{{"the index is behind", false, false}, {"backfill is off", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := ready(t)
			h := s.harness
			h.limits.Window = 4
			h.cfg.MaxRecords = 1 // each record its own batch
			var behind atomic.Bool
			behind.Store(!test.off)
			h.positions = &scanned{h: h, behind: behind.Load}
			rate := h.cfg.Backfill.RecordsPerSecond
			if test.off {
				h.cfg.Backfill.RecordsPerSecond = 0
			}
			published := 0
			publish := func(n int) {
				for range n {
					s.publishLine(fmt.Sprintf("id=e%d person=p%d municipality=1601", published, published%4))
					published++
				}
				h.drain(h.ctx)
			}
			h.start()
			publish(8)
			for n := range 4 {
				h.change(registry.OpenCase(broker.Case{ID: broker.CaseID(fmt.Sprint("c", n)), Subscription: "case", Subject: h.ring.Subject(broker.Person, s.person(fmt.Sprint("p", n))),
					Open: broker.Interval{From: h.clock().Add(-time.Hour)}}))
			}
			if test.starts {
				c, err := registry.Put(broker.Subscription{ID: "early1", Agreement: "all", Mailbox: "kommunen",
					Scope: broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{"1601"}}, Start: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)})
				if err != nil {
					t.Fatal(err)
				}
				h.change(c)
			}
			publish(20)
			for range 2 { // each takes over, and waits
				h.stop()
				h.start()
				publish(20)
			}
			h.stop()
			if n := len(h.singles(broker.BackfillDecision)); n != 0 {
				t.Fatalf("%d decisions of backfill, and it was to wait", n)
			}
			behind.Store(false)
			h.cfg.Backfill.RecordsPerSecond = rate
			h.start()
			h.drainBackfill()
			h.stop()
			h.checkAll()
			h.checkBackfill()
			if len(h.singles(broker.BackfillDecision)) == 0 {
				t.Error("nothing was backfilled: the test tests nothing")
			}
		})
	}
}
