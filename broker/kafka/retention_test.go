package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
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
