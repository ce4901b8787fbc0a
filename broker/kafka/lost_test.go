package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"datafordeler/broker/kafka/kafkatest"
)

// What Kafka's transaction log says decides, and nothing but the whole of it.
func TestJudge(t *testing.T) {
	const (
		empty     = kmsg.TransactionStateEmpty
		ongoing   = kmsg.TransactionStateOngoing
		prepareC  = kmsg.TransactionStatePrepareCommit
		prepareA  = kmsg.TransactionStatePrepareAbort
		completeC = kmsg.TransactionStateCompleteCommit
		completeA = kmsg.TransactionStateCompleteAbort
	)
	type entry = kmsg.TxnMetadataValue
	in := []kmsg.TxnMetadataValueTopic{{Topic: "t", Partitions: []int32{0, 3}}}
	elsewhere := []kmsg.TxnMetadataValueTopic{{Topic: "t", Partitions: []int32{0}}, {Topic: "u", Partitions: []int32{3}}}
	of := func(epoch int16, state kmsg.TransactionState, topics []kmsg.TxnMetadataValueTopic) entry {
		return entry{ProducerID: 7, ProducerEpoch: epoch, State: state, Topics: topics, ClientTransactionVersion: 2}
	}
	old := func(v entry) entry { v.ClientTransactionVersion = 0; return v }
	other := func(v entry) entry { v.ProducerID = 8; return v }
	for _, c := range []struct {
		name      string
		log       []entry
		lost      bool
		committed bool
		marker    int16
		unsure    bool
	}{
		{"committed", []entry{of(4, empty, nil), of(4, ongoing, in), of(5, prepareC, in), of(5, completeC, nil)}, true, true, 5, false},
		{"aborted", []entry{of(4, ongoing, in), of(5, prepareA, in), of(5, completeA, nil)}, true, false, 5, false},
		{"fenced, which skips an epoch", []entry{of(4, ongoing, in), of(6, prepareA, in), of(6, completeA, nil)}, true, false, 6, false},
		{"the partition came in later", []entry{of(4, ongoing, elsewhere), of(4, ongoing, in), of(5, prepareC, in), of(5, completeC, nil)}, true, true, 5, false},
		{"long ago", []entry{of(4, ongoing, in), of(5, prepareC, in), of(5, completeC, nil), of(6, empty, nil), of(6, ongoing, elsewhere), of(7, prepareA, elsewhere), of(7, completeA, nil)}, true, true, 5, false},
		{"going on", []entry{of(3, empty, nil), of(4, ongoing, in)}, false, false, 0, false},
		{"markers on their way", []entry{of(4, ongoing, in), of(5, prepareC, in)}, false, true, 5, false},
		{"the beginning was compacted away", []entry{of(5, completeC, nil)}, false, false, 0, true},
		{"the decision was compacted away", []entry{of(4, ongoing, in), of(5, completeC, nil)}, false, false, 0, true},
		{"the end was compacted away", []entry{of(4, ongoing, in), of(5, prepareC, in), of(6, ongoing, in)}, false, false, 5, true},
		{"a partition that was no part of it", []entry{of(4, ongoing, elsewhere), of(5, prepareC, elsewhere), of(5, completeC, nil)}, false, false, 0, true},
		{"an end that is not its decision's", []entry{of(4, ongoing, in), of(5, prepareC, in), of(5, completeA, nil)}, false, false, 5, true},
		{"a decision that does not name the partition", []entry{of(4, ongoing, in), of(5, prepareC, elsewhere), of(5, completeC, nil)}, false, false, 0, true},
		{"a decision of the same epoch", []entry{of(4, ongoing, in), of(4, prepareC, in), of(4, completeC, nil)}, false, false, 0, true},
		{"the old protocol", []entry{old(of(4, ongoing, in)), old(of(5, prepareA, in)), old(of(5, completeA, nil))}, false, false, 0, true},
		{"another producer's", []entry{other(of(4, ongoing, in)), other(of(5, prepareC, in)), other(of(5, completeC, nil))}, false, false, 0, true},
		{"nothing", nil, false, false, 0, true},
	} {
		o := OpenTransaction{Topic: "t", Partition: 3, ProducerID: 7, Epoch: 4}
		o.judge(c.log)
		if o.Lost != c.lost || o.Lost && (o.Committed != c.committed || o.MarkerEpoch != c.marker) || (o.Why != "") != c.unsure {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
}

// Kafka finds the coordinator of a name by Java's hash of it.
func TestPlaced(t *testing.T) {
	// By the formula in Java's documentation of String.hashCode; the last but one
	// is negative, the last the least of all.
	for name, want := range map[string]int32{"": 0, "a": 97, "hello": 99162322, "l.torture": 208756023, "polygenelubricants": 0} {
		if got := placed(name, 1<<31-1); got != want {
			t.Errorf("placed(%q) = %d, want %d", name, got, want)
		}
	}
}

type lostRig struct {
	t       *testing.T
	ctx     context.Context
	cluster *kafkatest.Cluster
	e       *Engine
	cl      *kgo.Client
	adm     *kadm.Client
}

func newLostRig(t *testing.T) *lostRig {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	r := &lostRig{t: t, ctx: ctx, cluster: kafkatest.Start(t, kafkatest.Options{Properties: map[string]string{
		// Little to do at each restart, and one place to look.
		"offsets.topic.num.partitions": "1", "transaction.state.log.num.partitions": "2"}})}
	c := Defaults()
	c.Engine, c.Brokers = EngineKafka, r.cluster.Brokers()
	r.e = open(t, c, Own)
	r.cl = client(t, r.e)
	r.adm = kadm.NewClient(r.cl)
	if _, err := r.adm.CreateTopic(ctx, 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *lostRig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// producer is a new one of a transactional id.
func (r *lostRig) producer(id string) *kgo.Client {
	r.t.Helper()
	p := client(r.t, r.e, kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(time.Minute))
	_, _, err := p.ProducerID(r.ctx)
	r.must(err)
	return p
}

// write writes a value to both partitions.
func (r *lostRig) write(p *kgo.Client, value string) {
	r.t.Helper()
	for n := range int32(2) {
		r.must(p.ProduceSync(r.ctx, &kgo.Record{Topic: "t", Partition: n, Value: []byte(value)}).FirstErr())
	}
}

// offsets gives the group's offset to the producer's transaction.
func (r *lostRig) offsets(p *kgo.Client, txn, group string, at int64) {
	r.t.Helper()
	id, epoch, err := p.ProducerID(r.ctx)
	r.must(err)
	partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	partition.Offset = at
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = "t", append(topic.Partitions, partition)
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = txn, group, id, epoch, -1
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(r.ctx, p)
	r.must(err)
	r.must(kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
}

// end ends the transaction, and waits until Kafka has told all partitions.
func (r *lostRig) end(p *kgo.Client, id string, how kgo.TransactionEndTry) {
	r.t.Helper()
	r.must(p.EndTransaction(r.ctx, how))
	for {
		all, err := r.adm.DescribeTransactions(r.ctx, id)
		r.must(err)
		if state := all[id].State; state == "CompleteCommit" || state == "CompleteAbort" {
			return
		}
		time.Sleep(5 * time.Millisecond) // Kafka has no call that waits
	}
}

func (r *lostRig) restart(lose ...string) {
	r.t.Helper()
	r.cluster.Kill(0)
	r.cluster.LoseMarkers(r.t, 0, lose...)
	r.cluster.Restart(r.t, 0)
}

func (r *lostRig) stable(group string) (int64, error) {
	r.t.Helper()
	offsets, err := r.adm.FetchOffsetsForTopics(kadm.RequireStable(r.ctx), group, "t")
	if err != nil {
		return 0, err
	}
	o, _ := offsets.Lookup("t", 0)
	return o.At, o.Err
}

// readable is what a reader of committed records gets of a partition.
func (r *lostRig) readable(partition int32) string {
	r.t.Helper()
	ends, err := CommittedEnds(r.ctx, r.adm, "t")
	r.must(err)
	if ends["t"][partition] == 0 {
		return ""
	}
	cl := client(r.t, r.e, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {partition: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	out := ""
	for last := int64(-1); last < ends["t"][partition]-1; {
		fs := cl.PollFetches(r.ctx)
		r.must(fs.Err0())
		fs.EachRecord(func(rec *kgo.Record) {
			if last = rec.Offset; !rec.Attrs.IsControl() {
				out += string(rec.Value)
			}
		})
	}
	return out
}

// open is what is open in all partitions that matter, once Kafka knows.
func (r *lostRig) open(internal ...string) []OpenTransaction {
	r.t.Helper()
	partitions := kadm.TopicsSet{}
	partitions.Add("t", 0, 1)
	for _, t := range internal {
		partitions.Add(t, 0)
	}
	for {
		open, err := r.e.OpenTransactions(r.ctx, r.adm, partitions)
		if err == nil {
			return open
		}
		if r.ctx.Err() != nil {
			r.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // the node is not let into its cluster yet
	}
}

// A transaction whose markers were lost is ended as Kafka had decided, though
// its producer has begun anew since and Kafka's coordinator remembers nothing.
func TestLostMarkers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		end  kgo.TransactionEndTry
		want string
		at   int64
	}{{kgo.TryCommit, "ab", 20}, {kgo.TryAbort, "a", 10}} {
		t.Run(fmt.Sprintf("commit %v", c.end), func(t *testing.T) {
			t.Parallel()
			r := newLostRig(t)
			p := r.producer("p")
			r.must(p.BeginTransaction())
			r.write(p, "a")
			r.offsets(p, "p", "g", 10)
			r.end(p, "p", kgo.TryCommit)
			r.must(p.BeginTransaction())
			r.write(p, "b")
			r.offsets(p, "p", "g", 20)
			r.end(p, "p", c.end)
			r.restart("t-1", "__consumer_offsets-0")
			r.producer("p") // fences the other, as a new session does
			if _, err := r.stable("g"); !errors.Is(err, kerr.UnstableOffsetCommit) {
				t.Fatalf("the group's offset is to be unstable: %v", err)
			}
			if got := r.readable(1); got != "a" {
				t.Fatalf("partition 1 reads %q before it is told", got)
			}
			unstable, err := Unstable(r.ctx, r.adm, "t", offsetsTopic)
			r.must(err)
			if len(unstable["t"]) != 1 || unstable["t"][1] == 0 || len(unstable[offsetsTopic]) != 1 {
				t.Fatalf("unstable: %v", unstable)
			}
			open := r.open(offsetsTopic)
			if len(open) != 2 {
				t.Fatalf("open: %v", open)
			}
			for _, o := range open {
				if !o.Lost || o.Committed != bool(c.end) || o.TransactionalID != "p" {
					t.Fatalf("%+v", o)
				}
				r.must(Tell(r.ctx, r.adm, r.cl, o))
				r.must(Tell(r.ctx, r.adm, r.cl, o)) // another instance's, a moment later
			}
			if at, err := r.stable("g"); err != nil || at != c.at {
				t.Errorf("the group's offset is %d, %v; want %d", at, err, c.at)
			}
			for n := range int32(2) {
				if got := r.readable(n); got != c.want {
					t.Errorf("partition %d reads %q, want %q", n, got, c.want)
				}
			}
			if open := r.open(offsetsTopic); len(open) != 0 {
				t.Errorf("still open: %v", open)
			}
		})
	}
}

// A marker that comes late ends nothing but what it is for, and a transaction
// that goes on is left alone.
func TestLateMarker(t *testing.T) {
	t.Parallel()
	r := newLostRig(t)
	p := r.producer("p")
	r.must(p.BeginTransaction())
	r.write(p, "a")
	r.end(p, "p", kgo.TryAbort)
	r.restart("t-1")
	open := r.open()
	if len(open) != 1 || !open[0].Lost || open[0].Committed {
		t.Fatalf("open: %+v", open)
	}
	lost := open[0]
	r.must(Tell(r.ctx, r.adm, r.cl, lost))

	// The same producer's next transaction has the very epoch of that marker.
	r.must(p.BeginTransaction())
	r.write(p, "b")
	if _, epoch, err := p.ProducerID(r.ctx); err != nil || epoch != lost.MarkerEpoch {
		t.Fatalf("the next transaction has epoch %d, %v; the marker's is %d", epoch, err, lost.MarkerEpoch)
	}
	if err := Tell(r.ctx, r.adm, r.cl, lost); !errors.Is(err, kerr.InvalidProducerEpoch) {
		t.Errorf("a late marker is to be refused: %v", err)
	}
	open = r.open()
	if len(open) != 2 || open[0].Lost || open[1].Lost || open[0].Why != "" || open[1].Why != "" {
		t.Errorf("what goes on is to be left alone: %+v", open)
	}
	if err := Tell(r.ctx, r.adm, r.cl, open[0]); err == nil {
		t.Error("a transaction that goes on was ended")
	}
	r.end(p, "p", kgo.TryCommit)
	for n := range int32(2) {
		if got := r.readable(n); got != "b" {
			t.Errorf("partition %d reads %q, want b", n, got)
		}
	}
}

// One of the old transaction protocol is left to a person.
func TestLostMarkerOfTheOldProtocol(t *testing.T) {
	t.Parallel()
	r := newLostRig(t)
	p := client(t, r.e, kgo.TransactionalID("old"), kgo.MaxVersions(kversion.V3_8_0()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	r.must(p.BeginTransaction())
	r.write(p, "a")
	r.end(p, "old", kgo.TryCommit)
	r.restart("t-0")
	open := r.open()
	if len(open) != 1 || open[0].Lost || open[0].Why == "" {
		t.Fatalf("open: %+v", open)
	}
	if err := Tell(r.ctx, r.adm, r.cl, open[0]); err == nil {
		t.Error("it was ended on a guess")
	}
}
