package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kafka's own topics.
const (
	offsetsTopic      = "__consumer_offsets"
	transactionsTopic = "__transaction_state"
)

// OpenTransaction is a transaction that a partition has not seen the end of.
type OpenTransaction struct {
	Topic      string
	Partition  int32
	ProducerID int64
	Epoch      int16 // that the records in the partition carry
	Start      int64 // offset of the first of them
	// CoordinatorEpoch is the one of the producer's last marker here; 0 if none.
	CoordinatorEpoch int32

	// Lost is set where Kafka has recorded how the transaction ended, and that
	// it had told all its partitions, while this one was never told.
	Lost bool
	// TransactionalID is "" where Kafka names none, or several.
	TransactionalID string
	// MarkerEpoch and Committed are what the missing marker says.
	MarkerEpoch int16
	Committed   bool
	// Why is what keeps an open transaction from being judged, or "" where it
	// is lost, or simply still going on.
	Why string
}

func (o OpenTransaction) String() string {
	return fmt.Sprintf("%s/%d from offset %d, producer %d, epoch %d, transactional id %q", o.Topic, o.Partition, o.Start, o.ProducerID, o.Epoch, o.TransactionalID)
}

// Unstable gives, for each partition that is readable to less than its end, how
// far it is readable. It costs two list requests, and none of them is heavy.
func Unstable(ctx context.Context, adm *kadm.Client, topics ...string) (map[string]map[int32]int64, error) {
	stable, err := CommittedEnds(ctx, adm, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := listed(adm.ListEndOffsets, ctx, topics)
	if err != nil {
		return nil, err
	}
	for t, ps := range stable {
		for p, at := range ps {
			if at >= ends[t][p] {
				delete(ps, p)
			}
		}
		if len(ps) == 0 {
			delete(stable, t)
		}
	}
	return stable, nil
}

// GroupPartition is the partition of Kafka's offsets topic that has the group's.
func GroupPartition(ctx context.Context, adm *kadm.Client, group string) (topic string, partition int32, err error) {
	n, err := internalPartitions(ctx, adm, offsetsTopic)
	if err != nil {
		return "", 0, err
	}
	return offsetsTopic, placed(group, n), nil
}

func internalPartitions(ctx context.Context, adm *kadm.Client, topic string) (int32, error) {
	have, err := listTopics(ctx, adm, topic)
	if err == nil {
		err = have[topic].Err
	}
	if err != nil {
		return 0, fmt.Errorf("looking topic %s up: %w", topic, err)
	}
	if n := len(have[topic].Partitions); n > 0 {
		return int32(n), nil
	}
	return 0, fmt.Errorf("looking topic %s up: %w", topic, kerr.UnknownTopicOrPartition)
}

// placed is where Kafka's coordinators keep what belongs to a name: the absolute
// value of Java's hash of the string (0 for the one that has none), modulo the
// number of partitions.
func placed(name string, partitions int32) int32 {
	var h int32
	for _, c := range utf16.Encode([]rune(name)) {
		h = 31*h + int32(c)
	}
	if h == math.MinInt32 {
		return 0
	}
	return max(h, -h) % partitions
}

// OpenTransactions lists the transactions that are open in the partitions, and
// finds out which of them will never end, because their markers are lost.
//
// Apache Kafka 4.0 to 4.3 (KAFKA-20734) takes a partition that has no leader at
// the moment for one that was deleted, and sends it no marker: it records that
// the transaction has ended everywhere. It happens where a node starts after a
// crash, before it is let into the cluster again. The partition is then
// readable no further, and a group's offsets are unstable, for ever.
//
// How such a transaction ended stands in Kafka's own transaction log, as the
// decision that was recorded before any marker was sent. That log is read for
// it: the coordinator's memory, and so the tools, know no more of it as soon as
// the producer has begun anew. The caller should ask only about partitions that
// have been unstable for some time, for a log may be large.
//
// It needs permission to read the topics and __transaction_state, and to
// describe the cluster's transactional ids.
func (e *Engine) OpenTransactions(ctx context.Context, adm *kadm.Client, partitions kadm.TopicsSet) ([]OpenTransaction, error) {
	open, err := describeOpen(ctx, adm, partitions)
	if err != nil || len(open) == 0 {
		return nil, err
	}
	var producers []int64
	for _, o := range open {
		producers = append(producers, o.ProducerID)
	}
	slices.Sort(producers)
	all, err := adm.ListTransactions(ctx, slices.Compact(producers), nil)
	if err != nil {
		return nil, fmt.Errorf("listing transactions: %w", err)
	}
	ids := map[int64][]string{}
	for _, t := range all {
		ids[t.ProducerID] = append(ids[t.ProducerID], t.TxnID)
	}
	logs := map[string][]kmsg.TxnMetadataValue{}
	for i := range open {
		o := &open[i]
		if len(ids[o.ProducerID]) != 1 {
			o.Why = fmt.Sprintf("Kafka has %d transactional ids for its producer", len(ids[o.ProducerID]))
			continue
		}
		o.TransactionalID = ids[o.ProducerID][0]
		logs[o.TransactionalID] = nil
	}
	if err := e.readTransactionLog(ctx, adm, logs); err != nil {
		return nil, err
	}
	lost := false
	for i := range open {
		o := &open[i]
		if o.Why == "" {
			o.judge(logs[o.TransactionalID])
			lost = lost || o.Lost
		}
	}
	if !lost {
		return open, nil
	}
	// The marker may have come while the log was read. After Kafka has recorded
	// that all are told, none comes any more: so what is open now stays so.
	again, err := describeOpen(ctx, adm, partitions)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(open, func(o OpenTransaction) bool {
		return o.Lost && !slices.ContainsFunc(again, func(a OpenTransaction) bool {
			return a.Topic == o.Topic && a.Partition == o.Partition && a.ProducerID == o.ProducerID && a.Epoch == o.Epoch && a.Start == o.Start
		})
	}), nil
}

// OpenOf lists the transactions of one producer that are open in the partitions,
// without a judgement on them. It needs permission to read the topics.
func OpenOf(ctx context.Context, adm *kadm.Client, producer int64, partitions kadm.TopicsSet) ([]OpenTransaction, error) {
	open, err := describeOpen(ctx, adm, partitions)
	return slices.DeleteFunc(open, func(o OpenTransaction) bool { return o.ProducerID != producer }), err
}

func describeOpen(ctx context.Context, adm *kadm.Client, partitions kadm.TopicsSet) ([]OpenTransaction, error) {
	topics, err := adm.DescribeProducers(ctx, partitions)
	if err != nil {
		return nil, fmt.Errorf("describing producers: %w", err)
	}
	var open []OpenTransaction
	var failed error
	topics.EachPartition(func(p kadm.DescribedProducersPartition) {
		if p.Err != nil && failed == nil {
			failed = fmt.Errorf("describing the producers of %s/%d: %w", p.Topic, p.Partition, p.Err)
		}
		p.ActiveProducers.Each(func(d kadm.DescribedProducer) {
			if d.CurrentTxnStartOffset >= 0 {
				open = append(open, OpenTransaction{Topic: p.Topic, Partition: p.Partition, ProducerID: d.ProducerID,
					Epoch: d.ProducerEpoch, Start: d.CurrentTxnStartOffset, CoordinatorEpoch: max(0, d.CoordinatorEpoch)})
			}
		})
	})
	slices.SortFunc(open, func(a, b OpenTransaction) int { return int(a.Start - b.Start) })
	return open, failed
}

// readTransactionLog fills in, for each transactional id, what Kafka's
// transaction log has of it, in the log's order.
func (e *Engine) readTransactionLog(ctx context.Context, adm *kadm.Client, ids map[string][]kmsg.TxnMetadataValue) error {
	if len(ids) == 0 {
		return nil
	}
	n, err := internalPartitions(ctx, adm, transactionsTopic)
	if err != nil {
		return err
	}
	ends, err := listed(adm.ListEndOffsets, ctx, []string{transactionsTopic})
	if err != nil {
		return err
	}
	from := map[int32]kgo.Offset{}
	for id := range ids {
		if p := placed(id, n); ends[transactionsTopic][p] > 0 {
			from[p] = kgo.NewOffset().AtStart()
		}
	}
	client, err := e.NewClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{transactionsTopic: from}), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	for len(from) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("reading %s: %w", transactionsTopic, err)
		}
		for _, f := range fetches.Errors() {
			return fmt.Errorf("reading %s/%d: %w", f.Topic, f.Partition, f.Err)
		}
		var failed error
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset >= ends[transactionsTopic][r.Partition]-1 {
				delete(from, r.Partition)
			}
			key := kmsg.NewTxnMetadataKey()
			if r.Value == nil || key.ReadFrom(r.Key) != nil {
				return // forgotten by Kafka; or not about a transaction
			}
			if _, ok := ids[key.TransactionalID]; !ok {
				return
			}
			value := kmsg.NewTxnMetadataValue()
			if err := value.ReadFrom(r.Value); err != nil {
				failed = fmt.Errorf("%s/%d offset %d: %w", transactionsTopic, r.Partition, r.Offset, err)
				return
			}
			ids[key.TransactionalID] = append(ids[key.TransactionalID], value)
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// judge finds in the log of its transactional id how the transaction ended.
//
// With transactions of version 2 (KIP-890) each has an epoch of its own, so the
// records' epoch names the transaction: the entry of that epoch that has the
// partition in it, then the decision, of a higher epoch, then that all is done.
// With older ones several transactions share an epoch, and what is open might
// be of any of them: those are left to a person.
func (o *OpenTransaction) judge(log []kmsg.TxnMetadataValue) {
	at := -1
	for i, v := range log {
		if v.ProducerID == o.ProducerID && v.ProducerEpoch == o.Epoch && v.State == kmsg.TransactionStateOngoing && o.in(v) {
			at = i
		}
	}
	if at < 0 {
		o.Why = "Kafka's transaction log does not have its beginning"
		return
	}
	if log[at].ClientTransactionVersion < 2 {
		o.Why = "it was written by the old transaction protocol, in which its end cannot be told from another's"
		return
	}
	if at+1 == len(log) {
		return // it goes on; its timeout bounds it
	}
	decision := log[at+1]
	committed := decision.State == kmsg.TransactionStatePrepareCommit
	if !committed && decision.State != kmsg.TransactionStatePrepareAbort || decision.ProducerID != o.ProducerID || decision.ProducerEpoch <= o.Epoch || !o.in(decision) {
		o.Why = fmt.Sprintf("Kafka's transaction log has %v of epoch %d after its beginning, which is no decision on it", decision.State, decision.ProducerEpoch)
		return
	}
	o.MarkerEpoch, o.Committed = decision.ProducerEpoch, committed
	if at+2 == len(log) {
		return // the markers are on their way
	}
	done := log[at+2].State
	if committed && done != kmsg.TransactionStateCompleteCommit || !committed && done != kmsg.TransactionStateCompleteAbort {
		o.Why = fmt.Sprintf("Kafka's transaction log has %v after %v", done, decision.State)
		return
	}
	o.Lost = true
}

