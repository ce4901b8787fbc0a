package flow

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever speed a machine has, a session's transactions come to take about as
// long as they should, or have as many records as they may.
func TestPaceFindsTheMachinesSpeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Defaults()
		perRecord := time.Duration(rapid.IntRange(1_000, 2_000_000).Draw(t, "ns a record"))
		fixed := time.Duration(rapid.IntRange(0, 20_000_000).Draw(t, "ns a transaction"))
		p := newPace(c)
		for range 50 {
			n := p.limit
			p.begin(time.Time{}, n)
			p.end(c, n, fixed+time.Duration(n)*perRecord)
			if p.limit < leastRecords || p.limit > c.MaxRecords {
				t.Fatalf("%d records", p.limit)
			}
		}
		took := fixed + time.Duration(p.limit)*perRecord
		switch {
		case took > c.TransactionTime*11/10 && p.limit > leastRecords:
			t.Errorf("%d records, which take %v: too many", p.limit, took)
		case took < c.TransactionTime/2 && p.limit < c.MaxRecords:
			t.Errorf("%d records, which take %v: too few", p.limit, took)
		}
	})
}

// Records gather between transactions with little in them, and only then.
func TestPaceGathers(t *testing.T) {
	c := Defaults()
	p := newPace(c)
	start := time.Unix(0, 0)
	if w := p.wait(c, start); w != 0 {
		t.Errorf("the first record waits %v", w)
	}
	p.begin(start, 3)
	if w := p.wait(c, start.Add(c.Gather/5)); w != c.Gather*4/5 {
		t.Errorf("soon after a small transaction the wait is %v", w)
	}
	if w := p.wait(c, start.Add(c.Gather)); w != 0 {
		t.Errorf("after a pause a record waits %v", w)
	}
	p.begin(start, p.limit)
	if w := p.wait(c, start); w != 0 {
		t.Errorf("under load the wait is %v", w)
	}
}
