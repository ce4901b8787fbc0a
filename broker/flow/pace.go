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

// end takes a lesson from a transaction that has ended. What of it is computing
// grows with its records; what is not, above all Kafka's part, is there for few
// records as for many. That part is not to be bought down with small transactions:
// computing may always take as long as it.
func (p *pace) end(c Config, records int, computed, took time.Duration) {
	if computed <= 0 || records == 0 {
		return
	}
	fixed := took - computed
	room := max(c.TransactionTime-fixed, fixed)
	fits := int(min(float64(records)*float64(room)/float64(computed), float64(c.MaxRecords)))
	switch {
	case computed > room: // too long, however few they were
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
