package main

import (
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
)

// Who asks for one record and gets no decision is told what became of it.
func TestLookupSaysWhatBecameOfARecord(t *testing.T) {
	terms := &broker.Terms{Subscription: broker.Subscription{ID: "s"}}
	var b deliver.Batch
	b.Reset(deliver.BatchHeader{Dataset: "inntekt", First: 10})
	b.Add(deliver.Row{Offset: 10}, []deliver.Decision{{Terms: terms, Outcome: &broker.Outcome{Permit: true}}})
	b.Reject(11)
	b.Repeat(12)
	b.Add(deliver.Row{Offset: 13}, nil)
	value := b.Finish(13)[0]
	for offset, want := range map[int64]string{10: "", 11: "was rejected", 12: "a repeat", 13: "no subscription's scope"} {
		n := 0
		fate, err := lookup(value, offset, func(d *broker.Decision) error { n++; return nil })
		if err != nil || !strings.Contains(fate, want) || (n == 1) != (offset == 10) || (fate == "") != (want == "") {
			t.Errorf("offset %d: %d decisions, %q, %v; want %q", offset, n, fate, err, want)
		}
	}
}
