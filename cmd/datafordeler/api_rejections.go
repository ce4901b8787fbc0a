package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// rejectionDoor hands providers what intake refused: one tail for each dataset that
// somebody reads.
type rejectionDoor struct {
	node *node

	mu    sync.Mutex
	tails map[broker.DatasetID]*kafka.Tail
}

func (d *doors) addRejections() (end func()) {
	r := &rejectionDoor{node: d.node, tails: map[broker.DatasetID]*kafka.Tail{}}
	d.server.RegisterRejections(web.Rejections{Open: r.open})
	return r.close
}

func (r *rejectionDoor) open(ctx context.Context, id broker.DatasetID) (web.RejectionLog, error) {
	known := false
	r.node.control.View(func(st *registry.State) { known = st.Dataset(id) != nil })
	if !known {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tails[id]
	if t == nil {
		opening, cancel := context.WithTimeout(ctx, reach)
		defer cancel()
		var err error
		// Rejections are few and small: a little memory is enough.
		if t, err = r.node.engine.Tail(opening, r.node.cfg.Topics().Rejected(string(id)), kafka.TailOptions{Memory: 2 << 20, Readers: 2}); err != nil {
			return nil, err
		}
		r.tails[id] = t
	}
	return rejectionLog{r, id, t}, nil
}

// forget ends a tail that does not read any more; the next request opens another.
func (r *rejectionDoor) forget(id broker.DatasetID, t *kafka.Tail) {
	r.mu.Lock()
	ours := r.tails[id] == t
	if ours {
		delete(r.tails, id)
	}
	r.mu.Unlock()
	if ours {
		t.Close()
	}
}

func (r *rejectionDoor) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range r.tails {
		t.Close()
		delete(r.tails, id)
	}
}

type rejectionLog struct {
	door *rejectionDoor
	id   broker.DatasetID
	tail *kafka.Tail
}

// Topic is the topic's id.
func (l rejectionLog) Topic() [16]byte { return l.tail.ID() }

// First is the oldest offset that is kept.
func (l rejectionLog) First(ctx context.Context) (int64, error) {
	oldest, _, err := l.tail.Bounds(ctx, 0)
	return oldest, err
}

// Read reads the one partition.
func (l rejectionLog) Read(ctx context.Context, from int64, most int, wait time.Duration) ([]web.RejectedRecord, int64, error) {
	records, next, err := l.tail.Read(ctx, 0, from, most, wait)
	var gone *kafka.GoneError
	switch {
	case errors.As(err, &gone) && gone.Start >= 0 && (from < gone.Start || from > gone.End):
		return nil, next, &web.LogGone{Start: gone.Start, End: gone.End}
	case err != nil && ctx.Err() == nil:
		l.door.forget(l.id, l.tail)
		return nil, next, err
	case err != nil:
		return nil, next, err
	}
	out := make([]web.RejectedRecord, len(records))
	for i, r := range records {
		out[i].Value = r.Value
		for _, h := range r.Headers {
			switch h.Key {
			case "ce_id":
				out[i].ID = string(h.Value)
			case "ce_source":
				out[i].Source = string(h.Value)
			}
		}
	}
	return out, next, nil
}
