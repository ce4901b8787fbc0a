package flow

import (
	"sync"
	"time"
)

// rate bounds how many earlier records an instance looks at.
type rate struct {
	mu     sync.Mutex
	per    float64 // a second
	tokens float64
	at     time.Time
}

// slice is how many are looked at in one transaction at the most: few, so that the
// stream, and a withdrawal, wait for little.
func (r *rate) slice() int { return int(min(max(r.per/20, 1), 500)) }

func (r *rate) fill(now time.Time) {
	if gone := now.Sub(r.at).Seconds(); gone > 0 {
		r.tokens = min(r.tokens+gone*r.per, 2*float64(r.slice()))
		r.at = now
	}
}

// wait is how long until a slice may be looked at.
func (r *rate) wait(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.per <= 0 {
		return time.Hour
	}
	r.fill(now)
	return time.Duration((float64(r.slice()) - r.tokens) / r.per * float64(time.Second))
}

// spend takes what was looked at.
func (r *rate) spend(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens -= float64(n)
}
