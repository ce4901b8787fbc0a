package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/consumers"
)

const (
	box      = broker.MailboxID("oslo-sosialhjelp")
	ownTopic = "mailbox.oslo-sosialhjelp"
)

func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func config(c *kfake.Cluster) consumers.Config {
	return consumers.Config{Brokers: c.ListenAddrs(), Mailbox: box, Patience: 20 * time.Second}
}

func receiver(t testing.TB, cfg consumers.Config) *consumers.Receiver {
	t.Helper()
	r, err := consumers.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// message is delivery n to a mailbox, as the broker writes it.
func message(topic string, m broker.MailboxID, n int) *kgo.Record {
	headers := []string{
		"ce_specversion", "1.0", "ce_id", fmt.Sprintf("%032x", n), "ce_source", "urn:datafordeler:dataset:inntekt", "ce_type", "no.test.v1",
		"ce_time", "2026-11-05T12:00:00Z", "content-type", "application/json", "ce_mailbox", string(m), "ce_subscription", "s-1", "ce_agreement", "a-1",
		"ce_dataset", "inntekt", "ce_provider", "313876144", "ce_decision", fmt.Sprintf("%032x", n+1<<20), "ce_recordkind", "original",
	}
	rec := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, `{"n": %d}`, n)}
	for i := 0; i < len(headers); i += 2 {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: headers[i], Value: []byte(headers[i+1])})
	}
	return rec
}

func set(rec *kgo.Record, name, value string) *kgo.Record {
	for i := range rec.Headers {
		if rec.Headers[i].Key == name {
			rec.Headers[i].Value = []byte(value)
			return rec
		}
	}
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	return rec
}

func produce(t testing.TB, c *kfake.Cluster, recs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func messages(topic string, from, to int) (recs []*kgo.Record) {
	for n := from; n < to; n++ {
		recs = append(recs, message(topic, box, n))
	}
	return recs
}

// transaction writes records and commits or aborts them.
func transaction(t testing.TB, c *kfake.Cluster, id string, commit bool, recs ...*kgo.Record) {
	t.Helper()
	open(t, c, id, recs...)(commit)
}

// open begins a transaction, writes, and returns how to end it.
func open(t testing.TB, c *kfake.Cluster, id string, recs ...*kgo.Record) func(commit bool) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	ctx := context.Background()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return func(commit bool) {
		t.Helper()
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
			t.Fatal(err)
		}
	}
}

// receive collects the numbers of the deliveries until Receive returns.
func receive(t testing.TB, r *consumers.Receiver) (got []int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = r.Receive(ctx, func(_ context.Context, d consumers.Delivery) error {
		got = append(got, number(d))
		return nil
	})
	return got, err
}

func number(d consumers.Delivery) (n int) {
	fmt.Sscanf(string(d.Data), `{"n": %d}`, &n)
	return n
}

func upTo(from, to int) (want []int) {
	for n := from; n < to; n++ {
		want = append(want, n)
	}
	return want
}

func expect(t testing.TB, r *consumers.Receiver, want []int) {
	t.Helper()
	got, err := receive(t, r)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("received %v, want %v", got, want)
	}
}

func TestTopicNamesAreTheBrokers(t *testing.T) {
	names := kafka.Topics{Prefix: "a."}
	if got, want := consumers.MailboxTopic("a.", box), names.Mailbox(string(box)); got != want {
		t.Errorf("%q, the broker's is %q", got, want)
	}
	if got, want := consumers.DeliveriesTopic("a."), names.Deliveries(); got != want {
		t.Errorf("%q, the broker's is %q", got, want)
	}
}

func TestReceiveOwnTopic(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic, "deliveries"))
	rec := set(set(set(message(ownTopic, box, 1), "ce_recordkind", "correction"), "ce_of", strings.Repeat("ab", 16)), "ce_provisional", "true")
	produce(t, c, set(rec, "ce_later", "not known yet"))
	var got consumers.Delivery
	r := receiver(t, config(c))
	if err := r.Receive(context.Background(), func(_ context.Context, d consumers.Delivery) error { got = d; return nil }); err != nil {
		t.Fatal(err)
	}
	if got.Mailbox != box || got.Subscription != "s-1" || got.Agreement != "a-1" || got.Dataset != "inntekt" || got.Provider != "313876144" || got.Type != "no.test.v1" ||
		got.Kind != broker.Correction || got.Of.String() != strings.Repeat("ab", 16) || !got.Provisional || got.Time.Hour() != 12 || string(got.Data) != `{"n": 1}` ||
		got.Position != (consumers.Position{Topic: ownTopic}) || got.ID.String() != fmt.Sprintf("%032x", 1) {
		t.Errorf("%+v", got)
	}
	want := `{"specversion":"1.0","id":"00000000000000000000000000000001","source":"urn:datafordeler:dataset:inntekt","type":"no.test.v1","time":"2026-11-05T12:00:00Z","datacontenttype":"application/json","mailbox":"oslo-sosialhjelp","subscription":"s-1","agreement":"a-1","decision":"00000000000000000000000000100001","dataset":"inntekt","provider":"313876144","recordkind":"correction","of":"abababababababababababababababab","provisional":true,"data":{"n":1}}`
	if line := string(got.AppendJSON(nil)); line != want {
		t.Errorf("line:\n%s\nwant:\n%s", line, want)
	}
}

