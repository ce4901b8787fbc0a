package consumers

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

// Handler takes one delivery. When it returns nil, the delivery counts as handled.
type Handler = func(context.Context, Delivery) error

var keySeed = maphash.MakeSeed()

// process hands over deliveries: repeats are dropped, those of one key keep their
// order, and up to Concurrency keys are under way at once. It returns when all that
// it began has ended; the error is of the first that was not handled.
func (r *Receiver) process(ctx context.Context, ds []Delivery, handler Handler) error {
	lanes := make([][]*Delivery, 1)
	if r.cfg.Key != nil {
		lanes = make([][]*Delivery, r.cfg.Concurrency)
	}
	for i := range ds {
		lane := 0
		if len(lanes) > 1 {
			lane = int(maphash.String(keySeed, r.cfg.Key(ds[i])) % uint64(len(lanes)))
		}
		lanes[lane] = append(lanes[lane], &ds[i])
	}
	var (
		mu     sync.Mutex // guards window, unsaved and failed
		failed error
		under  sync.WaitGroup
	)
	run := func(lane []*Delivery) {
		for _, d := range lane {
			mu.Lock()
			stop, repeat := failed != nil, r.window.has(d.ID)
			mu.Unlock()
			switch {
			case stop || ctx.Err() != nil:
				return
			case repeat:
				r.repeats.Add(1)
				continue
			}
			err := r.hand(ctx, *d, handler)
			mu.Lock()
			if err == nil || errors.Is(err, ErrStop) {
				r.handled.Add(1)
				r.window.add(d.ID)
				r.unsaved++
				r.advanced++
			}
			if failed == nil {
				failed = err
			}
			mu.Unlock()
		}
	}
	for _, lane := range lanes[1:] {
		under.Go(func() { run(lane) })
	}
	run(lanes[0])
	under.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

// hand gives one delivery to the handler, as often as Attempts says, and then to
// the dead letters where there are some. Its error is ErrStop or a *HandlerError.
func (r *Receiver) hand(ctx context.Context, d Delivery, handler Handler) error {
	for try := 0; ; try++ {
		err := handler(ctx, d)
		if err == nil || errors.Is(err, ErrStop) {
			return err
		}
		if try+1 < r.cfg.Attempts && ctx.Err() == nil {
			r.retries.Add(1)
			r.cfg.Log.WarnContext(ctx, "a delivery was not handled; trying again", "delivery", d.ID, "try", try+1, "err", err)
			select {
			case <-time.After(pause(r.cfg.Backoff, try)):
				continue
			case <-ctx.Done():
			}
		}
		if r.cfg.DeadLetter == nil || ctx.Err() != nil {
			return &HandlerError{d.ID, d.Position, err}
		}
		if dead := r.cfg.DeadLetter(ctx, d, err); dead != nil {
			return &HandlerError{d.ID, d.Position, errors.Join(err, dead)}
		}
		r.dead.Add(1)
		r.cfg.Log.ErrorContext(ctx, "a delivery was put with the dead letters", "delivery", d.ID, "tries", try+1, "err", err)
		return nil
	}
}
