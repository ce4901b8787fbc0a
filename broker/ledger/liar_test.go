package ledger

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// A log that signs what contradicts itself: every hash and signature fits.
func TestLogThatContradictsItself(t *testing.T) {
	deny := func(d *broker.Decision) {
		d.Outcome, d.Fields, d.Shielded, d.Delivery = broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}, nil, false, broker.DeliveryID{}
	}
	for _, c := range []struct {
		name string
		do   func(h *Head, ds []broker.Decision)
		line func(line []byte) []byte // of the first decision
		want FaultName
	}{
		{"nothing wrong", func(*Head, []broker.Decision) {}, nil, ""},
		{"a decision twice, far from each other", func(h *Head, ds []broker.Decision) {
			for i := range ds { // all on one record
				ds[i].Position.Offset, ds[i].Event = 0, ds[0].Event
				ds[i].Subscription = broker.SubscriptionID(fmt.Sprint("s", i))
			}
			ds[550].Subscription = ds[10].Subscription
			h.Records, h.Last = 1, 0
		}, nil, RowChanged},
		{"two records swapped between chunks", func(h *Head, ds []broker.Decision) { ds[254], ds[255] = ds[255], ds[254] }, nil, RowChanged},
		{"a decision outside of the range", func(h *Head, ds []broker.Decision) { ds[599].Position.Offset = 601 }, nil, RowChanged},
		{"a decision on a rejected record", func(h *Head, ds []broker.Decision) {
			h.RejectedAt, h.Rejected, h.Records, h.Last = []int64{7}, 1, 601, 600
		}, nil, RowChanged},
		{"a permit with another's delivery", func(h *Head, ds []broker.Decision) { ds[0].Delivery[0] ^= 1 }, nil, RowChanged},
		{"a permit without delivery", func(h *Head, ds []broker.Decision) { ds[0].Delivery = broker.DeliveryID{} }, nil, RowChanged},
		{"a denial that delivered", func(h *Head, ds []broker.Decision) { was := ds[0].Delivery; deny(&ds[0]); ds[0].Delivery = was }, nil, RowChanged},
		{"a denial with fields", func(h *Head, ds []broker.Decision) { was := ds[0].Fields; deny(&ds[0]); ds[0].Fields = was }, nil, RowChanged},
		{"a denial that shields", func(h *Head, ds []broker.Decision) { deny(&ds[0]); ds[0].Shielded = true }, nil, RowChanged},
		{"another policy than the head's", func(*Head, []broker.Decision) {}, func(line []byte) []byte {
			return bytes.Replace(line, []byte("sha256:aa"), []byte("sha256:ab"), 1)
		}, RowChanged},
		{"another partition than the head's", func(*Head, []broker.Decision) {}, func(line []byte) []byte {
			return bytes.Replace(line, []byte(`"partition":0`), []byte(`"partition":1`), 1)
		}, RowChanged},
		{"another id", func(*Head, []broker.Decision) {}, func(line []byte) []byte { line = bytes.Clone(line); flip(line, 40); return line }, RowChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t, 1, 0)
			l.events(2)
			h, all := l.decisions(0, 0, 0, 1)
			h.RejectedAt, h.Rejected, h.Repeated, h.OutOfScope = nil, 0, 0, 0
			h.Records, h.First, h.Last = 600, 0, 599
			for i := range 600 {
				d := broker.Decision{Kind: broker.StreamDecision, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Offset: int64(i)}, Event: l.digest(),
					Subscription: "s", Agreement: "a", Outcome: broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov"}}, Fields: []broker.Pointer{"/x"},
					PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time, Period: h.Period}
				d.Delivery = broker.NewDeliveryID(d.Event, d.Subscription)
				all = append(all, d)
			}
			c.do(&h, all)
			for i := range all {
				d := &all[i]
				d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, d.Position.Partition, d.Position.Offset, d.Subscription)
				if c.name == "a decision twice, far from each other" || c.name == "nothing wrong" {
					d.Delivery = broker.NewDeliveryID(d.Event, d.Subscription)
				}
			}
			l.make(h, all)
			if c.line != nil {
				x := &l.items[1]
				x.lines[1] = c.line(x.lines[1])
				x.reroot(nil)
				l.tree = must(NewTree(nil, 0))
				for _, x := range l.items {
					if err := l.tree.Append(tlog.RecordHash(x.entry)); err != nil {
						t.Fatal(err)
					}
				}
			}
			l.sign(0)
			if _, err := l.verify(); NameOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("found %v, want %q", err, c.want)
			}
		})
	}
	// And entries whose numbers do not go together.
	_, entries := golden()
	for name, change := range map[string]func(e *Entry){
		"a line more":             func(e *Entry) { e.Lines++ },
		"more permits":            func(e *Entry) { e.Batch.Permits = 3 },
		"fewer decisions":         func(e *Entry) { e.Batch.Decisions, e.Batch.Permits, e.Lines = 1, 0, 2 },
		"decisions on no record":  func(e *Entry) { e.Batch.OutOfScope = 3 },
		"more records than range": func(e *Entry) { e.Batch.Last = 106 },
		"an overlap too long":     func(e *Entry) { e.Batch.Overlap = 21 },
		"overlap and skipped":     func(e *Entry) { e.Batch.Overlap, e.Batch.Skipped = 1, 1 },
		"skipped too much":        func(e *Entry) { e.Batch.Skipped = 101 },
		"no lines":                func(e *Entry) { e.Lines, e.Batch.Decisions, e.Batch.Permits = 0, -1, -2 },
	} {
		e := entries[0]
		change(&e)
		if _, err := ParseEntry(AppendEntry(nil, &e)); NameOf(err) != EntryChanged {
			t.Errorf("%s: %v", name, err)
		}
	}
}