func TestReceiveSharedTopic(t *testing.T) {
	const buckets = 8
	c := cluster(t, kfake.SeedTopics(buckets, "deliveries"))
	mine, other := broker.Bucket(box, buckets), broker.MailboxID("")
	for i := 0; other == ""; i++ { // another mailbox in the same bucket
		if m := broker.MailboxID(fmt.Sprint("m", i)); broker.Bucket(m, buckets) == mine {
			other = m
		}
	}
	for n := range 20 {
		m := box
		if n%2 == 1 {
			m = other
		}
		rec := message("deliveries", m, n)
		rec.Partition = mine
		produce(t, c, rec)
	}
	r := receiver(t, config(c))
	expect(t, r, []int{0, 2, 4, 6, 8, 10, 12, 14, 16, 18})
	if s := r.Stats(); s.Handled != 10 || s.Others != 10 || s.Repeats != 0 {
		t.Errorf("%+v", s)
	}
	expect(t, r, nil) // it goes on where it stopped
}

func TestAbortedAreNeverSeen(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	transaction(t, c, "a", true, messages(ownTopic, 0, 5)...)
	transaction(t, c, "a", false, messages(ownTopic, 100, 120)...)
	transaction(t, c, "b", true, messages(ownTopic, 5, 8)...)
	transaction(t, c, "b", false, messages(ownTopic, 120, 121)...)
	expect(t, receiver(t, config(c)), upTo(0, 8))
}

// The last thing before the end may be invisible, with no marker behind it: an
// aborted transaction, closed in by one that is still open.
func TestEndBehindAbortedWhileAnotherIsOpen(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	produce(t, c, messages(ownTopic, 0, 3)...)
	endAborted := open(t, c, "a", messages(ownTopic, 100, 110)...)
	endLate := open(t, c, "b", messages(ownTopic, 3, 5)...)
	endAborted(false)
	r := receiver(t, config(c))
	expect(t, r, upTo(0, 3))
	endLate(true)
	expect(t, r, upTo(3, 5))
}

func TestRepeatsAreDroppedAcrossRestart(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	cfg := config(c)
	path := filepath.Join(t.TempDir(), "checkpoint.json")
	cfg.Checkpoints = consumers.FileStore(path)
	produce(t, c, append(messages(ownTopic, 0, 10), messages(ownTopic, 5, 12)...)...)
	r := receiver(t, cfg)
	expect(t, r, upTo(0, 12))
	if s := r.Stats(); s.Repeats != 5 {
		t.Errorf("%d repeats, want 5", s.Repeats)
	}
	produce(t, c, append(messages(ownTopic, 8, 14), messages(ownTopic, 0, 1)...)...)
	r = receiver(t, cfg) // another process
	expect(t, r, upTo(12, 14))
	if s := r.Stats(); s.Repeats != 5 {
		t.Errorf("%d repeats after restart, want 5", s.Repeats)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("checkpoint: %v %v", fi.Mode(), err)
	}
	if left, _ := filepath.Glob(path + "*.tmp"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	cfg.Mailbox = "another"
	cfg.Checkpoints = consumers.FileStore(path)
	c2 := cluster(t, kfake.SeedTopics(1, "mailbox.another"))
	cfg.Brokers = c2.ListenAddrs()
	if _, err := receive(t, receiver(t, cfg)); err == nil || !strings.Contains(err.Error(), "oslo-sosialhjelp") {
		t.Errorf("another mailbox's checkpoint: %v", err)
	}
}

func TestHandlerFailureBringsItAgain(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	cfg := config(c)
	cfg.Checkpoints = consumers.FileStore(filepath.Join(t.TempDir(), "c.json"))
	produce(t, c, messages(ownTopic, 0, 10)...)
	boom := errors.New("disk full")
	r := receiver(t, cfg)
	var got []int
	err := r.Receive(context.Background(), func(_ context.Context, d consumers.Delivery) error {
		if got = append(got, number(d)); number(d) == 4 {
			return boom
		}
		return nil
	})
	var he *consumers.HandlerError
	if !errors.Is(err, boom) || !errors.As(err, &he) || he.Position.Offset != 4 || !slices.Equal(got, upTo(0, 5)) {
		t.Fatalf("%v after %v", err, got)
	}
	// In the same process and in the next, it begins with the one that failed.
	err = r.Receive(context.Background(), func(_ context.Context, d consumers.Delivery) error {
		if number(d) == 6 {
			return consumers.ErrStop // handled, and enough
		}
		return nil
	})
	if err != nil || r.Stats().Handled != 7 {
		t.Fatalf("%v, %d handled", err, r.Stats().Handled)
	}
	expect(t, receiver(t, cfg), upTo(7, 10))
}

func TestFromWhere(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, ownTopic))
	old := messages(ownTopic, 0, 4)
	for i, r := range old {
		r.Timestamp = time.Date(2026, 11, 1+i, 0, 0, 0, 0, time.UTC)
	}
	produce(t, c, old...)
	for name, tc := range map[string]struct {
		from consumers.Start
		want []int
	}{
		"checkpoint, none": {consumers.FromCheckpoint(), upTo(0, 4)},
		"beginning":        {consumers.FromBeginning(), upTo(0, 4)},
		"end":              {consumers.FromEnd(), nil},
		"time":             {consumers.FromTime(time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)), upTo(2, 4)},
		"time to come":     {consumers.FromTime(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(c)
			cfg.From = tc.from
			expect(t, receiver(t, cfg), tc.want)
		})
	}
}

func TestUnreadableMessageStops(t *testing.T) {
	const person = "01890012345"
	for name, bad := range map[string]func(*kgo.Record){
		"no mailbox":    func(r *kgo.Record) { r.Headers = r.Headers[:6] },
		"other mailbox": func(r *kgo.Record) { set(r, "ce_mailbox", "x") },
		"not JSON":      func(r *kgo.Record) { r.Value = []byte(`{"a":` + person) },
		"id":            func(r *kgo.Record) { set(r, "ce_id", person) },
		"version":       func(r *kgo.Record) { set(r, "ce_specversion", "2.0") },
		"kind":          func(r *kgo.Record) { set(r, "ce_recordkind", person) },
		"time":          func(r *kgo.Record) { set(r, "ce_time", person) },
		"provider":      func(r *kgo.Record) { set(r, "ce_provider", person) },
		"source":        func(r *kgo.Record) { set(r, "ce_source", person) },
		"of":            func(r *kgo.Record) { set(r, "ce_of", strings.Repeat("1", 32)) },
		"content type":  func(r *kgo.Record) { set(r, "content-type", "text/xml") },
		"twice":         func(r *kgo.Record) { r.Headers = append(r.Headers, r.Headers[1]) },
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, ownTopic))
			recs := messages(ownTopic, 0, 4)
			bad(recs[2])
			produce(t, c, recs...)
			r := receiver(t, config(c))
			for range 2 { // trying again does not skip it either
				_, err := receive(t, r)
				var me *consumers.MessageError
				if !errors.As(err, &me) || me.Position.Offset != 2 || strings.Contains(err.Error(), person) {
					t.Errorf("error %v", err)
				}
			}
			if n := r.Stats().Handled; n != 2 {
				t.Errorf("%d handled, want 2", n)
			}
		})
	}
}

func TestGone(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	cfg := config(c)
	cfg.Checkpoints = consumers.FileStore(filepath.Join(t.TempDir(), "c.json"))
	produce(t, c, messages(ownTopic, 0, 10)...)
	r := receiver(t, cfg)
	r.Receive(context.Background(), func(_ context.Context, d consumers.Delivery) error {
		if number(d) == 2 {
			return consumers.ErrStop
		}
		return nil
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ctx := context.Background()
	var until kadm.Offsets
	until.AddOffset(ownTopic, 0, 6, -1)
	if _, err := adm.DeleteRecords(ctx, until); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*consumers.Receiver{r, receiver(t, cfg)} {
		_, err := receive(t, r)
		var gone *consumers.GoneError
		if !errors.As(err, &gone) || gone.Wanted.Offset != 3 || gone.Earliest != 6 || gone.Latest != 10 || !strings.Contains(err.Error(), "--from beginning") {
			t.Errorf("deleted: %v", err)
		}
	}
	cfg.From = consumers.FromBeginning()
	expect(t, receiver(t, cfg), upTo(6, 10))

	// The topic is made anew: the old checkpoint means nothing there.
	cfg.From = consumers.FromCheckpoint()
	if _, err := adm.DeleteTopics(ctx, ownTopic); err != nil {
		t.Fatal(err)
	}
	_, err = receive(t, receiver(t, cfg))
	if !errors.Is(err, consumers.ErrNoMailbox) || !strings.Contains(err.Error(), "registry get mailbox") {
		t.Errorf("no topic: %v", err)
	}
	if _, err := adm.CreateTopics(ctx, 1, 1, nil, ownTopic); err != nil {
		t.Fatal(err)
	}
	produce(t, c, messages(ownTopic, 0, 20)...)
	var gone *consumers.GoneError
	if _, err = receive(t, receiver(t, cfg)); !errors.As(err, &gone) {
		t.Errorf("made anew: %v", err)
	}
}

// Retention may overtake a receiver while it reads.
func TestGoneWhileReading(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	produce(t, c, messages(ownTopic, 0, 3)...)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: -1})
	_, err := receive(t, receiver(t, config(c)))
	var gone *consumers.GoneError
	if !errors.As(err, &gone) || gone.Latest != 3 {
		t.Errorf("error %v", err)
	}
}

