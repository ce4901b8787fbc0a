package positions

import (
	"context"
	"path/filepath"
	"testing"

	"datafordeler/broker"
)

// A chain goes back to its original, on one subject, with what single decisions say;
// what retention has removed, and what is about somebody else, breaks it.
func TestEarlier(t *testing.T) {
	ctx := context.Background()
	x, err := Open(ctx, filepath.Join(t.TempDir(), "positions.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	ann, bo := keyOf('s', 1), keyOf('s', 2)
	event := func(n int) broker.EventHash { return keyOf('e', n) }
	change := func(at int64, who broker.SubjectKey, n, of int) Record {
		return Record{Offset: at, Subject: who, Event: event(n), Kind: broker.Correction, Of: event(of)}
	}
	apply := func(b ...Batch) {
		t.Helper()
		if err := x.Apply(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	gift := func(n int, sub broker.SubscriptionID, what Given) Batch {
		return Batch{Gifts: []Gift{{Dataset: "a", TopicID: topics[0], Partition: 1, Offset: 3, Event: event(n), Subscription: sub, What: what}}}
	}
	apply(gift(1, "s", GivenData), gift(1, "t", GivenData), gift(1, "t", GivenBack), gift(1, "s", GivenData))
	apply(Batch{Dataset: "a", TopicID: topics[0], At: at0, Next: 9, Records: []Record{
		{Offset: 0, Subject: ann, Event: event(1)},
		change(1, ann, 2, 1), change(2, ann, 3, 2), change(3, bo, 4, 3), // about somebody else
		change(4, ann, 5, 99),                      // of what there is not
		change(5, ann, 6, 7), change(6, ann, 7, 6), // they go round
	}})
	for name, c := range map[string]struct {
		dataset broker.DatasetID
		who     broker.SubjectKey
		of      int
		want    []int
		whole   bool
	}{
		"the original":    {"a", ann, 1, []int{1}, true},
		"a chain":         {"a", ann, 3, []int{3, 2, 1}, true},
		"another subject": {"a", bo, 3, nil, false},
		"begins with a":   {"a", bo, 4, []int{4}, false},
		"another dataset": {"b", ann, 3, nil, false},
		"of nothing":      {"a", ann, 5, []int{5}, false},
		"round":           {"a", ann, 6, []int{6, 7}, false},
	} {
		links, whole, err := x.Earlier(ctx, c.dataset, c.who, event(c.of))
		if err != nil || whole != c.whole || len(links) != len(c.want) {
			t.Fatalf("%s: %+v, %v, %v", name, links, whole, err)
		}
		for i, n := range c.want {
			if links[i].Event != event(n) {
				t.Errorf("%s: link %d is %v", name, i, links[i].Event)
			}
		}
	}
	links, _, err := x.Earlier(ctx, "a", ann, event(1))
	if g := links[0].Given; err != nil || len(g) != 2 || g["s"] != GivenData || g["t"] != GivenData|GivenBack {
		t.Errorf("%+v, %v", g, err)
	}
	if err := x.Expire(ctx, topics[0], 0, 1); err != nil {
		t.Fatal(err)
	}
	if links, whole, err := x.Earlier(ctx, "a", ann, event(3)); err != nil || whole || len(links) != 2 {
		t.Errorf("after retention: %+v, %v, %v", links, whole, err)
	}
	// What was given goes with the record that it is about.
	if err := x.Expire(ctx, topics[0], 1, 4); err != nil {
		t.Fatal(err)
	}
	var rows int64
	for step := range Steps {
		n, err := x.Sweep(ctx, step)
		if err != nil {
			t.Fatal(err)
		}
		rows += n
	}
	var left int
	if err := x.reading.QueryRow("SELECT count(*) FROM given").Scan(&left); err != nil || left != 0 || rows != 4 {
		t.Errorf("%d left of what was given, %d rows swept, %v", left, rows, err)
	}
}
