package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// The worked example in docs/formats.md is what this program makes.
func TestWorkedExample(t *testing.T) {
	var out strings.Builder
	show := func(name string, line []byte) tlog.Hash {
		h := tlog.RecordHash(line)
		fmt.Fprintf(&out, "%s\n%s\n    %x\n", name, line, h[:])
		return h
	}
	join := func(name string, left, right tlog.Hash) tlog.Hash {
		h := tlog.NodeHash(left, right)
		fmt.Fprintf(&out, "%s\n    %x\n", name, h[:])
		return h
	}
	var control ControlBuilder
	control.Begin(Chain{})
	event := must(control.Add(0, []byte(`{"v":1,"seq":1,"on":0,"prev":"00000000000000000000000000000000","at":"2026-11-22T09:00:00Z","actor":"drift","type":"keystore.registered","data":{"check":"5f1d"}}`), false))
	e0, _ := control.End()
	if root := show("C, a control event", event); root != e0.Rows {
		t.Error("control: another root")
	}
	h := Head{Kind: "stream", Dataset: "inntekt", TopicID: broker.Digest{0x5a}, Last: 1, Records: 2, Rejected: 1, RejectedAt: []int64{1},
		Limits: Limits{900000, 64, 100000, 86400000, 900000}, Period: "2026-11", Policy: "sha256:9c", Revision: 1, Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	d := broker.Decision{Kind: broker.StreamDecision, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID}, Event: broker.Digest{0xe1}, Subject: broker.Digest{0x3c},
		Agreement: "barnehage-2026", Package: broker.PackageRef{ID: "barnehage", Version: 1}}
	lines := make([][]byte, 3)
	var b Builder
	lines[0] = bytes.Clone(b.Begin(&h, Place{}, sha256.Sum256([]byte("the record of decisions"))))
	for i, sub := range []broker.SubscriptionID{"asker", "bodo"} {
		d.Subscription = sub
		d.ID = broker.NewDecisionID(d.Kind, h.TopicID, 0, 0, sub)
		if i == 0 {
			d.Outcome, d.Fields, d.Delivery = broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"barnehageloven"}}, []broker.Pointer{"/beloep"}, broker.NewDeliveryID(d.Event, sub)
		} else {
			d.Outcome, d.Fields, d.Delivery = broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}, nil, broker.DeliveryID{}
		}
		lines[i+1] = bytes.Clone(b.Add(&d))
	}
	e1 := b.End()
	head, first, second := show("H, a head", lines[0]), show("D1, a permit", lines[1]), show("D2, a denial", lines[2])
	if join("rows = node(node(H, D1), D2)", join("node(H, D1)", head, first), second) != e1.Rows {
		t.Error("batch: another root")
	}
	root := join("the tree of both: node(E0, E1)", show("E0, the control event's entry", AppendEntry(nil, &e0)), show("E1, the batch's entry", AppendEntry(nil, &e1)))
	fmt.Fprintf(&out, "the checkpoint's text\n%s", Checkpoint{Origin: "log.example/ledger", Size: 2, Root: root}.Text())

	s := NewSequence()
	if s.Accept(&e0) != nil || s.Accept(&e1) != nil {
		t.Error("the example is no ledger")
	}
	doc, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "```\n"+out.String()+"```\n") {
		t.Errorf("docs/formats.md has another worked example. It should be\n%s", out.String())
	}
}
