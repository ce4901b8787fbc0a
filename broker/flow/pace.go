package flow

import "time"

// pace adapts a session's transactions: under load their size, so that one takes
// about as long as it should; with little to do, the time between them.
type pace struct {
	limit int // records in the next transaction, at the most
	begun time.Time
	full  bool // the last transaction had as many as it might
}

// leastRecords is what a transaction may always have: with fewer, what each costs
// beside its records would make a slow one slower.
const leastRecords = 100

// firstRecords is what the first transaction may have: nothing is known of the
// machine, and policy may not be compiled yet.
const firstRecords = 500

func newPace(c Config) pace { return pace{limit: min(firstRecords, c.MaxRecords)} }

// begin notes that a transaction of so many records begins.
func (p *pace) begin(now time.Time, records int) {
	p.begun, p.full = now, records >= p.limit
}

// end takes a lesson from a transaction that has ended.
func (p *pace) end(c Config, records int, took time.Duration) {
	if took <= 0 || records == 0 {
		return
	}
	fits := int(min(float64(records)*float64(c.TransactionTime)/float64(took), float64(c.MaxRecords)))
	switch {
	case took > c.TransactionTime: // too long, however few they were
		p.limit = min(p.limit, (p.limit+fits)/2)
	case p.full:
		p.limit = min(2*p.limit, fits)
	}
	p.limit = min(max(p.limit, leastRecords), c.MaxRecords)
}

// wait is how long to let records gather before the next transaction.
func (p *pace) wait(c Config, now time.Time) time.Duration {
	if p.full {
		return 0
	}
	return max(0, c.Gather-now.Sub(p.begun))
}
