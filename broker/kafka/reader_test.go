package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// logOf is what was written to a partition, by offset: "" is a marker, or a record
// that was aborted.
type logOf [][]string

// fill writes transactions to the partitions of a topic, so that each ends with a
// marker, in one of them that of an abort.
func fill(t *testing.T, e *Engine, topic string, partitions int32, draw *rand.Rand) logOf {
	t.Helper()
	ctx, cl := bounded(t), producer(t, e, topic)
	log := make(logOf, partitions)
	for i := range 12 {
		how := kgo.TransactionEndTry(draw.IntN(3) > 0 && i < 11) // the last is aborted
		into := draw.Perm(int(partitions))[:1+draw.IntN(int(partitions))]
		if i == 0 {
			into = draw.Perm(int(partitions))
		}
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for _, p := range into {
			for n := range 1 + draw.IntN(4) {
				value := fmt.Sprintf("%d.%d", i, n)
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(value)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
				if how == kgo.TryAbort {
					value = ""
				}
				log[p] = append(log[p], value)
			}
			log[p] = append(log[p], "")
		}
		if err := cl.EndTransaction(ctx, how); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, e, topic, log)
	return log
}

// settled waits until readers of committed records come to the end: a cluster
// answers the end of a transaction before its markers can be seen.
func settled(t *testing.T, e *Engine, topic string, log logOf) {
	t.Helper()
	ctx, adm := bounded(t), admin(t, e)
	for {
		ends, err := CommittedEnds(ctx, adm, topic)
		if err != nil {
			t.Fatal(err)
		}
		short := false
		for p := range log {
			short = short || ends[topic][int32(p)] < int64(len(log[p]))
		}
		if !short {
			return
		}
	}
}

func (l logOf) between(p int32, from, to int64) (out []string) {
	for i, v := range l[p][from:min(to, int64(len(l[p])))] {
		if v != "" {
			out = append(out, fmt.Sprintf("%d=%s", from+int64(i), v))
		}
	}
	return out
}

func told(r *kgo.Record) string { return fmt.Sprintf("%d=%s", r.Offset, r.Value) }

func reader(t *testing.T, e *Engine, spans ...Span) *Reader {
	t.Helper()
	r, err := e.Reader(spans)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Whatever the stretch, a reader hands out what was committed in it, in order, and
// then says that it is at the end.
func TestReader(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		spec := cfg.DeliveriesSpec()
		spec.Partitions = 3
		ensure(t, e, spec)
		topic, log := spec.Name, fill(t, e, spec.Name, 3, testRand(t))
		rapid.Check(t, func(t *rapid.T) {
			var spans []Span
			want, got := map[int32][]string{}, map[int32][]string{}
			for p := range int32(3) {
				end := int64(len(log[p]))
				s := Span{Topic: topic, Partition: p, From: rapid.Int64Range(0, end).Draw(t, "from")}
				s.To = rapid.Int64Range(0, end).Draw(t, "to")
				if spans = append(spans, s); s.From < s.To {
					want[p] = log.between(p, s.From, s.To)
				}
			}
			r, err := e.Reader(spans)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(context.Background(), testLimit)
			defer cancel()
			for {
				var records []*kgo.Record
				var err error
				if rapid.Bool().Draw(t, "one") {
					var one *kgo.Record
					if one, err = r.Read(ctx); err == nil {
						records = append(records, one)
						if r.Next(topic, one.Partition) != one.Offset+1 {
							t.Fatalf("after offset %d it stands at %d", one.Offset, r.Next(topic, one.Partition))
						}
					}
				} else {
					most := rapid.IntRange(0, 3).Draw(t, "most")
					if records, err = r.Poll(ctx, most); most > 0 && len(records) > most {
						t.Fatalf("%d records where at most %d were asked for", len(records), most)
					}
				}
				for _, rec := range records {
					got[rec.Partition] = append(got[rec.Partition], told(rec))
				}
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for p, s := range spans {
				if !slices.Equal(got[s.Partition], want[s.Partition]) {
					t.Fatalf("partition %d from %d to %d: %v, want %v", p, s.From, s.To, got[s.Partition], want[s.Partition])
				}
				if at := r.Next(topic, s.Partition); at != max(s.From, s.To) {
					t.Fatalf("partition %d from %d to %d: it stands at %d", p, s.From, s.To, at)
				}
			}
		})
		spans, err := Spans(bounded(t), admin(t, e), topic)
		if err != nil || len(spans) != 3 {
			t.Fatal(spans, err)
		}
		for p, s := range spans {
			var got []string
			if err := e.Each(bounded(t), s, func(r *kgo.Record) error { got = append(got, told(r)); return nil }); err != nil {
				t.Error(err)
			}
			if want := log.between(int32(p), 0, s.To); !slices.Equal(got, want) || s.To != int64(len(log[p])) {
				t.Errorf("partition %d up to %d: %v, want %v", p, s.To, got, want)
			}
		}
	})
}

