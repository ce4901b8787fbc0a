package main

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/flow/positions"
	index "datafordeler/broker/store/positions"
)

// positionsOff turns the index of positions off.
const positionsOff = "off"

// positionsPath is where the index of positions is; "off" where there is none.
func (c Config) positionsPath() string { return c.beside(c.Positions.Path, "positions.db") }

// locating is a running instance's index of positions; all of it does nothing where
// that is turned off.
type locating struct {
	follower *positions.Follower // nil where it is turned off
}

// newLocating makes what fills the index. The node has its keys.
func (n *node) newLocating() locating {
	path := n.cfg.positionsPath()
	if path == positionsOff {
		return locating{}
	}
	n.located = locating{positions.New(positions.Options{
		Path: path, Engine: n.engine, Topics: n.cfg.Topics(), Control: n.control, Hasher: n.ring, Log: n.log,
	})}
	return n.located
}

func (l locating) collectors() []prometheus.Collector {
	if l.follower == nil {
		return nil
	}
	return l.follower.Collectors()
}

// run follows until ctx ends; then wait returns, once it has stopped.
func (l locating) run(ctx context.Context) (wait func()) {
	if l.follower == nil {
		return func() {}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.follower.Run(ctx)
	}()
	return func() { <-ended }
}

// published is the index of positions, for backfill.
type published struct{ *positions.Follower }

// Current implements flow.Positions. An index that is being made anew is behind.
func (p published) Current(ctx context.Context, ds broker.DatasetID, topicID broker.Digest, partition int32, below int64,
	subject broker.SubjectKey, most int) (offsets []int64, ok bool, err error) {
	if p.Next(topicID, partition) < below {
		return nil, false, nil
	}
	entries, err := p.Follower.Current(ctx, ds, subject, index.Bound{TopicID: topicID, Partition: partition, Before: below}, most)
	if errors.Is(err, positions.ErrClosed) {
		return nil, false, nil
	}
	for i := range entries {
		offsets = append(offsets, entries[i].Offset)
	}
	return offsets, err == nil && p.Next(topicID, partition) >= below, err
}

// Earlier implements flow.Positions.
func (p published) Earlier(ctx context.Context, ds broker.DatasetID, topicID broker.Digest, partition int32, below int64,
	subject broker.SubjectKey, of broker.EventHash) (c flow.Chain, ok bool, err error) {
	if p.Next(topicID, partition) < below {
		return c, false, nil
	}
	links, whole, err := p.Follower.Earlier(ctx, ds, subject, of)
	if errors.Is(err, positions.ErrClosed) {
		return c, false, nil
	}
	c.Whole = whole
	for _, l := range links {
		to := flow.Link{Position: l.Position, Event: l.Event, At: l.At}
		for sub, what := range l.Given {
			if what&index.GivenData != 0 {
				to.Given = append(to.Given, sub)
			}
			if what&index.GivenBack != 0 {
				to.Back = append(to.Back, sub)
			}
		}
		c.Links = append(c.Links, to)
	}
	return c, err == nil, err
}
