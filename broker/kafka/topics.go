package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Topics names the broker's topics. The names are a public interface: other
// systems have ACLs on them and read them.
type Topics struct{ Prefix string }

const (
	sourceRoot   = "source."
	rejectedRoot = "rejected."
	mailboxRoot  = "mailbox."
)

// Control is the one totally ordered log of registry, consent, case, policy
// and budget events.
func (t Topics) Control() string { return t.Prefix + "control" }

// Source is where a dataset's provider publishes.
func (t Topics) Source(dataset string) string { return t.Prefix + sourceRoot + dataset }

// Rejected is where a dataset's provider reads what intake refused, and why.
func (t Topics) Rejected(dataset string) string { return t.Prefix + rejectedRoot + dataset }

// Deliveries holds what feeds and webhooks are served from, in buckets by
// mailbox.
func (t Topics) Deliveries() string { return t.Prefix + "deliveries" }

// Webhooks holds how far each mailbox was sent to its endpoint; its partitions are
// those of Deliveries.
func (t Topics) Webhooks() string { return t.Prefix + "webhooks" }

// Mailbox is the topic of one mailbox that receives by Kafka.
func (t Topics) Mailbox(id string) string { return t.Prefix + mailboxRoot + id }

// Decisions holds the batches of decisions; its partitions are the source's.
func (t Topics) Decisions() string { return t.Prefix + "decisions" }

// Ledger holds the decision batches in one order.
func (t Topics) Ledger() string { return t.Prefix + "ledger" }

// Checkpoints holds the ledger's signed heads.
func (t Topics) Checkpoints() string { return t.Prefix + "checkpoints" }

// SourceDataset is the inverse of Source: the dataset whose source topic this
// is, and whether it is one.
func (t Topics) SourceDataset(topic string) (string, bool) {
	dataset, ok := strings.CutPrefix(topic, t.Prefix+sourceRoot)
	return dataset, ok && dataset != ""
}

// ValidName reports why a dataset or mailbox id cannot stand in a topic name,
// or nil. Ids should be checked when they are registered, not when the topic
// is made.
func (t Topics) ValidName(id string) error {
	if id == "" {
		return errors.New("is empty")
	}
	if i := strings.IndexFunc(id, notTopicRune); i >= 0 {
		return fmt.Errorf("%q has a character that no topic name may have; use a-z, A-Z, 0-9, '.', '_' and '-'", id)
	}
	if n := len(t.Rejected(id)); n > maxTopicName {
		return fmt.Errorf("%q makes a topic name of %d characters; at most %d", id, n, maxTopicName)
	}
	return nil
}

const maxTopicName = 249

func notTopicRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
}

// TopicSpec is what a topic is to be.
type TopicSpec struct {
	Name       string
	Partitions int32
	// Retention is how long records are kept; zero and negative mean for ever.
	Retention time.Duration
	// AppendTime has Kafka stamp each record when it is written, so that no
	// writer decides by its own clock when its records expire.
	AppendTime bool
	// MaxMessageBytes is the largest batch, in bytes; 0 leaves the cluster's.
	MaxMessageBytes int32
	// Replication is the number of copies; -1 or 0 leaves the cluster's.
	Replication int16
}

func (c Config) spec(name string, partitions int32, retention time.Duration) TopicSpec {
	return TopicSpec{Name: name, Partitions: partitions, Retention: retention,
		MaxMessageBytes: c.MaxMessageBytes, Replication: c.Replication}
}

// ControlSpec is one partition, for ever: its order is the registry's order.
func (c Config) ControlSpec() TopicSpec { return c.spec(c.Topics().Control(), 1, -1) }

// SourceSpec is a dataset's source topic.
func (c Config) SourceSpec(dataset string) TopicSpec {
	s := c.spec(c.Topics().Source(dataset), c.SourcePartitions, c.Retention.Source)
	s.AppendTime = true
	return s
}

// RejectedSpec is a dataset's topic of refused records.
func (c Config) RejectedSpec(dataset string) TopicSpec {
	return c.spec(c.Topics().Rejected(dataset), 1, c.Retention.Rejected)
}

// DeliveriesSpec is the bucketed topic behind feeds and webhooks.
func (c Config) DeliveriesSpec() TopicSpec {
	return c.spec(c.Topics().Deliveries(), c.DeliveryBuckets, c.Retention.Deliveries)
}

// WebhooksSpec keeps what is written every few hours anew for as long as deliveries.
func (c Config) WebhooksSpec() TopicSpec {
	keep := c.Retention.Deliveries
	if keep > 0 {
		keep = max(keep, 7*24*time.Hour)
	}
	return c.spec(c.Topics().Webhooks(), c.DeliveryBuckets, keep)
}

// MailboxSpec is the topic of one mailbox that receives by Kafka.
func (c Config) MailboxSpec(id string) TopicSpec {
	return c.spec(c.Topics().Mailbox(id), 1, c.Retention.Deliveries)
}

// DecisionsSpec has the source's partitions, for ever.
func (c Config) DecisionsSpec() TopicSpec {
	return c.spec(c.Topics().Decisions(), c.SourcePartitions, -1)
}

