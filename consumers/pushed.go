package consumers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"datafordeler/broker"
)

// ParseJSON reads a delivery as a CloudEvent in JSON: a line of a feed, or the body of
// a webhook. Its errors do not repeat what it says.
func ParseJSON(b []byte) (Delivery, error) {
	var e event
	if err := json.Unmarshal(b, &e); err != nil {
		return Delivery{}, errors.New("it is no CloudEvent in JSON")
	}
	return e.delivery()
}

// pushedTopic stands in a checkpoint in place of a Kafka topic.
const pushedTopic = "webhook"

// Seen knows which deliveries of a mailbox were handled, for who is sent them and does
// not fetch them. It may be used from several goroutines.
type Seen struct {
	mailbox broker.MailboxID
	store   Store

	mu     sync.Mutex // guards window; held while it is saved
	window *window
	under  map[broker.DeliveryID]chan struct{} // being handled; closed at the end
}

// OpenSeen reads what a store remembers; nil is one that forgets at the end of the
// process. size is how many ids are remembered; 0 is 20,000.
func OpenSeen(ctx context.Context, store Store, m broker.MailboxID, size int) (*Seen, error) {
	if size == 0 {
		size = Config{}.withDefaults().Window
	}
	s := &Seen{mailbox: m, store: store, window: newWindow(size, nil), under: map[broker.DeliveryID]chan struct{}{}}
	if store == nil {
		return s, nil
	}
	c, err := store.Load(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errCheckpoint, err)
	case c == nil:
		return s, nil
	case c.Version != checkpointVersion:
		return nil, fmt.Errorf("%w: it has version %d, and this client knows %d", errCheckpoint, c.Version, checkpointVersion)
	case c.Mailbox != m:
		return nil, fmt.Errorf("%w: it is of mailbox %q, not %q; give each mailbox its own", errCheckpoint, c.Mailbox, m)
	}
	s.window = newWindow(size, c.Recent) // whichever way they came
	return s, nil
}

// Once calls handle unless the delivery was handled before. A repeat that comes while
// the first is under way waits for it. When it returns nil, the delivery counts as
// handled, and the store says so.
func (s *Seen) Once(ctx context.Context, id broker.DeliveryID, handle func() error) (repeat bool, err error) {
	for {
		s.mu.Lock()
		if s.window.has(id) {
			s.mu.Unlock()
			return true, nil
		}
		ended := s.under[id]
		if ended == nil {
			ended = make(chan struct{})
			s.under[id] = ended
			s.mu.Unlock()
			defer func() {
				s.mu.Lock()
				delete(s.under, id)
				s.mu.Unlock()
				close(ended)
			}()
			break
		}
		s.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if err := handle(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.window.add(id)
	if s.store == nil {
		return false, nil
	}
	// Handled it is, whether or not that is kept: what is answered is that it was not,
	// and it comes again.
	return false, s.store.Save(ctx, &Checkpoint{Version: checkpointVersion, Mailbox: s.mailbox, Topic: pushedTopic, Recent: s.window.recent()})
}
