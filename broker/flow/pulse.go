package flow

import (
	"context"
	"sync/atomic"
	"time"
)

// pulse is what others may know of a session's loop: when it last turned, and
// why it delivers nothing, if so.
type pulse struct {
	last atomic.Int64 // Unix nanoseconds of the last turn
	why  atomic.Pointer[string]
}

// beat says that the loop has turned.
func (p *pulse) beat() {
	p.last.Store(time.Now().UnixNano())
	p.why.Store(nil)
}

// hold says why nothing is delivered; it reports whether that is news.
func (p *pulse) hold(why string) bool {
	old := p.why.Swap(&why)
	return old == nil || *old != why
}

// hold waits a little while a gate is closed, saying so once.
func (s *session) hold(ctx context.Context, err error) {
	if s.pulse.hold(err.Error()) {
		s.broker.log.Warn("deliveries are held", "reason", err)
	}
	s.pulse.last.Store(time.Now().UnixNano()) // to wait is to be alive
	s.broker.pause(ctx, 200*time.Millisecond)
}

// Held is why deliveries are held, in any session, or "".
func (b *Broker) Held() string {
	for i := range b.pulses {
		if why := b.pulses[i].why.Load(); why != nil {
			return *why
		}
	}
	if why := b.unmended.Load(); why != nil {
		return *why
	}
	return ""
}

// Alive is how long ago the loop last turned that has been still the longest.
func (b *Broker) Alive() time.Duration {
	return time.Duration(time.Now().UnixNano() - b.turned())
}

// Started reports whether every session's loop has turned at least once.
func (b *Broker) Started() bool { return b.turned() != 0 }

func (b *Broker) turned() int64 {
	first := b.pulses[0].last.Load()
	for i := range b.pulses {
		first = min(first, b.pulses[i].last.Load())
	}
	return first
}
