package flow

import (
	"context"
	"fmt"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
)

// latest asks where the control topic ends, once for all who ask at the same time.
type latest struct {
	mu      sync.Mutex
	running bool
	next    *ending // for those who ask from now on
}

// ending is one answer. end and err are set before done closes.
type ending struct {
	done chan struct{}
	end  int64
	err  error
}

// latestPatience bounds one question.
const latestPatience = 5 * time.Second

// Latest returns when every control event that was acknowledged before the call,
// by whichever instance, has been folded here; and the revision then. A door asks
// it before it judges, so that it never goes by what was withdrawn already.
//
// The leader of the topic's partition answers where it ends. A leader that was
// deposed and does not know it yet may name an older end; Kafka has no request that
// would tell.
func (c *Control) Latest(ctx context.Context) (broker.Revision, error) {
	e := c.ending()
	select {
	case <-e.done:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if e.err != nil {
		return 0, fmt.Errorf("reading where topic %s ends: %w", c.topic, e.err)
	}
	if err := c.await(ctx, func() bool { return c.next >= e.end }); err != nil {
		return 0, err
	}
	return c.Revision(), nil
}

// ending is an answer to a question that has not been put yet: one on its way may
// have been answered before the caller came.
func (c *Control) ending() *ending {
	l := &c.latest
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &ending{done: make(chan struct{})}
	}
	if !l.running {
		l.running = true
		go c.askEndings()
	}
	return l.next
}

func (c *Control) askEndings() {
	for {
		c.latest.mu.Lock()
		e := c.latest.next
		c.latest.next, c.latest.running = nil, e != nil
		c.latest.mu.Unlock()
		if e == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), latestPatience)
		ends, err := kafka.CommittedEnds(ctx, c.adm, c.topic)
		cancel()
		e.end, e.err = ends[c.topic][0], err
		close(e.done)
	}
}
