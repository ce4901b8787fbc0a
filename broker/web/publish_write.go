package web

import (
	"context"
	"sync"

	"datafordeler/broker"
)

// What failed events are told.
const (
	notWritten = "it is not known whether the event was written; send it again, under the same id"
	heldBack   = "it was not written, because an earlier event of the same subject failed; send both again, in the same order"
)

// put writes the items that intake would accept, and fills one result for each.
//
// Events of one subject go one after the other: the next is not handed over before
// the one ahead is durable, so that none overtakes one that failed. Events of
// different subjects go together.
func (d *publisher) put(ctx context.Context, job *publishJob, items []item, out []Result) {
	ctx, cancel := context.WithTimeout(ctx, d.write)
	defer cancel()
	waiting := make([]int, 0, len(items))
	for i := range items {
		out[i] = Result{Index: items[i].index}
		if no := items[i].rejected; no != nil {
			out[i].Status, out[i].Reason, out[i].Pointer, out[i].Detail = Rejected, no.Code, no.Pointer, no.Detail
			continue
		}
		waiting = append(waiting, i)
	}
	failed := map[string]bool{}
	for len(waiting) > 0 {
		var now, later []int
		taken := make(map[string]bool, len(waiting))
		for _, i := range waiting {
			switch order := items[i].order; {
			case failed[order]:
				out[i].Status, out[i].Detail = Failed, heldBack
			case taken[order]:
				later = append(later, i)
			default:
				taken[order] = true
				now = append(now, i)
			}
		}
		d.wave(ctx, items, now, out)
		for _, i := range now {
			if out[i].Status == Failed {
				failed[items[i].order] = true
			}
		}
		waiting = later
	}
	d.tally(job.id, out)
}

// wave writes items of different subjects together.
func (d *publisher) wave(ctx context.Context, items []item, now []int, out []Result) {
	type written struct {
		i int
		Result
	}
	var (
		mu    sync.Mutex
		gone  bool // nobody waits any more
		left  = len(now)
		ready = make(chan struct{})
		fault error
	)
	if left == 0 {
		return
	}
	for _, i := range now {
		// Until it is answered, it is not known.
		out[i].Status, out[i].Detail = Failed, notWritten
	}
	results := make([]written, 0, left)
	for _, i := range now {
		d.Write(ctx, items[i].event, func(partition int32, offset int64, err error) {
			mu.Lock()
			defer mu.Unlock()
			if gone {
				return
			}
			if err == nil {
				results = append(results, written{i, Result{Status: Accepted, Position: &EventPosition{partition, offset}}})
			} else if fault == nil {
				fault = err
			}
			if left--; left == 0 {
				close(ready)
			}
		})
	}
	select {
	case <-ready:
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	gone = true
	for _, r := range results {
		r.Index = out[r.i].Index
		out[r.i] = r.Result
	}
	if fault == nil && left > 0 {
		fault = ctx.Err()
	}
	if fault != nil {
		d.server.log.Error("events could not be written", "request", requestID(ctx), "of", len(now), "written", len(results), "err", fault)
	}
}

func (d *publisher) tally(id broker.DatasetID, out []Result) {
	type kind struct {
		status Status
		reason broker.RejectionCode
	}
	counts := map[kind]int{}
	for i := range out {
		counts[kind{out[i].Status, out[i].Reason}]++
	}
	for k, n := range counts {
		d.events.WithLabelValues(string(id), string(k.status), string(k.reason)).Add(float64(n))
	}
}
