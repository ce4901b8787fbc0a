package providers

import (
	"errors"
	"sync/atomic"
)

// Stats are a publisher's counters since it was made, for whichever metrics its
// program has. Each only rises, but Pending.
type Stats struct {
	Published int64 // events that are durable
	Rejected  int64 // that the broker did not take, or that this package refused for what they are
	Failed    int64 // that could not be vouched for; publishing them again counts them again
	Bytes     int64 // of records that were handed over
	Batches   int64
	Retries   int64 // attempts that failed
	Pending   int64 // bytes under way now
}

type counters struct {
	published, rejected, failed, bytes, batches, retries, pending atomic.Int64
}

// Stats reads the counters.
func (p *Publisher) Stats() Stats {
	c := &p.stats
	return Stats{c.published.Load(), c.rejected.Load(), c.failed.Load(), c.bytes.Load(), c.batches.Load(), c.retries.Load(), c.pending.Load()}
}

// counted counts what failed, and what did not.
func (p *Publisher) counted(e *Error) error {
	for i := range e.Failures {
		if Permanent(e.Failures[i].Err) {
			p.stats.rejected.Add(1)
		} else {
			p.stats.failed.Add(1)
		}
	}
	if !e.Refused {
		p.stats.published.Add(int64(e.Total - len(e.Failures)))
	}
	return e
}

// Failures are the failures that an error of Publish names, none for nil. ok is
// false for an error of another kind: then nothing is known of any event.
func Failures(err error) (failures []Failure, ok bool) {
	if err == nil {
		return nil, true
	}
	var e *Error
	if !errors.As(err, &e) {
		return nil, false
	}
	return e.Failures, true
}
