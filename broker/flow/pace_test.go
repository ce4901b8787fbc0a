package flow

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever the speed of the machine and of Kafka, a session's transactions come to
// take about as long as they should; and where Kafka alone takes longer, throughput
// is at least about half of what the largest transactions would give.
func TestPaceFindsTheMachinesSpeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Defaults()
		perRecord := time.Duration(rapid.IntRange(1_000, 2_000_000).Draw(t, "ns a record"))
		fixed := time.Duration(rapid.IntRange(0, 1_000_000_000).Draw(t, "ns a transaction"))
		took := func(n int) time.Duration { return fixed + time.Duration(n)*perRecord }
		p := newPace(c)
		for range 50 {
			n := p.limit
			p.begin(time.Time{}, n)
			p.end(c, n, time.Duration(n)*perRecord, took(n))
			if p.limit < leastRecords || p.limit > c.MaxRecords {
				t.Fatalf("%d records", p.limit)
			}
		}
		should := max(c.TransactionTime, 2*fixed)
		rate := func(n int) float64 { return float64(n) / took(n).Seconds() }
		switch {
		case took(p.limit) > should*11/10 && p.limit > leastRecords:
			t.Errorf("%d records, which take %v: too many", p.limit, took(p.limit))
		case took(p.limit) < should/2 && p.limit < c.MaxRecords:
			t.Errorf("%d records, which take %v: too few", p.limit, took(p.limit))
		case fixed > c.TransactionTime/2 && rate(p.limit) < 0.45*rate(c.MaxRecords):
			t.Errorf("%d records: %.0f records/s, with %d it were %.0f", p.limit, rate(p.limit), c.MaxRecords, rate(c.MaxRecords))
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
