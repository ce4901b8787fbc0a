package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Ends asks where a topic's committed records end, once for all who ask at the
// same time.
type Ends struct {
	engine *Engine
	topic  string

	mu      sync.Mutex
	running bool
	next    *ending      // for those who ask from now on
	adm     *kadm.Client // kept from one question to the next
	closed  bool
}

// ending is one answer. ends and err are set before done closes.
type ending struct {
	done chan struct{}
	ends map[int32]int64
	err  error
}

// endsPatience bounds one question.
const endsPatience = 5 * time.Second

// NewEnds is for a topic of an engine. It connects when it is first asked.
func NewEnds(engine *Engine, topic string) *Ends { return &Ends{engine: engine, topic: topic} }

// Ask returns the offset after the last committed record of each partition, or a
// later one: what was committed before the call stands before it.
//
// The leader of a partition answers. One that was deposed and does not know it yet
// may name an older end; Kafka has no request that would tell.
func (e *Ends) Ask(ctx context.Context) (map[int32]int64, error) {
	next := e.coming()
	select {
	case <-next.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if next.err != nil {
		return nil, fmt.Errorf("reading where topic %s ends: %w", e.topic, next.err)
	}
	return next.ends, nil
}

// coming is an answer to a question that has not been put yet: one on its way may
// have been answered before the caller came.
func (e *Ends) coming() *ending {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.next == nil {
		e.next = &ending{done: make(chan struct{})}
	}
	if !e.running {
		e.running = true
		go e.answer()
	}
	return e.next
}

// answer asks until nobody waits.
func (e *Ends) answer() {
	for {
		e.mu.Lock()
		next := e.next
		e.next, e.running = nil, next != nil
		e.mu.Unlock()
		if next == nil {
			return
		}
		next.ends, next.err = e.ask()
		close(next.done)
	}
}

func (e *Ends) ask() (map[int32]int64, error) {
	e.mu.Lock()
	var err error
	switch {
	case e.closed:
		err = errors.New("it is asked no more")
	case e.adm == nil:
		e.adm, err = e.engine.Admin()
	}
	adm := e.adm
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), endsPatience)
	defer cancel()
	ends, err := CommittedEnds(ctx, adm, e.topic)
	return ends[e.topic], err
}

// Close lets go of the connection. Who asks after that gets an error.
func (e *Ends) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.adm != nil {
		e.adm.Close()
		e.adm = nil
	}
}
