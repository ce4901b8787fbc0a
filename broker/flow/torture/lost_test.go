package torture_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/providers/synthetic"
)

// abandon aborts a transaction of a slot's that has written to all buckets of
// deliveries, or given an offset to the group, and waits until Kafka has told
// every partition.
func (r *rig) abandon(ctx context.Context, slot string, deliveries, offset bool) {
	r.t.Helper()
	id := r.group + "-" + slot
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.DisableClientMetrics(), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	producer, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cl.BeginTransaction(); err != nil {
		r.t.Fatal(err)
	}
	number := int32(0)
	if deliveries {
		number = deliveryBuckets - 1
	}
	for n := range number + 1 {
		topic := r.topics.Deliveries()
		if !deliveries {
			topic = r.topics.Decisions()
		}
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: n, Value: []byte(aborted)}).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
	if offset {
		partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		partition.Offset = 1
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic, topic.Partitions = r.topics.Source("inntekt"), append(topic.Partitions, partition)
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = id, r.group, producer, epoch, -1
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
		r.t.Fatal(err)
	}
	if !until(time.Minute, func() bool {
		all, err := r.adm.DescribeTransactions(ctx, id)
		return err == nil && all[id].State == "CompleteAbort"
	}) {
		r.t.Fatalf("the transaction of %s does not end", id)
	}
}

const aborted = "this was aborted, and nobody is to read it"

// Kafka has aborted a transaction of a slot's without telling the partitions
// (KAFKA-20734), and the slot goes on: it must not commit with its own next
// transaction what was aborted.
func TestTortureLostAbort(t *testing.T) { t.Parallel(); lostMarkers(t, "la.", "0") }

// The same of a slot that nobody will ever start again, which had given an
// offset to the group: that must not stay unstable for ever.
func TestTortureLostOffset(t *testing.T) { t.Parallel(); lostMarkers(t, "lo.", "gone") }

func lostMarkers(t *testing.T, prefix, slot string) {
	rnd, seed := newRand(t)
	const people = 2_000
	cluster := kafkatest.Start(t, kafkatest.Options{})
	r := newRig(t, cluster, prefix)
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	r.openSubjects(g, people)
	items, known := plan(rnd, g, people)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	p := r.publisher()
	if err := p.send(ctx, items[:len(items)/2]); err != nil {
		t.Fatal(err)
	}
	first := r.serve(0, r.config) // makes the topics
	r.drain(2 * time.Minute)
	first.term()

	goesOn := slot == "0"
	r.abandon(ctx, slot, goesOn, !goesOn)
	var lose []string
	if goesOn {
		for n := range deliveryBuckets {
			lose = append(lose, fmt.Sprintf("%s-%d", r.topics.Deliveries(), n))
		}
	} else {
		offsets, number, err := kafka.GroupPartition(ctx, r.adm, r.group)
		if err != nil {
			t.Fatal(err)
		}
		lose = append(lose, fmt.Sprintf("%s-%d", offsets, number))
	}
	cluster.Kill(0)
	cluster.LoseMarkers(t, 0, lose...)
	cluster.Restart(t, 0)
	if err := p.send(ctx, items[len(items)/2:]); err != nil {
		t.Fatal(err)
	}
	if !goesOn && !until(time.Minute, func() bool {
		committed, err := r.adm.FetchOffsetsForTopics(kadm.RequireStable(ctx), r.group, r.topics.Source("inntekt"))
		o, _ := committed.Lookup(r.topics.Source("inntekt"), 0)
		return errors.Is(errors.Join(err, o.Err), kerr.UnstableOffsetCommit)
	}) {
		t.Fatal("the group's offset is to be unstable")
	}

	i := r.serve(0, r.config)
	r.drain(2 * time.Minute)
	if n := strings.Count(i.all(), "it is told now"); n != len(lose) {
		t.Errorf("%d partitions were told, want %d\n%s", n, len(lose), i.tail())
	}
	i.term()
	for n := range deliveryBuckets {
		for _, m := range r.kcat(r.topics.Deliveries(), n) {
			if string(m.value) == aborted {
				t.Errorf("%s/%d: what was aborted is committed", r.topics.Deliveries(), n)
			}
		}
	}
	r.audit(g, known).run(p.sent)
}

