package flow

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ClientOptions are how a session reads and writes, but for who it is and what
// it consumes. The benchmark's other ways use the same, so that they differ from
// the broker in what they do with a record and in nothing else.
func (c Config) ClientOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.TransactionTimeout(c.TransactionTimeout),
		kgo.SessionTimeout(c.SessionTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, c.SessionTimeout/3)),
		kgo.RebalanceTimeout(max(c.TransactionTimeout, c.SessionTimeout) + 5*time.Second),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.RequireStableFetchOffsets(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // never a silent jump
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(1 << 20),
		kgo.WithPools(&fetchPool{}),
		kgo.FetchMaxBytes(64 << 20),
		// So that a full transaction is of several partitions, which are computed
		// side by side, and not of most of one.
		kgo.FetchMaxPartitionBytes(1 << 20),
	}
}
