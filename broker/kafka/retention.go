package kafka

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// RetentionLag is for how much longer than its retention a topic may keep a
// record: a thirtieth of it, between ten minutes and a week.
//
// Apache Kafka deletes whole segments, by their youngest record, and a segment
// takes records for segment.ms; so segment.ms is the lag, and a partition has
// some thirty segments whatever its retention. To that comes [RetentionCheck].
// The embedded engine deletes batch by batch and needs the second only.
func RetentionLag(retention time.Duration) time.Duration {
	return min(max(retention/30, 10*time.Minute), 7*day)
}

// RetentionCheck is how long an engine may take to act on what has expired: the
// embedded engine looks once an hour, and when it starts; Apache Kafka every five
// minutes (log.retention.check.interval.ms), and removes a file a minute later.
const RetentionCheck = time.Hour

// Gone is the age at which no record of a topic with this retention is left on a
// running engine; 0 where the topic keeps for ever.
func Gone(retention time.Duration) time.Duration {
	if retention <= 0 {
		return 0
	}
	return retention + RetentionLag(retention) + RetentionCheck
}

// Holding is what a topic keeps and for how long.
type Holding struct {
	Partitions int
	// Retention is in force now; -1 keeps for ever. Own reports that it is set
	// on the topic itself, and does not change with a default of the cluster's.
	Retention time.Duration
	Own       bool
	// Segment is how long a segment takes records.
	Segment time.Duration
	// Oldest is the time of the oldest record, by which it expires; zero where
	// there is none. The embedded engine goes by the writer's clock in every
	// topic: it does not stamp records itself.
	Oldest time.Time
	// Bytes are those of all copies on all brokers; -1 where the caller may not
	// ask (it takes DESCRIBE on the cluster).
	Bytes int64
}

// Holdings looks topics up as they are now; those that do not exist are left out.
func Holdings(ctx context.Context, adm *kadm.Client, names ...string) (map[string]Holding, error) {
	details, err := Describe(ctx, adm, names...)
	if err != nil || len(details) == 0 {
		return nil, err
	}
	there := make([]string, 0, len(details))
	set := kadm.TopicsSet{}
	out := make(map[string]Holding, len(details))
	for name, d := range details {
		there = append(there, name)
		out[name] = Holding{Partitions: int(d.Partitions)}
		for p := range d.Partitions {
			set.Add(name, p)
		}
	}
	configs, err := adm.DescribeTopicConfigs(ctx, there...)
	if err != nil {
		return nil, fmt.Errorf("read topic settings: %w", err)
	}
	for _, rc := range configs {
		if rc.Err != nil {
			return nil, fmt.Errorf("read settings of topic %s: %w", rc.Name, rc.Err)
		}
		h := out[rc.Name]
		for _, c := range rc.Configs {
			if c.Value == nil || c.Key != "retention.ms" && c.Key != "segment.ms" {
				continue
			}
			ms, err := strconv.ParseInt(*c.Value, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("topic %s: %s is %q, not a number", rc.Name, c.Key, *c.Value)
			}
			d := time.Duration(-1)
			if ms >= 0 && ms <= math.MaxInt64/int64(time.Millisecond) {
				d = time.Duration(ms) * time.Millisecond
			}
			if c.Key == "segment.ms" {
				h.Segment = d
			} else {
				h.Retention, h.Own = d, c.Source.String() == "DYNAMIC_TOPIC_CONFIG"
			}
		}
		out[rc.Name] = h
	}
	if err := oldest(ctx, adm, there, out); err != nil {
		return nil, fmt.Errorf("find the oldest records: %w", err)
	}
	sizes(ctx, adm, set, out)
	return out, nil
}

// oldest fills Oldest, by asking for the first record at or after 1970.
func oldest(ctx context.Context, adm *kadm.Client, names []string, out map[string]Holding) error {
	first, err := adm.ListOffsetsAfterMilli(ctx, 0, names...)
	if err == nil {
		err = first.Error()
	}
	if err != nil {
		return err
	}
	ends, err := CommittedEnds(ctx, adm, names...)
	if err != nil {
		return err
	}
	first.Each(func(o kadm.ListedOffset) {
		if o.Timestamp <= 0 || o.Offset >= ends[o.Topic][o.Partition] {
			return // none: the end is answered instead
		}
		h := out[o.Topic]
		if at := time.UnixMilli(o.Timestamp).UTC(); h.Oldest.IsZero() || at.Before(h.Oldest) {
			h.Oldest = at
			out[o.Topic] = h
		}
	})
	return nil
}

// sizes fills Bytes. That it may not be asked is no fault of the retention's.
func sizes(ctx context.Context, adm *kadm.Client, set kadm.TopicsSet, out map[string]Holding) {
	dirs, err := adm.DescribeAllLogDirs(ctx, set)
	known := err == nil && len(dirs) > 0
	dirs.Each(func(d kadm.DescribedLogDir) { known = known && d.Err == nil })
	for name, h := range out {
		if !known {
			h.Bytes = -1
			out[name] = h
		}
	}
	if !known {
		return
	}
	dirs.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if h, ok := out[p.Topic]; ok {
				h.Bytes += p.Size
				out[p.Topic] = h
			}
		})
	})
}
