package torture_test

import (
	"slices"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/providers/synthetic"
)

var sources = map[string]string{"inntekt": synthetic.IncomeSource, "eiendomsskatt": synthetic.PropertySource}

// notices holds the decisions on notices of a partition to what the stream's decisions
// owe: whoever was delivered what a correction or retraction changes, and was denied that
// one's data, is told of it once, unless what denied the data stops the notice too.
func (a *audit) notices(batches []message) {
	t := a.r.t
	t.Helper()
	if len(a.owed) == 0 && a.counts.decisions == 0 {
		t.Fatal("the stream's decisions are read first")
	}
	for _, b := range batches {
		if !deliver.IsSingles(b.value) {
			continue
		}
		_, err := deliver.DecodeSingles(b.value, func(d *broker.Decision) error {
			a.notice(d)
			return nil
		})
		if err != nil {
			t.Fatalf("decisions, offset %d: %v", b.offset, err)
		}
	}
}

func (a *audit) event(dataset, id string) broker.EventHash {
	return a.r.ring.Event(broker.DatasetID(dataset), sources[dataset], id)
}

func (a *audit) notice(d *broker.Decision) {
	t := a.r.t
	a.counts.decisions++
	a.counts.notices++
	dataset := string(d.Position.Dataset)
	due := a.owed[debtor{dataset, d.Position.Partition, d.Position.Offset, string(d.Subscription)}]
	if d.Kind != broker.NoticeDecision || due == nil {
		t.Errorf("a %s decision on offset %d for %s, and nobody asked for any", d.Kind, d.Position.Offset, d.Subscription)
		return
	}
	due.notices++
	if d.Event != a.event(dataset, due.event) {
		t.Errorf("%s: the notice is of another event", due.where)
	}
	stops := !slices.Contains(told, due.reason)
	want := broker.Reason("")
	switch {
	case !due.known:
		want = "delivery_unknown"
	case stops:
		want = due.reason
	}
	if d.Outcome.Permit != (want == "") || want != "" && d.Outcome.Reasons[0] != want {
		t.Errorf("%s, notice for %s after %s: permit %v, reasons %v; want %q", due.where, d.Subscription, due.reason, d.Outcome.Permit, d.Outcome.Reasons, want)
	}
	if len(d.Fields) > 0 || d.Shielded {
		t.Errorf("%s, notice for %s: it has fields", due.where, d.Subscription)
	}
	if !d.Outcome.Permit {
		return
	}
	a.counts.permitted++
	key := d.ID.String()
	if _, twice := a.permits[key]; twice {
		t.Errorf("%s: %s was told twice", due.where, d.Subscription)
	}
	a.permits[key] = permit{delivery: broker.NewNoticeID(d.Event, d.Subscription).String(), sub: string(d.Subscription), offset: d.Position.Offset,
		kind: d.RecordKind.String(), notice: true, of: broker.NewDeliveryID(a.event(dataset, due.of), d.Subscription).String()}
}

// paid holds what is owed to what was decided, once all partitions have been read.
func (a *audit) paid() {
	t := a.r.t
	t.Helper()
	owed, wrong := 0, 0
	for k, due := range a.owed {
		want := 0
		if due.was || !due.known {
			want = 1
			owed++
		}
		if due.notices != want && !(due.either && due.notices <= 1) {
			if wrong++; wrong <= 20 {
				t.Errorf("%s, %s was denied it for %s: it is decided %d times whether it is told, want %d (what it changes: known %v, delivered %v)",
					due.where, k.sub, due.reason, due.notices, want, due.known, due.was)
			}
		}
	}
	t.Logf("%d corrections and retractions were denied to somebody, %d of them to one who held what they change", len(a.owed), owed)
	if t.Failed() {
		t.FailNow()
	}
}