// LedgerSpec is one partition, for ever.
func (c Config) LedgerSpec() TopicSpec { return c.spec(c.Topics().Ledger(), 1, -1) }

// CheckpointsSpec is one partition, for ever.
func (c Config) CheckpointsSpec() TopicSpec { return c.spec(c.Topics().Checkpoints(), 1, -1) }

// settings are the topic settings that the broker states outright. Retention
// is always among them: neither a cluster's default nor the embedded engine's
// may decide when evidence expires.
func (s TopicSpec) settings() map[string]string {
	ms := int64(-1)
	if s.Retention > 0 {
		ms = s.Retention.Milliseconds()
	}
	m := map[string]string{
		"retention.ms":           strconv.FormatInt(ms, 10),
		"retention.bytes":        "-1",
		"cleanup.policy":         "delete",
		"message.timestamp.type": "CreateTime",
	}
	if s.Retention > 0 {
		m["segment.ms"] = strconv.FormatInt(RetentionLag(s.Retention).Milliseconds(), 10)
	}
	if s.AppendTime {
		m["message.timestamp.type"] = "LogAppendTime"
	}
	if s.MaxMessageBytes > 0 {
		m["max.message.bytes"] = strconv.Itoa(int(s.MaxMessageBytes))
	}
	if s.Replication >= 3 {
		// One copy may be away without stopping writes; two may not.
		m["min.insync.replicas"] = strconv.Itoa(int(s.Replication) - 1)
	}
	return m
}

