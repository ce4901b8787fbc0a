package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"datafordeler/broker/kafka/kafkatest"
)

func TestRetentionLag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := time.Duration(rapid.Int64Range(int64(time.Minute), int64(3650*day)).Draw(t, "retention"))
		lag := RetentionLag(r)
		if lag < 10*time.Minute || lag > 7*day || r >= 5*time.Hour && r <= 210*day && lag != r/30 {
			t.Fatalf("a retention of %v lags by %v", r, lag)
		}
		if Gone(r) != r+lag+RetentionCheck {
			t.Fatal(Gone(r))
		}
	})
	if Gone(-1) != 0 || Gone(0) != 0 {
		t.Error("what is kept for ever goes")
	}
}

// What a topic keeps is seen as it is, on both engines.
func TestHoldings(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx := bounded(t)
		source, mailbox := cfg.SourceSpec("d"), cfg.MailboxSpec("m")
		mailbox.Retention = 7 * day
		ensure(t, e, source, mailbox, cfg.DecisionsSpec())
		before := time.Now().Add(-time.Minute)
		written := time.Now().Add(-3 * day).Truncate(time.Millisecond)
		cl := client(t, e, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for topic, at := range map[string]time.Time{source.Name: written, mailbox.Name: written} {
			for _, r := range []*kgo.Record{{Topic: topic, Value: []byte("a"), Timestamp: at}, {Topic: topic, Value: []byte("b"), Timestamp: at.Add(time.Hour)}} {
				if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		got, err := Holdings(ctx, admin(t, e), source.Name, mailbox.Name, cfg.Topics().Decisions(), cfg.Topics().Mailbox("none"))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 {
			t.Errorf("%d topics, want the 3 that are there", len(got))
		}
		s, m, d := got[source.Name], got[mailbox.Name], got[cfg.Topics().Decisions()]
		if s.Retention != 90*day || !s.Own || s.Segment != 3*day || s.Partitions != 6 || s.Bytes <= 0 {
			t.Errorf("source %+v", s)
		}
		if s.Oldest.Before(before) && !e.Embedded() { // stamped when written, whatever the writer says
			t.Errorf("the oldest record of the source is of %v", s.Oldest)
		}
		if m.Retention != 7*day || m.Segment != RetentionLag(7*day) || !m.Oldest.Equal(written) {
			t.Errorf("mailbox %+v, want its oldest at %v", m, written)
		}
		if d.Retention != -1 || !d.Own || !d.Oldest.IsZero() {
			t.Errorf("decisions %+v", d)
		}
	})
}

// A data directory that is opened again lets go of what has expired: the engine's
// own clock for it strikes after an hour only.
func TestRetentionAtStart(t *testing.T) {
	cfg := embedded(t.TempDir())
	e := open(t, cfg, Own)
	spec := cfg.MailboxSpec("m")
	ensure(t, e, spec, cfg.DecisionsSpec())
	cl := client(t, e, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	old := time.Now().Add(-31 * day)
	for _, r := range []*kgo.Record{
		{Topic: spec.Name, Value: []byte("gone"), Timestamp: old},
		{Topic: spec.Name, Value: []byte("kept")},
		{Topic: cfg.Topics().Decisions(), Value: []byte("for ever"), Timestamp: old},
	} {
		if err := cl.ProduceSync(bounded(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cl.Close()
	closeEngine(t, e)
	e = open(t, cfg, Own)
	if got := committed(t, e, spec.Name)[0]; len(got) != 1 || got[0] != "kept" {
		t.Errorf("the mailbox holds %q", got)
	}
	if got := committed(t, e, cfg.Topics().Decisions())[0]; len(got) != 1 {
		t.Errorf("decisions hold %q", got)
	}
}

// Apache Kafka lets go of what Gone says is gone, and keeps what the lag allows: by
// the settings that topics are made with, and whole segments at a time. A reader
// that comes for what is gone is told so.
func TestRetentionKafka(t *testing.T) {
	c := kafkatest.Start(t, kafkatest.Options{Properties: map[string]string{
		"log.retention.check.interval.ms": "200", "log.initial.task.delay.ms": "200"}})
	cfg := Defaults()
	cfg.Engine, cfg.Brokers = EngineKafka, c.Brokers()
	e := open(t, cfg, Own)
	ctx, adm := bounded(t), admin(t, e)
	cl := client(t, e, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(100*time.Millisecond))
	now := time.Now()
	write := func(topic string, ages ...time.Duration) { // in one batch
		t.Helper()
		var records []*kgo.Record
		for _, age := range ages {
			records = append(records, &kgo.Record{Topic: topic, Value: []byte("v"), Timestamp: now.Add(-age)})
		}
		if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	decisions := cfg.DecisionsSpec()
	ensure(t, e, decisions)
	for _, age := range []time.Duration{4000 * day, 400 * day, 0} {
		write(decisions.Name, age)
	}
	for _, id := range []string{"m", "n"} { // the second time round, all topics have been looked at
		spec := cfg.MailboxSpec(id)
		lag, gone := RetentionLag(spec.Retention), Gone(spec.Retention)
		ensure(t, e, spec)
		overdue := now.Add(-spec.Retention - lag/2).Truncate(time.Millisecond)
		write(spec.Name, gone+time.Hour)
		write(spec.Name, now.Sub(overdue), spec.Retention-lag/4) // the second keeps the segment
		write(spec.Name, 0)
		var start int64
		for start == 0 {
			starts, err := Starts(ctx, adm, spec.Name)
			if err != nil {
				t.Fatal(err)
			}
			start = starts[spec.Name][0]
		}
		held, err := Holdings(ctx, adm, spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		if h := held[spec.Name]; start != 1 || !h.Oldest.Equal(overdue) || now.Sub(h.Oldest) > gone {
			t.Errorf("begins at offset %d; its oldest record is of %v, want offset 1 of %v", start, h.Oldest, overdue)
		}
		is(t, reader(t, e, Span{Topic: spec.Name, To: Follow}), GoneError{Topic: spec.Name, Start: 1, End: 4}, kerr.OffsetOutOfRange)
		if got := committed(t, e, spec.Name)[0]; len(got) != 3 {
			t.Errorf("%d records are left", len(got))
		}
	}
	if starts, err := Starts(ctx, adm, decisions.Name); err != nil || starts[decisions.Name][0] != 0 {
		t.Errorf("decisions begin at %v (%v)", starts, err)
	}
}