// diagnosis is what Kafka says of the group's offsets and of all transactions.
func (r *rig) diagnosis() string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	sources := []string{r.topics.Source("inntekt"), r.topics.Source("eiendomsskatt")}
	stable, err := r.adm.FetchOffsetsForTopics(kadm.RequireStable(ctx), r.group, sources...)
	say("group %s, stable offsets: %v", r.group, err)
	stable.Each(func(o kadm.OffsetResponse) {
		say("  %s/%d at %d %q: %v", o.Topic, o.Partition, o.At, o.Metadata, o.Err)
	})
	anyhow, err := r.adm.FetchOffsetsForTopics(ctx, r.group, sources...)
	say("offsets, stable or not: %v", err)
	anyhow.Each(func(o kadm.OffsetResponse) {
		say("  %s/%d at %d %q: %v", o.Topic, o.Partition, o.At, o.Metadata, o.Err)
	})
	groups, err := r.adm.DescribeGroups(ctx, r.group)
	say("the group is %s with %d members: %v", groups[r.group].State, len(groups[r.group].Members), err)
	listed, err := r.adm.ListTransactions(ctx, nil, nil)
	say("transactions: %v", err)
	described, err := r.adm.DescribeTransactions(ctx, listed.TransactionalIDs()...)
	described.Each(func(d kadm.DescribedTransaction) {
		say("  %s: %s, producer %d, epoch %d, in %v: %v", d.TxnID, d.State, d.ProducerID, d.ProducerEpoch, d.Topics, d.Err)
	})
	topics, err2 := r.adm.ListTopicsWithInternal(ctx)
	say("open in partitions: %v", errors.Join(err, err2))
	all := kadm.TopicsSet{}
	for topic, d := range topics {
		for p := range d.Partitions {
			all.Add(topic, p)
		}
	}
	producers, err := r.adm.DescribeProducers(ctx, all)
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			say("  %s/%d: producer %d, epoch %d, from offset %d, coordinator epoch %d", p.Topic, p.Partition, p.ProducerID, p.ProducerEpoch, p.CurrentTxnStartOffset, p.CoordinatorEpoch)
		}
	})
	say("(%v)", err)
	for topic := range topics {
		starts, err := r.adm.ListCommittedOffsets(ctx, topic)
		ends, err2 := r.adm.ListEndOffsets(ctx, topic)
		starts.Each(func(o kadm.ListedOffset) {
			if end, _ := ends.Lookup(o.Topic, o.Partition); end.Offset != o.Offset {
				say("  %s/%d is readable to %d of %d: %v", o.Topic, o.Partition, o.Offset, end.Offset, errors.Join(err, err2))
			}
		})
	}
	return b.String()
}

// Kafka loses the end of the ledger's last transaction. Its entries are there, and
// nobody can read them: they are not to be written once more.
func TestTortureLostLedgerEnd(t *testing.T) {
	t.Parallel()
	rnd, seed := newRand(t)
	const people = 2_000
	cluster := kafkatest.Start(t, kafkatest.Options{})
	r := newRig(t, cluster, "ll.")
	g := synthetic.New(synthetic.Config{People: people, Seed: seed})
	r.openSubjects(g, people)
	items, known := plan(rnd, g, people)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	p := r.publisher()
	if err := p.send(ctx, items[:len(items)/2]); err != nil {
		t.Fatal(err)
	}
	first := r.serve(0, r.config)
	r.drain(2 * time.Minute)
	first.term() // what was decided is in the ledger

	cluster.Kill(0)
	cluster.LoseMarkers(t, 0, r.topics.Ledger()+"-0")
	cluster.Restart(t, 0)
	if err := p.send(ctx, items[len(items)/2:]); err != nil {
		t.Fatal(err)
	}
	i := r.serve(0, r.config)
	r.drain(2 * time.Minute)
	a := r.audit(g, known)
	a.run(p.sent)
	r.evident(a)
	if !strings.Contains(i.all(), "it is told now") {
		t.Errorf("no end was lost: the test tests nothing\n%s", i.tail())
	}
	i.term()
}