// EnsureTopics makes each topic that is missing and brings the settings of each
// that exists to its spec. A topic that exists with another number of
// partitions is an error and is not touched: records are placed by hash, so
// the number cannot be changed under them. Several instances may call it at
// the same time.
func EnsureTopics(ctx context.Context, adm *kadm.Client, specs ...TopicSpec) error {
	if len(specs) == 0 {
		return nil
	}
	names := specNames(specs)
	have, err := listTopics(ctx, adm, names...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	var faults []error
	var existing []TopicSpec
	for _, s := range specs {
		d, ok := have[s.Name]
		switch {
		case ok && d.Err == nil:
			existing = append(existing, s)
		case !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			raced, err := createTopic(ctx, adm, s)
			if err != nil {
				faults = append(faults, err)
			} else if raced {
				existing = append(existing, s)
			}
		default:
			faults = append(faults, fmt.Errorf("topic %s: %w", s.Name, d.Err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	if err := waitForTopics(ctx, adm, names); err != nil {
		return err
	}
	return reconcile(ctx, adm, existing)
}

func specNames(specs []TopicSpec) []string {
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.Name
	}
	return names
}

// listTopics asks the cluster, never the client's cache: the cache remembers
// for seconds that a topic was missing. The client asks outright when it is to
// bring the caller's permissions too, which the cache does not hold.
func listTopics(ctx context.Context, adm *kadm.Client, names ...string) (kadm.TopicDetails, error) {
	return adm.ListTopics(kadm.WithAuthorizedOps(ctx), names...)
}

// visibleLimit bounds how long a topic that has been made may stay unknown to
// the brokers that are asked.
const visibleLimit = 30 * time.Second

// waitForTopics waits until each topic is known and each of its partitions has
// a leader: a cluster answers a creation before all its brokers have heard.
func waitForTopics(ctx context.Context, adm *kadm.Client, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, visibleLimit)
	defer cancel()
	for {
		have, err := listTopics(ctx, adm, names...)
		var missing error
		for _, n := range names {
			d, ok := have[n]
			switch {
			case err != nil:
				missing = err
			case !ok:
				missing = fmt.Errorf("topic %s: %w", n, kerr.UnknownTopicOrPartition)
			case d.Err != nil:
				missing = fmt.Errorf("topic %s: %w", n, d.Err)
			default:
				for _, p := range d.Partitions {
					if p.Err != nil || p.Leader < 0 {
						missing = fmt.Errorf("topic %s, partition %d has no leader", n, p.Partition)
					}
				}
			}
		}
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for new topics: %w; check that the cluster's brokers are up", missing)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// createTopic makes one topic and reports whether somebody else did so first.
func createTopic(ctx context.Context, adm *kadm.Client, s TopicSpec) (raced bool, err error) {
	settings := make(map[string]*string)
	for k, v := range s.settings() {
		settings[k] = &v
	}
	replication := s.Replication
	if replication == 0 {
		replication = -1
	}
	r, err := adm.CreateTopic(ctx, s.Partitions, replication, settings, s.Name)
	switch {
	case err == nil && r.Err == nil:
		return false, nil
	case errors.Is(err, kerr.TopicAlreadyExists) || errors.Is(r.Err, kerr.TopicAlreadyExists):
		return true, nil
	case err == nil:
		err = r.Err
	}
	if r.ErrMessage != "" {
		return false, fmt.Errorf("create topic %s with %d partitions: %w (%s)", s.Name, s.Partitions, err, r.ErrMessage)
	}
	return false, fmt.Errorf("create topic %s with %d partitions: %w", s.Name, s.Partitions, err)
}

func reconcile(ctx context.Context, adm *kadm.Client, specs []TopicSpec) error {
	if len(specs) == 0 {
		return nil
	}
	names := specNames(specs)
	have, err := listTopics(ctx, adm, names...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	var faults []error
	for _, s := range specs {
		d := have[s.Name]
		if d.Err != nil {
			faults = append(faults, fmt.Errorf("topic %s: %w", s.Name, d.Err))
		} else if n := len(d.Partitions); n != int(s.Partitions) {
			faults = append(faults, fmt.Errorf("topic %s has %d partitions where the configuration says %d; its records are placed by hash, so set the configuration to %d", s.Name, n, s.Partitions, n))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return fmt.Errorf("read topic settings: %w", err)
	}
	current := make(map[string]map[string]string)
	for _, rc := range configs {
		if rc.Err != nil {
			return fmt.Errorf("read settings of topic %s: %w", rc.Name, rc.Err)
		}
		m := make(map[string]string)
		for _, c := range rc.Configs {
			// A value inherited from the cluster may change with the cluster,
			// so only what is set on the topic itself counts as set.
			if c.Value != nil && c.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				m[c.Key] = *c.Value
			}
		}
		current[rc.Name] = m
	}
	for _, s := range specs {
		want := s.settings()
		var alter []kadm.AlterConfig
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if v := want[k]; current[s.Name][k] != v {
				alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
			}
		}
		if len(alter) == 0 {
			continue
		}
		rs, err := adm.AlterTopicConfigs(ctx, alter, s.Name)
		if err != nil {
			return fmt.Errorf("set settings of topic %s: %w", s.Name, err)
		}
		for _, r := range rs {
			if r.Err != nil {
				return fmt.Errorf("set settings of topic %s: %w", r.Name, r.Err)
			}
		}
	}
	return nil
}

// TopicIDs gives the cluster's id of each named topic. A topic that is deleted
// and made anew has another id, which is how a reader knows that the offsets it
// remembers are of another log. A missing topic is an error.
func TopicIDs(ctx context.Context, adm *kadm.Client, names ...string) (map[string]kadm.TopicID, error) {
	if len(names) == 0 {
		return map[string]kadm.TopicID{}, nil // no names would ask for all
	}
	have, err := listTopics(ctx, adm, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	ids := make(map[string]kadm.TopicID, len(names))
	for _, n := range names {
		d, ok := have[n]
		switch {
		case !ok:
			return nil, fmt.Errorf("topic %s: %w", n, kerr.UnknownTopicOrPartition)
		case d.Err != nil:
			return nil, fmt.Errorf("topic %s: %w", n, d.Err)
		case d.ID == (kadm.TopicID{}):
			return nil, fmt.Errorf("topic %s has no id; the cluster is older than Kafka 2.8, use 4.0 or newer", n)
		}
		ids[n] = d.ID
	}
	return ids, nil
}

// TopicDetail is what a topic is now.
type TopicDetail struct {
	ID         kadm.TopicID
	Partitions int32
}

// Describe looks topics up, as they are at this moment; those that do not exist
// are left out.
func Describe(ctx context.Context, adm *kadm.Client, names ...string) (map[string]TopicDetail, error) {
	out := make(map[string]TopicDetail, len(names))
	if len(names) == 0 {
		return out, nil // no names would ask for all
	}
	have, err := listTopics(ctx, adm, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	for _, n := range names {
		d, ok := have[n]
		switch {
		case !ok, errors.Is(d.Err, kerr.UnknownTopicOrPartition):
		case d.Err != nil:
			return nil, fmt.Errorf("topic %s: %w", n, d.Err)
		default:
			out[n] = TopicDetail{d.ID, int32(len(d.Partitions))}
		}
	}
	return out, nil
}

// CommittedEnds gives, for each partition of the named topics, the offset after
// the last record that a read-committed reader can see now (the last stable
// offset). Offsets before it are settled; those after may belong to a
// transaction that is still open.
func CommittedEnds(ctx context.Context, adm *kadm.Client, topics ...string) (map[string]map[int32]int64, error) {
	return listed(adm.ListCommittedOffsets, ctx, topics)
}

// Starts gives the first offset that each partition still keeps.
func Starts(ctx context.Context, adm *kadm.Client, topics ...string) (map[string]map[int32]int64, error) {
	return listed(adm.ListStartOffsets, ctx, topics)
}

func listed(list func(context.Context, ...string) (kadm.ListedOffsets, error), ctx context.Context, topics []string) (map[string]map[int32]int64, error) {
	out := make(map[string]map[int32]int64, len(topics))
	if len(topics) == 0 {
		return out, nil // no names would ask for all
	}
	offsets, err := list(ctx, topics...)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", strings.Join(topics, ", "), err)
	}
	offsets.Each(func(o kadm.ListedOffset) {
		if out[o.Topic] == nil {
			out[o.Topic] = make(map[int32]int64)
		}
		out[o.Topic][o.Partition] = o.Offset
	})
	for _, t := range topics {
		if len(out[t]) == 0 {
			return nil, fmt.Errorf("list offsets of %s: %w", t, kerr.UnknownTopicOrPartition)
		}
	}
	return out, nil
}
