package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"

	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// scanned finds a subject's records by reading all of the partition.
type scanned struct {
	h      *harness
	behind func() bool // says that the index is not there yet
}

func (x *scanned) Current(ctx context.Context, ds broker.DatasetID, topicID broker.Digest, partition int32, below int64,
	subject broker.SubjectKey, most int) (offsets []int64, ok bool, err error) {
	if x.behind != nil && x.behind() {
		return nil, false, nil
	}
	h := x.h
	var compiled *intake.Dataset
	h.control.View(func(st *registry.State) { compiled, err = intake.Compile(st.Dataset(ds), h.limits) })
	if err != nil {
		return nil, false, err
	}
	window := intake.NewWindow(h.limits)
	type row struct {
		event  broker.EventHash
		offset int64
	}
	var rows []row
	var doc jsondoc.Doc
	var rec broker.Record
	err = h.engine.Each(ctx, kafka.Span{Topic: h.topics.Source(string(ds)), Partition: partition, To: below}, func(r *kgo.Record) error {
		msg := intake.Message{Position: broker.Position{Dataset: ds, TopicID: topicID, Partition: partition, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value}
		if compiled.Accept(&msg, h.ring, &rec, &doc) != nil || window.Check(rec.Event, rec.Content, r.Offset, r.Timestamp) != intake.Fresh {
			return nil
		}
		if !rec.HasSubject || rec.Subject != subject {
			return nil
		}
		if rec.Kind != broker.Original {
			for i := range rows {
				if rows[i].event == rec.Of {
					rows = append(rows[:i], rows[i+1:]...)
					break
				}
			}
		}
		if rec.Kind != broker.Retraction {
			rows = append(rows, row{rec.Event, r.Offset})
		}
		return nil
	})
	for i := len(rows) - 1; i >= 0 && len(offsets) < most; i-- {
		offsets = append(offsets, rows[i].offset)
	}
	return offsets, true, err
}

// Latest: what is committed is what it reads.
func (x *scanned) Latest(context.Context) error {
	if x.behind != nil && x.behind() {
		return context.DeadlineExceeded
	}
	return nil
}

// Earlier reads the whole log: the records on a subject, and what single decisions say.
func (x *scanned) Earlier(ctx context.Context, ds broker.DatasetID, topicID broker.Digest, partition int32, below int64,
	subject broker.SubjectKey, of broker.EventHash) (c Chain, ok bool, err error) {
	h := x.h
	var compiled *intake.Dataset
	h.control.View(func(st *registry.State) { compiled, err = intake.Compile(st.Dataset(ds), h.limits) })
	if err != nil {
		return c, false, err
	}
	found := map[broker.EventHash]broker.Record{}
	var doc jsondoc.Doc
	var rec broker.Record
	if err = each(ctx, h.engine, h.topics.Source(string(ds)), func(r *kgo.Record) error {
		msg := intake.Message{Position: broker.Position{Dataset: ds, TopicID: topicID, Partition: r.Partition, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value}
		if compiled.Accept(&msg, h.ring, &rec, &doc) != nil || !rec.HasSubject || rec.Subject != subject || r.Partition == partition && r.Offset >= below {
			return nil
		}
		if _, twice := found[rec.Event]; !twice {
			found[rec.Event] = rec
		}
		return nil
	}); err != nil {
		return c, false, err
	}
	for len(c.Links) < 64 && !c.Whole {
		rec, ok := found[of]
		if !ok {
			break
		}
		l := Link{Position: rec.Position, Event: rec.Event, At: h.clock()}
		if err := each(ctx, h.engine, h.topics.Decisions(), func(r *kgo.Record) error {
			if !deliver.IsSingles(r.Value) {
				return nil
			}
			_, err := deliver.DecodeSingles(r.Value, func(d *broker.Decision) error {
				switch {
				case d.Event != rec.Event:
				case d.Kind == broker.DoorDecision:
					l.Back = append(l.Back, d.Subscription)
				case d.Outcome.Permit && len(d.Fields) > 0:
					l.Given = append(l.Given, d.Subscription)
				}
				return nil
			})
			return err
		}); err != nil {
			return c, false, err
		}
		c.Links, c.Whole, of = append(c.Links, l), rec.Kind == broker.Original, rec.Of
	}
	return c, true, nil
}

// drainBackfill waits until backfill has nothing left to do.
func (h *harness) drainBackfill() {
	h.t.Helper()
	h.drain(h.ctx)
	h.drainUntil((*BackfillProgress).Done)
}

// drainNotices waits until nobody is left to be told.
func (h *harness) drainNotices() {
	h.t.Helper()
	h.drainUntil(func(p *BackfillProgress) bool { return !p.Pending && p.Notices == 0 })
}

func (h *harness) drainUntil(idle func(*BackfillProgress) bool) {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		left, err := BackfillLeft(h.ctx, h.engine, h.topics, h.cfg.Group, h.control)
		if err != nil {
			h.t.Fatal(err)
		}
		done := true
		for i := range left {
			done = done && idle(&left[i])
		}
		if done {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("backfill does not end: %+v", left)
		}
		time.Sleep(5 * time.Millisecond) // the log has no call that waits
	}
}

// What older versions committed is read, and what is committed is read back.
func TestMetadataOfOldAndNew(t *testing.T) {
	topic := broker.Digest{1, 2}
	old := fmt.Sprintf("v1 r=7 t=%s d=3", topic)
	m, err := parseMetadata(old)
	if err != nil {
		t.Fatal(err)
	}
	if want := (metadata{revision: 7, topic: topic, decisions: 3, backfill: progress{swept: 7, started: 7, told: -1}}); m != want {
		t.Errorf("%+v, want %+v", m, want)
	}
	m.backfill = progress{swept: 5, started: 4, job: 6, next: 100, until: 900, written: 77, told: 12}
	if got, err := parseMetadata(m.String()); err != nil || got != m {
		t.Errorf("%+v, %v, want %+v", got, err, m)
	}
	if n := len(metadata{revision: 1 << 63, topic: topic, decisions: 1 << 62, backfill: progress{1 << 63, 1 << 63, 1 << 63, 1 << 62, 1 << 62, 1 << 62, 1 << 62}}.String()); n > 400 {
		t.Errorf("%d bytes of metadata", n)
	}
	for _, bad := range []string{old + " s=1", old + " x=1 y=2", "v1 r=1"} {
		if _, err := parseMetadata(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// fresh are the records of a partition of the scenarios' dataset that were neither
// rejected nor repeated.
func (h *harness) fresh(partition int32, rejected func(int64) bool) (out []broker.Record) {
	h.t.Helper()
	var ds *intake.Dataset
	var err error
	h.control.View(func(st *registry.State) { ds, err = intake.Compile(st.Dataset("d"), h.limits) })
	if err != nil {
		h.t.Fatal(err)
	}
	window := intake.NewWindow(h.limits)
	var doc jsondoc.Doc
	err = each(context.Background(), h.engine, h.topics.Source("d"), func(r *kgo.Record) error {
		if r.Partition != partition || rejected(r.Offset) {
			return nil
		}
		var rec broker.Record
		msg := intake.Message{Position: broker.Position{Dataset: "d", Partition: partition, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value}
		if ds.Accept(&msg, h.ring, &rec, &doc) == nil && window.Check(rec.Event, rec.Content, r.Offset, r.Timestamp) == intake.Fresh {
			rec.Attributes = append([]string(nil), rec.Attributes...)
			out = append(out, rec)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }
