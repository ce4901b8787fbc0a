package positions

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	index "datafordeler/broker/store/positions"
)

// errOtherLog: what the index holds did not come from this log, or the log lost what
// it had read. It is made anew.
var errOtherLog = errors.New("the index of positions does not fit this log")

// open opens the index, sees that it fits the log, and reads on where it stands. One
// that does not fit is emptied.
func (f *Follower) open(ctx context.Context) (_ *feed, err error) {
	in := &feed{Options: &f.Options, topic: f.Topics.Decisions(), sources: map[broker.DatasetID]*sourceTopic{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if in.adm, err = f.Engine.Admin(); err != nil {
		return nil, err
	}
	if in.index, err = index.Open(ctx, f.Path); err != nil {
		return nil, err
	}
	stamp, err := in.stamp(ctx)
	if err != nil {
		return nil, err
	}
	err = in.fits(ctx, stamp)
	if errors.Is(err, errOtherLog) {
		f.Log.Warn("the index of positions is made anew from the log", "path", f.Path, "why", err)
		f.update(func() { f.rebuilt++ })
		if err = in.index.Close(); err != nil {
			return nil, err
		}
		in.index, err = index.Recreate(ctx, f.Path)
	}
	if err == nil {
		err = in.index.SetStamp(ctx, stamp)
	}
	if err == nil {
		err = in.look(ctx)
	}
	if err == nil {
		err = in.begin(ctx)
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// stamp tells the log and the matching key apart from others: subjects under another
// key would never be found.
func (f *feed) stamp(ctx context.Context) (string, error) {
	ids, err := kafka.TopicIDs(ctx, f.adm, f.topic)
	if err != nil {
		return "", err
	}
	key := f.Hasher.Subject(broker.PropertySubject, "index of positions")
	return fmt.Sprintf("decisions %s key %s", broker.Digest(ids[f.topic]), key), nil
}

// fits is errOtherLog where the index does not belong to this log, or is ahead of it.
func (f *feed) fits(ctx context.Context, stamp string) error {
	logs := f.index.Logs()
	if len(logs) == 0 && len(f.index.Sources()) == 0 {
		return nil // it is new
	}
	switch have, err := f.index.Stamp(ctx); {
	case err != nil:
		return err
	case have != stamp:
		return fmt.Errorf("%w: it was made of %q, and this is %q", errOtherLog, have, stamp)
	}
	starts, err := kafka.Starts(ctx, f.adm, f.topic)
	if err != nil {
		return err
	}
	ends, err := kafka.CommittedEnds(ctx, f.adm, f.topic)
	if err != nil {
		return err
	}
	for p, l := range logs {
		start, ok := starts[f.topic][p]
		switch end := ends[f.topic][p]; {
		case !ok:
			return fmt.Errorf("%w: it has read partition %d of %s, which is not there", errOtherLog, p, f.topic)
		case l.Next > end:
			return fmt.Errorf("%w: it has read partition %d of %s up to offset %d, and the topic ends at %d", errOtherLog, p, f.topic, l.Next, end)
		case l.Next < start:
			return fmt.Errorf("%w: it has read partition %d of %s up to offset %d, and the topic begins at %d: what lies between is gone", errOtherLog, p, f.topic, l.Next, start)
		case l.Last < start:
			continue // nothing to compare it with
		}
		same := false
		err := f.Engine.Each(ctx, kafka.Span{Topic: f.topic, Partition: p, From: l.Last, To: l.Last + 1}, func(r *kgo.Record) error {
			same = placeOf(r) == l
			return nil
		})
		if _, gone := errors.AsType[*kafka.GoneError](err); err != nil && !gone {
			return err
		}
		if !same {
			return fmt.Errorf("%w: another record stands at offset %d of partition %d of %s", errOtherLog, l.Last, p, f.topic)
		}
	}
	return f.sourcesFit(ctx)
}

// sourcesFit looks at the source topics: those that were made anew are removed.
func (f *feed) sourcesFit(ctx context.Context) error {
	for _, s := range f.index.Sources() {
		topic := f.Topics.Source(string(s.Dataset))
		there, err := kafka.Describe(ctx, f.adm, topic)
		if err != nil {
			return err
		}
		if d, ok := there[topic]; !ok || broker.Digest(d.ID) != s.TopicID {
			if err := f.index.Remove(ctx, s.TopicID); err != nil {
				return err
			}
			continue
		}
		ends, err := kafka.CommittedEnds(ctx, f.adm, topic)
		if err != nil {
			return err
		}
		if end := ends[topic][s.Partition]; s.Next > end {
			return fmt.Errorf("%w: it has records of %s/%d up to offset %d, and the topic ends at %d", errOtherLog, topic, s.Partition, s.Next, end)
		}
	}
	return nil
}

// begin opens the reader of decisions.
func (f *feed) begin(ctx context.Context) error {
	starts, err := kafka.Starts(ctx, f.adm, f.topic)
	if err != nil {
		return err
	}
	f.from = starts[f.topic]
	for p, l := range f.index.Logs() {
		f.from[p] = l.Next
	}
	ids, err := kafka.TopicIDs(ctx, f.adm, f.topic)
	if err != nil {
		return err
	}
	var spans []kafka.Span
	for p, from := range f.from {
		spans = append(spans, kafka.Span{Topic: f.topic, Partition: p, From: from, To: kafka.Follow, ID: kadm.TopicID(ids[f.topic])})
	}
	f.reader, err = f.Engine.Reader(spans, kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(4<<20))
	return err
}
