package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetcher reads single records by where they lie, by one request to the leader of the
// partition. A record comes with its whole batch, of up to a megabyte and more, which
// costs most: so batches are kept for a minute, as far as there is room. Any number of
// goroutines may use it.
type Fetcher struct {
	client     *kgo.Client
	adm        *kadm.Client
	decompress kgo.Decompressor

	mu      sync.Mutex
	leaders map[place]leader
	kept    []*keptBatch // the latest used last
	bytes   int          // of them
}

// keptBatch is what one request brought of a partition: the offsets [from, to).
type keptBatch struct {
	place
	id       kadm.TopicID
	from, to int64
	records  []*kgo.Record
	bytes    int
	read     time.Time
}

const (
	keptBytes = 64 << 20
	keptFor   = time.Minute // retention takes records away: not for long is what was read still there
	keptMost  = 4096
)

// lookIn finds a record in what is kept; known is false where it is not kept.
func (f *Fetcher) lookIn(at place, id kadm.TopicID, offset int64, now time.Time) (r *kgo.Record, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.kept) - 1; i >= 0; i-- {
		k := f.kept[i]
		if k.place != at || k.id != id || offset < k.from || offset >= k.to || now.Sub(k.read) > keptFor {
			continue
		}
		copy(f.kept[i:], f.kept[i+1:])
		f.kept[len(f.kept)-1] = k
		j, ok := slices.BinarySearchFunc(k.records, offset, func(r *kgo.Record, at int64) int { return cmp.Compare(r.Offset, at) })
		if !ok {
			return nil, true
		}
		return k.records[j], true
	}
	return nil, false
}

// keep keeps what was read, and lets go of what was used the longest ago.
func (f *Fetcher) keep(k *keptBatch) {
	for _, r := range k.records {
		k.bytes += weight(r)
	}
	if k.bytes > keptBytes/4 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept, f.bytes = append(f.kept, k), f.bytes+k.bytes
	n := 0
	for ; f.bytes > keptBytes || len(f.kept)-n > keptMost; n++ {
		f.bytes -= f.kept[n].bytes
	}
	f.kept = slices.Delete(f.kept, 0, n)
}

type leader struct {
	broker int32
	id     kadm.TopicID
}

// Fetcher opens a fetcher. The caller closes it.
func (e *Engine) Fetcher() (*Fetcher, error) {
	cl, err := e.NewClient()
	if err != nil {
		return nil, err
	}
	return &Fetcher{client: cl, adm: kadm.NewClient(cl), decompress: kgo.DefaultDecompressor(), leaders: map[place]leader{}}, nil
}

// Close ends what is under way.
func (f *Fetcher) Close() { f.client.Close() }

// fetchBytes is what is asked for at once: a batch comes whole, however large, and
// seldom more than one is needed.
const fetchBytes = 1 << 20

// Record reads the committed record at an offset of one topic: id is that topic's, so
// that what lies there in one of the same name, made anew, is not taken for it. The
// error is a [*GoneError] where it is not there any more.
func (f *Fetcher) Record(ctx context.Context, topic string, id kadm.TopicID, partition int32, offset int64) (*kgo.Record, error) {
	at := place{topic, partition}
	if r, known := f.lookIn(at, id, offset, time.Now()); r != nil {
		return r, nil
	} else if known {
		return nil, &GoneError{topic, partition, offset, -1, -1, kerr.OffsetOutOfRange}
	}
	var err error
	for try := range 3 {
		var l leader
		if l, err = f.leader(ctx, at, try > 0); err != nil {
			return nil, err
		}
		if l.id != id {
			return nil, &GoneError{topic, partition, offset, -1, -1, kerr.UnknownTopicID}
		}
		var r *kgo.Record
		if r, err = f.fetch(ctx, l, at, offset); err == nil {
			return r, nil
		}
		if !errors.Is(err, kerr.NotLeaderForPartition) && !errors.Is(err, kerr.FencedLeaderEpoch) && !errors.Is(err, kerr.UnknownTopicID) &&
			!errors.Is(err, kerr.UnknownTopicOrPartition) {
			break
		}
	}
	return nil, fmt.Errorf("reading %s/%d at offset %d: %w", topic, partition, offset, err)
}

func (f *Fetcher) leader(ctx context.Context, at place, anew bool) (leader, error) {
	f.mu.Lock()
	l, ok := f.leaders[at]
	f.mu.Unlock()
	if ok && !anew {
		return l, nil
	}
	topics, err := f.adm.ListTopics(ctx, at.topic)
	if err != nil {
		return leader{}, err
	}
	d := topics[at.topic]
	if d.Err != nil {
		return leader{}, fmt.Errorf("topic %s: %w", at.topic, d.Err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, p := range d.Partitions {
		f.leaders[place{at.topic, n}] = leader{p.Leader, d.ID}
	}
	if l, ok = f.leaders[at]; !ok || d.Partitions == nil {
		return leader{}, fmt.Errorf("topic %s has no partition %d", at.topic, at.partition)
	}
	return l, nil
}

func (f *Fetcher) fetch(ctx context.Context, l leader, at place, offset int64) (*kgo.Record, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel = 0, 0, fetchBytes, 1
	req.SessionEpoch = -1 // no fetch session
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = at.topic, l.id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = at.partition, offset, fetchBytes, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	answer, err := f.client.Broker(int(l.broker)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := answer.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("an answer of another kind, %T", answer)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			rp := &resp.Topics[i].Partitions[j]
			if rp.Partition != at.partition {
				continue
			}
			err := kerr.ErrorForCode(rp.ErrorCode)
			gone := &GoneError{at.topic, at.partition, offset, rp.LogStartOffset, rp.HighWatermark, kerr.OffsetOutOfRange}
			if errors.Is(err, kerr.OffsetOutOfRange) {
				return nil, gone
			}
			if err != nil {
				return nil, err
			}
			got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{IsolationLevel: kgo.ReadCommitted(), Topic: at.topic, Partition: at.partition},
				rp, f.decompress, nil)
			if got.Err != nil {
				return nil, got.Err
			}
			if n := len(got.Records); n > 0 {
				f.keep(&keptBatch{place: at, id: l.id, from: got.Records[0].Offset, to: got.Records[n-1].Offset + 1, records: got.Records, read: time.Now()})
			}
			for _, r := range got.Records {
				if r.Offset == offset {
					return r, nil
				}
			}
			return nil, gone
		}
	}
	return nil, fmt.Errorf("an answer without partition %d", at.partition)
}