func TestKafkaGone(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	cfg := config(c)
	cfg.Patience = 300 * time.Millisecond
	c.Close()
	if _, err := receive(t, receiver(t, cfg)); err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("error %v", err)
	}
	// With Follow it says so, and goes on until it is told to stop.
	ctx, cancel := context.WithCancel(context.Background())
	cfg.Follow = true
	cfg.Notify = func(n consumers.Notice) {
		if n == consumers.KafkaAway {
			cancel()
		}
	}
	if err := receiver(t, cfg).Receive(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("following: %v", err)
	}
}

func TestFollow(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, ownTopic))
	cfg := config(c)
	cfg.Follow = true
	caught := make(chan struct{})
	cfg.Notify = func(n consumers.Notice) {
		if n == consumers.CaughtUp {
			close(caught)
		}
	}
	produce(t, c, messages(ownTopic, 0, 2)...)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var seen atomic.Int64
	done := make(chan error, 1)
	r := receiver(t, cfg)
	go func() {
		done <- r.Receive(ctx, func(_ context.Context, d consumers.Delivery) error {
			if seen.Add(1) == 5 {
				cancel()
			}
			return nil
		})
	}()
	<-caught
	if err := r.Receive(ctx, nil); err == nil {
		t.Error("two at once were let through")
	}
	produce(t, c, messages(ownTopic, 2, 5)...)
	if err := <-done; !errors.Is(err, context.Canceled) || seen.Load() != 5 {
		t.Errorf("%v after %d", err, seen.Load())
	}
}

// TestAnyHistory holds the receiver to its promise over histories of commits,
// aborts, repeats, handler failures and restarts: what the handler took is each
// committed delivery once, in order.
func TestAnyHistory(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, ownTopic))
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		cfg := config(c)
		cfg.Checkpoints = consumers.FileStore(filepath.Join(dir, fmt.Sprint(run)))
		cfg.CheckpointEvery = rapid.IntRange(1, 10).Draw(rt, "every")
		tx, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("slot-0"))
		if err != nil {
			rt.Fatal(err)
		}
		defer tx.Close()
		ctx := context.Background()
		write := func(commit bool, from, to int) {
			if from == to {
				return
			}
			if err := tx.BeginTransaction(); err != nil {
				rt.Fatal(err)
			}
			if err := tx.ProduceSync(ctx, messages(ownTopic, from, to)...).FirstErr(); err != nil {
				rt.Fatal(err)
			}
			if err := tx.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
				rt.Fatal(err)
			}
		}
		next := 0
		var took []int
		r, err := consumers.New(cfg)
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			n := rapid.IntRange(0, 8).Draw(rt, "n")
			switch rapid.SampledFrom([]string{"commit", "abort", "repeat", "receive", "fail", "restart"}).Draw(rt, "step") {
			case "commit":
				write(true, next, next+n)
				next += n
			case "abort":
				write(false, 1000, 1000+n)
			case "repeat":
				write(true, max(0, next-n), next)
			case "receive":
				err := r.Receive(ctx, func(_ context.Context, d consumers.Delivery) error { took = append(took, number(d)); return nil })
				if err != nil {
					rt.Fatal(err)
				}
			case "fail":
				left := n
				r.Receive(ctx, func(_ context.Context, d consumers.Delivery) error {
					if left--; left < 0 {
						return errors.New("no")
					}
					took = append(took, number(d))
					return nil
				})
			case "restart":
				if r, err = consumers.New(cfg); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if err := r.Receive(ctx, func(_ context.Context, d consumers.Delivery) error { took = append(took, number(d)); return nil }); err != nil {
			rt.Fatal(err)
		}
		if !slices.Equal(took, upTo(0, next)) {
			rt.Fatalf("the handler took %v, committed were 0 to %d", took, next)
		}
	})
}
