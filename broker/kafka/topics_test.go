package kafka

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker/kafka/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// Each test of topics runs on both engines.
func onBoth(t *testing.T, test func(t *testing.T, e *Engine, cfg Config)) {
	t.Run("embedded", func(t *testing.T) {
		cfg := embedded(t.TempDir())
		test(t, open(t, cfg, Own), cfg)
	})
	t.Run("kafka", func(t *testing.T) {
		c, prefix := kafkatest.Shared(t)
		cfg := Defaults()
		cfg.Engine, cfg.Brokers, cfg.Prefix = EngineKafka, c.Brokers(), prefix
		test(t, open(t, cfg, Own), cfg)
	})
}

func settings(t *testing.T, adm *kadm.Client, topic string) map[string]string {
	t.Helper()
	rcs, err := adm.DescribeTopicConfigs(bounded(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	for _, rc := range rcs {
		for _, c := range rc.Configs {
			if c.Value != nil {
				m[c.Key] = *c.Value
			}
		}
	}
	return m
}

func TestEnsureTopics(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx := bounded(t)
		adm := admin(t, e)
		specs := []TopicSpec{cfg.ControlSpec(), cfg.SourceSpec("d"), cfg.RejectedSpec("d"), cfg.DeliveriesSpec(),
			cfg.MailboxSpec("m"), cfg.DecisionsSpec(), cfg.LedgerSpec(), cfg.CheckpointsSpec()}
		// Instances start at the same time.
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := EnsureTopics(ctx, adm, specs...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, test := range []struct{ topic, retention, timestamp string }{
			{cfg.Topics().Control(), "-1", "CreateTime"},
			{cfg.Topics().Source("d"), "7776000000", "LogAppendTime"},
			{cfg.Topics().Deliveries(), "2592000000", "CreateTime"},
			{cfg.Topics().Decisions(), "-1", "CreateTime"},
		} {
			got := settings(t, adm, test.topic)
			if got["retention.ms"] != test.retention || got["message.timestamp.type"] != test.timestamp || got["max.message.bytes"] != "1048576" {
				t.Errorf("%s: retention.ms %s, message.timestamp.type %s, max.message.bytes %s", test.topic,
					got["retention.ms"], got["message.timestamp.type"], got["max.message.bytes"])
			}
		}
		ids, err := TopicIDs(ctx, adm, cfg.Topics().Control(), cfg.Topics().Source("d"))
		if err != nil || len(ids) != 2 {
			t.Errorf("topic ids %v (%v)", ids, err)
		}

		// A changed retention is carried out; a changed number of partitions is
		// refused.
		cfg.Retention.Source = time.Hour
		if err := EnsureTopics(ctx, adm, cfg.SourceSpec("d")); err != nil {
			t.Error(err)
		}
		if got := settings(t, adm, cfg.Topics().Source("d"))["retention.ms"]; got != "3600000" {
			t.Errorf("retention.ms %s after it was changed to an hour", got)
		}
		cfg.SourcePartitions++
		err = EnsureTopics(ctx, adm, cfg.SourceSpec("d"))
		if err == nil || !strings.Contains(err.Error(), "has 6 partitions where the configuration says 7") {
			t.Errorf("error %v", err)
		}

		none := cfg.Topics().Source("none")
		if _, err := TopicIDs(ctx, adm, none); err == nil || !strings.Contains(err.Error(), none) {
			t.Errorf("error %v", err)
		}
		if _, err := CommittedEnds(ctx, adm, none); err == nil || !strings.Contains(err.Error(), none) {
			t.Errorf("error %v", err)
		}
	})
}

// Committed ends stop at an open transaction and go past it once it has ended.
func TestCommittedEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx := bounded(t)
		topic := cfg.Topics().Mailbox("m")
		ensure(t, e, cfg.MailboxSpec("m"))
		check := func(want int64) {
			t.Helper()
			ends, err := CommittedEnds(ctx, admin(t, e), topic)
			if err != nil || ends[topic][0] != want {
				t.Errorf("committed end %v, want %d (%v)", ends, want, err)
			}
		}
		check(0)
		cl := producer(t, e, topic)
		if err := begin(ctx, cl, topic, 1, "v"); err != nil {
			t.Fatal(err)
		}
		check(0)
		if err := cl.EndTransaction(ctx, true); err != nil {
			t.Fatal(err)
		}
		for range 1000 { // a cluster answers the commit before its marker can be seen
			ends, err := CommittedEnds(ctx, admin(t, e), topic)
			if err != nil {
				t.Fatal(err)
			}
			if ends[topic][0] == 2 {
				break
			}
		}
		check(2) // the record and the marker
	})
}

func TestTopicNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := Topics{Prefix: rapid.StringMatching(`[a-z.]{0,5}`).Draw(t, "prefix")}
		dataset := rapid.StringMatching(`[a-z0-9._-]{1,20}`).Draw(t, "dataset")
		if err := names.ValidName(dataset); err != nil {
			t.Fatal(err)
		}
		if got, ok := names.SourceDataset(names.Source(dataset)); !ok || got != dataset {
			t.Fatalf("the dataset of %s is %q, %v", names.Source(dataset), got, ok)
		}
		for _, other := range []string{names.Control(), names.Rejected(dataset), names.Mailbox(dataset), names.Deliveries()} {
			if got, ok := names.SourceDataset(other); ok {
				t.Fatalf("%s is taken for the source of %s", other, got)
			}
		}
	})
	for _, bad := range []string{"", "a b", "å", strings.Repeat("a", 249)} {
		if (Topics{}).ValidName(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestValidate(t *testing.T) {
	cluster := Defaults()
	cluster.Engine, cluster.Brokers = EngineKafka, []string{"kafka-1:9092"}
	local := embedded("data")
	for _, good := range []Config{cluster, local} {
		if err := good.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		from Config
		set  func(*Config)
		want string
	}{
		{local, func(c *Config) { c.Engine = "redis" }, "engine:"},
		{local, func(c *Config) { c.Data = "" }, "data:"},
		{local, func(c *Config) { c.Listen = "0.0.0.0:9092" }, "listen:"},
		{local, func(c *Config) { c.Listen = "nowhere" }, "listen:"},
		{local, func(c *Config) { c.Listen = "127.0.0.1:x" }, "listen:"},
		{local, func(c *Config) { c.Brokers = []string{"h:1"} }, "brokers:"},
		{local, func(c *Config) { c.Replication = 3 }, "replication:"},
		{local, func(c *Config) { c.Reserve = -1 }, "reserve:"},
		{local, func(c *Config) { c.SASL.Username = "u" }, "sasl:"},
		{local, func(c *Config) { c.TLS.Enabled = true }, "tls:"},
		{local, func(c *Config) { c.Prefix = "a b" }, "prefix:"},
		{local, func(c *Config) { c.Prefix = strings.Repeat("a", 101) }, "prefix:"},
		{local, func(c *Config) { c.Prefix = "__x" }, "prefix:"},
		{local, func(c *Config) { c.SourcePartitions = 0 }, "source_partitions:"},
		{local, func(c *Config) { c.DeliveryBuckets = -1 }, "delivery_buckets:"},
		{local, func(c *Config) { c.MaxMessageBytes = 1 }, "max_message_bytes:"},
		{local, func(c *Config) { c.Retention.Source = time.Second }, "retention.source:"},
		{cluster, func(c *Config) { c.Brokers = nil }, "brokers:"},
		{cluster, func(c *Config) { c.Brokers = []string{"kafka-1"} }, "brokers[0]:"},
		{cluster, func(c *Config) { c.Data = "data" }, "data:"},
		{cluster, func(c *Config) { c.Replication = 0 }, "replication:"},
		{cluster, func(c *Config) { c.SASL = SASL{Mechanism: "plain", Username: "u", PasswordFile: "f"} }, "sasl.mechanism:"},
		{cluster, func(c *Config) { c.SASL = SASL{Mechanism: ScramSHA256} }, "sasl.password_file:"},
		{cluster, func(c *Config) { c.TLS.CertFile = "f" }, "tls:"},
	} {
		cfg := test.from
		test.set(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want one with %q", err, test.want)
		}
	}
}

// BenchmarkDurability writes transactions of 1,000 records of 760 bytes to four
// partitions, with and without an fsync for each batch; docs/decisions/0003 has
// the figures.
func BenchmarkDurability(b *testing.B) {
	for name, opts := range map[string][]kfake.Opt{"page-cache": nil, "fsync": {kfake.SyncWrites()}} {
		b.Run(name, func(b *testing.B) {
			c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.DataDir(b.TempDir()), kfake.SeedTopics(4, "t"))...)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			cl := client(b, &Engine{log: discard, seeds: c.ListenAddrs()}, kgo.TransactionalID("p"))
			value := make([]byte, 760)
			for b.Loop() {
				if err := cl.BeginTransaction(); err != nil {
					b.Fatal(err)
				}
				rs := make([]*kgo.Record, 1000)
				for i := range rs {
					rs[i] = &kgo.Record{Topic: "t", Value: value}
				}
				if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
					b.Fatal(err)
				}
				if err := cl.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "records/s")
		})
	}
}