func (o *OpenTransaction) in(v kmsg.TxnMetadataValue) bool {
	return slices.ContainsFunc(v.Topics, func(t kmsg.TxnMetadataValueTopic) bool {
		return t.Topic == o.Topic && slices.Contains(t.Partitions, o.Partition)
	})
}

// errOldMarkers is a cluster in which a marker can hit another transaction.
var errOldMarkers = errors.New("Kafka before 4.2 does not check whose end a marker is (KIP-1228)")

// Tell writes the marker that Kafka never sent, with Kafka's own decision and
// epoch. Kafka takes it only if the partition's last epoch of the producer is
// lower (KIP-1228), so it ends the transaction that it was found for or none,
// and several instances may write it. It needs the permission ALTER on the
// cluster.
func Tell(ctx context.Context, adm *kadm.Client, cl *kgo.Client, o OpenTransaction) error {
	if !o.Lost {
		return fmt.Errorf("the transaction open in %v is not known to have ended", o)
	}
	versions, err := adm.ApiVersions(ctx)
	if err != nil {
		return fmt.Errorf("asking for Kafka's versions: %w", err)
	}
	for _, v := range versions {
		if latest, ok := v.KeyMaxVersion(int16(kmsg.WriteTxnMarkers)); v.Err == nil && (!ok || latest < 2) {
			return errOldMarkers
		}
	}
	topic := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	topic.Topic, topic.Partitions = o.Topic, []int32{o.Partition}
	marker := kmsg.NewWriteTxnMarkersRequestMarker()
	marker.ProducerID, marker.ProducerEpoch, marker.Committed = o.ProducerID, o.MarkerEpoch, o.Committed
	marker.CoordinatorEpoch, marker.TransactionVersion = o.CoordinatorEpoch, 2
	marker.Topics = append(marker.Topics, topic)
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Markers = append(req.Markers, marker)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("writing the marker: %w", err)
	}
	for _, m := range resp.Markers {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("writing the marker: %w", err)
				}
				return nil
			}
		}
	}
	return errors.New("writing the marker: Kafka's answer is empty")
}