// Who leaves a partition has no more of it, and comes to the end of the others.
func TestReaderLeaves(t *testing.T) {
	cfg := embedded(t.TempDir())
	e, spec := open(t, cfg, Own), cfg.DeliveriesSpec()
	spec.Partitions = 2
	ensure(t, e, spec)
	log := fill(t, e, spec.Name, 2, testRand(t))
	r := reader(t, e, Span{Topic: spec.Name, To: Follow}, Span{Topic: spec.Name, Partition: 1, To: int64(len(log[1]))})
	var got []string
	left := false
	for {
		rec, err := r.Read(bounded(t))
		if err == io.EOF {
			break
		}
		switch {
		case err != nil:
			t.Fatal(err)
		case rec.Partition == 1:
			got = append(got, told(rec))
		case left:
			t.Fatalf("offset %d of a partition that was left", rec.Offset)
		default:
			r.Leave(spec.Name, 0)
			r.Leave(spec.Name, 0)
			left = true
		}
	}
	if want := log.between(1, 0, Follow); !left || !slices.Equal(got, want) {
		t.Errorf("left %v; the other: %v, want %v", left, got, want)
	}
}

// An error of the one who reads has the place, and ends it.
func TestEachFails(t *testing.T) {
	cfg := embedded(t.TempDir())
	e, spec := open(t, cfg, Own), cfg.MailboxSpec("m")
	ensure(t, e, spec)
	if err := transact(bounded(t), producer(t, e, "x"), spec.Name, 1, "v", kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	err := e.Each(bounded(t), Span{Topic: spec.Name, To: 2}, func(*kgo.Record) error { return failed })
	if !errors.Is(err, failed) || !strings.Contains(err.Error(), spec.Name+"/0 offset 0") {
		t.Error(err)
	}
	if _, err := e.Reader([]Span{{Topic: spec.Name, From: -1, To: 2}}); err == nil {
		t.Error("a reader from before the beginning")
	}
	if _, err := e.Reader([]Span{{Topic: spec.Name, To: 2}, {Topic: spec.Name, From: 1, To: 2}}); err == nil {
		t.Error("a reader of one partition in two places")
	}
}

// A reader that follows sees what is committed later, moves over what is aborted,
// and hands nothing out of a transaction that is open. It loses nothing where its
// caller stops waiting.
func TestReaderFollows(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx, spec := bounded(t), cfg.MailboxSpec("m")
		ensure(t, e, spec)
		r := reader(t, e, Span{Topic: spec.Name, To: Follow})
		cl := producer(t, e, spec.Name)
		want := func(value string) {
			t.Helper()
			if rec, err := r.Read(ctx); err != nil || string(rec.Value) != value {
				t.Fatalf("read %v (%v), want %s", rec, err, value)
			}
		}
		if err := transact(ctx, cl, spec.Name, 1, "a", kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		want("a")
		if err := transact(ctx, cl, spec.Name, 1, "b", kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		if err := begin(ctx, cl, spec.Name, 1, "c"); err != nil {
			t.Fatal(err)
		}
		for r.Next(spec.Name, 0) < 4 { // a, its marker, b, its marker
			if records, err := r.Poll(ctx, 0); err != nil || len(records) > 0 {
				t.Fatal(records, err)
			}
		}
		brief, cancel := context.WithCancel(ctx)
		stopped := make(chan error)
		go func() {
			_, err := r.Poll(brief, 0)
			stopped <- err
		}()
		cancel()
		if err := <-stopped; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		want("c")
		if err := transact(ctx, cl, spec.Name, 1, "d", kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		want("d")
		r.Close()
		for err := error(nil); err == nil; _, err = r.Read(ctx) { // it says so, and does not wait
		}
	})
}

// is reports an error that says what was gone where, and that comes again.
func is(t *testing.T, r *Reader, want GoneError, cause error) {
	t.Helper()
	var records []*kgo.Record
	var err error
	for err == nil {
		records, err = r.Poll(bounded(t), 0)
		if len(records) > 0 {
			t.Fatalf("read offset %d, want an error", records[0].Offset)
		}
	}
	gone, ok := errors.AsType[*GoneError](err)
	if !ok {
		t.Fatal(err)
	}
	got := *gone
	if got.Err = nil; got != want || !errors.Is(err, cause) {
		t.Fatalf("%+v (%v), want %+v", got, err, want)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("%s/%d", want.Topic, want.Partition)) || !strings.Contains(err.Error(), fmt.Sprintf("offset %d", want.Offset)) {
		t.Error("the message names no place:", err)
	}
	if _, again := r.Read(bounded(t)); again != err {
		t.Error("asked again, it says", again)
	}
}

// What was deleted below a reader, and what never was, is said and not gone round.
func TestReaderGone(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx, adm := bounded(t), admin(t, e)
		spec := cfg.DeliveriesSpec()
		spec.Partitions = 2
		ensure(t, e, spec)
		log := fill(t, e, spec.Name, 2, testRand(t))
		end := int64(len(log[1]))
		following := reader(t, e, Span{Topic: spec.Name, Partition: 1, From: end, To: Follow})
		del := kadm.Offsets{}
		del.Add(kadm.Offset{Topic: spec.Name, Partition: 1, At: 5})
		deleted, err := adm.DeleteRecords(ctx, del)
		if err == nil {
			err = deleted.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		holds := GoneError{Topic: spec.Name, Partition: 1, Start: 5, End: end}
		for _, from := range []int64{0, 4} {
			holds.Offset = from
			is(t, reader(t, e, Span{Topic: spec.Name, Partition: 1, From: from, To: end}), holds, kerr.OffsetOutOfRange)
		}
		holds.Offset = end + 1
		is(t, reader(t, e, Span{Topic: spec.Name, Partition: 1, From: end + 1, To: Follow}), holds, kerr.OffsetOutOfRange)

		var got []string
		if err := e.Each(ctx, Span{Topic: spec.Name, Partition: 1, From: 5, To: end}, func(r *kgo.Record) error { got = append(got, told(r)); return nil }); err != nil {
			t.Error(err)
		}
		if want := log.between(1, 5, end); !slices.Equal(got, want) {
			t.Errorf("from where the partition begins: %v, want %v", got, want)
		}
		if spans, err := Spans(ctx, adm, spec.Name); err != nil || spans[1] != (Span{Topic: spec.Name, Partition: 1, From: 5, To: end}) {
			t.Error(spans, err)
		}
		if err := client(t, e, kgo.RecordPartitioner(kgo.ManualPartitioner())).ProduceSync(ctx, &kgo.Record{Topic: spec.Name, Partition: 1, Value: []byte("on")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if r, err := following.Read(ctx); err != nil || r.Offset != end {
			t.Error("one who was not concerned reads", r, err)
		}
	})
}

// Offsets of a topic mean nothing in another of the same name.
func TestReaderTopicMadeAnew(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx, adm, spec := bounded(t), admin(t, e), cfg.MailboxSpec("m")
		write := func() kadm.TopicID {
			t.Helper()
			ensure(t, e, spec)
			cl := client(t, e)
			for range 3 {
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: spec.Name, Value: []byte("v")}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			ids, err := TopicIDs(ctx, adm, spec.Name)
			if err != nil {
				t.Fatal(err)
			}
			return ids[spec.Name]
		}
		old := write()
		following := reader(t, e, Span{Topic: spec.Name, To: Follow})
		knowing := reader(t, e, Span{Topic: spec.Name, To: 3, ID: old})
		for range 3 {
			if _, err := following.Read(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := knowing.Read(ctx); err != nil {
				t.Fatal("with the id that it has:", err)
			}
		}
		if _, err := adm.DeleteTopic(ctx, spec.Name); err != nil {
			t.Fatal(err)
		}
		if write() == old {
			t.Fatal("the same topic")
		}
		is(t, reader(t, e, Span{Topic: spec.Name, From: 1, To: 3, ID: old}),
			GoneError{Topic: spec.Name, Offset: 1, End: 3}, kerr.InconsistentTopicID)
		is(t, following, GoneError{Topic: spec.Name, Offset: 3, End: 3}, kerr.UnknownTopicID)
	})
}

// Where a leader has less than was read, the client would go on from there.
func TestReaderCutOff(t *testing.T) {
	cfg := embedded(t.TempDir())
	e, spec := open(t, cfg, Own), cfg.MailboxSpec("m")
	ensure(t, e, spec)
	ctx, cl := bounded(t), producer(t, e, "x")
	for range 3 {
		if err := transact(ctx, cl, spec.Name, 1, "v", kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	r := reader(t, e, Span{Topic: spec.Name, To: Follow})
	for range 3 {
		if _, err := r.Read(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for r.Next(spec.Name, 0) < 6 {
		if _, err := r.Poll(ctx, 0); err != nil {
			t.Fatal(err)
		}
	}
	e.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		p.LeaderEpoch, p.EndOffset = 0, 2
		resp.Topics = append(resp.Topics, kmsg.OffsetForLeaderEpochResponseTopic{Topic: spec.Name, Partitions: []kmsg.OffsetForLeaderEpochResponseTopicPartition{p}})
		return resp, nil, true
	})
	e.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f := req.(*kmsg.FetchRequest)
		if len(f.Topics) == 0 {
			e.cluster.KeepControl()
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		p := kmsg.NewFetchResponseTopicPartition()
		p.ErrorCode = kerr.FencedLeaderEpoch.Code
		resp.Topics = append(resp.Topics, kmsg.FetchResponseTopic{Topic: f.Topics[0].Topic, TopicID: f.Topics[0].TopicID, Partitions: []kmsg.FetchResponseTopicPartition{p}})
		return resp, nil, true
	})
	_, err := r.Read(ctx)
	gone, ok := errors.AsType[*GoneError](err)
	if cut, lost := errors.AsType[*kgo.ErrDataLoss](err); !ok || !lost || gone.Offset != 6 || cut.ResetTo != 2 {
		t.Fatal(err)
	}
	if _, again := r.Read(ctx); again != err {
		t.Error("asked again, it says", again)
	}
}

// The same on Apache Kafka, whose disk lost the end of a partition.
func TestReaderCutOffKafka(t *testing.T) {
	rig := newLostRig(t)
	p := rig.producer("x")
	for range 2 {
		rig.must(p.BeginTransaction())
		rig.must(p.ProduceSync(rig.ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr())
		rig.end(p, "x", kgo.TryCommit)
	}
	r := reader(t, rig.e, Span{Topic: "t", To: Follow})
	for r.Next("t", 0) < 4 {
		_, err := r.Poll(rig.ctx, 0)
		rig.must(err)
	}
	rig.restart("t-0")
	var err error
	for err == nil || !errors.As(err, new(*GoneError)) && rig.ctx.Err() == nil {
		_, err = r.Poll(rig.ctx, 0)
	}
	gone, ok := errors.AsType[*GoneError](err)
	if !ok || gone.Offset != 4 || gone.Topic != "t" {
		t.Fatal(err)
	}
	t.Log(err)
}
