package flow

import (
	"context"
	"sync"
	"time"
)

// compiler compiles the policy of new and changed subscriptions beside the
// loops. Until one's turn has come its decisions are evaluated in full: slower,
// and the same. Those that are asked come first.
type compiler struct {
	mu    sync.Mutex // guards all below
	asked []*route   // the latest last
	rest  []*route
	wake  chan struct{} // has room for one
}

// add queues routes that are not compiled.
func (c *compiler) add(routes []*route) {
	c.mu.Lock()
	c.rest = append(c.rest, routes...)
	c.mu.Unlock()
	c.nudge()
}

// want moves a route to the front, once.
func (c *compiler) want(r *route) {
	if !r.wanted.CompareAndSwap(false, true) {
		return
	}
	c.mu.Lock()
	c.asked = append(c.asked, r)
	c.mu.Unlock()
	c.nudge()
}

func (c *compiler) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *compiler) next() *route {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range []*[]*route{&c.asked, &c.rest} {
		if n := len(*q); n > 0 {
			r := (*q)[n-1]
			(*q)[n-1] = nil
			*q = (*q)[:n-1]
			return r
		}
	}
	return nil
}

// longestCompile is what one subscription may take: the others wait for it.
const longestCompile = 20 * time.Second

// run compiles until ctx ends. What fails is said by the route's form.
func (c *compiler) run(ctx context.Context, b *Broker) {
	for ctx.Err() == nil {
		r := c.next()
		if r == nil {
			select {
			case <-c.wake:
			case <-ctx.Done():
			}
			continue
		}
		if !b.worlds.has(r) {
			continue
		}
		turn, cancel := context.WithTimeout(ctx, longestCompile)
		err := r.prepared.Compile(turn)
		cancel()
		if err != nil && ctx.Err() == nil {
			b.log.Warn("policy is evaluated in full for this subscription", "subscription", r.terms.Subscription.ID, "err", err)
		}
	}
}
