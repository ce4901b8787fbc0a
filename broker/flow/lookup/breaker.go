package lookup

import (
	"sync"
	"time"
)

// breaker stops asking who has not answered several times in a row, so that callers do
// not wait for it, nor it for them. After a while one may try; its answer lets in the
// others. It asks no clock itself.
type breaker struct {
	mu     sync.Mutex
	failed int       // in a row
	until  time.Time // nobody asks before; zero while it is closed
	trying bool      // one is on its way
}

const (
	breakAfter = 5                // failures in a row
	breakFor   = 10 * time.Second // then, and twice as long each time that one more fails
	breakMost  = 5 * time.Minute
)

// allow says whether to ask, or for how long not to. Who is allowed must call done.
func (b *breaker) allow(now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return 0, true
	case now.Before(b.until):
		return b.until.Sub(now), false
	case b.trying:
		return time.Second, false
	}
	b.trying = true
	return 0, true
}

// done says how it went; neither where it was the caller that went away.
func (b *breaker) done(now time.Time, good, bad bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch {
	case good:
		b.failed, b.until = 0, time.Time{}
	case bad:
		if b.failed++; b.failed >= breakAfter {
			b.until = now.Add(min(breakMost, breakFor<<min(b.failed-breakAfter, 8)))
		}
	}
}

// open reports whether nobody asks.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero()
}
