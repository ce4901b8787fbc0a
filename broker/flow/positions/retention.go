package positions

import (
	"context"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	index "datafordeler/broker/store/positions"
)

// sweep is what is under way of freeing the room of what retention removed.
type sweep struct {
	looked time.Time // when the source topics were last looked at
	dirty  bool      // something was left out since a sweep began
	step   int       // of a sweep; 0 where none is under way
}

// lookEvery is how often one looks what retention removed.
const lookEvery = time.Minute

// tidy leaves out what retention removed, now and then, and frees its room a step at
// a time.
func (f *feed) tidy(ctx context.Context) error {
	s := &f.swept
	if time.Since(s.looked) >= lookEvery {
		if err := f.look(ctx); err != nil {
			return err
		}
	}
	if s.step == 0 && !s.dirty {
		return nil
	}
	if s.step == 0 {
		s.dirty = false
	}
	if _, err := f.index.Sweep(ctx, s.step); err != nil {
		return err
	}
	s.step = (s.step + 1) % index.Steps
	return nil
}

// look leaves out what retention removed.
func (f *feed) look(ctx context.Context) error {
	f.swept.looked = time.Now()
	moved, err := f.expire(ctx)
	f.swept.dirty = f.swept.dirty || moved
	return err
}

// expire asks where each source partition begins now.
func (f *feed) expire(ctx context.Context) (moved bool, err error) {
	topics := map[broker.DatasetID]bool{}
	for _, s := range f.index.Sources() {
		topics[s.Dataset] = true
	}
	for dataset := range topics {
		topic := f.Topics.Source(string(dataset))
		there, err := kafka.Describe(ctx, f.adm, topic)
		if err != nil {
			return moved, err
		}
		d, ok := there[topic]
		var starts map[string]map[int32]int64
		if ok {
			if starts, err = kafka.Starts(ctx, f.adm, topic); err != nil {
				return moved, err
			}
		}
		for _, s := range f.index.Sources() {
			switch start := starts[topic][s.Partition]; {
			case s.Dataset != dataset:
			case !ok || broker.Digest(d.ID) != s.TopicID:
				if err := f.index.Remove(ctx, s.TopicID); err != nil {
					return moved, err
				}
				moved = true
			case start > s.Floor:
				if err := f.index.Expire(ctx, s.TopicID, s.Partition, start); err != nil {
					return moved, err
				}
				moved = true
			}
		}
	}
	return moved, nil
}
